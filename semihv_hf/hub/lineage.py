"""The stages that led to a checkpoint, by their records: each names what it started from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError
from semihv_hf.packages import file_sha256

RECORD = "stage.json"


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """The record of a stage.

    Args:
        folder (`str` or `Path`): its checkpoint.

    Returns:
        `dict` or `None`: `None` where there is none.

    Raises:
        SemiHVError: it cannot be read.
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise SemiHVError(f"{path} is no readable record of a stage.", "Train the stage again.") from error
    if not isinstance(record, dict):
        raise SemiHVError(f"{path} is no readable record of a stage.", "Train the stage again.")
    return record


def stages_before(folder: str | Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of the stages before one, which lie in the folders beside its own.

    A record tells only the name of the folder that its stage started from, since it is published. So a folder of that
    name counts only if its record is the one that was read then, where this is told (`model_record`).

    Args:
        folder (`str` or `Path`): the checkpoint of the stage.
        record (`Mapping`): its record.

    Returns:
        `list[dict]`: in the order of training, as far back as they are recorded.

    Raises:
        SemiHVError: a record cannot be read.
    """
    beside = Path(folder).resolve().parent
    names = {Path(folder).resolve().name}
    found: list[dict[str, Any]] = []
    while isinstance(name := record.get("model"), str):
        if name in names or Path(name).name != name or (before := read_record(beside / name)) is None:
            break
        if record.get("model_record", (told := file_sha256(beside / name / RECORD))) != told:
            break
        names.add(name)
        found.append(record := before)
    return found[::-1]
