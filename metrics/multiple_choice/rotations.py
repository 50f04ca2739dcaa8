"""The position-bias probe: every question with its options in every rotation, and what the answers say."""

from collections import Counter
from collections import defaultdict


def rotate_options(options, reference):
    """Makes the rotations of a question: each option stands at each position once.

    Args:
        options (`list[str]`): the option texts.
        reference (`int`): the position of the right one, from 0.

    Returns:
        `list[dict]`: one rotation for each option, with `options`, `reference` (the position of the right one) and
        `shift`; the first is the question as it was.

    Raises:
        ValueError: there is no such position.
    """
    size = len(options)
    if not 0 <= reference < size:
        raise ValueError(f"There is no position {reference} among {size} options.")
    return [
        {"options": options[shift:] + options[:shift], "reference": (reference - shift) % size, "shift": shift}
        for shift in range(size)
    ]


def circular_scores(rows, question_ids):
    """Scores questions that were asked in all rotations, as VLMEvalKit's circular evaluation does.

    Args:
        rows (`list[dict]`): decisions, with `outcome`, `choice` (a position or `None`), `reference` (a position) and
            `texts` (the options in the order in which they stood).
        question_ids (`list[str]`): which question each row is a rotation of.

    Returns:
        `dict`: `questions`, `incomplete` (those without each rotation exactly once; they are not scored),
        `all_rotations_right` (share of questions answered rightly in every rotation), `same_option` (share with the
        same option text chosen in every rotation, right or wrong), `mean_accuracy` (share of right rows), and
        `positions` (see `position_rates`).

    Raises:
        ValueError: rows of one question have different options or another right option.
    """
    questions = defaultdict(list)
    for row, name in zip(rows, question_ids):
        questions[name].append(row)
    complete = []
    for name, members in questions.items():
        if len({(frozenset(row["texts"]), row["texts"][row["reference"]]) for row in members}) > 1:
            raise ValueError(f"The rows of question {name!r} have different options or another right option.")
        # As many different rows as options: the reference then stood at every position once.
        if sorted(row["reference"] for row in members) == list(range(len(members[0]["texts"]))):
            complete.append(members)
    chosen = [[None if row["choice"] is None else row["texts"][row["choice"]] for row in rows] for rows in complete]
    members = [row for rows in complete for row in rows]
    return {
        "questions": len(questions),
        "incomplete": len(questions) - len(complete),
        "all_rotations_right": _share([all(row["outcome"] == "right" for row in rows) for rows in complete]),
        "same_option": _share([None not in texts and len(set(texts)) == 1 for texts in chosen]),
        "mean_accuracy": _share([row["outcome"] == "right" for row in members]),
        "positions": position_rates(members),
    }


def position_rates(rows):
    """How often each position is chosen, against all positions alike.

    Over complete rotations an unbiased model chooses each position equally often, whatever it knows. Answers to
    rotations of one question are not independent, so the test is cautious: a biased model may pass, an unbiased one
    fails less often than the p-value says.

    Args:
        rows (`list[dict]`): decisions, with `choice` (a position or `None`) and `texts`.

    Returns:
        `dict[str, dict]`: by number of options: `n` (rows with a choice), `unparsed`, `chosen` (times and share of
        each position), `chi_square`, `degrees_of_freedom` and `p_value` (`None` without a choice).
    """
    from scipy.stats import chisquare

    sizes = defaultdict(list)
    for row in rows:
        sizes[len(row["texts"])].append(row["choice"])
    result = {}
    for size in sorted(sizes):
        counts = Counter(choice for choice in sizes[size] if choice is not None)
        observed = [counts[position] for position in range(size)]
        n = sum(observed)
        test = chisquare(observed) if n else None
        result[str(size)] = {
            "n": n,
            "unparsed": len(sizes[size]) - n,
            "chosen": [{"position": i, "times": k, "share": k / n if n else None} for i, k in enumerate(observed)],
            "chi_square": float(test.statistic) if n else None,
            "degrees_of_freedom": size - 1,
            "p_value": float(test.pvalue) if n else None,
        }
    return result


def _share(values):
    return sum(values) / len(values) if values else None
