"""The verb with which people look at records."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Seed, example, say

EXAMPLES = (
    "semihv review data/curated --out reviews/first --sample 200",
    "semihv review data/model_a --against data/model_b --out reviews/a_or_b",
    "semihv review data/curated --out reviews/first --sample 200 --export data/reviewed",
)


def add_to(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command(epilog=example(*EXAMPLES))(review)


def review(
    data: Annotated[Path, typer.Argument(help="Dataset folder with records, as `semihv curate` writes it.")],
    out: Annotated[Path, typer.Option(help="Folder of the decisions; a new run with the same records goes on.")],
    against: Annotated[
        Path | None, typer.Option(help="A second folder: choose between two answers to the same prompt.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only records of this task; may be repeated.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Only so many, drawn by the seed.")] = None,
    seed: Seed = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port, 0 for any free one.")] = 8765,
    export: Annotated[
        Path | None, typer.Option(help="Write records and preferences to this new folder instead of serving.")
    ] = None,
    keep_unseen: Annotated[
        bool, typer.Option("--keep-unseen", help="With --export: keep records that nobody looked at.")
    ] = False,
    attestation: Annotated[Path | None, typer.Option(help="A signed statement for the licence gate.")] = None,
) -> None:
    """Let people accept, edit or reject records in the browser, or choose between two; then write what they decided.

    Decisions are saved one by one. Edits and choices become preferences for DPO.
    """
    from semihv_hf.curation.review.run import open_review, serve_review
    from semihv_hf.data.attestations import read_attestation

    opened = open_review(data, out, against=against, tasks=task or (), sample=sample, seed=seed)
    for line in opened.told():
        say(line)
    if export is None:
        serve_review(opened, host, port, say)
        return
    report = opened.export(
        export, only_reviewed=not keep_unseen, attestation=read_attestation(attestation) if attestation else None
    )
    counts = ", ".join(f"{count:,} {end}" for end, count in report["counts"].items())
    rows = ", ".join(f"{config} {sum(splits.values()):,}" for config, splits in report["rows"].items())
    say(f"Of {report['listed']:,} items: {counts}. Wrote {rows} to {export}.")
