"""How far a run is: rows, failures and dollars in one line."""

from __future__ import annotations

from typing import Any

from semihv_hf.llm.types import ChatResult


class ProgressBar:
    """A line in the terminal, for the length of a `with` block.

    Args:
        title (`str`): what stands before the bar.
        total (`int`): rows.
        shown (`bool`, *optional*, defaults to `True`): whether there is a line at all.
    """

    def __init__(self, title: str, total: int, shown: bool = True):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.failed = 0
        self.dollars = 0.0
        self.priced = True
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            disable=not shown,
        )
        self._task = self._bar.add_task(title, total=total, told="")

    def add(self, result: ChatResult) -> None:
        """Counts a row.

        Args:
            result ([`ChatResult`]): what became of it.
        """
        self.failed += result.failure is not None
        if result.usage is not None and not result.cached:
            self.priced = self.priced and result.usage.cost_usd is not None
            self.dollars += result.usage.cost_usd or 0.0
        if not self._bar.disable:
            self._bar.update(self._task, advance=1, told=self.told())

    def told(self) -> str:
        """What stands behind the bar.

        Returns:
            `str`: such as `"2 failed, $0.0310"`; a sum in which some prices are unknown is marked as at least.
        """
        return f"{self.failed} failed, {'' if self.priced else '≥ '}${self.dollars:.4f}"

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()
