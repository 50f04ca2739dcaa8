"""Pairs that a comparison found, in a table on disk: as many as there are, sorted, each once."""

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from ..files import atomic_file

_ROWS_AT_ONCE = 4096


class FoundRows:
    """Rows that are known by some of their columns. Of two with one key the highest score stays, with its detail; of
    equal scores the smaller detail, so that the order of arrival does not show.

    Args:
        columns (`tuple[str, ...]`): all columns, `score` and `detail` among them.
        key (`tuple[str, ...]`): those by which a row is known, and sorted.
        flags (`tuple[str, ...]`, *optional*): columns of truth values; of two rows with one key either counts.
    """

    def __init__(self, columns: tuple[str, ...], key: tuple[str, ...], flags: tuple[str, ...] = ()):
        self.columns, self.key, self.flags = columns, key, flags
        self._folder = tempfile.TemporaryDirectory(prefix="semihv-found-")
        self.database = sqlite3.connect(Path(self._folder.name) / "found.sqlite")
        self.database.execute("PRAGMA journal_mode = OFF")
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.execute(f"CREATE TABLE found ({', '.join(columns)}, PRIMARY KEY ({', '.join(key)}))")
        better = "excluded.score > score OR (excluded.score = score AND excluded.detail < detail)"
        kept = [f"detail = CASE WHEN {better} THEN excluded.detail ELSE detail END"]
        kept += [f"{name} = max({name}, excluded.{name})" for name in ("score", *flags)]
        marks = ", ".join("?" * len(columns))
        self._insert = f"INSERT INTO found VALUES ({marks}) ON CONFLICT DO UPDATE SET {', '.join(kept)}"

    def __enter__(self) -> "FoundRows":
        return self

    def __exit__(self, *exception) -> None:
        self.database.close()
        self._folder.cleanup()

    def add(self, *values: Any) -> None:
        """Adds a row, or what it adds to the one with its key.

        Args:
            values: what the columns hold.
        """
        self.database.execute(self._insert, values)

    def write(self, path: Path) -> None:
        """Writes the rows, sorted by their keys.

        Args:
            path (`pathlib.Path`): the Parquet file.
        """
        import pyarrow
        import pyarrow.parquet

        types = {"score": pyarrow.float64(), **dict.fromkeys(self.flags, pyarrow.bool_())}
        schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in self.columns])
        cursor = self.database.execute(f"SELECT * FROM found ORDER BY {', '.join(self.key)}")
        with atomic_file(path, "wb") as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                writer.write_table(pyarrow.Table.from_pylist([self._row(row) for row in rows], schema=schema))

    def _row(self, values: tuple) -> dict[str, Any]:
        row = dict(zip(self.columns, values, strict=True))
        return {**row, **{name: bool(row[name]) for name in self.flags}}
