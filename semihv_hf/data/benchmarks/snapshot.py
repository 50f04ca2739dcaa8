"""Where the files of a benchmark come from: a local copy in the layout of the Hub, or the Hub itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import SemiHVError, first_line
from ...snapshots import hub_snapshot
from ..release import Release

_ROWS_AT_ONCE = 16  # images of a batch are in memory together
_DO = "Check the name and the connection, or give the folder of a local copy."


class Snapshot(Release):
    """A local copy of a dataset repository.

    The Hub's own cache keeps a repository as links from `snapshots/<revision>/` to `blobs/`. Such links stay inside
    the repository's folder and are followed; all other links out of the copy are refused as in any [`Release`].

    Args:
        root (`str` or `pathlib.Path`): the folder.

    Raises:
        `SemiHVError`: there is no such folder.
    """

    def __init__(self, root: str | Path):
        super().__init__(root)
        repository = self.real_root.parent.parent
        if self.real_root.parent.name == "snapshots" and (repository / "blobs").is_dir():
            self.real_root = repository


def is_local(source: str | Path) -> bool:
    """Whether a source names a folder on this machine rather than a repository on the Hub.

    Args:
        source (`str` or `pathlib.Path`): a folder or a Hub id.

    Returns:
        `bool`: also `True` for a path that does not exist but cannot be a Hub id.
    """
    text = str(source)
    return Path(text).expanduser().is_dir() or text.startswith(("/", ".", "~")) or text.count("/") != 1


def open_snapshot(source: str | Path, patterns: Sequence[str], revision: str | None) -> Snapshot:
    """Opens a local copy, or downloads what is needed of a repository into the Hub's cache.

    Args:
        source (`str` or `pathlib.Path`): a folder or a Hub id.
        patterns (`Sequence[str]`): the files that are needed, relative to the repository.
        revision (`str` or `None`): a branch, tag or commit of the repository.

    Returns:
        [`Snapshot`]: the copy.

    Raises:
        `SemiHVError`: there is no such folder or repository, or the Hub cannot be reached.
    """
    if is_local(source):
        return Snapshot(source)
    folder = hub_snapshot(
        str(source), what="dataset", do=_DO, patterns=patterns, repo_type="dataset", revision=revision
    )
    return Snapshot(folder)


def parquet_rows(
    source: str | Path,
    split: str,
    *,
    config: str | None,
    image_columns: Sequence[str],
    revision: str | None,
    streaming: bool,
) -> Iterator[dict[str, Any]]:
    """Reads a split of a repository of Parquet files with its images undecoded.

    Args:
        source (`str` or `pathlib.Path`): a folder in the layout of the repository, or a Hub id.
        split (`str`): the split in the repository's own words.
        config (`str` or `None`): the config; `None` where the repository has but one.
        image_columns (`Sequence[str]`): the columns that hold images.
        revision (`str` or `None`): a branch, tag or commit.
        streaming (`bool`): whether the rows of a repository are read over the network one by one, instead of being
            downloaded as a whole first.

    Yields:
        `dict`: a row; an image is `{"bytes": ..., "path": ...}` or `None`.

    Raises:
        `SemiHVError`: the split is not there, or the Hub cannot be reached.
    """
    if not is_local(source):
        yield from hub_rows(source, split, config, image_columns, revision, streaming)
        return
    snapshot = Snapshot(source)
    pattern = f"{config or 'data'}/{split}-*.parquet"
    snapshot.require("copy of the dataset", ((pattern, f"split {split}"),))
    import pyarrow.parquet

    for name in snapshot.find(pattern):
        with pyarrow.parquet.ParquetFile(snapshot.path(name)) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                yield from batch.to_pylist()


def hub_rows(
    source: str | Path,
    split: str,
    config: str | None,
    image_columns: Sequence[str],
    revision: str | None,
    streaming: bool,
) -> Iterator[dict[str, Any]]:
    """Reads a split through `load_dataset`.

    Args:
        source (`str` or `pathlib.Path`): a Hub id (or whatever else `load_dataset` takes).
        split (`str`): the split.
        config (`str` or `None`): the config.
        image_columns (`Sequence[str]`): the columns that hold images.
        revision (`str` or `None`): a branch, tag or commit.
        streaming (`bool`): as in `load_dataset`.

    Yields:
        `dict`: a row; an image is `{"bytes": ..., "path": ...}` or `None`.

    Raises:
        `SemiHVError`: the split is not there, or the Hub cannot be reached.
    """
    from datasets import Image, load_dataset

    try:
        rows = load_dataset(str(source), config, split=split, revision=revision, streaming=streaming)
        for column in image_columns:
            rows = rows.cast_column(column, Image(decode=False))
        yield from rows
    except (OSError, ValueError) as error:
        raise _no_download(source, error) from error


def _no_download(source: str | Path, error: Exception) -> SemiHVError:
    return SemiHVError(
        f"The dataset {str(source)!r} is neither on this disk nor to be had from the Hub ({first_line(error)}).", _DO
    )
