"""The commands in the README, and how a test runs them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

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
    "make quickstart": "tests/quickstart/test_quickstart.py::test_make_quickstart",
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


def installed_by_make(root: Path) -> bool:
    """Whether this environment is one that make installed and would not install again."""
    stamp = f"{sys.prefix}/.installed-dev"
    return shutil.which("make") is not None and make(root, "-q", stamp).returncode == 0


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    # A make that runs these tests passes its own options on through MAKEFLAGS.
    variables = {name: value for name, value in environment().items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", f"VENV={sys.prefix}", *arguments]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=600)
