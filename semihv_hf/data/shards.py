"""Crash-safe Parquet files: a shard appears under its name only when it is complete, the manifest comes last.

A shard ends before the row that would take it over `SHARD_BYTES` or `SHARD_ROWS`, a row group after `ROW_GROUP` rows,
or earlier where they are large. Both depend on the rows alone, so the same rows give the same bytes everywhere.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..files import atomic_file, sync_folder

if TYPE_CHECKING:
    import pyarrow

ROW_GROUP = 100
ROW_GROUP_BYTES = 32 << 20  # what a reader must hold; studies of many images would make a hundred rows huge
# Below 500 MB: what Parquet adds, and the last row, must fit in as well.
SHARD_BYTES = 480_000_000
SHARD_ROWS = 20_000  # small rows: what a writer and a reader must know of every row group would fill their memory
_SENT_BYTES = 16 << 20
_VALUES_A_LOOK = 8
_ENCODED_IMAGES = "images.list.element.bytes"


class Cutter:
    """Cuts a sequence of rows into pieces of bounded size.

    Args:
        most_bytes (`int`): the most bytes of a piece; a single row that is larger is a piece of its own.
        most_rows (`int`, *optional*): the most rows of a piece.
    """

    def __init__(self, most_bytes: int, most_rows: int | None = None):
        self.most_bytes = most_bytes
        self.most_rows = most_rows
        self.number = self.rows = self.bytes = 0

    def place(self, size: int) -> int:
        """The piece of the next row.

        Args:
            size (`int`): the row's bytes.

        Returns:
            `int`: the number of its piece, counted from 0.
        """
        if self.rows and (self.bytes + size > self.most_bytes or self.rows == self.most_rows):
            self.number += 1
            self.rows = self.bytes = 0
        self.rows += 1
        self.bytes += size
        return self.number


def row_bytes(row: Any) -> int:
    """About how many bytes a row, or a part of one, takes.

    Args:
        row (`Any`): texts, bytes and numbers in lists and dictionaries.

    Returns:
        `int`: at least what its texts and bytes take uncompressed.
    """
    if isinstance(row, bytes):
        return len(row) + 8
    if isinstance(row, str):
        return (len(row) if row.isascii() else len(row.encode())) + 8
    if row is None or isinstance(row, int | float):
        return 8
    if isinstance(row, list | tuple):
        return sum(map(row_bytes, row)) + 8
    if isinstance(row, dict) or isinstance(row, Mapping):  # to ask whether it is a Mapping takes longer
        return sum(map(row_bytes, row.values()))
    return 8


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of a shard, as `datasets` and the Hub expect it.

    Args:
        split (`str`): the split.
        index (`int`): its number, counted from 0.
        count (`int`): how many shards the split has.

    Returns:
        `str`: for example `"train-00000-of-00003.parquet"`.
    """
    return f"{split}-{index:05d}-of-{count:05d}.parquet"


def write_shards(
    rows: Iterable[Mapping[str, Any]], folder: str | Path, split: str, schema: "pyarrow.Schema"
) -> list[dict[str, Any]]:
    """Writes rows as `<split>-00000-of-0000N.parquet`, byte for byte the same for the same rows.

    Args:
        rows (`Iterable[Mapping[str, Any]]`): the rows, in order.
        folder (`str` or `pathlib.Path`): the folder of the config.
        split (`str`): the split.
        schema (`pyarrow.Schema`): the columns.

    Returns:
        `list[dict]`: `file`, `rows`, `bytes` and `sha256` of each shard.
    """
    import pyarrow

    def groups(shard: Iterable[Mapping[str, Any]]) -> Iterator["pyarrow.Table"]:
        cutter = Cutter(ROW_GROUP_BYTES, ROW_GROUP)
        for _, group in groupby(shard, key=lambda row: cutter.place(row_bytes(row))):
            yield pyarrow.Table.from_pylist(list(group), schema=schema)

    cutter = Cutter(SHARD_BYTES, SHARD_ROWS)
    shards = groupby(rows, key=lambda row: cutter.place(row_bytes(row)))
    return write_grouped((groups(shard) for _, shard in shards), folder, split, schema)


def write_grouped(
    shards: Iterable[Iterable["pyarrow.Table"]], folder: str | Path, split: str, schema: "pyarrow.Schema"
) -> list[dict[str, Any]]:
    """Writes shards whose row groups are made already.

    Args:
        shards (`Iterable[Iterable[pyarrow.Table]]`): the row groups of each shard; each is gone through before the
            next is asked for.
        folder (`str` or `pathlib.Path`): the folder of the config.
        split (`str`): the split.
        schema (`pyarrow.Schema`): the columns.

    Returns:
        `list[dict]`: see [`write_shards`].
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Any]] = []
    try:
        for index, tables in enumerate(shards):
            parts.append(write_shard(folder / f".{split}-{index:05d}.{os.getpid()}.part", tables, schema))
        written = []
        for index, part in enumerate(parts):
            name = shard_name(split, index, len(parts))
            os.replace(folder / part["file"], folder / name)
            written.append({**part, "file": name})
    finally:
        for part in parts:
            (folder / part["file"]).unlink(missing_ok=True)
    sync_folder(folder)
    return written


def write_shard(path: str | Path, groups: Iterable["pyarrow.Table"], schema: "pyarrow.Schema") -> dict[str, Any]:
    """Writes one Parquet file that is there as a whole or not at all.

    Args:
        path (`str` or `pathlib.Path`): the file.
        groups (`Iterable[pyarrow.Table]`): its row groups.
        schema (`pyarrow.Schema`): the columns.

    Returns:
        `dict`: `file` (its name), `rows`, `bytes` and `sha256`.
    """
    import pyarrow.parquet

    path = Path(path)
    count = 0
    with atomic_file(path, "wb") as file:
        hashed = _Hashed(file)
        with pyarrow.parquet.ParquetWriter(hashed, schema, **_parquet_options(schema)) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(len(group), 1))
                count += len(group)
                del group  # or it would be held while the next one is made
                hashed.send_to_disk()
    return {"file": path.name, "rows": count, "bytes": hashed.size, "sha256": hashed.digest.hexdigest()}


class _Hashed:
    """A file that is hashed while it is written: reading half a gigabyte again takes longer than hashing it."""

    closed = False

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.digest = hashlib.sha256()
        self.size = self.sent = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing: the whole file is put on the disk at the end."""

    def send_to_disk(self) -> None:
        """Lets the system begin to write what has come, so that little is left to wait for at the end."""
        if self.size - self.sent >= _SENT_BYTES and hasattr(os, "posix_fadvise"):
            self.file.flush()
            os.posix_fadvise(self.file.fileno(), self.sent, self.size - self.sent, os.POSIX_FADV_DONTNEED)
            self.sent = self.size


def _parquet_options(schema: "pyarrow.Schema") -> dict[str, Any]:
    """Images are compressed already and hardly repeat, so nothing but copying is spent on them."""
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(schema.empty_table(), sink)
    leaves = pyarrow.parquet.read_metadata(pyarrow.BufferReader(sink.getvalue())).schema
    names = [leaves.column(index).path for index in range(len(leaves))]
    plain = [name for name in names if name != _ENCODED_IMAGES]
    return {
        "compression": {name: "snappy" if name in plain else "none" for name in names},
        "use_dictionary": plain,
        "write_statistics": plain,
        # A page index lets viewers read single rows of a large shard.
        "write_page_index": True,
        # Whether a page is full is asked after so many values. By default that is never within a row group, and its
        # images would be one page, which is held three times while it is written and once more by each reader.
        "write_batch_size": _VALUES_A_LOOK,
    }
