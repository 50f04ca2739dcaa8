"""Files that appear at once, or not at all."""

import hashlib
import json
import os

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.files import atomic_file, canonical_json, finite_numbers, read_jsonl, write_json


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    write_json(tmp_path / "scores.json", {"a": 1})
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "scores.json") as handle:
        handle.write("half")
        raise RuntimeError
    assert json.loads((tmp_path / "scores.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_not_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "scores.json", {"a": float("nan")})
    assert not (tmp_path / "scores.json").exists()


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": [1, "ü"], "a": None}) == canonical_json({"a": None, "b": [1, "ü"]})


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(SemiHVError, match="line 2"):
        read_jsonl(tmp_path / "rows.jsonl")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    old = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError):
        write_json(path, {"a": 2})
    assert path.read_bytes() == old and [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_the_hash_is_that_of_the_file(tmp_path):
    digest = write_json(tmp_path / "new" / "a.json", {"ü": 1})
    assert digest == hashlib.sha256((tmp_path / "new" / "a.json").read_bytes()).hexdigest()


def test_numbers_that_json_cannot_hold_are_null(tmp_path):
    record = {"log": [{"loss": float("nan"), "step": 1}, (2.0, float("-inf"))], "name": "nan", "none": None}
    write_json(tmp_path / "record.json", finite_numbers(record))
    found = json.loads((tmp_path / "record.json").read_text())
    assert found == {"log": [{"loss": None, "step": 1}, [2.0, None]], "name": "nan", "none": None}
