"""`load_dataset("semihvision", ...)` on built folders: reads them, says what is missing, knows the name."""

import json
import shutil

import pytest

from semihv_hf.data.build import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    build("open_packages", out, limit=2, packages=["scikit-image", "nibabel"], progress=False)
    return out


def load(*arguments, **options):
    from datasets import load_dataset

    import semihv_hf  # noqa: F401  registers the name

    return load_dataset(*arguments, **options)


def test_configs_read_the_built_folder(folder, tmp_path):
    cases = load("semihvision", "cases", data_dir=str(folder), cache_dir=str(tmp_path))
    assert sorted(cases) == ["test", "train", "validation"]
    assert cases["train"][0]["images"][0].size[0] > 8
    records = load("semihvision", "instruction", data_dir=str(folder), cache_dir=str(tmp_path), split="train")
    plain = load(str(folder), "instruction", cache_dir=str(tmp_path), split="train")
    assert records["messages"] == plain["messages"] and len(records) > 5


def test_streaming(folder):
    rows = load("semihvision", "benchmark", data_dir=str(folder), split="test", streaming=True)
    first = next(iter(rows))
    assert first["messages"][0]["role"] == "user" and first["images"][0].mode in ("L", "RGB")


def test_a_folder_that_was_not_built_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without data_dir, datasets looks at every file below the working directory
    (tmp_path / "notes.txt").write_text("no shards here")
    with pytest.raises(Exception, match="is not a finished dataset folder") as error:
        load("semihvision", "instruction", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert "semihv build open_packages" in str(error.value)
    with pytest.raises(Exception, match="needs a folder"):
        load("semihvision", "instruction", cache_dir=str(tmp_path / "cache"))


def test_an_interrupted_build_is_finished(folder, tmp_path, monkeypatch):
    """The config that is named after the source builds what is missing; the build itself is tested elsewhere."""
    from semihv_hf.dataset_scripts.semihvision import builder

    unfinished = tmp_path / "unfinished"
    shutil.copytree(folder, unfinished)
    (unfinished / "build_manifest.json").unlink()
    finished = []

    def finish(source, out):
        finished.append((source, out))
        shutil.copy(folder / "build_manifest.json", out)

    monkeypatch.setattr(builder, "build", finish)
    cases = load("semihvision", "open_packages", data_dir=str(unfinished), cache_dir=str(tmp_path / "cache"))
    assert sorted(cases) == ["test", "train", "validation"]
    assert finished == [("open_packages", unfinished)]


def test_a_new_build_in_the_same_folder_is_not_served_from_the_cache(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    load("semihvision", "cases", data_dir=str(copy), cache_dir=str(tmp_path / "cache"))
    for shard in (copy / "data" / "cases").glob("test-*.parquet"):
        shard.unlink()
    manifest = json.loads((copy / "build_manifest.json").read_text())
    (copy / "build_manifest.json").write_text(json.dumps({**manifest, "seed": 1}))
    again = load("semihvision", "cases", data_dir=str(copy), cache_dir=str(tmp_path / "cache"))
    assert sorted(again) == ["train", "validation"]


ODD_TABLE = """
import json, warnings
import datasets.packaged_modules
{change}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import semihv_hf
try:
    datasets.load_dataset("semihvision", "cases", data_dir=".")
    message = "loaded"
except Exception as error:
    message = f"{{type(error).__name__}}: {{error}}"
text = [str(item.message) for item in caught if item.category is RuntimeWarning]
print(json.dumps([text, message]))
"""


@pytest.mark.parametrize(
    "change",
    [
        "del datasets.packaged_modules._PACKAGED_DATASETS_MODULES, datasets.load._PACKAGED_DATASETS_MODULES",
        "datasets.packaged_modules._PACKAGED_DATASETS_MODULES = ['parquet', 'csv']",
        "datasets.packaged_modules._PACKAGED_DATASETS_MODULES['parquet'] = object()",
        "datasets.packaged_modules._PACKAGED_DATASETS_MODULES = dict(datasets.load._PACKAGED_DATASETS_MODULES)",
    ],
    ids=["absent", "a list", "other entries", "not the one that is looked at"],
)
def test_an_unknown_table_of_datasets_is_named_with_the_tested_version(change, run_python, tmp_path):
    texts, message = json.loads(run_python(ODD_TABLE.format(change=change)).stdout)
    assert len(texts) == 1 and message == f"SemiHVError: {texts[0]}"
    assert "tested version 5.2.0" in message and "_PACKAGED_DATASETS_MODULES" in message


def test_other_names_of_datasets_load_as_before(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    rows = load("csv", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), split="train")
    assert rows[0] == {"a": 1, "b": 2}


def test_files_instead_of_a_folder_are_refused(tmp_path):
    with pytest.raises(Exception, match="takes no data_files"):
        load("semihvision", "cases", data_files="some.parquet", cache_dir=str(tmp_path))
