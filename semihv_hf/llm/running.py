"""Running a coroutine to its end from ordinary code: in a script, in a notebook, and until someone presses Ctrl-C."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any


def run_coroutine(loop: asyncio.AbstractEventLoop, coroutine: Coroutine) -> Any:
    """Runs a coroutine in a loop of its own, also where another loop is already running in this thread.

    Args:
        loop (`asyncio.AbstractEventLoop`): a loop that is not running.
        coroutine (`Coroutine`): what to run.

    Returns:
        `Any`: its result. After Ctrl-C it is cancelled, ends its own clean-up, and then KeyboardInterrupt is raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(loop, coroutine)
    return _run_in_thread(loop, coroutine)


def _run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine) -> Any:
    task = loop.create_task(coroutine)
    interrupted = threading.Event()

    def interrupt(*_: Any) -> None:
        if interrupted.is_set():  # a second one does not wait for the clean-up
            raise KeyboardInterrupt
        interrupted.set()
        loop.call_soon_threadsafe(task.cancel)

    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        if interrupted.is_set():
            raise KeyboardInterrupt from None
        raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _finish(loop, task)


def _finish(loop: asyncio.AbstractEventLoop, task: asyncio.Task) -> None:
    """Whatever stopped the loop, the task ends, and asynchronous generators are closed."""
    if not task.done():
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


def _run_in_thread(loop: asyncio.AbstractEventLoop, coroutine: Coroutine) -> Any:
    outcome: dict[str, Any] = {}
    task = loop.create_task(coroutine)

    async def guarded() -> Any:
        return await task

    def work() -> None:
        try:
            outcome["result"] = _run(loop, guarded())
        except BaseException as error:  # handed over to the thread that asked
            outcome["error"] = error

    thread = threading.Thread(target=work, name="chat-client", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
