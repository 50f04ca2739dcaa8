"""The command line `semihv`: one thin function a verb. What a verb does lives in the module it imports."""

import errno
import sys
from typing import Annotated

import typer

from semihv_hf.errors import SemiHVError

from . import curation, data, evaluation, models, publishing, retrieval, review, runs, verification

app = typer.Typer(
    name="semihv",
    help="A medical vision-language model, from clinical image releases to a judged checkpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of a failure.")] = False,
) -> None:
    """Options of every verb; `main` reads `--verbose` wherever it stands."""


for verbs in (runs, data, retrieval, curation, review, models, evaluation, publishing, verification):
    verbs.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and turns every failure into one clear line.

    Args:
        arguments (`list[str]`, *optional*): what follows `semihv`. By default the process's own arguments.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in arguments
    if verbose:  # accepted before and after the verb
        arguments = ["--verbose", *(argument for argument in arguments if argument != "--verbose")]
    try:
        app(args=arguments, prog_name="semihv")
    except SystemExit as stop:
        if stop.code == 130:  # typer's code for Ctrl-C
            _complain("interrupted: what was finished is kept. Run the same command again to continue.")
        raise
    except Exception as error:
        if verbose:
            raise
        _complain(f"error: {_one_line(error)}")
        sys.exit(1)


def _one_line(error: Exception) -> str:
    """What went wrong and what to do, on one line."""
    if isinstance(error, SemiHVError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space is left on the disk ({error.filename or 'while writing'}). Free some space and run again."
    message = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {message} (run again with --verbose for the traceback)"


def _complain(message: str) -> None:
    print(message, file=sys.stderr)
