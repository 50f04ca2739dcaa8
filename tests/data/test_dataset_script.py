"""`load_dataset("semihvision", ...)`: reads a built folder, says what is missing, knows the name after one import."""

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
    monkeypatch.setattr(builder, "build", lambda source, out: finished.append((source, out)))
    cases = load("semihvision", "open_packages", data_dir=str(unfinished), cache_dir=str(tmp_path / "cache"))
    assert sorted(cases) == ["test", "train", "validation"]
    assert finished == [("open_packages", unfinished)]
