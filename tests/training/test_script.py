"""How a script ends: one line for what a user can mend, from the process that knows of it."""

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.training import script


def refuse():
    raise SemiHVError("The row is bad.", "Mend it.")


@pytest.mark.parametrize(("rank", "line"), [("0", "error: "), ("3", "error in process 3: ")])
def test_an_error_is_one_line_and_other_processes_wait_with_theirs(rank, line, monkeypatch):
    waited = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(script.time, "sleep", waited.append)
    with pytest.raises(SystemExit) as caught:
        script.run_script(refuse)
    assert caught.value.code == f"{line}The row is bad. Mend it."
    assert bool(waited) is (rank != "0")  # where all fail alike, the launcher has ended them by then


def test_other_endings_are_left_alone():
    script.run_script(lambda: None)
    with pytest.raises(ZeroDivisionError):
        script.run_script(lambda: 1 / 0)
