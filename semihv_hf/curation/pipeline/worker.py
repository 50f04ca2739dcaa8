"""Threads beside the event loop, for what takes the processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from semihv_hf.data.schema import Evidence


class Search(Protocol):
    """What finds evidence; see [`semihv_hf.curation.retrieval.Retriever`]."""

    def search(self, queries: Sequence[Any]) -> list[list[Evidence]]: ...

    def images(self, evidence: Evidence) -> list[bytes]: ...


class Worker:
    """Does what takes the processor in a thread, so that calls go on, and searches for several cases at once.

    Args:
        retriever ([`Search`], *optional*): finds evidence.
        batch (`int`, *optional*, defaults to 32): most queries of one search.
    """

    def __init__(self, retriever: Search | None, batch: int = 32):
        from concurrent.futures import ThreadPoolExecutor

        # One thread each: the parts need not be safe for several, and more would only fight for the processor.
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="curate-make")
        self._searcher = ThreadPoolExecutor(1, thread_name_prefix="curate-search")
        self._retriever = retriever
        self._batch = batch
        self._waiting: list[tuple[Any, asyncio.Future]] = []
        self._searching: asyncio.Task | None = None

    async def make(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function in the thread for requests."""
        return await asyncio.get_running_loop().run_in_executor(self._maker, work, *arguments)

    async def search(self, query: Any) -> list[Evidence]:
        """The evidence for a query; those that wait at the same time are embedded together."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((query, turn))
        if self._searching is None:
            self._searching = asyncio.ensure_future(self._search())
        return await turn

    async def _search(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
                queries = [query for query, _ in batch]
                try:
                    found = await loop.run_in_executor(self._searcher, self._retriever.search, queries)
                except Exception as error:  # each waiting case must hear of it
                    for _, turn in batch:
                        if not turn.done():
                            turn.set_exception(error)
                    continue
                for (_, turn), evidence in zip(batch, found):
                    if not turn.done():
                        turn.set_result(evidence)
        finally:
            self._searching = None

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self._maker, self._searcher):
            pool.shutdown(wait=True, cancel_futures=True)
