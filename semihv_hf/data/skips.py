"""How much of a release was left out, and whether that is too much."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SemiHVError
from ..files import write_json
from .sources.base import DAMAGE

MAX_SKIPPED = 0.01


@dataclass
class Tally:
    """Cases that were kept, and what was left out by reason.

    Args:
        kept (`int`, *optional*, defaults to 0): the number of cases.
        skipped (`Counter[str]`, *optional*): how often each reason of `DAMAGE` or `EXCLUSIONS` occurred.
    """

    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.kept + other.kept, self.skipped + other.skipped)

    @property
    def damaged(self) -> int:
        """How much was left out because it is damaged; exclusions by a rule of the source do not count."""
        return sum(count for reason, count in self.skipped.items() if reason in DAMAGE)

    def describe(self) -> str:
        """One line for a message.

        Returns:
            `str`: for example `"2 left out of 100: 1 missing image, 1 unreadable image"`.
        """
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        left_out = self.skipped.total()
        return f"{left_out} left out of {self.kept + left_out}" + (f": {reasons}" if reasons else "")

    def check(self, source: str, max_skipped: float) -> None:
        """Stops here when too much of a release is damaged.

        Args:
            source (`str`): the release, for the message.
            max_skipped (`float`): the share of damaged things among those that are not excluded by a rule, 0 to 1.

        Raises:
            `SemiHVError`: the share is exceeded; the message names the reasons.
        """
        share = self.damaged / max(self.kept + self.damaged, 1)
        if share > max_skipped:
            raise SemiHVError(
                f"{share:.1%} of {source} cannot be used, more than the {max_skipped:.1%} allowed: {self.describe()}.",
                "Mend or complete the release, or raise max_skipped.",
            )

    def as_json(self) -> dict:
        """The tally as JSON can hold it.

        Returns:
            `dict`: `kept` and `skipped`.
        """
        return {"kept": self.kept, "skipped": dict(sorted(self.skipped.items()))}

    @classmethod
    def from_json(cls, value: Mapping) -> "Tally":
        """The tally that [`as_json`] wrote.

        Args:
            value (`Mapping`): `kept` and `skipped`.

        Returns:
            [`Tally`]: the same.
        """
        return cls(value["kept"], Counter(value["skipped"]))


class Ledger:
    """The tallies of blocks that several processes read; a block that is read again replaces its entry.

    Args:
        folder (`str` or `pathlib.Path`, *optional*): where the processes leave their entries; without it the entries
            stay in memory, and in one process.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = None if folder is None else Path(folder)
        self._entries: dict[str, Tally] = {}

    def add(self, block: str, tally: Tally) -> None:
        """Enters a block.

        Args:
            block (`str`): its name, fit for a file.
            tally ([`Tally`]): what was kept and skipped in it.
        """
        if self.folder is None:
            self._entries[block] = tally
        else:
            write_json(self.folder / f"{block}.json", tally.as_json())

    def total(self, blocks: Iterable[str]) -> Tally | None:
        """The sum over blocks.

        Args:
            blocks (`Iterable[str]`): their names.

        Returns:
            [`Tally`] or `None`: `None` while one of them has not been read to its end.
        """
        found = [self._entry(block) for block in blocks]
        return None if None in found else sum(found, Tally())

    def _entry(self, block: str) -> Tally | None:
        if self.folder is None:
            return self._entries.get(block)
        path = self.folder / f"{block}.json"
        return Tally.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
