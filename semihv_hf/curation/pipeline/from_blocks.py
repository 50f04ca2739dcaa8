"""Shards from finished blocks: whole columns are taken over, and no row becomes objects of Python again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semihv_hf.data import shards
from semihv_hf.data.building.assembly import with_images
from semihv_hf.data.building.block_file import BlockFile
from semihv_hf.data.shards import Cutter, write_grouped

if TYPE_CHECKING:
    import pyarrow


class Run(NamedTuple):
    """Consecutive rows of a block that stand in one row group of one shard.

    Args:
        shard (`int`): the number of the shard.
        group (`int`): the number of the row group, counted over all shards.
        path (`pathlib.Path`): the block.
        begin (`int`): the first row.
        rows (`int`): how many.
    """

    shard: int
    group: int
    path: Path
    begin: int
    rows: int


def write_from_blocks(
    paths: Sequence[Path], folder: Path, config: str, split: str, schema: pyarrow.Schema
) -> list[dict[str, Any]]:
    """Writes the shards of a config and split.

    They are cut as [`semihv_hf.data.shards.write_shards`] cuts them, so blocks do not show in them.

    Args:
        paths (`Sequence[pathlib.Path]`): all blocks, in order.
        folder (`pathlib.Path`): the folder of the config.
        config (`str`): the config.
        split (`str`): the split.
        schema (`pyarrow.Schema`): the columns.

    Returns:
        `list[dict]`: see [`semihv_hf.data.shards.write_shards`].
    """
    planned = groupby(_runs(paths, f"{config}/{split}"), key=lambda run: run.shard)
    made = (_groups(runs, config, split, schema) for _, runs in planned)
    return write_grouped(made, folder, split, schema)


def _runs(paths: Sequence[Path], name: str) -> Iterator[Run]:
    """The rows of all blocks, cut where a block, a row group or a shard ends."""
    cut, within = Cutter(shards.SHARD_BYTES, shards.SHARD_ROWS), Cutter(shards.ROW_GROUP_BYTES, shards.ROW_GROUP)
    shard = before = 0
    for path in paths:
        with BlockFile(path) as block:
            sizes = block.index["tables"].get(name, {"sizes": ()})["sizes"]
        run: Run | None = None
        for row, size in enumerate(sizes):
            if (at := cut.place(size)) != shard:  # a shard begins with a row group of its own
                shard, before = at, before + within.number + 1
                within = Cutter(shards.ROW_GROUP_BYTES, shards.ROW_GROUP)
            group = before + within.place(size)
            if run is not None and (run.shard, run.group) == (shard, group):
                run = run._replace(rows=run.rows + 1)
                continue
            if run is not None:
                yield run
            run = Run(shard, group, path, row, 1)
        if run is not None:
            yield run


def _groups(runs: Iterator[Run], config: str, split: str, schema: pyarrow.Schema) -> Iterator[pyarrow.Table]:
    import pyarrow

    for _, parts in groupby(runs, key=lambda run: run.group):
        tables = []
        for run in parts:
            with BlockFile(run.path) as block:
                rows = block.table(config, split).slice(run.begin, run.rows)
                tables.append(with_images(block, rows, schema))
        yield pyarrow.concat_tables(tables)
