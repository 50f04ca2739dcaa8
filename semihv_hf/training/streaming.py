"""Packs of a stream: measured, filtered and packed in the workers, without reading the data first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset

from .collation import BadRows
from .lengths import require_messages, with_length
from .packing import stream_packs


class PackedStream(IterableDataset):
    """
    A streamed dataset whose examples are packs of rows.

    Give it to a `DataLoader` with `batch_size=1` and a [`VisionCollator`] that packs: each pack is one sequence. The
    workers of a data loader share the shards of the dataset as `datasets` distributes them; several processes each
    take their own part of the dataset first, by `datasets.distributed.split_dataset_by_node`. Which rows share a pack
    then depends on the number of workers and processes; the rows themselves do not.

    Args:
        dataset (`datasets.IterableDataset`): rows with `messages` and `images`.
        processor (`ProcessorMixin`): processor of the model.
        pack_length (`int`): most tokens of a pack; longer rows are left out and counted.
        chat_template (`str`, *optional*): template in place of the processor's own.
        buffer (`int`, *optional*, defaults to 256): rows that wait for a pack at most.
        max_bad_rows (`int`, *optional*): most rows that one worker may leave out.

    Attributes:
        bad_rows ([`BadRows`]): rows that this copy of the stream left out.
    """

    def __init__(
        self,
        dataset,
        processor,
        pack_length: int,
        *,
        chat_template: str | None = None,
        buffer: int = 256,
        max_bad_rows: int | None = None,
    ):
        require_messages(dataset)
        self.dataset = dataset
        self.processor = processor
        self.pack_length = pack_length
        self.chat_template = chat_template
        self.buffer = buffer
        self.bad_rows = BadRows(max_bad_rows)

    def set_epoch(self, epoch: int) -> None:
        """Passed on to the dataset, whose shuffling follows it."""
        self.dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        rows = with_length(
            self.dataset,
            self.processor,
            max_length=self.pack_length,
            chat_template=self.chat_template,
            on_failure=lambda failure: self.bad_rows.add([failure]),
        )
        return stream_packs(rows, self.pack_length, buffer=self.buffer)
