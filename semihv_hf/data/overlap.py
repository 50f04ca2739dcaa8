"""What training data shares with what it will be tested on: images across splits, and images and texts of benchmarks.

```python
from semihv_hf.data.overlap import find_overlap

summary = find_overlap(["data/all"], ["benchmarks/vqa_rad", "benchmarks/slake"], "reports/overlap")
```
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import SemiHVError
from ..files import write_json
from .dataset_rows import column_batches, row_files
from .found_rows import FoundRows
from .overlap_images import CORRELATION, DISTANCE, ImageIndex, dataset_name, rank_of
from .overlap_texts import MAX_SHARING, MIN_WORDS, TEXT_COLUMNS, WORDS, TextIndex, texts_of

COLUMNS = ("kind", "dataset", "config", "id", "split", "other", "other_id", "other_split", "score", "detail")
_KEY = ("kind", "dataset", "config", "id", "split", "other", "other_id", "other_split")
_ROWS_AT_ONCE = 4096


def find_overlap(
    datasets: Sequence[str | Path],
    benchmarks: Sequence[str | Path] = (),
    out_dir: str | Path | None = None,
    *,
    images: bool = True,
    texts: bool = True,
    distance: int = DISTANCE,
    correlation: float = CORRELATION,
    words: int = WORDS,
    min_words: int = MIN_WORDS,
    max_sharing: int = MAX_SHARING,
) -> dict[str, Any]:
    """Compares datasets with one another's held-out splits and with benchmarks, row by row.

    An image is reported where all but the same picture is shown in a training row and in a validation or test row, or
    in any row and a benchmark. A text is reported where a row repeats a run of words of a benchmark's item. The result
    does not depend on the order of folders, files or rows.

    Found: re-encoded, resized and brightened pictures, and crops of one per cent at each side, most of two. Not found:
    mirrored, rotated, inverted and further cropped pictures, and panels of a figure.

    Args:
        datasets (`Sequence[str or pathlib.Path]`): dataset folders of Parquet files.
        benchmarks (`Sequence[str or pathlib.Path]`, *optional*): folders that [`write_benchmark`] wrote, or others.
        out_dir (`str` or `pathlib.Path`, *optional*): where `overlap.parquet` (one row a pair) and `overlap.json` (the
            summary) are written.
        images (`bool`, *optional*, defaults to `True`): whether images are compared.
        texts (`bool`, *optional*, defaults to `True`): whether texts are compared.
        distance (`int`, *optional*, defaults to 10): how many of the 64 bits of two perceptual hashes may differ.
        correlation (`float`, *optional*, defaults to 0.97): how well the thumbnails must agree.
        words (`int`, *optional*, defaults to 13): the length of a run of words.
        min_words (`int`, *optional*, defaults to 8): the shortest text that is looked for as a whole.
        max_sharing (`int`, *optional*, defaults to 10): a run that more items of the benchmarks have does not count.

    Returns:
        `dict`: `settings`, `images` and `texts` (what was compared, what could not be), `pairs`, a list of counts by
        kind, dataset, split, other and other_split, with how many different rows are concerned on either side.

    Raises:
        `SemiHVError`: a folder holds no rows, or two folders have the same name.
    """
    names = [dataset_name(folder) for folder in (*datasets, *benchmarks)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SemiHVError(f"Several folders are called {', '.join(twice)}.", "The report tells them by name: rename.")
    with _Found() as found:
        summary: dict[str, Any] = {
            "settings": {
                "distance": distance, "correlation": correlation, "words": words, "min_words": min_words,
                "max_sharing": max_sharing,
            },
            "datasets": sorted(map(dataset_name, datasets)),
            "benchmarks": sorted(map(dataset_name, benchmarks)),
        }  # fmt: skip
        if images:
            summary["images"] = _compare_images(datasets, benchmarks, found, distance, correlation)
        if texts:
            summary["texts"] = _compare_texts(datasets, benchmarks, found, TextIndex(words, min_words, max_sharing))
        summary["pairs"] = found.counts()
        if out_dir is not None:
            found.write(Path(out_dir) / "overlap.parquet")
            write_json(Path(out_dir) / "overlap.json", summary)
    return summary


def _compare_images(datasets, benchmarks, found: "_Found", distance: int, correlation: float) -> dict[str, int]:
    index = ImageIndex()
    for folder, benchmark in _marked(datasets, benchmarks):
        for file in row_files(folder):
            index.add_file(file, dataset_name(folder), rank_of(file.split, benchmark=benchmark))
    for pair in index.pairs(distance, correlation):
        # The same case stands in several configs; an image is reported once.
        row = ("image", pair.place.dataset, "", pair.place.id, pair.place.split)
        row += (pair.other.dataset, pair.other.id, pair.other.split)
        found.add(*row, round(pair.correlation, 4), f"{pair.distance} of 64 bits differ")
    return {name: index.counts[name] for name in ("shown", "different", "unreadable", "flat")}


def _compare_texts(datasets, benchmarks, found: "_Found", index: TextIndex) -> dict[str, int]:
    for folder in benchmarks:
        for file in row_files(folder):
            for rows in column_batches(file, TEXT_COLUMNS, _ROWS_AT_ONCE):
                for row in rows:
                    index.add_item(dataset_name(folder), file.split, row["id"], texts_of(row))
    index.freeze()
    if benchmarks:
        for folder in datasets:
            for file in row_files(folder):
                for match in index.matches_in(file):
                    other, other_split, other_id = index.items[match.item]
                    row = ("text", dataset_name(folder), file.config, match.id, file.split)
                    found.add(*row, other, other_id, other_split, round(match.share, 4), match.words)
    return {name: index.counts[name] for name in ("rows", "items", "items_too_short", "runs", "runs_shared_by_many")}


def _marked(datasets: Sequence, benchmarks: Sequence) -> Iterator[tuple[str | Path, bool]]:
    yield from ((folder, False) for folder in datasets)
    yield from ((folder, True) for folder in benchmarks)


class _Found(FoundRows):
    """The pairs that were found."""

    def __init__(self):
        super().__init__(COLUMNS, _KEY)

    def counts(self) -> list[dict[str, Any]]:
        columns = ("kind", "dataset", "split", "other", "other_split")
        counted = (*columns, "pairs", "rows", "other_rows", "pairs_from_0.8")
        rows = self.database.execute(
            f"SELECT {', '.join(columns)}, COUNT(*), COUNT(DISTINCT id), COUNT(DISTINCT other_id),"
            f" SUM(score >= 0.8) FROM found GROUP BY {', '.join(columns)} ORDER BY {', '.join(columns)}"
        )
        return [dict(zip(counted, row, strict=True)) for row in rows]
