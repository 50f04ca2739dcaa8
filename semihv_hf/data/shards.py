"""Crash-safe Parquet files: a shard appears under its name only when it is complete, the manifest comes last."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.files import sync_folder

if TYPE_CHECKING:
    from datasets import Features

ROW_GROUP = 100
ROWS_PER_SHARD = 2000


def write_shards(
    rows: Iterable[Mapping[str, Any]], folder: str | Path, split: str, features: "Features"
) -> list[dict[str, Any]]:
    """Writes rows as `<split>-00000-of-0000N.parquet`, byte for byte the same for the same rows.

    Args:
        rows (`Iterable[Mapping[str, Any]]`): the rows, in order.
        folder (`str` or `pathlib.Path`): the folder of the config.
        split (`str`): the split.
        features (`datasets.Features`): the columns.

    Returns:
        `list[dict]`: `file`, `rows`, `bytes` and `sha256` of each shard.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    try:
        for index, block in enumerate(_blocks(rows, ROWS_PER_SHARD)):
            part = folder / f".{split}-{index:05d}.{os.getpid()}.part"
            parts.append((part, len(block)))
            _write_part(part, block, features)
        shards = []
        for index, (part, count) in enumerate(parts):
            path = folder / f"{split}-{index:05d}-of-{len(parts):05d}.parquet"
            digest = hashlib.sha256(part.read_bytes()).hexdigest()
            os.replace(part, path)
            shards.append({"file": path.name, "rows": count, "bytes": path.stat().st_size, "sha256": digest})
    finally:
        for part, _ in parts:
            part.unlink(missing_ok=True)
    sync_folder(folder)
    return shards


def _write_part(part: Path, rows: list[Mapping[str, Any]], features: "Features") -> None:
    import pyarrow
    import pyarrow.parquet

    schema = features.arrow_schema
    with open(part, "wb") as file:
        # Images are compressed already; a page index lets viewers read single rows of a large shard.
        with pyarrow.parquet.ParquetWriter(file, schema, compression="snappy", write_page_index=True) as writer:
            for block in _blocks(rows, ROW_GROUP):
                writer.write_table(pyarrow.Table.from_pylist(list(block), schema=schema), row_group_size=ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())


def _blocks(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    block: list[Mapping[str, Any]] = []
    for row in rows:
        block.append(row)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
