"""An index folder: segments of entries, views that rank them, and a manifest that is written last.

```
manifest.json                                what belongs to the index; a file that it does not name does not count
segments/<corpus>-00000.arrow                entries with their features
views/<corpus>-<view>-<kind>-<entries>.faiss nearest neighbours among them
views/<corpus>-<view>-<kind>-<entries>.rows.npy  the entry of each of the view's vectors
views/<corpus>-documents-<entries>.{keys,rows}.npy  where a document's first entry stands, sorted by the document's key
```
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semihv_hf.errors import SemiHVError
from semihv_hf.files import atomic_file

from . import fusion
from .segments import Segment

FORMAT = 1
MANIFEST = "manifest.json"
VIEWS = ("fused", "text", "image")


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """The manifest of an index.

    Args:
        folder (`str` or `pathlib.Path`): the index.

    Returns:
        `dict`: the manifest; `None` where there is none.

    Raises:
        `SemiHVError`: it cannot be read, or another version of this package wrote it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        written = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SemiHVError(f"The manifest {path} is damaged.", "Build the index again.") from error
    if written != FORMAT:
        raise SemiHVError(f"The index {folder} has format {written}, not {FORMAT}.", "Build it again.")
    return manifest


def document_key(document: str) -> bytes:
    """Sixteen bytes that stand for a document in sorted arrays.

    Args:
        document (`str`): its id.

    Returns:
        `bytes`: the first half of its sha256.
    """
    return hashlib.sha256(document.encode()).digest()[:16]


def save_array(path: Path, values: np.ndarray) -> None:
    """Writes an array, all at once.

    Args:
        path (`pathlib.Path`): the file.
        values (`numpy.ndarray`): the array.
    """
    with atomic_file(path, "wb") as file:
        np.save(file, values, allow_pickle=False)


class CorpusFiles:
    """The entries of one corpus of an index, memory-mapped.

    Args:
        folder (`pathlib.Path`): the index.
        name (`str`): the corpus.
        written (`dict`): its part of the manifest.
    """

    def __init__(self, folder: Path, name: str, written: dict[str, Any]):
        self.folder, self.name, self.written = folder, name, written
        self._segments: list[Segment | None] = [None] * len(written["segments"])
        self._starts = np.cumsum([0, *(segment["entries"] for segment in written["segments"])]).tolist()

    def __len__(self) -> int:
        return self._starts[-1]

    def segment(self, number: int) -> Segment:
        """One segment, opened when it is first asked for."""
        if self._segments[number] is None:
            written = self.written["segments"][number]
            path = self.folder / "segments" / written["file"]
            if not path.is_file() or path.stat().st_size != written["bytes"]:
                raise SemiHVError(f"The index file {path} is damaged or missing.", "Build the index again.")
            self._segments[number] = Segment(path)
        return self._segments[number]

    def entries(self, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some entries, in the order asked for."""
        found: list[dict[str, Any]] = [{}] * len(rows)
        for number, places, inside in self._by_segment(rows):
            for place, row in zip(places, self.segment(number).rows(inside, columns)):
                found[place] = row
        return found

    def features(self, rows: Sequence[int], side: str) -> np.ndarray:
        """The features of some entries, in the order asked for."""
        found = None
        for number, places, inside in self._by_segment(rows):
            values = self.segment(number).features(side)[inside]
            if found is None:
                found = np.zeros((len(rows), values.shape[1]), np.float32)
            found[places] = values
        return found

    def _by_segment(self, rows: Sequence[int]) -> Iterator[tuple[int, list[int], list[int]]]:
        groups: dict[int, tuple[list[int], list[int]]] = {}
        for place, row in enumerate(rows):
            number = bisect_right(self._starts, row) - 1
            places, inside = groups.setdefault(number, ([], []))
            places.append(place)
            inside.append(int(row) - self._starts[number])
        for number in sorted(groups):
            yield number, *groups[number]

    def row_of(self, document: str) -> int | None:
        """The first entry of a document, `None` where the corpus has no such document."""
        keys, rows = self._documents()
        key = np.array([document_key(document)], keys.dtype)
        place = int(np.searchsorted(keys, key)[0])
        return int(rows[place]) if place < len(keys) and keys[place] == key[0] else None

    def _documents(self) -> tuple[np.ndarray, np.ndarray]:
        base = self.folder / "views" / self.written["documents"]["file"]
        return tuple(np.load(f"{base}.{part}.npy", mmap_mode="r") for part in ("keys", "rows"))

    def folder_of_images(self, row: int) -> Path:
        """The folder that an entry's file is relative to."""
        number = bisect_right(self._starts, row) - 1
        return (self.folder / self.segment(number).header["folder"]).resolve()


def view_vectors(segment: Segment, view: str, *, shared: bool, normalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """What a view compares: the vectors of a segment's entries that have something to compare.

    Args:
        segment ([`Segment`]): the segment.
        view (`str`): one of `VIEWS`.
        shared (`bool`): see [`fusion.fuse`].
        normalise (`bool`): see [`fusion.fuse`].

    Returns:
        `tuple`: row numbers within the segment, and their vectors.
    """
    text, image = segment.features("text"), segment.features("image")
    vectors = combine(text, image, view, shared=shared, normalise=normalise)
    # A row of zeros (a picture of one colour, an entry without this side) resembles nothing and would only spoil a
    # graph.
    rows = np.flatnonzero(vectors.any(axis=1))
    return rows, vectors[rows]


def combine(text: np.ndarray, image: np.ndarray, view: str, *, shared: bool, normalise: bool) -> np.ndarray:
    """The vectors of a view.

    Args:
        text (`numpy.ndarray`): text features.
        image (`numpy.ndarray`): image features.
        view (`str`): one of `VIEWS`.
        shared (`bool`): see [`fusion.fuse`].
        normalise (`bool`): see [`fusion.fuse`].

    Returns:
        `numpy.ndarray`: float32 of length 1, or zeros.
    """
    if view == "fused":
        return fusion.fuse(text, image, shared=shared, normalise=normalise)
    return fusion.unit(text if view == "text" else image)
