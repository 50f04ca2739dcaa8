"""What can be scored without looking at the image: the most frequent answer to each kind of question."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from semihv_hf.data.messages import message_text
from semihv_hf.evaluation.benchmarks import load_rows


class AnswerCounts:
    """How often each answer was given to each kind of question.

    Args:
        answers (`Iterable[tuple[str, str]]`): pairs of template and answer.
    """

    def __init__(self, answers: Iterable[tuple[str, str]]):
        self.by_template: dict[str, Counter] = defaultdict(Counter)
        self.overall: Counter = Counter()
        self.spelling: dict[str, str] = {}
        for template, answer in answers:
            key = _normal(answer)
            self.by_template[template][key] += 1
            self.overall[key] += 1
            self.spelling.setdefault(key, answer)

    def majority(self, template: str, options: list[str]) -> str | None:
        """Answers a question by frequency alone.

        Args:
            template (`str`): the kind of question.
            options (`list[str]`): the possible answers; empty for an open question.

        Returns:
            `str | None`: the answer given most often to this kind of question (among the options where there are any);
            to a kind never seen, the one given most often to any; `None` if nothing was ever counted for an open one.
        """
        seen = self.by_template.get(template) or Counter()
        if options:
            # max keeps the first of equals, so a tie goes to the option that the question names first.
            return max(options, key=lambda option: (seen[_normal(option)], self.overall[_normal(option)]))
        best = seen.most_common(1) or self.overall.most_common(1)
        return self.spelling[best[0][0]] if best else None


def train_answers(data: str | Path, config: str = "instruction", split: str = "train") -> AnswerCounts:
    """Counts the answers of the training questions.

    Args:
        data (`str` or `Path`): the dataset folder or a Hub id.
        config (`str`, *optional*, defaults to `"instruction"`): the config that the model was tuned on.
        split (`str`, *optional*, defaults to `"train"`): its split.

    Returns:
        `AnswerCounts`: the counts.
    """
    rows = load_rows(data, config, split, columns=["messages", "questions"])
    return AnswerCounts(
        (question["template"], message_text(row["messages"][question["turn"] + 1]))
        for row in rows
        for question in row["questions"]
    )


def reference_answers(rows: list[dict]) -> AnswerCounts:
    """Counts the reference answers of the scored rows themselves: the best that a fixed answer a template could do.

    Args:
        rows (`list[dict]`): prediction rows.

    Returns:
        `AnswerCounts`: the counts.
    """
    return AnswerCounts((row["template"], row["reference"]) for row in rows)


def majority_rows(rows: list[dict], counts: AnswerCounts) -> list[dict]:
    """Answers every row by frequency alone.

    Args:
        rows (`list[dict]`): prediction rows; their own predictions are not looked at.
        counts (`AnswerCounts`): what to go by.

    Returns:
        `list[dict]`: the rows with the majority answer as their prediction.
    """
    answered = []
    for row in rows:
        answer = counts.majority(row["template"], row["options"])
        error = None if answer is not None else "no answer was ever counted"
        answered.append({**row, "prediction": answer, "error": error})
    return answered


def _normal(answer: str) -> str:
    return " ".join(re.findall(r"\w+", answer.casefold()))
