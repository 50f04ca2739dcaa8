"""Checkpoint folders that are complete or recognisably not: sealed by a manifest, found, verified, rotated.

A checkpoint is written under `<run>/_saving/checkpoint-<step>`, every file is synced and hashed, the manifest
`COMPLETE` follows as the last file, and only then the folder takes its name `<run>/checkpoint-<step>`. See
docs/checkpoints.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.files import sync_folder, write_json

MANIFEST = "COMPLETE"
# Uploads of a run's folder leave names with a leading underscore out, and nobody takes them for a checkpoint.
STAGING = "_saving"
FORMAT = 1

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Skipped:
    """A checkpoint folder that cannot be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name}: {self.reason}"


class Newest(NamedTuple):
    """The newest complete checkpoint, if any, and the newer folders that were passed over."""

    path: Path | None
    skipped: list[Skipped]


def seal(folder: str | Path, **facts: Any) -> Path:
    """
    Puts every file of a checkpoint on the disk and writes its manifest, as the last of all files.

    Args:
        folder (`str` or `Path`): a folder to which nobody writes any more.
        facts (`Any`): what else the manifest holds, as JSON; see [`verify`].

    Returns:
        `Path`: the manifest.

    Raises:
        `SemiHVError`: if the folder holds no file.
    """
    folder = Path(folder)
    files = _files(folder)
    if not files:
        raise SemiHVError(f"{folder} holds no file, so there is no checkpoint to seal.")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        entries = list(pool.map(_sync_and_hash, files))
    for inner in {path.parent for path in files} | {folder}:
        sync_folder(inner)
    names = [path.relative_to(folder).as_posix() for path in files]
    write_json(folder / MANIFEST, {"format": FORMAT, **facts, "files": dict(zip(names, entries))})
    return folder / MANIFEST


def verify(folder: str | Path, *, hashes: bool = True) -> dict[str, Any]:
    """
    Checks that a checkpoint is as it was when it was sealed.

    Args:
        folder (`str` or `Path`): the checkpoint.
        hashes (`bool`, *optional*, defaults to `True`): whether contents are compared, not only names and sizes.

    Returns:
        `dict`: the manifest.

    Raises:
        `SemiHVError`: naming the first file that is missing or differs.
    """
    folder = Path(folder)
    reason, manifest = _fault(folder, hashes)
    if reason is not None:
        raise SemiHVError(f"{folder} is not a complete checkpoint: {reason}.", "Resume from another one.")
    return manifest


def newest_complete(folder: str | Path, *, hashes: bool = True, resumable: bool = False) -> Newest:
    """
    Finds the checkpoint to go on from.

    Args:
        folder (`str` or `Path`): the folder of a run, which holds `checkpoint-<step>` folders.
        hashes (`bool`, *optional*, defaults to `True`): see [`verify`].
        resumable (`bool`, *optional*, defaults to `False`):
            whether checkpoints that hold weights but no optimizer are passed over.

    Returns:
        [`Newest`]: the path, or `None`, and what was passed over on the way, newest first.
    """
    skipped = []
    for _, path in reversed(_checkpoints(Path(folder))):
        reason, manifest = _fault(path, hashes)
        if reason is None and resumable and not manifest.get("resumable", True):
            reason = "it holds weights only, no optimizer"
        if reason is None:
            return Newest(path, skipped)
        skipped.append(Skipped(path, reason))
    return Newest(None, skipped)


def make_run_folder(run: str | Path) -> None:
    """
    Makes the folder of a run, before anything is loaded that would be lost if it cannot be made.

    Args:
        run (`str` or `Path`): `output_dir`.

    Raises:
        `SemiHVError`
    """
    try:
        Path(run).mkdir(parents=True, exist_ok=True)
        probe = Path(run) / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SemiHVError(f"output_dir {run} cannot be written: {first_line(error)}.", "Choose another.") from error


def complete_before(folder: str | Path, step: int) -> Path | None:
    """
    The newest complete checkpoint of an earlier step, to go back to.

    Args:
        folder (`str` or `Path`): the folder of a run.
        step (`int`): the step that went wrong.

    Returns:
        `Path`, or `None` if there is none.
    """
    earlier = (path for number, path in reversed(_checkpoints(Path(folder))) if number < step)
    return next((path for path in earlier if _fault(path, hashes=False)[0] is None), None)


