"""What a folder shares with benchmarks, row by row: images, runs of words, and texts all but the same.

Runs of words are those of [`semihv_hf.data.overlap_texts`], images and near texts those of
[`semihv_hf.curation.near_duplicates`].
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.dataset_rows import RowFile, column_batches
from ..data.found_rows import FoundRows
from ..data.overlap_images import dataset_name
from ..data.overlap_texts import TEXT_COLUMNS, TextIndex, texts_of
from ..data.schema import SPLITS
from ..files import write_json, write_text
from .duplicate_choice import IDENTICAL, KINDS, Neighbours
from .duplicate_options import DuplicateOptions
from .likeness import TEXT_KIND, Likeness
from .near_files import CONTAMINATION
from .signature_cache import Bar, benchmark_files, progress_bar, record_files

COLUMNS = (
    "id", "source", "split", "matched", "benchmark", "benchmark_split", "item_id", "kind", "score", "detail",
    "dropped",
)  # fmt: skip
"""`matched` is `"image"` or `"text"`; `kind` is `"identical"` (pixels, or words), `"image"` (hashes and thumbnails),
`"embedding"` (vectors), `"text"` (MinHash) or `"words"` (runs of words); `dropped` tells
whether the row is to be left out."""
_KEY = COLUMNS[:8]
_ROWS_AT_ONCE = 512
_TABLE = "decontamination.md"


class Found(FoundRows):
    """Rows of the report."""

    def __init__(self):
        super().__init__(COLUMNS, _KEY, flags=("dropped",))

    def cells(self) -> list[dict[str, Any]]:
        """How many rows each source shares with each split of a benchmark.

        Returns:
            `list[dict]`: `source`, `split`, `benchmark`, `benchmark_split`, `matched`, `rows`, `items`, `dropped`.
        """
        keys = ("source", "split", "benchmark", "benchmark_split", "matched")
        counted = "COUNT(DISTINCT id), COUNT(DISTINCT item_id), COUNT(DISTINCT CASE WHEN dropped THEN id END)"
        rows = self.database.execute(
            f"SELECT {', '.join(keys)}, {counted} FROM found GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}"
        )
        return [dict(zip((*keys, "rows", "items", "dropped"), row, strict=True)) for row in rows]

    def count(self) -> int:
        """How many different rows are to be left out."""
        return self.database.execute("SELECT COUNT(DISTINCT id) FROM found WHERE dropped").fetchone()[0]

    def dropped_ids(self) -> Iterator[tuple[str]]:
        """The ids of the rows to leave out, each once, as tuples of one."""
        yield from self.database.execute("SELECT DISTINCT id FROM found WHERE dropped")


def write_contamination(
    likeness: Likeness, near: Neighbours, folders: Sequence[Sequence[RowFile]], names: Sequence[str],
    options: DuplicateOptions, out: Path, bar: Bar,
) -> dict[str, Any]:  # fmt: skip
    """Writes `contamination.parquet` and `decontamination.md`.

    Args:
        likeness ([`Likeness`]): of cases and benchmarks.
        near ([`Neighbours`]): of it.
        folders (`Sequence[Sequence[RowFile]]`): files of the cases, then of each benchmark.
        names (`Sequence[str]`): of these folders.
        options ([`DuplicateOptions`]): what counts.
        out (`pathlib.Path`): the folder.
        bar ([`Bar`]): is told how far it is.

    Returns:
        `dict`: `contaminated`, the number of cases to leave out; `sources`, cases by source; `cells`, see [`Found`];
        `words`, what was and was not looked for.
    """
    import pyarrow.compute

    counted = pyarrow.compute.value_counts(likeness.source.slice(0, likeness.cases)).to_pylist()
    sources = dict(sorted((entry["values"], entry["counts"]) for entry in counted))
    with Found() as found:
        for row in _shared_nodes(likeness, near, names, options):
            found.add(*row)
        words = _share_words(folders[0], list(zip(names[1:], folders[1:])), options, found, bar) if names[1:] else {}
        found.write(out / CONTAMINATION)
        summary = {"contaminated": found.count(), "sources": sources, "cells": found.cells(), "words": words}
    write_text(out / _TABLE, summary_table(summary["cells"], sources, names[1:]))
    return summary


def _shared_nodes(likeness: Likeness, near: Neighbours, names, options: DuplicateOptions) -> Iterator[tuple]:
    """Images and texts that a case and an item of a benchmark have both, or all but."""
    for item in range(likeness.cases, len(likeness.ids)):
        item_id, _, item_split = likeness.place(item)
        benchmark = names[likeness.owner[item]]
        for node in likeness.nodes_of[item].tolist():
            what = "image" if node < likeness.pictures else "text"
            alike = [(node, 1.0, IDENTICAL, "the same pixels" if what == "image" else "the same words")]
            for other, score, kind, bits in near.around(node):
                detail = {TEXT_KIND: "share of common runs of five words, estimated"}.get(
                    kind, f"{bits} of 64 bits differ"
                )
                alike.append((other, round(score, 4), KINDS[kind], detail if KINDS[kind] != "embedding" else "cosine"))
            for other, score, kind, detail in alike:
                for case in likeness.rows_of[other].tolist():
                    if case < likeness.cases:
                        place = (*likeness.place(case), what, benchmark, item_split, item_id)
                        yield (*place, kind, score, detail, item_split in options.held_out)


def _share_words(files: Sequence[RowFile], benchmarks, options: DuplicateOptions, found: Found, bar: Bar) -> dict:
    """Runs of words of a benchmark that rows repeat."""
    index = TextIndex(options.words, options.min_words, options.max_sharing)
    for name, held in benchmarks:
        for file in held:
            for rows in column_batches(file, TEXT_COLUMNS, _ROWS_AT_ONCE):
                for row in rows:
                    index.add_item(name, file.split, row["id"], texts_of(row))
    index.freeze()
    bar.start("words", len(files))
    for file in files:
        for rows in column_batches(file, ("source", *TEXT_COLUMNS), _ROWS_AT_ONCE):
            source = {row["id"]: row["source"] for row in rows}
            for match in index.matches((row["id"], texts_of(row)) for row in rows):
                name, split, item = index.items[match.item]
                dropped = split in options.held_out and match.share >= options.min_share
                place = (match.id, source[match.id], file.split, "text", name, split, item)
                found.add(*place, "words", round(match.share, 4), match.words, dropped)
        bar.advance(1)
    return {name: index.counts[name] for name in ("rows", "items", "items_too_short", "runs", "runs_shared_by_many")}


def contaminated_records(
    records_dir: str | Path,
    benchmarks: Sequence[str | Path],
    out_dir: str | Path | None = None,
    *,
    options: DuplicateOptions | None = None,
    progress: bool = True,
) -> frozenset[str]:
    """Looks for texts of benchmarks in generated records: a model may know a benchmark by heart.

    Args:
        records_dir (`str` or `pathlib.Path`): a folder of records.
        benchmarks (`Sequence[str or pathlib.Path]`): folders that `write_benchmark` wrote, or others.
        out_dir (`str` or `pathlib.Path`, *optional*): where `contamination.parquet`, `decontamination.md` and
            `contamination.json` are written; not the folder of [`find_duplicates`], whose report has the same name.
        options ([`DuplicateOptions`], *optional*): `words`, `min_words`, `max_sharing`, `min_share` and `held_out`.
        progress (`bool`, *optional*, defaults to `True`): whether a bar is shown.

    Returns:
        `frozenset[str]`: ids of records to leave out. Images are not compared: those of a record are its case's.

    Raises:
        `SemiHVError`: a folder is unknown or holds no rows, or two have the same name.
    """
    from .near_duplicates import need_different_names

    options = options or DuplicateOptions()
    files = record_files(records_dir)
    names = [dataset_name(folder) for folder in benchmarks]
    need_different_names([dataset_name(records_dir), *names])
    held = [(name, benchmark_files(folder)) for name, folder in zip(names, benchmarks, strict=True)]
    with Found() as found, progress_bar(shown=progress) as bar:
        words = _share_words(files, held, options, found, bar)
        if out_dir is not None:
            sources = _sources_of(files)
            found.write(Path(out_dir) / CONTAMINATION)
            write_text(Path(out_dir) / _TABLE, summary_table(found.cells(), sources, names))
            summary = {"contaminated": found.count(), "sources": sources, "cells": found.cells(), "words": words}
            write_json(Path(out_dir) / "contamination.json", {"settings": options.settings(), **summary})
        return frozenset(name for (name,) in found.dropped_ids())


def _sources_of(files: Sequence[RowFile]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in files:
        for rows in column_batches(file, ("source",), 4096):
            for row in rows:
                counts[row["source"]] = counts.get(row["source"], 0) + 1
    return dict(sorted(counts.items()))


def summary_table(cells: Sequence[dict[str, Any]], sources: dict[str, int], benchmarks: Sequence[str]) -> str:
    """How much of each source stands in each benchmark, as Markdown.

    Args:
        cells (`Sequence[dict]`): see [`Found.cells`].
        sources (`dict[str, int]`): how many rows each source has.
        benchmarks (`Sequence[str]`): the benchmarks.

    Returns:
        `str`: a table of sources and splits of benchmarks: rows that share an image / a text with it. Both are counted
        apart; the benchmarks that nothing is shared with are named.
    """
    order = {name: place for place, name in enumerate(SPLITS)}
    columns = sorted(
        {(cell["benchmark"], cell["benchmark_split"]) for cell in cells}, key=lambda key: (key[0], order[key[1]])
    )
    shared: dict[tuple[str, str, str, str], int] = {}
    for cell in cells:
        key = (cell["source"], cell["benchmark"], cell["benchmark_split"], cell["matched"])
        shared[key] = shared.get(key, 0) + cell["rows"]
    lines = [
        "# What is shared with benchmarks",
        "",
        "Rows that share an image / a text with an item of the split.",
        "",
    ]
    if columns:
        lines.append("| source | rows | " + " | ".join(f"{name} {split}" for name, split in columns) + " |")
        lines.append("|---|---|" + "---|" * len(columns))
        for source, rows in sources.items():
            entries = [
                f"{shared.get((source, *column, 'image'), 0):,} / {shared.get((source, *column, 'text'), 0):,}"
                for column in columns
            ]
            lines.append(f"| {source} | {rows:,} | " + " | ".join(entries) + " |")
        lines.append("")
    clean = sorted(set(benchmarks) - {name for name, _ in columns})
    if clean:
        lines.append(f"Nothing is shared with: {', '.join(clean)}.")
    elif not benchmarks:
        lines.append("No benchmarks were given.")
    return "\n".join(lines).rstrip() + "\n"
