"""What must never be in the repository, and what its lists of packages promise."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BASE_WITHOUT = {"faiss-cpu", "openai", "deepspeed", "peft", "trl"}
EXTRAS = {"train", "curate", "judge", "review", "serve", "dev", "all"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".jinja", ".json", ".cfg", ".sh", ".html", ""}
# Written in pieces, so that this file is not itself a hit.
MACHINE = re.compile("|".join(["/ro" + "ot/", "/ho" + r"me/\w", "/wo" + "rk/", "/opt/py" + "pi", "/opt/wh" + "eels"]))
REGISTRY = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(org|com)"]))
SECRET = re.compile(
    "|".join(
        [
            r"\bhf" + r"_[A-Za-z0-9]{30,}",
            r"\bs" + r"k-[A-Za-z0-9_-]{20,}",
            "AK" + "IA[0-9A-Z]{16}",
            "PRIVATE " + "KEY-",
        ]
    )
)


@pytest.fixture(scope="module")
def files(root) -> list[Path]:
    """Everything that is, or would be, committed."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [root / name for name in names if (root / name).is_file()]
    assert len(found) >= 80
    return found


@pytest.fixture(scope="module")
def texts(files) -> dict[Path, str]:
    found = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in TEXT_SUFFIXES}
    assert len(found) >= 75
    return found


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRY, SECRET], ids=["machine paths", "registry hosts", "secrets"])
def test_no_file_names_a_machine_a_registry_or_a_secret(pattern, texts):
    hits = [f"{path}: {found.group()}" for path, text in texts.items() if (found := pattern.search(text))]
    assert hits == []


def test_the_patterns_would_be_found():
    assert MACHINE.search("/wo" + "rk/main/x.py") and MACHINE.search("/ho" + "me/me")
    assert REGISTRY.search("https://py" + "pi.org/simple")
    assert SECRET.search("s" + "k-" + 24 * "a") and SECRET.search("hf" + "_" + 34 * "A")


def test_python_files_are_short(texts):
    lines = {path: len(text.splitlines()) for path, text in texts.items() if path.suffix == ".py"}
    assert len(lines) >= 60
    assert {str(path): count for path, count in lines.items() if count > 500} == {}


def test_no_large_or_binary_data_is_committed(files):
    large = [str(path) for path in files if path.stat().st_size > 1_000_000]
    golden = "tests/golden"  # numbers to compare with, a few kB each
    weights = [
        str(path)
        for path in files
        if golden not in path.as_posix() and path.suffix in {".safetensors", ".bin", ".gguf", ".dcm", ".parquet"}
    ]
    assert large + weights == []


def test_links_between_documents_lead_somewhere(texts):
    checked = 0
    for path, text in texts.items():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (path.parent / target).exists(), f"{path} links to {target}"
                checked += 1
    assert checked >= 3


@pytest.fixture(scope="module")
def project(root) -> dict:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib needs Python 3.11")
    import tomllib

    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_the_base_installation_leaves_the_heavy_packages_to_extras(project):
    base = names(project["dependencies"])
    assert len(base) >= 15
    assert not BASE_WITHOUT & base
    extras = project["optional-dependencies"]
    assert EXTRAS <= set(extras)
    assert BASE_WITHOUT <= set().union(*(names(lines) for lines in extras.values()))
    assert project["requires-python"] == ">=3.10"


def test_every_direct_dependency_has_a_tested_version_that_it_allows(project, root):
    lines = [line.partition("#")[0].strip() for line in (root / "constraints.txt").read_text().splitlines()]
    pins = {}
    for requirement in map(Requirement, filter(None, lines)):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        pins.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    direct = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    checked = 0
    for requirement in map(Requirement, direct):
        name = canonicalize_name(requirement.name)
        if name in ("semihv-hf", "pip"):  # itself; and the installer, of which any version will do
            continue
        assert name in pins, f"{name} has no tested version in constraints.txt"
        assert all(requirement.specifier.contains(version) for version in pins[name])
        checked += 1
    assert checked >= 30


@pytest.fixture()
def made(root, tmp_path):
    """A copy of the Makefile and its lists, with an environment that looks installed; returns what make would do."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    for stamp in (".installed-run", ".installed-dev"):
        (tmp_path / ".venv" / stamp).touch()

    def plan(*arguments: str) -> str:
        return subprocess.run(
            ["make", "-n", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    plan.folder = tmp_path
    return plan


def test_make_installs_only_when_the_lists_changed(made):
    assert "pip install" not in made("quickstart")
    assert "pip install" not in made("test")
    soon = time.time() + 10
    os.utime(made.folder / "constraints.txt", (soon, soon))
    assert made("quickstart").count("pip install") == 1
    assert "-e '.[train,curate,judge,metrics,review,serve,deepspeed,deidentify,ray,dev]'" in made("test")
    assert "semihv quickstart --out runs/quickstart" in made("quickstart")
    assert 'pytest -q -n 2 --dist loadfile -m "not slow"' in made("test")


def test_make_creates_a_missing_environment_with_the_chosen_python(made):
    shutil.rmtree(made.folder / ".venv")
    assert "python3.99 -m venv .venv" in made("quickstart", "PYTHON=python3.99")


def test_make_alone_lists_the_targets(made):
    shown = subprocess.run(["make"], cwd=made.folder, check=True, capture_output=True, text=True).stdout
    for target in ("quickstart", "test", "test-slow", "lint", "clean", "help"):
        assert f"make {target} " in shown


def test_continuous_integration_runs_the_readme_commands(root):
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in text
    for command in ("make lint", "make test", "make test-slow", "make test-contract"):
        assert re.search(rf"^(timeout \S+ \S+ )?{command}$", text, flags=re.M), command
