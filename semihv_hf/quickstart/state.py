"""What a run has finished: a step is skipped when its inputs are those of the finished one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from semihv_hf.files import write_json


def fingerprint(*parts) -> str:
    """SHA-256 of everything that changes a step's result: JSON values, and the bytes of files given as `Path`."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def code_fingerprint(*folders: Path) -> str:
    """Fingerprint of the Python files and templates of some packages."""
    files = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".jinja", ".yaml"}
    )
    return fingerprint(*files)


class RunState:
    """
    The finished steps of a run folder, kept in `state.json`.

    Args:
        folder (`Path`): the run folder.
    """

    def __init__(self, folder: Path):
        self.file = folder / "state.json"
        self.steps: dict[str, dict] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def run(self, name: str, key: str, work: Callable[[], None], result: Path | None = None) -> bool:
        """
        Does a step unless it is finished with the same key.

        Args:
            name (`str`): name of the step.
            key (`str`): fingerprint of its inputs.
            work (`Callable[[], None]`): does the step; whatever it raises leaves the step unfinished.
            result (`Path`, *optional*): a file that the finished step left; without it the step is done again.

        Returns:
            `bool`: whether the step was done now.
        """
        if self.steps.get(name, {}).get("key") == key and (result is None or result.is_file()):
            return False
        self.steps.pop(name, None)
        self._write()
        started = time.monotonic()
        work()
        self.steps[name] = {"key": key, "seconds": round(time.monotonic() - started, 1)}
        self._write()
        return True

    def _write(self) -> None:
        write_json(self.file, self.steps)
