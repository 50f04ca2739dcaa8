"""BLEU-1 to BLEU-4 over many pairs of texts: counts are added up first, and divided once."""

import math
from collections import Counter

ORDERS = (1, 2, 3, 4)


def ngram_statistics(said, wanted):
    """Counts what BLEU needs of one pair.

    Args:
        said (`list[str]`): the words of the answer.
        wanted (`list[str]`): the words of the reference.

    Returns:
        `tuple[int, ...]`: the lengths of answer and reference, then for each order the matching n-grams (each at most
        as often as in the reference) and the answer's n-grams.
    """
    statistics = [len(said), len(wanted)]
    for order in ORDERS:
        total = max(len(said) - order + 1, 0)
        # Without a shared word there is no shared phrase, and no need to count.
        matches = 0
        if total and (order == 1 or statistics[-2]):
            available = Counter(zip(*(wanted[i:] for i in range(order))))
            matches = sum((Counter(zip(*(said[i:] for i in range(order)))) & available).values())
        statistics += [matches, total]
    return tuple(statistics)


def corpus_bleu(statistics, order):
    """BLEU of a corpus (Papineni et al. 2002): uniform weights up to `order`, one reference a text, no smoothing.

    Args:
        statistics (`list[tuple[int, ...]]`): the counts of each pair.
        order (`int`): the longest n-gram, 1 to 4.

    Returns:
        `float` or `None`: between 0 and 1, higher is better; `None` where no reference is as long as `order` words, so
        that nothing could match.
    """
    if not any(row[1] >= order for row in statistics):
        return None
    sums = [sum(column) for column in zip(*statistics)]
    said, wanted = sums[:2]
    logarithms = []
    for number in range(order):
        matches, total = sums[2 + 2 * number : 4 + 2 * number]
        if not matches:
            return 0.0
        logarithms.append(math.log(matches / total))
    brevity = 1.0 if said > wanted else math.exp(1 - wanted / said)
    return brevity * math.exp(math.fsum(logarithms) / order)
