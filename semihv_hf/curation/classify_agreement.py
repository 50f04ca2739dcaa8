"""How often a model that looks at the images sees the class that a rule is certain of: a measure of the model.

It counts the cases in which both can tell; `ClassifyOptions.check_share` has the model asked in a share of those that
rules know. These cases are not like those that rules leave open: they are mostly radiology, which is easier.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from semihv_hf.curation.classify import CHECKED
from semihv_hf.curation.classify_rules import labels_by_rule
from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES
from semihv_hf.data.schema import Case

_CLASSES = {"modality": MODALITIES, "body_part": BODY_PARTS}
_NORMAL_95 = 1.959964


@dataclass
class RuleAgreement:
    """The comparison for one label.

    Args:
        name (`str`): the label.
        confusion (`Counter`): how many cases have a pair (rule's class, model's class).
        rule_only (`int`): cases that the rule tells and the model was not asked about, or gave no answer.
        model_only (`int`): cases that no rule tells.
        neither (`int`): cases without any class.
    """

    name: str
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    rule_only: int = 0
    model_only: int = 0
    neither: int = 0

    @property
    def compared(self) -> int:
        """The cases in which both can tell."""
        return sum(self.confusion.values())

    @property
    def agreed(self) -> int:
        """Those of them in which both say the same."""
        return sum(count for (rule, model), count in self.confusion.items() if rule == model)

    @property
    def share(self) -> float | None:
        """`agreed` of `compared`; `None` where nothing was compared."""
        return self.agreed / self.compared if self.compared else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the share by Wilson (1927), as if the cases were independent."""
        count = self.compared
        if not count:
            return None
        share, square = self.agreed / count, _NORMAL_95**2
        middle = (share + square / (2 * count)) / (1 + square / count)
        half = _NORMAL_95 * ((share * (1 - share) + square / (4 * count)) / count) ** 0.5 / (1 + square / count)
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def classes(self) -> list[str]:
        """The classes that occur, in the order of the vocabulary."""
        seen = {name for pair in self.confusion for name in pair}
        return [name for name in _CLASSES[self.name] if name in seen]

    def by_class(self) -> dict[str, tuple[int, int]]:
        """For each class of the rule in how many of its cases the model says the same: (agreed, cases)."""
        cases: Counter[str] = Counter()
        for (rule, _), count in self.confusion.items():
            cases[rule] += count
        return {name: (self.confusion[name, name], cases[name]) for name in self.classes if cases[name]}

    def content(self) -> dict[str, Any]:
        """The comparison as JSON, with its denominators."""
        return {
            "label": self.name,
            "compared": self.compared,
            "agreed": self.agreed,
            "share": self.share,
            "interval_95": self.interval,
            "rule_only": self.rule_only,
            "model_only": self.model_only,
            "neither": self.neither,
            "confusion": [
                {"rule": rule, "model": model, "cases": self.confusion[rule, model]}
                for rule in self.classes
                for model in self.classes
                if self.confusion[rule, model]
            ],
        }


def agreement_with_rules(cases: Iterable[Case]) -> dict[str, RuleAgreement]:
    """Compares the labels of models with those of rules.

    Args:
        cases (`Iterable[Case]`): labelled cases, read one by one. A case's rule labels are worked out anew; of several
            labels by models the first counts.

    Returns:
        `dict[str, RuleAgreement]`: for `"modality"` and `"body_part"`. Topics are free words and are not compared.
    """
    found = {name: RuleAgreement(name) for name in CHECKED}
    for case in cases:
        rules = {label.name: label.value for label in labels_by_rule(case)}
        for name, agreement in found.items():
            rule = rules.get(name)
            model = next(
                (label.value for label in case.labels if label.name == name and label.decided_by == "model"), None
            )
            if rule is not None and model is not None:
                agreement.confusion[rule, model] += 1
            else:
                agreement.rule_only += rule is not None
                agreement.model_only += model is not None
                agreement.neither += rule is None and model is None
    return found


def agreement_table(found: Mapping[str, RuleAgreement]) -> str:
    """The comparison as Markdown: a sentence and a confusion table for each label.

    Args:
        found (`Mapping[str, RuleAgreement]`): what [`agreement_with_rules`] returns.

    Returns:
        `str`: rows are the rule's classes, columns the model's.
    """
    parts = []
    for name, agreement in found.items():
        left = f"told by a rule only {agreement.rule_only}, by the model only {agreement.model_only}"
        left += f", by neither {agreement.neither}"
        if not agreement.compared:
            parts.append(f"**{name}**: nothing to compare ({left}).")
            continue
        low, high = agreement.interval
        head = f"**{name}**: the model agrees with the rule in {agreement.agreed} of {agreement.compared} cases "
        parts.append(f"{head}({agreement.share:.1%}, 95 % interval {low:.1%} to {high:.1%}; {left}).")
        classes = agreement.classes
        lines = ["| rule \\ model | " + " | ".join(classes) + " | agreed |", "|---" * (len(classes) + 2) + "|"]
        for rule, (same, count) in agreement.by_class().items():
            cells = [str(agreement.confusion[rule, model] or "") for model in classes]
            lines.append(f"| {rule} | " + " | ".join(cells) + f" | {same} of {count} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
