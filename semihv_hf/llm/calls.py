"""One row's way to an answer: the gate, the call, and what follows from what came back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.concurrency import AdaptiveLimit
from semihv_hf.llm.replies import Reply, read_completion, read_usage
from semihv_hf.llm.retries import Backoff, Fault, read_fault
from semihv_hf.llm.structured import ReplyFormats, asked_again
from semihv_hf.llm.types import ChatRequest, Failure, ServerSettings, Usage
from semihv_hf.llm.wrong_settings import wrong_setting

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from semihv_hf.data.attestations import Attestation
    from semihv_hf.llm.budget import Budget


@dataclass
class ServerState:
    """What was learned of a server; it outlives a run.

    Args:
        limit ([`AdaptiveLimit`]): how many calls it bears.
        rng (`random.Random`): where the jitter comes from.
        formats ([`ReplyFormats`]): how it is asked for a shape.
        successes (`int`): completions so far.
        calls (`int`): HTTP calls so far.
        responded (`bool`): whether it ever sent a response, of whatever kind.
        down (`bool`): whether a row used up its repetitions while nobody else had success; until the next success each
            row is tried once.
    """

    limit: AdaptiveLimit
    rng: random.Random
    formats: ReplyFormats = field(default_factory=ReplyFormats)
    successes: int = 0
    calls: int = 0
    responded: bool = False
    down: bool = False


@dataclass
class Attempt:
    """How far a row has come.

    Args:
        request ([`ChatRequest`]): the row.
        messages (`list[dict]`): what is asked next.
        successes (`int`): completions of all rows when this one began.
        calls (`int`): its calls so far.
        faults (`int`): how many of them ended in a passing fault.
        asked_again (`bool`): whether it was asked for the right shape once more.
        usage ([`Usage`] or `None`): of all its calls.
    """

    request: ChatRequest
    messages: list[dict]
    successes: int
    calls: int = 0
    faults: int = 0
    asked_again: bool = False
    usage: Usage | None = None

    def failure(self, kind: str, detail: str) -> Failure:
        """The row's end without an answer."""
        return Failure(kind, detail, self.calls)


