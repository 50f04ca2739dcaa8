"""What verbs of the command line share."""

from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn at random.")]
JudgeBaseUrl = Annotated[
    str | None, typer.Option(help="Address of the judge, an OpenAI-compatible server: http://host:port/v1")
]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's model name.")]


def example(*commands: str) -> str:
    """The examples at the end of a verb's help."""
    return "\n\n".join(f"Example:  [cyan]{command}[/cyan]" for command in commands)


def say(message: str) -> None:
    """Prints a line for the user."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(message, markup=False)
