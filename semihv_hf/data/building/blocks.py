"""A block of a release: some things of its list, read into rows and kept until the shards are assembled.

A build that was killed finds the blocks that were complete and does not read those things again.
"""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SemiHVError, first_line
from ..checks import validate_case, validate_record
from ..configs import CASES, config_of
from ..schema import Case, Record
from ..sources.base import Item, Skipped, Source
from .block_file import BlockFile, BlockWriter, is_whole, new_block
from .failures import describe, is_fatal
from .listing import Listing
from .report import Counts
from .workspace import code_fingerprint, differences, working

if TYPE_CHECKING:
    import pyarrow

# What pyarrow raises for a value that does not fit its column; its own errors are ValueErrors and TypeErrors.
_NO_COLUMN = (ValueError, TypeError, OverflowError)
_DATACLASSES = {
    Case: ("facts", "texts", "regions", "labels"),
    Record: ("facts", "questions", "provenance", "evidence"),
}


@dataclass(frozen=True)
class Job:
    """What a process needs to know to build any block.

    Args:
        source ([`Source`]): the release.
        listing ([`Listing`]): its list.
        work (`pathlib.Path`): the folder of unfinished work.
        cases (`pyarrow.Schema`): the columns of cases.
        records (`pyarrow.Schema`): the columns of records.
        code (`dict`): see [`semihv_hf.data.building.workspace.code_fingerprint`].
    """

    source: Source
    listing: Listing
    work: Path
    cases: "pyarrow.Schema"
    records: "pyarrow.Schema"
    code: dict[str, Any]

    def schema(self, config: str) -> "pyarrow.Schema":
        """The columns of a config."""
        return self.cases if config == CASES else self.records

    def block_path(self, number: int) -> Path:
        """Where a block is kept."""
        return self.work / "blocks" / f"{number:08d}"


def build_block(job: Job, number: int) -> dict[str, int]:
    """Builds a block, unless it is there already.

    Args:
        job ([`Job`]): the build.
        number (`int`): the block.

    Returns:
        `dict[str, int]`: `entries`, `rows` and `skipped`, for a progress bar.
    """
    with working(job.work):
        check_code(job)
        path = job.block_path(number)
        if not (path.exists() and is_whole(path) and _still_holds(job, number)):
            path.parent.mkdir(exist_ok=True)
            # Shards of before the release was mended; none are written while a block is missing.
            shutil.rmtree(job.work / "shards", ignore_errors=True)
            refused: dict[str, str] = {}
            while found := _write(job, number, refused):
                refused.update(found)
        with BlockFile(path) as block:
            return {
                "entries": block.index["entries"],
                "rows": sum(table["rows"] for table in block.index["tables"].values()),
                "skipped": len(block.index["skipped"]),
            }


def check_code(job: Job) -> None:
    """Refuses to work for a build that runs on other code, as a machine of a cluster might have it.

    Args:
        job ([`Job`]): the build.

    Raises:
        `SemiHVError`: something has another version here.
    """
    changed = differences(job.code, code_fingerprint(type(job.source)))
    if changed:
        raise SemiHVError(
            f"A worker has other code than the build: {'; '.join(changed)}.", "Install the same on every machine."
        )


def placed_schema(schema: "pyarrow.Schema") -> "pyarrow.Schema":
    """The columns of a table in a block file: images are places in the file.

    Args:
        schema (`pyarrow.Schema`): the columns of a config.

    Returns:
        `pyarrow.Schema`: the same but for the type of `images`.
    """
    import pyarrow

    place = pyarrow.list_(pyarrow.struct([("offset", pyarrow.int64()), ("size", pyarrow.int64())]))
    return schema.set(schema.get_field_index("images"), pyarrow.field("images", place))


def _still_holds(job: Job, number: int) -> bool:
    """Whether what a finished block lacks is still unusable: the user may have mended the release since."""
    with BlockFile(job.block_path(number)) as block:
        damaged = set(block.index["damaged"])
    if not damaged:
        return True
    for position, entry in enumerate(job.listing.read(number)):
        if position in damaged:
            rows = _Rows(job.source, BlockWriter(io.BytesIO()), {})
            rows.add(entry)
            if not rows.counts.tally.damaged:
                return False
    return True


def _write(job: Job, number: int, refused: Mapping[str, str]) -> dict[str, str]:
    """Writes a block. Gives the rows that the columns cannot hold, with the reason; then nothing is written."""
    entries, damaged = 0, []
    try:
        with new_block(job.block_path(number)) as file:
            rows = _Rows(job.source, file, refused)
            for entry in job.listing.read(number):
                before = rows.counts.tally.damaged
                rows.add(entry)
                if isinstance(entry, Item) and rows.counts.tally.damaged > before:
                    damaged.append(entries)
                entries += 1
            index = {
                "entries": entries,
                "damaged": damaged,
                "tables": rows.write_tables(job),
                "skipped": rows.skipped,
                "counts": rows.counts.as_json(),
            }
            file.finish(index)
    except _Refused as error:
        return error.rows
    return {}


class _Refused(Exception):
    """Rows that the columns cannot hold."""

    def __init__(self, rows: dict[str, str]):
        self.rows = rows
        super().__init__(f"{len(rows)} rows")


