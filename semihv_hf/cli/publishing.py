"""The verb that brings something to the Hub."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import example, say


def add_to(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command(
        epilog=example(
            "semihv publish dataset data/eurorad --repo-id my-clinic/eurorad --dry-run",
            "semihv publish model runs/quickstart/checkpoints/3_annealing --repo-id my-clinic/pmc-cambrian-small",
        )
    )(publish)


def publish(
    kind: Annotated[Literal["model", "dataset", "metric", "space"], typer.Argument(help="What the folder is.")],
    folder: Annotated[Path, typer.Argument(help="The folder; the repository becomes exactly what it holds.")],
    repo_id: Annotated[str, typer.Option(help="The repository on the Hub: namespace/name.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every file, its size and each licence decision; upload nothing.")
    ] = False,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="By default private where a licence binds all who have a copy."),
    ] = None,
    revision: Annotated[str, typer.Option(help="The branch; made if missing.")] = "main",
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    token_from_env: Annotated[
        str | None, typer.Option(help="Environment variable with the token. By default HF_TOKEN or `hf auth login`.")
    ] = None,
    attestation: Annotated[
        Path | None, typer.Option(help="A signed statement file, published along (docs/licences.md).")
    ] = None,
) -> None:
    """Put a model, dataset, metric or Space on the Hub in one commit. Resumes where it was stopped."""
    from semihv_hf.data.attestations import read_attestation
    from semihv_hf.hub.publish import publish as publish_folder

    report = publish_folder(
        kind,
        folder,
        repo_id,
        private=private,
        dry_run=dry_run,
        revision=revision,
        message=message,
        token_from_env=token_from_env,
        attestation=None if attestation is None else read_attestation(attestation),
    )
    for line in report.lines():
        say(line)
