"""Stops a run whose loss is no number or has jumped, and says which rows were in the batch.

```python
>>> from semihv_hf.training.spike_guard import RowIdCollator, SpikeGuard

>>> trainer = Trainer(..., data_collator=RowIdCollator(collator), callbacks=[SpikeGuard()])
```
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json

# The keys of a batch that tell its rows: names alone, or a collator's report with names in it. The guard takes both
# out before the model sees the batch.
ROW_IDS, REPORT = "row_ids", "report"


class TrainingSpike(SemiHVError):
    """The loss is no number or has jumped; `report` holds what was written to the file."""

    def __init__(self, what: str, do: str, report: dict):
        super().__init__(what, do)
        self.report = report


class RowIdCollator:
    """
    Adds the names of a batch's rows to what another collator returns, as `row_ids`.

    For collators that make no report of their own, as [`~semihv_hf.training.collation.VisionCollator`] does. Needs a
    trainer with [`SpikeGuard`], and `remove_unused_columns=False`, else the column is gone.

    Args:
        collator (`Callable`): makes the batch.
        column (`str`, *optional*, defaults to `"id"`): column with the names.
    """

    def __init__(self, collator, column: str = "id"):
        self.collator = collator
        self.column = column

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        names = [str(example.get(self.column, "")) for example in examples]
        batch = self.collator(examples)
        batch.setdefault(ROW_IDS, names)
        return batch


class SpikeGuard(TrainerCallback):
    """
    Raises [`TrainingSpike`] before the optimizer uses a step's gradients, so that the weights are still good.

    A step is refused if a loss or a gradient is NaN or infinite, or if the step's loss exceeds `factor` times the
    median of the last `window` steps and lies at least `rise` above it. (A gradient that a loss scaler of float16 made
    infinite is the scaler's to mend.) DeepSpeed steps within its own backward pass:
    there the weights are those after the step, so go on from the last checkpoint. In a distributed run all processes
    stop at the same step.

    Args:
        factor (`float`, *optional*, defaults to 3.0): how many medians are a jump.
        rise (`float`, *optional*, defaults to 1.0): smallest distance to the median that is a jump.
        window (`int`, *optional*, defaults to 64): steps whose median counts.
        minimum (`int`, *optional*, defaults to 16): steps to see before a jump can be told.
        path (`str`, *optional*): file of the report; `spike.json` in the output folder by default.
    """

    def __init__(
        self,
        factor: float = 3.0,
        rise: float = 1.0,
        window: int = 64,
        minimum: int = 16,
        path: str | None = None,
    ):
        self.factor = factor
        self.rise = rise
        self.minimum = minimum
        self.path = path
        self._losses: deque[float] = deque(maxlen=window)
        self._batches: list[dict[str, Any]] = []
        self._hooks: list = []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.detach()
        self._losses.clear()
        self._hooks = [
            # Before other hooks, such as the counting of tokens, which know nothing of these keys.
            model.register_forward_pre_hook(self._take_rows, with_kwargs=True, prepend=True),
            model.register_forward_hook(self._take_loss, with_kwargs=True),
        ]

    def detach(self) -> None:
        """Stops looking at the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._batches = [], []

    def _take_rows(self, module, args, kwargs):
        rows, report = kwargs.pop(ROW_IDS, None), kwargs.pop(REPORT, None)
        if rows is None and report is not None:
            rows = report.row_ids
        if module.training and torch.is_grad_enabled():
            rows = rows.tolist() if isinstance(rows, torch.Tensor) else list(rows or [])
            self._batches.append({"rows": rows, "loss": None})
        return args, kwargs

    def _take_loss(self, module, args, kwargs, output):
        if module.training and torch.is_grad_enabled() and self._batches:
            self._batches[-1]["sums"] = _loss_sums(output, kwargs)

    def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
        batches, self._batches = self._batches, []
        totals, counts = 0.0, 0.0
        for batch in batches:
            sums = batch.pop("sums", None)
            if sums is None:
                continue
            total, count = float(sums[0]), max(float(sums[1]), 1.0)
            batch["loss"] = total / count
            totals, counts = totals + total, counts + count
        loss = totals / counts if counts else None
        # In float16 a gradient overflows now and then: the scaler skips the step and lowers its scale.
        scaled = getattr(optimizer, "scaler", None) is not None
        reason = self._reason(loss, model, scaled)
        if _any_process(reason is not None, args.device):
            self._stop(args, state, batches, loss, reason)
        if loss is not None:
            self._losses.append(loss)

    def on_train_end(self, args, state, control, **kwargs):
        self.detach()

    def _reason(self, loss: float | None, model, scaled: bool) -> str | None:
        if loss is not None and not math.isfinite(loss):
            return f"the loss is {loss}"
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if gradients and not scaled and not _finite(gradients):
            return "a gradient is NaN or infinite"
        if loss is None or len(self._losses) < self.minimum:
            return None
        median = statistics.median(self._losses)
        if loss > self.factor * median and loss - median > self.rise:
            return f"the loss is {loss:.4g}, after a median of {median:.4g} over {len(self._losses)} steps"
        return None

    def _stop(self, args, state, batches: list[dict], loss: float | None, reason: str | None) -> None:
        own = {"process": args.process_index, "reason": reason, "loss": _json_number(loss)}
        own["batches"] = [{"rows": batch["rows"], "loss": _json_number(batch["loss"])} for batch in batches]
        processes = _gather(own)
        first = next(entry for entry in processes if entry["reason"])
        path = Path(self.path or Path(args.output_dir) / "spike.json")
        report = {
            "step": state.global_step + 1,
            "reason": first["reason"],
            "median": statistics.median(self._losses) if self._losses else None,
            "processes": processes,
        }
        if args.process_index == 0:
            write_json(path, report)
        rows = [row for batch in first["batches"] for row in batch["rows"]]
        self.detach()
        raise TrainingSpike(
            f"Step {state.global_step + 1}: {first['reason']}; the batch held the rows "
            f"{', '.join(map(str, rows[:8])) or '(without ids)'}{' ...' if len(rows) > 8 else ''}.",
            f"All rows of the step are in {path}. Look at them, leave out bad ones or lower the learning rate, and "
            "resume from the last checkpoint.",
            report,
        )


def _loss_sums(output, inputs) -> tuple[torch.Tensor, torch.Tensor | int] | None:
    """Sum of a micro-batch's loss over its labels, and their number: losses arrive as means or as parts of a mean."""
    log_probs, mask = getattr(output, "log_probs", None), getattr(output, "label_mask", None)
    if log_probs is not None and mask is not None:
        return -log_probs.detach().float().sum(), mask.sum()
    loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if loss is None:
        return None
    loss, labels, items = loss.detach().float().mean(), inputs.get("labels"), inputs.get("num_items_in_batch")
    if labels is None:
        return loss, 1
    count = (labels[..., 1:] != -100).sum()
    # Told how many labels the whole step has, a model gives its part of the step's mean.
    return (loss * count, count) if items is None else (loss * items, count)


def _finite(gradients: list[torch.Tensor]) -> bool:
    norm = torch.nn.utils.get_total_norm(gradients)
    return math.isfinite(float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm))


def _json_number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _any_process(flag: bool, device: torch.device) -> bool:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return flag
    together = torch.tensor([float(flag)], device=device)
    torch.distributed.all_reduce(together, op=torch.distributed.ReduceOp.MAX)
    return bool(together.item())


def _gather(own: dict) -> list[dict]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    entries: list = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(entries, own)
    return entries
