"""A file of answers is read whole or refused at the line that is wrong."""

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.prediction_files import asked_dataset, read_predictions
from semihv_hf.files import write_json, write_jsonl

ROW = {
    "id": "a",
    "case_id": "c",
    "model": "m@1",
    "question": "Which plane?",
    "reference": "axial",
    "answer_type": "closed",
    "template": "plane",
    "modality": "MR",
    "source_id": "s",
    "options": ["axial", "coronal"],
    "prediction": None,
    "error": "made to fail",
}


def test_more_columns_are_kept_and_a_failed_row_is_one(tmp_path):
    rows = [ROW, {**ROW, "id": "b", "prediction": "", "error": None, "seconds": 2.5}]
    write_jsonl(tmp_path / "image.jsonl", rows)
    assert read_predictions(tmp_path / "image.jsonl") == rows


@pytest.mark.parametrize("name", ROW)
@pytest.mark.parametrize("value", ["left out", 3, ["x", None]])
def test_a_missing_or_foreign_column_is_named_with_its_line(tmp_path, name, value):
    row = {**ROW, "id": "b", name: value}
    if value == "left out":
        del row[name]
    write_jsonl(tmp_path / "image.jsonl", [ROW, row])
    with pytest.raises(SemiHVError, match=rf"image.jsonl, line 2: {name} missing or of another type"):
        read_predictions(tmp_path / "image.jsonl")


def test_an_id_that_stands_twice_is_refused(tmp_path):
    write_jsonl(tmp_path / "image.jsonl", [ROW, {**ROW, "id": "b"}, ROW])
    with pytest.raises(SemiHVError, match="lines 1 and 3 have the same id 'a'"):
        read_predictions(tmp_path / "image.jsonl")


def test_a_line_that_is_no_object_is_named(tmp_path):
    write_jsonl(tmp_path / "image.jsonl", [ROW])
    with open(tmp_path / "image.jsonl", "a") as handle:
        handle.write('{"id": "b", "case')
    with pytest.raises(SemiHVError, match="line 2, is not a JSON object"):
        read_predictions(tmp_path / "image.jsonl")


def test_scores_say_what_was_asked(tmp_path):
    answers = tmp_path / "image.jsonl"
    data = tmp_path / "my data"
    data.mkdir()
    nothing = {"hub_id": None, "config": None, "split": None}
    assert asked_dataset(answers, data) == {"name": "my data", **nothing}
    (data / "README.md").write_text("---\npretty_name: [\n---\n")
    assert asked_dataset(answers, data) == {"name": "my data", **nothing}
    (data / "README.md").write_text("---\npretty_name: Drawn shapes\n---\n")
    write_json(tmp_path / "image.meta.json", {"settings": {"config": "benchmark", "split": "test"}})
    told = {"config": "benchmark", "split": "test"}
    assert asked_dataset(answers, data) == {"name": "Drawn shapes", "hub_id": None, **told}
    assert asked_dataset(answers, "a/vqa") == {"name": "a/vqa", "hub_id": "a/vqa", **told}
