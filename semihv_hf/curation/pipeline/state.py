"""The unfinished work of a curation: who may write in its folder, what it is of, and its finished blocks."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.building.block_file import BlockFile, BlockWriter, is_whole, new_block
from semihv_hf.data.building.blocks import placed_schema, plain_row
from semihv_hf.data.building.workspace import differences
from semihv_hf.data.configs import CASES, config_of
from semihv_hf.data.shards import row_bytes
from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json

from .outcome import Outcome, Tally

if TYPE_CHECKING:
    import pyarrow

WORK, PLAN, MANIFEST, REPORT, CARD = ".curate", "plan.json", "curate_manifest.json", "curate_report.json", "README.md"
# Of what decides the output this is worked out from the rest, by a search that takes long.
FOUND = "duplicates_found"
# What names the case in each row of a side table, and what each side table adds.
SIDE_TABLES = {
    "failures": ("case_id", "source", "source_id", "stage", "task", "kind", "detail", "attempts"),
    "rejected": ("case_id", "source", "source_id", "task", "rule", "detail"),
    "skipped": ("source", "source_id", "reason", "detail"),
}
_NUMBERS = ("attempts",)


@contextmanager
def only_one(out: Path) -> Iterator[Path]:
    """Takes the folder for one run.

    Args:
        out (`pathlib.Path`): the dataset folder.

    Yields:
        `pathlib.Path`: where unfinished work lies.

    Raises:
        `SemiHVError`: another run works there.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SemiHVError(f"A curation is running in {out}.", "Wait for it, or choose another folder.") from error
        yield work


