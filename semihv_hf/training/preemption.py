"""Being asked to leave: on SIGTERM or SIGUSR1 finish the step, save a complete checkpoint, exit with a known code."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from transformers import TrainerCallback

# EX_TEMPFAIL of sysexits.h: "try again later". Unlike 143 it cannot come from a process that SIGTERM killed outright,
# before anything was saved.
PREEMPTED_EXIT_CODE = 75
# Launchers turn every exit code of a worker into 1, so a job script looks for this file in the output folder.
PREEMPTED_FILE = "PREEMPTED"


class Preempted(SystemExit):
    """
    Ends a run that was asked to leave and has saved; uncaught, the process exits with [`PREEMPTED_EXIT_CODE`].

    Args:
        checkpoint (`Path`): the checkpoint to resume from.
        step (`int`): steps done.
    """

    def __init__(self, checkpoint: Path, step: int):
        super().__init__(PREEMPTED_EXIT_CODE)
        self.checkpoint = checkpoint
        self.step = step


def any_rank(flag: bool, device: torch.device | str = "cpu") -> bool:
    """
    Whether the flag is set on at least one rank. All ranks must call it together.

    Args:
        flag (`bool`): of this rank.
        device (`torch.device`, *optional*, defaults to `"cpu"`): where the process group's tensors live.

    Returns:
        `bool`: the same on every rank.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return flag
    shared = torch.tensor(int(flag), device=device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return bool(shared.item())


class DeafWorker:
    """
    Start of a data worker that leaves the signals to its training process.

    A scheduler signals every process of a job. A worker that died of it would take the training process along before
    it could save.

    Args:
        start (`Callable`, *optional*): the worker's own `worker_init_fn`.
        signals (`tuple[signal.Signals]`): what to ignore.
    """

    def __init__(self, start: Callable[[int], None] | None, signals: tuple[signal.Signals, ...]):
        self.start = start
        self.signals = signals

    def __call__(self, worker: int) -> None:
        for number in self.signals:
            signal.signal(number, signal.SIG_IGN)
        if self.start is not None:
            self.start(worker)


def end_workers() -> None:
    """
    Ends the data workers that are left when a process exits.

    Python asks them by SIGTERM, to which they are deaf, and would wait for them for ever.
    """
    for worker in multiprocessing.active_children():
        if worker.daemon:
            # torch raises in the main thread when a worker was killed.
            with suppress(RuntimeError):
                worker.kill()
                worker.join(5)


class PreemptionCallback(TrainerCallback):
    """
    Stops training after the step in which a signal came, with a checkpoint, on all ranks after the same step.

    Add it to a trainer with [`CheckpointMixin`], which then raises [`Preempted`] from `train()`. Handlers stand only
    while training runs and are put back afterwards. A second signal changes nothing: the checkpoint is being written.

    Args:
        signals (`tuple[signal.Signals]`, *optional*, defaults to SIGTERM and SIGUSR1): which signals.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGUSR1)):
        self.signals = signals
        self.received: signal.Signals | None = None
        self.stopped = False
        self._previous: dict[signal.Signals, object] = {}
        self._ends_workers = False

    def shield(self, loader) -> None:
        """
        Makes the workers of a data loader ignore the signals.

        Args:
            loader (`DataLoader`): torch's, or accelerate's around it; not yet iterated.
        """
        loader = getattr(loader, "base_dataloader", loader)
        if not isinstance(loader.worker_init_fn, DeafWorker):
            loader.worker_init_fn = DeafWorker(loader.worker_init_fn, self.signals)
        if not self._ends_workers:
            self._ends_workers = True
            atexit.register(end_workers)

    def _receive(self, number, frame) -> None:
        self.received = signal.Signals(number)

    @property
    def signal_name(self) -> str:
        """Name of the signal, for a message; another rank may be the one that received it."""
        return "another process" if self.received is None else self.received.name

    def on_train_begin(self, args, state, control, **kwargs):
        self.received, self.stopped = None, False
        # Python allows handlers in the main thread alone; elsewhere the host of the thread deals with signals.
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._previous[number] = signal.signal(number, self._receive)

    def on_step_end(self, args, state, control, **kwargs):
        if any_rank(self.received is not None, args.device):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Puts back the handlers that were there before training."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
