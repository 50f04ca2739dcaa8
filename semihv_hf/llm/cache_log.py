"""The log behind the cache: one JSON object a line, appended by several processes, synced before it counts.

A written line outlives its process at once, and a power cut only after [`Log.sync`], which several lines share.

A line is complete when it ends in a newline. A process that is killed while it writes leaves at most one torn line at
the end; whoever appends next cuts it off, which is safe because only the holder of the lock writes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError
from semihv_hf.files import sync_folder

logger = logging.getLogger(__name__)

LOG_FORMAT = "semihv-responses-1"
_BLOCK = 1 << 20


class Log:
    """An append-only file of JSON lines that several processes share.

    Args:
        path (`pathlib.Path`): the file; made, with its header, when it is first opened for writing.
        read_only (`bool`, *optional*, defaults to `False`): never write, not even a header or a lock.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path = path
        self.read_only = read_only
        self.synced = 0  # up to here the disk has the file, as far as this process knows
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._file = os.open(path, flags, 0o600)
        if not read_only:
            with self.locked():
                self.cut_torn_line()
                if self.size() == 0:
                    # The identity tells an index of this log from one of another log that was put in its place.
                    self.append([json_line({"format": LOG_FORMAT, "log": secrets.token_hex(8)})])
                    sync_folder(path.parent)
        header = parse_line(self._first_line())
        if header is None or header.get("format") != LOG_FORMAT:
            self.close()
            raise SemiHVError(f"{path} is no log of replies in the form {LOG_FORMAT}.", "Name another cache folder.")
        self.identity = str(header.get("log"))

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Holds the lock that writers need. It is the system's and ends with the process, whatever ends that.

        Args:
            wait (`bool`, *optional*, defaults to `True`): wait until it is free.

        Yields:
            `bool`: whether it is held; `False` only if it was not free and `wait` is off.
        """
        if self.read_only:
            yield True
            return
        # An own description each time: locks of one description would not keep two threads apart.
        handle = os.open(self.path, os.O_RDWR)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            # Unlocked by name: a child that was forked meanwhile has a copy of the handle, and keeps the lock with it.
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)

    def size(self) -> int:
        """The bytes in the file, those of a line that is being written included."""
        return os.fstat(self._file).st_size

    def read(self, offset: int, length: int) -> dict[str, Any] | None:
        """One line.

        Args:
            offset (`int`): where it starts.
            length (`int`): its bytes, the newline included.

        Returns:
            `dict` or `None`: `None` if no complete object stands there.
        """
        return parse_line(os.pread(self._file, length, offset))

    def lines(self, offset: int) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
        """The complete lines from an offset on; memory does not grow with the file.

        Args:
            offset (`int`): the start of a line.

        Yields:
            `tuple[int, int, dict | None]`: where the line starts, its bytes, and its object or `None` if it is
            damaged.
        """
        rest = b""
        place = offset
        while block := os.pread(self._file, _BLOCK, place):
            place += len(block)
            *complete, rest = (rest + block).split(b"\n")
            for line in complete:
                yield offset, len(line) + 1, parse_line(line + b"\n")
                offset += len(line) + 1

    def append(self, lines: list[bytes]) -> list[tuple[int, int]]:
        """Adds lines and syncs them to the disk. The caller holds the lock and has cut a torn line off.

        Args:
            lines (`list[bytes]`): what to add, as [`json_line`] makes it.

        Returns:
            `list[tuple[int, int]]`: for each its offset and its bytes.

        Raises:
            `SemiHVError`: the disk is full or the file cannot be written; nothing was added then.
        """
        start = self.size()
        try:
            _write_all(self._file, b"".join(lines))
        except OSError as error:
            os.ftruncate(self._file, start)
            raise self._failed(error) from error
        try:
            self.sync()
        except SemiHVError:
            os.ftruncate(self._file, start)
            raise
        places = []
        for line in lines:
            places.append((start, len(line)))
            start += len(line)
        return places

    def append_unsynced(self, line: bytes) -> tuple[int, int] | None:
        """Adds one line, which outlives the process; only after [`sync`] it outlives a power cut, too. The caller
        holds the lock and knows that the file ends in a whole line.

        Args:
            line (`bytes`): what to add, as [`json_line`] makes it.

        Returns:
            `tuple[int, int]` or `None`: its offset and its bytes; `None` if it could not be written, and was not.
        """
        start = self.size()
        try:
            if os.write(self._file, line) == len(line):
                return start, len(line)
        except OSError as error:
            logger.debug("%s: %s", self.path, error)  # whoever writes it again tells, if it fails again
        os.ftruncate(self._file, start)
        return None

    def sync(self) -> None:
        """Waits until the disk has all that was written before, by whichever process.

        Raises:
            `SemiHVError`: it cannot take it.
        """
        size = self.size()
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from error
        self.synced = max(self.synced, size)

    def cut_back(self, start: int) -> None:
        """Removes what stands after a line's end. The caller holds the lock and has written all of that itself.

        Args:
            start (`int`): what stands before stays.
        """
        os.ftruncate(self._file, start)
        self.synced = min(self.synced, start)

    def _failed(self, error: OSError) -> SemiHVError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "The disk is full" if full else f"Writing failed ({error.strerror})"
        return SemiHVError(f"{what}: {self.path}.", "Replies that were reported before are safe.")

    def cut_torn_line(self) -> None:
        """Removes what a killed process left after the last newline. The caller holds the lock."""
        size = end = self.size()
        while end > 0:
            start = max(0, end - 4096)
            found = os.pread(self._file, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            logger.warning("%s: removed %d bytes of a reply that was not written to its end.", self.path, size - end)
            os.ftruncate(self._file, end)

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _first_line(self) -> bytes:
        head = os.pread(self._file, 4096, 0)
        return head[: head.find(b"\n") + 1]


def json_line(row: dict[str, Any]) -> bytes:
    """One object as a line. Lone surrogates, which models do emit, are escaped.

    Args:
        row (`dict`): the object.

    Returns:
        `bytes`: ASCII JSON and a newline.
    """
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The object in a line.

    Args:
        line (`bytes`): a line with its newline.

    Returns:
        `dict` or `None`: `None` if the line is torn or damaged.
    """
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
