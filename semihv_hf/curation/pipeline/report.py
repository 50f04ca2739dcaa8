"""From finished blocks to a dataset folder: shards, side tables, card, report, and the manifest last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.building.report import content_digest
from semihv_hf.data.columns import case_schema, record_schema
from semihv_hf.data.configs import CASES, CONFIGS
from semihv_hf.data.schema import SPLITS
from semihv_hf.data.shards import write_shard
from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json, write_text
from semihv_hf.packages import file_sha256
from semihv_hf.templates import strict_templates

from .config import STAGES
from .from_blocks import write_from_blocks
from .outcome import Tally
from .parts import Job
from .state import CARD, MANIFEST, REPORT, SIDE_TABLES, block_index, block_path, side_schema

if TYPE_CHECKING:
    import pyarrow

_SIDE_ROWS = 10_000
_TEMPLATE = "curated_dataset_card.md.jinja"


def assemble(job: Job, made_of: Mapping[str, Any], tools: Any, progress: Any) -> dict[str, Any]:
    """Writes the dataset folder from the blocks, all of which are there.

    Args:
        job ([`Job`]): the curation.
        made_of (`Mapping`): what decides the output, see [`semihv_hf.curation.pipeline.parts.made_of`].
        tools ([`Tools`]): the parts, for what the report says of them.
        progress ([`semihv_hf.progress.ProgressBar`]): is told the shards.

    Returns:
        `dict`: the report.
    """
    out = Path(job.config.out)
    (out / MANIFEST).unlink(missing_ok=True)
    paths = [block_path(job.work, block.number) for block in job.cases.blocks]
    tally, present = Tally(), set()
    for path in paths:
        index = block_index(path)
        tally.update(Tally.from_json(index["tally"]))
        present.update(index["tables"])
    shards: dict[str, dict[str, list[dict[str, Any]]]] = {}
    wanted = [(config, split) for config in CONFIGS for split in SPLITS if f"{config}/{split}" in present]
    progress.begin("writing shards", len(wanted))
    for config, split in wanted:
        shards.setdefault(config, {})[split] = write_from_blocks(
            paths, out / "data" / config, config, split, case_schema() if config == CASES else record_schema()
        )
        progress.advance()
    _remove_others(out, shards)
    side = {name: _write_side(paths, out, name) for name in SIDE_TABLES}
    side.update(_copy_duplicates(job, out))
    report = _report(job, made_of, tools, tally, shards)
    write_text(out / CARD, curated_card(report))
    manifest = {
        "made_of": made_of,
        "report_sha256": write_json(out / REPORT, report),
        "tables": side,
        "attestation": tools.attestation.manifest() if tools.attestation else None,
        "shards": shards,
    }
    write_json(out / MANIFEST, manifest)  # last of all: a folder without it is an unfinished curation
    return report


def _remove_others(out: Path, shards: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> None:
    """Removes shards of before, which would be read along with the new ones."""
    for path in (out / "data").glob("*/*.parquet"):
        if path.name not in {shard["file"] for shard in sum(shards.get(path.parent.name, {}).values(), [])}:
            path.unlink()
    for folder in (out / "data").glob("*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _write_side(paths: Sequence[Path], out: Path, name: str) -> str:
    schema = side_schema(name)
    write_shard(out / f"{name}.parquet", _side_tables(paths, name, schema), schema)
    return file_sha256(out / f"{name}.parquet")


def _side_tables(paths: Sequence[Path], name: str, schema: pyarrow.Schema) -> Iterator[pyarrow.Table]:
    import pyarrow

    waiting: list[dict[str, Any]] = []
    for path in paths:
        waiting += block_index(path)["side"][name]
        while len(waiting) >= _SIDE_ROWS:
            yield pyarrow.Table.from_pylist(waiting[:_SIDE_ROWS], schema=schema)
            del waiting[:_SIDE_ROWS]
    if waiting:
        yield pyarrow.Table.from_pylist(waiting, schema=schema)


def _copy_duplicates(job: Job, out: Path) -> dict[str, str]:
    """The reports of the search for duplicates stand beside the data that they explain."""
    import pyarrow.parquet

    copied = {}
    for path in sorted(job.duplicates.glob("*.parquet")) if job.duplicates is not None else ():
        with pyarrow.parquet.ParquetFile(path) as found:
            tables = (found.read_row_group(number) for number in range(found.metadata.num_row_groups))
            write_shard(out / path.name, tables, found.schema_arrow)
        copied[path.stem] = file_sha256(out / path.name)
    return copied


def _report(
    job: Job, made_of: Mapping[str, Any], tools: Any, tally: Tally, shards: Mapping[str, Mapping[str, list[dict]]]
) -> dict[str, Any]:
    """What the folder holds, and how it came about. It holds no times and no paths, and nothing of a single run."""
    counts = tally.as_json()
    usage = dict(counts["usage"])
    per_split = {
        what: {
            config: {split: sum(shard[what] for shard in written) for split, written in splits.items()}
            for config, splits in shards.items()
        }
        for what in ("rows", "bytes")
    }
    return {
        "kind": "curated",
        "model": tools.settings.model,
        "server": tools.settings.shown_url,
        "stages": [name for name in STAGES if made_of.get(name) is not None],
        "listed": job.cases.rows,
        "cases": dict(counts["cases"]),
        "left_out": dict(counts["left_out"]),
        "labels": counts["labels"],
        "records": dict(counts["records"]),
        "rejected": counts["rejected"],
        "failures": counts["failures"],
        "evidence": dict(counts["evidence"]),
        "sources": dict(counts["sources"]),
        "answers": counts["answers"],
        "usage": usage,
        "prompts": _prompts(tools),
        **per_split,
        "content": content_digest(shards),
    }


def _prompts(tools: Any) -> dict[str, str]:
    """The tasks with the versions of their prompts."""
    if tools.generate is None:
        return {}
    from semihv_hf.curation.generation import TASKS

    return {name: tools.generate.prompts.version(name) for name in TASKS}


def curated_card(report: Mapping[str, Any]) -> str:
    """The card of a curated dataset folder.

    Args:
        report (`Mapping[str, Any]`): the report.

    Returns:
        `str`: Markdown with the front matter that `load_dataset` reads its configs from.

    Raises:
        `SemiHVError`: the report lacks something that the card states.
    """
    import jinja2

    from semihv_hf.data.licences import mixture, source_licence

    names = sorted({*report["cases"], *report["sources"]})
    environment = strict_templates(Path(__file__).parent / "templates")
    try:
        return environment.get_template(_TEMPLATE).render(
            report=report,
            front_matter=_front_matter(report, names),
            licences=[source_licence(name) for name in names],
            terms=mixture(names),
        )
    except jinja2.UndefinedError as error:
        raise SemiHVError(f"The report lacks something that the card states: {error}.") from error


def _front_matter(report: Mapping[str, Any], sources: list[str]) -> str:
    import yaml

    from semihv_hf.data.card_metadata import gate_fields, licence_fields, size_category

    gates = [fields for name in sources if (fields := gate_fields(name))]
    configs = list(report["rows"])
    default = "instruction" if "instruction" in configs else configs[-1]
    metadata = {
        "pretty_name": "Curated medical instruction data (semihv-hf)",
        "language": ["en"],
        **licence_fields(sources),
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "annotations_creators": ["machine-generated"],
        "source_datasets": [f"extended|other-{name}" for name in sources],
        "size_categories": [size_category(sum(report["rows"].get(CASES, {}).values()))],
        "tags": ["medical", "vision-language", "synthetic", "semihv-hf"],
        **(gates[0] if gates else {}),
        "configs": [
            {
                "config_name": config,
                # `datasets` keys its cache of a local folder by these fields: new rows need a new text.
                "description": f"content {report['content']}",
                **({"default": True} if config == default else {}),
                "data_files": [
                    {"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in report["rows"][config]
                ],
            }
            for config in configs
        ],
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=110).rstrip("\n")
