"""Some blocks of a curation, done by one process: many cases under way, and no block waits for another's end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from semihv_hf.data.configs import CASES
from semihv_hf.data.engines import seldom_collecting
from semihv_hf.errors import SemiHVError
from semihv_hf.llm.connection import open_client
from semihv_hf.llm.running import run_coroutine
from semihv_hf.llm.scheduling import refill
from semihv_hf.llm.types import ChatRequest, ChatResult

from .cases import Block, rows_of
from .outcome import Outcome, Tally
from .parts import Job, budget, open_tools
from .stages import Ask, Tools, curate_case
from .state import OpenBlock, block_path
from .worker import Worker

if TYPE_CHECKING:
    from semihv_hf.llm.budget import Budget
    from semihv_hf.llm.client import ChatClient

# So many cases are tried, one after the other, before a server that refuses them all is believed.
_PROBES = 3
Row = tuple[Block, int, dict[str, Any]]
Tell = Callable[[Outcome, "Budget"], None]


def curate_span(job: Job, numbers: Sequence[int], tell: Tell | None = None) -> dict[str, Any]:
    """Does some blocks and writes each when its last case is done.

    Args:
        job ([`Job`]): the curation.
        numbers (`Sequence[int]`): the blocks.
        tell (`Callable`, *optional*): called after each case with its [`Outcome`] and the [`Budget`].

    Returns:
        `dict`: `rows`, `tally` (see [`Tally.as_json`]), `calls` (over HTTP) and `spending` ([`Budget.summary`]).

    Raises:
        `SemiHVError`: a setting is wrong.
    """
    blocks = [job.cases.blocks[number] for number in numbers]
    tools = open_tools(job)
    purse = budget(job.config, sum(block.rows for block in blocks) / job.pending if job.pending else 1.0)
    loop = asyncio.new_event_loop()
    try:
        with seldom_collecting():
            return run_coroutine(loop, _curate(job, blocks, tools, purse, tell))
    finally:
        loop.close()


async def _curate(job: Job, blocks: Sequence[Block], tools: Tools, purse: Budget, tell: Tell | None) -> dict[str, Any]:
    from semihv_hf.data.columns import case_schema, record_schema

    schemas = {CASES: case_schema(), "records": record_schema()}
    open_blocks: dict[int, OpenBlock] = {}
    total = Tally()
    try:
        async with asking(job, tools, purse) as (client, done):
            async for block, place, outcome in done(rows_of(blocks)):
                if block.number not in open_blocks:
                    path = block_path(job.work, block.number)
                    open_blocks[block.number] = OpenBlock(path, block.rows, schemas)
                writing = open_blocks[block.number]
                writing.add(place, outcome)
                if not writing.missing:
                    total.update(open_blocks.pop(block.number).finish())
                if tell is not None:
                    tell(outcome, purse)
            calls = client.calls
    finally:
        for block in open_blocks.values():
            block.drop()
    rows = sum(block.rows for block in blocks)
    return {"rows": rows, "tally": total.as_json(), "calls": calls, "spending": purse.summary()}


@asynccontextmanager
async def asking(
    job: Job, tools: Tools, purse: Budget, *, go_on: bool = False
) -> AsyncIterator[tuple[ChatClient, Callable[[Iterable[Row]], AsyncIterator[tuple[Block, int, Outcome]]]]]:
    """The server, the answers and the threads for the length of a run.

    Args:
        job ([`Job`]): the curation.
        tools ([`Tools`]): its parts.
        purse ([`Budget`]): what may be spent.
        go_on (`bool`, *optional*, defaults to `False`): go on to the texts of a case whose labels have no answer yet.

    Yields:
        `tuple`: the [`ChatClient`], and a function that takes rows and gives their outcomes as they are done.
    """
    from semihv_hf.llm.cache import ResponseCache
    from semihv_hf.llm.client import ChatClient

    common = {"budget": purse, "attestation": tools.attestation, "cache_only": job.cache_only}
    worker = Worker(tools.retriever, job.config.retrieve.batch if job.config.retrieve else 32)
    try:
        with ResponseCache(job.config.answers_folder) as cache:
            async with _api(job, tools) as api:
                client = ChatClient(tools.settings, cache=cache, client=api, **common)

                async def ask(requests: Sequence[ChatRequest]) -> list[ChatResult]:
                    return [_with_reason(result, job) for result in await client.ask(requests)]

                def done(rows: Iterable[Row]) -> AsyncIterator[tuple[Block, int, Outcome]]:
                    return _outcomes(iter(rows), replace(tools, go_on=go_on), ask, worker, job)

                yield client, done
    finally:
        worker.close()


@asynccontextmanager
async def _api(job: Job, tools: Tools) -> AsyncIterator[Any]:
    """One set of connections for all cases; none where nobody is asked."""
    if job.cache_only:
        yield None
        return
    async with open_client(tools.settings) as api:
        yield api


def _with_reason(result: ChatResult, job: Job) -> ChatResult:
    """What was asked by batch and is not in the cache has failed there, for a reason."""
    missed = result.failure is not None and result.failure.kind == "cache_miss"
    return replace(result, failure=job.unanswered.get(result.key, result.failure)) if missed else result


async def _outcomes(
    rows: Iterator[Row], tools: Tools, ask: Ask, worker: Worker, job: Job
) -> AsyncIterator[tuple[Block, int, Outcome]]:
    refused: list[str] = []
    for block, place, row in rows:
        outcome = await curate_case(row, tools, ask, worker)
        yield block, place, outcome
        asked = outcome.answers + sum(failure["attempts"] for failure in outcome.failures)
        bad = [failure for failure in outcome.failures if failure["kind"] == "bad_request" and failure["attempts"]]
        if bad and not outcome.answers:
            refused.append(f"{bad[0]['task'] or bad[0]['stage']}: {bad[0]['detail']}")
            if len(refused) == _PROBES:
                raise SemiHVError(
                    f"The server {tools.settings.shown_url} refuses the first {_PROBES} cases ({refused[0]}).",
                    "Check that the model takes images and a JSON schema; nothing was paid for.",
                )
        elif asked or outcome.failures:
            break
    else:
        return

    async def one(row: Row) -> tuple[Block, int, Outcome]:
        return row[0], row[1], await curate_case(row[2], tools, ask, worker)

    async for done in refill(rows, one, job.config.width):
        yield done


def spans(numbers: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """Cuts blocks into pieces of work: several a worker, so that none waits long for the last.

    Args:
        numbers (`Sequence[int]`): the blocks.
        workers (`int`): how many processes.

    Returns:
        `list[tuple[int, ...]]`: the pieces; for one worker, one.
    """
    if workers == 1:
        return [tuple(numbers)] if numbers else []
    size = max(1, min(8, -(-len(numbers) // (4 * workers))))
    pieces = itertools.zip_longest(*[iter(numbers)] * size)
    return [tuple(number for number in piece if number is not None) for piece in pieces]
