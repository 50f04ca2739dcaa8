"""The rows to be judged: what each must hold, what is decided without the judge, and what is written down of each."""

import re
import unicodedata
from dataclasses import dataclass

from semihv_hf.errors import SemiHVError

# A sign in front of a number and a comparison carry meaning ("< 5 mm"); a hyphen inside a word does not ("X-ray").
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+|[+<>=≤≥±%]|(?<![^\W_])[-−](?=\s*\d)")


@dataclass(frozen=True)
class Row:
    """One answer and what it is judged against.

    Args:
        number (`int`): its place in the input, from 0.
        case_id (`str`): the case; rows of one case stand or fall together in the bootstrap.
        question (`str`): the question, with the case it is about.
        reference (`str`): the reference, or the other answer of a pair.
        prediction (`str` or `None`): the answer; `None` if there is none because something failed.
        context (`str`): what else the judge may know.
        sources (`tuple[str, ...]`): names in the licence registry whose text the row holds.
    """

    number: int
    case_id: str
    question: str
    reference: str
    prediction: str | None
    context: str = ""
    sources: tuple = ()

    @property
    def empty(self):
        """Whether the answer holds nothing that could be read."""
        return self.prediction is not None and not tokens(self.prediction)


def tokens(text):
    """Splits a text into what must agree for two short answers to be the same.

    Args:
        text (`str`): any text.

    Returns:
        `list[str]`: its words, numbers and signs in one Unicode form, without case and punctuation.
    """
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def read_rows(predictions, references, questions, case_ids=None, contexts=None, sources=None):
    """Checks the input before anything is paid for.

    Args:
        predictions (`list[str | None]`): the answers.
        references (`list[str]`): what they are judged against.
        questions (`list[str]`): the questions.
        case_ids (`list[str]`, *optional*): without them every row is a case of its own.
        contexts (`list[str | None]`, *optional*): what else the judge may know.
        sources (`list`, *optional*): a name in the licence registry or a list of names for each row.

    Returns:
        `list[Row]`: the rows, in order.

    Raises:
        `SemiHVError`: names the row or the argument that is wrong.
    """
    count = len(predictions)
    if not count:
        raise SemiHVError("`predictions` is empty.", "There is nothing to judge.")
    if questions is None:
        raise SemiHVError("`questions` is missing.", "The judge needs the question of every row.")
    columns = {"references": references, "questions": questions, "case_ids": case_ids, "contexts": contexts}
    for name, values in {**columns, "sources": sources}.items():
        if isinstance(values, str) or (values is not None and len(values) != count):
            size = "is one text" if isinstance(values, str) else f"has {len(values)} entries"
            raise SemiHVError(f"`{name}` {size} for {count} predictions.", "Give one entry a row.")
    case_ids = case_ids if case_ids is not None else [str(number) for number in range(count)]
    rows = []
    for number in range(count):
        _check_text(number, "prediction", predictions[number], may_be_none=True)
        for name, values in (("reference", references), ("question", questions)):
            _check_text(number, name, values[number])
        context = contexts[number] if contexts is not None else None
        _check_text(number, "context", context, may_be_none=True)
        if not isinstance(case_ids[number], (str, int)):
            raise SemiHVError(f"Row {number}: the case id {case_ids[number]!r} is neither text nor a number.")
        rows.append(
            Row(
                number,
                str(case_ids[number]),
                questions[number],
                references[number],
                predictions[number],
                context or "",
                _sources(number, sources[number]) if sources is not None else (),
            )
        )
    return rows


def _check_text(number, name, value, may_be_none=False):
    if value is None and may_be_none:
        return
    if not isinstance(value, str):
        raise SemiHVError(f"Row {number}: the {name} {value!r} is not text.")
    if not may_be_none and not value.strip():
        raise SemiHVError(f"Row {number}: the {name} is empty.")


def _sources(number, value):
    names = (value,) if isinstance(value, str) else tuple(value or ())
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SemiHVError(f"Row {number}: `sources` holds {value!r} instead of a name or a list of names.")
    return names


def blank(row, *parts):
    """The decision on a row before there is one.

    Args:
        row (`Row`): the row.
        parts (`str`): names of the configuration's own fields.

    Returns:
        `dict`: `score`, `repeat_scores` (one for each repeat) and every part `None`, and no reason yet; `length` is
        that of the answer in words.
    """
    return {
        "row": row.number,
        "case_id": row.case_id,
        "score": None,
        "repeat_scores": None,
        **dict.fromkeys(parts),
        "decided_by": None,
        "rule": None,
        "empty": row.empty,
        "length": None if row.prediction is None else len(row.prediction.split()),
        "failure": None,
        "reason": None,
    }


def by_rule(decision, rule, score, **parts):
    """A decision that cost nothing.

    Args:
        decision (`dict`): what [`blank`] made.
        rule (`str`): the rule.
        score (`float`): the score.
        parts: the configuration's own fields.

    Returns:
        `dict`: the decision.
    """
    return {**decision, "score": score, **parts, "decided_by": "rule", "rule": rule}


def failed(decision, failures):
    """A row without a verdict: never a number, always a reason.

    Args:
        decision (`dict`): what [`blank`] made.
        failures (`list[tuple[str, str, str]]`): what failed, the kind of failure and its detail.

    Returns:
        `dict`: the decision, with the kind of the first failure and all reasons.
    """
    reason = "; ".join(dict.fromkeys(f"{what}: {kind}: {detail}" for what, kind, detail in failures))
    return {**decision, "score": None, "failure": failures[0][1], "reason": reason}


def without_answer(row, *parts):
    """The decision on a row whose answer does not exist.

    Args:
        row (`Row`): a row whose prediction is `None`.
        parts (`str`): names of the configuration's own fields.

    Returns:
        `dict`: a failure that is not the judge's.
    """
    return {**blank(row, *parts), "failure": "no_prediction", "reason": "there is no answer to judge"}
