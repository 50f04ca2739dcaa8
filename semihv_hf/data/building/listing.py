"""The list of a release on disk, cut into blocks that any process can read on its own."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import SemiHVError
from ...files import atomic_file, canonical_json, write_json
from ..sources.base import Item, Skipped, Source
from ..tables import DiskTable
from .failures import FATAL, describe

# How many things of a release a block holds: what each process does again, at most, after a crash. Fewer where there
# are few, which are often whole volumes, so that all processes of a large machine have something to do.
LEAST, MOST = 8, 256
_BLOCKS = 64


@dataclass(frozen=True)
class Listing:
    """What a release lists.

    Args:
        path (`pathlib.Path`): one line of JSON a thing, in the order of the release.
        offsets (`list[int]`): the byte at which every `LEAST`-th thing begins.
        entries (`int`): how many things are listed.
        block (`int`): how many of them are in a block, a multiple of `LEAST`.
    """

    path: Path
    offsets: list[int]
    entries: int
    block: int

    @property
    def blocks(self) -> range:
        """The numbers of the blocks."""
        return range(-(-self.entries // self.block))

    def lines(self, block: int) -> list[bytes]:
        """The lines of a block.

        Args:
            block (`int`): its number, counted from 0.

        Returns:
            `list[bytes]`: one JSON text each.
        """
        first = block * self.block
        with open(self.path, "rb") as file:
            file.seek(self.offsets[first // LEAST])
            return [file.readline() for _ in range(min(self.block, self.entries - first))]

    def read(self, block: int) -> Iterator[Item | Skipped]:
        """Reads a block of the list.

        Args:
            block (`int`): its number, counted from 0.

        Yields:
            [`Item`] or [`Skipped`]: what is listed there.
        """
        for line in self.lines(block):
            entry = json.loads(line)
            yield Skipped(*entry["skipped"]) if "skipped" in entry else Item(**entry)


def list_release(work: Path, source: Source, limit: int | None, tell: Callable[[int], None]) -> Listing:
    """Lists a release once; a build that goes on finds the list complete.

    Args:
        work (`pathlib.Path`): the folder of unfinished work.
        source ([`Source`]): the release.
        limit (`int` or `None`): stop after so many items.
        tell (`Callable[[int], None]`): called with the number of things listed so far.

    Returns:
        [`Listing`]: the list.

    Raises:
        `SemiHVError`: the release's own tables are damaged, or it lists nothing.
    """
    path, marker = work / "listing.jsonl", work / "listing.json"
    if not marker.exists():
        offsets, entries = [], 0
        with atomic_file(path, "wb") as file:
            for entry in listed(source, limit):
                if entries % LEAST == 0:
                    offsets.append(file.tell())
                    tell(entries)
                file.write(canonical_json(_as_json(entry)).encode("utf-8", "surrogatepass") + b"\n")
                entries += 1
        write_json(marker, {"offsets": offsets, "entries": entries})
    found = json.loads(marker.read_text(encoding="utf-8"))
    if not found["entries"]:
        raise SemiHVError(f"The {source.name} release lists nothing.", "See whether its tables are complete.")
    tell(found["entries"])
    block = min(max(found["entries"] // _BLOCKS // LEAST * LEAST, LEAST), MOST)
    return Listing(path, found["offsets"], found["entries"], block)


def listed(source: Source, limit: int | None = None) -> Iterator[Item | Skipped]:
    """What a release lists; something that is listed again under the same name is a duplicate.

    Args:
        source ([`Source`]): the release.
        limit (`int`, *optional*): stop after so many items.

    Yields:
        [`Item`] or [`Skipped`]: in the order of the release.

    Raises:
        `SemiHVError`: the release's own tables are damaged.
    """
    items = 0
    with DiskTable() as seen:
        try:
            for entry in source.items():
                if isinstance(entry, Item) and not seen.add(entry.source_id):
                    entry = Skipped(entry.source_id, "duplicate row", "listed before under the same name")
                yield entry
                items += isinstance(entry, Item)
                if items == limit:
                    return
        except FATAL:
            raise
        except Exception as error:
            raise SemiHVError(
                f"The list of the {source.name} release breaks off after {items} items: {describe(error, source)}",
                "Mend or replace that file of the release.",
            ) from error


def _as_json(entry: Item | Skipped) -> dict:
    if isinstance(entry, Skipped):
        return {"skipped": [entry.source_id, entry.reason, entry.detail]}
    return {"source_id": entry.source_id, "split": entry.split, "data": entry.data}