def publish(staged: str | Path, run: str | Path) -> Path:
    """
    Gives a sealed checkpoint its name. An older one of the same step, complete or torn, makes way.

    Args:
        staged (`str` or `Path`): the sealed folder, on the same file system as `run`.
        run (`str` or `Path`): the folder of the run.

    Returns:
        `Path`: the checkpoint under its name.
    """
    staged, run = Path(staged), Path(run)
    final = run / staged.name
    previous = _aside(run, "replaced", staged.name)
    if final.exists():
        _move(final, previous)
    os.rename(staged, final)
    sync_folder(run)
    _remove(previous)
    return final


def clean_staging(run: str | Path) -> list[str]:
    """
    Removes what a killed process left half written or half deleted. Call it while nobody saves.

    Args:
        run (`str` or `Path`): the folder of the run.

    Returns:
        `list[str]`: names of what was removed.
    """
    run = Path(run)
    staging = run / STAGING
    if not staging.is_dir():
        return []
    for previous in sorted(staging.glob("replaced/checkpoint-*")):
        # Killed between the two renames of `publish`: the older one is still the only one of its step.
        if not (run / previous.name).exists():
            _move(previous, run / previous.name)
    removed = sorted(path.relative_to(staging).as_posix() for path in staging.rglob("checkpoint-*"))
    _remove(staging)
    return removed


def rotate(run: str | Path, limit: int | None, best: str | Path | None = None) -> list[str]:
    """
    Deletes the oldest complete checkpoints until `limit` are left; never the newest complete one, never the best.

    A torn folder is neither counted nor deleted: somebody may want to know why it is torn.

    Args:
        run (`str` or `Path`): the folder of the run.
        limit (`int`, *optional*): how many to keep, the best included; `None` or 0 keeps all.
        best (`str` or `Path`, *optional*): the best checkpoint so far.

    Returns:
        `list[str]`: names of what was deleted.
    """
    if not limit:
        return []
    run = Path(run)
    complete = [path for _, path in _checkpoints(run) if _fault(path, hashes=False)[0] is None]
    if not complete:
        return []
    kept = {complete[-1].name} | ({Path(best).name} if best is not None else set())
    surplus = len(complete) - max(limit, len(kept))
    doomed = [path for path in complete if path.name not in kept][: max(surplus, 0)]
    for path in doomed:
        # Under its name a checkpoint is whole or gone, never half deleted.
        aside = _aside(run, "deleted", path.name)
        _move(path, aside)
        _remove(aside)
    return [path.name for path in doomed]


def _checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Steps and folders, oldest first."""
    if not run.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in run.iterdir() if path.is_dir())
    return sorted((int(match.group(1)), path) for match, path in matches if match)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _fault(folder: Path, hashes: bool) -> tuple[str | None, dict[str, Any]]:
    """Why a folder is not a complete checkpoint, or `None` and its manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {name: (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
        form = manifest["format"]
    except FileNotFoundError:
        return f"it has no manifest {MANIFEST}", {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its manifest {MANIFEST} is damaged", {}
    if form != FORMAT:
        return f"its manifest has format {form!r}, known is {FORMAT}", {}
    for name, (size, _) in files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing", {}
        if found != size:
            return f"{name} has {found:,} of {size:,} bytes", {}
    if hashes:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = pool.map(lambda name: _sha256(folder / name), files)
            for (name, (_, expected)), digest in zip(files.items(), digests):
                if digest != expected:
                    return f"the content of {name} is not what was written", {}
    return None, manifest


def _sync_and_hash(path: Path) -> dict[str, Any]:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
        return {"size": os.fstat(handle.fileno()).st_size, "sha256": _digest(handle)}


def _sha256(path: Path) -> str | None:
    try:
        with open(path, "rb") as handle:
            return _digest(handle)
    except OSError:  # unreadable is as bad as changed
        return None


def _digest(handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _aside(run: Path, kind: str, name: str) -> Path:
    return run / STAGING / kind / name


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(target)
    os.rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
