"""An append-only log of finished work that survives being killed."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from semihv_hf.errors import SemiHVError


class Journal:
    """An append-only JSONL log: each append is on disk before it returns, and a torn end is cut off when reopened.

    Args:
        path (`str` or `Path`): the log file; made on the first append.
        header (`dict`): the first line. A log that begins with another header belongs to other work and is not read.
    """

    def __init__(self, path: str | Path, header: dict):
        self.path = Path(path)
        self.header = header
        self._handle: IO[bytes] | None = None

    def load(self, *, replace: bool = True) -> tuple[list[dict], bool]:
        """Reads what is finished, and cuts off a line that was being written when the process died.

        Args:
            replace (`bool`, *optional*, defaults to `True`): whether a log of other work may be thrown away. What
                people wrote cannot be computed again, so for that it must not.

        Returns:
            `tuple[list[dict], bool]`: the rows after the header, and whether a log of other work was found and left
            unread (the next append replaces it).

        Raises:
            `SemiHVError`: it is a log of other work, and may not be thrown away.
        """
        if not self.path.exists():
            return [], False
        rows, good_end = [], 0
        with open(self.path, "rb") as handle:
            for line in handle:
                row = _parse_line(line)
                if row is None:
                    break
                rows.append(row)
                good_end += len(line)
        if not rows or rows[0] != self.header:
            foreign = bool(rows)
            if not replace and self.path.stat().st_size:
                raise SemiHVError(f"{self.path} belongs to other work.", "Choose another folder.")
            self.path.unlink()
            return [], foreign
        if good_end < self.path.stat().st_size:
            os.truncate(self.path, good_end)
        return rows[1:], False

    def append(self, rows: Iterable[dict]) -> None:
        """Adds rows in one write and syncs them to the disk.

        Args:
            rows (`Iterable[dict]`): the rows to add.
        """
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not self.path.exists() or self.path.stat().st_size == 0
            self._handle = open(self.path, "ab")
            if fresh:
                lines.insert(0, json.dumps(self.header, ensure_ascii=False) + "\n")
        self._handle.write("".join(lines).encode("utf-8"))
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Closes the file; the log can be appended to again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def delete(self) -> None:
        """Removes the log once its content lives in a finished file."""
        self.close()
        self.path.unlink(missing_ok=True)


def _parse_line(line: bytes) -> dict | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    return row if isinstance(row, dict) else None
