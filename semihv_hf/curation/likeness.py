"""Which rows show or say the same: rows, the pictures and texts that they hold, and which of these are near.

A picture (different pixels) or text (different words) is a node, however many rows hold it; only near nodes are joined
to pairs. So a logo in a million rows is one node and not half a million million pairs.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.overlap_images import _correlations
from ..data.schema import SPLITS
from .hash_search import near_pairs
from .image_signatures import EITHER, FLAT, IMAGE, UNREADABLE, USABLE, EmbeddingCheck
from .signature_cache import Bar, Shard, Signer
from .text_signatures import near_texts

IMAGE_KIND, EMBEDDING_KIND, TEXT_KIND = range(3)
_AT_ONCE = 1 << 14
_VECTORS_AT_ONCE = 1024


class Lists:
    """Many lists of numbers in two arrays.

    Args:
        keys (`numpy.ndarray`): which list each value belongs to.
        values (`numpy.ndarray`): the values.
        size (`int`): how many lists there are.
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray, size: int):
        self.order = np.lexsort((values, keys))
        self.values = np.ascontiguousarray(values[self.order])
        self.offsets = np.r_[0, np.cumsum(np.bincount(keys, minlength=size))].astype(np.int64)

    def __getitem__(self, key: int) -> np.ndarray:
        return self.values[self.offsets[key] : self.offsets[key + 1]]

    def sizes(self) -> np.ndarray:
        """How long each list is."""
        return np.diff(self.offsets)


class Edges(NamedTuple):
    """Pairs of near nodes, the left number smaller, sorted.

    Args:
        left (`numpy.ndarray`): node numbers.
        right (`numpy.ndarray`): node numbers.
        score (`numpy.ndarray`): correlation of thumbnails, cosine of vectors, or similarity of texts.
        kind (`numpy.ndarray`): which of them.
        bits (`numpy.ndarray`): how many of 64 bits differ; 0 where there are none.
    """

    left: np.ndarray
    right: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    bits: np.ndarray


