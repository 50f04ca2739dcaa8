"""Verbs that make training conversations out of cases."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .common import example, say

EXAMPLES = "semihv curate --config quickstart --data data/cases --out data/curated --sample 20"


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(epilog=example(EXAMPLES))(curate)


def curate(
    config: Annotated[str, typer.Option(help="A recipe: a YAML file, or one of quickstart, full, smoke.")],
    data: Annotated[Path | None, typer.Option(help="Dataset folder with the cases; replaces the recipe's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; replaces the recipe's.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only show so many cases in <out>/preview.html; nothing is spent.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="With --sample: also ask for their answers.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate calls, tokens and dollars.")] = False,
    max_cost_usd: Annotated[float | None, typer.Option(help="The most that this run may spend.")] = None,
    cache_only: Annotated[bool, typer.Option("--cache-only", help="Ask nobody; use what was answered.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="Through the server's batch API: cheaper, slower.")] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. By default one: calls overlap anyhow.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another curation in the folder.")] = False,
) -> None:
    """Turn cases into training conversations: labels, evidence and texts from any OpenAI-compatible server.

    Resumes where it was stopped and pays for no answer twice; what failed is done again by the next run.
    """
    from semihv_hf.curation.pipeline.run import curate as run

    report = run(
        config,
        data=data,
        out=out,
        sample=sample,
        ask=ask,
        dry_run=dry_run,
        max_cost_usd=max_cost_usd,
        cache_only=cache_only,
        batch=batch,
        engine=engine,
        workers=workers,
        overwrite=overwrite,
    )
    if sample is not None or dry_run:
        say(_estimated(report))
        if sample is not None:
            say(f"Wrote {report['page']}: look at it before anything is paid for.")
        return
    for line in _done(report):
        say(line)


def _estimated(report: dict[str, Any]) -> str:
    whole = report["projected"]
    cost = "no price known" if whole["cost_usd"] is None else f"about ${whole['cost_usd']:,.2f}"
    return (
        f"{report['cases']:,} cases: about {whole['calls']:,.0f} calls, {whole['input_tokens']:,.0f} tokens to send, "
        f"{whole['output_tokens']:,.0f} back, {cost} (estimated from {report['from_cases']:,} cases; "
        f"{report['cached']:,} of their {report['requests']:,} answers are there)."
    )


def _done(report: dict[str, Any]) -> list[str]:
    """What became of it, each number with what it is a part of."""
    run = report["run"]
    rows = ", ".join(f"{config} {sum(splits.values()):,}" for config, splits in report["rows"].items()) or "nothing"
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in report["left_out"].items()) or "none"
    rejected = ", ".join(f"{count:,} {rule}" for _, rule, count in report["rejected"]) or "none"
    failed = ", ".join(f"{count:,} {stage} {kind}" for stage, kind, count in report["failures"])
    cost = run["spending"].get("cost_usd")
    lines = [
        f"Of {report['listed']:,} cases: {rows}. Left out: {left_out}. Refused by filters: {rejected}.",
        f"This run: {run['rows']:,} cases in {run['seconds']:,.1f} s, {run['calls']:,} calls"
        + (f", ${cost:,.4f}." if cost is not None else "."),
    ]
    if failed:
        lines.append(f"Without an answer: {failed} (failures.parquet). Run the same command again to ask for these.")
    return lines
