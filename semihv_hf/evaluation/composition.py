"""The composition report: what a dataset is made of, beside the published figure, and what of it repeats elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semihv_hf.data.composition import PUBLISHED, composition, table_of
from semihv_hf.files import write_json, write_text

TEMPLATE = "composition.html.jinja"
MOST_PAIRS = 50  # repeated pairs that the page shows; overlap.parquet holds all


def write_composition(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    benchmarks: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Writes the composition report of dataset folders.

    Args:
        folders (`Sequence[str | pathlib.Path]`): folders that `semihv build` wrote.
        out (`str` or `pathlib.Path`): the HTML page; the numbers go to a `.json` file and the repeated rows to a
            folder `<name>_overlap` beside it.
        benchmarks (`Sequence[str | pathlib.Path]`, *optional*): dataset folders of benchmarks to compare with.

    Returns:
        `dict`: the numbers of the page.

    Raises:
        `SemiHVError`: a folder is not a finished build.
    """
    from semihv_hf.data.overlap import find_overlap

    from .report import render

    out = Path(out)
    counted = composition(folders)
    pairs = out.with_name(f"{out.stem}_overlap")
    overlap = find_overlap(folders, benchmarks, pairs)
    report = {
        # Names, not places: the page is passed on.
        "folders": overlap["datasets"],
        **counted,
        "figure": figure_rows(counted["classes"]),
        "overlap": overlap,
    }
    write_json(out.with_suffix(".json"), report)
    tables = {
        "modality_body_part": table_of(counted["cells"], "modality", "body_part"),
        "source_modality": table_of(counted["cells"], "source", "modality"),
        "source_annotation": table_of(counted["cells"], "source", "annotation"),
        "modality_split": table_of(counted["cells"], "modality", "split"),
        "answers": table_of(counted["messages"], "source", "annotation", "answers"),
        "tasks": table_of(counted["messages"], "source", "task", "answers"),
    }
    write_text(out, render(TEMPLATE, report=report, tables=tables, published=PUBLISHED, closest=_closest(pairs)))
    return report


def _closest(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(folder / "overlap.parquet")
    return found.sort_by([("score", "descending"), ("id", "ascending")]).slice(0, MOST_PAIRS).to_pylist()


def figure_rows(classes: Mapping[str, int]) -> list[dict[str, Any]]:
    """The paper's figure 2 with a third bar for the data at hand.

    Args:
        classes (`Mapping[str, int]`): images by class.

    Returns:
        `list[dict]`: `name`, `images`, `shares` in percent, this data's first and then each published set's; `None`
        where the figure gives no number.
    """
    total = sum(classes.values())
    names = sorted(
        {*classes, *(name for shares in PUBLISHED.values() for name in shares)},
        key=lambda name: (-classes.get(name, 0), -PUBLISHED["SemiHVision"].get(name, 0), name),
    )
    return [
        {
            "name": name,
            "images": classes.get(name, 0),
            "shares": [
                100 * classes.get(name, 0) / total if total else None,
                *(shares.get(name) for shares in PUBLISHED.values()),
            ],
        }
        for name in names
    ]
