"""Many requests as batches, at a lower price and within a day, into the same cache as single calls.

The batches fill the cache; a [`ChatClient`] with the same settings and cache then reads the answers without a call.
Whatever stops a run, the next one goes on where it was: nothing is submitted twice, nothing collected twice.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.batch_files import (
    BEFORE_BATCH,
    DONE,
    RESULTS,
    BatchState,
    Part,
    PartWriter,
    read_notes,
    read_result,
    results_by_key,
    schema_name,
)
from semihv_hf.llm.batch_results import PASSING, BatchResult, Unanswered, missing, read_line, write_failures
from semihv_hf.llm.batch_server import ENDED, MOST_LOST_POLLS, BatchServer, open_sync_client
from semihv_hf.llm.budget import Budget, Reservation
from semihv_hf.llm.connection import check_connection
from semihv_hf.llm.keys import content_key
from semihv_hf.llm.redaction import redact
from semihv_hf.llm.types import Failure, Usage

if TYPE_CHECKING:
    from semihv_hf.data.attestations import Attestation
    from semihv_hf.llm.cache import ResponseCache
    from semihv_hf.llm.types import ChatRequest, ServerSettings

logger = logging.getLogger(__name__)

# OpenAI's limits for one file of a batch.
MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000


@dataclass
class BatchReport:
    """What became of the requests.

    Args:
        total (`int`): requests, those with equal content counted once.
        answered (`int`): those whose reply is in the cache, from this job or from before.
        failed (`dict[str, int]`): how many failed, by kind of failure; `"timeout"` is also what still expired in the
            last round.
        pending (`int`): those in batches that have not ended; only where the run did not wait.
        batches (`int`): batches of this job.
        answered_by_batch (`int`): replies that the batches of this job gave.
        usage (`dict`): tokens and dollars of these, at the batch price.
    """

    total: int = 0
    answered: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    batches: int = 0
    answered_by_batch: int = 0
    usage: dict[str, Any] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """The same for a manifest."""
        return asdict(self)


class BatchRunner:
    """Answers requests through a server's batch API.

    Args:
        settings ([`ServerSettings`]): the server, the model and the sampling.
        cache ([`ResponseCache`]): where replies go.
        folder (`str` or `pathlib.Path`): where the files of requests and the state of the batches are kept. It holds
            the texts and pixels of the requests until their batch is collected.
        client (`openai.OpenAI`, *optional*): a client to use; by default one with the key from the environment.
        budget ([`Budget`], *optional*): counts at the batch price; what it does not allow is not submitted.
        attestation ([`Attestation`], *optional*): for the licence gate.
        most_requests (`int`, *optional*, defaults to 50,000): in one batch.
        most_bytes (`int`, *optional*, defaults to 200,000,000): in one file.
        max_rounds (`int`, *optional*, defaults to 3): how often what is missing is submitted.
        window (`str`, *optional*, defaults to `"24h"`): in which the server promises to be done.
        poll (`tuple[float, float]`, *optional*, defaults to 5 and 300): seconds between two looks at the batches, at
            first and at most.
        delete_files (`bool`, *optional*, defaults to `True`): delete a batch's files on the server once collected.
        sleep (`Callable`, *optional*): waits for seconds; for tests.
    """

    def __init__(
        self,
        settings: ServerSettings,
        cache: ResponseCache,
        folder: str | Path,
        *,
        client: Any = None,
        budget: Budget | None = None,
        attestation: Attestation | None = None,
        most_requests: int = MOST_REQUESTS,
        most_bytes: int = MOST_BYTES,
        max_rounds: int = 3,
        window: str = "24h",
        poll: tuple[float, float] = (5.0, 300.0),
        delete_files: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ):
        for name, value in (("most_requests", most_requests), ("most_bytes", most_bytes), ("max_rounds", max_rounds)):
            if value < 1:
                raise SemiHVError(f"{name} is {value}.", "Give a number of at least 1.")
        self.settings = settings
        self.cache = cache
        self.budget = budget or Budget()
        self.attestation = attestation
        self.limits = (most_requests, most_bytes)
        self.max_rounds = max_rounds
        self.poll = poll
        self.delete_files = delete_files
        self._sleep = sleep
        check_connection(settings, client)
        client = client or open_sync_client(settings)
        self._secrets = [client.api_key]
        self._server = BatchServer(client, self._secrets, window, poll[0], sleep)
        self._state = BatchState(Path(folder), settings)
        self._known: set[str] = set()  # parts that the budget knows of
        self._failed = Unanswered()
        self._schemas: dict[str, type] = {}

    def run(
        self, requests: Iterable[ChatRequest] | Callable[[], Iterable[ChatRequest]], *, wait: bool = True
    ) -> BatchReport:
        """Submits what the cache does not have, waits, and puts the replies into the cache.

        Args:
            requests (`Iterable[ChatRequest]` or `Callable`): the requests, gone through several times: a list, or a
                function that yields them anew.
            wait (`bool`, *optional*, defaults to `True`): wait until all batches have ended. Otherwise what has ended
                is collected, what is missing is submitted, and a later run goes on.

        Returns:
            [`BatchReport`]: the counts. Why requests failed is in the cache's record of failures.

        Raises:
            `SemiHVError`: a limit is set but no price is known, or the server fails; run again to go on.
        """
        if isinstance(requests, Iterator):
            raise SemiHVError("Batches go through their requests several times.", "Give a list or a function.")
        every = requests if callable(requests) else lambda: requests
        self.budget.check(self.settings)
        with self._state.only_one():
            return self._run(every, wait)

    def _run(self, every: Callable[[], Iterable[ChatRequest]], wait: bool) -> BatchReport:
        self._failed = Unanswered()
        self._schemas = {schema_name(each.schema): each.schema for each in every() if each.schema is not None}
        self._take_up()
        while True:
            self._submit()
            if not self._collect_ended(wait):
                return self._report(every())
            if not self._write_missing(every()):
                break
            if any(part.status == "failed" for part in self._state.parts):
                self._sleep(self.poll[1])  # most often the server has too many requests queued
        report = self._report(every())
        self._state.finish()
        return report

    def _take_up(self) -> None:
        """Tells the budget what an interrupted run has spent and what is on its way."""
        for part in self._state.parts:
            if part.name not in self._known:
                self._known.add(part.name)
                if part.step in DONE:
                    self.budget.charge(Usage(**part.usage), calls=part.requests)
                else:
                    self.budget.hold(part.reserved_usd)
            if part.step in DONE:
                self._failed.load(self._state.failures_path(part))

    def _write_missing(self, requests: Iterable[ChatRequest]) -> bool:
        """Writes files of what is neither answered nor failed for good; tells whether there was anything."""
        if len({part.name.partition("-part-")[0] for part in self._state.parts}) >= self.max_rounds:
            return False
        writer = PartWriter(self._state, *self.limits)
        seen: set[bytes] = set()
        for request in requests:
            key = content_key(self.settings, request)
            short = bytes.fromhex(key)
            if short in seen or self._failed.for_good(key) or key in self.cache:
                continue
            seen.add(short)
            if failure := self._add(writer, key, request):
                self._fail(key, request.id, failure)
        writer.finish()
        self._known.update(part.name for part in writer.parts)
        return bool(writer.parts)

    def _add(self, writer: PartWriter, key: str, request: ChatRequest) -> Failure | None:
        if refusal := self._refusal(request.sources):
            return Failure("licence", refusal)
        reservation = self.budget.reserve(self.settings, request, batch=True)
        if reservation is None:
            return Failure("budget", f"max_cost_usd {self.budget.max_cost_usd} does not allow it")
        if not writer.add(key, self.settings, request, reservation.cost_usd):
            self.budget.settle(reservation, None)
            return Failure("bad_request", f"the request is larger than a batch's file may be ({self.limits[1]} bytes)")
        return None

    def _refusal(self, sources: Iterable[str]) -> str | None:
        from semihv_hf.data.licences import may_send

        for source in sources:
            decision = may_send(source, self.settings.base_url, attestation=self.attestation)
            if not decision.allowed:
                return decision.reason
        return None

    def _submit(self) -> None:
        """Uploads files and creates batches. Each step is on the disk before it is taken, and after it."""
        for part in list(self._state.parts):
            if part.step not in BEFORE_BATCH:
                continue
            # The gate is asked at the last moment, too: a statement may have been taken back since.
            if self._refusal(part.sources):
                self._drop(part)
                continue
            if part.step in ("written", "uploading"):
                look = part.step == "uploading"
                self._state.move(part, "uploading")
                file_id = self._server.upload(part.name, self._state.requests_path(part), look=look)
                self._state.move(part, "uploaded", file_id=file_id)
            look = part.step == "creating"
            self._state.move(part, "creating")
            batch_id = self._server.create(part.name, part.file_id, look=look)
            self._state.move(part, "created", batch_id=batch_id)
            logger.info("Batch %s: %d requests.", batch_id, part.requests)

    def _drop(self, part: Part) -> None:
        self._server.delete([part.file_id])
        self._state.remove_files(part)
        self._state.parts.remove(part)
        self._state.save()
        self.budget.settle(Reservation(part.reserved_usd), None)

    def _collect_ended(self, wait: bool) -> bool:
        """Polls until all batches have ended and collects each; tells whether all have."""
        pause, lost = self.poll[0], 0
        while True:
            waiting = 0
            for part in self._state.parts:
                if part.step == "created":
                    lost = 0 if self._look(part) else lost + 1
                if part.step == "ended":
                    self._collect(part)
                    pause = self.poll[0]
                if part.step == "collected":
                    self._clean(part)
                waiting += part.step not in DONE
            if not waiting or not wait:
                return not waiting
            if lost >= MOST_LOST_POLLS:
                raise SemiHVError(f"{self.settings.shown_url} does not answer.", "Run again later to go on.")
            self._sleep(pause)
            pause = min(pause * 1.5, self.poll[1])

    def _look(self, part: Part) -> bool:
        batch = self._server.status(part.batch_id)
        if batch is None:
            return False
        if batch.status in ENDED:
            outputs = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
            errors = [error.message for error in (batch.errors.data or [])] if batch.errors else []
            reason = redact("; ".join(filter(None, errors)), self._secrets) or None
            if batch.status == "failed":
                logger.warning("Batch %s failed: %s", part.batch_id, reason)
            self._state.move(part, "ended", status=batch.status, outputs=outputs, reason=reason)
        elif batch.status != part.status:
            self._state.move(part, "created", status=batch.status)
        return True

    def _collect(self, part: Part) -> None:
        """Takes over the results of a batch that has ended. Done twice it changes nothing."""
        total, answered, failed = Usage(cost_usd=0.0), 0, {}
        with tempfile.TemporaryDirectory(dir=self._state.folder, prefix=RESULTS) as temporary:
            files = [Path(temporary) / str(number) for number in range(len(part.outputs))]
            for file_id, path in zip(part.outputs, files):
                self._server.download(file_id, path)
            places = results_by_key(files)
            writing: list[Any] = []
            for note in read_notes(self._state.notes_path(part)):
                key = note["key"]
                result = self._result(part, note, places.get(key))
                if result.failure is None:
                    writing.append(self.cache.submit(key, note["summary"], result.reply))
                    answered += 1
                else:
                    writing.append(self._fail(key, note["id"], result.failure))
                    failed[key] = result.failure.kind
                total = total if result.usage is None else total + result.usage
                if len(writing) >= 1000:
                    _wait(writing)
            _wait(writing)
        write_failures(self._state.failures_path(part), failed)
        self.budget.settle(Reservation(part.reserved_usd), None)
        self.budget.charge(total, calls=part.requests)
        self._state.move(part, "collected", usage=asdict(total), answered=answered)

    def _result(self, part: Part, note: dict[str, Any], place: Any) -> BatchResult:
        if place is None:
            return missing(part.status, part.reason)
        return read_line(
            read_result(place),
            self._schemas.get(note["schema"]),
            lambda usage: self.budget.price(self.settings, usage, batch=True),
            self._secrets,
        )

    def _clean(self, part: Part) -> None:
        """Removes texts and pixels, here and on the server."""
        self._state.remove_files(part)
        if self.delete_files:
            self._server.delete([part.file_id, *part.outputs])
        self._state.move(part, "cleaned")

    def _fail(self, key: str, request_id: str, failure: Failure) -> Any:
        self._failed.add(key, failure.kind)
        return self.cache.note_failure(key, request_id, failure)

    def _report(self, requests: Iterable[ChatRequest]) -> BatchReport:
        seen: set[bytes] = set()
        failed: Counter[str] = Counter()
        answered = pending = 0
        parts = self._state.parts
        waiting = any(part.step not in DONE for part in parts)
        for request in requests:
            key = content_key(self.settings, request)
            short = bytes.fromhex(key)
            if short in seen:
                continue
            seen.add(short)
            if key in self.cache:
                answered += 1
            elif (kind := self._failed.kind(key)) is not None and not (waiting and kind in PASSING):
                failed[kind] += 1
            else:
                pending += 1
        total = Usage(cost_usd=0.0)
        for part in parts:
            total = total + Usage(**part.usage) if part.usage else total
        return BatchReport(
            total=len(seen),
            answered=answered,
            failed=dict(sorted(failed.items())),
            pending=pending,
            batches=sum(part.batch_id is not None for part in parts),
            answered_by_batch=sum(part.answered for part in parts),
            usage=asdict(total),
        )


def _wait(futures: list[Any]) -> None:
    for future in futures:
        future.result()
    futures.clear()
