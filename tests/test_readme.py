"""Every command in the README is run by a test: here, or in the test that `COVERED_ELSEWHERE` names."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Commands that are run as they stand in a folder with a finished run; what is appended only makes them small.
RUN = {
    "semihv --help": "",
    "semihv doctor": "",
    "semihv sources": "",
    "semihv sources eurorad": "",
    "semihv report composition runs/quickstart/data --out runs/composition.html": "",
    "semihv build open_packages --out runs/data": "--limit 1",
    "semihv predict --model runs/quickstart/checkpoints/3_annealing --data runs/quickstart/data "
    "--out runs/quickstart/predictions/image.jsonl": "--limit 12",  # as many as the tiny quickstart asks
    "semihv score runs/quickstart/predictions --data runs/quickstart/data --out runs/quickstart/scores.json": "",
    "semihv report runs/quickstart": "",
    **{
        "accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/sft.py "
        f"--config recipes/{recipe}/smoke.yaml --output_dir runs/mine/{stage}": "--max_steps 1"
        for recipe, stage in (
            ("stage1_alignment", "1_alignment"),
            ("stage2_instruction", "2_instruction"),
            ("stage3_annealing", "3_annealing"),
        )
    },
}
CHEAP = ("semihv --help", "semihv doctor", "semihv sources", "semihv sources eurorad")
# The make targets and the server: `file::test` that runs the command, or the command that the target consists of.
COVERED_ELSEWHERE = {
    "make quickstart": "tests/test_readme.py::test_make_quickstart",
    "make test": "tests/test_readme.py::test_make_targets_run_what_these_tests_run_in",
    "make test-slow": "tests/test_readme.py::test_make_targets_run_what_these_tests_run_in",
    "make test-contract": "tests/test_readme.py::test_make_targets_run_what_these_tests_run_in",
    "make lint": "tests/test_readme.py::test_make_lint",
    "semihv serve runs/quickstart/checkpoints/3_annealing --port 8000": "tests/contract/test_serve.py::"
    "test_an_image_question_over_http_gets_the_models_own_greedy_answer",
}


def blocks(root: Path, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", (root / "README.md").read_text(), flags=re.M | re.S)
    assert len(found) >= 3
    return found


def commands(root: Path) -> list[str]:
    lines = [line.strip() for block in blocks(root, "bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def environment() -> dict[str, str]:
    """`semihv`, `accelerate` and `python` of the environment that runs the tests come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "100"}


def run(command: str, cwd: Path, timeout: int = 600) -> str:
    done = subprocess.run(
        shlex.split(command), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_is_covered_and_nothing_else_is_listed(root):
    in_readme = commands(root)
    assert len(in_readme) == len(set(in_readme)) >= 10
    assert set(in_readme) == set(RUN) | set(COVERED_ELSEWHERE)
    for test in COVERED_ELSEWHERE.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (root / file).read_text()


def test_the_readme_opens_with_what_this_is_the_two_commands_and_a_picture(root):
    text = (root / "README.md").read_text()
    opening = text[: text.index("\n## ")]
    assert commands(root)[:2] == ["make quickstart", "make test"]
    assert opening.index("vision-language model") < opening.index("make quickstart") < opening.index("![")


def test_every_verb_of_the_command_line_is_in_the_table(root):
    import typer

    from semihv_hf import cli

    verbs = set(typer.main.get_command(cli.app).commands)
    rows = re.findall(r"^\| `([\w-]+)` \|", (root / "README.md").read_text(), flags=re.M)
    assert rows == ["semihv", *rows[1:]] and set(rows[1:]) == verbs


@pytest.mark.parametrize("command", CHEAP)
def test_cheap_commands_run(command, tmp_path):
    assert run(command, tmp_path)


def installed_by_make(root: Path) -> bool:
    """Whether this environment is one that make installed and would not install again."""
    stamp = f"{sys.prefix}/.installed-dev"
    return shutil.which("make") is not None and make(root, "-q", stamp).returncode == 0


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    # A make that runs these tests passes its own options on through MAKEFLAGS.
    variables = {name: value for name, value in environment().items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", f"VENV={sys.prefix}", *arguments]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=600)


def test_make_lint(root):
    if not installed_by_make(root):
        pytest.skip("this environment was not made by make; `make lint` would install into it")
    done = make(root, "lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_targets_run_what_these_tests_run_in(root):
    """`make test` cannot run inside itself: what it would run is the command that runs this test."""
    if not installed_by_make(root):
        pytest.skip("this environment was not made by make")
    for target, arguments in (
        ("test", '-q -n 2 --dist loadfile -m "not slow"'),
        ("test-slow", "-q -m slow"),
        ("test-contract", "-q -rfExX tests/upstream --upstream"),
    ):
        planned = make(root, "-n", target).stdout
        assert f"{sys.prefix}/bin/python -m pytest {arguments}" in planned
        assert "pip install" not in planned


def test_make_quickstart(root, tiny_run):
    """The run is there already, at its tiny size: make's own part, and reusing what is finished, remain."""
    if not installed_by_make(root):
        pytest.skip("this environment was not made by make; `make quickstart` would install into it")
    out = tiny_run / "runs" / "quickstart"
    text_model = json.loads((out / "manifest.json").read_text())["text_model"]
    done = make(root, "quickstart", f"OUT={out}", f"ARGS=--size tiny --text-model {text_model}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report.html" in done.stdout
    assert "reused" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def workplace(root, tiny_run) -> Path:
    """Stands for the checkout: a finished run in `runs/quickstart`, and the recipes."""
    link = tiny_run / "recipes"
    if not link.exists():
        link.symlink_to(root / "recipes")
    return tiny_run


def test_python_blocks_run(root, workplace):
    for block in blocks(root, "python"):
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=workplace,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        # An untrained text model may answer with white space alone; that the block printed is what counts.
        assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in RUN if command not in CHEAP])
def test_commands_run(command, workplace):
    run(f"{command} {RUN[command]}", workplace)
