"""`relative` and `pairwise`: two answers side by side, in both orders, since judges prefer a place."""

from .calls import question_to_judge
from .calls import verdict_or_failure
from .fencing import fenced_messages
from .prompts import PAIRWISE
from .prompts import RELATIVE
from .replies import Preference
from .replies import TwoGrades
from .rows import blank
from .rows import by_rule
from .rows import failed
from .rows import without_answer

RELATIVE_PROTOCOLS = ("both_orders", "llava-med")
RELATIVE_SCALE = (0.0, 1000.0)
PAIRWISE_PROTOCOLS = ("both_orders",)
PAIRWISE_SCALE = (0.0, 1.0)
# The order of LLaVA-Med comes first: the reference, then the answer.
ORDERS = ("reference_first", "prediction_first")
RELATIVE_FIELDS = ("prediction_grade", "reference_grade", "ratios")
PAIRWISE_FIELDS = ("outcome", "preferred")


def relative(rows, calls, protocol, repeats):
    """Grades each answer beside its reference answer.

    Args:
        rows (`list[Row]`): the rows; `reference` is the other answer.
        calls (`Calls`): who is asked.
        protocol (`str`): `"both_orders"`, or `"llava-med"`: the reference first, once.
        repeats (`int`): how often each order is asked; the score is the mean of all ratios.

    Returns:
        `list[dict]`: a decision for each row.
    """
    orders = ORDERS if protocol == "both_orders" else ORDERS[:1]
    return _judge(rows, calls, RELATIVE, TwoGrades, orders, repeats, _relative_rule, _relative_verdict)


def pairwise(rows, calls, protocol, repeats):
    """Says which answer of each pair is better.

    Args:
        rows (`list[Row]`): the rows; `reference` is the other answer, `context` the right one where it is known.
        calls (`Calls`): who is asked.
        protocol (`str`): `"both_orders"`.
        repeats (`int`): how often each order is asked.

    Returns:
        `list[dict]`: a decision for each row.
    """
    return _judge(rows, calls, PAIRWISE, Preference, ORDERS, repeats, _pairwise_rule, _pairwise_verdict)


def plan_relative(rows, protocol, repeats):
    """The calls of a run, for an estimate.

    Args:
        rows (`list[Row]`): the rows.
        protocol (`str`): the protocol.
        repeats (`int`): how often each order is asked.

    Returns:
        `list[ChatRequest]`: the requests.
    """
    orders = ORDERS if protocol == "both_orders" else ORDERS[:1]
    open_rows = [row for row in rows if _relative_rule(row) is None]
    return [request for _, request in _requests(open_rows, RELATIVE, TwoGrades, orders, repeats)]


def plan_pairwise(rows, protocol, repeats):
    """The calls of a run, for an estimate.

    Args:
        rows (`list[Row]`): the rows.
        protocol (`str`): the protocol.
        repeats (`int`): how often each order is asked.

    Returns:
        `list[ChatRequest]`: the requests.
    """
    open_rows = [row for row in rows if _pairwise_rule(row) is None]
    return [request for _, request in _requests(open_rows, PAIRWISE, Preference, ORDERS, repeats)]


def _requests(rows, prompt, schema, orders, repeats):
    """All calls with their `(row, order, repeat)`."""
    title = "REFERENCE" if schema is Preference else "CONTEXT"
    asked = []
    for row in rows:
        for order in orders:
            first, second = row.reference, row.prediction
            if order == "prediction_first":
                first, second = second, first
            material = {"QUESTION": row.question, title: row.context, "FIRST ANSWER": first, "SECOND ANSWER": second}
            messages = fenced_messages(prompt, material)
            for repeat in range(repeats):
                asked.append(((row, order, repeat), question_to_judge(order, messages, schema, row, repeat)))
    return asked


def _judge(rows, calls, prompt, schema, orders, repeats, rule, verdict):
    decisions = {row.number: rule(row) for row in rows}
    open_rows = [row for row in rows if decisions[row.number] is None]
    asked = _requests(open_rows, prompt, schema, orders, repeats)
    results = dict(zip([key for key, _ in asked], calls.ask([request for _, request in asked])))
    for row in open_rows:
        own = {(order, repeat): results[row, order, repeat] for order in orders for repeat in range(repeats)}
        replies, failures = verdict_or_failure(own)
        if failures:
            named = [(order, kind, detail) for (order, _), kind, detail in failures]
            decisions[row.number] = failed(blank(row, *_fields(schema)), named)
        else:
            decisions[row.number] = {**blank(row), **verdict(replies, orders, repeats), "decided_by": "judge"}
    return [decisions[row.number] for row in rows]


