"""Where the pieces of a long job are done: in processes of this machine, or on the machines of a Ray cluster.

Both call the same function with the same arguments; what it writes does not depend on who calls it, or when.
"""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import SemiHVError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ENGINES = ("local", "ray")


def run(
    engine: str, work: Callable[[Any], Any], tasks: Sequence[Any], *, workers: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Does a piece of work for every task, in whichever order.

    Args:
        engine (`str`): `"local"` or `"ray"`.
        work (`Callable[[Any], Any]`): a function that can be pickled.
        tasks (`Sequence[Any]`): what it is called with, one at a time.
        workers (`int`, *optional*): how many processes at most; by default as many as there are processors. One
            worker of the local engine is this process itself.

    Yields:
        `tuple[Any, Any]`: a task and its result, as they are done.

    Raises:
        `SemiHVError`: the engine is unknown or not installed, or a process was ended from outside. What `work`
            raises is raised here, and the remaining tasks are not begun.
    """
    if engine not in ENGINES:
        raise SemiHVError(f"Unknown engine {engine!r}.", f"Known are: {', '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise SemiHVError(f"{workers} workers can do nothing.", "Give at least 1.")
    if not tasks:
        return
    if engine == "ray":
        yield from _on_ray(work, tasks, workers)
        return
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers == 1:
        for task in tasks:
            yield task, work(task)
    else:
        yield from _in_processes(work, tasks, workers)


def _in_processes(work: Callable[[Any], Any], tasks: Sequence[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # Forking would copy the locks of whatever threads pyarrow and others run.
    context = get_context("spawn")
    alive, end = context.Pipe(duplex=False)
    payload = pickle.dumps(work)
    waiting: dict[Any, Any] = {}
    remaining = iter(tasks)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(alive,)) as pool:
        try:
            while True:
                # Two tasks a worker: none waits for the main process, and a million tasks are not queued.
                while len(waiting) < 2 * workers and (task := next(remaining, _NONE)) is not _NONE:
                    waiting[pool.submit(_call, payload, task)] = task
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool as error:
            end.close()
            raise SemiHVError(
                "A worker process was ended before its work was done.",
                "Perhaps memory ran out: try fewer workers. In a script of your own the call must stand under "
                "`if __name__ == '__main__':`. What is finished is kept.",
            ) from error
        except BaseException:
            end.close()  # the workers end at once; their unfinished work is done again
            raise
    end.close()


_NONE = object()


def _start(alive: "Connection") -> None:
    """Makes a worker end with the main process, even where that is killed, and leaves Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()


def _end_with(alive: "Connection") -> None:
    try:
        alive.recv_bytes()  # nothing is ever sent: this returns when the other end is closed
    except EOFError:
        os._exit(1)


def _call(payload: bytes, task: Any) -> Any:
    return _unpickled(payload)(task)


@lru_cache(maxsize=1)
def _unpickled(payload: bytes) -> Callable[[Any], Any]:
    # What a worker has opened (archives, tables) stays open from task to task.
    return pickle.loads(payload)


def _on_ray(work: Callable[[Any], Any], tasks: Sequence[Any], workers: int | None) -> Iterator[tuple[Any, Any]]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SemiHVError("The engine ray needs Ray Data.", "Install it: pip install 'semihv-hf[ray]'") from error

    def call(batch: dict[str, Any]) -> dict[str, list]:
        number = int(batch["id"][0])
        return {"number": [number], "result": [pickle.dumps(work(tasks[number]))]}

    started_here = not ray.is_initialized()
    if started_here:  # joins the cluster that this machine belongs to, or makes one of its own
        ray.init(log_to_driver=False, logging_level="error")
    try:
        with _quiet(ray.data.DataContext.get_current()):
            processors = int(ray.cluster_resources().get("CPU", 1))
            # Several pieces a processor: blocks take unequal time, and each piece that is done is reported.
            pieces = min(len(tasks), 8 * max(processors, 1))
            done = ray.data.range(len(tasks), override_num_blocks=pieces).map_batches(
                call, batch_size=1, num_cpus=1, compute=ray.data.TaskPoolStrategy(size=workers)
            )
            for row in done.iter_rows():
                yield tasks[row["number"]], pickle.loads(row["result"])
    except ray.exceptions.RayError as error:
        raise _cause(error) from error
    finally:
        if started_here:
            ray.shutdown()


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """Ray Data's own progress bars would be drawn into that of the build."""
    shown = context.enable_progress_bars
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = shown


def _cause(error: BaseException) -> BaseException:
    """What was raised on the other machine: Ray wraps it, once or more."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, SemiHVError):
            return SemiHVError(inner.what, inner.do)
        inner = getattr(inner, "cause", None) or inner.__cause__
    return SemiHVError(f"A worker of the Ray cluster failed: {str(error).strip().splitlines()[-1]}")
