"""Shards from blocks: which rows each holds follows from their sizes, so that each can be written on its own."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import write_json
from .. import shards
from ..shards import Cutter, shard_name, write_shard
from .block_file import BlockFile
from .blocks import Job, check_code
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
        count (`int`): how many shards the split has.
    """

    config: str
    split: str
    index: int
    first: tuple[int, int]
    stop: tuple[int, int]
    count: int

    @property
    def file(self) -> str:
        """Its file name."""
        return shard_name(self.split, self.index, self.count)

    def marker(self, work: Path) -> Path:
        """The file that says, once the shard is complete, what it holds."""
        return work / "shards" / f"{self.config}-{self.file}.json"


def survey(job: Job, out: Path) -> tuple[list[ShardPlan], Counts]:
    """Goes through all blocks: counts, writes the table of what was left out, and cuts the shards.

    Args:
        job ([`Job`]): the build.
        out (`pathlib.Path`): the dataset folder.

    Returns:
        `tuple[list[ShardPlan], Counts]`: the shards and the counts.
    """
    counts = Counts()
    totals: Counter[str] = Counter()
    rows: Counter[str] = Counter()

    def left_out() -> Iterator[dict[str, str]]:
        for index in _indexes(job):
            counts.add(Counts.from_json(index["counts"]))
            for name, table in index["tables"].items():
                totals[name] += sum(table["sizes"])
                rows[name] += table["rows"]
            for source_id, reason, detail in index["skipped"]:
                yield {"source": job.source.name, "source_id": source_id, "reason": reason, "detail": detail}

    _write_skipped(out / SKIPPED, left_out())
    return list(_cut(job, totals, rows)), counts


def _indexes(job: Job) -> Iterator[dict[str, Any]]:
    for number in job.listing.blocks:
        with BlockFile(job.block_path(number)) as block:
            yield block.index


def _cut(job: Job, totals: Mapping[str, int], rows: Mapping[str, int]) -> Iterator[ShardPlan]:
    """Shards of equal size, as few as may be: none is much smaller than the others, whoever writes or reads them."""
    counts = {
        name: max(-(-total // shards.SHARD_BYTES), -(-rows[name] // shards.SHARD_ROWS))
        for name, total in totals.items()
    }
    written: Counter[str] = Counter()
    plans: dict[str, ShardPlan] = {}
    for number, index in enumerate(_indexes(job)):
        for name, table in index["tables"].items():
            for row, size in enumerate(table["sizes"]):
                at = min(written[name] * counts[name] // max(totals[name], 1), counts[name] - 1)
                if name not in plans or plans[name].index != at:
                    if name in plans:
                        yield plans[name]
                    config, split = name.split("/")
                    plans[name] = ShardPlan(config, split, at, (number, row), (number, row), counts[name])
                plans[name].stop = (number, row + 1)
                written[name] += size
    yield from plans.values()


def _write_skipped(path: Path, rows: Iterable[dict[str, str]]) -> None:
    import pyarrow

    from ..columns import skipped_schema

    schema = skipped_schema()
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
                    group.append(with_images(block, table.slice(begin, row - begin), schema))
                    yield pyarrow.concat_tables(group)
                    group, begin, current = [], row, place
            group.append(with_images(block, table.slice(begin, stop - begin), schema))
    yield pyarrow.concat_tables(group)


def with_images(block: BlockFile, rows: "pyarrow.Table", schema: "pyarrow.Schema") -> "pyarrow.Table":
    """Puts the images of rows of a block in place of what says where they lie.

    Args:
        block ([`BlockFile`]): the block.
        rows (`pyarrow.Table`): some of its rows.
        schema (`pyarrow.Schema`): the columns of the config.

    Returns:
        `pyarrow.Table`: the rows as they are written, in one chunk a column.
    """
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
    data = numpy.empty(int(ends[-1]), numpy.uint8)
    for begin, offset, size in _runs(offsets, sizes):
        block.read_into(offset, data[begin : begin + size])
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


def _runs(offsets: Any, sizes: Any) -> Iterator[tuple[int, int, int]]:
    """Where images go, where they lie, and how many bytes they are; those that lie behind each other at once."""
    place = begin = end = 0
    for offset, size in zip(offsets.tolist(), sizes.tolist()):
        if offset != end:
            if end > begin:
                yield place, begin, end - begin
            place += end - begin
            begin = end = offset
        end += size
    if end > begin:
        yield place, begin, end - begin
