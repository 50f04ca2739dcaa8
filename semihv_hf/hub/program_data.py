"""Rows beside a program: a metric or a Space brings examples, which may be rows of a source."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semihv_hf.data.licences import registry

from .contents import read_json

# Where the rows of this package say what they are of.
_KEYS = ("source", "benchmark")


def program_sources(folder: str | Path) -> Counter[str]:
    """Counts the rows in the JSON and CSV files of a folder that name a source of the licence registry.

    Args:
        folder (`str` or `Path`): the folder of a metric or a Space. What cannot be read is left to
            [`semihv_hf.hub.allowed_files.check_upload`], which refuses it.

    Returns:
        `Counter[str]`: rows by source.
    """
    readers = {".json": _json, ".jsonl": _lines, ".csv": _table}
    counts: Counter[str] = Counter()
    for path in sorted(Path(folder).rglob("*")):
        read = readers.get(path.suffix.lower())
        if read is None or not path.is_file():
            continue
        try:
            for row in read(path):
                counts.update({row[key] for key in _KEYS if isinstance(row.get(key), str)} & registry().keys())
        except (OSError, ValueError, csv.Error):
            continue
    return counts


def _json(path: Path) -> Iterator[dict[str, Any]]:
    yield from _rows(read_json(path.read_bytes()))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for line in file:
            yield from _rows(read_json(line))


def _table(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def _rows(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping, however deep it lies."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield found
            pending += found.values()
        elif isinstance(found, list):
            pending += found
