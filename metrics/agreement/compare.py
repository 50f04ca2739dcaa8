"""The judge beside people, and people beside each other, on the same rows."""

from itertools import combinations

import numpy as np

from .coefficients import alpha_statistics
from .coefficients import pair_statistics
from .resampling import estimate
from .resampling import mean_of


def estimates(draws):
    """Points and intervals of several statistics.

    Args:
        draws (`dict[str, numpy.ndarray]`): results of `CaseDraws.apply`.

    Returns:
        `dict[str, dict]`: for each name `value` and `ci95`.
    """
    return {name: estimate(values) for name, values in draws.items()}


def pair(first, second, rows, level, case_draws):
    """Two raters on the rows that both have scored.

    Args:
        first (`numpy.ndarray`): one value a row of the whole table.
        second (`numpy.ndarray`): likewise.
        rows (`numpy.ndarray`): true for the rows that may take part.
        level (`str`): the level of measurement.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `tuple[int, dict[str, numpy.ndarray]]`: the number of rows, and the statistics in each draw.
    """
    kept = np.nonzero(rows & np.isfinite(first) & np.isfinite(second))[0]
    return len(kept), case_draws.apply(lambda counts: pair_statistics(first[kept], second[kept], counts, level), kept)


def judge_beside_people(ratings, rows, case_draws):
    """The judge against every person, the mean of that, and Krippendorff's α.

    Args:
        ratings (`Ratings`): the scores.
        rows (`numpy.ndarray`): true for the rows that take part.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict`: `counts`, `judge` (means over people), `by_rater`, and `alpha` with `judge_and_people` and `people`.
    """
    by_rater, drawn = {}, []
    for place, name in enumerate(ratings.raters):
        count, statistics = pair(ratings.judge, ratings.people[:, place], rows, ratings.level, case_draws)
        by_rater[name] = {"n": count, **estimates(statistics)}
        drawn.append(statistics)
    kept = np.nonzero(rows)[0]
    both = np.column_stack([ratings.judge, ratings.people])
    tables = {"judge_and_people": both[kept], "people": ratings.people[kept]}
    return {
        "counts": _counts(ratings, rows, case_draws),
        "judge": estimates(mean_of(drawn)),
        "by_rater": by_rater,
        "alpha": {name: alphas(table, kept, ratings.level, case_draws) for name, table in tables.items()},
    }


