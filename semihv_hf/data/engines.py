"""Where the pieces of a long job are done: in processes of this machine, or on the machines of a Ray cluster.

Both call the same function with the same arguments; what it writes does not depend on who calls it, or when.
"""

import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import SemiHVError, first_line

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.connection import Connection

ENGINES = ("local", "ray")
Work = Callable[[Any], Any]


@contextmanager
def engine(name: str, workers: int | None = None) -> Iterator["LocalEngine | RayEngine"]:
    """Something that does a piece of work for many tasks, in whichever order.

    Args:
        name (`str`): `"local"` or `"ray"`.
        workers (`int`, *optional*): how many processes at most; by default as many as there are processors. One
            worker of the local engine is this process itself.

    Yields:
        [`LocalEngine`] or [`RayEngine`]: its processes end with the block.

    Raises:
        `SemiHVError`: there is no such engine, or it is not installed.
    """
    if name not in ENGINES:
        raise SemiHVError(f"Unknown engine {name!r}.", f"Known are: {', '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise SemiHVError(f"{workers} workers can do nothing.", "Give at least 1.")
    made = LocalEngine(workers) if name == "local" else RayEngine(workers)
    try:
        yield made
    except BaseException:
        made.close(at_once=True)
        raise
    made.close()


class LocalEngine:
    """Processes of this machine, started when there is work for several.

    Args:
        workers (`int`, *optional*): how many at most.
    """

    def __init__(self, workers: int | None):
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None
        self._end: Connection | None = None

    def run(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Does the work for every task.

        Args:
            work (`Callable[[Any], Any]`): a function that can be pickled.
            tasks (`Sequence[Any]`): what it is called with, one at a time.

        Yields:
            `tuple[Any, Any]`: a task and its result, as they are done.

        Raises:
            `SemiHVError`: a process was ended from outside. What `work` raises is raised here.
        """
        if self.workers == 1 or len(tasks) == 1:
            for task in tasks:
                yield task, work(task)
        elif tasks:
            yield from self._run_in_processes(work, tasks)

    def _run_in_processes(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        from concurrent.futures import FIRST_COMPLETED, wait
        from concurrent.futures.process import BrokenProcessPool

        self.start()
        payload = pickle.dumps(work)
        waiting: dict[Any, Any] = {}
        remaining = iter(tasks)
        try:
            while True:
                # Two tasks a worker: none waits for the main process, and a million tasks are not queued.
                while len(waiting) < 2 * self.workers and (task := next(remaining, _NONE)) is not _NONE:
                    waiting[self._pool.submit(_call, payload, task)] = task
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool as error:
            raise SemiHVError(
                "A worker process was ended before its work was done.",
                "Perhaps memory ran out: try fewer workers. In a script of your own the call must stand under "
                "`if __name__ == '__main__':`. What is finished is kept.",
            ) from error

    def processors(self) -> int:
        """How many tasks are done at a time."""
        return self.workers

    def start(self) -> None:
        """Starts the first processes, which takes about a second, while this one still does something else."""
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        if self._pool is not None or self.workers == 1:
            return
        # Forking would copy the locks of whatever threads pyarrow and others run.
        context = get_context("spawn")
        alive, self._end = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start, initargs=(alive,))
        with suppress(BrokenProcessPool):  # where no process can be started, the first task says so
            for _ in range(min(self.workers, _FIRST)):
                self._pool.submit(_prepare)

    def close(self, *, at_once: bool = False) -> None:
        """Ends the processes.

        Args:
            at_once (`bool`, *optional*, defaults to `False`): whether not to wait for what they are doing.
        """
        if self._pool is None:
            return
        if at_once:
            self._end.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._end.close()


_NONE = object()
_ALLOCATIONS = 100_000  # between two searches for cyclic garbage
_FIRST = 8  # a small release does not need more processes; others are started when there are tasks for them


def _prepare() -> None:
    """Imports what every block needs, while the main process still lists the release."""
    import pyarrow.parquet
    from PIL import Image  # noqa: F401

    # At its first use this imports pandas where that is installed, which takes as long as a thousand small images.
    pyarrow.Table.from_pylist([{"ready": True}])


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Lets Python look for cyclic garbage seldom, for as long as the block lasts."""
    before = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _start(alive: "Connection") -> None:
    """Makes a worker end with the main process, even where that is killed, and leaves Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    # A block is held as some ten thousand small objects without cycles. By default Python would walk them all after
    # every few rows, a tenth of the time that reading takes.
    gc.set_threshold(_ALLOCATIONS)


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


class RayEngine:
    """A Ray cluster: the one that this process, or this machine, belongs to, or one of this machine alone.

    Args:
        workers (`int`, *optional*): how many tasks at a time at most.

    Raises:
        `SemiHVError`: Ray Data is not installed.
    """

    def __init__(self, workers: int | None):
        try:
            import ray
            import ray.data  # noqa: F401
        except ImportError as error:
            raise SemiHVError("The engine ray needs Ray Data.", "Install it: pip install 'semihv-hf[ray]'") from error
        self.workers = workers
        self._started_here = False

    def run(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Does the work for every task; see [`LocalEngine.run`]."""
        import ray
        import ray.data

        def call(batch: dict[str, Any]) -> dict[str, list]:
            numbers = [int(number) for number in batch["id"]]
            return {"number": numbers, "result": [_attempt(work, tasks[number]) for number in numbers]}

        if not tasks:
            return
        # Several pieces a processor: blocks take unequal time, and each piece that is done is reported.
        pieces = min(len(tasks), 8 * self.processors())
        strategy = ray.data.TaskPoolStrategy(size=self.workers)
        try:
            with _quiet(ray.data.DataContext.get_current()):
                done = ray.data.range(len(tasks), override_num_blocks=pieces).map_batches(
                    call, batch_size=None, num_cpus=1, compute=strategy
                )
                for row in done.iter_rows():
                    result, failure = pickle.loads(row["result"])
                    if failure is not None:
                        raise failure
                    yield tasks[row["number"]], result
        except ray.exceptions.RayError as error:
            raise SemiHVError(
                f"The Ray cluster failed: {first_line(error)}.", "What is finished is kept; start again."
            ) from error

    def processors(self) -> int:
        """How many tasks the cluster can do at a time; joins it, or starts it, if that was not done yet."""
        import ray

        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="error")
            self._started_here = True
        return max(int(ray.cluster_resources().get("CPU", 1)), 1)

    def start(self) -> None:
        """Nothing: the cluster's processes are Ray's own."""

    def close(self, *, at_once: bool = False) -> None:
        """Leaves the cluster, or ends it where it was started here.

        Args:
            at_once (`bool`, *optional*, defaults to `False`): without meaning here.
        """
        import ray

        if self._started_here:
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


def _attempt(work: Work, task: Any) -> bytes:
    """The result, or what was raised in its place: Ray Data would wrap that in an error of its own."""
    try:
        return pickle.dumps((work(task), None))
    except Exception as error:
        return pickle.dumps((None, error))
