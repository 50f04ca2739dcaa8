"""A small build of real packages: what it writes, that it repeats byte for byte, and what bad files do to it."""

import json
import shutil
from collections import Counter

import pyarrow.parquet
import pytest

from semihv_hf.data.build import build
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.errors import SemiHVError
from semihv_hf.packages import fetch_package

PACKAGES = ["pydicom", "scikit-image", "nibabel"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    return out, build("open_packages", out, limit=2, packages=PACKAGES, progress=False)


def read(out, config, split):
    return [
        row
        for path in sorted((out / "data" / config).glob(f"{split}-*"))
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]


def files(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_report_counts_what_was_written(built):
    out, report = built
    for config, splits in report["rows"].items():
        for split, count in splits.items():
            assert len(read(out, config, split)) == count > 0
    assert {"fundus", "immunohistochemistry", "EPI brain", "bone scan", "body CT", "body MR"} <= set(report["kinds"])
    assert all(count <= 2 for counts in report["kinds"].values() for count in counts.values())
    assert report["seconds"]["total"] < 60
    on_disk = json.loads((out / "build_report.json").read_text())
    assert on_disk["rows"] == report["rows"] and on_disk["skipped"] == report["skipped"]


def test_rows_are_valid_and_know_their_source(built):
    out, report = built
    for config, splits in report["rows"].items():
        for split in splits:
            for row in read(out, config, split):
                validate_case(row) if config == "cases" else validate_record(row)
                assert row["licence"] and row["source"] in PACKAGES
                assert all(fact["source"] for fact in row["facts"])


def test_no_image_and_no_film_is_shared_by_training_and_test(built):
    out, report = built
    ids = {split: {row["id"] for row in read(out, "cases", split)} for split in ("train", "validation", "test")}
    assert not ids["train"] & ids["test"] and not ids["train"] & ids["validation"]
    held = {row["case_id"] for row in read(out, "benchmark", "test")}
    assert held <= ids["test"]
    assert {row["case_id"] for row in read(out, "instruction", "train")} <= ids["train"]


def test_a_truncated_file_is_skipped_counted_and_listed(built):
    out, report = built
    (skipped,) = report["skipped"]
    assert skipped["path"].endswith("MR_truncated.dcm") and "pixel data" in skipped["reason"]
    assert not any("MR_truncated" in row["source_id"] for row in read(out, "cases", "train"))
    assert "MR_truncated.dcm" in (out / "README.md").read_text()


def test_second_build_is_byte_identical_and_another_seed_is_not(built, tmp_path):
    out, _ = built
    build("open_packages", tmp_path / "again", limit=2, packages=PACKAGES, progress=False)
    assert files(tmp_path / "again") == files(out)
    build("open_packages", tmp_path / "other", limit=2, packages=PACKAGES, progress=False, seed=1)
    assert files(tmp_path / "other") != files(out)


def test_folder_loads_without_this_package(built, run_python, tmp_path):
    out, report = built
    code = """
import sys
sys.modules["semihv_hf"] = None  # any import of it fails
from datasets import load_dataset
rows = load_dataset(sys.argv[1], "instruction", split="train", cache_dir=sys.argv[2])
print(len(rows), rows[0]["images"][0].mode, rows[0]["messages"][0]["role"])
print(sorted(load_dataset(sys.argv[1], "cases", cache_dir=sys.argv[2])))
"""
    done = run_python(code, out, tmp_path, cwd=tmp_path, PYTHONPATH="")
    count, mode, role = done.stdout.splitlines()[0].split()
    assert int(count) == report["rows"]["instruction"]["train"] and mode in ("L", "RGB") and role == "user"
    assert done.stdout.splitlines()[1] == "['test', 'train', 'validation']"


def test_a_damaged_package_file_is_reported_and_the_rest_is_built(tmp_path):
    """The user's cache is copied and files in the copy are cut, as an interrupted copy of a cache leaves them."""
    folder = fetch_package("scikit-image", "0.26.0")
    copy = tmp_path / "cache" / "packages" / folder.name
    shutil.copytree(folder, copy)
    for name in ("retina.jpg", "ihc.png"):
        path = copy / "skimage" / "data" / name
        path.write_bytes(path.read_bytes()[:5000])
    report = build(
        "open_packages",
        tmp_path / "out",
        limit=2,
        packages=["scikit-image"],
        cache_dir=tmp_path / "cache",
        progress=False,
    )
    assert [item["path"] for item in report["skipped"]] == ["skimage/data/retina.jpg", "skimage/data/ihc.png"]
    assert all(item["reason"] for item in report["skipped"])
    assert report["kinds"] == {"fundus": {"train": 0, "validation": 0, "test": 1}}, "nothing else takes their place"


def test_an_unfinished_build_has_no_manifest(tmp_path, monkeypatch):
    from semihv_hf.data.sources.open_packages import build as module

    build("open_packages", tmp_path, limit=1, packages=["scikit-image"], progress=False)
    assert (tmp_path / "build_manifest.json").is_file()

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        build("open_packages", tmp_path, limit=2, packages=["scikit-image"], progress=False)
    assert not (tmp_path / "build_manifest.json").exists()
    monkeypatch.undo()
    report = build("open_packages", tmp_path, limit=2, packages=["scikit-image"], progress=False)
    manifest = json.loads((tmp_path / "build_manifest.json").read_text())
    assert {path.name for path in (tmp_path / "data" / "cases").iterdir()} == {
        shard["file"] for shards in manifest["shards"]["cases"].values() for shard in shards
    }
    assert sum(report["rows"]["cases"].values()) == report["images"]


def test_unknown_names_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SemiHVError, match="Unknown source 'eurorad_2'.*open_packages"):
        build("eurorad_2", tmp_path)
    with pytest.raises(SemiHVError, match="No images are known in package 'torch'"):
        build("open_packages", tmp_path, packages=["torch"], progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_full_build(tmp_path):
    report = build("open_packages", tmp_path, progress=False)
    cases = {split: read(tmp_path, "cases", split) for split in ("train", "validation", "test")}
    assert report["images"] == sum(map(len, cases.values())) >= 1000 and len(report["kinds"]) >= 16
    modalities = {row["modality"] for row in read(tmp_path, "benchmark", "test")}
    assert len(modalities) >= 8
    closed = [row for row in read(tmp_path, "benchmark", "test") if row["questions"][0]["answer_type"] == "closed"]
    assert 280 <= len(closed) <= 330
    by_template: dict[str, Counter] = {}
    for row in closed:
        by_template.setdefault(row["questions"][0]["template"], Counter())[message_text(row["messages"][1])] += 1
    majority = sum(max(answers.values()) for answers in by_template.values()) / len(closed)
    assert majority < 0.43
    assert report["expert_cases_without_image"] == []
    assert len(report["skipped"]) == 1
    by_patient = {"brain1": "train", "lung1": "train", "brain2": "test", "lung2": "test"}
    for name, split in by_patient.items():
        other = "test" if split == "train" else "train"
        assert any(name in row["source_id"] for row in cases[split])
        assert not any(name in row["source_id"] for row in cases[other])


def test_a_new_build_in_the_same_folder_is_not_hidden_by_the_cache_of_the_old_one(tmp_path):
    from datasets import load_dataset

    from semihv_hf.data.build import build

    counts = []
    for limit in (1, 2):
        build("open_packages", tmp_path / "data", limit=limit, packages=["pydicom", "nilearn"], progress=False)
        counts.append(len(load_dataset(str(tmp_path / "data"), "cases", split="train")))
    assert counts[0] < counts[1]
