"""Probes: what moves a judge's score although it should not."""

from itertools import combinations

import numpy as np

from .coefficients import alpha_statistics
from .coefficients import pair_statistics
from .coefficients import spearman
from .compare import estimates
from .compare import panel
from .resampling import mean_of

P_VALUE = 0.05
_VERDICTS = {"win": 1.0, "tie": 0.0, "loss": -1.0}


def excludes_zero(entry):
    """Whether an interval lies on one side of zero.

    Args:
        entry (`dict`): `value` and `ci95`.

    Returns:
        `bool` or `None`: `None` without an interval.
    """
    if entry is None or entry["ci95"] is None:
        return None
    return entry["ci95"][0] > 0 or entry["ci95"][1] < 0


def order_probe(orders, case_draws):
    """The same two answers in both orders.

    Args:
        orders (`list[list]`): for each row two verdicts on the same answer: the first when it stood first, the other
            when it stood second. `"win"`, `"tie"`, `"loss"`, or numbers (its score, or its score less the other's);
            `None` for a verdict that failed. A row without both orders is `None`.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict`: `n` rows with both verdicts, `n_failed`, `consistency` (share of equal verdicts), `favours_first` and
        `favours_second` (rows whose verdict was better when the answer stood there), `first_share` of these,
        `p_value` of the exact two-sided binomial test of that share against one half, `mean_shift` (first less
        second), and `flagged`: whether the p value is below 0.05. Rows with equal verdicts say nothing about a
        preference and are left out of the test.

    Raises:
        ValueError: a row does not hold two verdicts.
    """
    from scipy.stats import binomtest

    table = np.full((len(orders), 2), np.nan)
    asked = 0
    for index, row in enumerate(orders):
        if row is None:
            continue
        if not isinstance(row, (list, tuple)) or len(row) != 2:
            raise ValueError(f"Row {index}: `orders` must hold two verdicts, one for each order, not {row!r}.")
        asked += 1
        table[index] = [_verdict(value, index) for value in row]
    kept = np.nonzero(np.isfinite(table).all(1))[0]
    first, second = table[kept].T
    to_first, to_second = int((first > second).sum()), int((first < second).sum())
    drawn = case_draws.apply(
        lambda counts: {
            "consistency": counts @ (first == second) / counts.sum(1),
            "mean_shift": counts @ (first - second) / counts.sum(1),
        },
        kept,
    )
    p_value = float(binomtest(to_first, to_first + to_second).pvalue) if to_first + to_second else None
    return {
        "n": len(kept),
        "n_failed": asked - len(kept),
        **estimates(drawn),
        "favours_first": to_first,
        "favours_second": to_second,
        "first_share": to_first / (to_first + to_second) if to_first + to_second else None,
        "p_value": p_value,
        "flagged": None if not len(kept) else p_value is not None and p_value < P_VALUE,
    }


def _verdict(value, index):
    if value is None:
        return np.nan
    if isinstance(value, str) and value in _VERDICTS:
        return _VERDICTS[value]
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    raise ValueError(f"Row {index}: `orders` holds {value!r}; it must be win, tie, loss, a number or None.")


def length_probe(lengths, ratings, case_draws):
    """Whether longer answers get more than people give them.

    Args:
        lengths (`list[int]`): the length of each answer, in words or tokens; `None` where unknown.
        ratings (`Ratings`): the scores; numbers.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict`: `n`, Spearman's ρ of length with the judge's (`correlation_judge`) and with the people's score
        (`correlation_people`), and slopes in points for each doubling of the length (of 1 + length): `slope` of the
        judge's score, `slope_controlled` with the people's score as a second predictor, `slope_difference` of the
        judge's score less the people's. `flagged` when the last two have intervals on the same side of zero: the
        controlled slope alone also rises when people's scores are merely noisy, and the slope of the difference alone
        when the judge merely uses the scale differently.

    Raises:
        ValueError: a length is negative or not a number.
    """
    if ratings.level == "nominal":
        return {"n": 0, "flagged": None, "reason": "Labels have no order, so they cannot rise with the length."}
    for index, value in enumerate(lengths):
        if value is None or (isinstance(value, (int, float, np.number)) and np.isfinite(value) and value >= 0):
            continue
        raise ValueError(f"Row {index}: the length {value!r} is not a number from 0.")
    words = np.array([np.nan if value is None else value for value in lengths], dtype=float)
    people = panel(ratings)
    judged = np.nonzero(np.isfinite(words) & np.isfinite(ratings.judge))[0]
    kept = judged[np.isfinite(people[judged])]
    doublings, judge, truth = np.log2(1 + words), ratings.judge, people

    def alone(counts):
        return {
            "correlation_judge": spearman(judge[judged], words[judged], counts),
            "slope": _slopes([doublings[judged]], judge[judged], counts)[0],
        }

    def beside(counts):
        return {
            "correlation_people": spearman(truth[kept], words[kept], counts),
            "slope_controlled": _slopes([doublings[kept], truth[kept]], judge[kept], counts)[0],
            "slope_difference": _slopes([doublings[kept]], judge[kept] - truth[kept], counts)[0],
        }

    result = {"n": len(judged), "n_with_people": len(kept)}
    result.update(estimates(case_draws.apply(alone, judged)))
    result.update(estimates(case_draws.apply(beside, kept)))
    both = [result["slope_controlled"], result["slope_difference"]]
    known = [excludes_zero(entry) for entry in both]
    result["flagged"] = None if None in known else all(known) and both[0]["value"] * both[1]["value"] > 0
    return result


