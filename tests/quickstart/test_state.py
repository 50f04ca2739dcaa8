"""Steps of a run: done once, done again when an input changes, never marked done when they failed."""

import json

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.quickstart import run_quickstart
from semihv_hf.quickstart.run import check_disk, clear_run
from semihv_hf.quickstart.state import RunState, fingerprint


def test_a_step_runs_once_for_the_same_key(tmp_path):
    calls = []
    assert RunState(tmp_path).run("data", "a", lambda: calls.append(1))
    assert not RunState(tmp_path).run("data", "a", lambda: calls.append(2))
    assert RunState(tmp_path).run("data", "b", lambda: calls.append(3))
    assert calls == [1, 3]
    assert json.loads((tmp_path / "state.json").read_text())["data"]["key"] == "b"


def test_a_step_whose_result_was_deleted_is_done_again(tmp_path):
    result = tmp_path / "result"
    state = RunState(tmp_path)
    assert state.run("data", "a", lambda: result.write_text("1"), result)
    assert not state.run("data", "a", lambda: result.write_text("2"), result)
    result.unlink()
    assert state.run("data", "a", lambda: result.write_text("3"), result)
    assert result.read_text() == "3"


def test_a_failed_step_is_not_done_and_the_older_result_is_gone(tmp_path):
    state = RunState(tmp_path)
    state.run("data", "a", lambda: None)

    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        state.run("data", "b", fail)
    assert "data" not in RunState(tmp_path).steps


def test_fingerprint_depends_on_every_part(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("a: 1")
    first = fingerprint(file, {"seed": 0})
    assert first == fingerprint(file, {"seed": 0})
    assert len({first, fingerprint(file, {"seed": 1}), fingerprint({"seed": 0}), fingerprint(file)}) == 4
    file.write_text("a: 2")
    assert fingerprint(file, {"seed": 0}) != first


def test_unknown_size_is_named(tmp_path):
    with pytest.raises(SemiHVError, match="'huge'. Choose one of full, tiny"):
        run_quickstart(tmp_path / "run", size="huge")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_said_before_anything_is_done(tmp_path):
    with pytest.raises(SemiHVError, match=r"GiB left; a run needs 1e\+09 GiB"):
        check_disk(tmp_path / "not" / "there", 10**9)
    check_disk(tmp_path / "not" / "there", 0)


def test_fresh_leaves_what_is_not_of_the_run(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.parquet").write_text("x")
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "thesis.tex").write_text("mine")
    clear_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
