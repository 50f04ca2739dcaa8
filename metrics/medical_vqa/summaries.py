"""Decisions on rows become scores with their denominators, over all rows and by group."""

from collections import Counter
from collections import defaultdict

from .llava_med import OPEN_SCORES as PUBLISHED_OPEN_SCORES
from .ngrams import ORDERS
from .ngrams import corpus_bleu

_OPEN_SCORES = ("exact_match", "recall", "precision", "f1")


def by_group(rows, groups, summarise):
    """Summarises the rows of each group.

    Args:
        rows (`list[dict]`): the decisions.
        groups (`list[str]` or `dict[str, list[str]]`): a name for each row; or several such lists by their titles.
        summarise (`Callable`): makes the scores of a list of rows.

    Returns:
        `dict`: the scores of each group by its name; with several lists, one such `dict` for each title.

    Raises:
        ValueError: a list of groups has another length than the rows, or lacks a name.
    """
    if isinstance(groups, dict):
        return {title: _one_column(f"groups[{title!r}]", rows, names, summarise) for title, names in groups.items()}
    return _one_column("groups", rows, groups, summarise)


def _one_column(title, rows, names, summarise):
    if len(names) != len(rows):
        raise ValueError(f"`{title}` has {len(names)} entries for {len(rows)} predictions.")
    parts = defaultdict(list)
    for index, (row, name) in enumerate(zip(rows, names)):
        if name is None or name == "":
            raise ValueError(f"Row {index} has no name in `{title}`.")
        parts[name].append(row)
    return {name: summarise(parts[name]) for name in sorted(parts, key=str)}


def summarise(rows):
    """The scores of this module's own rules.

    Args:
        rows (`list[dict]`): decisions of `judge_closed` and `judge_open`, each with its `answer_type`.

    Returns:
        `dict`: the scores and `counts`.
    """
    closed = [row for row in rows if row["answer_type"] == "closed"]
    opened = [row for row in rows if row["answer_type"] == "open"]
    outcomes = Counter(row["outcome"] for row in closed)
    counts = {
        "closed": {
            "total": len(closed),
            "scored": len(closed) - outcomes["failed"],
            "failed": outcomes["failed"],
            "correct": outcomes["right"],
            "unparsed": outcomes["unparsed"],
            "empty": sum(row["empty"] for row in closed),
            "decided_by": dict(sorted(Counter(row["rule"] for row in closed).items())),
        },
        "open": _open_counts(opened),
    }
    result = {
        "closed_accuracy": _mean(outcomes["right"], counts["closed"]["total"]),
        "closed_accuracy_scored": _mean(outcomes["right"], counts["closed"]["scored"]),
    }
    for name in _OPEN_SCORES:
        total = sum(row[name] for row in opened if row[name] is not None)
        result[f"open_{name}"] = _mean(total, counts["open"]["total"])
        result[f"open_{name}_scored"] = _mean(total, counts["open"]["scored"])
    everything = [row["ngrams"] for row in opened]
    answered = [row["ngrams"] for row in opened if row["outcome"] == "scored"]
    for order in ORDERS:
        result[f"open_bleu_{order}"] = corpus_bleu(everything, order)
        result[f"open_bleu_{order}_scored"] = corpus_bleu(answered, order)
    result["counts"] = counts
    return result


def summarise_published(rows):
    """The scores of LLaVA-Med's script.

    Args:
        rows (`list[dict]`): decisions of `llava_med`, each with its `answer_type`.

    Returns:
        `dict`: the scores and `counts`; `counts["printed"]` holds the two counts as the script labels them, swapped.
    """
    closed = [row for row in rows if row["answer_type"] == "closed"]
    opened = [row for row in rows if row["answer_type"] == "open"]
    hits = [row["hit"] for row in closed if row["hit"] is not None]
    result = {"closed_accuracy": _mean(sum(hits), len(hits))}
    for name in PUBLISHED_OPEN_SCORES:
        result[f"open_{name}"] = _mean(sum(row[name] for row in opened), len(opened))
    result["counts"] = {
        "closed": {
            "total": len(closed),
            "scored": len(hits),
            "left_out": len(closed) - len(hits),
            "failed": sum(row["failed"] for row in closed),
            "empty": sum(row["empty"] for row in closed),
            "correct": sum(hits),
        },
        "open": {
            "total": len(opened),
            "scored": len(opened),
            "failed": sum(row["failed"] for row in opened),
            "empty": sum(row["empty"] for row in opened),
        },
        "printed": {"num_open": len(hits), "num_close": len(opened)},
    }
    return result


def _open_counts(opened):
    return {
        "total": len(opened),
        "scored": sum(row["outcome"] == "scored" for row in opened),
        "failed": sum(row["outcome"] == "failed" for row in opened),
        "empty": sum(row["empty"] for row in opened),
    }


def _mean(total, count):
    return total / count if count else None
