"""What there is to look at: single records, or two records that answer the same prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from semihv_hf.data.configs import RECORD_CONFIGS
from semihv_hf.data.dataset_rows import RowFile, row_files
from semihv_hf.data.schema import content_id
from semihv_hf.errors import SemiHVError
from semihv_hf.files import canonical_json

RECORD, PAIR = "record", "pair"
_LOOKED_AT = ["id", "case_id", "task", "messages"]


@dataclass(frozen=True)
class Place:
    """Where a record stands.

    Args:
        folder (`int`): which of the folders.
        file (`int`): which of its files.
        group (`int`): the row group.
        row (`int`): the row in it.
    """

    folder: int
    file: int
    group: int
    row: int


@dataclass(frozen=True)
class Item:
    """One thing to decide about.

    Args:
        id (`str`): the record's id; of a pair a name that both ids give.
        kind (`str`): `"record"` or `"pair"`.
        places (`tuple[Place, ...]`): one record, or the two of a pair in the order in which they are shown.
        records (`tuple[str, ...]`): their ids, in the same order.
        task (`str`): what they are.
    """

    id: str
    kind: str
    places: tuple[Place, ...]
    records: tuple[str, ...]
    task: str


class RecordFolders:
    """Folders of records, read one row at a time.

    Args:
        folders (`Sequence[str | Path]`): what `semihv build`, `semihv curate` or this package's exports wrote.

    Raises:
        `SemiHVError`: a folder holds no records.
    """

    def __init__(self, folders: Sequence[str | Path]):
        self.folders = [Path(folder) for folder in folders]
        self.files: list[list[RowFile]] = []
        for folder in self.folders:
            found = [file for file in row_files(folder) if file.config in RECORD_CONFIGS]
            if not found:
                raise SemiHVError(
                    f"{folder} holds no records.", "Give a folder that `semihv curate` or `build` wrote."
                )
            self.files.append(found)
        self._group = lru_cache(maxsize=4)(self._read_group)

    def places(self, folder: int) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Goes through the records of a folder.

        Args:
            folder (`int`): which one.

        Yields:
            `tuple[Place, dict]`: where a record stands, and its `id`, `case_id`, `task` and `messages`.
        """
        import pyarrow.parquet

        for number, file in enumerate(self.files[folder]):
            with pyarrow.parquet.ParquetFile(file.path) as opened:
                for group in range(opened.metadata.num_row_groups):
                    for row, values in enumerate(opened.read_row_group(group, columns=_LOOKED_AT).to_pylist()):
                        yield Place(folder, number, group, row), values

    def read(self, place: Place) -> dict[str, Any]:
        """A whole record.

        Args:
            place ([`Place`]): where it stands.

        Returns:
            `dict`: the row, its images as `{"bytes": ..., "path": ...}`.
        """
        return self._group(place.folder, place.file, place.group).slice(place.row, 1).to_pylist()[0]

    def file(self, place: Place) -> RowFile:
        """The file in which a record stands, which says its config and split."""
        return self.files[place.folder][place.file]

    def _read_group(self, folder: int, file: int, group: int):
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.files[folder][file].path) as opened:
            return opened.read_row_group(group)


def list_records(folders: RecordFolders, *, tasks: Sequence[str] = (), sample: int | None = None, seed: int = 0):
    """The records of the first folder, in an order that the seed decides, so that any first part is a fair sample.

    Args:
        folders ([`RecordFolders`]): the folder.
        tasks (`Sequence[str]`, *optional*): only these tasks.
        sample (`int`, *optional*): only so many.
        seed (`int`, *optional*, defaults to 0): the order.

    Returns:
        `list[Item]`: the records.
    """
    found = [
        Item(row["id"], RECORD, (place,), (row["id"],), row["task"])
        for place, row in folders.places(0)
        if not tasks or row["task"] in tasks
    ]
    return _drawn(found, sample, seed)


def list_pairs(
    folders: RecordFolders, *, tasks: Sequence[str] = (), sample: int | None = None, seed: int = 0
) -> tuple[list[Item], int]:
    """Records of two folders that give different answers to the same prompt about the same case.

    Which of the two is shown first is drawn for each pair, so that a liking for the first place evens out.

    Args:
        folders ([`RecordFolders`]): the two folders.
        tasks (`Sequence[str]`, *optional*): only these tasks.
        sample (`int`, *optional*): only so many.
        seed (`int`, *optional*, defaults to 0): the order of pairs, and of the two in each.

    Returns:
        `tuple[list[Item], int]`: the pairs, and how many records of the first folder have no counterpart.
    """
    others: dict[str, tuple[Place, dict[str, Any]]] = {}
    for place, row in folders.places(1):
        others.setdefault(_prompt_key(row), (place, row))
    pairs, alone = [], 0
    for place, row in folders.places(0):
        if tasks and row["task"] not in tasks:
            continue
        other = others.get(_prompt_key(row))
        if other is None or other[1]["messages"] == row["messages"]:
            alone += 1
            continue
        both = [(place, row["id"]), (other[0], other[1]["id"])]
        name = content_id(PAIR, *sorted(record for _, record in both))
        if int(content_id(str(seed), name)[:8], 16) % 2:
            both.reverse()
        places, records = zip(*both)
        pairs.append(Item(name, PAIR, places, records, row["task"]))
    return _drawn(pairs, sample, seed), alone


def prompt_of(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of a conversation but its last answer."""
    return list(messages[:-1])


def _prompt_key(row: dict[str, Any]) -> str:
    return content_id(row["case_id"], row["task"], canonical_json(prompt_of(row["messages"])))


def _drawn(items: list[Item], sample: int | None, seed: int) -> list[Item]:
    unique = {item.id: item for item in items}.values()
    ordered = sorted(unique, key=lambda item: content_id(str(seed), item.id))
    return ordered if sample is None else ordered[:sample]