def alphas(table, rows, level, case_draws):
    """Krippendorff's α with its interval.

    Args:
        table (`numpy.ndarray`): (rows, raters), NaN for gaps.
        rows (`numpy.ndarray`): the index of each line of `table` in the whole table.
        level (`str`): the level of measurement.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict[str, dict]`: for each α `value` and `ci95`.
    """
    width = len(rows) * max(1, table.shape[1] * (table.shape[1] - 1) // 2)
    return estimates(case_draws.apply(lambda counts: alpha_statistics(table, counts, level), rows, width))


def _counts(ratings, rows, case_draws):
    scored, rated = np.isfinite(ratings.judge) & rows, np.isfinite(ratings.people) & rows[:, None]
    return {
        "n_total": int(rows.sum()),
        "n_scored": int(scored.sum()),
        "n_failed": int(rows.sum() - scored.sum()),
        "n_rated": int(rated.any(1).sum()),
        "n_compared": int((scored & rated.any(1)).sum()),
        "n_cases": len(set(case_draws.case_of_row[rows].tolist())),
        "n_by_rater": {name: int(rated[:, place].sum()) for place, name in enumerate(ratings.raters)},
    }


def human_ceiling(ratings, rows, case_draws):
    """How well people agree with each other, and the judge with the same people on the same rows.

    Each person in turn is left out: the person is compared with every other one, and so is the judge, on the rows that
    all three have scored. Nobody is compared with a consensus that he is part of, and no consensus has to be invented
    where people differ.

    Args:
        ratings (`Ratings`): the scores.
        rows (`numpy.ndarray`): true for the rows that take part.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict` or `None`: `people` and `judge` (means over the pairs of people), their `difference` (judge less people,
        in the same draws), `n_pairs` of people, `n_rows` that such a pair and the judge have scored, and `by_rater`;
        `None` where no two people have scored a row that the judge has scored.
    """
    scored = rows & np.isfinite(ratings.judge)
    people, judge, met = [], [], np.zeros(len(rows), dtype=bool)
    of_rater = {name: ([], []) for name in ratings.raters}
    for one, other in combinations(range(len(ratings.raters)), 2):
        left, right = ratings.people[:, one], ratings.people[:, other]
        both = scored & np.isfinite(left) & np.isfinite(right)
        if not both.any():
            continue
        met |= both
        among = pair(left, right, both, ratings.level, case_draws)[1]
        with_left = pair(ratings.judge, left, both, ratings.level, case_draws)[1]
        with_right = pair(ratings.judge, right, both, ratings.level, case_draws)[1]
        people.append(among)
        judge.append(mean_of([with_left, with_right]))
        for place, beside in ((one, with_right), (other, with_left)):
            of_rater[ratings.raters[place]][0].append(among)
            of_rater[ratings.raters[place]][1].append(beside)
    if not people:
        return None
    return {
        "n_pairs": len(people),
        "n_rows": int(met.sum()),
        **_beside(mean_of(people), mean_of(judge)),
        "by_rater": {
            name: _beside(mean_of(among), mean_of(beside)) for name, (among, beside) in of_rater.items() if among
        },
    }


def _beside(people, judge):
    """The mean difference has a sign that depends on who is called first: among people it says nothing."""
    names = [name for name in people if name != "mean_difference"]
    return {
        "people": estimates({name: people[name] for name in names}),
        "judge": estimates({name: judge[name] for name in names}),
        "difference": estimates({name: judge[name] - people[name] for name in names}),
    }


def panel(ratings, without=None):
    """What people say together of each row.

    Args:
        ratings (`Ratings`): the scores.
        without (`int`, *optional*): the person to leave out.

    Returns:
        `numpy.ndarray`: (rows,): the mean (interval), the median (ordinal) or the label given most often (nominal; NaN
        where two labels were given equally often); NaN where nobody gave a score.
    """
    table = ratings.people if without is None else np.delete(ratings.people, without, axis=1)
    together = np.full(len(table), np.nan)
    for index, row in enumerate(table):
        given = row[np.isfinite(row)]
        if len(given) and ratings.level == "nominal":
            values, times = np.unique(given, return_counts=True)
            if (times == times.max()).sum() == 1:
                together[index] = values[times.argmax()]
        elif len(given):
            together[index] = given.mean() if ratings.level == "interval" else np.median(given)
    return together


def against_panel(ratings, rows, case_draws):
    """The judge against all people together, and against all but one, beside that one.

    Args:
        ratings (`Ratings`): the scores.
        rows (`numpy.ndarray`): true for the rows that take part.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict`: `n` and `judge` against everybody's panel; with three people or more also `leave_one_out`: `judge` and
        `people` against the panel of the others, means over the person left out, and their `difference`.
    """
    together = panel(ratings)
    count, statistics = pair(ratings.judge, together, rows, ratings.level, case_draws)
    undecided = rows & np.isfinite(ratings.people).any(1) & ~np.isfinite(together)
    result = {"n": count, "n_undecided": int(undecided.sum()), "judge": estimates(_panel_names(statistics, ratings))}
    if len(ratings.raters) < 3:
        return {**result, "leave_one_out": None}
    people, judge = [], []
    for place in range(len(ratings.raters)):
        others, one = panel(ratings, without=place), ratings.people[:, place]
        both = rows & np.isfinite(ratings.judge) & np.isfinite(one) & np.isfinite(others)
        if both.any():
            people.append(_panel_names(pair(one, others, both, ratings.level, case_draws)[1], ratings))
            judge.append(_panel_names(pair(ratings.judge, others, both, ratings.level, case_draws)[1], ratings))
    return {**result, "leave_one_out": _beside(mean_of(people), mean_of(judge)) if people else None}


def _panel_names(statistics, ratings):
    """A mean or median of numbers is often no score of the scale: being equal to it is then no fair question."""
    if ratings.level == "nominal":
        return statistics
    return {name: values for name, values in statistics.items() if name not in ("agreement", "kappa", "f1_macro")}
