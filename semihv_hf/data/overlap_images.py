"""Near-duplicate images: the same picture in another encoding, size or brightness.

Two hashes of 64 bits find candidates: `imagehash.phash`, the signs of the low frequencies, and, for pictures that are
mirror images of themselves, whose odd frequencies are nothing but noise, `imagehash.average_hash`. The correlation of
thumbnails decides. All pairs of hashes are compared, in blocks of NumPy's popcount; nothing is missed for the sake of
speed, and the order of the files does not matter.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .dataset_rows import RowFile, column_batches

DISTANCE = 10  # of 64 bits
CORRELATION = 0.97
# Measured on 300 images of 34 real studies, saved as JPEG of quality 90: of mirror-symmetric ones up to 20 bits of the
# first hash differ, but at most 3 of the second. Of two different images, about 32 of the first differ.
_NOISY_DISTANCE, _AVERAGE_DISTANCE = 22, 4
# Small enough that a crop of one per cent still agrees, which at 32 pixels it does not.
_SIDE = 16
# Grey levels; below it a thumbnail is all but one colour, its hash is noise, and it resembles any other such picture.
_FLAT = 1.0
_ROWS_AT_ONCE = 32
_COMPARISONS_AT_ONCE = 1 << 18
_PAIRS_AT_ONCE = 1 << 14


class Shown(NamedTuple):
    """Where an image is shown.

    Args:
        dataset (`str`): the dataset or benchmark.
        split (`str`): the split.
        id (`str`): the case, or the row where it names none.
        rank (`int`): 0 for training, 1 for validation, 2 for test rows, 3 for a benchmark.
    """

    dataset: str
    split: str
    id: str
    rank: int


class ImagePair(NamedTuple):
    """Two places that show all but the same picture.

    Args:
        place ([`Shown`]): the one of lower rank.
        other ([`Shown`]): the one of higher rank.
        correlation (`float`): of the thumbnails, at most 1.
        distance (`int`): how many of the 64 bits of the first hash differ.
    """

    place: Shown
    other: Shown
    correlation: float
    distance: int


class ImageIndex:
    """The images of several datasets by their looks. Pixels are not kept, only about a kilobyte for each image."""

    def __init__(self):
        self._digests: dict[bytes, int | None] = {}
        self._hashes: list[tuple[int, int]] = []
        self._thumbnails = bytearray()
        self._shown: list[set[Shown]] = []
        self.counts: Counter[str] = Counter()

    def add_file(self, file: RowFile, dataset: str, rank: int) -> None:
        """Adds the images of a file. Each different image is decoded once, however many rows show it.

        Args:
            file ([`RowFile`]): the file.
            dataset (`str`): what it belongs to.
            rank (`int`): see [`Shown`].
        """
        if "images" not in file.columns:
            return
        name = "case_id" if "case_id" in file.columns else "id"
        for rows in column_batches(file, (name, "images"), _ROWS_AT_ONCE):
            for row in rows:
                for image in row["images"] or ():
                    self.add(image["bytes"], Shown(dataset, file.split, row[name], rank))

    def add(self, data: bytes | None, place: Shown) -> None:
        """Adds one image.

        Args:
            data (`bytes` or `None`): the encoded image. One that cannot be decoded is counted and left out.
            place ([`Shown`]): where it is shown.
        """
        self.counts["shown"] += 1
        digest = hashlib.sha256(data or b"").digest()
        if digest not in self._digests:
            self.counts["different"] += 1
            self._digests[digest] = self._look(data or b"")
        index = self._digests[digest]
        if index is not None:
            self._shown[index].add(place)

    def _look(self, data: bytes) -> int | None:
        try:
            grey = _grey(data)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.counts["unreadable"] += 1
            return None
        thumbnail = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))
        if thumbnail.std() < _FLAT:
            self.counts["flat"] += 1
            return None
        self._thumbnails += thumbnail.tobytes()
        self._hashes.append(image_hashes(grey))
        self._shown.append(set())
        return len(self._hashes) - 1

    def pairs(self, distance: int = DISTANCE, correlation: float = CORRELATION) -> Iterator[ImagePair]:
        """Finds images that are shown at places of different rank, such as training and test.

        Args:
            distance (`int`, *optional*, defaults to 10): how many of 64 bits may differ.
            correlation (`float`, *optional*, defaults to 0.97): how well the thumbnails must agree.

        Yields:
            [`ImagePair`]: in no particular order.
        """
        ranks = [{place.rank for place in places} for places in self._shown]
        lower = np.array([i for i, found in enumerate(ranks) if min(found) < 3], np.int64)
        higher = np.array([i for i, found in enumerate(ranks) if max(found) > 0], np.int64)
        if not len(lower) or not len(higher):
            return
        hashes = np.array(self._hashes, np.uint64)
        thumbnails = np.frombuffer(bytes(self._thumbnails), np.uint8).reshape(len(hashes), _SIDE * _SIDE)
        for left, right, bits in near_hashes(hashes[lower], hashes[higher], distance):
            left, right = lower[left], higher[right]
            for start in range(0, len(left), _PAIRS_AT_ONCE):
                part = slice(start, start + _PAIRS_AT_ONCE)
                scores = _correlations(thumbnails[left[part]], thumbnails[right[part]])
                for index in np.flatnonzero(scores >= correlation):
                    one, two = int(left[part][index]), int(right[part][index])
                    yield from self._places(one, two, float(scores[index]), int(bits[part][index]))

    def _places(self, one: int, two: int, score: float, bits: int) -> Iterator[ImagePair]:
        for place in self._shown[one]:
            for other in self._shown[two]:
                if place.rank < other.rank:
                    yield ImagePair(place, other, min(score, 1.0), bits)


def image_hashes(grey: Image.Image) -> tuple[int, int]:
    """The 64 bits each of `imagehash.phash` and `imagehash.average_hash`.

    Args:
        grey (`PIL.Image.Image`): a greyscale image.

    Returns:
        `tuple[int, int]`: the two hashes.
    """
    import imagehash

    found = (imagehash.phash(grey), imagehash.average_hash(grey))
    return tuple(int.from_bytes(np.packbits(value.hash).tobytes(), "big") for value in found)


def near_hashes(
    one: np.ndarray, two: np.ndarray, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of hashes that differ in few bits, by comparing all with all.

    Args:
        one (`numpy.ndarray`): pairs of 64-bit hashes as [`image_hashes`] gives them, shape (n, 2).
        two (`numpy.ndarray`): the same, shape (m, 2).
        distance (`int`): how many bits of the first hash may differ; more where the second agrees.

    Yields:
        `tuple`: indices into `one`, indices into `two`, and the differing bits of the first hash, of one block.
    """
    widest = max(distance, _NOISY_DISTANCE)
    first, second = np.ascontiguousarray(one[:, 0]), np.ascontiguousarray(two[:, 0])
    rows = max(1, _COMPARISONS_AT_ONCE // max(len(two), 1))
    # The blocks stay in the processor's cache and are written over: making new arrays would take most of the time.
    differing = np.empty((min(rows, len(one)), len(two)), np.uint64)
    bits = np.empty(differing.shape, np.uint8)
    close = np.empty(differing.shape, bool)
    for start in range(0, len(one), rows):
        count = min(rows, len(one) - start)
        np.bitwise_xor(first[start : start + count, None], second[None, :], out=differing[:count])
        np.bitwise_count(differing[:count], out=bits[:count])
        np.less_equal(bits[:count], widest, out=close[:count])
        flat = np.flatnonzero(close[:count])
        left, right = np.divmod(flat, len(two))
        left += start
        found = bits.ravel()[flat]
        near = np.bitwise_count(one[left, 1] ^ two[right, 1]) <= _AVERAGE_DISTANCE
        near |= found <= distance
        if near.any():
            yield left[near], right[near], found[near]


def _grey(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        # A JPEG is decoded at a fraction of its size, which the thumbnail would be reduced to anyway.
        image.draft("L", (128, 128))
        return image.convert("L")


def _correlations(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of each row of one with the same row of the other, shape (pairs, pixels) of bytes to (pairs,)."""

    def centred(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    return np.einsum("ij,ij->i", centred(one), centred(two))


def rank_of(split: str, *, benchmark: bool = False) -> int:
    """How far from training a split is.

    Args:
        split (`str`): `"train"`, `"validation"` or `"test"`.
        benchmark (`bool`, *optional*, defaults to `False`): whether it is a split of a benchmark.

    Returns:
        `int`: see [`Shown`].
    """
    return 3 if benchmark else {"train": 0, "validation": 1, "test": 2}[split]


def dataset_name(folder: str | Path) -> str:
    """What a dataset is called in a report: the name of its folder, not where that lies.

    Args:
        folder (`str` or `pathlib.Path`): the folder.

    Returns:
        `str`: the last part of its path.
    """
    return Path(folder).resolve().name
