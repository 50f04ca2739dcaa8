"""Coefficients of agreement from counted rows: every function takes all bootstrap draws at once.

`counts` has one line a draw and one column a row: how often the row counts in that draw. With one line of ones, these
are the textbook coefficients. A coefficient whose denominator is zero is NaN: two raters who both always say the same
one thing have shown nothing, neither agreement nor its absence.
"""

import numpy as np

# Kendall's tau compares every pair of different rows: beyond this many distinct ones the draws would take minutes.
MOST_DISTINCT = 2000
_TINY = 1e-12


def _ratio(above, below):
    return np.where(np.abs(below) > _TINY, above / np.where(np.abs(below) > _TINY, below, 1.0), np.nan)


def count_by_code(counts, codes, size):
    """Adds the counts of the rows that have the same code.

    Args:
        counts (`numpy.ndarray`): (draws, rows).
        codes (`numpy.ndarray`): the code of each row, from 0 to `size` − 1.
        size (`int`): how many codes there are.

    Returns:
        `numpy.ndarray`: (draws, size).
    """
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    sums = np.zeros((len(counts), size))
    if len(present):
        sums[:, present] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums


def mid_ranks(sums):
    """The rank of each code, ties sharing the mean of their places.

    Args:
        sums (`numpy.ndarray`): (draws, codes), how often each code occurs.

    Returns:
        `numpy.ndarray`: (draws, codes).
    """
    return np.cumsum(sums, axis=1) - (sums - 1) / 2


def _correlation(first, second, counts):
    """Pearson's r; the values have one line a draw, too."""
    n = counts.sum(1, keepdims=True)
    first = first - (counts * first).sum(1, keepdims=True) / n
    second = second - (counts * second).sum(1, keepdims=True) / n
    spread = np.sqrt((counts * first**2).sum(1) * (counts * second**2).sum(1))
    return _ratio((counts * first * second).sum(1), spread)


def spearman(first, second, counts):
    """Spearman's ρ: Pearson's correlation of mid-ranks.

    Args:
        first (`numpy.ndarray`): one number a row.
        second (`numpy.ndarray`): one number a row.
        counts (`numpy.ndarray`): (draws, rows).

    Returns:
        `numpy.ndarray`: one number a draw, −1 to 1, NaN where one side is constant.
    """
    ranks = []
    for values in (first, second):
        found, codes = np.unique(values, return_inverse=True)
        ranks.append(mid_ranks(count_by_code(counts, codes, len(found)))[:, codes])
    return _correlation(*ranks, counts)


def kendall(first, second, counts):
    """Kendall's τ-b, which allows for ties.

    Args:
        first (`numpy.ndarray`): one number a row.
        second (`numpy.ndarray`): one number a row.
        counts (`numpy.ndarray`): (draws, rows).

    Returns:
        `numpy.ndarray`: one number a draw, −1 to 1, NaN where one side is constant, and in the draws after the first
        where more than 2,000 rows differ from each other.
    """
    pairs, codes = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    drawn = counts if len(pairs) <= MOST_DISTINCT else counts[:1]
    sums = count_by_code(drawn, codes, len(pairs))
    product = np.zeros(len(sums))
    for start in range(0, len(pairs), 256):  # in strips: the full table of signs may not fit
        strip = pairs[start : start + 256]
        signs = np.sign(strip[:, None, 0] - pairs[None, :, 0]) * np.sign(strip[:, None, 1] - pairs[None, :, 1])
        product += (sums[:, start : start + 256] * (sums @ signs.T)).sum(1)
    n = sums.sum(1)
    tied = []
    for column in (0, 1):
        found, marginal = np.unique(pairs[:, column], return_inverse=True)
        tied.append((count_by_code(sums, marginal.reshape(-1), len(found)) ** 2).sum(1))
    # Both sides are doubled: every pair of rows is met twice in `product` and in n² less the tied ones.
    tau = _ratio(product, np.sqrt(np.maximum(n**2 - tied[0], 0) * np.maximum(n**2 - tied[1], 0)))
    return np.concatenate([tau, np.full(len(counts) - len(tau), np.nan)])


