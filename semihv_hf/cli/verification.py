"""`semihv verify`."""

from typing import Annotated

import typer

from .common import example, say


def add_to(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command(
        epilog=example(
            "semihv verify runs/quickstart/checkpoints/3_annealing",
            "semihv verify name/model --revision 0123456789abcdef0123456789abcdef01234567",
        )
    )(verify)


def verify(
    source: Annotated[str, typer.Argument(help="A checkpoint folder, or the id of a model repository.")],
    revision: Annotated[
        str | None, typer.Option(help="The commit of the repository: 40 hexadecimal digits, no branch.")
    ] = None,
    trust_manifest_of: Annotated[
        str | None, typer.Option(help="Also compare with the code of an installed package: semihv-hf.")
    ] = None,
) -> None:
    """Check a checkpoint before it is loaded: code as in its manifest, safetensors only, nothing else that runs."""
    from semihv_hf.hub.verify import verify as check

    found = check(source, revision, trust_manifest_of=trust_manifest_of)
    for file in found.files:
        say(f"{file.status:5}  {ascii(file.name)[1:-1]}  {file.said}")
    if not found.ok:
        say(f"{len(found.wrong)} of {len(found.files)} files are wrong: do not load {source}.")
        raise typer.Exit(1)
    # Where a repository was downloaded to: what was checked is what to load.
    where = "" if str(found.folder) == source else f" The files: {found.folder}"
    say(f"All {len(found.files)} files of {source} passed.{where}")
