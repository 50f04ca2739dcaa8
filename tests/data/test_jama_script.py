"""`load_dataset("jama_clinical_challenge", ...)` on a copy that a test writes; no item of the challenge is in it."""

import json
from pathlib import Path

import pytest
from small_releases import write_jama

from semihv_hf.data.benchmarks.question import validate_question
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.sources.jama import CANARY, Jama
from semihv_hf.errors import SemiHVError


def load(*arguments, **options):
    from datasets import load_dataset

    import semihv_hf  # noqa: F401  registers the name

    return load_dataset("jama_clinical_challenge", *arguments, **options)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return write_jama(tmp_path_factory.mktemp("copy") / "jama", 7)


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def test_questions_are_the_default_and_of_the_row_type_of_all_benchmarks(copy, cache):
    loaded = load(data_dir=str(copy), cache_dir=cache)
    assert list(loaded) == ["test"]
    rows = loaded["test"]
    expected = list(Jama(copy).questions())
    assert [row["id"] for row in rows] == [question.id for question in expected] and len(rows) == 7
    assert [row["answer_letter"] for row in rows] == list("ABCDABC")
    assert [len(row["images"]) for row in rows] == [1, 0, 1, 0, 1, 0, 1]
    for row in rows:
        validate_question(row)
        assert row["question"].startswith("Invented patient") and len(row["options"]) == 4
        assert row["options"]["ABCD".index(row["answer_letter"])] == row["answer"]


@pytest.mark.parametrize("config, validate", [("cases", validate_case), ("records", validate_record)])
def test_cases_and_records_are_the_adapters(config, validate, copy, cache):
    rows = load(config, data_dir=str(copy), cache_dir=cache, split="test")
    adapter = Jama(copy)
    cases = [case for item in adapter.items() for case in adapter.read(item)]
    expected = cases if config == "cases" else [record for case in cases for record in adapter.records(case)]
    assert [row["id"] for row in rows] == [thing.id for thing in expected] and len(rows) == 7
    for row in rows:
        validate(row)


@pytest.mark.parametrize("config", ["questions", "cases", "records"])
def test_every_row_carries_the_canary_that_the_card_names(config, copy):
    rows = list(load(config, data_dir=str(copy), split="test", streaming=True).remove_columns("images"))
    assert len(rows) == 7 and all(CANARY in json.dumps(row) for row in rows)


def test_the_card_of_the_script_names_the_canary(root):
    readme = (root / "dataset_scripts" / "jama_clinical_challenge" / "README.md").read_text(encoding="utf-8")
    assert CANARY in readme


def test_two_processes_and_streaming_give_the_same_questions(copy, cache):
    one = load(data_dir=str(copy), cache_dir=cache, split="test")
    two = load(data_dir=str(copy), cache_dir=cache + "2", split="test", num_proc=2)
    streamed = load(data_dir=str(copy), split="test", streaming=True)
    assert one["id"] == two["id"] == [row["id"] for row in streamed]


def test_a_bad_copy_is_told(copy, tmp_path, cache):
    with pytest.raises(SemiHVError, match="needs a folder.*own copy"):
        load(cache_dir=cache)
    (tmp_path / "jama_links.json").write_text("[]")
    with pytest.raises(SemiHVError, match="which lists where the cases are, not the cases"):
        load(data_dir=str(tmp_path), cache_dir=cache)
    rows = json.loads((copy / "jama_raw.json").read_text())
    rows[2]["answer_idx"] = "D"
    (tmp_path / "jama_raw.json").write_text(json.dumps(rows))
    with pytest.raises(SemiHVError, match=r"14.3% of jama.*1 left out of 7: 1 malformed row"):
        load(data_dir=str(tmp_path), cache_dir=cache)
    assert len(load(data_dir=str(tmp_path), cache_dir=cache, max_skipped=0.2)["test"]) == 6


def test_cases_without_a_picture_can_be_left_out(copy, cache):
    options = {"require_images": True}
    rows = load(data_dir=str(copy), cache_dir=cache, options=options, max_skipped=0.5, split="test")
    assert [len(row["images"]) for row in rows] == [1, 1, 1, 1]


def test_a_built_folder_gives_cases_and_records_but_no_questions(copy, tmp_path, cache):
    from semihv_hf.data.build import build

    out = tmp_path / "built"
    build("jama", out, data_dir=copy, workers=1, progress=False)
    for config in ("cases", "records"):
        built = load(config, data_dir=str(out), cache_dir=cache, split="test")
        assert built["id"] == load(config, data_dir=str(copy), cache_dir=cache, split="test")["id"]
    with pytest.raises(SemiHVError, match="has no questions"):
        load(data_dir=str(out), cache_dir=cache)


def test_nothing_of_the_challenge_is_in_the_repository(root):
    """The scraper's files may only ever lie in a user's folder."""
    folders = [path for path in Path(root).iterdir() if path.is_dir() and path.name[0] != "." and path.name != "runs"]
    names = [path.name for folder in folders for path in folder.rglob("jama*")]
    assert "jama.py" in names and "jama_clinical_challenge" in names
    assert {"jama_raw.json", "jama_raw.csv", "jama_links.json", "jama_links_updated.json"} & set(names) == set()
