"""The answers of a curation through the server's batch API: first all labels, then all texts, then the run itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from semihv_hf.llm.keys import content_key
from semihv_hf.llm.types import ChatRequest, ChatResult, Failure

from .cases import rows_of
from .parts import Job, budget
from .stages import Tools, curate_case
from .worker import Worker

if TYPE_CHECKING:
    from semihv_hf.llm.cache import ResponseCache
    from semihv_hf.progress import ProgressBar

logger = logging.getLogger(__name__)
_STAGES = ("labels", "texts")


def answer_by_batch(job: Job, tools: Tools, bar: ProgressBar) -> tuple[Job, dict[str, Any]]:
    """Fills the cache with what the run will ask, at the batch price.

    Batches go through their requests several times, so each case is read, and its requests are made, several times.

    Args:
        job ([`Job`]): the curation.
        tools ([`Tools`]): its parts.
        bar ([`ProgressBar`]): is told the stages.

    Returns:
        `tuple[Job, dict]`: the same, which now asks nobody, and what was spent ([`Budget.summary`]).
    """
    from semihv_hf.llm.batch import BatchRunner
    from semihv_hf.llm.cache import ResponseCache

    purse = budget(job.config)
    with ResponseCache(job.config.answers_folder) as cache:
        for stage, name in enumerate(_STAGES):
            if (tools.classify, tools.generate)[stage] is None:
                continue
            bar.begin(f"batch: {name}", job.cases.rows)
            runner = BatchRunner(
                tools.settings, cache, job.work / "batches" / name, budget=purse, attestation=tools.attestation
            )

            def requests(stage: int = stage) -> Iterator[ChatRequest]:
                return batch_requests(job, tools, cache, stage)

            report = runner.run(requests)
            logger.info("%s by batch: %s", name, report.report())
        unanswered = _unanswered_by_batch(cache)
    return replace(job, cache_only=True, unanswered=unanswered), purse.summary()


def _unanswered_by_batch(cache: ResponseCache) -> dict[str, Failure]:
    """Why there is no answer, the last time that it was asked for."""
    found = {row["key"]: Failure(**row["failure"]) for row in cache.failures() if row["key"] not in cache}
    # A call that was cut off by the end of a run says nothing of this one.
    return {key: failure for key, failure in found.items() if failure.kind != "cache_miss"}


def batch_requests(job: Job, tools: Tools, cache: ResponseCache, stage: int) -> Iterator[ChatRequest]:
    """All requests of a stage, in the order of the cases.

    Args:
        job ([`Job`]): the curation.
        tools ([`Tools`]): its parts.
        cache ([`ResponseCache`]): the answers of the stage before.
        stage (`int`): 0 for labels, 1 for texts.

    Yields:
        [`ChatRequest`]: a request, whether it has its answer or not.
    """
    from semihv_hf.llm.client import ChatClient

    worker = Worker(tools.retriever)
    client = ChatClient(tools.settings, cache=cache, cache_only=True)
    loop = asyncio.new_event_loop()
    try:
        for _, _, row in rows_of(job.cases.blocks):
            seen: list[list[ChatRequest]] = []

            async def ask(asked: Sequence[ChatRequest], seen: list = seen) -> list[ChatResult]:
                seen.append(list(asked))
                if _stage_of(asked[0], tools) == stage:  # its answers are not needed to know what is asked
                    return [_unanswered(tools, request) for request in asked]
                return await client.ask(asked)

            loop.run_until_complete(curate_case(row, tools, ask, worker))
            yield from (request for asked in seen for request in asked if _stage_of(request, tools) == stage)
    finally:
        worker.close()
        loop.close()


def _stage_of(request: ChatRequest, tools: Tools) -> int:
    return 0 if tools.classify is not None and request.prompt_version == tools.classify.prompt_version else 1


def _unanswered(tools: Tools, request: ChatRequest) -> ChatResult:
    return ChatResult(request.id, content_key(tools.settings, request), failure=Failure("cache_miss", "not asked yet"))
