"""Folders that hold a release as it was downloaded, or what `semihv build` made of one."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SemiHVError
from ..files import canonical_json
from .building.workspace import MANIFEST, fingerprint
from .configs import RECORD_CONFIGS
from .schema import SPLITS
from .sources import ADAPTERS
from .sources.base import Source


def is_built(folder: str | Path) -> bool:
    """Whether `semihv build` finished in a folder.

    Args:
        folder (`str` or `pathlib.Path`): the folder.

    Returns:
        `bool`: whether it has a manifest.
    """
    return (Path(folder) / MANIFEST).is_file()


def sub_folders(data_dir: str | Path) -> dict[str, Path]:
    """The sources whose folders lie side by side.

    Args:
        data_dir (`str` or `pathlib.Path`): a folder with sub-folders named after sources.

    Returns:
        `dict[str, pathlib.Path]`: by source, in the order of `ADAPTERS`.

    Raises:
        `SemiHVError`: there is none; the message says what was looked for and what is there.
    """
    root = Path(data_dir).expanduser()
    found = {name: root / name for name in ADAPTERS if (root / name).is_dir()}
    if not found:
        there = ", ".join(sorted(os.listdir(root))[:12]) if root.is_dir() else "no such folder"
        raise SemiHVError(
            f"{root} holds no release. Looked for sub-folders {', '.join(ADAPTERS)}; found: {there or 'nothing'}.",
            "Give the folder that holds one sub-folder per source.",
        )
    return found


def built_of(folder: str | Path) -> str:
    """The source that a finished folder was built of.

    Args:
        folder (`str` or `pathlib.Path`): the folder.

    Returns:
        `str`: as its manifest names it.
    """
    return json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))["source"]


def built_shards(root: str | Path, rows: str) -> dict[str, list[Path]]:
    """The shards of a built folder.

    Args:
        root (`str` or `pathlib.Path`): the folder.
        rows (`str`): a config of it, or `"records"` for those with records, one after the other.

    Returns:
        `dict[str, list[pathlib.Path]]`: by split, in the order of `SPLITS`; empty when the folder has no such rows.
    """
    configs: Sequence[str] = RECORD_CONFIGS if rows == "records" else (rows,)
    found: dict[str, list[Path]] = {}
    for config in configs:
        for path in sorted((Path(root) / "data" / config).glob("*.parquet")):
            found.setdefault(path.name.partition("-")[0], []).append(path)
    return {split: found[split] for split in SPLITS if split in found}


def shard_rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reads a shard of a built folder, a hundred rows at a time.

    Args:
        path (`str` or `pathlib.Path`): a Parquet file.

    Yields:
        `tuple[str, dict]`: a key and a row.
    """
    import pyarrow.parquet

    number = 0
    with pyarrow.parquet.ParquetFile(path) as shard:
        for batch in shard.iter_batches(batch_size=100):
            for row in batch.to_pylist():
                yield f"{path}-{number}", row
                number += 1


def folder_digest(root: str | Path) -> str:
    """Tells one state of a built folder from another.

    Args:
        root (`str` or `pathlib.Path`): the folder.

    Returns:
        `str`: a digest of its manifest, which names the sha256 of every shard.
    """
    return hashlib.sha256((Path(root) / MANIFEST).read_bytes()).hexdigest()


def release_digest(source: Source, options: Mapping[str, Any]) -> str:
    """Tells one state of a release from another: by its tables, the options and the code, as a build does, and by the
    names, sizes and times of what lies at the top of its folder.

    Args:
        source ([`Source`]): the release.
        options (`Mapping[str, Any]`): the options it was opened with.

    Returns:
        `str`: a digest. A picture that is exchanged under the same name in a sub-folder does not change it.
    """
    entries = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(source.release.root))
    top = [[name, state.st_size, state.st_mtime_ns] for name, state in entries]
    made_of = fingerprint(source, options, None)
    return hashlib.sha256(canonical_json([made_of, top]).encode()).hexdigest()
