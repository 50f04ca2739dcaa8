"""Whole files that appear at once: after a crash a file is absent, old, or complete, never half."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# `json.dumps` would make an encoder anew for every row.
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """One text for one value, so that equal values have equal hashes and equal files.

    Args:
        value (`Any`): anything that JSON can hold.

    Returns:
        `str`: JSON with sorted keys and no superfluous space.
    """
    return _CANONICAL.encode(value)


@contextmanager
def atomic_file(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary neighbour of `path` that takes its place, complete and synced, when the block ends well.

    Args:
        path (`str` or `Path`): the file to write; missing folders are made.
        mode (`str`, *optional*, defaults to `"w"`): `"w"` for UTF-8 text or `"wb"` for bytes.

    Yields:
        `IO`: the open temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: str | Path) -> None:
    """Puts the names in a folder on the disk: a rename survives a power cut only after this.

    Args:
        folder (`str` or `Path`): the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> str:
    """Writes UTF-8 text through [`atomic_file`].

    Args:
        path (`str` or `Path`): the file to write.
        text (`str`): its content.

    Returns:
        `str`: the sha256 of the bytes written.
    """
    data = text.encode("utf-8")
    with atomic_file(path, "wb") as handle:
        handle.write(data)
    return hashlib.sha256(data).hexdigest()


def write_json(path: str | Path, value: Any) -> str:
    """Writes indented JSON through [`atomic_file`].

    Args:
        path (`str` or `Path`): the file to write.
        value (`Any`): anything that JSON can hold; NaN and infinity are refused, see [`finite_numbers`].

    Returns:
        `str`: the sha256 of the bytes written.

    Raises:
        `ValueError`: for NaN and infinity, which JSON cannot hold.
    """
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite_numbers(value: Any) -> Any:
    """
    A value that [`write_json`] takes: `None` in place of NaN and infinity. Whoever uses it says elsewhere in the file
    which numbers these were.

    Args:
        value (`Any`): numbers, texts, and lists and dictionaries of these.

    Returns:
        `Any`: a copy.
    """
    if isinstance(value, dict):
        return {key: finite_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_numbers(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Writes one JSON object a line, all at once.

    Args:
        path (`str` or `Path`): the file to write.
        rows (`Iterable[dict]`): the rows, in the order of the file.
    """
    with atomic_file(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: str | Path) -> list[dict]:
    """Reads a complete file of one JSON object a line.

    Args:
        path (`str` or `Path`): the file to read.

    Returns:
        `list[dict]`: the rows.

    Raises:
        SemiHVError: a line is not a JSON object.
    """
    from semihv_hf.errors import SemiHVError

    rows = []
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise SemiHVError(
                    f"{path}, line {number}, is not a JSON object.", "Delete the file and write it anew."
                )
            rows.append(row)
    return rows
