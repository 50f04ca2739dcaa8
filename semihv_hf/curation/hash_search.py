"""All pairs of near hashes within one large set, without comparing all with all.

Multi-index hashing (Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing"): the 64
bits are cut into bands; of two hashes that differ in few bits, one band differs in very few (pigeonhole). Buckets of
equal bands are compared with those that few flipped bits lead to. Nothing is missed: the pairs are those of
[`semihv_hf.data.overlap_images.near_hashes`], which does the work below `ALL_PAIRS` hashes. Hashes of real images use
some bits little (the corners of a scan are black), so bits are dealt out by how evenly they are used.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from ..data.overlap_images import _AVERAGE_DISTANCE, _NOISY_DISTANCE, near_hashes

ALL_PAIRS = 20_000
# From so many hashes on, three bands of 21 or 22 bits: more buckets to look into, and fewer hashes in each.
THREE_BANDS = 500_000
_CANDIDATES_AT_ONCE = 1 << 16  # arrays that stay in the processor's cache
# Buckets of so many pairs are compared as a block, whose elements need no indices.
_DENSE = 4096
_BLOCK = 1 << 18
Pairs = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]


def near_pairs(hashes: np.ndarray, distance: int, tick: Callable[[float], None] = lambda share: None) -> Pairs:
    """All pairs of images whose hashes are near, as [`near_hashes`] defines it.

    Args:
        hashes (`numpy.ndarray`): the two 64-bit hashes of each image, shape (n, 2).
        distance (`int`): how many bits of the first hash may differ; more where the second agrees.
        tick (`Callable[[float], None]`, *optional*): is told which share of the work is done, 0 to 1.

    Yields:
        `tuple`: left numbers, right numbers, left smaller, and the differing bits of the first hash, each pair once.
    """
    if len(hashes) < ALL_PAIRS:
        rows = 512
        for start in range(0, len(hashes), rows):
            for left, right, bits in near_hashes(hashes[start : start + rows], hashes[start:], distance):
                once = left < right
                yield left[once] + start, right[once] + start, bits[once]
            tick(min(1.0, (start + rows) / len(hashes)))
        return
    first, second = np.ascontiguousarray(hashes[:, 0]), np.ascontiguousarray(hashes[:, 1])
    for left, right in codes_within(first, distance, lambda share: tick(0.5 * share)):
        yield left, right, np.bitwise_count(first[left] ^ first[right])
    for left, right in codes_within(second, _AVERAGE_DISTANCE, lambda share: tick(0.5 + 0.5 * share)):
        bits = np.bitwise_count(first[left] ^ first[right])
        new = (bits > distance) & (bits <= _NOISY_DISTANCE)
        yield left[new], right[new], bits[new]


def codes_within(
    codes: np.ndarray, distance: int, tick: Callable[[float], None] = lambda share: None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of 64-bit codes that differ in few bits.

    Args:
        codes (`numpy.ndarray`): unsigned 64-bit numbers.
        distance (`int`): how many bits may differ.
        tick (`Callable[[float], None]`, *optional*): is told which share of the work is done.

    Yields:
        `tuple`: left and right numbers, left smaller, each pair once.
    """
    if len(codes) < 2:
        return
    bands = 3 if distance < 9 or len(codes) >= THREE_BANDS else 4
    flips = distance // bands
    places = _deal(codes, bands)
    keys = [_gather(codes, band) for band in places]
    for number, band in enumerate(places):
        order = np.argsort(keys[number], kind="stable").astype(np.int32)
        ordered = codes[order]
        buckets = _Buckets(keys[number][order], len(band))
        masks = [
            sum(1 << bit for bit in chosen) for n in range(flips + 1) for chosen in combinations(range(len(band)), n)
        ]
        for done, mask in enumerate(masks):
            for one, two in _close(ordered, buckets, mask, distance):
                left, right = order[one], order[two]
                left, right = np.minimum(left, right), np.maximum(left, right)
                # A pair that an earlier band has found is not told again.
                new = np.ones(len(left), bool)
                for earlier in keys[:number]:
                    new &= np.bitwise_count(earlier[left] ^ earlier[right]) > flips
                if new.any():
                    yield left[new], right[new]
            tick((number + (done + 1) / len(masks)) / bands)


