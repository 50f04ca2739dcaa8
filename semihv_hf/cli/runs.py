"""`semihv quickstart` and `semihv doctor`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import JudgeBaseUrl, JudgeModel, Seed, example, say


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(epilog=example("semihv quickstart --out runs/quickstart"))(quickstart)
    app.command(epilog=example("semihv doctor"))(doctor)


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run; finished stages in it are reused.")] = Path(
        "runs/quickstart"
    ),
    size: Annotated[Literal["full", "tiny"], typer.Option(help="tiny: few images and steps, for a test.")] = "full",
    seed: Seed = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do every stage again.")] = False,
    text_model: Annotated[
        str | None, typer.Option(help="A Llama-architecture model: folder or Hub id. By default SmolLM2-135M.")
    ] = None,
    judge_base_url: JudgeBaseUrl = None,
    judge_model: JudgeModel = None,
) -> None:
    """Build, train, predict, score and report on real images, in one go."""
    from semihv_hf.quickstart import run_quickstart

    run_quickstart(
        out,
        size=size,
        seed=seed,
        fresh=fresh,
        text_model=text_model,
        judge_base_url=judge_base_url,
        judge_model=judge_model,
    )
    say(f"The report: {out / 'report.html'}")


def doctor() -> None:
    """Show what is installed, what is missing and which extra brings it."""
    from semihv_hf.doctor import print_diagnosis

    if not print_diagnosis():
        raise typer.Exit(1)
