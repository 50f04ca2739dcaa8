"""Which slices of a volume become pictures. Nothing here is random."""

import numpy as np

from .volumes import PLANES


def evenly_spaced(first: int, last: int, count: int) -> list[int]:
    """Slices spread over a range so that both of its ends are reached.

    The usual `range(0, n, n // 10)[:10]` misses the last tenth whenever 10 does not divide n.

    Args:
        first (`int`): the first slice of the range.
        last (`int`): the last, inclusive.
        count (`int`): how many; a single one is the middle.

    Returns:
        `list[int]`: ascending and without repeats, so fewer than `count` where the range is short.

    Raises:
        `ValueError`: the range is empty or the count is not positive.
    """
    if last < first or count < 1:
        raise ValueError(f"there are no {count} slices from {first} to {last}")
    if count == 1:
        return [(first + last) // 2]
    return sorted({int(index) for index in np.linspace(first, last, count).round()})


def slices_with_content(
    data: np.ndarray, plane: str, background: float, share: float = 0.02
) -> tuple[int, int] | None:
    """The range of slices that show more than background.

    Args:
        data (`numpy.ndarray`): `(right, anterior, superior)` values, as in [`Volume`].
        plane (`str`): `"axial"`, `"coronal"` or `"sagittal"`.
        background (`float`): values up to this are background, for CT for example -400.
        share (`float`, *optional*, defaults to 0.02): the share of a slice that must be above it.

    Returns:
        `tuple[int, int]` or `None`: the first and the last such slice; `None` where there is none.
    """
    filled = np.flatnonzero((data > background).mean(axis=_others(plane)) > share)
    return (int(filled[0]), int(filled[-1])) if filled.size else None


def slices_of_mask(mask: np.ndarray, plane: str, count: int, label: int | None = None) -> list[int]:
    """Slices through what a mask marks, spread over its extent.

    Args:
        mask (`numpy.ndarray`): `(right, anterior, superior)` labels; zero marks nothing.
        plane (`str`): `"axial"`, `"coronal"` or `"sagittal"`.
        count (`int`): how many at most.
        label (`int`, *optional*): count this label alone.

    Returns:
        `list[int]`: ascending. The marked slices are cut into `count` runs of equal length, and each run gives its
        fullest slice, the first of equals.
    """
    marked = (mask == label) if label is not None else mask != 0
    area = marked.sum(axis=_others(plane))
    found = np.flatnonzero(area)
    runs = np.array_split(found, min(count, len(found))) if len(found) else []
    return [int(run[area[run].argmax()]) for run in runs]


def _others(plane: str) -> tuple[int, ...]:
    return tuple(axis for axis in range(3) if axis != PLANES[plane])
