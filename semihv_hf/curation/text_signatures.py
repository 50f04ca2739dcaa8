"""Near-duplicate texts by MinHash (Broder 1997): the share of common runs of words, estimated from 128 numbers.

Signatures are made by `datasketch` with a fixed seed. Candidates come from bands of the signatures (locality-sensitive
hashing; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4), held as sorted arrays instead of
`MinHashLSH`'s dictionaries, which take kilobytes a text.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data.overlap_texts import words_of

PERMUTATIONS = 128
SHINGLE = 5
SEED = 1
# A pair of similarity s is a candidate with probability 1 - (1 - s^5)^25: 0.99995 at 0.8, 0.55 at 0.5.
_BANDS, _ROWS = 25, 5
# Texts of one band's bucket are all compared with one another up to this number. In a larger bucket (the wordings of
# a normal report) each is compared with so many only: a hundred thousand texts would have five thousand million pairs.
MOST_COMPARED = 256
TEXT = np.dtype(
    [("row", "<i4"), ("expert", "?"), ("words", "<i4"), ("digest", "<u8", (2,)), ("minhash", "<u4", (PERMUTATIONS,))]
)
_SHINGLES_AT_ONCE = 8192
_PAIRS_AT_ONCE = 1 << 16


class TextSigner:
    """Makes signatures of texts.

    Args:
        min_words (`int`): a text of fewer words cannot be told from what anybody would write, and has none.
    """

    def __init__(self, min_words: int):
        self.min_words = min_words
        self._empty: Any = None

    def sign(self, text: str, row: int, *, expert: bool) -> np.ndarray | None:
        """The signature of a text.

        Args:
            text (`str`): the text.
            row (`int`): the row that it belongs to.
            expert (`bool`): whether a person wrote or edited it.

        Returns:
            `numpy.ndarray` or `None`: one element of type `TEXT`; `None` where the text is too short.
        """
        words = words_of(text)
        if len(words) < self.min_words:
            return None
        signature = np.zeros((), TEXT)
        signature["row"], signature["expert"], signature["words"] = row, expert, min(len(words), 2**31 - 1)
        signature["digest"] = np.frombuffer(hashlib.sha256(" ".join(words).encode()).digest()[:16], "<u8")
        signature["minhash"] = self._minhash(words)
        return signature

    def _minhash(self, words: list[str]) -> np.ndarray:
        if self._empty is None:
            from datasketch import MinHash

            self._empty = MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme="affine32")
        minhash = self._empty.copy()
        last = max(len(words) - SHINGLE + 1, 1)
        for start in range(0, last, _SHINGLES_AT_ONCE):
            places = range(start, min(start + _SHINGLES_AT_ONCE, last))
            minhash.update_batch([" ".join(words[place : place + SHINGLE]).encode() for place in places])
        return minhash.hashvalues


def near_texts(
    signatures: np.ndarray, threshold: float, counts: Counter[str]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of different texts whose estimated Jaccard similarity reaches a threshold.

    Args:
        signatures (`numpy.ndarray`): MinHash values, shape (texts, permutations), in an order that does not depend on
            the order of the files: in large buckets the first texts are those that others are compared with.
        threshold (`float`): the least similarity. Recall is above 0.998 from 0.75 on.
        counts (`Counter[str]`): `large_buckets` counts those in which not all pairs were compared.

    Yields:
        `tuple`: left and right numbers, left smaller, and the similarity. A pair may come several times.
    """
    for band in range(_BANDS):
        key = _band_key(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
        sizes = np.diff(np.r_[starts, len(ordered)])
        several = np.flatnonzero(sizes > 1)
        pending: list[tuple[np.ndarray, np.ndarray]] = []
        waiting = 0
        for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
            counts["large_buckets"] += size > MOST_COMPARED
            members = order[start : start + size]
            hub = members[: size if size <= MOST_COMPARED else MOST_COMPARED]
            for place in range(len(hub)):
                pending.append((np.broadcast_to(hub[place], size - place - 1), members[place + 1 :]))
                waiting += size - place - 1
                if waiting >= _PAIRS_AT_ONCE:
                    yield from _agreeing(pending, signatures, threshold)
                    pending, waiting = [], 0
        if pending:
            yield from _agreeing(pending, signatures, threshold)


def _agreeing(
    pending: list[tuple[np.ndarray, np.ndarray]], signatures: np.ndarray, threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    left, right = (np.concatenate(side) for side in zip(*pending, strict=True))
    similarity = np.empty(len(left), np.float32)
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        similarity[part] = (signatures[left[part]] == signatures[right[part]]).mean(axis=1, dtype=np.float32)
    near = similarity >= threshold
    left, right, similarity = left[near], right[near], similarity[near]
    if len(left):
        yield left, right, similarity


def _band_key(values: np.ndarray) -> np.ndarray:
    """One number for the values of a band."""
    key = np.zeros(len(values), np.uint64)
    for place in range(values.shape[1]):
        key = (key ^ values[:, place]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key