def _fields(schema):
    return PAIRWISE_FIELDS if schema is Preference else RELATIVE_FIELDS


def _same(row):
    return row.prediction.split() == row.reference.split()


def _relative_rule(row):
    if row.prediction is None:
        return without_answer(row, *RELATIVE_FIELDS)
    if row.empty:
        return by_rule(blank(row, *RELATIVE_FIELDS), "empty", 0.0)
    if _same(row):
        return by_rule(blank(row, *RELATIVE_FIELDS), "identical", 100.0)
    return None


def _pairwise_rule(row):
    if row.prediction is None:
        return without_answer(row, *PAIRWISE_FIELDS)
    if _same(row):
        return by_rule(blank(row, *PAIRWISE_FIELDS), "identical", 0.5, outcome="tie")
    if row.empty:
        return by_rule(blank(row, *PAIRWISE_FIELDS), "empty", 0.0, outcome="loss")
    return None


def _relative_verdict(replies, orders, repeats):
    ratios, each, predicted, referred = {}, [], [], []
    for order in orders:
        pairs = [(replies[order, repeat].first, replies[order, repeat].second) for repeat in range(repeats)]
        pairs = pairs if order == "reference_first" else [pair[::-1] for pair in pairs]
        each.append([100 * prediction / reference for reference, prediction in pairs])
        ratios[order] = sum(each[-1]) / repeats
        referred += [reference for reference, _ in pairs]
        predicted += [prediction for _, prediction in pairs]
    return {
        "score": sum(ratios.values()) / len(ratios),
        "repeat_scores": [sum(of_orders) / len(orders) for of_orders in zip(*each)],
        "prediction_grade": sum(predicted) / len(predicted),
        "reference_grade": sum(referred) / len(referred),
        "ratios": ratios,
    }


def _pairwise_verdict(replies, orders, repeats):
    preferred = {order: [_preferred(order, replies[order, n].winner) for n in range(repeats)] for order in orders}
    points = []
    for verdicts in zip(*preferred.values()):
        # Only a preference that survives the exchange of places is one.
        agreed = verdicts[0] if len(set(verdicts)) == 1 else "tie"
        points.append({"prediction": 1.0, "tie": 0.5, "reference": 0.0}[agreed])
    score = sum(points) / len(points)
    return {"score": score, "repeat_scores": points, "outcome": outcome_of(score), "preferred": preferred}


def outcome_of(score):
    """Names the outcome of a pair.

    Args:
        score (`float`): 0 to 1.

    Returns:
        `str`: `"win"`, `"tie"` or `"loss"`.
    """
    return "win" if score > 0.5 else "loss" if score < 0.5 else "tie"


def _preferred(order, winner):
    if winner == "tie":
        return "tie"
    return "reference" if (winner == "first") == (order == "reference_first") else "prediction"


def relative_summary(decisions):
    """What `relative` adds to the result.

    Args:
        decisions (`list[dict]`): the decisions.

    Returns:
        `dict`: `means` of the two grades, the ratio of these means, and how much the ratio grows when the answer
        stands first.
    """
    graded = [decision for decision in decisions if decision["decided_by"] == "judge"]
    means = {
        part: sum(decision[part] for decision in graded) / len(graded) if graded else None
        for part in ("prediction_grade", "reference_grade")
    }
    both = [decision["ratios"] for decision in graded if len(decision["ratios"]) == len(ORDERS)]
    gaps = [ratios["prediction_first"] - ratios["reference_first"] for ratios in both]
    return {
        "means": means,
        "ratio_of_means": 100 * means["prediction_grade"] / means["reference_grade"] if graded else None,
        "gain_of_the_first_place": sum(gaps) / len(gaps) if gaps else None,
    }


def pairwise_summary(decisions):
    """What `pairwise` adds to the result.

    Args:
        decisions (`list[dict]`): the decisions.

    Returns:
        `dict`: the number of wins, ties and losses, and of verdicts that followed the place instead of the answer.
    """
    counts = {f"n_{plural}": 0 for plural in ("wins", "ties", "losses")}
    plural_of = {"win": "n_wins", "tie": "n_ties", "loss": "n_losses"}
    n_by_place = n_pairs = 0
    for decision in decisions:
        if decision["outcome"] is not None:
            counts[plural_of[decision["outcome"]]] += 1
        for verdicts in zip(*(decision["preferred"] or {}).values()):
            n_pairs += 1
            n_by_place += set(verdicts) == {"prediction", "reference"}
    return {**counts, "n_judged_pairs": n_pairs, "n_followed_the_place": n_by_place}