class _Rows:
    """The rows of a block while they are collected; images go straight to the file.

    Args:
        source ([`Source`]): the release.
        file (`BlockWriter`): the block file.
        refused (`Mapping[str, str]`): ids of rows that the columns cannot hold, with the reason.
    """

    def __init__(self, source: Source, file: BlockWriter, refused: Mapping[str, str]):
        self.source = source
        self.file = file
        self.refused = refused
        self.counts = Counts()
        self.skipped: list[list[str]] = []
        self.tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.seen: set[str] = set()

    def add(self, entry: Item | Skipped) -> None:
        """Reads a thing that the release lists, into a case and its records, or into what was left out."""
        if isinstance(entry, Skipped):
            self._skip(entry)
            return
        for case in self._guarded(entry.source_id, self.source.read, entry):
            if isinstance(case, Skipped):
                self._skip(case)
            elif (row := self._checked(case, validate_case)) is not None:
                places = _Places(self.file, case.images)
                self._keep(CASES, case.split, row, places.of(case.images))
                self.counts.add_case(case)
                self._add_records(case, places)

    def _add_records(self, case: Case, places: "_Places") -> None:
        for record in self._guarded(case.source_id, self.source.records, case):
            if isinstance(record, Skipped):
                self._skip(record)
            elif (row := self._checked(record, validate_record)) is not None:
                config = config_of(record.task)
                self._keep(config, case.split, row, places.of(record.images))
                self.counts.add_record(config, case, record)

    def _guarded(self, source_id: str, read: Callable[[Any], Iterator], argument: Any) -> Iterator[Any]:
        """One damaged row, or a mistake in an adapter that only one row meets, must not end the build of a release."""
        try:
            yield from read(argument)
        except Exception as error:
            if is_fatal(error):
                raise
            yield Skipped(source_id, "malformed row", describe(error, self.source))

    def _checked(self, thing: Case | Record, validate: Callable[[Mapping], None]) -> dict[str, Any] | None:
        problem = self.refused.get(thing.id)
        if problem is None:
            row = plain_row(thing)
            try:
                validate(row)
            except SemiHVError as error:
                problem = error.what
        reason = "malformed row"
        if problem is None and thing.id in self.seen:
            reason, problem = "duplicate row", "the same content was read before"
        if problem is not None:
            self._skip(Skipped(thing.source_id, reason, problem))
            return None
        self.seen.add(thing.id)
        return row

    def _skip(self, skipped: Skipped) -> None:
        self.skipped.append([skipped.source_id, skipped.reason, skipped.detail])
        self.counts.tally.skipped[skipped.reason] += 1

    def _keep(self, config: str, split: str, row: dict[str, Any], images: list[dict[str, int]]) -> None:
        row["images"] = images
        self.tables.setdefault((config, split), []).append(row)

    def write_tables(self, job: Job) -> dict[str, dict[str, Any]]:
        """Writes the tables behind the images, and gives their places and about how many bytes each row takes."""
        import pyarrow.ipc

        places, refused = {}, {}
        for (config, split), rows in sorted(self.tables.items()):
            schema = placed_schema(job.schema(config))
            try:
                table = pyarrow.Table.from_pylist(rows, schema=schema)
            except _NO_COLUMN:
                refused.update(_unfit(rows, schema))
                continue
            begin = self.file.size
            stream = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(stream, schema) as writer:
                writer.write_table(table)
            self.file.write(stream.getvalue())
            # Images make up nearly all of a row; its share of the texts is close enough.
            texts = table.nbytes // len(rows)
            sizes = [texts + sum(image["size"] for image in row["images"]) for row in rows]
            place = {"offset": begin, "bytes": self.file.size - begin, "rows": len(rows), "sizes": sizes}
            places[f"{config}/{split}"] = place
        if refused:
            raise _Refused(refused)
        return places


def plain_row(thing: Case | Record) -> dict[str, Any]:
    """A row before it is written. It shares what the case or record holds: copying all of it, as `dataclasses.asdict`
    does, would take as long as decoding a small image.

    Args:
        thing ([`Case`] or [`Record`]): it must not change while the row is needed.

    Returns:
        `dict`: a row as the checks take it; images have no paths.
    """
    row = dict(vars(thing))
    for name in _DATACLASSES[type(thing)]:
        row[name] = [vars(item) for item in row[name]]
    row["images"] = [{"bytes": data} for data in thing.images]
    return row


class _Places:
    """Where the images of a case lie in the block file; each is written once, whichever rows show it."""

    def __init__(self, file: BlockWriter, images: Sequence[bytes]):
        self.file = file
        self.images = images
        self.known: dict[bytes, dict[str, int]] = {}
        self.own = [self._place(image) for image in images]

    def of(self, images: Sequence[bytes]) -> list[dict[str, int]]:
        # Nearly always these are the case's own, and comparing the objects spares hashing what they hold.
        if len(images) == len(self.images) and all(one is other for one, other in zip(images, self.images)):
            return self.own
        return [self._place(image) for image in images]

    def _place(self, image: bytes) -> dict[str, int]:
        if image not in self.known:
            self.known[image] = {"offset": self.file.size, "size": len(image)}
            self.file.write(image)
        return self.known[image]


def _unfit(rows: Sequence[Mapping[str, Any]], schema: "pyarrow.Schema") -> dict[str, str]:
    import pyarrow

    found = {}
    for row in rows:
        try:
            pyarrow.Table.from_pylist([row], schema=schema)
        except _NO_COLUMN as error:
            found[row["id"]] = f"a column cannot hold it: {first_line(error)}"[:300]
    if not found:
        raise RuntimeError("rows that no column refuses alone were refused together")
    return found
