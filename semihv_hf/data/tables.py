"""Tables of a release, row by row: memory stays the same however long they are."""

import csv
import io
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..errors import SemiHVError
from .release import Release

_BLANK = " \t\r\n"
_MOST_NESTED = 100


def csv_rows(release: Release, name: str, *, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Reads a CSV file, plain or gzip, with or without a byte order mark.

    Args:
        release ([`Release`]): the release.
        name (`str`): the file, relative to the release.
        delimiter (`str`, *optional*, defaults to `","`): what parts the columns.

    Yields:
        `dict[str, str]`: one row, by the names of the header without blanks around them; a column without a name, such
        as the index that pandas writes, is `"Unnamed: 0"` by its place. Cells that a short row lacks are `""`; cells
        beyond the header are under the key `""`, so that a reader can refuse such a row.

    Raises:
        `SemiHVError`: the file holds nothing, not even a header.
    """
    csv.field_size_limit(sys.maxsize)  # reports exceed the module's 128 kB
    with release.open_text(name) as file:
        rows = csv.reader(file, delimiter=delimiter)
        names = next(rows, None)
        if names is None:
            raise SemiHVError(f"{name} in {release.root} is empty.", "Download it again, or take it away.")
        header = [column.strip() or f"Unnamed: {place}" for place, column in enumerate(names)]
        for row in rows:
            if not row:
                continue
            cells = dict(zip(header, row + [""] * (len(header) - len(row))))
            if len(row) > len(header):
                cells[""] = delimiter.join(row[len(header) :])
            yield cells


def json_rows(release: Release, name: str, *, path: str = "item") -> Iterator[Any]:
    """Reads the elements of a JSON array, or the lines of a JSON-lines file, one at a time.

    Args:
        release ([`Release`]): the release.
        name (`str`): the file, relative to the release.
        path (`str`, *optional*, defaults to `"item"`): where the elements stand, in the words of ijson; `"item"` is
            the array that makes up the file.

    Yields:
        `Any`: one element.

    Raises:
        `ValueError`: the file is damaged at that place; what came before was yielded.
    """
    import ijson

    with release.open_text(name) as text:
        first = _first_character(text)
    if path == "item" and first == "{":  # a file of lines is told by its content: suffixes are not reliable
        with release.open_text(name) as text:
            for line in text:
                if line.strip(_BLANK):
                    yield json.loads(line)
        return
    with release.open_text(name) as text:
        try:
            yield from ijson.items(shallow_events(_Utf8(text)), path)
        except ijson.JSONError as error:
            raise ValueError(f"{name} is no valid JSON: {error}") from error


def shallow_events(file: Any) -> Iterator[tuple[str, str, Any]]:
    """The events of a JSON file for `ijson.items` and `ijson.kvitems`, as far as it is nested as releases are.

    The parser keeps the path to every open bracket: a megabyte of brackets would fill any memory.

    Args:
        file (`Any`): with `read`, which gives bytes.

    Yields:
        `tuple[str, str, Any]`: path, event and value, as `ijson.parse` gives them; fractions are floats.

    Raises:
        `ijson.JSONError`: the file is damaged, or nested deeper than any release.
    """
    import ijson

    depth = 0
    for event in ijson.parse(file, use_float=True):
        name = event[1]
        if name == "start_map" or name == "start_array":
            depth += 1
            if depth > _MOST_NESTED:
                raise ijson.JSONError(f"it is nested deeper than {_MOST_NESTED} levels")
        elif name == "end_map" or name == "end_array":
            depth -= 1
        yield event


def _first_character(text: io.TextIOBase) -> str:
    while character := text.read(1):
        if character not in _BLANK:
            return character
    return ""


class _Utf8:
    """Text as the bytes that ijson reads, past the byte order mark that it would stumble over."""

    def __init__(self, text: io.TextIOBase):
        self.text = text

    def read(self, size: int) -> bytes:
        return self.text.read(size).encode() if size else b""


class DiskTable:
    """A table on disk for joins and for what was seen already; it is gone when it is closed or the process ends.

    It lies where SQLite keeps temporary files: the folder `SQLITE_TMPDIR` or `TMPDIR`, else `/var/tmp`.

    Args:
        rows (`Iterable[tuple[str, Any]]`, *optional*): keys and values that JSON can hold; a key may repeat.
    """

    def __init__(self, rows: Iterable[tuple[str, Any]] = ()):
        # No name: SQLite's own temporary file, which is gone with the process however that ends; a named one stayed
        # behind in every killed run and in every worker of `num_proc`.
        # A release is listed by a generator, which `datasets` may resume or close in another thread than it began in.
        self._database = sqlite3.connect("", check_same_thread=False)
        # Nothing here outlives the process, so nothing needs to reach the disk in order.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA cache_size = -4096")
        self._database.execute("CREATE TABLE entries (key TEXT, value TEXT)")
        self._database.executemany(
            "INSERT INTO entries VALUES (?, ?)", ((key, json.dumps(value)) for key, value in rows)
        )
        self._database.execute("CREATE INDEX by_key ON entries (key)")
        self._additions = self._database.cursor()  # a cursor a call would take as long as the call

    def __enter__(self) -> "DiskTable":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Deletes the table."""
        self._database.close()

    def all(self, key: str) -> list[Any]:
        """The values of a key, in the order in which they came.

        Args:
            key (`str`): the key.

        Returns:
            `list`: empty where there are none.
        """
        rows = self._database.execute("SELECT value FROM entries WHERE key = ? ORDER BY rowid", (key,))
        return [json.loads(value) for (value,) in rows]

    def get(self, key: str) -> Any:
        """The first value of a key.

        Args:
            key (`str`): the key.

        Returns:
            `Any`: `None` where there is none.
        """
        return next(iter(self.all(key)), None)

    def add(self, key: str, value: Any = None) -> bool:
        """Adds an entry unless the key is there.

        Args:
            key (`str`): the key.
            value (`Any`, *optional*): what JSON can hold.

        Returns:
            `bool`: whether the key was new.
        """
        self._additions.execute(
            "INSERT INTO entries SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM entries WHERE key = ?1)",
            (key, "null" if value is None else json.dumps(value)),
        )
        return self._additions.rowcount == 1

    def groups(self) -> Iterator[tuple[str, list[Any]]]:
        """All entries, those of a key together, by one walk instead of a search for every key.

        Yields:
            `tuple[str, list]`: a key and its values, keys in the order in which each came first.
        """
        rows = self._database.execute(
            "SELECT entries.key, value FROM entries JOIN"
            " (SELECT key, min(rowid) AS first FROM entries GROUP BY key) AS begun ON begun.key = entries.key"
            " ORDER BY begun.first, entries.rowid"
        )
        for key, entries in groupby(rows, key=itemgetter(0)):
            yield key, [json.loads(value) for _, value in entries]

    def keys(self) -> Iterator[str]:
        """The different keys in the order in which each came first.

        Yields:
            `str`: a key.
        """
        rows = self._database.execute("SELECT key FROM entries GROUP BY key ORDER BY min(rowid)")
        yield from (key for (key,) in rows)
