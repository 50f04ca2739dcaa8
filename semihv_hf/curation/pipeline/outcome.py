"""What became of a case, and the counts over many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from semihv_hf.data.schema import Case, Evidence, Record
from semihv_hf.llm.types import ChatRequest, ChatResult, Failure, Usage

LEFT_OUT = ("malformed case", "duplicate", "no task")


@dataclass
class Outcome:
    """What became of a case.

    Args:
        case ([`Case`], *optional*): the case with its labels; `None` where it is left out.
        records (`list[Record]`): what was made of it.
        failures (`list[dict]`): what has no answer: `stage`, `task`, `kind`, `detail` and `attempts`.
        rejected (`list[dict]`): answers that a filter refused: `task`, `rule` and `detail`.
        left_out (`tuple[str, str]`, *optional*): why the case is in no part of the output, of `LEFT_OUT`, and details.
        source (`str`): of the case.
        source_id (`str`): of the case.
        case_id (`str`): of the case.
        answers (`int`): how many answers it has.
        usage ([`Usage`]): what these used when they were asked.
        evidence (`list[Evidence]`): what was retrieved, for the preview.
        evidence_images (`Mapping[str, list[bytes]]`): the images of similar cases by `Evidence.id`, for the preview.
        prompts (`list[tuple[str, ChatRequest, ChatResult]]`): stage or task, request and result, for the preview.
    """

    case: Case | None = None
    records: list[Record] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    left_out: tuple[str, str] | None = None
    source: str = ""
    source_id: str = ""
    case_id: str = ""
    answers: int = 0
    usage: Usage = Usage(cost_usd=0.0)
    evidence: list[Evidence] = field(default_factory=list)
    evidence_images: Mapping[str, list[bytes]] = field(default_factory=dict)
    prompts: list[tuple[str, ChatRequest, ChatResult]] = field(default_factory=list)

    def fail(self, stage: str, failure: Failure, task: str = "") -> None:
        """Notes that something has no answer."""
        row = {"kind": failure.kind, "detail": failure.detail, "attempts": failure.attempts}
        self.failures.append({"stage": stage, "task": task, **row})


@dataclass
class Tally:
    """Counts over cases, as they stand in the report.

    Args:
        cases (`Counter`): by source.
        left_out (`Counter`): by reason.
        labels (`Counter`): by name, class and who decided.
        records (`Counter`): by task.
        failures (`Counter`): by stage and kind.
        rejected (`Counter`): by task and rule.
        evidence (`Counter`): by corpus, of the records.
        sources (`Counter`): records by source, those of their evidence included.
        answers (`int`): answers used.
        usage ([`Usage`]): what they used when they were asked.
    """

    cases: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)
    labels: Counter = field(default_factory=Counter)
    records: Counter = field(default_factory=Counter)
    failures: Counter = field(default_factory=Counter)
    rejected: Counter = field(default_factory=Counter)
    evidence: Counter = field(default_factory=Counter)
    sources: Counter = field(default_factory=Counter)
    answers: int = 0
    usage: Usage = Usage(cost_usd=0.0)

    def add(self, outcome: Outcome) -> None:
        """Counts a case."""
        self.cases[outcome.source,] += 1
        if outcome.left_out is not None:
            self.left_out[outcome.left_out[0],] += 1
        for label in outcome.case.labels if outcome.case else ():
            value = "(free words)" if label.name == "topic" else label.value
            self.labels[label.name, value, label.decided_by] += 1
        for record in outcome.records:
            self.records[record.task,] += 1
            self.sources[record.source,] += 1
            for name in sorted({item.source for item in record.evidence} - {record.source}):
                self.sources[name,] += 1
            for item in record.evidence:
                self.evidence[item.corpus,] += 1
        for failure in outcome.failures:
            self.failures[failure["stage"], failure["kind"]] += 1
        for item in outcome.rejected:
            self.rejected[item["task"], item["rule"]] += 1
        self.answers += outcome.answers
        self.usage = self.usage + outcome.usage

    def update(self, other: Tally) -> None:
        """Adds the counts of other cases."""
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.answers += other.answers
        self.usage = self.usage + other.usage

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON can hold them; [`from_json`] reads them."""
        counters = {name: [[*key, count] for key, count in sorted(getattr(self, name).items())] for name in _COUNTERS}
        return {**counters, "answers": self.answers, "usage": vars(self.usage)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """The counts that [`as_json`] wrote."""
        counters = {name: Counter({tuple(key): count for *key, count in value[name]}) for name in _COUNTERS}
        return cls(**counters, answers=value["answers"], usage=Usage(**value["usage"]))


_COUNTERS = ("cases", "left_out", "labels", "records", "failures", "rejected", "evidence", "sources")
