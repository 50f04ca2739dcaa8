"""Keeping a bounded number of rows under way: whenever one is done the next begins, and nobody waits for a batch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")
_END = object()


async def refill(
    rows: Iterable[Row],
    start: Callable[[Row], Result | Awaitable[Result]],
    width: int,
) -> AsyncIterator[Result]:
    """Works on rows and gives the results as they come.

    No more than `width` rows are read ahead of what the consumer has taken, so memory does not grow with their number.

    Args:
        rows (`Iterable`): read one by one, in the event loop's thread.
        start (`Callable`): begins a row; gives its result at once, or a coroutine for it. It must not block.
        width (`int`): most rows under way, finished ones that the consumer has not taken included.

    Yields:
        `Any`: results, those that end first going first. An exception of a row ends the whole: what is under way is
        cancelled, as it is when the consumer stops.
    """
    source = iter(rows)
    finished: asyncio.Queue[asyncio.Task] = asyncio.Queue()
    tasks: set[asyncio.Task] = set()
    try:
        more = True
        while more or tasks:
            while more and len(tasks) < width and finished.empty():
                row = next(source, _END)
                if row is _END:
                    more = False
                    break
                begun = start(row)
                if not asyncio.iscoroutine(begun):
                    yield begun
                else:
                    task = asyncio.ensure_future(begun)
                    tasks.add(task)
                    task.add_done_callback(finished.put_nowait)
                await asyncio.sleep(0)  # what has begun goes on while further rows are read
            if tasks:
                task = await finished.get()
                tasks.discard(task)
                yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
