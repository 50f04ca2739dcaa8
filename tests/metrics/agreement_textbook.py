"""Agreement as textbooks write it: loops over pairs, one number at a time. Slow, and not the metric's code."""

from collections import Counter
from itertools import combinations, permutations

# The reliability data of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: 12 units,
# 4 observers, 7 gaps. He gives nominal 0.743, ordinal 0.815 and interval 0.849.
KRIPPENDORFF_2011 = [
    [1, 1, None, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [None, 5, 5, 5],
    [None, None, 1, 1],
    [None, None, 3, None],
]


def agreement(first, second):
    return sum(one == other for one, other in zip(first, second)) / len(first)


def kappa(first, second, weight=lambda one, other: one != other):
    """Cohen's κ; with a weight, that of 1968."""
    count = len(first)
    observed = sum(weight(one, other) for one, other in zip(first, second)) / count
    expected = sum(weight(one, other) for one in first for other in second) / count**2
    return 1 - observed / expected if expected else None


def kappa_quadratic(first, second):
    return kappa(first, second, lambda one, other: (one - other) ** 2)


def kappa_by_place(first, second):
    """scikit-learn's quadratic κ: the distance of scores is that of their places among those that occur."""
    places = {value: place for place, value in enumerate(sorted({*first, *second}))}
    return kappa_quadratic([places[value] for value in first], [places[value] for value in second])


def alpha(rows, level):
    """Krippendorff's α from the matrix of coincidences."""
    coincidences = Counter()
    for row in rows:
        given = [value for value in row if value is not None]
        for one, other in permutations(range(len(given)), 2):
            coincidences[given[one], given[other]] += 1 / (len(given) - 1)
    margins = Counter()
    for (one, _), count in coincidences.items():
        margins[one] += count

    def distance(one, other):
        if level == "nominal":
            return float(one != other)
        if level == "interval":
            return (one - other) ** 2
        low, high = sorted((one, other))
        between = sum(count for value, count in margins.items() if low <= value <= high)
        return (between - (margins[one] + margins[other]) / 2) ** 2

    total = sum(margins.values())
    observed = sum(count * distance(*pair) for pair, count in coincidences.items()) / total
    expected = sum(margins[a] * margins[b] * distance(a, b) for a in margins for b in margins) / (total * (total - 1))
    return 1 - observed / expected if expected else None


def f1_macro(first, second):
    scores = []
    for label in {*first, *second}:
        both = sum(one == other == label for one, other in zip(first, second))
        scores.append(2 * both / (first.count(label) + second.count(label)))
    return sum(scores) / len(scores)


def kendall(first, second, ties):
    """τ-b, or τ-a, which counts ties as pairs like others."""
    score = pairs = tied_first = tied_second = 0
    for i, j in combinations(range(len(first)), 2):
        a, b = first[i] - first[j], second[i] - second[j]
        score += (a * b > 0) - (a * b < 0)
        pairs, tied_first, tied_second = pairs + 1, tied_first + (a == 0), tied_second + (b == 0)
    return score / pairs if not ties else score / ((pairs - tied_first) * (pairs - tied_second)) ** 0.5


def mean_difference(first, second):
    return sum(first) / len(first) - sum(second) / len(second)


def spearman(first, second):
    def ranks(values):
        return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]

    one, other = ranks(first), ranks(second)
    middle = (len(first) + 1) / 2
    product = sum((a - middle) * (b - middle) for a, b in zip(one, other))
    return product / (sum((a - middle) ** 2 for a in one) * sum((b - middle) ** 2 for b in other)) ** 0.5
