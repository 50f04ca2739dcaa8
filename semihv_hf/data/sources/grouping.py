"""Rows of a long table that belong to the same image, brought together without holding the table in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from ..tables import DiskTable
from .base import Skipped


def grouped(rows: Iterable[tuple[str, Any] | Skipped]) -> Iterator[Skipped | tuple[str, list[Any]]]:
    """Groups rows by their key; what the table alone shows to be unusable comes first.

    Args:
        rows (`Iterable`): a key with a value that JSON can hold, or a [`Skipped`].

    Yields:
        [`Skipped`] or `tuple[str, list]`: the skipped rows in their order, then each key with its values, in the order
        in which the keys came first.
    """
    with DiskTable() as skipped:

        def usable() -> Iterator[tuple[str, Any]]:
            for number, row in enumerate(rows):
                if isinstance(row, Skipped):
                    skipped.add(str(number), asdict(row))
                else:
                    yield row

        with DiskTable(usable()) as table:
            for number in skipped.keys():
                yield Skipped(**skipped.get(number))
            yield from table.groups()
