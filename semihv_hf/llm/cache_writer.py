"""The thread that sees to it that replies are on the disk and in the index, many at a time."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.cache_index import Index
from semihv_hf.llm.cache_log import Log

logger = logging.getLogger(__name__)

# More than these wait for the next turn.
MOST_IN_GROUP = 1000
# Seconds in which further lines may come to share one sync with the first. Only what is in the log already waits for
# them, so a killed process loses nothing by it; beside what a model takes for a reply it is nothing.
_GATHERING = 0.02


@dataclass
class _Item:
    """A line on its way: of a reply, whose object is `row`, or of a failure; `place` if it is in the log already."""

    line: bytes
    future: Future | asyncio.Future
    row: dict[str, Any] | None = None
    place: tuple[int, int] | None = None


class Writer:
    """Writes replies and failures.

    A reply's line goes into the log at once, by the caller, if that asks for no waiting: the log's lock is free,
    nobody else has written since this process last looked, and the key is new. A thread syncs such lines after a
    moment and adds them to the index, as one group. The others it writes itself, without waiting for more.

    Args:
        log ([`Log`]): of the replies.
        index ([`Index`]): of the log.
        failures (`pathlib.Path`): the file of the failures; made with the first one.
    """

    def __init__(self, log: Log, index: Index, failures: Path):
        self._log = log
        self._index = index
        self._failures_path = failures
        self._failures: Log | None = None
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def add(self, row: dict[str, Any], line: bytes, future: Future | asyncio.Future, *, at_once: bool = True) -> None:
        """Takes a reply.

        Args:
            row (`dict`): the entry, with its `key` and `response`.
            line (`bytes`): the same as a line.
            future (`concurrent.futures.Future` or `asyncio.Future`): is done when the line is on the disk; its result
                is the reply that counts.
            at_once (`bool`, *optional*, defaults to `True`): put it into the log now if that is possible. For many at
                a time that would be nobody's loss, one write is cheaper.
        """
        self._enqueue(_Item(line, future, row, self._append(row["key"], line) if at_once else None))

    def add_failure(self, line: bytes, future: Future) -> None:
        """Takes a failure.

        Args:
            line (`bytes`): what to write down.
            future (`concurrent.futures.Future`): is done when it is on the disk.
        """
        self._enqueue(_Item(line, future))

    def hurry(self) -> None:
        """Someone waits for what was added last: no more is gathered."""
        self._hurry.set()

    def close(self) -> None:
        """Writes what waits, and ends the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._hurry.set()
            self._thread.join()
        if self._failures is not None:
            self._failures.close()

    def _append(self, key: str, line: bytes) -> tuple[int, int] | None:
        """Puts a line into the log if there is nothing to wait for; never twice under one key."""
        try:
            with self._log.locked(wait=False) as held:
                if not held or self._log.size() != self._index.known or self._index.find(key) is not None:
                    return None
                if (place := self._log.append_unsynced(line)) is not None:
                    self._index.expect(key, *place)
                return place
        except (OSError, sqlite3.Error) as error:
            logger.debug("%s: %s", self._log.path, error)  # the thread tries again, and tells the caller
            return None

    def _enqueue(self, item: _Item) -> None:
        if isinstance(item.future, Future):  # a caller that goes away does not stop what is being written
            item.future.set_running_or_notify_cancel()
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="response-cache", daemon=True)
                self._thread.start()
        self._queue.put(item)
        if item.place is None:
            self._hurry.set()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            if first.place is not None:
                self._hurry.wait(_GATHERING)
            self._hurry.clear()  # before the queue is emptied: who comes later and hurries sets it again
            group = [first]
            stop = False
            while len(group) < MOST_IN_GROUP and not self._queue.empty():
                if (item := self._queue.get()) is None:
                    stop = True
                    break
                group.append(item)
            self._commit([item for item in group if item.place is not None], self._settle)
            self._commit([item for item in group if item.place is None and item.row is not None], self._write)
            self._commit([item for item in group if item.row is None], self._write_failures)
            if stop:
                return

    def _commit(self, items: list[_Item], work) -> None:
        if not items:
            return
        try:
            results = work(items)
        except BaseException as error:  # each waiting caller must hear of it, whatever it is
            wrapped = error
            if isinstance(error, (OSError, sqlite3.Error)):
                wrapped = SemiHVError(f"{self._log.path.parent}: {error}")
            _tell([(item.future, None, wrapped) for item in items])
        else:
            _tell([(item.future, result, None) for item, result in zip(items, results)])

    def _settle(self, items: list[_Item]) -> list[dict[str, Any]]:
        """What is in the log already: one sync and one entry into the index for all."""
        try:
            self._log.sync()
        except SemiHVError:
            self._take_back()
            raise
        try:
            self._index.settle(self._log.synced)
        except sqlite3.Error as error:
            self._index.forget()
            self._warn(error)
        return [item.row["response"] for item in items]

    def _take_back(self) -> None:
        """The disk did not take the lines: they must not be read as replies that it has."""
        with self._log.locked():
            size, end = self._log.size(), self._index.known
            start = self._index.forget()
            if start is not None and size == end:  # behind other processes' lines they must stay
                self._log.cut_back(start)

    def _write(self, items: list[_Item]) -> list[dict[str, Any]]:
        """Log first, then index, both under the lock that all processes share."""
        with self._log.locked():
            self._log.cut_torn_line()
            self._index.catch_up()
            standing: dict[str, dict] = {}
            fresh: list[tuple[str, bytes]] = []
            for item in items:
                key = item.row["key"]
                if key in standing:
                    continue
                place = self._index.find(key)
                found = None if place is None else self._log.read(*place)
                standing[key] = item.row if found is None else found
                if found is None:
                    fresh.append((key, item.line))
            if fresh:
                places = self._log.append([line for _, line in fresh])
                try:
                    self._index.add([(key, *place) for (key, _), place in zip(fresh, places)], sum(places[-1]))
                except sqlite3.Error as error:
                    self._warn(error)
            if self._log.synced < self._log.size():
                self._log.sync()
        return [standing[item.row["key"]]["response"] for item in items]

    def _write_failures(self, items: list[_Item]) -> list[None]:
        if self._failures is None:
            self._failures = Log(self._failures_path)
        with self._failures.locked():
            self._failures.cut_torn_line()
            self._failures.append([item.line for item in items])
        return [None] * len(items)

    def _warn(self, error: sqlite3.Error) -> None:
        """The replies are safe in the log; the index catches up as soon as it can be written again."""
        logger.warning("The index of %s could not be written: %s", self._log.path.parent, error)


def _tell(ends: list[tuple[Future | asyncio.Future, Any, BaseException | None]]) -> None:
    """Ends futures; an event loop is woken once for all of its own."""
    loops: dict[asyncio.AbstractEventLoop, list] = {}
    for future, result, error in ends:
        if isinstance(future, Future):
            _end(future, result, error)
        else:
            loops.setdefault(future.get_loop(), []).append((future, result, error))
    for loop, theirs in loops.items():
        try:
            loop.call_soon_threadsafe(_end_those_waited_for, theirs)
        except RuntimeError:  # the loop is closed, so nobody waits in it
            logger.debug("%d replies were kept for an event loop that has ended.", len(theirs))


def _end_those_waited_for(ends: list) -> None:
    for future, result, error in ends:
        if not future.done():
            _end(future, result, error)


def _end(future: Future | asyncio.Future, result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
