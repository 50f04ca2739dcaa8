"""The cases of a folder in the order of its files, in blocks, with the pixels of no more than a few at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semihv_hf.data.configs import CASES
from semihv_hf.data.dataset_rows import RowFile, row_files
from semihv_hf.data.schema import Case, Fact, Label, Region, Text
from semihv_hf.errors import SemiHVError

_READ_ROWS = 8  # what a reader holds decoded at a time, beside the rows under way
_READ_BYTES = 1 << 20  # else the images of a whole row group would be read at once
_HASHED_BYTES = 1 << 20
_NESTED = {"facts": Fact, "texts": Text, "regions": Region, "labels": Label}


@dataclass(frozen=True)
class Block:
    """Some consecutive cases of one file.

    Args:
        number (`int`): its place among all blocks, counted from 0.
        path (`pathlib.Path`): the Parquet file.
        begin (`int`): its first row.
        rows (`int`): how many.
    """

    number: int
    path: Path
    begin: int
    rows: int


@dataclass(frozen=True)
class CaseFolder:
    """A folder of cases, listed.

    Args:
        folder (`pathlib.Path`): the dataset folder.
        files (`tuple[RowFile, ...]`): its files of cases.
        blocks (`tuple[Block, ...]`): their rows, in blocks.
        sources (`tuple[str, ...]`): the sources that the cases name, sorted.
        digest (`str`): of the files' names, sizes and ends.
    """

    folder: Path
    files: tuple[RowFile, ...]
    blocks: tuple[Block, ...]
    sources: tuple[str, ...]
    digest: str

    @property
    def rows(self) -> int:
        """How many cases there are."""
        return sum(block.rows for block in self.blocks)


def list_cases(folder: str | Path, splits: Sequence[str], block_rows: int, limit: int | None = None) -> CaseFolder:
    """Looks at a folder of cases without reading any.

    Args:
        folder (`str` or `pathlib.Path`): a dataset folder with the config `cases`.
        splits (`Sequence[str]`): the splits to take.
        block_rows (`int`): cases of a block.
        limit (`int`, *optional*): only the first cases.

    Returns:
        [`CaseFolder`]: the files and blocks.

    Raises:
        `SemiHVError`: there are no cases.
    """
    import pyarrow.parquet

    if not Path(folder).is_dir():
        raise SemiHVError(f"There is no folder of cases {folder}.", "Make one with `semihv build`.")
    files = [file for file in row_files(folder) if file.config == CASES and file.split in splits]
    if not files:
        raise SemiHVError(
            f"{folder} holds no cases of the splits {', '.join(splits)}.", "Give a folder that `semihv build` wrote."
        )
    left, blocks, sources, digest = limit, [], set(), hashlib.sha256()
    for file in files:
        with pyarrow.parquet.ParquetFile(file.path) as opened:
            rows = opened.metadata.num_rows if left is None else min(left, opened.metadata.num_rows)
            for batch in opened.iter_batches(columns=["source"]):
                sources.update(batch.column(0).unique().to_pylist())
        left = None if left is None else left - rows
        for begin in range(0, rows, block_rows):
            blocks.append(Block(len(blocks), file.path, begin, min(block_rows, rows - begin)))
        digest.update(f"{file.path.name} {rows} {_ends(file.path)}\n".encode())
    if not blocks:
        raise SemiHVError(f"The cases of {folder} are none.", "Give a folder that `semihv build` wrote.")
    return CaseFolder(Path(folder), tuple(files), tuple(blocks), tuple(sorted(sources)), digest.hexdigest()[:32])


def _ends(path: Path) -> str:
    """Size and hash of both ends: the footer of a Parquet file changes with every page before it."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(_HASHED_BYTES))
        file.seek(max(size - _HASHED_BYTES, 0))
        digest.update(file.read(_HASHED_BYTES))
    return f"{size} {digest.hexdigest()}"


def rows_of(blocks: Sequence[Block]) -> Iterator[tuple[Block, int, dict[str, Any]]]:
    """Reads blocks, each of a few rows at a time.

    Args:
        blocks (`Sequence[Block]`): in the order of their numbers.

    Yields:
        `tuple[Block, int, dict]`: the block, the row's place in it, and the row.
    """
    import pyarrow.parquet

    for block in blocks:
        with pyarrow.parquet.ParquetFile(block.path, pre_buffer=False, buffer_size=_READ_BYTES) as opened:
            first = 0
            for group in range(opened.metadata.num_row_groups):
                rows = opened.metadata.row_group(group).num_rows
                if first + rows > block.begin and first < block.begin + block.rows:
                    at = first
                    for batch in opened.iter_batches(batch_size=_READ_ROWS, row_groups=[group]):
                        yield from _inside(block, at, batch)
                        at += len(batch)
                first += rows


def _inside(block: Block, at: int, batch: Any) -> Iterator[tuple[Block, int, dict[str, Any]]]:
    begin, end = max(at, block.begin), min(at + len(batch), block.begin + block.rows)
    if begin >= end:
        return
    for place, row in enumerate(batch.slice(begin - at, end - begin).to_pylist(), start=begin - block.begin):
        yield block, place, row


def case_of(row: Mapping[str, Any]) -> Case:
    """A row of a file as a case.

    Args:
        row (`Mapping[str, Any]`): as Parquet gives it, images undecoded.

    Returns:
        [`Case`]: the case.
    """
    nested = {name: [kind(**item) for item in row.get(name) or ()] for name, kind in _NESTED.items()}
    images = [image["bytes"] for image in row.get("images") or ()]
    plain = {name: row[name] for name in ("id", "source", "source_id", "group", "split", "licence")}
    return Case(**plain, images=images, **nested)
