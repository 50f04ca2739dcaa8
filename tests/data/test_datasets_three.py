"""The same builder.py as a loading script of datasets 3.6, in an environment of its own that has no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_releases import write_jama, write_pmc_vqa

pytestmark = pytest.mark.slow

# What reading releases needs of pyproject.toml's dependencies; semihv-hf itself is installed without them.
NEEDED = (
    "datasets==3.6.0", "defusedxml", "dicognito", "ijson", "imagecodecs", "jinja2", "nibabel", "openpyxl", "pillow",
    "pydicom", "pynrrd", "python-gdcm", "pyyaml", "rich", "tifffile",
)  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory, root) -> Path:
    """The interpreter of an environment with datasets 3.6 and the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("three")
    wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(root)]
    run(wheel)
    (built,) = (folder / "dist").glob("semihv_hf-*.whl")
    run([sys.executable, "-m", "venv", str(folder / "environment")])
    python = folder / "environment" / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *NEEDED])
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", str(built)])
    return python


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, **options)
    assert done.returncode == 0, f"{' '.join(command[:6])} ...\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run_three(python: Path, code: str, cwd: Path, *arguments) -> list:
    """Runs code with datasets 3.6, away from the checkout; it prints one line of JSON at the end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.update(HF_HOME=str(cwd / "hf"), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    command = [str(python), "-I", "-c", code, *map(str, arguments)]
    return json.loads(run(command, cwd=cwd, env=environment).splitlines()[-1])


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    write_pmc_vqa(folder / "pmc_vqa", train=12, test=5, torn=(3,))
    write_jama(folder / "jama", 4)
    return folder


ROWS = """
import hashlib, json

def told(rows):
    # Every column of every row; pixels by their digest, and decoded once to see that they can be.
    from datasets import Image
    found = []
    for row, encoded in zip(rows, rows.cast_column("images", [Image(decode=False)])):
        sizes = [list(image.size) for image in row.pop("images")]
        assert all(image["path"] is None for image in encoded["images"])
        digests = [hashlib.sha256(image["bytes"]).hexdigest() for image in encoded["images"]]
        found.append([row, sizes, digests])
    return found

def everything(load, releases, cache):
    found = {}
    for rows in ("cases", "alignment", "instruction", "records"):
        loaded = load("semihvision", "pmc_vqa", releases + "/pmc_vqa", rows=rows, max_skipped=0.1, cache_dir=cache)
        found[rows] = {split: told(loaded[split]) for split in loaded}
    for rows in ("questions", "cases", "records"):
        loaded = load("jama_clinical_challenge", rows, releases + "/jama", cache_dir=cache)
        found["jama " + rows] = {split: told(loaded[split]) for split in loaded}
    loaded = load("semihvision", "all", releases, max_skipped=0.1, cache_dir=cache)
    found["all"] = {split: told(loaded[split]) for split in loaded}
    return found
"""

THREE = (
    ROWS
    + """
import sys
import datasets
from semihv_hf.resources import resource_dir

def load(name, config, data_dir, **options):
    script = str(resource_dir("dataset_scripts") / name / "builder.py")
    return datasets.load_dataset(script, config, data_dir=data_dir, trust_remote_code=True, **options)

releases, cache = sys.argv[1:]
found = everything(load, releases, cache)
folder, options = releases + "/pmc_vqa", {"rows": "records", "max_skipped": 0.1}
two = load("semihvision", "pmc_vqa", folder, cache_dir=cache + "2", num_proc=2, **options)
stream = load("semihvision", "pmc_vqa", folder, streaming=True, **options)
by_name = datasets.load_dataset("semihvision", "pmc_vqa", data_dir=folder, max_skipped=0.1, cache_dir=cache)
order = {
    "two processes": {split: two[split]["id"] for split in two},
    "streaming": {split: [row["id"] for row in stream[split]] for split in stream},
    "by name": {split: by_name[split]["id"] for split in by_name},
}
heavy = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps([datasets.__version__, found, order, heavy]))
"""
)


def test_rows_are_those_of_datasets_five(python, releases, tmp_path):
    import datasets

    import semihv_hf  # noqa: F401  registers the names

    def load(name, config, data_dir, **options):
        return datasets.load_dataset(name, config, data_dir=data_dir, **options)

    here: dict = {}
    exec(ROWS, here)
    five = json.loads(json.dumps(here["everything"](load, str(releases), str(tmp_path / "cache5"))))
    version, three, order, heavy = run_three(python, THREE, tmp_path, releases, tmp_path / "cache3")
    assert version == "3.6.0" and int(datasets.__version__.split(".")[0]) >= 5 and heavy == []
    assert three == five
    assert {name: {split: len(rows) for split, rows in splits.items()} for name, splits in three.items()} == {
        "cases": {"train": 11, "test": 5},
        "alignment": {"train": 11, "test": 5},
        "instruction": {"train": 11, "test": 5},
        "records": {"train": 22, "test": 10},
        "jama questions": {"test": 4},
        "jama cases": {"test": 4},
        "jama records": {"test": 4},
        "all": {"train": 11, "test": 9},
    }
    ids = {name: {split: [row["id"] for row, _, _ in rows] for split, rows in three[name].items()} for name in three}
    records, cases = ids["records"], ids["cases"]
    assert order == {"two processes": records, "streaming": records, "by name": cases}


IMPORT_ALL = """
import importlib, json, pkgutil, sys
import semihv_hf.data
names = [module.name for module in pkgutil.walk_packages(semihv_hf.data.__path__, "semihv_hf.data.")]
for name in names:
    importlib.import_module(name)
print(json.dumps([len(names), [name for name in ("torch", "transformers") if name in sys.modules]]))
"""


def test_every_module_of_data_imports_there(python, tmp_path):
    count, heavy = run_three(python, IMPORT_ALL, tmp_path)
    assert count > 60 and heavy == []


FOLDER = """
import hashlib, json, sys
from datasets import load_dataset
folder, cache = sys.argv[1:]
found = {}
for config in ("cases", "alignment", "instruction"):
    rows = load_dataset(folder, config, cache_dir=cache)
    stream = load_dataset(folder, config, streaming=True)
    assert all([row["id"] for row in stream[split]] == rows[split]["id"] for split in rows)
    found[config] = {split: rows[split].remove_columns("images").to_list() for split in rows}
print(json.dumps(found))
"""


def test_a_built_folder_and_its_card_are_read_alike(python, releases, tmp_path):
    from datasets import load_dataset

    from semihv_hf.data.build import build

    out = tmp_path / "built"
    build("pmc_vqa", out, data_dir=releases / "pmc_vqa", max_skipped=0.1, workers=1, progress=False)
    three = run_three(python, FOLDER, tmp_path, out, tmp_path / "cache3")
    for config, splits in three.items():
        rows = load_dataset(str(out), config, cache_dir=str(tmp_path / "cache5"))
        assert {split: rows[split].remove_columns("images").to_list() for split in rows} == splits
    assert sorted(three) == ["alignment", "cases", "instruction"]
