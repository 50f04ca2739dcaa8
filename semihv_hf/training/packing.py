"""Packs: rows that share one sequence of a fixed budget, chosen by their lengths alone, nothing cut."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semihv_hf.errors import SemiHVError

# Rows that are looked at together: enough that packs are full, few enough that packs of one epoch mix well.
WINDOW = 4096


@dataclass
class LengthSplit:
    """Rows by whether they fit.

    Args:
        kept (`list[int]`): numbers of the rows that fit, in their order.
        too_long (`list[int]`): numbers of the rows longer than the limit.
        unmeasured (`list[int]`): numbers of the rows without a length.
        limit (`int` or `None`): the limit in tokens, `None` for none.
    """

    kept: list[int]
    too_long: list[int]
    unmeasured: list[int]
    limit: int | None

    def __str__(self) -> str:
        parts = [f"{len(self.kept):,} rows kept"]
        if self.limit is not None:
            parts.append(f"{len(self.too_long):,} longer than {self.limit:,} tokens left out")
        if self.unmeasured:
            parts.append(f"{len(self.unmeasured):,} could not be measured")
        return ", ".join(parts)


def split_by_length(lengths: Sequence[int | None], limit: int | None, too_long: str = "drop") -> LengthSplit:
    """
    Separates the rows that fit from those that do not: an image token is never cut, so a long row goes as a whole.

    Args:
        lengths (`Sequence[int | None]`): tokens of each row, `None` where a row could not be measured.
        limit (`int`, *optional*): most tokens of a row.
        too_long (`str`, *optional*, defaults to `"drop"`): `drop` counts the rows, `refuse` raises.

    Returns:
        [`LengthSplit`]

    Raises:
        `SemiHVError`: if a row is too long and `too_long` is `refuse`, or if no row is left.
    """
    if too_long not in ("drop", "refuse"):
        raise SemiHVError(
            f"Rows that are too long can be dropped or refused, not {too_long!r}.", "Use drop or refuse."
        )
    split = LengthSplit([], [], [], limit)
    for row, length in enumerate(lengths):
        if length is None:
            split.unmeasured.append(row)
        elif limit is not None and length > limit:
            split.too_long.append(row)
        else:
            split.kept.append(row)
    if split.too_long and too_long == "refuse":
        row = split.too_long[0]
        raise SemiHVError(
            f"{len(split.too_long)} of {len(lengths)} rows are longer than {limit} tokens, first row {row} with "
            f"{lengths[row]}.",
            "Raise max_length, or drop the rows.",
        )
    if not split.kept:
        raise SemiHVError(f"No row is left to train on: {split}.", "Raise max_length, or look at the failures.")
    return split


def plan_packs(
    lengths: Sequence[int], pack_length: int, seed: int, *, rows: Sequence[int] | None = None, window: int = WINDOW
) -> list[list[int]]:
    """
    Distributes rows over packs by best fit, longest first, within windows of shuffled rows.

    The plan follows from the arguments alone. Every row is in exactly one pack; packs are shuffled.

    Args:
        lengths (`Sequence[int]`): tokens of each row of the dataset.
        pack_length (`int`): most tokens of a pack.
        seed (`int` or `Sequence[int]`): seed of the order, e.g. `[seed, epoch]`.
        rows (`Sequence[int]`, *optional*): numbers of the rows to pack; all by default.
        window (`int`, *optional*, defaults to 4096): rows that are packed together.

    Returns:
        `list[list[int]]`: row numbers of each pack.

    Raises:
        `SemiHVError`: if a row is longer than a pack or has no length, see [`split_by_length`].

    Example:

    ```python
    >>> sorted(sorted(pack) for pack in plan_packs([60, 50, 40, 30, 20], 100, seed=0))
    [[0, 2], [1, 3, 4]]
    ```
    """
    rows = np.arange(len(lengths)) if rows is None else np.asarray(rows, dtype=np.int64)
    for row in rows:
        if lengths[row] is None or lengths[row] > pack_length:
            raise SemiHVError(
                f"Row {row} has {lengths[row]} tokens and does not fit into a pack of {pack_length}.",
                "Leave it out with split_by_length, or raise pack_length.",
            )
    generator = np.random.default_rng(seed)
    rows = generator.permutation(rows).tolist()
    packs: list[list[int]] = []
    for start in range(0, len(rows), window):
        packs += _best_fit(rows[start : start + window], lengths, pack_length)
    return [packs[index] for index in generator.permutation(len(packs))]


def _best_fit(rows: list[int], lengths: Sequence[int], pack_length: int) -> list[list[int]]:
    """Each row, longest first, goes into the fullest pack that it still fits into."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, pack), sorted
    for row in sorted(rows, key=lambda row: -lengths[row]):
        place = bisect_left(room, (lengths[row], -1))
        if place == len(room):
            free, pack = pack_length, len(packs)
            packs.append([])
        else:
            free, pack = room.pop(place)
        packs[pack].append(row)
        insort(room, (free - lengths[row], pack))
    return packs


def fill_share(packs: Sequence[Sequence[int]], lengths: Sequence[int], pack_length: int) -> float:
    """Share of the packs' budget that rows take: 1.0 if every pack is full to the last token."""
    used = sum(lengths[row] for pack in packs for row in pack)
    return used / (len(packs) * pack_length) if packs else 1.0


def stream_packs(
    rows: Iterable[dict[str, Any]], pack_length: int, *, length_column: str = "length", buffer: int = 256
) -> Iterator[list[dict[str, Any]]]:
    """
    Packs a stream: of the rows waiting in a small buffer, the longest that still fits is taken next.

    Args:
        rows (`Iterable[dict]`): rows with their length, see [`~semihv_hf.training.lengths.with_length`].
        pack_length (`int`): most tokens of a pack.
        length_column (`str`, *optional*, defaults to `"length"`): name of the column with the length.
        buffer (`int`, *optional*, defaults to 256): rows that wait at most.

    Yields:
        `list[dict]`: the rows of a pack, an example of [`~semihv_hf.training.collation.VisionCollator`].

    Raises:
        `SemiHVError`: if a row is longer than a pack.
    """
    waiting: list[tuple[int, int]] = []  # (length, number), sorted
    held: dict[int, dict[str, Any]] = {}

    def take() -> list[dict[str, Any]]:
        # The oldest row opens the pack, so that none waits forever.
        oldest = next(iter(held))
        free, chosen = pack_length, [oldest]
        place = bisect_left(waiting, (held[oldest][length_column], oldest))
        free -= waiting.pop(place)[0]
        while (place := bisect_left(waiting, (free + 1, -1))) > 0:
            length, number = waiting.pop(place - 1)
            free -= length
            chosen.append(number)
        return [held.pop(number) for number in chosen]

    for number, row in enumerate(rows):
        length = row[length_column]
        if length > pack_length:
            raise SemiHVError(
                f"A row of the stream has {length} tokens and does not fit into a pack of {pack_length}.",
                "Give with_length a max_length, or raise pack_length.",
            )
        insort(waiting, (length, number))
        held[number] = row
        if len(held) >= buffer:
            yield take()
    while held:
        yield take()