class Likeness:
    """The rows of several folders and what is alike among them.

    Rows are numbered by owner (the cases first), split of a benchmark, and id; nodes by their digests, pictures first.
    So nothing depends on the order of files or rows.
    """

    def __init__(self, shards: Sequence[Shard], signer: Signer, scratch: Path):
        self.counts: Counter[str] = Counter()
        tables = [_read_rows(signer, shard) for shard in shards]
        numbers = self._number_rows(tables)
        pictures = self._add_pictures(shards, signer, numbers, scratch)
        texts = self._add_texts(shards, signer, numbers)
        self.nodes = self.pictures + self.texts
        pairs = np.concatenate([pictures, texts])
        self.rows_of = Lists(pairs[:, 1], pairs[:, 0], self.nodes)
        self.nodes_of = Lists(pairs[:, 0], pairs[:, 1], len(self.ids))
        self.edges = Edges(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.float32, np.uint8, np.uint8)))

    def place(self, number: int) -> tuple[str, str, str]:
        """What a report calls a row.

        Args:
            number (`int`): the row.

        Returns:
            `tuple[str, str, str]`: its id, source and split.
        """
        return self.ids[number].as_py(), self.source[number].as_py(), SPLITS[self.held[number]]

    def _number_rows(self, tables: Sequence[Any]) -> list[np.ndarray]:
        import pyarrow

        table = pyarrow.concat_tables(tables).combine_chunks()
        self.counts["rows"] = int((table["owner"].to_numpy() == 0).sum())
        table = table.append_column("raw", pyarrow.array(np.arange(len(table), dtype=np.int32)))
        keys = (("owner", "ascending"), ("place", "ascending"), ("id", "ascending"), ("held", "descending"))
        # The last two columns make the order total where a row stands in several files.
        order = table.sort_by([*keys, ("images", "descending"), ("group", "ascending")]).combine_chunks()
        ids, owner, place = order["id"], order["owner"].to_numpy(), order["place"].to_numpy()
        # The same row may stand in several files.
        same = np.zeros(len(order), bool)
        if len(order) > 1:
            import pyarrow.compute

            same[1:] = pyarrow.compute.equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy()
            same[1:] &= (owner[1:] == owner[:-1]) & (place[1:] == place[:-1])
        first = np.flatnonzero(~same)
        number = np.cumsum(~same) - 1
        self.counts["repeated_rows"] = int(same[owner == 0].sum())
        kept = order.take(pyarrow.array(first))
        self.ids = kept["id"].combine_chunks()
        self.owner, self.held = owner[first], kept["held"].to_numpy()
        self.source = kept["source"].combine_chunks()
        self.group, self.images = kept["group"].to_numpy(), kept["images"].to_numpy()
        self.expert = (
            np.maximum.reduceat(order["expert"].to_numpy(zero_copy_only=False), first) if len(first) else first
        )
        self.cases = int((self.owner == 0).sum())
        raw = np.empty(len(order), np.int32)
        raw[order["raw"].to_numpy()] = number
        ends = np.cumsum([len(rows) for rows in tables])
        return np.split(raw, ends[:-1])

    def _add_pictures(self, shards, signer: Signer, numbers, scratch: Path) -> np.ndarray:
        """Finds the different pictures. Thumbnails go to a file: they are looked at for candidates only."""
        rows, pixels, hashes, areas = [], [], [], []
        vectors, embedding = [], signer.embedding
        with open(scratch / "thumbnails", "wb") as thumbnails:
            for shard, number in zip(shards, numbers, strict=True):
                found = np.load(signer.path(shard.sha, "images.npy"), mmap_mode="r")
                self.counts["images"] += len(found)
                self.counts["unreadable"] += int((found["state"] == UNREADABLE).sum())
                self.counts["flat"] += int((found["state"] == FLAT).sum())
                found = found[found["state"] == USABLE]
                thumbnails.write(np.ascontiguousarray(found["thumbnail"]).tobytes())
                rows.append(number[found["row"]])
                pixels.append(found["pixels"].copy())
                hashes.append(found["hashes"].copy())
                areas.append(found["area"].copy())
                if embedding is not None:
                    vectors.append(np.load(signer.path(shard.sha, "vectors.npy"), mmap_mode="r"))
        row, pixel = np.concatenate(rows), np.concatenate(pixels)
        node, first = _unique(pixel)
        self.pictures = len(first)
        self.hashes = np.concatenate(hashes)[first]
        self.area = np.concatenate(areas)[first]
        side = IMAGE["thumbnail"].shape[0]
        shape = (len(row), side)
        self.thumbnails = (
            np.memmap(scratch / "thumbnails", np.uint8, "r", shape=shape) if len(row) else np.zeros(shape)
        )
        self.first = first
        self.vectors = _write_vectors(vectors, scratch / "vectors") if embedding is not None and len(row) else None
        self.counts["pictures"] = self.pictures
        return np.unique(np.stack([row, node.astype(np.int32)], axis=1), axis=0).reshape(-1, 2)

    def _add_texts(self, shards, signer: Signer, numbers) -> np.ndarray:
        rows, experts, digests, signatures = [], [], [], []
        for shard, number in zip(shards, numbers, strict=True):
            found = np.load(signer.path(shard.sha, "texts.npy"), mmap_mode="r")
            rows.append(number[found["row"]])
            experts.append(found["expert"].copy())
            digests.append(found["digest"].copy())
            signatures.append(found["minhash"].copy())
        row = np.concatenate(rows)
        node, first = _unique(np.concatenate(digests))
        self.texts = len(first)
        self.minhashes = np.concatenate(signatures)[first]
        self.counts["texts"] = self.texts
        # Which texts a person wrote, by row: a machine may have written the same words elsewhere.
        self.expert_texts = np.unique(np.stack([row, node], axis=1)[np.concatenate(experts)], axis=0) + [
            0,
            self.pictures,
        ]
        return np.unique(np.stack([row, node + self.pictures], axis=1), axis=0).astype(np.int32).reshape(-1, 2)

    def find_edges(
        self, *, distance: int, correlation: float, jaccard: float, embedding: EmbeddingCheck | None, bar: Bar
    ) -> None:
        """Finds the near pairs of pictures and of texts.

        Args:
            distance (`int`): see [`near_pairs`].
            correlation (`float`): how well thumbnails must agree.
            jaccard (`float`): how similar texts must be.
            embedding ([`EmbeddingCheck`], *optional*): the second opinion.
            bar ([`Bar`]): is told how far it is.
        """
        home = self._homes()
        bar.start("images", 1)
        found = [_no_edges(), *self._near_pictures(home, distance, correlation, embedding, bar)]
        bar.set(1)
        bar.start("texts", 1)
        for left, right, score in near_texts(self.minhashes, jaccard, self.counts):
            left, right = left + self.pictures, right + self.pictures
            new = (home[left] != home[right]) | (home[left] < 0)
            found.append(_edges(left[new], right[new], score[new], TEXT_KIND))
        bar.set(1)
        edges = [np.concatenate(part) for part in zip(*found, strict=True)]
        # Of a pair that was found in several ways the first kind stays.
        order = np.lexsort((edges[3], edges[1], edges[0]))
        left, right = edges[0][order], edges[1][order]
        new = np.r_[True, (left[1:] != left[:-1]) | (right[1:] != right[:-1])][: len(left)]
        self.edges = Edges(*(part[order][new] for part in edges))

    def _homes(self) -> np.ndarray:
        """The group that alone holds a node, or -1. Inside one group (the slices of a volume) everything is alike, and
        near anyway; such pairs are not looked at. Benchmarks need not be compared with themselves either."""
        count = np.diff(self.rows_of.offsets)
        groups = np.where(self.owner[self.rows_of.values] == 0, self.group[self.rows_of.values], -2)
        starts = self.rows_of.offsets[:-1][count > 0]
        lowest = np.minimum.reduceat(groups, starts) if len(starts) else groups
        highest = np.maximum.reduceat(groups, starts) if len(starts) else groups
        home = np.where(lowest == highest, lowest, -1)
        # Rows without a group have one of their own (see `_read_rows`), so -1 always means several.
        home[lowest != highest] = -1
        return np.where(home == -2, np.iinfo(np.int64).max, home)

    def _near_pictures(self, home, distance, correlation, embedding, bar: Bar) -> Iterator[Edges]:
        for left, right, bits in near_pairs(self.hashes, distance, bar.set):
            apart = (home[left] != home[right]) | (home[left] < 0)
            left, right, bits = left[apart], right[apart], bits[apart]
            for start in range(0, len(left), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                one, two = left[part], right[part]
                score = _correlations(self.thumbnails[self.first[one]], self.thumbnails[self.first[two]])
                near = score >= correlation
                if embedding is not None and embedding.use != EITHER:
                    near[near] = self._cosines(one[near], two[near]) >= embedding.threshold
                yield _edges(one[near], two[near], np.minimum(score[near], 1), IMAGE_KIND, bits[part][near])
        if embedding is not None and embedding.use == EITHER and self.vectors is not None:
            yield from self._near_vectors(home, embedding.threshold)

    def _cosines(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        left, right = (self.vectors[self.first[side]].astype(np.float32) for side in (one, two))
        return np.einsum("ij,ij->i", left, right)

    def _near_vectors(self, home: np.ndarray, threshold: float) -> Iterator[Edges]:
        for top in range(0, self.pictures, _VECTORS_AT_ONCE):
            rows = self.vectors[self.first[top : top + _VECTORS_AT_ONCE]].astype(np.float32)
            for begin in range(top, self.pictures, _VECTORS_AT_ONCE):
                cosine = rows @ self.vectors[self.first[begin : begin + _VECTORS_AT_ONCE]].astype(np.float32).T
                left, right = np.nonzero(cosine >= threshold)
                score = np.minimum(cosine[left, right], 1)
                left, right = left + top, right + begin
                new = (left < right) & ((home[left] != home[right]) | (home[left] < 0))
                yield _edges(left[new], right[new], score[new], EMBEDDING_KIND)


def _no_edges() -> Edges:
    none = np.zeros(0, np.int32)
    return _edges(none, none, none, IMAGE_KIND)


def _edges(left, right, score, kind: int, bits=None) -> Edges:
    return Edges(
        left.astype(np.int32), right.astype(np.int32), score.astype(np.float32), np.full(len(left), kind, np.uint8),
        np.zeros(len(left), np.uint8) if bits is None else bits.astype(np.uint8),
    )  # fmt: skip


def _unique(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each digest in sorted order, and where each different one stands first."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return number, order[new]


def _write_vectors(parts: Sequence[np.ndarray], path: Path) -> np.ndarray:
    dimensions = {part.shape[1] for part in parts if len(part)}
    size = max(dimensions)
    total = sum(map(len, parts))
    out = np.memmap(path, np.float16, "w+", shape=(total, size))
    start = 0
    for part in parts:
        if len(part):
            out[start : start + len(part)] = part
        start += len(part)
    return out


def _read_rows(signer: Signer, shard: Shard) -> Any:
    """The rows of a shard with what is known from its name."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(signer.path(shard.sha, "rows.parquet"))
    held = SPLITS.index(shard.file.split)
    count = len(table)
    groups = [
        _group_number(source, group or f"row {name}", own=not group)
        for source, group, name in zip(*(table[name].to_pylist() for name in ("source", "group", "id")), strict=True)
    ]
    columns = {
        "owner": np.full(count, shard.owner, np.int32),
        # A benchmark's item is another in another split; a case is the same.
        "place": np.full(count, held if shard.owner else 0, np.int32),
        "held": np.full(count, held, np.int32),
    }
    table = table.drop_columns(["group"]).append_column("group", pyarrow.array(groups, pyarrow.int64()))
    for name, values in columns.items():
        table = table.append_column(name, pyarrow.array(values))
    return table


def _group_number(source: str, group: str, *, own: bool) -> int:
    """63 bits for a group of a source: equal names of two sources are two groups."""
    data = f"{len(source)} {source} {group} {own}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1
