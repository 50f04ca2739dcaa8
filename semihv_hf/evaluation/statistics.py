"""Intervals for scores whose rows are not independent: questions about one case stand or fall together."""

from collections.abc import Sequence

SAMPLES = 2000
LEVEL = 0.95


def clustered_interval(
    values: Sequence[float], clusters: Sequence[str], *, seed: int = 0, samples: int = SAMPLES, level: float = LEVEL
) -> list[float] | None:
    """Bootstraps the mean by drawing whole clusters with replacement.

    Args:
        values (`Sequence[float]`): one value a row.
        clusters (`Sequence[str]`): the cluster of each row, such as its case.
        seed (`int`, *optional*, defaults to 0): the seed of the draws; nothing global is seeded.
        samples (`int`, *optional*, defaults to 2000): the number of draws.
        level (`float`, *optional*, defaults to 0.95): the coverage of the interval.

    Returns:
        `list[float] | None`: the two ends (percentiles of the draws), or `None` with fewer than two clusters.
    """
    import numpy as np

    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values for {len(clusters)} cluster names.")
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    if len(names) < 2:
        return None
    membership = np.fromiter((names[name] for name in clusters), dtype=np.int64, count=len(clusters))
    sums = np.bincount(membership, weights=np.asarray(values, dtype=float))
    sizes = np.bincount(membership).astype(float)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
    means = (draws @ sums) / (draws @ sizes)
    tail = (1 - level) / 2
    return [float(end) for end in np.quantile(means, [tail, 1 - tail])]


def paired_difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], *, seed: int = 0, samples: int = SAMPLES
) -> dict:
    """Compares two ways to answer the same rows.

    Args:
        first (`Sequence[float]`): the scores of the one.
        second (`Sequence[float]`): the scores of the other, on the same rows in the same order.
        clusters (`Sequence[str]`): the cluster of each row.
        seed (`int`, *optional*, defaults to 0): the seed of the draws.
        samples (`int`, *optional*, defaults to 2000): the number of draws.

    Returns:
        `dict`: `difference` of the means (first less second; `None` without rows), its interval `ci95`, `n` rows and
        `n_clusters`.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores cannot be paired with {len(second)}.")
    differences = [one - other for one, other in zip(first, second, strict=True)]
    return {
        "difference": sum(differences) / len(differences) if differences else None,
        "ci95": clustered_interval(differences, clusters, seed=seed, samples=samples),
        "n": len(differences),
        "n_clusters": len(set(clusters)),
    }