class Caller:
    """Asks one server, row by row; see [`ask`].

    Args:
        api (`openai.AsyncOpenAI`): the client.
        settings ([`ServerSettings`]): where and what to ask.
        state ([`ServerState`]): what is known of the server.
        budget ([`Budget`]): what may be spent; it knows the prices.
        attestation ([`Attestation`], *optional*): what the user signed for the licence gate.
        backoff ([`Backoff`], *optional*): waits between repetitions.
        clock (`Callable`): seconds since 1970.
    """

    def __init__(
        self,
        api: AsyncOpenAI,
        settings: ServerSettings,
        state: ServerState,
        *,
        budget: Budget,
        attestation: Attestation | None,
        backoff: Backoff,
        clock: Callable[[], float],
    ):
        self.api = api
        self.settings = settings
        self.state = state
        self.budget = budget
        self.attestation = attestation
        self.backoff = backoff
        self.clock = clock
        self._secrets = (api.api_key if isinstance(api.api_key, str) else None,)
        # Retries and redirects are this module's business; a redirect could carry texts past the licence gate.
        self._options = {"max_retries": 0, "timeout": settings.timeout, "follow_redirects": False}

    async def ask(self, request: ChatRequest) -> tuple[Reply | Failure, Usage | None]:
        """Asks until there is an answer or a reason why there is none.

        Args:
            request ([`ChatRequest`]): the row.

        Returns:
            `tuple[Reply | Failure, Usage | None]`: the answer or the reason, and what all its calls used.

        Raises:
            `SemiHVError`: a setting is wrong, so that no row can be answered.
        """
        row = Attempt(request, list(request.messages), self.state.successes)
        while True:
            started = await self.state.limit.acquire()
            try:
                barred = self._barred(row)
                came = barred or await self._call(row)
            finally:
                self.state.limit.release()
            if isinstance(came, Failure):
                return came, row.usage
            mode, answer = came
            end = self._read(row, answer) if isinstance(answer, Reply) else self._fault(row, answer, mode, started)
            if isinstance(end, (Reply, Failure)):
                return end, row.usage
            if end:
                await asyncio.sleep(end)  # without a slot: others go on

    def _barred(self, row: Attempt) -> Failure | None:
        """The last look before the socket: may these texts leave?"""
        from semihv_hf.data.licences import may_send

        for source in row.request.sources:
            decision = may_send(source, self.settings.shown_url, attestation=self.attestation)
            if not decision.allowed:
                return row.failure("licence", decision.reason)
        return None

    async def _call(self, row: Attempt) -> tuple[str, Reply | Fault] | Failure:
        """Sets the money aside, makes one call, and books what it cost."""
        reservation = None if self.budget.exhausted else self.budget.reserve(self.settings, row.request)
        if reservation is None:
            return row.failure("budget", f"the budget of ${self.budget.max_cost_usd:g} is used up")
        mode = self.state.formats.mode
        usage, unknown = None, True
        try:
            got = await self._post(row, mode)
            unknown = isinstance(got, Fault) and got.kind in ("timeout", "connection") and not got.unreachable
            if isinstance(got, Fault):
                return mode, got
            if (usage := read_usage(got)) is not None:
                usage = self.budget.price(self.settings, usage)
                row.usage = usage if row.usage is None else row.usage + usage
            return mode, read_completion(got, mode)
        finally:
            self.budget.settle(reservation, usage, maybe_billed=unknown)

    async def _post(self, row: Attempt, mode: str) -> Any:
        from anyio import fail_after

        messages, response_format = self.state.formats.request(row.messages, row.request.schema)
        body = {**self.settings.body(row.request), "messages": messages}
        if response_format is not None:
            body["response_format"] = response_format
        row.calls += 1
        self.state.calls += 1
        try:
            # The HTTP library's time-outs are those of one read; a server that drips would never meet them.
            with fail_after(self.settings.timeout):
                got = await self.api.post("/chat/completions", cast_to=object, body=body, options=self._options)
        except Exception as error:  # whatever it is, it is this row's
            got = read_fault(error, self._secrets, self.clock)
        self.state.responded = self.state.responded or not isinstance(got, Fault) or got.status is not None
        return got

    def _read(self, row: Attempt, reply: Reply) -> Reply | Failure | float:
        self._succeeded()
        try:
            return reply.as_shape(row.request.schema)
        except ValueError as error:
            problem = str(error)[:200]
        if row.asked_again:
            return row.failure("schema", f"the reply does not fit the schema, twice ({problem})")
        row.asked_again = True
        row.messages = asked_again(row.messages, reply.text, problem, row.request.schema)
        return 0.0

    def _succeeded(self) -> None:
        self.state.successes += 1
        self.state.down = False
        self.state.limit.succeeded()

    def _fault(self, row: Attempt, fault: Fault, mode: str, started: int) -> Failure | float:
        """What follows from a fault: the row's end, or the seconds until the call is made again."""
        state = self.state
        if row.request.schema is not None and state.formats.refused(mode, fault.status, fault.detail):
            return 0.0
        if fault.overload:
            state.limit.overloaded(started)
        if fault.wait is not None:
            state.limit.pause(fault.wait)
        if fault.transient and row.faults < self.settings.max_retries and not state.down:
            row.faults += 1
            return self.backoff.seconds(row.faults - 1, state.rng)
        if fault.status is None and not fault.transient and fault.kind not in ("internal", "connection"):
            self._succeeded()  # a whole response that is no answer: the server works
            return row.failure(fault.kind, fault.detail)
        if state.successes == 0 and not (fault.unreachable and state.responded):
            if (error := wrong_setting(fault, row.request, self.settings)) is not None:
                raise error
        if fault.transient and state.successes == row.successes:
            state.down = True
        return row.failure(fault.kind, fault.detail)


def check_models(found: Any, settings: ServerSettings) -> bool | None:
    """Looks a model up in what `GET /models` gave.

    Args:
        found (`Any`): the decoded JSON.
        settings ([`ServerSettings`]): the model and the server.

    Returns:
        `bool | None`: `True` if it is there; `None` if the server lists none.

    Raises:
        `SemiHVError`: the server lists others.
    """
    entries = found.get("data") if isinstance(found, dict) else None
    names = [entry.get("id") for entry in entries or () if isinstance(entry, dict)]
    names = [name for name in names if isinstance(name, str)]
    if not names:
        return None
    model = settings.model
    if any(name in (model, f"{model}:latest") or name.endswith(f"/{model}") for name in names):
        return True
    shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
    raise SemiHVError(f"The server {settings.shown_url} does not know the model {model!r}.", f"It has: {shown}.")
