"""From nothing to a judged checkpoint in one command."""

from .run import run_quickstart

__all__ = ["run_quickstart"]
