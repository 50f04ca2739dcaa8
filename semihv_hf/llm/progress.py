"""How far a run is: rows, failures and dollars in one line."""

from __future__ import annotations

from semihv_hf.llm.types import ChatResult
from semihv_hf.progress import ProgressBar


class SpendingBar:
    """Counts the results of a run, and tells them behind its progress bar.

    Args:
        bar ([`ProgressBar`]): the bar.
    """

    def __init__(self, bar: ProgressBar):
        self.failed = 0
        self.dollars = 0.0
        self.priced = True
        self._bar = bar

    def add(self, result: ChatResult) -> None:
        """Counts a row.

        Args:
            result ([`ChatResult`]): what became of it.
        """
        self.failed += result.failure is not None
        if result.usage is not None and not result.cached:
            self.priced = self.priced and result.usage.cost_usd is not None
            self.dollars += result.usage.cost_usd or 0.0
        if self._bar.shown:
            self._bar.update(note=self.told())
            self._bar.advance()

    def told(self) -> str:
        """What stands behind the bar.

        Returns:
            `str`: such as `"2 failed, $0.0310"`; a sum in which some prices are unknown is marked as at least.
        """
        return f"{self.failed} failed, {'' if self.priced else '≥ '}${self.dollars:.4f}"
