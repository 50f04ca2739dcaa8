"""A folder of DICOM files, de-identified into another folder, with a log of what was done to each."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ...files import atomic_file, canonical_json
from ...progress import progress_bar
from ..burned_in import RefusedImage
from ..imaging.dicom import readable
from ..imaging.unreadable import UnreadableImage
from .dataset import check_secret, deidentify_dataset, keyed

LOG_NAME = "deidentification_log.csv"
_STATE_NAME = ".deidentification_state.jsonl"
_COLUMNS = ("file_key", "output", "pixels", "codes", "done", "reason", "note")


def deidentify_folder(
    src: str | Path,
    dst: str | Path,
    *,
    secret: str,
    on_burned_in: str = "refuse",
    keep_characteristics: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """De-identifies every DICOM image below a folder.

    Files are named by their new patient, study, series and instance, so no old name survives. A log in `dst` says for
    each what was done; it names the old file only by a key that cannot be traced back without the secret. Killed and
    started again, the run goes on where it was, and the result is the same.

    Args:
        src (`str` or `pathlib.Path`): the folder to read; nothing in it is changed.
        dst (`str` or `pathlib.Path`): the folder to write, empty or of an earlier run with the same settings.
        secret (`str`): at least 16 characters. The same secret gives the same identifiers, for later additions.
        on_burned_in (`str`, *optional*, defaults to `"refuse"`): see [`deidentify_dataset`].
        keep_characteristics (`bool`, *optional*, defaults to `False`): see [`deidentify_dataset`].
        progress (`bool`, *optional*, defaults to `True`): show a progress bar.

    Returns:
        `dict[str, Any]`: `total`, `written`, `refused`, `failed` and `not_dicom`, which add up; `failures`, each with
        `file` (its old name, so treat it like the input), `status` and `reason`; `log`, the path of the log.

    Raises:
        `SemiHVError`: a folder is wrong, the secret too short, or `dst` was written with other settings.
    """
    check_secret(secret)
    source, target = _folders(src, dst)
    settings = {
        "on_burned_in": on_burned_in,
        "keep_characteristics": keep_characteristics,
        "secret": keyed(secret, "check", "")[:16],
        "versions": _versions(),
    }
    state = _State(target, settings)
    counts: Counter = Counter()
    failures = []
    total = sum(1 for _ in _files(source)) if progress else None
    with progress_bar("de-identifying", total, shown=progress) as bar:
        for name in _files(source):
            status, reason = _one(source, name, target, state, secret, on_burned_in, keep_characteristics)
            counts[status] += 1
            if reason:
                failures.append({"file": name, "status": status, "reason": reason})
            bar.advance()
    _write_log(target, state)
    report = {status: counts[status] for status in ("written", "refused", "failed", "not_dicom")}
    return {"total": sum(counts.values()), **report, "failures": failures, "log": str(target / LOG_NAME)}


def _versions() -> dict[str, str]:
    try:
        return {name: version(name) for name in ("pydicom", "dicognito", "dicom-anonymizer")}
    except PackageNotFoundError as error:
        raise SemiHVError(
            f"De-identification needs the package {error.name}.", "Install it: pip install dicognito dicom-anonymizer"
        ) from error


def _folders(src: str | Path, dst: str | Path) -> tuple[Path, Path]:
    source, target = Path(src).expanduser(), Path(dst).expanduser()
    if not source.is_dir():
        raise SemiHVError(f"There is no folder {source}.", "Give the folder that holds the DICOM files.")
    old, new = source.resolve(), target.resolve()
    if new.is_relative_to(old) or old.is_relative_to(new):
        raise SemiHVError(
            f"{target} and {source} lie in each other.",
            "Originals and results must be kept apart: give another folder.",
        )
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / _STATE_NAME).exists())):
        raise SemiHVError(f"{target} holds something else.", "Give a new or empty folder.")
    return source, target


class _State:
    """What earlier runs finished: one line for each file, written after the file itself."""

    def __init__(self, target: Path, settings: dict):
        self.path = target / _STATE_NAME
        self.rows: dict[str, dict] = {}
        self.outputs: dict[str, str] = {}
        target.mkdir(parents=True, exist_ok=True)
        lines = self._lines()
        if lines and lines[0] != settings:
            raise SemiHVError(
                f"{target} was written with another secret, other settings or other versions of the libraries.",
                "Give a new folder.",
            )
        for row in lines[1:]:
            self._keep(row)
        with atomic_file(self.path) as handle:  # without a line that a crash cut off
            for row in [settings, *self.rows.values()]:
                handle.write(canonical_json(row) + "\n")

    def _lines(self) -> list[dict]:
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:  # what follows the last line end is torn
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise SemiHVError(f"{self.path} is damaged: {error}.", "Give a new folder.") from error
        return found

    def _keep(self, row: dict) -> None:
        self.rows[row["file_key"]] = row
        self.outputs[row["output"]] = row["file_key"]

    def finish(self, row: dict) -> None:
        self._keep(row)
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(canonical_json(row) + "\n")


def _files(source: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            yield Path(folder, name).relative_to(source).as_posix()


def _one(
    source: Path, name: str, target: Path, state: _State, secret: str, on_burned_in: str, keep_characteristics: bool
) -> tuple[str, str]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    path = source / name
    if not path.resolve().is_relative_to(source.resolve()):
        return "failed", "a link that leads out of the folder"
    key = keyed(secret, "file", name)[:24]
    try:
        stamp = [path.stat().st_size, path.stat().st_mtime_ns]
        earlier = state.rows.get(key)
        if earlier is not None and earlier["stamp"] == stamp and (target / earlier["output"]).exists():
            return "written", ""
        with readable(name):
            try:
                data = pydicom.dcmread(path)
            except InvalidDicomError:
                return "not_dicom", ""
            what = deidentify_dataset(
                data, secret=secret, on_burned_in=on_burned_in, keep_characteristics=keep_characteristics, name=name
            )
            output = _output_name(data)
            if state.outputs.get(output, key) != key:
                return "failed", "another file has the same SOP Instance UID"
            with atomic_file(target / output, "wb") as handle:
                data.save_as(handle, enforce_file_format=True)
    except RefusedImage as error:
        return "refused", error.reason
    except UnreadableImage as error:
        return "failed", error.reason.replace(str(path), name)
    except OSError as error:
        return "failed", error.strerror or str(error)
    state.finish(
        {
            "file_key": key, "output": output, "pixels": what.pixels, "codes": ";".join(what.codes),
            "done": ";".join(f"{action}={count}" for action, count in what.done.items()), "reason": what.reason,
            "note": what.note, "stamp": stamp,
        }
    )  # fmt: skip
    return "written", ""


def _output_name(data) -> str:
    patient = str(data.get("PatientID") or "no_patient_id")
    parts = (patient, data.get("StudyInstanceUID"), data.get("SeriesInstanceUID"), data.SOPInstanceUID)
    return "/".join(str(part or "unknown") for part in parts) + ".dcm"


def _write_log(target: Path, state: _State) -> None:
    with atomic_file(target / LOG_NAME) as handle:
        table = csv.DictWriter(handle, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(state.rows[key] for key in sorted(state.rows))
