"""Rows that cannot be trained on: counted, each once, by all processes together, and no more of them than a limit."""

from __future__ import annotations

from collections import Counter

import torch
from transformers import TrainerCallback

from semihv_hf.errors import SemiHVError

from .lengths import RowFailure
from .preemption import any_rank


class BadRows:
    """
    Counts the rows that had to be left out, each once, and stops a run that leaves out too many.

    Args:
        limit (`int`, *optional*): most rows; `None` for no limit.
        long_rows (`str`, *optional*):
            what becomes of rows that are only too long. `drop` counts them by themselves, in `too_long`, and without a
            limit; `refuse` stops at the first; by default they count as others do.
    """

    def __init__(self, limit: int | None = None, long_rows: str | None = None):
        self.limit = limit
        self.long_rows = long_rows
        self.reasons: dict[str, str] = {}
        self.too_long: dict[str, str] = {}
        self._untold: list[RowFailure] = []

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, failures: list[RowFailure]) -> None:
        """
        Counts the rows of a batch; a row that comes again in a later epoch counts once.

        Raises:
            `SemiHVError`: when more rows than the limit were left out, naming the last, or a long one is refused.
        """
        for failure in failures:
            if failure.id not in self.reasons and failure.id not in self.too_long:
                self._untold.append(failure)
            if failure.too_long and self.long_rows == "drop":
                self.too_long[failure.id] = failure.reason
                continue
            if failure.too_long and self.long_rows == "refuse":
                raise SemiHVError(
                    f"Row {failure.id}: {failure.reason}.", "Raise max_length, or set long_rows to drop."
                )
            self.reasons[failure.id] = failure.reason
            if self.limit is not None and len(self.reasons) > self.limit:
                raise SemiHVError(
                    f"{len(self.reasons)} rows cannot be used, more than max_bad_rows ({self.limit}): last {failure}.",
                    "Mend the data, or raise max_bad_rows.",
                )

    def by_reason(self) -> dict[str, int]:
        """Number of rows by the kind of failure, the most frequent first."""
        return dict(Counter(reason.split(":")[0] for reason in self.reasons.values()).most_common())

    def share(self, device: torch.device | str = "cpu") -> None:
        """
        Brings together what the processes have left out since they shared last; a row that several of them left out
        counts once, and the limit is that of all. All processes must call it together.

        Args:
            device (`torch.device`, *optional*, defaults to `"cpu"`): where the process group's tensors live.

        Raises:
            `SemiHVError`: on all processes, see [`add`].
        """
        untold, self._untold = self._untold, []
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        if alone or not any_rank(bool(untold), device):
            return
        everyone: list = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, untold)
        self.add([failure for told in everyone for failure in told])
        self._untold = []

    def state_dict(self) -> dict[str, dict[str, str]]:
        """What a resumed run needs to have the counts of one that was not interrupted."""
        return {"reasons": dict(self.reasons), "too_long": dict(self.too_long)}

    def load_state_dict(self, state: dict[str, dict[str, str]]) -> None:
        """Adds what [`state_dict`] gave when the checkpoint was written."""
        self.reasons |= state["reasons"]
        self.too_long |= state["too_long"]


class SharedBadRows(TrainerCallback):
    """
    Brings the rows that the processes left out together after every step; they are kept with checkpoints.

    Args:
        bad_rows ([`BadRows`]): of this process.
    """

    def __init__(self, bad_rows: BadRows):
        self.bad_rows = bad_rows
        self.state_dict, self.load_state_dict = bad_rows.state_dict, bad_rows.load_state_dict

    def on_step_end(self, args, state, control, **kwargs):
        self.bad_rows.share(args.device)
