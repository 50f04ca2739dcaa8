"""Which sources a folder was made from, and whether each of them may be published.

What a folder holds is read from its rows and its records, not from its card: a card is a text that anybody can edit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semihv_hf.data.attestations import Attestation
from semihv_hf.data.card_metadata import gate_fields
from semihv_hf.data.licences import Decision, may_publish, registry
from semihv_hf.data.source_counts import COLUMNS, dates, row_sources
from semihv_hf.errors import SemiHVError, first_line

from .contents import read_json
from .lineage import RECORD, read_record, stages_before

# Who may see what: conditions that bind everybody who has a copy, and that a licence text beside it satisfies.
_OPEN_CONDITIONS = {"attribution", "share-alike"}
_MANIFESTS = ("build_manifest.json", "curate_manifest.json", "review_manifest.json")
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class SourceDecision:
    """What the gate says about one source.

    Args:
        source (`str`): the source's name in the licence registry.
        rows (`int`): how many rows were made from it.
        licence (`str`): the licence that it states.
        link (`str`): where its rules stand.
        decision ([`Decision`]): whether it may be published, and why.
        private (`bool`): whether only those who agree to its terms may see it.
    """

    source: str
    rows: int
    licence: str
    link: str
    decision: Decision
    private: bool


def decide(
    kind: str,
    counts: Mapping[str, int],
    *,
    early: Mapping[str, int] | None = None,
    attestation: Attestation | None = None,
) -> list[SourceDecision]:
    """Asks the gate about every source of a folder.

    Args:
        kind (`str`):
            `"dataset"`, which passes the sources on, or `"model"`, which passes on what was derived from them.
        counts (`Mapping[str, int]`): rows by source.
        early (`Mapping[str, int]`, *optional*): rows by source that are not shown to be from the day on from which
            their source is free.
        attestation ([`Attestation`], *optional*): what the user signed.

    Returns:
        `list[SourceDecision]`: one for each source, sorted by name.
    """
    return [
        _decide(kind, source, rows, (early or {}).get(source, 0), attestation)
        for source, rows in sorted(counts.items())
    ]


def _decide(kind: str, source: str, rows: int, early: int, attestation: Attestation | None) -> SourceDecision:
    derived = kind == "model"
    decision = may_publish(source, derived=derived, attestation=attestation)
    entry = registry().get(source)
    if entry is None:
        return SourceDecision(source, rows, "not known", "semihv_hf/data/licences.yaml", decision, True)
    if decision.allowed and early and entry.from_date is not None:
        # No statement of the user's stands for what the authors of those cases did not give.
        decision = Decision(
            False,
            f"{early} of {rows} rows of {source!r} are not shown to be published on or after {entry.from_date}, "
            f"from when on it is under {entry.licence}: {entry.note.strip()} ({entry.link})",
        )
    term = entry.share_derived if derived else entry.redistribute
    restricted = not set(entry.conditions) <= _OPEN_CONDITIONS
    private = decision.attested or term not in ("yes", "conditions") or (term == "conditions" and restricted)
    return SourceDecision(source, rows, entry.licence, entry.link, decision, private)


def check_all_allowed(decisions: Iterable[SourceDecision]) -> None:
    """Stops here when one source may not be published.

    Args:
        decisions (`Iterable[SourceDecision]`): what the gate said.

    Raises:
        SemiHVError: one is refused; the message names every refused source with the link to its rule.
    """
    refused = [each for each in decisions if not each.decision.allowed]
    if refused:
        raise SemiHVError(
            "Nothing was uploaded: " + " ".join(_with_link(each) for each in refused),
            "Build it again without these sources; no option turns this off (docs/licences.md).",
        )


def _with_link(each: SourceDecision) -> str:
    reason = each.decision.reason
    return reason if each.link in reason else f"{reason} ({each.link})"


def gated_fields(kind: str, decisions: Iterable[SourceDecision]) -> dict[str, Any]:
    """What the Hub asks those who want access, for the card's front matter.

    Args:
        kind (`str`): `"model"` or `"dataset"`.
        decisions (`Iterable[SourceDecision]`): the sources.

    Returns:
        `dict`: `extra_gated_prompt` and `extra_gated_fields`, from the licence registry; empty where no source needs
        them.
    """
    prompts: list[str] = []
    fields: dict[str, str] = {}
    for each in decisions:
        if each.private and (found := gate_fields(each.source)):
            prompts.append(found["extra_gated_prompt"])
            fields |= found["extra_gated_fields"]
    if kind == "model":
        # Weights hold no image: what is asked about the possession of the data does not fit them.
        fields = {name: kind for name, kind in fields.items() if kind == "text" or "commercial" in name}
    return {"extra_gated_prompt": " ".join(prompts), "extra_gated_fields": fields} if prompts else {}


def dataset_sources(folder: str | Path, configs: Collection[str] | None = None) -> tuple[Counter[str], Counter[str]]:
    """Counts the rows of a finished dataset folder by source, from the rows themselves.

    A text that was retrieved for a row travels in it, so its source counts, too. No other file with rows is ever sent
    ([`semihv_hf.hub.allowed_files.ALLOWED`]).

    Args:
        folder (`str` or `Path`): what `semihv build`, `semihv curate` or `semihv review --export` wrote.
        configs (`Collection[str]`, *optional*): those to count. By default all.

    Returns:
        `tuple[Counter, Counter]`: rows by source, and those of them without proof that they are from the day on from
        which their source is free.

    Raises:
        SemiHVError: the folder is not finished, or is not what its manifest says.
    """
    import pyarrow.parquet

    folder = Path(folder)
    counts: Counter[str] = Counter()
    early: Counter[str] = Counter()
    for path in _shards(folder):
        if configs is not None and path.parent.name not in configs:
            continue
        try:
            with pyarrow.parquet.ParquetFile(path) as shard:
                names = set(shard.schema_arrow.names)
                if "source" not in names:
                    raise SemiHVError(
                        f"The rows of {path} do not say where they come from.", "Build the folder again."
                    )
                for batch in shard.iter_batches(_BATCH_ROWS, columns=[name for name in COLUMNS if name in names]):
                    for pairs, too_early in row_sources(batch):
                        counts.update({source for source, _ in pairs})
                        early.update(too_early)
        except (pyarrow.ArrowException, KeyError, OSError) as error:
            raise SemiHVError(f"{path} cannot be read: {first_line(error)}", "Build the folder again.") from error
    return counts, early


def _shards(folder: Path) -> list[Path]:
    """The shards that the manifest names; the folder must hold all of them, as they were written, and no others."""
    manifest = next((path for name in _MANIFESTS if (path := folder / name).is_file()), None)
    if manifest is None:
        raise SemiHVError(
            f"{folder} is not a finished dataset folder: it has no {' or '.join(_MANIFESTS)}.",
            "Run `semihv build`, `semihv curate` or `semihv review --export` to its end first.",
        )
    try:
        listed = {
            f"data/{config}/{shard['file']}": shard["bytes"]
            for config, splits in read_json(manifest.read_bytes())["shards"].items()
            for shards in splits.values()
            for shard in shards
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SemiHVError(f"{manifest} cannot be read: {first_line(error)}", "Build the folder again.") from error
    there = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.glob("data/**/*.parquet")}
    if not listed or there != listed:
        differ = sorted(name for name in {*listed, *there} if listed.get(name) != there.get(name))
        raise SemiHVError(
            f"{folder} is not what {manifest.name} says of it: {', '.join(differ[:3]) or 'no shard'}.",
            "Build the folder again.",
        )
    return [folder / name for name in sorted(listed)]


def model_sources(folder: str | Path) -> tuple[Counter[str], Counter[str]]:
    """Counts what a checkpoint was trained on, over all stages that led to it.

    Each stage's record, `stage.json`, either lists its `sources`, or names the configs of the data folder of its run,
    whose rows are then counted. The stages before are found by [`semihv_hf.hub.lineage.stages_before`], unless a
    record has `sources_before`.

    Args:
        folder (`str` or `Path`): a checkpoint folder.

    Returns:
        `tuple[Counter, Counter]`: training rows by source, and those of them without proof that they are from the day
        on from which their source is free.

    Raises:
        SemiHVError: the records do not say it.
    """
    folder = Path(folder).resolve()
    own = read_record(folder)
    if own is None:
        raise _undetermined(folder, f"it has no {RECORD}")
    records = [*stages_before(folder, own), own]
    entries: list[Mapping[str, Any]] = []
    last = next((place for place in reversed(range(len(records))) if "sources_before" in records[place]), None)
    if last is not None:
        records = records[last:]
        entries += _listed(records[0]["sources_before"], folder)
    elif (start := records[0].get("model")) is not None:
        raise _undetermined(folder, f"what its start, {start}, was trained on is not recorded")
    configs = []
    for record in records:
        if record.get("sources") is not None:
            entries += _listed(record["sources"], folder)
        elif record.get("dataset_config") and record.get("dataset", "data") == "data":
            configs.append(record["dataset_config"])
        else:
            raise _undetermined(folder, f"the record of {record.get('stage', 'a stage')} lists no sources")
    counts, early = count_entries(entries)
    if configs:
        data = folder.parent.parent / "data"
        if not data.is_dir():
            raise _undetermined(folder, "the data of its run are not beside it")
        rows, too_early = dataset_sources(data, set(configs))
        counts.update(rows)
        early.update(too_early)
    return counts, early


def count_entries(entries: Iterable[Mapping[str, Any]]) -> tuple[Counter[str], Counter[str]]:
    """Adds up what records list.

    Args:
        entries (`Iterable[Mapping]`): see [`semihv_hf.data.source_counts.source_counts`].

    Returns:
        `tuple[Counter, Counter]`: rows by source, and those of them without proof that they are from the day on from
        which their source is free; of a list that does not tell this, all.
    """
    counts: Counter[str] = Counter()
    early: Counter[str] = Counter()
    for entry in entries:
        source, rows = entry["source"], entry.get("rows")
        rows = rows if isinstance(rows, int) else 1
        counts[source] += rows
        if source in dates() and (found := entry.get("early", max(rows, 1))) != 0:
            early[source] += found if isinstance(found, int) else 1
    return counts, early


def _listed(entries: Any, folder: Path) -> list[Mapping[str, Any]]:
    good = isinstance(entries, list) and all(
        isinstance(entry, Mapping) and isinstance(entry.get("source"), str) for entry in entries
    )
    if not good:
        raise _undetermined(folder, "a list of sources is malformed")
    return entries


def _undetermined(folder: Path, why: str) -> SemiHVError:
    return SemiHVError(
        f"What {folder.name} was trained on is undetermined: {why}. Nothing was uploaded.",
        "Publish a checkpoint whose stage.json lists `sources`, or from within the run that made it.",
    )
