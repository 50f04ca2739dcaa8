"""Shards from blocks: which rows each holds follows from their sizes, so that each can be written on its own."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import write_json
from .. import shards
from ..shards import Cutter, shard_name, write_shard
from .blocks import BlockFile, Job, check_code
from .report import Counts
from .workspace import SKIPPED, working

if TYPE_CHECKING:
    import pyarrow

_SKIPPED_GROUP = 10_000


@dataclass
class ShardPlan:
    """The rows of one shard: from a row of one block up to, but not, a row of another.

    Args:
        config (`str`): the config.
        split (`str`): the split.
        index (`int`): its number among the shards of the split.
        first (`tuple[int, int]`): block and row where it begins.
        stop (`tuple[int, int]`): block and row before which it ends.
        count (`int`, *optional*, defaults to 0): how many shards the split has.
    """

    config: str
    split: str
    index: int
    first: tuple[int, int]
    stop: tuple[int, int]
    count: int = 0

    @property
    def file(self) -> str:
        """Its file name."""
        return shard_name(self.split, self.index, self.count)

    def marker(self, work: Path) -> Path:
        """The file that says, once the shard is complete, what it holds."""
        return work / "shards" / f"{self.config}-{self.file}.json"


def survey(job: Job, blocks: int, out: Path) -> tuple[list[ShardPlan], Counts]:
    """Goes through all blocks once: cuts the shards, counts, and writes the table of what was left out.

    Args:
        job ([`Job`]): the build.
        blocks (`int`): how many blocks there are.
        out (`pathlib.Path`): the dataset folder.

    Returns:
        `tuple[list[ShardPlan], Counts]`: the shards and the counts.
    """
    counts, plans = Counts(), []
    open_plans: dict[tuple[str, str], tuple[Cutter, ShardPlan]] = {}

    def left_out() -> Iterator[dict[str, str]]:
        for number in range(blocks):
            with BlockFile(job.block_path(number)) as block:
                index = block.index
            counts.add(Counts.from_json(index["counts"]))
            for name, table in index["tables"].items():
                config, split = name.split("/")
                plans.extend(_cut(open_plans, config, split, number, table["sizes"]))
            for source_id, reason, detail in index["skipped"]:
                yield {"source": job.source.name, "source_id": source_id, "reason": reason, "detail": detail}

    _write_skipped(out / SKIPPED, left_out())
    numbers: dict[tuple[str, str], int] = {}
    for plan in plans:
        numbers[plan.config, plan.split] = plan.index + 1
    for plan in plans:
        plan.count = numbers[plan.config, plan.split]
    return plans, counts


def _cut(open_plans: dict, config: str, split: str, block: int, sizes: Iterable[int]) -> Iterator[ShardPlan]:
    """Takes the rows of a block into account; yields each shard that begins with one of them."""
    key = (config, split)
    for row, size in enumerate(sizes):
        if key not in open_plans:
            cutter = Cutter(shards.SHARD_BYTES)
            plan = None
        else:
            cutter, plan = open_plans[key]
        index = cutter.place(size)
        if plan is None or index != plan.index:
            plan = ShardPlan(config, split, index, (block, row), (block, row))
            yield plan
        plan.stop = (block, row + 1)
        open_plans[key] = (cutter, plan)


def _write_skipped(path: Path, rows: Iterable[dict[str, str]]) -> None:
    import pyarrow

    from ..features import skipped_features

    schema = skipped_features().arrow_schema
    cutter = Cutter(shards.ROW_GROUP_BYTES, _SKIPPED_GROUP)
    groups = groupby(rows, key=lambda row: cutter.place(shards.row_bytes(row)))
    write_shard(path, (pyarrow.Table.from_pylist(list(group), schema=schema) for _, group in groups), schema)


def assemble_shard(job: Job, out: Path, plan: ShardPlan) -> dict[str, Any]:
    """Writes a shard, unless it is there already.

    Args:
        job ([`Job`]): the build.
        out (`pathlib.Path`): the dataset folder.
        plan ([`ShardPlan`]): the shard.

    Returns:
        `dict`: `config`, `split`, `index`, and what [`semihv_hf.data.shards.write_shard`] gives.
    """
    with working(job.work):
        check_code(job)
        marker = plan.marker(job.work)
        if not marker.exists():
            schema = job.schema(plan.config)
            written = write_shard(out / "data" / plan.config / plan.file, _groups(job, plan, schema), schema)
            write_json(marker, {"config": plan.config, "split": plan.split, "index": plan.index, **written})
        return json.loads(marker.read_text(encoding="utf-8"))


def _groups(job: Job, plan: ShardPlan, schema: "pyarrow.Schema") -> Iterator["pyarrow.Table"]:
    """The row groups of a shard. Blocks do not show in them."""
    import pyarrow

    cutter = Cutter(shards.ROW_GROUP_BYTES, shards.ROW_GROUP)
    group: list[pyarrow.Table] = []
    current = 0
    for number in range(plan.first[0], plan.stop[0] + 1):
        with BlockFile(job.block_path(number)) as block:
            table = block.table(plan.config, plan.split)
            if table is None:
                continue
            sizes = block.index["tables"][f"{plan.config}/{plan.split}"]["sizes"]
            first = plan.first[1] if number == plan.first[0] else 0
            stop = plan.stop[1] if number == plan.stop[0] else len(sizes)
            begin = first
            for row in range(first, stop):
                place = cutter.place(sizes[row])
                if place != current:
                    group.append(_with_images(block, table.slice(begin, row - begin), schema))
                    yield pyarrow.concat_tables(group)
                    group, begin, current = [], row, place
            group.append(_with_images(block, table.slice(begin, stop - begin), schema))
    yield pyarrow.concat_tables(group)


def _with_images(block: BlockFile, rows: "pyarrow.Table", schema: "pyarrow.Schema") -> "pyarrow.Table":
    """Puts the images of rows of a block in place of what says where they lie."""
    import numpy
    import pyarrow

    rows = rows.combine_chunks()
    column = schema.get_field_index("images")
    if not len(rows):
        return schema.empty_table()
    places = rows["images"].chunk(0)
    flat = places.flatten()
    offsets, sizes = (flat.field(name).to_numpy() for name in ("offset", "size"))
    ends = numpy.concatenate([[0], numpy.cumsum(sizes)]).astype(numpy.int32)
    data = b"".join(_read_runs(block, offsets, sizes))
    encoded = pyarrow.BinaryArray.from_buffers(
        pyarrow.binary(), len(sizes), [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(data)]
    )
    kind = schema.field("images").type
    images = pyarrow.StructArray.from_arrays(
        [encoded, pyarrow.nulls(len(sizes), pyarrow.string())], fields=list(kind.value_type)
    )
    bounds = pyarrow.array(places.offsets.to_numpy() - places.offsets[0].as_py(), pyarrow.int32())
    arrays = [
        pyarrow.ListArray.from_arrays(bounds, images, type=kind) if index == column else rows.column(index).chunk(0)
        for index in range(len(schema))
    ]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def _read_runs(block: BlockFile, offsets: Any, sizes: Any) -> Iterator[bytes]:
    """Reads images; those that lie behind each other at once."""
    begin = end = 0
    for offset, size in zip(offsets.tolist(), sizes.tolist()):
        if offset != end or end == begin:
            if end > begin:
                yield block.bytes(begin, end - begin)
            begin = offset
            end = offset
        end += size
    if end > begin:
        yield block.bytes(begin, end - begin)
