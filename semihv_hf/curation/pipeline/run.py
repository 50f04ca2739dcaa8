"""`semihv curate`: the whole way from a folder of cases to a folder of records."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data import engines
from semihv_hf.data.licences import may_write
from semihv_hf.errors import SemiHVError
from semihv_hf.progress import ProgressBar, progress_bar

from .cases import list_cases
from .config import CurateConfig, read_config
from .outcome import Outcome
from .parts import Job, attestation, budget, duplicates_folder, known_duplicates, made_of, open_tools
from .report import assemble
from .spans import curate_span, spans
from .stages import Tools
from .state import clear, finished, is_done, only_one, sweep, take_up

if TYPE_CHECKING:
    from semihv_hf.llm.budget import Budget


def curate(
    config: str | Path | CurateConfig,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    sample: int | None = None,
    ask: bool = False,
    engine: str = "local",
    workers: int | None = None,
    max_cost_usd: float | None = None,
    cache_only: bool = False,
    dry_run: bool = False,
    batch: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Curates a folder of cases: duplicates, labels, evidence, texts, filters, records.

    A run that was killed, at whatever moment, goes on when it is called again in the same way, asks nothing whose
    answer it had, and its folder is then byte for byte that of an undisturbed one. What failed stands in
    `failures.parquet`; the next run does those cases again, and no others.

    Args:
        config (`str`, `pathlib.Path` or [`CurateConfig`]): the recipe, its file, or the name of a shipped one.
        data (`str` or `pathlib.Path`, *optional*): the dataset folder with the cases; replaces the recipe's.
        out (`str` or `pathlib.Path`, *optional*): the folder to write; replaces the recipe's.
        sample (`int`, *optional*): only show so many cases, spread over the folder, in `<out>/preview.html`.
        ask (`bool`, *optional*, defaults to `False`): with `sample`, ask for the answers that the cache lacks.
        engine (`str`, *optional*, defaults to `"local"`): `"local"`, or `"ray"` for a Ray cluster.
        workers (`int`, *optional*): how many processes; with the local engine 1 by default, since the server's time is
            what a run waits for. Several processes divide `max_cost_usd` and `max_concurrency` among them.
        max_cost_usd (`float`, *optional*): the most that this run may spend; replaces the recipe's.
        cache_only (`bool`, *optional*, defaults to `False`): ask nobody; what has no answer yet fails.
        dry_run (`bool`, *optional*, defaults to `False`): only estimate calls, tokens and dollars.
        batch (`bool`, *optional*, defaults to `False`): get the answers through the server's batch API, at its price.
        overwrite (`bool`, *optional*, defaults to `False`): whether another curation in `out` may be thrown away.
        progress (`bool`, *optional*, defaults to `True`): whether to show a progress bar.

    Returns:
        `dict`: the report as it stands in `curate_report.json`, and `run`: what this run did (`seconds`, `rows`,
        `calls`, `spending`). With `dry_run` the estimate, with `sample` that and the path of the preview.

    Raises:
        `SemiHVError`: a setting is wrong, which is found before anything is paid for, or `out` holds something else.
    """
    started = time.perf_counter()
    recipe = _recipe(config, data, out, max_cost_usd)
    recipe.settings()
    if workers is not None and workers < 1:
        raise SemiHVError(f"{workers} workers can do nothing.", "Give at least 1.")
    cases = list_cases(recipe.cases, recipe.splits, recipe.block_rows, recipe.limit)
    signed = attestation(recipe)
    for source in cases.sources:
        may_write(source, attestation=signed).check()
    target = Path(recipe.out)
    with only_one(target) as work, progress_bar("looking", shown=progress) as bar:
        if sample is not None or dry_run:
            from .preview import estimate, preview

            job = Job(recipe, cases, work, known_duplicates(recipe), cache_only or not ask)
            # For a look ahead the search for duplicates is not made; what an earlier one found is used.
            return estimate(job, bar) if sample is None else preview(job, sample, bar)
        # What can be wrong is looked at before the search for duplicates, which takes long.
        job = Job(recipe, cases, work, known_duplicates(recipe), cache_only)
        tools = open_tools(job)
        if not overwrite and (report := finished(target, made_of(job))) is not None:
            clear(target, keep=False)
            return {**report, "run": _told(started, [])}
        preflight(job, tools)
        job = replace(job, duplicates=duplicates_folder(recipe, cases, work))
        tools, fingerprint = open_tools(job), made_of(job)
        take_up(target, fingerprint, overwrite=overwrite)
        sweep(work)
        pieces: list[dict[str, Any]] = []
        if batch:
            from .batched import answer_by_batch

            job, spending = answer_by_batch(job, tools, bar)
            pieces.append({"rows": 0, "calls": 0, "spending": spending})
        pieces += _do(job, [b.number for b in cases.blocks if not is_done(work, b.number)], engine, workers, bar)
        report = assemble(job, fingerprint, tools, bar)
        clear(target, keep=bool(report["failures"]))
    return {**report, "run": _told(started, pieces)}


