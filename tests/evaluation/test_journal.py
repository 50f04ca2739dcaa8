"""Files that survive being killed."""

import json

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.journal import Journal, atomic_file, canonical_json, read_jsonl, write_json


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path):
    journal = Journal(tmp_path / "log", {"fingerprint": "a"})
    journal.append([{"key": "1"}, {"key": "2"}])
    journal.close()
    whole = (tmp_path / "log").read_bytes()
    for cut in range(1, len(b'{"key": "2"}\n')):
        (tmp_path / "log").write_bytes(whole[:-cut])
        rows, foreign = Journal(tmp_path / "log", {"fingerprint": "a"}).load()
        assert rows == [{"key": "1"}] and not foreign
        assert (tmp_path / "log").read_bytes().endswith(b'{"key": "1"}\n')


def test_what_follows_a_torn_line_is_readable(tmp_path):
    (tmp_path / "log").write_bytes(b'{"fingerprint": "a"}\n{"key": "1"}\n{"ke')
    journal = Journal(tmp_path / "log", {"fingerprint": "a"})
    assert journal.load() == ([{"key": "1"}], False)
    journal.append([{"key": "2"}])
    journal.close()
    assert Journal(tmp_path / "log", {"fingerprint": "a"}).load() == ([{"key": "1"}, {"key": "2"}], False)


def test_a_log_of_other_work_is_not_read(tmp_path):
    journal = Journal(tmp_path / "log", {"fingerprint": "a"})
    journal.append([{"key": "1"}])
    journal.close()
    other = Journal(tmp_path / "log", {"fingerprint": "b"})
    assert other.load() == ([], True)
    other.append([{"key": "2"}])
    other.close()
    assert Journal(tmp_path / "log", {"fingerprint": "b"}).load() == ([{"key": "2"}], False)


def test_a_torn_header_is_no_other_work(tmp_path):
    (tmp_path / "log").write_bytes(b'{"finge')
    assert Journal(tmp_path / "log", {"fingerprint": "a"}).load() == ([], False)


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
