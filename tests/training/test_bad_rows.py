"""Rows that cannot be used: each counted once, up to a limit, in a resumed run too; by two processes see
test_two_processes.py."""

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.training.bad_rows import BadRows
from semihv_hf.training.lengths import RowFailure


def test_a_row_counts_once_however_often_it_comes():
    bad = BadRows(limit=2)
    for _ in range(3):
        bad.add([RowFailure("a", "OSError: truncated"), RowFailure("b", "ValueError: x")])
    assert len(bad) == 2 and bad.by_reason() == {"OSError": 1, "ValueError": 1}
    with pytest.raises(SemiHVError, match="3 rows cannot be used"):
        bad.add([RowFailure("c", "OSError: truncated")])
    # A resumed run goes on from the rows that were left out before, among which a later one may be again.
    resumed = BadRows(limit=2, long_rows="drop")
    resumed.add([RowFailure("b", "ValueError: x"), RowFailure("long", "9 tokens", too_long=True)])
    resumed.load_state_dict({"reasons": {"a": "OSError: truncated", "b": "ValueError: x"}, "too_long": {}})
    assert len(resumed) == 2 and resumed.state_dict()["too_long"] == {"long": "9 tokens"}


def test_rows_that_are_only_too_long_have_a_count_of_their_own():
    long, broken = RowFailure("Long one", "9 tokens", too_long=True), RowFailure("b", "no image")
    dropped = BadRows(0, "drop")
    dropped.add([long, long])
    assert len(dropped) == 0 and list(dropped.too_long) == ["Long one"]
    with pytest.raises(SemiHVError, match="1 rows cannot be used"):
        dropped.add([broken])
    with pytest.raises(SemiHVError, match="Long one: 9 tokens. Raise max_length"):
        BadRows(9, "refuse").add([broken, long])
    with pytest.raises(SemiHVError, match="1 rows cannot be used"):
        BadRows(0).add([long])