class _Buckets:
    """Where the codes of each key begin and end among codes sorted by key."""

    def __init__(self, keys: np.ndarray, width: int):
        self.starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        self.sizes = np.diff(np.r_[self.starts, len(keys)])
        self.keys = keys[self.starts]
        self.numbers = np.arange(len(self.keys), dtype=np.int32)
        self.table = np.full(1 << width, -1, np.int32)
        self.table[self.keys] = self.numbers


def _close(codes: np.ndarray, buckets: _Buckets, mask: int, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of sorted codes whose keys differ in just the bits of the mask."""
    if mask:
        other = buckets.table[buckets.keys ^ np.uint32(mask)]
        one = np.flatnonzero(other > buckets.numbers)
        two = other[one]
    else:
        one = two = np.flatnonzero(buckets.sizes > 1)
    products = buckets.sizes[one] * buckets.sizes[two]
    dense = products >= _DENSE
    for a, b in zip(one[dense].tolist(), two[dense].tolist(), strict=True):
        yield from _block(codes, _extent(buckets, a), _extent(buckets, b), distance)
    one, two, products = one[~dense], two[~dense], products[~dense]
    ends = np.cumsum(products)
    begin = 0
    while begin < len(one):
        end = max(begin + 1, int(np.searchsorted(ends, ends[begin] - products[begin] + _CANDIDATES_AT_ONCE)))
        part = slice(begin, end)
        yield _expand(codes, buckets, one[part], two[part], products[part], distance, same=not mask)
        begin = end


def _expand(codes, buckets: _Buckets, one, two, products, distance: int, *, same: bool):
    """Compares every code of some buckets with every code of their partners."""
    if len(products) == products.sum():
        left, right = buckets.starts[one], buckets.starts[two]
    else:
        pair = np.repeat(np.arange(len(products), dtype=np.int32), products)
        within = np.arange(len(pair), dtype=np.int32)
        within -= (np.cumsum(products) - products).astype(np.int32)[pair]
        row = within // buckets.sizes[two].astype(np.int32)[pair]
        within -= row * buckets.sizes[two].astype(np.int32)[pair]
        left, right = (
            buckets.starts[one].astype(np.int32)[pair] + row,
            buckets.starts[two].astype(np.int32)[pair] + within,
        )
    near = np.bitwise_count(codes[left] ^ codes[right]) <= distance
    if same:
        near &= left < right
    near = np.flatnonzero(near)
    return left[near], right[near]


def _extent(buckets: _Buckets, number: int) -> tuple[int, int]:
    start = int(buckets.starts[number])
    return start, start + int(buckets.sizes[number])


def _block(
    codes, one: tuple[int, int], two: tuple[int, int], distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Compares two large buckets in blocks that stay in the processor's cache."""
    columns = min(two[1] - two[0], _BLOCK)
    rows = max(1, _BLOCK // columns)
    for top in range(one[0], one[1], rows):
        bottom = min(top + rows, one[1])
        for begin in range(max(two[0], top + 1) if one == two else two[0], two[1], columns):
            end = min(begin + columns, two[1])
            close = np.bitwise_count(codes[top:bottom, None] ^ codes[None, begin:end]) <= distance
            left, right = np.divmod(np.flatnonzero(close), end - begin)
            left, right = left + top, right + begin
            if one == two:
                left, right = left[left < right], right[left < right]
            if len(left):
                yield left, right


def _deal(codes: np.ndarray, bands: int) -> list[np.ndarray]:
    """The bits of each band, the most evenly used ones dealt out in turn."""
    sample = codes[:: max(1, len(codes) // 100_000)]
    shares = np.array([np.count_nonzero(sample & np.uint64(1 << bit)) for bit in range(64)]) / max(len(sample), 1)
    turn = np.argsort(np.abs(shares - 0.5), kind="stable")
    return [turn[number::bands] for number in range(bands)]


def _gather(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The bits at some places, side by side."""
    keys = np.zeros(len(codes), np.uint32)
    for target, place in enumerate(places.tolist()):
        keys |= ((codes >> np.uint64(place)) & np.uint64(1)).astype(np.uint32) << np.uint32(target)
    return keys
