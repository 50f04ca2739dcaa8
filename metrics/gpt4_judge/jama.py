"""`jama`: three lists out of the reference discussion, then each item looked up in the student's explanation."""

from .calls import question_to_judge
from .calls import verdict_or_failure
from .fencing import fenced_messages
from .prompts import GRADE
from .prompts import LIST
from .prompts import MARK
from .prompts import PARTS
from .replies import MOST_ITEMS
from .replies import TOP_SCORE
from .replies import Grade
from .replies import Items
from .replies import hits_in
from .replies import part_score
from .replies import verdicts_on
from .rows import blank
from .rows import by_rule
from .rows import failed
from .rows import without_answer

PROTOCOLS = ("items", "authors")
SCALE = (0.0, TOP_SCORE)
FIELDS = (*PARTS, "hits")


def judge(rows, calls, protocol, repeats):
    """Judges explanations.

    Args:
        rows (`list[Row]`): the rows.
        calls (`Calls`): who is asked.
        protocol (`str`): `"items"` (a verdict on each item) or `"authors"` (one grade for each list).
        repeats (`int`): how often each explanation is marked; the score is the mean.

    Returns:
        `list[dict]`: a decision for each row.
    """
    decisions = {row.number: _decided(row) for row in rows}
    open_rows = [row for row in rows if decisions[row.number] is None]
    wanted = [(row, part) for row in open_rows for part in PARTS]
    listed = dict(zip(wanted, calls.ask([_listing(row, part) for row, part in wanted])))
    marks = [
        (row, part, repeat)
        for (row, part), result in listed.items()
        if result.failure is None
        for repeat in range(repeats)
    ]
    marking = [_marking(row, part, listed[row, part].parsed.items, protocol, repeat) for row, part, repeat in marks]
    marked = dict(zip(marks, calls.ask(marking)))
    for row in open_rows:
        decisions[row.number] = _decision(row, listed, marked, repeats)
    return [decisions[row.number] for row in rows]


def plan(rows, protocol, repeats):
    """The calls of a run, for an estimate: the lists are not known yet, so each is taken to be a full one.

    Args:
        rows (`list[Row]`): the rows.
        protocol (`str`): the protocol.
        repeats (`int`): how often each explanation is marked.

    Returns:
        `list[ChatRequest]`: the requests.
    """
    items = ["a sentence of usual length that names one finding and what it means"] * MOST_ITEMS
    open_rows = [row for row in rows if _decided(row) is None]
    return [
        *(_listing(row, part) for row in open_rows for part in PARTS),
        *(
            _marking(row, part, items, protocol, repeat)
            for row in open_rows
            for part in PARTS
            for repeat in range(repeats)
        ),
    ]


def _decided(row):
    if row.prediction is None:
        return without_answer(row, *FIELDS)
    if row.empty:
        return by_rule(blank(row, *FIELDS), "empty", 0.0, **dict.fromkeys(PARTS, 0.0))
    # An explanation equal to the reference is not decided here: how a judge marks it says what the judge is worth.
    return None


def _listing(row, part):
    messages = fenced_messages(
        LIST.format(wanted=PARTS[part][0]),
        {"CASE": row.question, "CONTEXT": row.context, "REFERENCE DISCUSSION": row.reference},
    )
    return question_to_judge(f"list {part}", messages, Items, row)


def _marking(row, part, items, protocol, repeat):
    prompt = MARK if protocol == "items" else GRADE
    listed = "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
    messages = fenced_messages(
        prompt.format(rule=PARTS[part][1], count=len(items)),
        {"MARKING LIST": listed, "STUDENT'S EXPLANATION": row.prediction},
    )
    schema = verdicts_on(len(items)) if protocol == "items" else Grade
    return question_to_judge(f"mark {part}", messages, schema, row, repeat)


def _decision(row, listed, marked, repeats):
    """A failed call costs its part and the row's score, and nothing else."""
    scores, each, hits, failures = {}, {}, {}, []
    for part in PARTS:
        results = {f"list of {part}": listed[row, part]}
        if listed[row, part].failure is None:
            results = {f"{part} {repeat}" if repeat else part: marked[row, part, repeat] for repeat in range(repeats)}
        replies, lost = verdict_or_failure(results)
        failures += lost
        if not lost:
            each[part] = [_score(reply) for reply in replies.values()]
            scores[part] = sum(each[part]) / repeats
            hits[part] = [hits_in(reply) for reply in replies.values() if not isinstance(reply, Grade)] or None
    decision = {**blank(row, *FIELDS), **scores, "hits": hits or None}
    if failures:
        return failed(decision, failures)
    return {
        **decision,
        "score": sum(scores.values()) / len(PARTS),
        "repeat_scores": [sum(marks) / len(PARTS) for marks in zip(*each.values())],
        "decided_by": "judge",
    }


def _score(reply):
    return reply.score if isinstance(reply, Grade) else part_score(hits_in(reply))


def summary(decisions):
    """What this configuration adds to the result.

    Args:
        decisions (`list[dict]`): the decisions.

    Returns:
        `dict`: `means`, the mean of each sub-score over the scored rows.
    """
    scored = [decision for decision in decisions if decision["score"] is not None]
    return {
        "means": {part: sum(decision[part] for decision in scored) / len(scored) if scored else None for part in PARTS}
    }
