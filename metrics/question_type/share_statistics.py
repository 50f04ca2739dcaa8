"""Shares with their denominators, bounds and intervals, and the agreement of two labellings."""


def share_of(labels, clusters, positive, seed=0, samples=2000):
    """The share of one label among the decided rows.

    Args:
        labels (`list[str | None]`): the label of each row; `None` where it is undecided.
        clusters (`list[str]`): the cluster of each row, such as its image or case: rows of one stand or fall together.
        positive (`str`): the label whose share is taken.
        seed (`int`, *optional*, defaults to 0): of the bootstrap's draws.
        samples (`int`, *optional*, defaults to 2000): the number of draws.

    Returns:
        `dict`: `share` (0 to 1, `None` without a decided row), `ci95` (percentile bootstrap over clusters, `None` with
        fewer than two), and `bounds`: the share if every undecided row had the other label, or this one.
    """
    decided = [(label == positive, cluster) for label, cluster in zip(labels, clusters, strict=True) if label]
    hits = sum(hit for hit, _ in decided)
    total = len(labels)
    return {
        "share": hits / len(decided) if decided else None,
        "ci95": _interval([hit for hit, _ in decided], [cluster for _, cluster in decided], seed, samples),
        "bounds": [hits / total, (hits + total - len(decided)) / total] if total else None,
    }


def _interval(values, clusters, seed, samples):
    import numpy as np

    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    if len(numbers) < 2:
        return None
    member = np.array([numbers[name] for name in clusters])
    sums, sizes = np.bincount(member, weights=np.asarray(values, dtype=float)), np.bincount(member)
    generator = np.random.default_rng(seed)
    means = []
    # In blocks: all draws at once would take clusters x samples numbers of memory.
    for start in range(0, samples, 100):
        count = min(100, samples - start)
        draws = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=count)
        means.append((draws @ sums) / (draws @ sizes))
    return [float(end) for end in np.quantile(np.concatenate(means), [0.025, 0.975])]


def agreement(first, second):
    """Raw agreement and Cohen's kappa of two labellings.

    Args:
        first (`list[str]`): labels.
        second (`list[str]`): labels of the same rows.

    Returns:
        `dict`: `n`, `raw` (0 to 1) and `kappa` (-1 to 1); `None` without rows, and a `kappa` of `None` where both give
        every row one and the same label, since chance then agrees as well.
    """
    count = len(first)
    if not count:
        return {"n": 0, "raw": None, "kappa": None}
    raw = sum(one == other for one, other in zip(first, second, strict=True)) / count
    chance = sum(first.count(name) * second.count(name) for name in set(first)) / count**2
    return {"n": count, "raw": raw, "kappa": (raw - chance) / (1 - chance) if chance < 1 else None}