def pair_statistics(first, second, counts, level):
    """All statistics of two raters on the rows that both have scored.

    Args:
        first (`numpy.ndarray`): the judge's values, codes for labels.
        second (`numpy.ndarray`): a person's values, on the same rows.
        counts (`numpy.ndarray`): (draws, rows).
        level (`str`): `"nominal"`, `"ordinal"` or `"interval"`.

    Returns:
        `dict[str, numpy.ndarray]`: `agreement` (0 to 1), `kappa`, `f1_macro` (0 to 1), and unless nominal
        `kappa_quadratic` (Cohen 1968, with the distances of the scores themselves as weights, not of their places
        among the scores that happen to occur), `spearman`, `kendall`, `mean_difference` (first less second) and
        `mean_absolute_difference`. `f1_macro` is left out for interval scores, which have no classes.
    """
    values, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    codes = codes.reshape(-1)
    one, other = codes[: len(first)], codes[len(first) :]
    n = counts.sum(1)
    ones, others = (count_by_code(counts, side, len(values)) for side in (one, other))
    same = one == other
    observed = _ratio(counts @ same.astype(float), n)
    expected = _ratio((ones * others).sum(1), n**2)
    result = {"agreement": observed, "kappa": _ratio(observed - expected, 1 - expected)}
    if level != "interval":
        hits = count_by_code(counts[:, same], one[same], len(values))
        either = ones + others
        scores = np.where(either > 0, 2 * hits / np.maximum(either, 1), 0.0)
        result["f1_macro"] = _ratio(scores.sum(1), (either > 0).sum(1))
    if level == "nominal":
        return result
    middle = values.mean() if len(values) else 0.0
    x, y = first - middle, second - middle
    mean_x, mean_y = _ratio(counts @ x, n), _ratio(counts @ y, n)
    by_chance = _ratio(counts @ x**2 + counts @ y**2, n) - 2 * mean_x * mean_y
    result["kappa_quadratic"] = 1 - _ratio(_ratio(counts @ (x - y) ** 2, n), by_chance)
    result["spearman"] = spearman(first, second, counts)
    result["kendall"] = kendall(first, second, counts)
    result["mean_difference"] = mean_x - mean_y
    result["mean_absolute_difference"] = _ratio(counts @ np.abs(x - y), n)
    return result


def alpha_statistics(table, counts, level):
    """Krippendorff's α of any number of raters with gaps.

    One minus the observed over the expected disagreement, from the coincidences of values within a row (Krippendorff,
    "Computing Krippendorff's Alpha-Reliability", 2011). A row with fewer than two values has no coincidences and is
    left out. The distances are 0/1 (nominal), of ranks among all values (ordinal), and of the values (interval).

    Args:
        table (`numpy.ndarray`): (rows, raters), NaN for a gap.
        counts (`numpy.ndarray`): (draws, rows).
        level (`str`): `"nominal"` gives only the nominal α; the other levels give all three.

    Returns:
        `dict[str, numpy.ndarray]`: `alpha_nominal`, `alpha_ordinal`, `alpha_interval`: at most 1, 0 for chance.
    """
    names = ["alpha_nominal"] if level == "nominal" else ["alpha_nominal", "alpha_ordinal", "alpha_interval"]
    known = np.isfinite(table)
    pairable = known.sum(1) > 1
    if not pairable.any():
        return {name: np.full(len(counts), np.nan) for name in names}
    table, known, counts = table[pairable], known[pairable], counts[:, pairable]
    row_of_value, _ = np.nonzero(known)
    values, codes = np.unique(table[known], return_inverse=True)
    sums = count_by_code(counts[:, row_of_value], codes.reshape(-1), len(values))
    rows, one, other = _value_pairs(table, known, values)
    # Each unordered pair stands for the two ordered ones, over the number of partners that a value of its row has.
    weights = counts[:, rows] * (2 / (known.sum(1) - 1))[rows]
    n = sums.sum(1)
    result = {"alpha_nominal": _alpha(weights @ (one != other).astype(float), n**2 - (sums**2).sum(1), n)}
    if level != "nominal":
        for name, places in (("alpha_ordinal", mid_ranks(sums)), ("alpha_interval", values[None])):
            # Counted from the middle: of large numbers that lie close together the squares would lose the difference.
            places = places - (sums * places).sum(1, keepdims=True) / n[:, None]
            seen = (weights * (places[:, one] - places[:, other]) ** 2).sum(1)
            chance = 2 * (n * (sums * places**2).sum(1) - (sums * places).sum(1) ** 2)
            result[name] = _alpha(seen, chance, n)
    return result


def _alpha(observed, expected, n):
    return 1 - _ratio(_ratio(observed, n), _ratio(expected, n * (n - 1)))


def _value_pairs(table, known, values):
    """Every unordered pair of values in a row: the row, and the codes of the two values."""
    rows, first, second = [], [], []
    for one in range(table.shape[1]):
        for other in range(one + 1, table.shape[1]):
            both = np.nonzero(known[:, one] & known[:, other])[0]
            rows.append(both)
            first.append(np.searchsorted(values, table[both, one]))
            second.append(np.searchsorted(values, table[both, other]))
    return np.concatenate(rows), np.concatenate(first), np.concatenate(second)
