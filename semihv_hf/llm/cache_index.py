"""Where each reply stands in the log: a SQLite table that can be thrown away and built again from the log."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from semihv_hf.llm.cache_log import Log

logger = logging.getLogger(__name__)

_TABLES = (
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, place INTEGER NOT NULL, length INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS log (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT, indexed INTEGER)",
)
_GROUP = 1000


class Index:
    """Finds a key's line in a log. All writing happens under the log's lock, reading at any time.

    Args:
        path (`pathlib.Path` or `None`): the database; `None` for a private one that the system removes.
        log ([`Log`]): the log that it is of.
    """

    def __init__(self, path: Path | None, log: Log):
        self.path = path
        self.log = log
        self._reading = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        with log.locked():
            try:
                self._open()
                self._check()
            except sqlite3.DatabaseError as error:
                logger.warning("The index %s is damaged (%s); building it again from the log.", path, error)
                self._remove()
                self._open()
                self._check()
            self.catch_up()

    def _open(self) -> None:
        # The writer and the reader are two connections, so that looking up never waits for a commit.
        self._writer = self._connect()
        self._reader = self._writer if self.path is None else self._connect()
        with self._writer:
            for table in _TABLES:
                self._writer.execute(table)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path or "", timeout=60, check_same_thread=False)
        self._connections.append(connection)
        if self.path is not None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _check(self) -> None:
        """Empties an index of another log, or of more than this log holds."""
        row = self._writer.execute("SELECT identity, indexed FROM log").fetchone()
        if row is None or row[0] != self.log.identity or row[1] > self.log.size():
            self._empty()

    def _empty(self) -> None:
        with self._writer:
            self._writer.execute("DELETE FROM entries")
            self._writer.execute("INSERT OR REPLACE INTO log VALUES (1, ?, 0)", (self.log.identity,))

    def _remove(self) -> None:
        self.close()
        if self.path is not None:
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def find(self, key: str) -> tuple[int, int] | None:
        """Where the reply to a request stands.

        Args:
            key (`str`): its content key.

        Returns:
            `tuple[int, int]` or `None`: offset and bytes.
        """
        with self._reading:
            return self._reader.execute(
                "SELECT place, length FROM entries WHERE key = ?", (bytes.fromhex(key),)
            ).fetchone()

    def behind(self) -> bool:
        """Whether the log holds more than the index, for one because a process died between the two."""
        with self._reading:
            return self._reader.execute("SELECT indexed FROM log").fetchone()[0] < self.log.size()

    def catch_up(self) -> int:
        """Adds the lines of the log that the index does not have yet. The caller holds the log's lock.

        Returns:
            `int`: how many complete lines were read.
        """
        (start,) = self._writer.execute("SELECT indexed FROM log").fetchone()
        if start >= self.log.size():
            return 0
        count = damaged = 0
        group: list[tuple[str, int, int]] = []
        end = start
        for place, length, row in self.log.lines(start):
            count += 1
            end = place + length
            key = row.get("key") if row else None
            if isinstance(key, str) and len(key) == 64:
                group.append((key, place, length))
            elif row is None:
                damaged += 1
            if len(group) == _GROUP:
                self.add(group, end)
                group = []
        self.add(group, end)
        if damaged:
            logger.warning("%s: %d damaged lines were left out; they will be asked again.", self.log.path, damaged)
        return count

    def add(self, entries: Iterable[tuple[str, int, int]], end: int) -> None:
        """Notes where entries stand. Of two entries with one key the first stays. The caller holds the log's lock.

        Args:
            entries (`Iterable[tuple[str, int, int]]`): key, offset and bytes of each.
            end (`int`): the log is indexed up to here.
        """
        rows = [(bytes.fromhex(key), place, length) for key, place, length in entries]
        with self._writer:
            self._writer.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", rows)
            self._writer.execute("UPDATE log SET indexed = ?", (end,))

    def rebuild(self) -> None:
        """Throws the entries away and reads the whole log. The caller holds the log's lock."""
        self._empty()
        self.catch_up()

    def keys(self) -> Iterator[str]:
        """All keys, in their order; memory does not grow with their number.

        Yields:
            `str`: a content key.
        """
        last = b""
        while True:
            with self._reading:
                rows = self._reader.execute(
                    "SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT ?", (last, _GROUP)
                ).fetchall()
            if not rows:
                return
            for (key,) in rows:
                yield key.hex()
            last = rows[-1][0]

    def __len__(self) -> int:
        with self._reading:
            return self._reader.execute("SELECT COUNT(*) FROM entries").fetchone()[0]

    def close(self) -> None:
        """Closes the database."""
        while self._connections:
            self._connections.pop().close()
