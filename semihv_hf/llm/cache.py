"""Replies that were paid for once: an append-only log with an index, shared by threads and processes.

A folder holds `responses.jsonl`, the log and the only truth; `index.sqlite`, which says where each reply stands in
it; and `failures.jsonl`, the calls that gave no reply, for the record only. A reply is in the log as soon as it is
there, and on the disk before it counts as done: a process that is killed loses nothing that it was given.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError
from semihv_hf.files import atomic_file
from semihv_hf.llm.cache_index import Index
from semihv_hf.llm.cache_log import LOG_FORMAT, Log, json_line
from semihv_hf.llm.cache_writer import MOST_IN_GROUP, Writer
from semihv_hf.llm.keys import content_key, request_summary

if TYPE_CHECKING:
    from semihv_hf.llm.types import Failure

__all__ = ["ResponseCache", "content_key", "request_summary"]

LOG_NAME = "responses.jsonl"
INDEX_NAME = "index.sqlite"
FAILURES_NAME = "failures.jsonl"


class ResponseCache:
    """Keeps replies under the content keys of their requests.

    Any number of threads and processes may read and write one folder at the same time. It must be on a file system of
    this machine: SQLite's write-ahead log does not work over a network. Only replies are kept, never failures, and
    of requests only names and hashes ([`request_summary`]).

    Args:
        folder (`str` or `pathlib.Path`): where it lives; made if it is missing.
        read_only (`bool`, *optional*, defaults to `False`): for a folder that cannot or should not be changed. It
            must exist then, and its index is built anew in a temporary place.

    Example:

    ```python
    >>> import tempfile
    >>> from semihv_hf.llm.cache import ResponseCache
    >>> with ResponseCache(tempfile.mkdtemp()) as cache:
    ...     _ = cache.put("0" * 64, {"model": "a-model"}, {"text": "pneumothorax"})
    ...     cache.get("0" * 64)
    {'text': 'pneumothorax'}

    ```
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False):
        self.folder = Path(folder)
        self.read_only = read_only
        self._open()

    def _open(self) -> None:
        try:
            if not self.read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._log = Log(self.folder / LOG_NAME, read_only=self.read_only)
            self._index = Index(None if self.read_only else self.folder / INDEX_NAME, self._log)
        except (OSError, sqlite3.Error) as error:
            raise SemiHVError(
                f"The cache folder {self.folder} cannot be opened: {error}.", "Name a folder that can be written."
            ) from error
        self._writer = Writer(self._log, self._index, self.folder / FAILURES_NAME)
        self._closed = False
        self._pid = os.getpid()

    def get(self, key: str) -> dict[str, Any] | None:
        """The reply to a request.

        Args:
            key (`str`): the request's content key.

        Returns:
            `dict` or `None`: the reply as it was put; `None` if there is none.
        """
        entry = self.entry(key)
        return None if entry is None else entry["response"]

    def entry(self, key: str) -> dict[str, Any] | None:
        """The reply with what is known about its request.

        Args:
            key (`str`): the request's content key.

        Returns:
            `dict` or `None`: `key`, `time`, `request` and `response`; `None` if there is none.
        """
        self._after_fork()
        place = self._index.find(key)
        if place is None and self._index.refresh():
            place = self._index.find(key)
        if place is None:
            return None
        row = self._log.read(*place)
        if row is None or row.get("key") != key:  # the log was changed under the index
            with self._log.locked():
                self._index.rebuild()
            place = self._index.find(key)
            row = None if place is None else self._log.read(*place)
        if row is not None and not self.read_only and sum(place) > self._log.synced:
            self._log.sync()  # whoever wrote it has not said yet that it is on the disk; who reads it goes on with it
        return row

    def __contains__(self, key: str) -> bool:
        return self.entry(key) is not None

    def __len__(self) -> int:
        return len(self._index)

    def keys(self) -> Iterator[str]:
        """The content keys of all replies, sorted.

        Yields:
            `str`: a key.
        """
        return self._index.keys()

    def put(self, key: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps a reply, and returns when it is on the disk.

        Args:
            key (`str`): the request's content key.
            request (`Mapping`): what [`request_summary`] says about it.
            response (`Mapping`): the reply; anything that JSON can hold.

        Returns:
            `dict`: the reply that counts from now on: this one, or the one that another process had put before.

        Raises:
            `SemiHVError`: the disk is full, or the reply is nothing that JSON can hold.
        """
        future = self.submit(key, request, response)
        self._writer.hurry()
        return future.result()

    async def aput(self, key: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
        """[`put`](#put) for coroutines: the event loop goes on while the disk is written.

        Args:
            key (`str`): the request's content key.
            request (`Mapping`): what [`request_summary`] says about it.
            response (`Mapping`): the reply.

        Returns:
            `dict`: the reply that counts from now on.
        """
        return await self.asubmit(key, request, response)

    def asubmit(self, key: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> asyncio.Future:
        """[`submit`](#submit) for coroutines. Replies that are on the disk together wake the event loop once.

        Args:
            key (`str`): the request's content key.
            request (`Mapping`): what [`request_summary`] says about it.
            response (`Mapping`): the reply.

        Returns:
            `asyncio.Future`: of the running event loop; done when the reply is on the disk, with the result of
            [`put`](#put).
        """
        return self._submit(key, request, response, asyncio.get_running_loop().create_future())

    def submit(self, key: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> Future:
        """Writes a reply, and has it synced to the disk within a moment, together with others of that moment.

        Args:
            key (`str`): the request's content key.
            request (`Mapping`): what [`request_summary`] says about it.
            response (`Mapping`): the reply.

        Returns:
            `concurrent.futures.Future`: done when the reply is on the disk; its result is that of [`put`](#put).
        """
        return self._submit(key, request, response, Future())

    def _submit(self, key: str, request: Mapping[str, Any], response: Mapping[str, Any], future: Any) -> Any:
        if len(key) != 64:
            raise SemiHVError(f"{key!r} is no content key.")
        entry = {"key": key, "time": _now(), "request": dict(request), "response": dict(response)}
        try:
            line = json_line(entry)
        except (TypeError, ValueError) as error:
            raise SemiHVError(f"A reply cannot be kept: {error}.") from error
        self._check_writable()
        self._writer.add(entry, line, future)
        return future

    def note_failure(self, key: str, request_id: str, failure: Failure) -> Future:
        """Writes down, for the record, that a call gave no reply. It is never read as one.

        Args:
            key (`str`): the request's content key.
            request_id (`str`): the row that it belonged to.
            failure ([`Failure`]): why.

        Returns:
            `concurrent.futures.Future`: done when it is on the disk.
        """
        reason = {"kind": failure.kind, "detail": failure.detail, "attempts": failure.attempts}
        row = {"key": key, "time": _now(), "id": request_id, "failure": reason}
        self._check_writable()
        future: Future = Future()
        self._writer.add_failure(json_line(row), future)
        return future

    def failures(self) -> Iterator[dict[str, Any]]:
        """The record of failed calls, in the order of time.

        Yields:
            `dict`: `key`, `time`, `id` and `failure`.
        """
        path = self.folder / FAILURES_NAME
        if path.exists():
            log = Log(path, read_only=True)
            try:
                yield from (row for _, _, row in log.lines(0) if row is not None and "key" in row)
            finally:
                log.close()

    def export(self, path: str | Path) -> int:
        """Writes all replies into one file, sorted by key: equal caches give equal files.

        Args:
            path (`str` or `pathlib.Path`): the file; it appears whole.

        Returns:
            `int`: how many replies it holds.
        """
        digest = hashlib.sha256()
        for key in self.keys():
            digest.update(key.encode())
        count = 0
        with atomic_file(path, "wb") as file:
            file.write(json_line({"format": LOG_FORMAT, "log": digest.hexdigest()[:16]}))
            for key in self.keys():
                if (entry := self.entry(key)) is not None:
                    file.write(json_line(entry))
                    count += 1
        return count

    def replay(self, path: str | Path) -> int:
        """Takes over the replies of an exported file, or of another cache's log. What is here already stays.

        Args:
            path (`str` or `pathlib.Path`): the file.

        Returns:
            `int`: how many replies were new.

        Raises:
            `SemiHVError`: it is no such file.
        """
        self._check_writable()
        try:
            log = Log(Path(path), read_only=True)
        except OSError as error:
            raise SemiHVError(f"{path} cannot be read: {error.strerror}.") from error
        before = len(self)
        waiting: list[Future] = []
        try:
            for _, _, row in log.lines(0):
                if row is not None and isinstance(row.get("key"), str) and len(row["key"]) == 64 and "response" in row:
                    waiting.append(Future())
                    self._writer.add(row, json_line(row), waiting[-1], at_once=False)
                if len(waiting) == MOST_IN_GROUP:
                    _wait(waiting)
        finally:
            log.close()
        _wait(waiting)
        return len(self) - before

    def _check_writable(self) -> None:
        self._after_fork()
        if self.read_only or self._closed:
            state = "opened for reading only" if self.read_only else "closed"
            raise SemiHVError(f"The cache {self.folder} is {state}; nothing can be added.")

    def _after_fork(self) -> None:
        """A forked child must not touch its parent's connections and has none of its threads: it opens its own."""
        if self._pid != os.getpid():
            self._open()

    def close(self) -> None:
        """Writes what waits and closes the files."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        self._writer.close()
        self._index.close()
        self._log.close()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _wait(futures: list[Future]) -> None:
    for future in futures:
        future.result()
    futures.clear()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
