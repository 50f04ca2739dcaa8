"""The progress bar of everything that takes longer than two seconds: how many of how many, elapsed and left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ProgressBar:
    """A line on standard error.

    Args:
        bar (`rich.progress.Progress`, *optional*): what draws it; without it nothing is shown.
        title (`str`): what stands before the bar.
        total (`int`, *optional*): how many there are.
    """

    def __init__(self, bar: Any, title: str, total: int | None):
        self._bar = bar
        self._task = None if bar is None else bar.add_task(title, total=total, note="")

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return self._bar is not None

    def update(
        self,
        *,
        title: str | None = None,
        total: int | None = None,
        done: int | None = None,
        note: str | None = None,
    ) -> None:
        """Changes what is shown.

        Args:
            title (`str`, *optional*): what stands before the bar from now on.
            total (`int`, *optional*): how many there are.
            done (`int`, *optional*): how many of them are done.
            note (`str`, *optional*): what stands behind the bar.
        """
        if self._bar is not None:
            fields = {} if note is None else {"note": note}
            self._bar.update(self._task, description=title, total=total, completed=done, **fields)

    def begin(self, title: str, total: int) -> None:
        """Starts again from nothing, for the next thing to do.

        Args:
            title (`str`): what stands before the bar from now on.
            total (`int`): how many there are.
        """
        if self._bar is not None:
            self._bar.reset(self._task, description=title, total=total, note="")

    def advance(self, count: int = 1) -> None:
        """Counts what was done.

        Args:
            count (`int`, *optional*, defaults to 1): how many.
        """
        if self._bar is not None:
            self._bar.advance(self._task, count)


@contextmanager
def progress_bar(title: str, total: int | None = None, *, shown: bool = True) -> Iterator[ProgressBar]:
    """A progress bar for the length of a `with` block.

    Args:
        title (`str`): what stands before the bar.
        total (`int`, *optional*): how many there are; `None` if that is not known yet.
        shown (`bool`, *optional*, defaults to `True`): whether there is anything to see.

    Yields:
        [`ProgressBar`]: to be told what is done.
    """
    if not shown:
        yield ProgressBar(None, title, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # Standard output is for results: a table or JSON that is piped on stays clean.
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield ProgressBar(bar, title, total)
