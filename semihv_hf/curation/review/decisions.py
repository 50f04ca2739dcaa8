"""What people decided: an append-only log that no run of the program throws away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.journal import Journal

from .items import PAIR, RECORD

LOG = "decisions.jsonl"
VERDICTS = {RECORD: ("accept", "edit", "reject"), PAIR: ("first", "second", "tie", "neither")}
REASONS = ("finding is wrong", "not visible in the image", "cannot be answered", "not grounded", "style", "other")


@dataclass(frozen=True)
class Decision:
    """One person's decision about one item.

    Args:
        item (`str`): the item's id.
        kind (`str`): `"record"` or `"pair"`.
        reviewer (`str`): the name that the person gave.
        verdict (`str`): one of `VERDICTS[kind]`. `"first"` and `"second"` are by the order of `records`.
        records (`tuple[str, ...]`): the ids of the records, in the order in which they were shown.
        reason (`str`, *optional*): one of `REASONS`.
        note (`str`, *optional*): free text.
        texts (`dict[str, str]`, *optional*): new texts by the number of their message; only of an `"edit"`.
        time (`str`, *optional*): when, in UTC.
    """

    item: str
    kind: str
    reviewer: str
    verdict: str
    records: tuple[str, ...]
    reason: str = ""
    note: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    time: str = ""

    def check(self) -> None:
        """Refuses what is no decision.

        Raises:
            `SemiHVError`: a field has no allowed value.
        """
        if self.verdict not in VERDICTS.get(self.kind, ()):
            raise SemiHVError(f"{self.verdict!r} is no verdict about a {self.kind}.")
        if not self.reviewer.strip():
            raise SemiHVError("The decision names no reviewer.")
        if self.reason and self.reason not in REASONS:
            raise SemiHVError(f"{self.reason!r} is no reason.", f"Known are: {', '.join(REASONS)}.")
        if self.verdict == "edit" and not self.texts:
            raise SemiHVError("The edit changes nothing.", "Accept the record instead.")
        if any(not text.strip() for text in self.texts.values()):
            raise SemiHVError("An edited message is empty.", "Reject the record if nothing of it is to stay.")


class Decisions:
    """The decisions about one set of records; of a reviewer's decisions about an item the last one counts.

    Args:
        folder (`str` or `pathlib.Path`): where the log lies; made if it is missing.
        data (`Mapping`): what tells this set of records from others; a log of other records is refused.

    Raises:
        `SemiHVError`: the folder belongs to other records.
    """

    def __init__(self, folder: str | Path, data: Mapping[str, object]):
        self.folder = Path(folder)
        self._journal = Journal(self.folder / LOG, {"format": "semihv-review-1", **data})
        self._writing = threading.Lock()
        self._last: dict[tuple[str, str], Decision] = {}
        rows, _ = self._journal.load(replace=False)
        for row in rows:
            self._keep(Decision(**{**row, "records": tuple(row["records"])}))

    def add(self, decision: Decision) -> Decision:
        """Writes a decision; it is on the disk when this returns.

        Args:
            decision ([`Decision`]): the decision; its time is set here.

        Returns:
            [`Decision`]: as it was written.

        Raises:
            `SemiHVError`: it is none.
        """
        decision.check()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        decision = Decision(**{**asdict(decision), "time": now})
        with self._writing:
            self._journal.append([asdict(decision)])
            self._keep(decision)
        return decision

    def _keep(self, decision: Decision) -> None:
        # The newest stands last, also where it replaces an earlier one of the same person.
        self._last.pop((decision.item, decision.reviewer), None)
        self._last[decision.item, decision.reviewer] = decision

    def of(self, item: str, reviewer: str) -> Decision | None:
        """A person's decision about an item."""
        return self._last.get((item, reviewer))

    def by_item(self) -> dict[str, list[Decision]]:
        """All decisions that count, by item, the newest last."""
        found: dict[str, list[Decision]] = {}
        for decision in self._last.values():
            found.setdefault(decision.item, []).append(decision)
        return found

    def counts(self, reviewer: str | None = None) -> Counter[str]:
        """Decisions by verdict.

        Args:
            reviewer (`str`, *optional*): only this person's.

        Returns:
            `Counter`: how many of each verdict.
        """
        return Counter(one.verdict for one in self._last.values() if reviewer in (None, one.reviewer))

    def close(self) -> None:
        """Closes the log."""
        self._journal.close()
