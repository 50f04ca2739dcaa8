"""The tables of skips.py name only what exists, each test once."""

import importlib
import unittest
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from skips import TABLES


@pytest.fixture(scope="module")
def tests() -> dict[str, list[str]]:
    """The names of all tests of each class in this folder."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*_upstream.py")):
        module = importlib.import_module(path.stem)
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == path.stem:
                found[name] = unittest.defaultTestLoader.getTestCaseNames(value)
    assert len(found) >= 7
    assert len(found["PMCCambrianModelTest"]) > 100
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_names_a_test_that_exists(table, tests):
    gone = [
        f"{test_class}: {pattern}"
        for test_class, entries in TABLES[table].items()
        for pattern in entries
        if not any(fnmatchcase(name, pattern) for name in tests.get(test_class, []))
    ]
    assert gone == []


def test_no_test_is_in_two_entries(tests):
    entries = Counter(
        f"{test_class}::{name}"
        for table in TABLES.values()
        for test_class, patterns in table.items()
        for pattern in patterns
        for name in tests[test_class]
        if fnmatchcase(name, pattern)
    )
    assert len(entries) > 50
    assert [name for name, count in entries.items() if count > 1] == []
