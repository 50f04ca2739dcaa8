"""The built wheel carries everything: it is installed into an empty environment, away from the checkout."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDERS = ("dataset_scripts", "metrics", "model_cards", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, root) -> Path:
    """Built from the source distribution, so that this one is complete, too."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(root)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    assert len(list(out.glob("semihv_hf-*.tar.gz"))) == 1
    (found,) = out.glob("semihv_hf-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """An environment with this wheel alone; what it depends on is borrowed from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    # Only the path: .pth files in the borrowed folder, an editable installation of the checkout's among them, are
    # not read.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(environment: Path, code: str, cwd: Path) -> str:
    command = [str(environment / "bin" / "python"), "-I", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_folders_is_in_the_wheel(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    expected = {
        f"semihv_hf/_resources/{path.relative_to(root)}"
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(expected) >= 12
    assert expected <= inside
    assert "semihv_hf/_resources/constraints.txt" in inside
    assert "semihv_hf/models/pmc_cambrian/chat_template.jinja" in inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/", ".")) or "__pycache__" in name]


def test_the_folders_are_found_without_a_checkout(environment, root, tmp_path):
    code = f"""
import json, sys
import semihv_hf
from semihv_hf.resources import constraints_file, resource_dir
folders = {{name: str(resource_dir(name)) for name in {FOLDERS}}}
print(json.dumps([semihv_hf.__file__, folders, str(constraints_file()), sys.path]))
"""
    file, folders, constraints, path = json.loads(run(environment, code, tmp_path))
    assert Path(file).is_relative_to(environment)
    assert sorted(folders) == sorted(FOLDERS)
    for name, folder in folders.items():
        assert Path(folder).is_relative_to(environment)
        assert {child.name for child in (root / name).iterdir()} - {"__pycache__"} <= {
            child.name for child in Path(folder).iterdir()
        }
    assert Path(constraints).is_file()
    assert str(root) not in path


def test_metrics_builders_and_models_load_from_it(environment, tmp_path):
    code = """
import os
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=os.getcwd())
import evaluate, semihv_hf
from semihv_hf.resources import resource_dir
metric = evaluate.load(str(resource_dir("metrics") / "medical_vqa"))
scores = metric.compute(predictions=["yes"], references=["yes"], answer_types=["closed"], options=[["yes", "no"]])
assert scores["closed_accuracy"] == 1.0
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as modules
from datasets.load import import_main_class
print(import_main_class(modules["semihvision"][0]).__module__)
print(semihv_hf.PMCCambrianForConditionalGeneration.__name__)
"""
    lines = run(environment, code, tmp_path).split()
    assert lines == ["semihv_hf.dataset_scripts.semihvision.builder", "PMCCambrianForConditionalGeneration"]


def test_the_command_is_installed_and_healthy(environment, tmp_path):
    semihv = environment / "bin" / "semihv"
    done = subprocess.run([str(semihv), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "quickstart" in done.stdout
    done = subprocess.run([str(semihv), "doctor"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The base installation works." in done.stdout
