"""From decisions to data: the records that people let pass, mended where they mended them, and their preferences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.building.report import content_digest
from semihv_hf.data.checks import validate_record
from semihv_hf.data.columns import preference_schema, record_schema
from semihv_hf.data.configs import CONFIGS, PREFERENCES, config_of
from semihv_hf.data.licences import may_write
from semihv_hf.data.schema import SPLITS
from semihv_hf.data.shards import write_shards
from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json, write_text

from .card import reviewed_card
from .decisions import Decisions
from .items import PAIR, Item, RecordFolders
from .outcome import Tally, edited, preference_of_pair, preferences_of_edit, settle_pair, settle_record

if TYPE_CHECKING:
    from semihv_hf.data.attestations import Attestation

MANIFEST, REPORT, CARD = "review_manifest.json", "review_report.json", "README.md"


def export_reviews(
    folders: RecordFolders,
    items: Sequence[Item],
    decisions: Decisions,
    out: str | Path,
    *,
    only_reviewed: bool = True,
    attestation: Attestation | None = None,
) -> dict[str, Any]:
    """Writes what people decided as a dataset folder: their records, and their preferences.

    Args:
        folders ([`RecordFolders`]): where the records are read from.
        items (`Sequence[Item]`): what there was to decide about.
        decisions ([`Decisions`]): what was decided.
        out (`str` or `pathlib.Path`): the folder to write, new or empty.
        only_reviewed (`bool`, *optional*, defaults to `True`): leave out records that nobody looked at.
        attestation ([`Attestation`], *optional*): what the user signed for the licence gate.

    Returns:
        `dict`: the report, as in `review_report.json`.

    Raises:
        `SemiHVError`: the folder is not empty, nothing is left to write, or a licence forbids it.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise SemiHVError(f"{out} is not empty.", "Choose a new folder.")
    kept = _Kept(folders, items, decisions, only_reviewed, attestation)
    shards: dict[str, dict[str, list[dict[str, Any]]]] = {}
    sources: set[str] = set()
    for config in (*CONFIGS, PREFERENCES):
        for split in SPLITS:
            written = _write(kept.rows(config, split, sources), out, config, split)
            if written:
                shards.setdefault(config, {})[split] = written
    if not shards:
        raise SemiHVError("Nothing is left to write: no decision lets a record pass.", "Review some records first.")
    told = kept.tally
    report = {
        "kind": "reviewed",
        "listed": len(items),
        "counts": dict(sorted(told.counts.items())),
        "reasons": dict(sorted(told.reasons.items())),
        "conflicts": told.conflicts,
        "decisions": dict(sorted(told.votes.items())),
        "reviewers": len({one.reviewer for ones in decisions.by_item().values() for one in ones}),
        "only_reviewed": only_reviewed,
        "sources": sorted(sources),
        "rows": {
            config: {split: sum(shard["rows"] for shard in written) for split, written in splits.items()}
            for config, splits in shards.items()
        },
        "content": content_digest(shards),
    }
    write_text(out / CARD, reviewed_card(report))
    manifest = {
        "report_sha256": write_json(out / REPORT, report),
        "attestation": attestation.manifest() if attestation else None,
        "shards": shards,
    }
    write_json(out / MANIFEST, manifest)  # last of all: a folder without it is unfinished
    return report


class _Kept:
    """The rows to write, config by config, so that no more than one is held at a time."""

    def __init__(
        self,
        folders: RecordFolders,
        items: Sequence[Item],
        decisions: Decisions,
        only_reviewed: bool,
        attestation: Attestation | None,
    ):
        self.folders = folders
        self.attestation = attestation
        self.tally = Tally()
        self._records: list[tuple[Item, Mapping[str, str]]] = []
        self._pairs: list[tuple[Item, int, list]] = []
        by_item = decisions.by_item()
        # In the order in which the rows stand in their folder, which is that of their images on the disk.
        for item in sorted(items, key=_order):
            said = by_item.get(item.id, [])
            if item.kind == PAIR:
                better = settle_pair(said, self.tally)
                if better is not None:
                    self._pairs.append((item, item.records.index(better), said))
                continue
            end, texts = settle_record(said, self.tally)
            if end in ("accepted", "edited") or (end == "not looked at" and not only_reviewed):
                self._records.append((item, texts))

    def rows(self, config: str, split: str, sources: set[str]) -> Iterator[dict[str, Any]]:
        """The rows of a config and split; tells the sources."""
        for row in self._preferences(split) if config == PREFERENCES else self._of(config, split):
            if row["source"] not in sources:
                may_write(row["source"], attestation=self.attestation).check()
                sources.add(row["source"])
            yield row

    def _of(self, config: str, split: str) -> Iterator[dict[str, Any]]:
        for item, texts in self._records:
            if config_of(item.task) == config and self.folders.file(item.places[0]).split == split:
                row = self.folders.read(item.places[0])
                row = edited(row, texts) if texts else row
                validate_record(row)
                yield row

    def _preferences(self, split: str) -> Iterator[dict[str, Any]]:
        for item, texts in self._records:
            if texts and self.folders.file(item.places[0]).split == split:
                yield from preferences_of_edit(self.folders.read(item.places[0]), texts)
        for item, better, said in self._pairs:
            if self.folders.file(item.places[0]).split == split:
                rows = [self.folders.read(place) for place in item.places]
                yield preference_of_pair(rows[better], rows[1 - better], said)


def _order(item: Item) -> tuple[int, int, int, int]:
    place = item.places[0]
    return place.folder, place.file, place.group, place.row


def _write(rows: Iterator[dict[str, Any]], out: Path, config: str, split: str) -> list[dict[str, Any]]:
    first = next(rows, None)
    if first is None:
        return []

    def all_rows() -> Iterator[dict[str, Any]]:
        yield first
        yield from rows

    schema = preference_schema() if config == PREFERENCES else record_schema()
    return write_shards(all_rows(), out / "data" / config, split, schema)