def take_up(out: Path, made_of: Mapping[str, Any], *, overwrite: bool) -> None:
    """Starts the work in a folder, or goes on with the same one.

    Changed code is no other curation: its blocks are made anew, from answers that were paid for.

    Args:
        out (`pathlib.Path`): the dataset folder.
        made_of (`Mapping[str, Any]`): what decides the output.
        overwrite (`bool`): whether another curation in that folder may be thrown away; answers stay.

    Raises:
        `SemiHVError`: another curation, or something else, is in the folder.
    """
    wanted = json.loads(json.dumps(made_of))
    there = _read_json(out / WORK / PLAN) or (_read_json(out / MANIFEST) or {}).get("made_of")
    if there == wanted:
        write_json(out / WORK / PLAN, wanted)
        return
    changed = [] if there is None else differences({**there, "code": wanted["code"]}, wanted)
    if changed and not overwrite:
        raise SemiHVError(
            f"{out} holds another curation: {'; '.join(changed)}.",
            "Choose another folder, or replace it with --overwrite; answers that were paid for are kept.",
        )
    if there is None and (out / "data").exists() and not overwrite:
        raise SemiHVError(f"{out} holds data that is not of a curation.", "Choose another folder, or --overwrite it.")
    (out / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(out / WORK / "blocks", ignore_errors=True)
    write_json(out / WORK / PLAN, wanted)


def finished(out: Path, made_of: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of this very curation, where it is finished and nothing failed.

    Args:
        out (`pathlib.Path`): the dataset folder.
        made_of (`Mapping[str, Any]`): what decides the output.

    Returns:
        `dict` or `None`: the report.
    """
    manifest = _read_json(out / MANIFEST)
    if manifest is None:
        return None
    wanted, there = json.loads(json.dumps(made_of)), manifest["made_of"]
    if wanted[FOUND] is None:  # not searched for: the same search over the same cases would find the same
        there = {**there, FOUND: None}
    if there != wanted:
        return None
    report = _read_json(out / REPORT)
    return report if report is not None and not report["failures"] else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def block_path(work: Path, number: int) -> Path:
    """Where a finished block is kept."""
    return work / "blocks" / f"{number:08d}"


def is_done(work: Path, number: int) -> bool:
    """Whether a block is finished, and none of its cases failed.

    Args:
        work (`pathlib.Path`): the folder of unfinished work.
        number (`int`): the block.
    """
    path = block_path(work, number)
    if not (path.exists() and is_whole(path)):
        return False
    with BlockFile(path) as block:
        return not block.index["tally"]["failures"]


class OpenBlock:
    """A block whose cases are being done. Pixels of a finished case go to the disk at once, its texts when all are.

    Args:
        path (`pathlib.Path`): the file.
        rows (`int`): how many cases it has.
        schemas (`Mapping[str, pyarrow.Schema]`): the columns of cases and of records.
    """

    def __init__(self, path: Path, rows: int, schemas: Mapping[str, pyarrow.Schema]):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.missing = rows
        self._schemas = schemas
        self._context = new_block(path)
        self._file: BlockWriter = self._context.__enter__()
        self._kept: dict[int, tuple[list[tuple[str, str, dict]], dict[str, list[dict]], Tally]] = {}

    def add(self, place: int, outcome: Outcome) -> None:
        """Takes what became of a case.

        Args:
            place (`int`): its row in the block.
            outcome ([`Outcome`]): what became of it.
        """
        rows: list[tuple[str, str, dict]] = []
        known: dict[int, dict[str, int]] = {}
        if outcome.case is not None and outcome.left_out is None:
            rows.append((CASES, outcome.case.split, self._placed(outcome.case, known)))
            for record in outcome.records:
                rows.append((config_of(record.task), outcome.case.split, self._placed(record, known)))
        tally = Tally()
        tally.add(outcome)
        self._kept[place] = (rows, side_rows(outcome), tally)
        self.missing -= 1

    def _placed(self, thing: Any, known: dict[int, dict[str, int]]) -> dict[str, Any]:
        row = plain_row(thing)
        row["images"] = [self._place(image, known) for image in thing.images]
        return row

    def _place(self, image: bytes, known: dict[int, dict[str, int]]) -> dict[str, int]:
        """A record shows the very objects of its case: these are written once."""
        if id(image) not in known:
            known[id(image)] = {"offset": self._file.size, "size": len(image)}
            self._file.write(image)
        return known[id(image)]

    def finish(self) -> Tally:
        """Writes the tables behind the images; the file appears.

        Returns:
            [`Tally`]: the counts of the block.
        """
        tables: dict[tuple[str, str], list[dict]] = {}
        side: dict[str, list[dict]] = {name: [] for name in SIDE_TABLES}
        tally = Tally()
        for _, (rows, more, counts) in sorted(self._kept.items()):
            for config, split, row in rows:
                tables.setdefault((config, split), []).append(row)
            for name, found in more.items():
                side[name].extend(found)
            tally.update(counts)
        places = {f"{config}/{split}": self._write(config, rows) for (config, split), rows in sorted(tables.items())}
        self._file.finish({"tables": places, "side": side, "tally": tally.as_json()})
        self._context.__exit__(None, None, None)
        return tally

    def _write(self, config: str, rows: list[dict]) -> dict[str, Any]:
        import pyarrow
        import pyarrow.ipc

        schema = placed_schema(self._schemas[CASES if config == CASES else "records"])
        begin = self._file.size
        stream = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(stream, schema) as writer:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        self._file.write(stream.getvalue())
        # By these the shards are cut: they follow from the rows alone, so that blocks of another size change nothing.
        sizes = [row_bytes(row) + sum(image["size"] for image in row["images"]) for row in rows]
        return {"offset": begin, "bytes": self._file.size - begin, "rows": len(rows), "sizes": sizes}

    def drop(self) -> None:
        """Throws away what is there."""
        self._context.__exit__(_Dropped, _Dropped(), None)


class _Dropped(Exception):
    """A block that is not finished."""


def side_rows(outcome: Outcome) -> dict[str, list[dict[str, Any]]]:
    """A case's rows of the tables of failures, rejections and cases that are left out."""
    who = {"case_id": outcome.case_id, "source": outcome.source, "source_id": outcome.source_id}
    reason = outcome.left_out
    skipped = [] if reason is None else [{**who, "reason": reason[0], "detail": reason[1]}]
    return {
        "failures": [{**who, **failure} for failure in outcome.failures],
        "rejected": [{**who, **item} for item in outcome.rejected],
        "skipped": [{name: row[name] for name in SIDE_TABLES["skipped"]} for row in skipped],
    }


def block_index(path: Path) -> dict[str, Any]:
    """The tables, side tables and counts of a block.

    Args:
        path (`pathlib.Path`): the block.
    """
    with BlockFile(path) as block:
        return block.index


def side_schema(name: str) -> pyarrow.Schema:
    """The columns of a side table.

    Args:
        name (`str`): one of `SIDE_TABLES`.
    """
    import pyarrow

    kinds: Sequence[tuple[str, Any]] = [
        (column, pyarrow.int32() if column in _NUMBERS else pyarrow.string()) for column in SIDE_TABLES[name]
    ]
    return pyarrow.schema(kinds)


def clear(out: Path, *, keep: bool) -> None:
    """Removes what a finished curation does not need any more.

    Args:
        out (`pathlib.Path`): the dataset folder.
        keep (`bool`): whether finished blocks stay, for the next run to go on from.
    """
    if not keep:
        shutil.rmtree(out / WORK, ignore_errors=True)
        return
    for path in (out / WORK / "blocks").glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sweep(work: Path) -> None:
    """Removes the halves that a killed run left.

    Args:
        work (`pathlib.Path`): the folder of unfinished work.
    """
    for path in [*work.glob("blocks/.*.tmp"), *work.parent.glob(".*.tmp"), *work.parent.glob("data/*/.*")]:
        if path.is_file():
            os.unlink(path)
    for path in work.glob("duplicates/.scratch-*"):
        shutil.rmtree(path, ignore_errors=True)
