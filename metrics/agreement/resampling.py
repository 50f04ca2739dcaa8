"""Bootstrap draws of whole cases: rows about one case stand or fall together, so they are drawn together."""

import numpy as np

SAMPLES = 2000
LEVEL = 0.95
# The largest intermediate array, in numbers; longer tables are worked off in several blocks of draws.
_BLOCK = 4_000_000


class CaseDraws:
    """How often each row counts in each bootstrap draw.

    Draw 0 counts every row once: it is the point estimate, so the point and its interval come out of one formula.

    Args:
        case_ids (`list`): the case of each row.
        seed (`int`): the seed of the draws; nothing global is seeded.
        samples (`int`): the number of draws; 0 gives point estimates only.
    """

    def __init__(self, case_ids, seed=0, samples=SAMPLES):
        # In the order of their names, not of the rows: the same rows in another order get the same draws.
        names = {name: number for number, name in enumerate(sorted(set(case_ids)))}
        self.case_of_row = np.array([names[name] for name in case_ids], dtype=np.int64)
        self.n_cases = len(names)
        drawn = np.ones((1, self.n_cases))
        if samples and self.n_cases > 1:
            shares = np.full(self.n_cases, 1 / self.n_cases)
            more = np.random.default_rng(seed).multinomial(self.n_cases, shares, size=samples)
            drawn = np.concatenate([drawn, more.astype(float)])
        self.by_case = drawn

    def apply(self, statistics, rows, width=None):
        """Evaluates statistics on every draw.

        Args:
            statistics (`Callable[[numpy.ndarray], dict[str, numpy.ndarray]]`): takes counts (draws, rows) and returns
                one number a draw for each name, NaN where undefined.
            rows (`numpy.ndarray`): the indices of the rows that take part.
            width (`int`, *optional*): the longest line that `statistics` makes, if longer than `rows`.

        Returns:
            `dict[str, numpy.ndarray]`: for each name one number a draw, that of draw 0 first.
        """
        cases = self.case_of_row[rows]
        step = max(1, _BLOCK // max(1, width or 0, len(cases)))
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = [
                statistics(self.by_case[start : start + step][:, cases]) for start in range(0, len(self.by_case), step)
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimate(draws, level=LEVEL):
    """Turns one number a draw into a point and its percentile interval.

    Args:
        draws (`numpy.ndarray`): the point estimate, then the bootstrap draws; NaN where undefined.
        level (`float`): the coverage of the interval.

    Returns:
        `dict`: `value` (`None` where undefined) and `ci95` (`None` without two cases, or where more than half of the
        draws are undefined). The interval always holds the point: a percentile interval of a skewed statistic of few
        cases can miss it, and is then widened to it.
    """
    point = float(draws[0])
    if not np.isfinite(point):
        return {"value": None, "ci95": None}
    known = draws[1:][np.isfinite(draws[1:])]
    if len(draws) == 1 or len(known) < len(draws[1:]) / 2:
        return {"value": point, "ci95": None}
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(known, [tail, 1 - tail]))
    return {"value": point, "ci95": [min(low, point), max(high, point)]}


def mean_of(many):
    """The mean of several statistics in each draw; those that are undefined in a draw are left out of that draw.

    Args:
        many (`list[dict[str, numpy.ndarray]]`): results of [`CaseDraws.apply`].

    Returns:
        `dict[str, numpy.ndarray]`: one number a draw for each name.
    """
    means = {}
    for name in many[0] if many else ():
        stack = np.stack([one[name] for one in many])
        known = np.isfinite(stack)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[name] = np.where(known, stack, 0.0).sum(0) / known.sum(0)
    return means
