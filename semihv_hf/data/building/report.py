"""What a build says about itself: counts of everything that was written and of everything that was left out."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...files import canonical_json
from ..configs import CASES
from ..schema import Case, Record
from ..skips import Tally

NOT_STATED = "not stated"


@dataclass
class Counts:
    """Counts over rows; those of several blocks add up.

    Args:
        images (`int`, *optional*, defaults to 0): images of the cases.
        composition (`Counter`, *optional*): rows by (config, split, modality, body part, who wrote the texts).
        tasks (`Counter`, *optional*): records by (config, task).
        sources (`Counter`, *optional*): cases by (source, licence).
        languages (`Counter`, *optional*): cases by (language,) of their texts.
        tally ([`Tally`], *optional*): cases that were kept, and what was left out by reason.
    """

    images: int = 0
    composition: Counter[tuple[str, ...]] = field(default_factory=Counter)
    tasks: Counter[tuple[str, ...]] = field(default_factory=Counter)
    sources: Counter[tuple[str, ...]] = field(default_factory=Counter)
    languages: Counter[tuple[str, ...]] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)

    def add_case(self, case: Case) -> None:
        """Counts a case that is kept."""
        self.images += len(case.images)
        writers = "+".join(sorted({text.annotation for text in case.texts})) or "none"
        self.composition[CASES, case.split, _fact(case, "modality"), _fact(case, "body_part"), writers] += 1
        self.sources[case.source, case.licence] += 1
        for language in {text.language for text in case.texts}:
            self.languages[(language,)] += 1
        self.tally.kept += 1

    def add_record(self, config: str, case: Case, record: Record) -> None:
        """Counts a record that is kept, by who wrote its answers."""
        answers = {
            writer for writer, message in zip(record.annotation, record.messages) if message["role"] == "assistant"
        }
        place = (_fact(case, "modality"), _fact(case, "body_part"), "+".join(sorted(answers)))
        self.composition[(config, case.split, *place)] += 1
        self.tasks[config, record.task] += 1

    def add(self, other: "Counts") -> None:
        """Adds the counts of another block."""
        self.images += other.images
        for name in ("composition", "tasks", "sources", "languages"):
            getattr(self, name).update(getattr(other, name))
        self.tally.kept += other.tally.kept
        self.tally.skipped.update(other.tally.skipped)

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        tables = {name: _listed(getattr(self, name)) for name in ("composition", "tasks", "sources", "languages")}
        return {"images": self.images, "tally": self.tally.as_json(), **tables}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Counts":
        """The counts that [`as_json`] wrote."""
        tables = {
            name: Counter({tuple(key): count for *key, count in value[name]})
            for name in ("composition", "tasks", "sources", "languages")
        }
        return cls(value["images"], **tables, tally=Tally.from_json(value["tally"]))


def _fact(case: Case, name: str) -> str:
    fact = case.fact(name)
    return fact.value if fact else NOT_STATED


def _listed(counter: Mapping[tuple[str, ...], int]) -> list[list]:
    return [[*key, count] for key, count in sorted(counter.items())]


def build_report(
    fingerprint: Mapping[str, Any], listed: int, counts: Counts, shards: Mapping[str, Mapping[str, Iterable[Mapping]]]
) -> dict[str, Any]:
    """The content of `build_report.json`, which the card is written from. It holds no times and no paths.

    Args:
        fingerprint (`Mapping[str, Any]`): what was built, see [`semihv_hf.data.building.workspace.fingerprint`].
        listed (`int`): how many things the release lists.
        counts ([`Counts`]): the counts of all blocks.
        shards (`Mapping`): the shards by config and split, see [`semihv_hf.data.shards.write_shard`].

    Returns:
        `dict`: `kind` (`"release"`), `source`, `seed`, `held_out`, `limit`, `options`; `listed`, `kept` (cases),
        `damaged`, `skipped` (by reason) and `skipped_share` (of damaged among kept and damaged); `images`; `rows` and
        `bytes` (of the Parquet files), both by config and split; `tasks` by config; `sources` (`source`, `licence`,
        `cases`); `languages` (cases by language); `composition`, a list of `config`, `split`, `modality`,
        `body_part`, `annotation` and `rows` that adds up to `rows`; `content`, the fingerprint of all rows.
    """
    tally = counts.tally
    tasks: dict[str, dict[str, int]] = {}
    for (config, task), count in sorted(counts.tasks.items()):
        tasks.setdefault(config, {})[task] = count
    columns = ("config", "split", "modality", "body_part", "annotation", "rows")
    return {
        "kind": "release",
        **{name: fingerprint[name] for name in ("source", "seed", "held_out", "limit", "options")},
        "listed": listed,
        "kept": tally.kept,
        "damaged": tally.damaged,
        "skipped": dict(sorted(tally.skipped.items())),
        "skipped_share": round(skipped_share(tally), 6),
        "images": counts.images,
        "rows": _per_split(shards, "rows"),
        "bytes": _per_split(shards, "bytes"),
        "tasks": tasks,
        "sources": [
            {"source": source, "licence": licence, "cases": count}
            for (source, licence), count in sorted(counts.sources.items())
        ],
        "languages": {language: count for (language,), count in sorted(counts.languages.items())},
        "composition": [dict(zip(columns, row)) for row in _listed(counts.composition)],
        "content": content_digest(shards),
    }


def skipped_share(tally: Tally) -> float:
    """The share of damaged things among what no rule of the source excludes, 0 to 1."""
    return tally.damaged / max(tally.kept + tally.damaged, 1)


def content_digest(shards: Mapping[str, Any]) -> str:
    """Fingerprint of all rows.

    The card carries it in every config: `datasets` caches a local folder by its name and the card's configs alone, so
    without it a new build in a folder of the same name would silently show the rows of the old one.
    """
    return hashlib.sha256(canonical_json(shards).encode()).hexdigest()[:16]


def _per_split(shards: Mapping[str, Mapping[str, Iterable[Mapping]]], name: str) -> dict[str, dict[str, int]]:
    return {
        config: {split: sum(shard[name] for shard in written) for split, written in splits.items()}
        for config, splits in shards.items()
    }
