"""The record of a stage, `stage.json` beside the weights: what it was trained on, from what, and how it went."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.files import finite_numbers
from semihv_hf.packages import file_sha256

from .mixture import public_name

NOT_STATED = "not stated"

if TYPE_CHECKING:
    from .stage import Stage


def stage_record(stage: Stage) -> dict:
    """
    What a stage did, for `stage.json` and the model card.

    Args:
        stage ([`Stage`]): after training.

    Returns:
        `dict`: values that JSON can hold.
    """
    from .monitoring import not_logged

    settings, state = stage.settings, stage.trainer.state
    first = stage.shares[0]
    return {
        "stage": settings.stage,
        "title": settings.title,
        "recipe": None if stage.recipe is None else "/".join(Path(stage.recipe).parts[-3:]),
        "model": public_name(settings.model),
        "dataset": first.dataset if len(stage.shares) == 1 else [share.dataset for share in stage.shares],
        "dataset_config": first.config if len(stage.shares) == 1 else None,
        "mixture": [share.record() for share in stage.shares],
        "rows": None if settings.streaming else len(stage.dataset),
        "streamed": settings.streaming,
        "sources": _sources(stage),
        **sources_before(settings.model, settings.revision),
        "left_out": left_out(stage),
        "strategy": {"name": stage.got.name, "processes": stage.got.processes},
        "seed": stage.config.seed,
        "seconds": round(time.monotonic() - stage.started, 1),
        "peak_rss_gib": peak_rss_gib(),
        **log_record(state.log_history),
        "not_logged": not_logged(stage.config) if settings.monitoring else {},
        **_evaluation(stage),
        **stage.report.record(bit_identical=True),
    }


def log_record(history: list[dict], key: str = "loss", name: str = "log") -> dict:
    """
    A training log for a record, which holds `None` where a number was NaN or infinite, and says so.

    Args:
        history (`list[dict]`): the trainer's; that of a resumed run may hold `None` already.
        key (`str`, *optional*, defaults to `"loss"`): entries with this key are taken.
        name (`str`, *optional*, defaults to `"log"`): name of the log in the record.

    Returns:
        `dict`: the entries under `name`, and, if a number is missing, `<name>_not_finite`: of each key how many
        entries, and the step of the first.
    """
    entries = finite_numbers([entry for entry in history if key in entry])
    missing: dict[str, dict] = {}
    for entry in entries:
        for lost in (number for number, value in entry.items() if value is None):
            missing.setdefault(lost, {"first_step": entry["step"], "entries": 0})["entries"] += 1
    return {name: entries, **({f"{name}_not_finite": missing} if missing else {})}


def left_out(stage: Stage) -> dict:
    """Rows that are not trained on, by reason: those left out by their length, and those that did not decode; of
    all processes, each row once."""
    split = None if stage.sampler is None else stage.sampler.split
    return {
        "too_long": len(stage.bad_rows.too_long) + (0 if split is None else len(split.too_long)),
        "unmeasured": 0 if split is None else len(split.unmeasured),
        "refused": len(stage.bad_rows),
        "reasons": stage.bad_rows.by_reason(),
    }


def peak_rss_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)


def _evaluation(stage: Stage) -> dict:
    """Every evaluation, and the step whose weights are kept where the best are."""
    if stage.evaluation is None:
        return {}
    state = stage.trainer.state
    evaluations = log_record(state.log_history, "eval_loss", "evaluations")
    best = None
    if stage.config.load_best_model_at_end and state.best_global_step is not None:
        metric = stage.config.metric_for_best_model
        best = {"step": state.best_global_step, "metric": metric, "value": finite_numbers(state.best_metric)}
    return {**evaluations, "best": best}


def _sources(stage: Stage) -> list[dict] | None:
    """Rows by source and licence; `None` where the rows do not say it, or come from a stream."""
    from semihv_hf.data.source_counts import source_counts

    if stage.settings.streaming or not {"source", "licence"} <= set(stage.dataset.column_names):
        return None
    return source_counts(stage.dataset)


def sources_before(model: str, revision: str | None = None) -> dict:
    """
    What the start of a stage was trained on, by its own record.

    Args:
        model (`str`): the start, a folder or a Hub id.
        revision (`str`, *optional*): the commit or branch of a Hub id.

    Returns:
        `dict`: for the record of the stage; empty where the start has none. `model_record`, the sha256 of the start's;
        and `sources_before`, or, if records do not say it of all stages, `sources_known_before`.
    """
    from transformers.utils import cached_file

    try:
        path = cached_file(model, "stage.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    except OSError:  # no such repository, or no way to it: that the model is not there is said where it is loaded
        path = None
    if path is None:
        return {}
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    own, before = record.get("sources"), record.get("sources_before")
    told = {"model_record": file_sha256(path)}
    if own is not None and before is not None:
        return {**told, "sources_before": [*before, *own]}
    if own is None:
        own = [{"source": NOT_STATED, "licence": NOT_STATED, "rows": record.get("rows") or 0}]
    return {**told, "sources_known_before": [*(before or record.get("sources_known_before") or []), *own]}
