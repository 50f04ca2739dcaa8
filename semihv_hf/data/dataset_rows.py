"""The Parquet files of dataset folders, read column by column: a few columns of a large folder at little cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SemiHVError
from .schema import SPLITS

# Beside the rows a folder may hold Parquet files that are reports.
_REPORTS = ("skipped.parquet", "overlap.parquet")
_SPLITS = {name: name for name in SPLITS} | {"valid": "validation", "dev": "validation"}


@dataclass(frozen=True)
class RowFile:
    """One Parquet file of a dataset folder.

    Args:
        path (`pathlib.Path`): where it lies.
        config (`str`): the config, which is the name of its folder.
        split (`str`): the split, which its name begins with.
        columns (`frozenset[str]`): its columns.
    """

    path: Path
    config: str
    split: str
    columns: frozenset[str]


def row_files(folder: str | Path) -> list[RowFile]:
    """The Parquet files of a dataset folder that hold rows.

    Args:
        folder (`str` or `pathlib.Path`): a folder as `semihv build` and `write_benchmark` write it, or any other of
            Parquet files named `<split>-*.parquet`.

    Returns:
        `list[RowFile]`: sorted by path.

    Raises:
        `SemiHVError`: there are none.
    """
    import pyarrow.parquet

    root = Path(folder)
    found = []
    for path in sorted(root.glob("**/*.parquet")):
        split = _SPLITS.get(path.stem.partition("-")[0])
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.name in _REPORTS or split is None or hidden:
            continue
        columns = frozenset(pyarrow.parquet.read_schema(path).names)
        found.append(RowFile(path, path.parent.name, split, columns))
    if not found:
        raise SemiHVError(f"{folder} holds no <split>-*.parquet.", "Give a folder that `semihv build` wrote.")
    return found


def column_batches(file: RowFile, columns: Sequence[str], rows: int) -> Iterator[list[dict[str, Any]]]:
    """Reads some columns of a file in pieces.

    Args:
        file ([`RowFile`]): the file.
        columns (`Sequence[str]`): the columns; those that the file lacks are left out.
        rows (`int`): how many rows a piece has at most.

    Yields:
        `list[dict]`: the rows of a piece; images are `{"bytes": ..., "path": ...}`, undecoded.
    """
    import pyarrow.parquet

    present = [name for name in columns if name in file.columns]
    with pyarrow.parquet.ParquetFile(file.path) as opened:
        for batch in opened.iter_batches(batch_size=rows, columns=present):
            yield batch.to_pylist()
