"""What a batch leaves on the disk: the files of requests, what is known about each, and how far each has come."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError
from semihv_hf.files import sync_folder, write_json
from semihv_hf.llm.cache_log import json_line, parse_line
from semihv_hf.llm.keys import request_summary, schema_json
from semihv_hf.llm.structured import strict_format

if TYPE_CHECKING:
    from pydantic import BaseModel

    from semihv_hf.llm.types import ChatRequest, ServerSettings

STATE_NAME = "batches.json"
STATE_FORMAT = 1
RESULTS = ".results-"
ENDPOINT = "/v1/chat/completions"
# In the order in which a part goes through them. The two that end in -ing are written before a call whose answer may
# never be heard: a resumed run looks at the server for what came of it.
BEFORE_BATCH = ("written", "uploading", "uploaded", "creating")
DONE = ("collected", "cleaned")
STEPS = (*BEFORE_BATCH, "created", "ended", *DONE)


@dataclass
class Part:
    """One file of requests and the batch that it became.

    Args:
        name (`str`): its name, the same on the server.
        sha256 (`str`): of the file.
        requests (`int`): how many.
        sources (`list[str]`): the sources of all of them, asked about at the licence gate before the upload.
        reserved_usd (`float`): what was set aside.
        step (`str`): how far it has come, one of `STEPS`.
        file_id (`str` or `None`): the uploaded file.
        batch_id (`str` or `None`): the batch.
        status (`str` or `None`): what the server last said about the batch.
        outputs (`list[str]`): the files with its results and its errors.
        usage (`dict` or `None`): the tokens and dollars of its answers, once collected.
        answered (`int`): its replies, once collected.
        reason (`str` or `None`): why the server failed the whole batch.
    """

    name: str
    sha256: str
    requests: int
    sources: list[str] = field(default_factory=list)
    reserved_usd: float = 0.0
    step: str = "written"
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    outputs: list[str] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    answered: int = 0
    reason: str | None = None


class BatchState:
    """How far each part has come, on the disk before anything that depends on it happens.

    Args:
        folder (`pathlib.Path`): the folder of the job.
        settings ([`ServerSettings`]): the server and the model; a folder belongs to one of each.
    """

    def __init__(self, folder: Path, settings: ServerSettings):
        self.folder = folder
        self.path = folder / STATE_NAME
        self.head = {"format": STATE_FORMAT, "base_url": settings.shown_url, "model": settings.model}
        self.job = secrets.token_hex(4)  # two jobs with equal requests must not take each other's files
        self.rounds = 0
        self.parts: list[Part] = []
        self.history: list[dict] = []
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            other = {name: content[name] for name in self.head} != self.head
            if not other:
                self.job, self.rounds, self.history = content["job"], content["rounds"], content["history"]
                self.parts = [Part(**part) for part in content["parts"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SemiHVError(
                f"{self.path} cannot be read: {error}.", "Name another folder for the batches."
            ) from error
        if other:
            raise SemiHVError(
                f"The folder {self.folder} holds batches of another server or model.", "Name another folder."
            )

    def save(self) -> None:
        """Puts the state on the disk."""
        parts = [asdict(part) for part in self.parts]
        content = {**self.head, "job": self.job, "rounds": self.rounds, "parts": parts, "history": self.history}
        write_json(self.path, content)

    def move(self, part: Part, step: str, **changes: Any) -> None:
        """Notes that a part has come to a step.

        Args:
            part ([`Part`]): the part.
            step (`str`): one of `STEPS`.
            changes (`Any`): what else is known now.
        """
        part.step = step
        for name, value in changes.items():
            setattr(part, name, value)
        self.save()

    def finish(self) -> None:
        """The job is done: its parts become history, and the next run starts a new one."""
        done = self.parts
        self.history.extend(asdict(part) for part in done)
        self.parts = []
        self.save()
        for part in done:
            self.failures_path(part).unlink(missing_ok=True)

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Keeps a second run out of the folder: both would submit the same. It ends with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SemiHVError(f"Another run is at work in {self.folder}.", "Wait for it to end.") from None
            # What stood there when this object was made may be older than what that other run did since.
            if self.path.exists():
                self._read()
            self._sweep()
            yield
        finally:
            os.close(handle)

    def _sweep(self) -> None:
        """Removes what a killed run left and nothing points to: texts and pixels must not stay behind."""
        known = {name for part in self.parts for name in (part.name, f"{part.name}.notes", f"{part.name}.failed")}
        for path in self.folder.iterdir():
            if path.name.startswith(RESULTS):
                shutil.rmtree(path)
            elif path.name.startswith("round-") and path.name not in known:
                path.unlink()

    def requests_path(self, part: Part) -> Path:
        """The file of requests of a part."""
        return self.folder / part.name

    def notes_path(self, part: Part) -> Path:
        """The file that says what each request of a part is."""
        return self.folder / f"{part.name}.notes"

    def failures_path(self, part: Part) -> Path:
        """The file that says which requests of a part failed; kept until the job is done."""
        return self.folder / f"{part.name}.failed"

    def remove_files(self, part: Part) -> None:
        """Removes the texts and pixels of a part from this disk."""
        self.requests_path(part).unlink(missing_ok=True)
        self.notes_path(part).unlink(missing_ok=True)


class PartWriter:
    """Writes requests into as many files as the server's limits ask for.

    Args:
        state ([`BatchState`]): where the parts are noted, once all files are whole.
        most_requests (`int`): in a file.
        most_bytes (`int`): in a file.
    """

    def __init__(self, state: BatchState, most_requests: int, most_bytes: int):
        self.state = state
        self.most_requests = most_requests
        self.most_bytes = most_bytes
        self.parts: list[Part] = []
        self._file: IO[bytes] | None = None
        self._notes: IO[bytes] | None = None

    def add(self, key: str, settings: ServerSettings, request: ChatRequest, reserved_usd: float) -> bool:
        """Adds a request.

        Args:
            key (`str`): its content key.
            settings ([`ServerSettings`]): the model and the sampling.
            request ([`ChatRequest`]): the request.
            reserved_usd (`float`): what was set aside for it.

        Returns:
            `bool`: `False` if it alone is larger than a file may be; it was not added then.
        """
        line = json_line(
            {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": request_body(settings, request)}
        )
        if len(line) > self.most_bytes:
            return False
        if self._file is None or self._count == self.most_requests or self._size + len(line) > self.most_bytes:
            self._close()
            self._open()
        self._file.write(line)
        self._notes.write(
            json_line(
                {
                    "key": key,
                    "id": request.id,
                    "schema": schema_name(request.schema),
                    "summary": request_summary(settings, request),
                }
            )
        )
        self._count += 1
        self._size += len(line)
        self._digest.update(line)
        self._sources.update(request.sources)
        self._reserved += reserved_usd
        return True

    def _open(self) -> None:
        self.state.folder.mkdir(parents=True, exist_ok=True)
        number = len(self.parts) + 1
        self._path = self.state.folder / f"round-{self.state.rounds + 1:02d}-part-{number:03d}.tmp"
        self._file = open(self._path, "wb")
        self._notes = open(f"{self._path}.notes", "wb")
        self._count = self._size = 0
        self._digest = hashlib.sha256()
        self._sources: set[str] = set()
        self._reserved = 0.0

    def _close(self) -> None:
        if self._file is None:
            return
        for file in (self._file, self._notes):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        digest = self._digest.hexdigest()
        # The hash makes the name unique, by which a resumed run finds it among the files of the server.
        name = f"{self._path.stem}-{self.state.job}-{digest[:16]}.jsonl"
        os.replace(self._path, self.state.folder / name)
        os.replace(f"{self._path}.notes", self.state.folder / f"{name}.notes")
        self.parts.append(Part(name, digest, self._count, sorted(self._sources), self._reserved))
        self._file = self._notes = None

    def finish(self) -> None:
        """Ends the last file and notes all of them as one round."""
        self._close()
        if self.parts:
            sync_folder(self.state.folder)
            self.state.rounds += 1
            self.state.parts.extend(self.parts)
            self.state.save()


def request_body(settings: ServerSettings, request: ChatRequest) -> dict[str, Any]:
    """The body of one request.

    Args:
        settings ([`ServerSettings`]): the model and the sampling.
        request ([`ChatRequest`]): the messages and the wanted shape.

    Returns:
        `dict`: as a chat-completions server takes it.
    """
    body = {**settings.body(request), "messages": request.messages}
    if request.schema is not None:
        body["response_format"] = strict_format(request.schema)
    return body


def schema_name(schema: type[BaseModel] | None) -> str | None:
    """A name by which another process knows the same schema.

    Args:
        schema (`type[pydantic.BaseModel]` or `None`): the schema.

    Returns:
        `str` or `None`: the sha256 of its JSON form.
    """
    text = schema_json(schema)
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def read_notes(path: Path) -> Iterator[dict[str, Any]]:
    """What each request of a part is, in the order of its file.

    Args:
        path (`pathlib.Path`): the file of notes.

    Yields:
        `dict`: `key`, `id`, `schema` and `summary`.
    """
    with open(path, "rb") as file:
        for line in file:
            row = parse_line(line)
            if row is None:
                raise SemiHVError(
                    f"{path} is damaged.", "Delete the folder of the batches; the cache keeps what is done."
                )
            yield row


def results_by_key(files: Iterable[Path]) -> dict[str, tuple[Path, int, int]]:
    """Where each result stands in downloaded files.

    Args:
        files (`Iterable[pathlib.Path]`): results and errors, one JSON object a line.

    Returns:
        `dict[str, tuple]`: file, offset and bytes by custom id. Damaged lines are left out: their requests count as
        not answered.
    """
    places: dict[str, tuple[Path, int, int]] = {}
    for path in files:
        offset = 0
        with open(path, "rb") as file:
            for line in file:
                row = parse_line(line if line.endswith(b"\n") else line + b"\n")
                if row is not None and isinstance(row.get("custom_id"), str):
                    places.setdefault(row["custom_id"], (path, offset, len(line)))
                offset += len(line)
    return places


def read_result(place: tuple[Path, int, int]) -> dict[str, Any]:
    """One result.

    Args:
        place (`tuple`): of [`results_by_key`].

    Returns:
        `dict`: the line's object.
    """
    path, offset, length = place
    with open(path, "rb") as file:
        file.seek(offset)
        return json.loads(file.read(length))