def _slopes(predictors, target, counts):
    """Least squares with an intercept, in every draw; NaN where the predictors do not vary apart from each other."""
    columns = np.column_stack([np.ones(len(target)), *(values - _mean(values) for values in predictors)])
    moments = np.einsum("dr,ri,rj->dij", counts, columns, columns, optimize=True)
    against = np.einsum("dr,ri,r->di", counts, columns, target - _mean(target), optimize=True)
    size = np.sqrt(np.maximum(np.einsum("dii->di", moments), 1e-300))
    scaled = moments / (size[:, :, None] * size[:, None, :])
    sound = np.isfinite(scaled).all((1, 2))
    scaled = np.where(sound[:, None, None], scaled, 0.0)
    sound &= np.linalg.matrix_rank(scaled, tol=1e-9, hermitian=True) == columns.shape[1]
    solved = np.full(against.shape, np.nan)
    if sound.any():
        solved[sound] = np.linalg.solve(scaled[sound], (against / size)[sound][:, :, None])[:, :, 0] / size[sound]
    return solved[:, 1:].T


def _mean(values):
    return values.mean() if len(values) else 0.0


def stability_probe(table, level, case_draws):
    """The same question put to the judge more than once, or an answer put in other words.

    Args:
        table (`numpy.ndarray`): (rows, verdicts), NaN for gaps, the first verdict first.
        level (`str`): the level of measurement.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict`: `n` rows with two verdicts or more, `n_verdicts`, `identical` (share of rows whose verdicts are all
        equal), `kappa` (test–retest, mean over the pairs of verdicts), Krippendorff's α between them, and for numbers
        `kappa_quadratic`, `within_row_sd` (the root of the mean variance within a row, n − 1 in the denominator) and
        `shift` (the mean of the later verdicts less the first).
    """
    known = np.isfinite(table)
    kept = np.nonzero(known.sum(1) > 1)[0]
    result = {"n": len(kept), "n_verdicts": int(known[kept].sum())}
    if not len(kept):
        return result
    rows = table[kept]
    counted = known[kept].sum(1)
    means = np.nansum(rows, axis=1) / counted
    variances = np.nansum((rows - means[:, None]) ** 2, axis=1) / (counted - 1)
    spread = np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1)
    first_known = known[kept, 0]
    later = np.where(first_known, np.nansum(rows[:, 1:], axis=1) / np.maximum(known[kept, 1:].sum(1), 1), 0.0)
    shift = np.where(first_known, later - np.nan_to_num(rows[:, 0]), 0.0)

    def within(counts):
        found = {"identical": counts @ (spread == 0) / counts.sum(1)}
        if level != "nominal":
            found["within_row_sd"] = np.sqrt(counts @ variances / counts.sum(1))
            found["shift"] = counts @ shift / (counts @ first_known)
        return found

    result.update(estimates(case_draws.apply(within, kept)))
    retests = []
    for one, other in combinations(range(table.shape[1]), 2):
        both = np.nonzero(known[:, one] & known[:, other])[0]
        if len(both):
            retests.append(_retest(table[both, one], table[both, other], both, level, case_draws))
    result.update(estimates(mean_of(retests)))
    width = len(kept) * max(1, table.shape[1] * (table.shape[1] - 1) // 2)
    alpha = case_draws.apply(lambda counts: alpha_statistics(rows, counts, level), kept, width)
    result["alpha"] = estimates(alpha)[f"alpha_{level}"]
    return result


def _retest(first, second, rows, level, case_draws):
    names = ("kappa",) if level == "nominal" else ("kappa", "kappa_quadratic")

    def statistics(counts):
        found = pair_statistics(first, second, counts, level)
        return {name: found[name] for name in names}

    return case_draws.apply(statistics, rows)


def self_preference_probe(own, ratings, case_draws):
    """Whether a judge is kinder, beside people, to answers of its own family than to others'.

    Args:
        own (`list[bool]`): whether the answer of each row comes from the judge's own family.
        ratings (`Ratings`): the scores; numbers.
        case_draws (`CaseDraws`): the draws.

    Returns:
        `dict`: `n_own`, `n_other`, `own` and `other` (mean of the judge's score less the people's on each side),
        `difference` (own less other) and `flagged`: whether the interval of the difference lies above zero.
    """
    if ratings.level == "nominal":
        return {"n_own": 0, "n_other": 0, "flagged": None, "reason": "Labels cannot be subtracted."}
    gap = ratings.judge - panel(ratings)
    kept = np.nonzero(np.isfinite(gap))[0]
    mine = np.asarray(own, dtype=bool)[kept]
    gap = gap[kept]

    def statistics(counts):
        sides = {}
        for name, side in (("own", mine), ("other", ~mine)):
            sides[name] = counts[:, side] @ gap[side] / counts[:, side].sum(1)
        return {**sides, "difference": sides["own"] - sides["other"]}

    result = {"n_own": int(mine.sum()), "n_other": int((~mine).sum())}
    result.update(estimates(case_draws.apply(statistics, kept)))
    apart = excludes_zero(result["difference"])
    result["flagged"] = None if apart is None else apart and result["difference"]["value"] > 0
    return result
