"""Lists in cells: Python's print and numpy's print give the same list, and nothing else passes for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semihv_hf.data.list_columns import concept_codes, flat_words, is_blank, parse_list, parse_numbers

WORDS = st.lists(st.text(max_size=12), max_size=8)
# Lists of strings, nested as releases nest them, with the nan that pandas leaves in some.
NESTED = st.lists(st.one_of(st.text(max_size=8), st.none(), WORDS), max_size=6)


@given(NESTED)
def test_what_python_prints_is_read_back(items):
    assert parse_list(repr(items)) == items
    assert parse_list(repr(items).replace("None", "nan")) == items or any("None" in str(item) for item in items)


@given(WORDS)
def test_what_numpy_prints_is_read_back(items):
    with np.printoptions(linewidth=40):
        printed = str(np.array(items, dtype=object))
    assert parse_list(printed) == items


def test_neighbours_without_a_comma_are_not_joined():
    cell = "['C0018800' 'C0582411'\n 'C0742855']"
    assert parse_list(cell) == ["C0018800", "C0582411", "C0742855"] == concept_codes(cell)
    assert concept_codes("['C0018800', 'C0018800'] C12345678 XC1234567 ['']") == ["C0018800"]


def test_a_list_may_hold_nan_and_lists():
    cell = """[nan, ['unchanged'], [], ["patient's lung", 'loc hilar']]"""
    assert parse_list(cell) == [None, ["unchanged"], [], ["patient's lung", "loc hilar"]]
    assert flat_words([None, [" scoliosis", ""], "scoliosis", ["kyphosis "]]) == ["scoliosis", "kyphosis"]


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "None", "null", "<NA>"])
def test_blank_cells_are_empty_lists(cell):
    assert is_blank(cell) and parse_list(cell) == [] == concept_codes(cell)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("normal", "is no list"), ("['a'", "does not end"), ("['a']]", "is no list"), ("['a'] 'b'", "is no list"),
        ("['a' 'b' ... 'y' 'z']", "shortened by numpy"), ("[a, b]", "is no list"), ("['a", "is no list"),
        ("[1, 2]", "is no list"), ("['\\x']", "is no string"), ("[" * 40 + "]" * 40, "nested more than"),
        ("]", "is no list"), ("'a'", "is no list"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(cell, problem):
    with pytest.raises(ValueError, match=problem):
        parse_list(cell)


@given(st.text(max_size=40))
def test_any_other_text_gives_a_list_or_a_value_error(cell):
    try:
        assert isinstance(parse_list(cell), list)
    except ValueError as error:
        assert "\n" not in str(error)


def test_numbers_are_joined_by_commas():
    assert parse_numbers("226.169, 90.0204,241.252, 111.977", 4) == [226.169, 90.0204, 241.252, 111.977]
    for cell, count in (("1, 2", 3), ("1, x", 2), ("", 1), ("1, nan", 2), ("inf", 1)):
        with pytest.raises(ValueError):
            parse_numbers(cell, count)
