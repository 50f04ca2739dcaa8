"""The record of a stage, `stage.json` beside the weights: what it was trained on, from what, and how it went."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .mixture import public_name

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
        **({} if (before := sources_before(settings.model)) is None else {"sources_before": before}),
        "left_out": left_out(stage),
        "strategy": {"name": stage.got.name, "processes": stage.got.processes},
        "seed": stage.config.seed,
        "seconds": round(time.monotonic() - stage.started, 1),
        "peak_rss_gib": peak_rss_gib(),
        "log": [entry for entry in state.log_history if "loss" in entry],
        "not_logged": not_logged(stage.config) if settings.monitoring else {},
        **_evaluation(stage),
        **stage.report.record(bit_identical=True),
    }


def left_out(stage: Stage) -> dict:
    """Rows that are not trained on, by reason: those left out by their length, and those that did not decode."""
    split = None if stage.sampler is None else stage.sampler.split
    return {
        "too_long": len(stage.bad_rows.too_long) + (0 if split is None else len(split.too_long)),
        "unmeasured": 0 if split is None else len(split.unmeasured),
        # Of the main process's batches.
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
    entries = [entry for entry in state.log_history if "eval_loss" in entry]
    best = None
    if stage.config.load_best_model_at_end and state.best_global_step is not None:
        metric = stage.config.metric_for_best_model
        best = {"step": state.best_global_step, "metric": metric, "value": state.best_metric}
    return {"evaluations": entries, "best": best}


def _sources(stage: Stage) -> list[dict] | None:
    """Rows by source and licence; `None` where the rows do not say it, or come from a stream."""
    from semihv_hf.data.source_counts import source_counts

    if stage.settings.streaming or not {"source", "licence"} <= set(stage.dataset.column_names):
        return None
    return source_counts(stage.dataset)


def sources_before(model: str) -> list[dict] | None:
    """What the start of a stage was trained on, by its own record; `None` where that does not say it of all stages."""
    path = Path(model) / "stage.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    own, before = record.get("sources"), record.get("sources_before")
    return None if own is None or before is None else [*before, *own]
