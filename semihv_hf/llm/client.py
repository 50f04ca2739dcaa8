"""A chat-completions server as a reliable function: requests in, and for each one an answer or a named failure out."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.llm.calls import Caller, ServerState, check_models
from semihv_hf.llm.concurrency import AdaptiveLimit
from semihv_hf.llm.connection import check_connection, open_client
from semihv_hf.llm.replies import Reply
from semihv_hf.llm.retries import Backoff, read_fault
from semihv_hf.llm.running import run_coroutine
from semihv_hf.llm.scheduling import refill
from semihv_hf.llm.types import ChatRequest, ChatResult, Failure, ServerSettings, Usage
from semihv_hf.llm.wrong_settings import check_request, wrong_setting

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from semihv_hf.data.attestations import Attestation
    from semihv_hf.llm.budget import Budget, Estimate
    from semihv_hf.llm.cache import ResponseCache

logger = logging.getLogger(__name__)

# Rows under way for each call that may be open: enough that rows which wait to be repeated leave no slot empty.
_ROWS_PER_CALL = 4
_CHECK_SECONDS = 15.0


class ChatClient:
    """Asks a chat-completions server many things at once.

    A new call starts whenever one ends; the number of open calls follows what the server bears; passing faults are
    repeated, everything else becomes a [`Failure`] of its row. Replies are looked up in the cache first and stored
    there, failures never are.

    Args:
        settings ([`ServerSettings`]): where and what to ask.
        cache ([`ResponseCache`], *optional*): where replies are kept.
        budget ([`Budget`], *optional*): what may be spent. When it is used up the remaining rows fail with `"budget"`.
        attestation ([`Attestation`], *optional*): what the user signed, for the licence gate.
        client (`openai.AsyncOpenAI`, *optional*): a client to use instead of one made from the settings; its base URL
            must be that of the settings. Its connections belong to one event loop, so use it in one [`ChatClient`].
        cache_only (`bool`, *optional*, defaults to `False`): ask nobody; what is not in the cache is a
            `"cache_miss"`, on which [`run`] raises.
        dry_run (`bool`, *optional*, defaults to `False`): [`run`] returns the estimate, and nobody is asked.
        clock (`Callable`, *optional*, defaults to `time.time`): seconds since 1970, for a Retry-After that is a date.
        backoff ([`Backoff`], *optional*): waits between repetitions.
        jitter_seed (`int`, *optional*, defaults to 0): of the jitter in these waits.

    Raises:
        `SemiHVError`: no key for a server that is not on this machine, or a setting that has no sense.

    Example:

    ```python
    >>> from semihv_hf.llm import ChatClient, ChatRequest, ServerSettings
    >>> client = ChatClient(ServerSettings("http://127.0.0.1:8000/v1", "a-model"), dry_run=True)
    >>> client.run([ChatRequest("row 1", [{"role": "user", "content": "Is this an axial CT?"}])]).calls
    1

    ```
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        cache: ResponseCache | None = None,
        budget: Budget | None = None,
        attestation: Attestation | None = None,
        client: AsyncOpenAI | None = None,
        cache_only: bool = False,
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
        jitter_seed: int = 0,
    ):
        from semihv_hf.llm.budget import Budget

        self.settings = settings
        self.cache = cache
        self.budget = budget if budget is not None else Budget()
        self.attestation = attestation
        self.cache_only = cache_only
        self.dry_run = dry_run
        self.failures: Counter[str] = Counter()
        self.hits = 0
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._injected = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_flight: dict[str, asyncio.Future] = {}
        self._state = ServerState(AdaptiveLimit(settings.max_concurrency), random.Random(jitter_seed))
        if cache_only and cache is None:
            raise SemiHVError("cache_only was asked for without a cache.", "Name the cache folder.")
        if not (cache_only or dry_run):
            check_connection(settings, client)

    @property
    def calls(self) -> int:
        """HTTP calls so far, repetitions included."""
        return self._state.calls

    @property
    def limit(self) -> float:
        """How many calls the server bears at the moment, from 1 to `max_concurrency`."""
        return self._state.limit.limit

    def estimate(self, requests: Iterable[ChatRequest]) -> Estimate:
        """What asking would come to. Nobody is asked.

        Args:
            requests (`Iterable[ChatRequest]`): the rows.

        Returns:
            [`Estimate`]: calls, tokens and dollars; what the cache has costs nothing.
        """
        return self.budget.estimate(requests, self.settings, cache=self.cache, attestation=self.attestation)

    async def stream(self, requests: Iterable[ChatRequest]) -> AsyncIterator[ChatResult]:
        """Asks, and gives the results as they complete, not in the order of the requests.

        The requests are read as they are needed and the results are not kept, so any number of rows can go through.

        Args:
            requests (`Iterable[ChatRequest]`): the rows.

        Yields:
            [`ChatResult`]: one for each request.

        Raises:
            `SemiHVError`: a setting is wrong, so that no row can be answered; nothing was paid for.
        """
        async with aclosing(self._results(requests)) as results:
            async for _, result in results:
                yield result

    async def ask(self, requests: Sequence[ChatRequest]) -> list[ChatResult]:
        """Asks a handful at once, and gives the results in the order of the requests.

        For who runs many rows side by side already, each with a few requests: nothing is read ahead, and the limit on
        open calls is that of all rows together.

        Args:
            requests (`Sequence[ChatRequest]`): a few requests.

        Returns:
            `list[ChatResult]`: one for each request.

        Raises:
            `SemiHVError`: a setting is wrong, so that no request can be answered; nothing was paid for.
        """
        async with self._asking() as caller:
            begun = [self._begin(caller, request) for request in requests]
            waiting = [asyncio.ensure_future(work) for work in begun if not isinstance(work, ChatResult)]
            try:
                await asyncio.gather(*waiting)
            except BaseException:  # one that fails ends them all, as in a stream
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                raise
            done = iter(waiting)
            results = [work if isinstance(work, ChatResult) else next(done).result() for work in begun]
        for result in results:
            self._count(result)
        return results

    def run(
        self, requests: Iterable[ChatRequest], *, progress: bool = True, title: str = "asking"
    ) -> list[ChatResult] | Estimate:
        """Asks, and waits for all results. Works in a script and inside a running event loop.

        Args:
            requests (`Iterable[ChatRequest]`): the rows.
            progress (`bool`, *optional*, defaults to `True`): show a progress bar with failures and dollars.
            title (`str`, *optional*, defaults to `"asking"`): what stands before the bar.

        Returns:
            `list[ChatResult]`: one for each request, in their order. With `dry_run` the [`Estimate`] instead.

        Raises:
            `SemiHVError`: a request or a setting is wrong, which is found before anything is paid for; or, with
                `cache_only`, a reply is not in the cache.
        """
        rows = list(requests)
        for number, row in enumerate(rows, start=1):
            if (problem := check_request(row)) is not None:
                raise SemiHVError(f"Request {number} ({getattr(row, 'id', None)!r}) cannot be sent: {problem}.")
        if self.dry_run:
            return self.estimate(rows)
        results = self._complete(self._collect(rows, progress, title))
        if self.cache_only:
            missing = [result.id for result in results if result.failure and result.failure.kind == "cache_miss"]
            if missing:
                raise SemiHVError(
                    f"The cache has no reply for {len(missing)} of {len(rows)} requests; the first is {missing[0]!r}.",
                    "Run once without cache_only.",
                )
        return results

    def check(self) -> bool | None:
        """Asks the server, at no cost, whether it is there, takes the key and has the model.

        Returns:
            `bool | None`: `True` if it has; `None` if it does not tell.

        Raises:
            `SemiHVError`: it is not there, refuses the key, or has only other models.
        """
        if self.cache_only or self.dry_run:
            return None
        return self._complete(self._check())

    def close(self) -> None:
        """Gives back what an injected client's event loop holds. The cache is the caller's and stays open."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _complete(self, coroutine: Any) -> Any:
        """Runs in a loop of its own; an injected client keeps its connections, so its loop is kept, too."""
        if self._injected is None:
            loop = asyncio.new_event_loop()
            try:
                return run_coroutine(loop, coroutine)
            finally:
                loop.close()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return run_coroutine(self._loop, coroutine)

    async def _collect(self, rows: list[ChatRequest], progress: bool, title: str) -> list[ChatResult]:
        from semihv_hf.llm.progress import SpendingBar
        from semihv_hf.progress import progress_bar

        results: list[ChatResult | None] = [None] * len(rows)
        with progress_bar(title, len(rows), shown=progress) as shown:
            bar = SpendingBar(shown)
            async with aclosing(self._results(rows)) as stream:
                async for number, result in stream:
                    results[number] = result
                    bar.add(result)
        return results

    async def _results(self, requests: Iterable[ChatRequest]) -> AsyncIterator[tuple[int, ChatResult]]:
        async with self._asking() as caller:

            def start(numbered: tuple[int, ChatRequest]) -> Any:
                number, request = numbered
                begun = self._begin(caller, request)
                return (number, begun) if isinstance(begun, ChatResult) else _numbered(number, begun)

            async with aclosing(refill(enumerate(requests), start, self._width)) as stream:
                async for number, result in stream:
                    self._count(result)
                    yield number, result

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Caller | None]:
        if self.dry_run:
            raise SemiHVError("A dry run has no results.", "Call `run` or `estimate` for the estimate.")
        if not self.cache_only:
            self.budget.check(self.settings)
        if not self._in_flight:
            self._state.limit.reset()
        async with self._connection() as caller:
            yield caller

    @property
    def _width(self) -> int:
        return _ROWS_PER_CALL * self.settings.max_concurrency

    def _count(self, result: ChatResult) -> None:
        self.hits += result.cached and result.failure is None
        if result.failure is not None:
            self.failures[result.failure.kind] += 1

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Caller | None]:
        if self.cache_only:
            yield None
            return
        common = {
            "budget": self.budget,
            "attestation": self.attestation,
            "backoff": self._backoff,
            "clock": self._clock,
        }
        if self._injected is not None:
            yield Caller(self._injected, self.settings, self._state, **common)
            return
        async with open_client(self.settings) as api:
            yield Caller(api, self.settings, self._state, **common)

    def _begin(self, caller: Caller | None, request: ChatRequest) -> ChatResult | Awaitable[ChatResult]:
        """Answers from the cache at once, or gives the work that is to be done. Must not wait in between: two equal
        requests must not both find that nobody has asked yet."""
        from semihv_hf.llm.keys import content_key, hashed_messages

        if (problem := check_request(request)) is not None:
            return ChatResult(str(getattr(request, "id", "")), "", failure=Failure("bad_request", problem))
        try:
            hashed = hashed_messages(request)
            key = content_key(self.settings, request, hashed)
        except (TypeError, ValueError) as error:
            problem = f"the request is nothing that JSON can hold ({first_line(error)})"
            return ChatResult(request.id, "", failure=Failure("bad_request", problem))
        if (kept := self._look_up(key, request)) is not None:
            return kept
        if caller is None:
            return ChatResult(request.id, key, failure=Failure("cache_miss", "the cache has no reply to this request"))
        if key in self._in_flight:
            return self._follow(self._in_flight[key], request)
        self._in_flight[key] = asyncio.get_running_loop().create_future()
        return self._lead(caller, key, request, hashed)

    def _look_up(self, key: str, request: ChatRequest) -> ChatResult | None:
        kept = None if self.cache is None else self.cache.get(key)
        if kept is None:
            return None
        try:
            reply = Reply.from_kept(kept, request.schema)
        except (TypeError, ValueError):  # written by something else, or damaged: no answer
            logger.warning("The cache's entry %s is no reply to its request; it is not used.", key)
            return None
        self.budget.charge(reply.usage, cached=True)
        return _result(request.id, key, reply, reply.usage, cached=True)

    async def _lead(self, caller: Caller, key: str, request: ChatRequest, hashed: list[dict]) -> ChatResult:
        turn = self._in_flight[key]
        try:
            answer, usage = await caller.ask(request)
            if isinstance(answer, Reply):
                answer = await self._keep(key, request, replace(answer, usage=usage), hashed)
                result = _result(request.id, key, answer, usage)
            else:
                result = ChatResult(request.id, key, failure=answer, usage=usage)
                if self.cache is not None and not self.cache.read_only:
                    self.cache.note_failure(key, request.id, answer)
            turn.set_result(result)
            return result
        finally:
            del self._in_flight[key]
            turn.cancel()  # unless there is a result: whoever waits for it is being cancelled as well

    async def _keep(self, key: str, request: ChatRequest, reply: Reply, hashed: list[dict]) -> Reply:
        from semihv_hf.llm.keys import request_summary

        if self.cache is None or self.cache.read_only:
            return reply
        kept = reply.kept()
        storing = self.cache.asubmit(key, request_summary(self.settings, request, hashed), kept)
        try:
            standing = await asyncio.shield(storing)
        except asyncio.CancelledError:  # the run is being stopped, but this reply is paid for
            await asyncio.wait([storing])
            raise
        if standing == kept:
            return reply
        try:
            # Another process had an answer first; one request has one answer.
            return replace(Reply.from_kept(standing, request.schema), usage=reply.usage)
        except (TypeError, ValueError):
            return reply

    async def _follow(self, turn: asyncio.Future, request: ChatRequest) -> ChatResult:
        """Waits for the same question of another row; it is asked and paid for once."""
        result = await asyncio.shield(turn)
        return replace(result, id=request.id, cached=result.failure is None, usage=result.usage)

    async def _check(self) -> bool | None:
        import openai

        timeout = min(_CHECK_SECONDS, self.settings.timeout)
        options = {"max_retries": 1, "timeout": timeout, "follow_redirects": False}
        async with self._connection() as caller:
            try:
                found = await caller.api.get("/models", cast_to=object, options=options)
            except (openai.OpenAIError, ValueError, OSError) as error:
                fault = read_fault(error, (caller.api.api_key,), self._clock)
            else:
                return check_models(found, self.settings)
        if fault.status in (400, 404, 405, 501):  # it lists no models; the first call will show
            return None
        if (wrong := wrong_setting(fault, _NOTHING, self.settings)) is not None:
            raise wrong
        if fault.status is None:
            raise SemiHVError(f"The server {self.settings.shown_url} does not answer ({fault.detail}).")
        return None


_NOTHING = ChatRequest("", [])


async def _numbered(number: int, work: Awaitable[ChatResult]) -> tuple[int, ChatResult]:
    return number, await work


def _result(row: str, key: str, reply: Reply, usage: Usage | None, cached: bool = False) -> ChatResult:
    return ChatResult(row, key, reply.text, reply.parsed, None, usage, cached, reply.model, reply.system_fingerprint)
