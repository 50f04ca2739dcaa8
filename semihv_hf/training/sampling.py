"""Which rows a batch holds: of like length, or packed; the same global batches for every number of processes.

An epoch is a pure function of the seed and the epoch's number: a list of global batches, each cut into micro-batches.
Process `r` of `W` takes the micro-batches `r, r + W, ...` of each, so that one process with accumulation and several
without see the same rows at the same step, and a resumed run continues where it was by counting.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from semihv_hf.errors import SemiHVError

from .packing import LengthSplit, plan_packs, split_by_length


class GlobalBatchSampler(Sampler[list[int]], ABC):
    """
    Base of both samplers: yields the micro-batches of one process, row numbers in lists.

    It does the distribution over processes itself: give it to a plain `DataLoader` as `batch_sampler`, and do not let
    anything shard it again, see [`train_dataloader`].

    Args:
        lengths (`Sequence[int | None]`): tokens of each row of the dataset, `None` where it could not be measured.
        global_batch_size (`int`): rows (or packs) of one optimisation step, over all processes.
        seed (`int`, *optional*, defaults to 0): seed of the order.
        world_size (`int`, *optional*, defaults to 1): number of processes.
        rank (`int`, *optional*, defaults to 0): number of this process.
        accumulation (`int`, *optional*, defaults to 1): micro-batches of one process in one step.
        max_length (`int`, *optional*): most tokens of a row.
        too_long (`str`, *optional*, defaults to `"drop"`): `drop` or `refuse`, see [`split_by_length`].

    Attributes:
        split ([`LengthSplit`]): which rows are kept, which are too long or unmeasured.
        epoch (`int`): number of the epoch that the next iteration yields.

    Raises:
        `SemiHVError`: if the global batch cannot be divided, no row is left, or a whole batch cannot be made.
    """

    # Every global batch is whole; accelerate and transformers read this name.
    drop_last = True

    def __init__(
        self,
        lengths: Sequence[int | None],
        global_batch_size: int,
        *,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
        accumulation: int = 1,
        max_length: int | None = None,
        too_long: str = "drop",
    ):
        self.micro_batches = world_size * accumulation
        if global_batch_size < 1 or global_batch_size % self.micro_batches:
            raise SemiHVError(
                f"A global batch of {global_batch_size} cannot be divided by {world_size} processes with "
                f"{accumulation} micro-batches each.",
                "Choose per_device_train_batch_size x processes x gradient_accumulation_steps.",
            )
        if not 0 <= rank < world_size:
            raise SemiHVError(f"There is no process {rank} among {world_size}.")
        self.lengths = list(lengths)
        self.split: LengthSplit = split_by_length(self.lengths, max_length, too_long)
        self.global_batch_size = global_batch_size
        self.seed = int(seed)
        self.world_size = world_size
        self.rank = rank
        self.accumulation = accumulation
        self.epoch = 0
        self._steps: tuple[int, list[list[list[int]]]] | None = None
        if not self.steps(0):
            raise SemiHVError(
                f"{len(self.split.kept)} rows do not make one global batch of {global_batch_size}.",
                "Use more data or a smaller batch.",
            )

    @abstractmethod
    def plan(self, epoch: int) -> list[list[list[int]]]:
        """All global batches of an epoch, each as a list of `micro_batches` micro-batches of row numbers."""

    def steps(self, epoch: int) -> list[list[list[int]]]:
        """What [`plan`] gives, remembered for one epoch."""
        if self._steps is None or self._steps[0] != epoch:
            self._steps = (epoch, self.plan(epoch))
        return self._steps[1]

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of each epoch, also after a resume."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps(self.epoch):
            yield from step[self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self.steps(self.epoch)) * self.accumulation

    def rows_at(self, epoch: int, step: int) -> list[int]:
        """Row numbers of one optimisation step, over all processes."""
        return [row for micro in self.steps(epoch)[step] for row in micro]

    def settings(self) -> dict[str, Any]:
        """What the order of rows follows from; not the number of processes."""
        return {
            "kind": type(self).__name__,
            "seed": self.seed,
            "global_batch_size": self.global_batch_size,
            "max_length": self.split.limit,
        }

    def state_dict(self) -> dict[str, Any]:
        """The settings and a digest of the lengths; the position is the trainer's number of steps."""
        digest = hashlib.sha256(np.array([length or 0 for length in self.lengths], dtype=np.int64).tobytes())
        return {**self.settings(), "rows": len(self.lengths), "lengths": digest.hexdigest()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Checks that a resumed run will see the rows that the interrupted one would have seen.

        Args:
            state (`dict`): what [`state_dict`] gave when the checkpoint was written.

        Raises:
            `SemiHVError`: naming what differs.
        """
        for key, now in self.state_dict().items():
            if state.get(key) != now:
                raise SemiHVError(
                    f"The checkpoint was trained with another order of rows: {key} was {state.get(key)!r}, "
                    f"now it is {now!r}.",
                    "Resume with the recipe and the data that the run was started with.",
                )


class LengthGroupedSampler(GlobalBatchSampler):
    """
    Batches of rows of like length: little padding, and the epoch's longest batch first, so that memory runs out at
    once or not at all.

    Rows are shuffled, sorted within groups of `group` global batches, and the batches shuffled. The few rows that make
    no whole batch are other ones in every epoch.

    Args:
        group (`int`, *optional*, defaults to 50): global batches that are sorted together.
        kwargs: see [`GlobalBatchSampler`]; `global_batch_size` counts rows.
    """

    def __init__(self, lengths: Sequence[int | None], global_batch_size: int, *, group: int = 50, **kwargs):
        self.group = group
        super().__init__(lengths, global_batch_size, **kwargs)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "group": self.group}

    def plan(self, epoch: int) -> list[list[list[int]]]:
        generator = np.random.default_rng([self.seed, epoch])
        rows = generator.permutation(self.split.kept)
        rows = rows[: len(rows) // self.global_batch_size * self.global_batch_size]
        lengths = np.array([self.lengths[row] for row in rows], dtype=np.int64)
        span, size = self.group * self.global_batch_size, self.global_batch_size
        batches = []
        for start in range(0, len(rows), span):
            # Stable, so that the plan does not depend on how numpy breaks ties.
            order = np.argsort(-lengths[start : start + span], kind="stable") + start
            batches += [order[at : at + size] for at in range(0, len(order), size)]
        if not batches:
            return []
        batches = [batches[index] for index in generator.permutation(len(batches))]
        longest = max(range(len(batches)), key=lambda index: lengths[batches[index]].max())
        batches[0], batches[longest] = batches[longest], batches[0]
        micro = size // self.micro_batches
        return [[rows[batch[at : at + micro]].tolist() for at in range(0, size, micro)] for batch in batches]


class PackedBatchSampler(GlobalBatchSampler):
    """
    Packs of rows, planned anew in every epoch; each micro-batch becomes one sequence.

    Args:
        lengths (`Sequence[int | None]`): tokens of each row.
        pack_length (`int`): most tokens of a pack, and of a row.
        global_batch_size (`int`, *optional*, defaults to 1): packs of one optimisation step, over all processes.
        kwargs: see [`GlobalBatchSampler`].
    """

    def __init__(self, lengths: Sequence[int | None], pack_length: int, global_batch_size: int = 1, **kwargs):
        self.pack_length = pack_length
        super().__init__(lengths, global_batch_size, max_length=pack_length, **kwargs)

    def plan(self, epoch: int) -> list[list[list[int]]]:
        packs = plan_packs(self.lengths, self.pack_length, [self.seed, epoch], rows=self.split.kept)
        size = self.global_batch_size
        micro = size // self.micro_batches
        return [
            [sum(packs[at : at + micro], []) for at in range(start, start + size, micro)]
            for start in range(0, len(packs) // size * size, size)
        ]


class EvaluationBatches(Sampler[list[int]]):
    """
    Every row of an evaluation once, over all processes; a process that has no batch left gets empty ones, so that all
    take the same number of steps.

    Args:
        rows (`int`): rows of the dataset.
        batch_size (`int`): rows of a batch.
        world_size (`int`, *optional*, defaults to 1): number of processes.
        rank (`int`, *optional*, defaults to 0): number of this process.
    """

    def __init__(self, rows: int, batch_size: int, world_size: int = 1, rank: int = 0):
        batches = [list(range(at, min(at + batch_size, rows))) for at in range(0, rows, batch_size)]
        batches += [[] for _ in range(-len(batches) % world_size)]
        self.batches = batches[rank::world_size]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def train_dataloader(trainer, dataset, sampler: GlobalBatchSampler, collator):
    """
    The data loader of a `transformers.Trainer` for a sampler that already knows the processes.

    Args:
        trainer (`transformers.Trainer`): gives the settings of the workers and the device.
        dataset (`Dataset`): rows, addressed by number.
        sampler ([`GlobalBatchSampler`]): the batches of this process.
        collator (`Callable`): makes the batch in a worker.

    Returns:
        `accelerate.data_loader.DataLoaderShard`: for `Trainer.get_train_dataloader` to return.
    """
    return own_dataloader(trainer, dataset, collator, batch_sampler=sampler)


def own_dataloader(trainer, dataset, collator, *, workers: int | None = None, **batches):
    """
    A data loader that nobody shards again.

    `Trainer` and accelerate would shard the batches a second time, and would forget to tell a resumed run's sampler
    its epoch; here the sampler is the data loader's own.

    Args:
        trainer (`transformers.Trainer`): gives the settings of the workers and the device.
        dataset (`Dataset` or `IterableDataset`): rows.
        collator (`Callable`): makes the batch in a worker.
        workers (`int`, *optional*): fewer workers than the settings say.
        batches: `batch_sampler` or `batch_size` of torch's `DataLoader`.

    Returns:
        `accelerate.data_loader.DataLoaderShard`
    """
    from functools import partial

    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader
    from transformers.trainer_utils import seed_worker

    args = trainer.args
    workers = args.dataloader_num_workers if workers is None else workers
    loader = DataLoader(
        dataset,
        collate_fn=collator,
        num_workers=workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers and workers > 0,
        prefetch_factor=args.dataloader_prefetch_factor if workers else None,
        worker_init_fn=partial(seed_worker, num_workers=workers, rank=args.process_index),
        **batches,
    )
    return prepare_data_loader(
        loader,
        device=trainer.accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        rng_types=None,
        # A stream would otherwise be read by the first process alone, and its batches cut apart for the others.
        dispatch_batches=False,
        non_blocking=trainer.accelerator.non_blocking,
    )


def said_by_worker(error: SemiHVError) -> SemiHVError:
    """
    What a data worker had to say, without the traceback that torch wraps it into.

    Args:
        error (`SemiHVError`): raised by a data loader, or by anything else.

    Returns:
        `SemiHVError`: of one line; the error itself if it is no worker's.
    """
    before, _, said = error.what.partition("\nsemihv_hf.errors.SemiHVError: ")
    return SemiHVError(said.strip()) if said and "in DataLoader worker process" in before else error
