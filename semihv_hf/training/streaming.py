"""A streamed dataset as the micro-batches of one process: split, shuffled, measured and packed, endless, resumable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from semihv_hf.errors import SemiHVError

from .lengths import RowFailure, RowMeter, require_messages, with_length
from .packing import stream_packs

FILES_AT_ONCE = 10

# Rows, and the rows on the way that cannot be used. An empty one was trained on before the run was resumed.
MicroBatch = list[dict[str, Any] | RowFailure]


class BatchStream(IterableDataset):
    """
    Micro-batches of a stream, for a `DataLoader` without further sharding, see [`stream_dataloader`].

    Every process takes its own part, whole files where their number allows, else every n-th row; the workers of a
    process share its files. A pass over the rows follows from the seed and its number alone, and the next one begins
    where it ends, so that processes with fewer rows do not keep the others waiting. Which rows meet in a micro-batch
    depends on the number of processes and workers, see [`~BatchStream.state_dict`].

    Args:
        dataset (`datasets.IterableDataset`): rows with `messages` and `images`.
        size (`int`, *optional*, defaults to 1): rows of a micro-batch; with `pack_length` packs, which become one
            sequence.
        pack_length (`int`, *optional*): most tokens of a pack; longer rows are left out. Without it nothing is packed.
        processor (`ProcessorMixin`, *optional*): processor of the model, which tells lengths; needed for packs.
        chat_template (`str`, *optional*): template in place of the processor's own.
        seed (`int`, *optional*, defaults to 0): seed of the order.
        shuffle (`int`, *optional*, defaults to 0): rows from which the next one is drawn; 0 keeps the dataset's order.
        buffer (`int`, *optional*, defaults to 256): rows that wait for a pack at most.
        world_size (`int`, *optional*, defaults to 1): number of processes.
        rank (`int`, *optional*, defaults to 0): number of this process.
        workers (`int`, *optional*, defaults to 0): workers of the data loader; fewer if there are fewer files.

    Attributes:
        workers (`int`): workers that have something to read.
        skipped (`int`): micro-batches that come out empty, neither decoded nor tokenised, since a resumed run has
            trained on them.

    Raises:
        `SemiHVError`: if there is no column `messages`, or the processor does not tell lengths.
    """

    def __init__(
        self,
        dataset,
        size: int = 1,
        *,
        pack_length: int | None = None,
        processor=None,
        chat_template: str | None = None,
        seed: int = 0,
        shuffle: int = 0,
        buffer: int = 256,
        world_size: int = 1,
        rank: int = 0,
        workers: int = 0,
    ):
        from datasets.distributed import split_dataset_by_node

        require_messages(dataset)
        if pack_length is not None:
            RowMeter(processor, chat_template)  # refuses here what it would refuse in a worker
        self.dataset = split_dataset_by_node(dataset, rank, world_size) if world_size > 1 else dataset
        self.size = size
        self.pack_length = pack_length
        self.processor = processor
        self.chat_template = chat_template
        self.seed = seed
        self.shuffle = shuffle
        self.buffer = buffer
        self.world_size = world_size
        self.workers = min(workers, self.dataset.num_shards)
        self.skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """What the order of micro-batches follows from, beside the data; the position is the trainer's."""
        return {
            "kind": type(self).__name__,
            "seed": self.seed,
            "micro_batch": self.size,
            "pack_length": self.pack_length,
            "shuffle": self.shuffle,
            "buffer": self.buffer,
            "processes": self.world_size,
            "workers": self.workers,
            "files": self.dataset.num_shards,
        }

    def __iter__(self) -> Iterator[MicroBatch]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        # The data loader takes from its workers in turn.
        passed = len(range(number, self.skipped, workers))
        left_out: list[RowFailure] = []
        waiting: list[dict[str, Any]] = []
        count = 0
        for group in self._groups(left_out):
            waiting += group
            count += 1
            if count % self.size:
                continue
            if count // self.size <= passed:
                yield []
            else:
                yield [*waiting, *left_out]
                left_out.clear()
            waiting = []

    def _groups(self, left_out: list[RowFailure]) -> Iterator[list[dict[str, Any]]]:
        """Packs, or single rows, without end."""
        number = 0
        while True:
            empty = True
            for group in self._pass(number, left_out):
                empty = False
                yield group
            if empty:
                why = f", first {left_out[0]}" if left_out else ""
                raise SemiHVError(f"The stream has no row that can be trained on{why}.", "Look at the data.")
            number += 1

    def _pass(self, number: int, left_out: list[RowFailure]) -> Iterator[list[dict[str, Any]]]:
        rows = self.dataset
        if self.shuffle:
            # Not by the dataset's epoch: the workers share one number, and need not be in the same pass.
            generator = np.random.default_rng([self.seed, number])
            # A worker that has several files reads them at once; `datasets` then rests 5 s at the end of a pass.
            files = -(-rows.num_shards // max(self.workers, 1))
            rows = rows.shuffle(
                generator=generator, buffer_size=self.shuffle, max_buffer_input_shards=min(FILES_AT_ONCE, files)
            )
        if self.pack_length is None:
            return ([row] for row in rows)
        measured = with_length(
            rows,
            self.processor,
            max_length=self.pack_length,
            chat_template=self.chat_template,
            on_failure=left_out.append,
        )
        return stream_packs(measured, self.pack_length, buffer=self.buffer)


class StreamCollator:
    """
    Opens what a [`BatchStream`] gives for another collator, and leaves micro-batches that are to be skipped alone.

    Args:
        collator (`Callable`): makes a batch of rows.
    """

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, examples: list[MicroBatch]) -> dict[str, Any]:
        rows = [row for example in examples for row in example]
        return self.collator(rows) if rows else {}


def stream_dataloader(trainer, stream: BatchStream, collator):
    """
    The data loader of a `transformers.Trainer` for a stream that already knows the processes.

    Args:
        trainer (`transformers.Trainer`): gives the settings of the workers and the device.
        stream ([`BatchStream`]): the micro-batches of this process.
        collator (`Callable`): makes the batch in a worker.

    Returns:
        `accelerate.data_loader.DataLoaderShard`: for `Trainer.get_train_dataloader` to return.
    """
    from .sampling import own_dataloader

    return own_dataloader(trainer, stream, StreamCollator(collator), workers=stream.workers, batch_size=1)
