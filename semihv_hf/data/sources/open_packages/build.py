"""The dataset folder of the images that ship inside registry packages: cases, records, a benchmark, card, report."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ....errors import SemiHVError
from ....files import write_json, write_text
from ....progress import progress_bar
from ...benchmark import benchmark_records
from ...building.report import content_digest
from ...building.workspace import CARD, MANIFEST, REPORT
from ...checks import validate_case, validate_record
from ...columns import case_schema, record_schema
from ...deduplicate import drop_repeats
from ...expert_cases import expert_cases_without_image, expert_records
from ...messages import message_text
from ...questions import Questions
from ...records import alignment_record, instruction_records
from ...schema import SPLITS, Case, Record
from ...shards import write_shards
from .adapter import adapt

SOURCE = "open_packages"


def build_open_packages(
    out_dir: str | Path,
    *,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    packages: Sequence[str] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds a dataset folder of the images of packages, with decisions that concern the set as a whole.

    Args:
        out_dir (`str` or `pathlib.Path`): the folder to write; shards of an earlier build in it are replaced.
        cache_dir (`str` or `pathlib.Path`, *optional*): where fetched packages are kept.
        seed (`int`, *optional*, defaults to 0): places tiles, chooses and orders questions.
        limit (`int`, *optional*): at most so many cases per image kind and split.
        packages (`Sequence[str]`, *optional*): only images of these packages.
        progress (`bool`, *optional*, defaults to `True`): whether to show a progress bar.

    Returns:
        `dict`: the build report: counts per config, kind and split, what was skipped and why, seconds.

    Raises:
        `SemiHVError`: a package cannot be fetched, or a row is not valid.
    """
    from ...card import dataset_card

    started = time.perf_counter()
    out = Path(out_dir)
    with progress_bar("data", shown=progress) as bar:
        adapted = adapt(
            names=packages,
            cache_dir=cache_dir,
            seed=seed,
            limit=limit,
            on_step=lambda what, done, total: bar.update(title=what, done=done, total=total),
        )
    if not adapted.cases:
        raise SemiHVError(f"Source {SOURCE!r} gave no image that can be read.", "See the list of skipped files.")
    read = time.perf_counter()
    cases, repeats = drop_repeats(adapted.cases)
    tables = _tables(cases, adapted.kinds, seed)
    shards = _write(tables, out)
    report = {
        "source": SOURCE,
        "seed": seed,
        "limit": limit,
        "images": len(cases),
        "rows": {config: {split: len(rows) for split, rows in splits.items()} for config, splits in tables.items()},
        "kinds": _kind_counts(cases, adapted.kinds),
        "templates": _template_counts(tables),
        "skipped": adapted.skipped,
        "expert_cases_without_image": expert_cases_without_image(
            [*tables.get("annealing", {}).get("train", ()), *tables.get("jama_style", {}).get("test", ())]
        ),
        "repeats_dropped": repeats,
        "packages": adapted.packages,
        "content": content_digest(shards),
    }
    write_text(out / CARD, dataset_card(report))
    report_hash = write_json(out / REPORT, report)
    # Last of all: a folder without it is an unfinished build.
    write_json(out / MANIFEST, {"source": SOURCE, "seed": seed, "report_sha256": report_hash, "shards": shards})
    seconds = {"read": round(read - started, 2), "total": round(time.perf_counter() - started, 2)}
    return {**report, "seconds": seconds}


def _tables(cases: Sequence[Case], kinds: Mapping[str, str], seed: int) -> dict[str, dict[str, list]]:
    by_split = {split: [case for case in cases if case.split == split] for split in SPLITS}
    questions = Questions(by_split["train"])
    train = by_split["train"]
    tables: dict[str, dict[str, list]] = {
        "cases": by_split,
        "alignment": {"train": [alignment_record(case) for case in train]},
        "instruction": {"train": [row for case in train for row in instruction_records(case, questions, seed)]},
        "annealing": {"train": expert_records(train, kinds)},
        "benchmark": {
            "validation": benchmark_records(by_split["validation"], kinds, questions, seed),
            "test": benchmark_records(by_split["test"], kinds, questions, seed),
        },
        "jama_style": {"test": expert_records(by_split["test"], kinds)},
    }
    filled = {config: {split: rows for split, rows in splits.items() if rows} for config, splits in tables.items()}
    return {config: splits for config, splits in filled.items() if splits}


def _write(tables: Mapping[str, Mapping[str, Sequence[Case | Record]]], out: Path) -> dict[str, Any]:
    (out / MANIFEST).unlink(missing_ok=True)
    shards: dict[str, Any] = {}
    for config, splits in tables.items():
        folder = out / "data" / config
        schema = case_schema() if config == "cases" else record_schema()
        check = validate_case if config == "cases" else validate_record
        for split, items in splits.items():
            shards.setdefault(config, {})[split] = write_shards(_rows(items, check), folder, split, schema)
        current = {shard["file"] for written in shards.get(config, {}).values() for shard in written}
        for old in folder.glob("*.parquet") if folder.is_dir() else ():
            if old.name not in current:
                old.unlink()
    return shards


def _rows(items: Sequence[Case | Record], check: Callable[[Mapping[str, Any]], None]) -> Iterator[dict[str, Any]]:
    for item in items:
        row = item.row()
        check(row)
        yield row


def _kind_counts(cases: Sequence[Case], kinds: Mapping[str, str]) -> dict[str, dict[str, int]]:
    counts = Counter((kinds[case.id], case.split) for case in cases)
    return {kind: {split: counts[kind, split] for split in SPLITS} for kind in sorted({kind for kind, _ in counts})}


def _template_counts(tables: Mapping[str, Mapping[str, Sequence[Record]]]) -> dict[str, dict[str, Any]]:
    """Per benchmark split and template: rows, and the commonest answer, which is the score of always giving it."""
    found: dict[str, dict[str, Any]] = {}
    for split, records in tables.get("benchmark", {}).items():
        answers: dict[str, Counter[str]] = {}
        for record in records:
            answers.setdefault(record.questions[0].template, Counter())[message_text(record.messages[1])] += 1
        found[split] = {
            name: {
                "rows": counts.total(),
                "answers": dict(sorted(counts.items())),
                "majority": counts.most_common(1)[0][1],
            }
            for name, counts in sorted(answers.items())
        }
    return found
