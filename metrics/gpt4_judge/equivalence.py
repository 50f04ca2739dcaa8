"""`hit`: does a short answer say what the reference says? Rules first, the judge for the rest."""

from .calls import question_to_judge
from .calls import verdict_or_failure
from .fencing import fenced_messages
from .prompts import HIT
from .replies import Equivalence
from .rows import blank
from .rows import by_rule
from .rows import failed
from .rows import tokens
from .rows import without_answer

PROTOCOLS = ("equivalence",)
SCALE = (0.0, 1.0)
_YES_NO = (["yes"], ["no"])


def judge(rows, calls, protocol, repeats):
    """Judges short answers.

    Args:
        rows (`list[Row]`): the rows.
        calls (`Calls`): who is asked.
        protocol (`str`): `"equivalence"`.
        repeats (`int`): how often each is asked; the score is the mean.

    Returns:
        `list[dict]`: a decision for each row.
    """
    decisions = {row.number: decided(row) for row in rows}
    open_rows = [row for row in rows if decisions[row.number] is None]
    keys = [(row, repeat) for row in open_rows for repeat in range(repeats)]
    results = dict(zip(keys, calls.ask(plan(rows, protocol, repeats))))
    for row in open_rows:
        own = {f"answer {repeat}" if repeat else "answer": results[row, repeat] for repeat in range(repeats)}
        replies, failures = verdict_or_failure(own)
        hits = [float(reply.verdict == "equivalent") for reply in replies.values()]
        decisions[row.number] = (
            failed(blank(row), failures)
            if failures
            else {**blank(row), "score": sum(hits) / repeats, "repeat_scores": hits, "decided_by": "judge"}
        )
    return [decisions[row.number] for row in rows]


def plan(rows, protocol, repeats):
    """The calls of a run.

    Args:
        rows (`list[Row]`): the rows.
        protocol (`str`): `"equivalence"`.
        repeats (`int`): how often each is asked.

    Returns:
        `list[ChatRequest]`: the requests, `repeats` for each row that no rule decides, in order.
    """
    requests = []
    for row in rows:
        if decided(row) is not None:
            continue
        material = {
            "QUESTION": row.question,
            "CONTEXT": row.context,
            "REFERENCE ANSWER": row.reference,
            "ANSWER": row.prediction,
        }
        messages = fenced_messages(HIT, material)
        requests += [question_to_judge("answer", messages, Equivalence, row, repeat) for repeat in range(repeats)]
    return requests


def decided(row):
    """Decides what needs no judge.

    Args:
        row (`Row`): the row.

    Returns:
        `dict | None`: the decision, or `None` where the judge has to be asked.
    """
    if row.prediction is None:
        return without_answer(row)
    if row.empty:
        return by_rule(blank(row), "empty", 0.0)
    said, wanted = tokens(row.prediction), tokens(row.reference)
    if wanted and said == wanted:
        return by_rule(blank(row), "equal", 1.0)
    if said in _YES_NO and wanted in _YES_NO:
        return by_rule(blank(row), "opposite", 0.0)
    return None


def summary(decisions):
    """What this configuration adds to the result.

    Args:
        decisions (`list[dict]`): the decisions.

    Returns:
        `dict`: `n_hits`, the rows with a score above one half.
    """
    return {"n_hits": sum(decision["score"] is not None and decision["score"] > 0.5 for decision in decisions)}
