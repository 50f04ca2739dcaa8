"""What a build is of, the folder in which it is under way, and who may write there."""

import errno
import fcntl
import hashlib
import inspect
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from ...errors import SemiHVError
from ...files import write_json
from ...registration import sources_hash
from ..sources.base import Source

WORK, FINISHED = ".build", ".build.finished"
MANIFEST, REPORT, SKIPPED, CARD = "build_manifest.json", "build_report.json", "skipped.parquet", "README.md"
# What turns files into pixels and rows into files: another version may give other bytes.
_LIBRARIES = ("pyarrow", "numpy", "pillow", "pydicom", "nibabel", "tifffile", "imagecodecs")
_LOCKS = ("lock", "workers.lock")
_HASHED_BYTES = 1 << 20
_WAIT_FOR_WORKERS = 60.0  # seconds


def fingerprint(source: Source, options: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """What decides the bytes of a build. Two builds of one fingerprint may be one build, interrupted.

    Args:
        source ([`Source`]): the release.
        options (`Mapping[str, Any]`): the adapter's options as the user gave them.
        limit (`int` or `None`): the most items.

    Returns:
        `dict`: JSON without a path of this machine: `source`, `options`, `seed`, `held_out`, `limit`, `code` and
        `libraries` (their versions), and `release`, size and sha256 (of both ends) of every table.
    """
    return {
        "source": source.name,
        "options": {
            name: _option_file(value) if name in source.path_options else value
            for name, value in sorted(options.items())
            if value is not None
        },
        "seed": source.seed,
        "held_out": source.held_out,
        "limit": limit,
        "release": {name: _ends(source.release.path(name)) for name in sorted(set(source.metadata()))},
        **code_fingerprint(type(source)),
    }


@lru_cache(maxsize=8)
def code_fingerprint(adapter: type[Source]) -> Mapping[str, Any]:
    """The code that turns a release into rows; on a cluster every machine must have the same.

    Args:
        adapter (`type[Source]`): the adapter, which may come from outside this package.

    Returns:
        `Mapping[str, Any]`: `code`, a sha256, and `libraries`, versions by name.
    """
    places = [Path(__file__).parents[1]]
    file = Path(inspect.getsourcefile(adapter) or __file__)
    if not file.is_relative_to(places[0]):
        places.append(file)
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {"code": sources_hash(places), "libraries": versions}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What tells two fingerprints apart, in words.

    Args:
        old (`Mapping[str, Any]`): the fingerprint of what is in a folder.
        new (`Mapping[str, Any]`): the fingerprint of what is to be written there.

    Returns:
        `list[str]`: empty for equal ones.
    """
    found = []
    for name in new:
        before, now = old.get(name), new[name]
        if before == now:
            continue
        if name == "code":
            found.append("the code of semihv_hf has changed")
        elif isinstance(before, Mapping) and isinstance(now, Mapping):
            changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
            if name == "release":
                found.append(f"files of the release have changed ({', '.join(changed)})")
            else:
                found.append(f"{name}: " + ", ".join(f"{k} {before.get(k)!r} -> {now.get(k)!r}" for k in changed))
        else:
            found.append(f"{name} {before!r} -> {now!r}")
    return found


def _option_file(value: Any) -> Any:
    """What an option that names files is known by: their names and content, not their places on this machine."""
    if isinstance(value, Mapping):
        return {str(name): _option_file(one) for name, one in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_option_file(one) for one in value]
    path = Path(str(value)).expanduser()
    return {"name": path.name, **(_ends(path) if path.exists() else {})}


def _ends(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"files": len(os.listdir(path))}
    size = path.stat().st_size
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(_HASHED_BYTES))
        file.seek(max(size - _HASHED_BYTES, file.tell()))
        digest.update(file.read(_HASHED_BYTES))
    return {"bytes": size, "sha256": digest.hexdigest()}


@contextmanager
def workspace(out: Path, wanted: Mapping[str, Any], *, overwrite: bool) -> Iterator[Path | None]:
    """Takes the folder for one build: starts it, or goes on with the same one.

    Args:
        out (`pathlib.Path`): the dataset folder.
        wanted (`Mapping[str, Any]`): the fingerprint.
        overwrite (`bool`): whether another build in that folder may be thrown away.

    Yields:
        `pathlib.Path` or `None`: where unfinished work lies; `None` when this very build is finished.

    Raises:
        `SemiHVError`: another build, or something else, is in the folder, or a build is running there.
    """
    work = out / WORK
    wanted = json.loads(json.dumps(wanted))  # as it will be read again
    with _locked(work):
        shutil.rmtree(out / FINISHED, ignore_errors=True)
        manifest, plan = out / MANIFEST, work / "plan.json"
        unfinished = _read_json(plan)
        finished = (_read_json(manifest) or {}).get("fingerprint")
        if finished == wanted and not overwrite:
            yield None
            finish(out)
            return
        if unfinished != wanted or manifest.exists():
            if not overwrite:
                try:
                    _refuse_mixture(out, unfinished or finished, wanted)
                except SemiHVError:
                    if unfinished is None:
                        finish(out)  # nothing is to be left beside what was found
                    raise
            manifest.unlink(missing_ok=True)
            for path in work.iterdir():
                if path.name not in _LOCKS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            write_json(plan, wanted)
        yield work
        if manifest.exists():
            finish(out)


def _refuse_mixture(out: Path, present: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> None:
    if present is not None:
        raise SemiHVError(
            f"{out} holds another build: {'; '.join(differences(present, wanted))}.",
            "Choose another folder, or throw that build away with --overwrite.",
        )
    if (out / MANIFEST).exists() or (out / "data").exists():
        raise SemiHVError(
            f"{out} holds data that is not of this build.", "Choose another folder, or replace it with --overwrite."
        )


def finish(out: Path) -> None:
    """Removes the unfinished work of a finished build; its manifest is written.

    Args:
        out (`pathlib.Path`): the dataset folder.
    """
    # At once under another name: the next build may begin in this folder while files are still being removed.
    if (out / WORK).exists():
        os.replace(out / WORK, out / FINISHED)
    shutil.rmtree(out / FINISHED, ignore_errors=True)


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    while True:
        work.mkdir(parents=True, exist_ok=True)
        with _open_lock(work / "lock") as lock:
            if not _try_lock(lock, fcntl.LOCK_EX):
                raise SemiHVError(f"A build is running in {work.parent}.", "Wait for it, or choose another folder.")
            if not _is_same_file(lock, work / "lock"):
                continue  # the build that held it has just finished and removed it
            _wait_for_workers(work)
            yield
            return


def _wait_for_workers(work: Path) -> None:
    """The processes of a build whose main process was killed end by themselves, but not in the same instant."""
    with _open_lock(work / "workers.lock") as lock:
        started = time.monotonic()
        while not _try_lock(lock, fcntl.LOCK_EX):
            if time.monotonic() - started > _WAIT_FOR_WORKERS:
                raise SemiHVError(
                    f"Processes of an earlier build still work in {work.parent}.", "End them, then start again."
                )
            time.sleep(0.05)


@contextmanager
def working(work: Path) -> Iterator[None]:
    """Marks a piece of work as under way, so that a new build in the folder waits for its end.

    Args:
        work (`pathlib.Path`): the folder of unfinished work.
    """
    with _open_lock(work / "workers.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _open_lock(path: Path) -> IO:
    try:
        return open(path, "a")
    except FileNotFoundError as error:
        raise SemiHVError(
            f"{path.parent} cannot be seen from this process.",
            "Every machine of a cluster must see the output folder, and the release, under the same path.",
        ) from error


def _try_lock(lock: IO, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_same_file(file: IO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
