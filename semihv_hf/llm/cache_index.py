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
    """Finds a key's line in a log, at any time and without a lock.

    The table has the lines up to a place; those that this process appended behind it are in its memory until they are
    added as a group ([`expect`], [`settle`]). Everything else is added under the log's lock.

    Args:
        path (`pathlib.Path` or `None`): the database; `None` for a private one that the system removes.
        log ([`Log`]): the log that it is of.
    """

    def __init__(self, path: Path | None, log: Log):
        self.path = path
        self.log = log
        # Up to here every line is in the table or expected, as far as this process knows: if the log is no longer than
        # this, a key that is not found is not there. Never more than the truth, less does no harm.
        self.known = 0
        self._expected: dict[str, tuple[int, int]] = {}
        self._reading = threading.Lock()
        self._writing = threading.Lock()
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
        self.known = 0
        with self._writing, self._writer:
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
        if (expected := self._expected.get(key)) is not None:
            return expected
        with self._reading:
            return self._reader.execute(
                "SELECT place, length FROM entries WHERE key = ?", (bytes.fromhex(key),)
            ).fetchone()

    def refresh(self) -> bool:
        """Takes up what other processes have added to the log, if nobody holds its lock.

        Returns:
            `bool`: whether a key that was not found should be looked for again.
        """
        size = self.log.size()
        if size == self.known:
            return False
        with self._reading:
            (indexed,) = self._reader.execute("SELECT indexed FROM log").fetchone()
        if indexed >= size:
            self.known = indexed
            return True
        # For one because a process died between the log and the index. Whoever has the lock is about to mend it.
        with self.log.locked(wait=False) as held:
            return held and self.catch_up() > 0

    def expect(self, key: str, place: int, length: int) -> None:
        """Notes a line that this process has just appended, at the place [`known`]. The caller holds the log's lock.

        Args:
            key (`str`): its content key.
            place (`int`): where it starts.
            length (`int`): its bytes.
        """
        self._expected[key] = (place, length)
        self.known = place + length

    def settle(self, end: int) -> None:
        """Adds the expected lines to the table, at best without asking for the log's lock.

        Args:
            end (`int`): lines behind this place are left for later.

        Raises:
            `sqlite3.Error`: the table cannot be written.
        """
        group = [(key, *place) for key, place in self._expected.copy().items() if sum(place) <= end]
        if not group:
            return
        rows = [(bytes.fromhex(key), place, length) for key, place, length in group]
        with self._writing, self._writer:
            self._writer.execute("BEGIN IMMEDIATE")  # from here on no other process adds anything
            (indexed,) = self._writer.execute("SELECT indexed FROM log").fetchone()
            last = sum(rows[-1][1:])
            follows = indexed == rows[0][1] == last - sum(length for *_, length in rows)  # no foreign line in between
            if follows:
                self._insert(rows, last)
        if not follows:
            with self.log.locked():
                self.catch_up()
        for key, *_ in group:
            self._expected.pop(key, None)

    def forget(self) -> int | None:
        """Expects nothing any more; the next look at the log finds whatever stands there.

        Returns:
            `int` or `None`: where the first expected line starts; `None` if none was expected.
        """
        places = [place for place, _ in self._expected.values()]
        self._expected.clear()
        if places:
            self.known = min(places)
        return min(places, default=None)

    def catch_up(self) -> int:
        """Adds the lines of the log that the table does not have yet. The caller holds the log's lock.

        Returns:
            `int`: how many complete lines were read.
        """
        with self._writing:
            (start,) = self._writer.execute("SELECT indexed FROM log").fetchone()
        if start >= self.log.size():
            self.known = start
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
        with self._writing, self._writer:
            self._insert(rows, end)
        for key, place in self._expected.copy().items():
            if sum(place) <= end:
                self._expected.pop(key, None)
        self.known = end

    def _insert(self, rows: list[tuple[bytes, int, int]], end: int) -> None:
        self._writer.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", rows)
        self._writer.execute("UPDATE log SET indexed = ?", (end,))

    def rebuild(self) -> None:
        """Throws the entries away and reads the whole log. The caller holds the log's lock."""
        self._empty()
        self._expected.clear()
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