def _recipe(config: str | Path | CurateConfig, data: Any, out: Any, max_cost_usd: float | None) -> CurateConfig:
    given = {
        "cases": None if data is None else str(data),
        "out": None if out is None else str(out),
        "max_cost_usd": max_cost_usd,
    }
    return config.changed(**given) if isinstance(config, CurateConfig) else read_config(config, **given)


def preflight(job: Job, tools: Tools) -> None:
    """Finds what would make every call fail, at no cost.

    Args:
        job ([`Job`]): the curation.
        tools ([`Tools`]): its parts.

    Raises:
        `SemiHVError`: no key, no such server or model, a limit without a price, or a licence that sends nothing.
    """
    from semihv_hf.data.licences import may_send
    from semihv_hf.llm.client import ChatClient

    purse = budget(job.config)
    purse.check(tools.settings)
    refused = [
        decision.reason
        for source in job.cases.sources
        if not (decision := may_send(source, tools.settings.shown_url, attestation=tools.attestation)).allowed
    ]
    if len(refused) == len(job.cases.sources):
        raise SemiHVError(refused[0], "Use a server on this machine, or sign a statement (docs/licences.md).")
    if not job.cache_only:
        with ChatClient(tools.settings, budget=purse) as client:
            client.check()


def _do(job: Job, numbers: Sequence[int], engine: str, workers: int | None, bar: ProgressBar) -> list[dict[str, Any]]:
    """Does what is missing, by processes of this machine or of a cluster."""
    rows = sum(job.cases.blocks[number].rows for number in numbers)
    telling = Telling(bar, rows)
    bar.begin("curating", rows)
    workers = 1 if workers is None and engine == "local" else workers
    if engine == "local" and workers == 1:
        return [curate_span(job, numbers, telling.case)] if numbers else []
    with engines.engine(engine, workers) as machines:
        count = workers or machines.processors()
        divided = replace(job, config=_divided(job.config, count), pending=rows)
        pieces = []
        for _, done in machines.run(partial(curate_span, divided), spans(numbers, max(count, 2))):
            pieces.append(done)
            telling.piece(done)
    return pieces


def _divided(config: CurateConfig, workers: int) -> CurateConfig:
    """The calls that the server bears, divided among the processes."""
    server = dict(config.server or {})
    server["max_concurrency"] = max(1, config.settings().max_concurrency // workers)
    return config.changed(server=server)


class Telling:
    """What is told while a run goes on: rows a second, dollars so far and to come, failures by reason.

    Args:
        bar ([`ProgressBar`]): where it stands.
        rows (`int`): how many cases this run does.
    """

    def __init__(self, bar: ProgressBar, rows: int):
        self.rows = rows
        self.done = 0
        self.spent = 0.0
        self.priced = True
        self.failures: Counter[str] = Counter()
        self._bar = bar
        self._started = time.monotonic()
        self._shown = 0.0

    def case(self, outcome: Outcome, purse: Budget) -> None:
        """Counts a case.

        Args:
            outcome ([`Outcome`]): what became of it.
            purse ([`Budget`]): what was spent.
        """
        self.done += 1
        self.failures.update(failure["kind"] for failure in outcome.failures)
        now = time.monotonic()
        if self._bar.shown and (now - self._shown > 0.2 or self.done == self.rows):
            self._shown = now
            summary = purse.summary()
            self.spent, self.priced = purse.spent_usd, summary["calls_without_price"] == 0
            self._bar.update(done=self.done, note=self.told())

    def piece(self, done: Mapping[str, Any]) -> None:
        """Counts what a process has done.

        Args:
            done (`Mapping`): what [`curate_span`] gave.
        """
        self.done += done["rows"]
        self.failures.update({kind: count for _, kind, count in done["tally"]["failures"]})
        self.spent += (done["spending"]["cost_usd"] or 0.0) + done["spending"]["maybe_billed_usd"]
        self.priced = self.priced and done["spending"]["calls_without_price"] == 0
        self._bar.update(done=self.done, note=self.told())

    def told(self) -> str:
        """What stands behind the bar.

        Returns:
            `str`: such as `"12.4 rows/s, $0.31 of about $4.20, failed: 2 timeout"`.
        """
        rate = self.done / max(time.monotonic() - self._started, 1e-3)
        projected = self.spent / max(self.done, 1) * self.rows
        cost = f"${self.spent:.2f} of about ${projected:.2f}" if self.priced else "no price known"
        failed = ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common(3)) or "none"
        return f"{rate:,.1f} rows/s, {cost}, failed: {failed}"


def _told(started: float, pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    spending = Counter()
    for piece in pieces:
        spending.update({name: value for name, value in piece["spending"].items() if _is_number(value)})
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "rows": sum(piece["rows"] for piece in pieces),
        "calls": sum(piece["calls"] for piece in pieces),
        "spending": json.loads(json.dumps(dict(spending))),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
