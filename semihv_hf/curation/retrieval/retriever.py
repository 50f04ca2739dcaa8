"""Finds evidence in an index: guidelines and similar cases, with what must not be found kept out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from semihv_hf.data.schema import Evidence, content_id
from semihv_hf.errors import SemiHVError
from semihv_hf.files import canonical_json

from . import vector_index
from .corpora import image_key
from .encoders import Encoder, load_encoder
from .exclusions import Exclusions
from .fusion import VIEWS_OF, check_fusion, reciprocal_ranks
from .index_files import CorpusFiles, combine, read_manifest
from .query import Query, check_queries, query_features
from .segments import META_COLUMNS

_QUERIES_AT_ONCE = 256
_RANKING_LENGTH = 100  # documents of each ranking that reciprocal rank fusion looks at
# Scores are kept to six digits: what float32 leaves undecided is decided by the ids.
_DIGITS, _SLACK = 6, 2e-6
_EVIDENCE_COLUMNS = ("document", "source", "licence", "title", "text", "begin", "end")

Allowed = Callable[[Mapping[str, Any]], bool]
Ranked = list[tuple[float, str, int]]  # score, document, row


class Retriever:
    """Looks things up in an index folder.

    Args:
        index_dir (`str` or `pathlib.Path`): a folder that [`build_index`] wrote.
        encoder (`str` or [`Encoder`], *optional*): by default the one that the index was built with. Another one is
            refused.
        fusion (`str`, *optional*, defaults to `"clip_sf"`): how text and image are weighed: `"clip_sf"`, the inner
            product of summed features; `"text"` or `"image"` alone; `"rrf"`, reciprocal rank fusion of the latter two.
        k (`Mapping[str, int]`, *optional*): how many documents of which corpus; by default one of each.
        floor (`Mapping[str, float]` or `float`, *optional*): least inner product by corpus, -1 to 1; what is below is
            no evidence, so there may be fewer than `k`. Under `"rrf"` it holds for the two rankings that are fused.
        exclude ([`Exclusions`], *optional*): what nobody may get, such as benchmark items.
        device (`str`, *optional*, defaults to `"cpu"`): where torch computes.
        batch_size (`int`, *optional*, defaults to 1): see [`load_encoder`].
        cache_dir (`str` or `pathlib.Path`, *optional*): where fetched packages are kept.

    Raises:
        `SemiHVError`: there is no index, it was built with another encoder, or it cannot do what is asked.

    Example:

    ```python
    retriever = Retriever("index", k={"guidelines": 3})
    [found] = retriever.search([Query("case 1", "fever, cough, lobar consolidation", None)])
    ```
    """

    def __init__(
        self,
        index_dir: str | Path,
        *,
        encoder: str | Encoder | None = None,
        fusion: str = "clip_sf",
        k: Mapping[str, int] | None = None,
        floor: Mapping[str, float] | float | None = None,
        exclude: Exclusions | None = None,
        device: str = "cpu",
        batch_size: int = 1,
        cache_dir: str | Path | None = None,
    ):
        check_fusion(fusion)
        self.folder = Path(index_dir)
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise SemiHVError(f"There is no index in {index_dir}.", "Make one with `semihv index`.")
        self.fusion, self.exclude = fusion, exclude or Exclusions()
        self.k = self._checked_k(k, manifest)
        self.floor = self._checked_floor(floor)
        self._built = manifest
        self._ours = {"shared": manifest["encoder"]["shared"], "normalise": manifest["normalise"]}
        self._check_sides()
        if not isinstance(encoder, Encoder):
            name = encoder or manifest["encoder"]["name"]
            encoder = load_encoder(name, device=device, batch_size=batch_size, cache_dir=cache_dir)
        self._check_encoder(encoder)
        self.encoder = encoder
        self._corpora = {name: CorpusFiles(self.folder, name, manifest["corpora"][name]) for name in self.k}
        self._opened: dict[tuple[str, str], tuple[Any, np.ndarray]] = {}

    @property
    def fingerprint(self) -> str:
        """Changes with everything that changes a result: index, encoder, fusion, k, floor and exclusions."""
        settings = [self.fusion, dict(self.k), dict(self.floor), self.exclude.fingerprint, self._built]
        return content_id(canonical_json(settings))

    def excluding(self, more: Exclusions) -> Retriever:
        """The same, with further things that nobody may get. The encoder and the opened index are shared.

        Args:
            more ([`Exclusions`]): what else nobody may get.

        Returns:
            [`Retriever`]: another one; this one stays as it is.
        """
        other = copy(self)
        other.exclude = self.exclude | more
        return other

    def search(self, queries: Sequence[Query]) -> list[list[Evidence]]:
        """Evidence for every query.

        Args:
            queries (`Sequence[Query]`): the queries. What one of them gets does not depend on the others.

        Returns:
            `list[list[Evidence]]`: by query; sorted by corpus, then by score from the highest, then by id. A document
                comes once,
            with its nearest span.

        Raises:
            `SemiHVError`: a query has neither text nor image, or an image cannot be read.
        """
        check_queries(queries)
        found = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            found.extend(self._search(queries[start : start + _QUERIES_AT_ONCE]))
        return found

    def images(self, evidence: Evidence) -> list[bytes]:
        """The images of a similar case, read from its cases folder.

        Args:
            evidence ([`Evidence`]): what [`search`] found.

        Returns:
            `list[bytes]`: its encoded images; none for a guideline.

        Raises:
            `SemiHVError`: the index has no such document, or the cases folder was moved or changed.
        """
        files = self._corpora.get(evidence.corpus)
        row = None if files is None else files.row_of(evidence.id)
        if row is None:
            raise SemiHVError(f"The index has no {evidence.corpus} {evidence.id}.", "Retrieve with the same index.")
        [entry] = files.entries([row], ("file", "row", "images"))
        if not entry["images"]:
            return []
        return _read_images(files.folder_of_images(row) / entry["file"], entry["row"], evidence.id)

    def _search(self, queries: Sequence[Query]) -> list[list[Evidence]]:
        sides = {"text": ("text",), "image": ("image",)}.get(self.fusion, ("text", "image"))
        text, image = query_features(self.encoder, queries, sides)
        found: list[list[Evidence]] = [[] for _ in queries]
        for corpus in sorted(self.k):
            rankings = []
            for view in VIEWS_OF[self.fusion]:
                vectors = combine(text, image, view, **self._ours)
                rankings.append(self._rankings(corpus, view, vectors, queries))
            for number in range(len(queries)):
                ranked = (
                    rankings[0][number] if len(rankings) == 1 else _by_reciprocal_rank([r[number] for r in rankings])
                )
                found[number].extend(self._evidence(corpus, ranked[: self.k[corpus]]))
        return found

    def _rankings(self, corpus: str, view: str, vectors: np.ndarray, queries: Sequence[Query]) -> list[Ranked]:
        """For each query the documents that it may get, the nearest first."""
        rankings: list[Ranked] = [[] for _ in queries]
        asked = [number for number in range(len(queries)) if vectors[number].any()]
        if self.k[corpus] < 1 or not asked or view not in self._corpora[corpus].written["views"]:
            return rankings
        wanted = _RANKING_LENGTH if self.fusion == "rrf" else self.k[corpus]
        index, _ = self._view(corpus, view)
        count = min(index.ntotal, 4 * wanted + 8)
        first = vector_index.search(index, vectors[asked], count)
        for number, labels in zip(asked, first):
            rankings[number] = self._ranking(
                corpus, view, vectors[number], labels, wanted, self._allowed(queries[number])
            )
        return rankings

    def _ranking(
        self, corpus: str, view: str, vector: np.ndarray, labels: np.ndarray, wanted: int, allowed: Allowed
    ) -> Ranked:
        """Looks at more and more neighbours until enough of them may be used, or none is near enough any more."""
        index, rows = self._view(corpus, view)
        floor = self.floor.get(corpus, -1.0)
        while True:
            near = labels[labels >= 0]
            scored = self._scored(corpus, view, vector, rows[near])
            best = self._best_of_each(scored, allowed, floor)
            last = scored[-1][0] if scored else -1.0
            enough = len(best) >= wanted and last < best[wanted - 1][0] - _SLACK
            if enough or last < floor or len(near) < len(labels) or len(labels) >= index.ntotal:
                return best[:wanted]
            labels = vector_index.search(index, vector[None], min(index.ntotal, 4 * len(labels)))[0]

    def _scored(self, corpus: str, view: str, vector: np.ndarray, rows: np.ndarray) -> list[tuple[float, dict, int]]:
        """Exact scores: they do not depend on how faiss, or how many at a time, the vectors were compared."""
        files = self._corpora[corpus]
        if not len(rows):
            return []
        text, image = (files.features(rows, side) for side in ("text", "image"))
        vectors = combine(text, image, view, **self._ours).astype(np.float64)
        scores = np.round((vectors * vector.astype(np.float64)).sum(axis=1), _DIGITS).tolist()
        entries = files.entries(rows.tolist(), META_COLUMNS)
        found = list(zip(scores, entries, rows.tolist()))
        return sorted(found, key=lambda item: (-item[0], item[1]["document"], item[1]["begin"], item[2]))

    def _best_of_each(self, scored: list[tuple[float, dict, int]], allowed: Allowed, floor: float) -> Ranked:
        best: dict[str, tuple[float, str, int]] = {}
        for score, entry, row in scored:
            if score >= floor and entry["document"] not in best and allowed(entry):
                best[entry["document"]] = (score, entry["document"], row)
        return list(best.values())

    def _allowed(self, query: Query) -> Allowed:
        picture = None if query.image is None else image_key(query.image)
        # Of two spaces that are put side by side, a text and an image have nothing in common: 0 is no likeness.
        apart = self.fusion == "clip_sf" and not self._ours["shared"]
        reads, sees = bool(query.text.strip()), query.image is not None

        def allowed(entry: Mapping[str, Any]) -> bool:
            return not (
                entry["document"] == query.id
                or entry["document"] in query.exclude
                or (query.group and entry["group"] == query.group)
                or (picture is not None and picture in entry["images"])
                or (apart and not (reads and entry["has_text"]) and not (sees and entry["has_image"]))
                or self.exclude.forbid(entry)
            )

        return allowed

    def _evidence(self, corpus: str, ranked: Ranked) -> list[Evidence]:
        entries = self._corpora[corpus].entries([row for _, _, row in ranked], _EVIDENCE_COLUMNS)
        return [
            Evidence(corpus=corpus, id=entry.pop("document"), score=score, **entry)
            for (score, _, _), entry in zip(ranked, entries)
        ]

    def _view(self, corpus: str, view: str) -> tuple[Any, np.ndarray]:
        if (corpus, view) not in self._opened:
            written = self._corpora[corpus].written["views"][view]
            folder = self.folder / "views"
            index = vector_index.read(folder / written["file"])
            self._opened[corpus, view] = index, np.load(folder / written["rows"], mmap_mode="r")
        return self._opened[corpus, view]

    def _check_sides(self) -> None:
        """Before anything is loaded: a fusion needs what the encoder of the index can do."""
        built = self._built["encoder"]
        for side in VIEWS_OF[self.fusion]:
            if side != "fused" and not built[side]:
                raise SemiHVError(
                    f"The index {self.folder} was built with {built['name']}, which encodes no {side}s: "
                    f"fusion {self.fusion} is not possible.",
                    "Build it with an encoder of texts and images, such as minilm+thumbnail.",
                )

    def _check_encoder(self, encoder: Encoder) -> None:
        built = self._built["encoder"]
        if encoder.fingerprint != built["fingerprint"]:
            raise SemiHVError(
                f"The index {self.folder} was built with the encoder {built['name']} ({built['fingerprint'][:8]}), "
                f"not {encoder.name} ({encoder.fingerprint[:8]}).",
                "Use that encoder, or build the index again.",
            )

    def _checked_k(self, k: Mapping[str, int] | None, manifest: dict) -> dict[str, int]:
        chosen = dict.fromkeys(manifest["corpora"], 1) if k is None else dict(k)
        for name, count in chosen.items():
            if name not in manifest["corpora"]:
                have = ", ".join(sorted(manifest["corpora"]))
                raise SemiHVError(f"The index {self.folder} has no corpus {name!r}.", f"It has: {have}.")
            if not isinstance(count, int) or count < 0:
                raise SemiHVError(f"k of {name} is {count!r}.", "Give a whole number, 0 or more.")
        return chosen

    def _checked_floor(self, floor: Mapping[str, float] | float | None) -> dict[str, float]:
        floors = dict(floor) if isinstance(floor, Mapping) else {name: floor for name in self.k if floor is not None}
        for name, value in floors.items():
            if name not in self.k:
                raise SemiHVError(f"A floor is given for {name!r}, of which nothing is retrieved.", "Leave it out.")
            if not -1 <= value <= 1:
                raise SemiHVError(f"The floor of {name} is {value}.", "Give an inner product, -1 to 1.")
        return floors


def _by_reciprocal_rank(rankings: Sequence[Ranked]) -> Ranked:
    """Fused; of a document's spans, the one of the first ranking that has it is shown."""
    rows: dict[str, int] = {}
    for ranking in rankings:
        for _, document, row in ranking:
            rows.setdefault(document, row)
    scores = reciprocal_ranks([[document for _, document, _ in ranking] for ranking in rankings])
    fused = [(round(score, _DIGITS), document, rows[document]) for document, score in scores.items()]
    return sorted(fused, key=lambda item: (-item[0], item[1]))


def _read_images(path: Path, row: int, document: str) -> list[bytes]:
    """The images of one row, of whose file only the row group around it is read."""
    import pyarrow.parquet

    moved = SemiHVError(
        f"The images of case {document} are no longer in {path}.",
        "Put the cases folder back, or build the index again.",
    )
    if not path.is_file():
        raise moved
    with pyarrow.parquet.ParquetFile(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if row < first + count:
                table = file.read_row_group(group, columns=["id", "images"]).slice(row - first, 1)
                [found] = table.to_pylist()
                if found["id"] != document:
                    raise moved
                return [image["bytes"] for image in found["images"]]
            first += count
    raise moved
