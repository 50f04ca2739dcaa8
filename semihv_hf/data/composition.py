"""What a dataset is made of: images and texts by source, modality, body part and who wrote the text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SemiHVError

# Share of images in percent, as printed in figure 2 of the SemiHVision paper (arXiv 2410.14948): of the figures of
# PubMed Central as they are, and of SemiHVision. A class that the figure does not give for a set is left out.
PUBLISHED = {
    "PubMed Central, original": {
        "non-medical": 58.03, "illustration": 12.31, "CT": 9.09, "pathology": 8.44, "optical image": 4.83,
        "electron microscopy": 2.12, "camera": 1.84, "MRI": 1.80, "X-ray": 0.77,
    },
    "SemiHVision": {
        "non-medical": 6.69, "illustration": 0.79, "CT": 31.15, "pathology": 20.79, "camera": 1.63, "MRI": 21.31,
        "X-ray": 15.61,
    },
}  # fmt: skip
# The classes of that figure, and which of this project's modalities fall into each.
CLASSES = {
    "CT": ("CT",),
    "MRI": ("MRI",),
    "X-ray": ("X-ray", "DSA", "angiography", "mammography", "fluoroscopy"),
    "pathology": ("histology", "pathology", "gross pathology", "cytology", "fluorescence microscopy"),
    "electron microscopy": ("electron microscopy",),
    "optical image": ("optical image", "endoscopy", "colonoscopy", "OCT", "microscopy"),
    "camera": ("photograph", "fundus photograph", "dermatology", "dermoscopy"),
    "ultrasound": ("ultrasound",),
    "nuclear": ("scintigraphy", "PET", "PET/SPECT", "SPECT", "PET/CT"),
    "illustration": ("simulated illustration", "illustration"),
    "non-medical": ("non-medical", "other"),
}
ANNOTATION_ORDER = ("human", "human_edit", "machine", "rule", "none")
_BATCH = 1000


def figure_class(modality: str) -> str:
    """The class of the paper's figure that a modality falls into.

    Args:
        modality (`str`): a modality as the facts state it.

    Returns:
        `str`: one of `CLASSES`, or `"not classified"`.
    """
    wanted = modality.lower()
    for name, modalities in CLASSES.items():
        if wanted == name.lower() or wanted in (known.lower() for known in modalities):
            return name
    return "not classified"


def composition(folders: Sequence[str | Path]) -> dict[str, Any]:
    """Counts what dataset folders hold; pixels are not read.

    A case counts as written by a person as soon as one of its texts is; a message by who wrote that message.

    Args:
        folders (`Sequence[str | pathlib.Path]`): folders that `semihv build` wrote.

    Returns:
        `dict`: `cells`, one row for each source, modality, body part, annotation and split with `cases` and `images`,
        sorted; `messages`, one row for each source, config, task and annotation of an answer; `classes`, images by
        class of the paper's figure; `totals`.

    Raises:
        `SemiHVError`: a folder is not a finished build.
    """
    cells: Counter[tuple[str, ...]] = Counter()
    images: Counter[tuple[str, ...]] = Counter()
    answers: Counter[tuple[str, ...]] = Counter()
    for folder in map(Path, folders):
        files = sorted((folder / "data").glob("*/*.parquet"))
        if not files or not (folder / "build_manifest.json").is_file():
            raise SemiHVError(f"{folder} is not a finished dataset folder.", "Write one with `semihv build`.")
        for path in files:
            config = path.parent.name
            if config == "cases":
                for row in _rows(path, ("source", "split", "images", "facts", "texts")):
                    key = _case_key(row)
                    cells[key] += 1
                    images[key] += row["images"]
            else:
                for row in _rows(path, ("source", "task", "messages", "annotation")):
                    for item, author in zip(row["messages"], row["annotation"], strict=True):
                        if item["role"] == "assistant":
                            answers[row["source"], config, row["task"], author] += 1
    names = ("source", "modality", "body_part", "annotation", "split")
    classes = Counter()
    for key, count in images.items():
        classes[figure_class(key[1])] += count
    return {
        "cells": [{**dict(zip(names, key)), "cases": cells[key], "images": images[key]} for key in sorted(cells)],
        "messages": [
            {**dict(zip(("source", "config", "task", "annotation"), key)), "answers": count}
            for key, count in sorted(answers.items())
        ],
        "classes": dict(sorted(classes.items(), key=lambda item: (-item[1], item[0]))),
        "totals": {"cases": cells.total(), "images": images.total(), "answers": answers.total()},
    }


def table_of(cells: Iterable[Mapping[str, Any]], rows: str, columns: str, count: str = "images") -> dict[str, Any]:
    """Folds the cells into one table of two dimensions.

    Args:
        cells (`Iterable[Mapping[str, Any]]`): the cells of [`composition`].
        rows (`str`): the field that the rows stand for.
        columns (`str`): the field that the columns stand for.
        count (`str`, *optional*, defaults to `"images"`): what is counted: `"images"`, `"cases"` or `"answers"`.

    Returns:
        `dict`: `columns`, their names in falling order of their sum, and `sums`; `rows`, each with `name`, `counts` in
        the order of the columns and `total`, in falling order.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        counts[cell[rows], cell[columns]] += cell[count]
    row_sums, column_sums = Counter(), Counter()
    for (row, column), number in counts.items():
        row_sums[row] += number
        column_sums[column] += number
    ordered = sorted(column_sums, key=lambda name: (-column_sums[name], name))
    return {
        "columns": ordered,
        "sums": [column_sums[name] for name in ordered],
        "rows": [
            {"name": name, "counts": [counts[name, column] for column in ordered], "total": row_sums[name]}
            for name in sorted(row_sums, key=lambda name: (-row_sums[name], name))
        ],
    }


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a shard; of images only how many there are, so that no pixel leaves the disk."""
    import pyarrow.compute
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as shard:
        # A leaf of the list is enough to count it. `path` of an image is null, so it costs nothing to read.
        leaves = ["images.list.element.path" if name == "images" else name for name in columns]
        for batch in shard.iter_batches(batch_size=_BATCH, columns=leaves):
            if "images" in columns:
                index = batch.schema.get_field_index("images")
                lengths = pyarrow.compute.list_value_length(batch.column(index))
                batch = batch.set_column(index, "images", lengths)
            yield from batch.to_pylist()


def _case_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    facts = {fact["name"]: fact["value"] for fact in reversed(row["facts"])}
    written = {text["annotation"] for text in row["texts"]}
    annotation = next((name for name in ANNOTATION_ORDER if name in written), "none")
    return row["source"], facts.get("modality", "unknown"), facts.get("body_part", "unknown"), annotation, row["split"]
