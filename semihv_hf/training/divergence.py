"""How a run ends whose numbers are no numbers: with one line, its log kept, and no weights that nobody could use."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json

from .checkpoints import complete_before
from .parameters import whole_tensor

RECORD = "diverged.json"


def not_finite(model: nn.Module) -> list[str]:
    """
    Names of the trained parameters that hold NaN or infinity; where they are sharded, all processes must ask.

    Args:
        model (`nn.Module`): the model after training.

    Returns:
        `list[str]`: in the model's order.
    """
    lost = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with whole_tensor(parameter) as tensor:
                if not torch.isfinite(tensor).all():
                    lost.append(name)
    return lost


def refuse_diverged(trainer, record: dict) -> None:
    """
    Ends a run whose weights or last loss are no numbers before anything is written that looks like a checkpoint.

    If both are sound, such as where a step with an infinite gradient was skipped, numbers that are missing from the
    log are only told of. All processes must call it.

    Args:
        trainer (`transformers.Trainer`): after training.
        record (`dict`): with the log, see [`~semihv_hf.training.stage_record.log_record`].

    Raises:
        `SemiHVError`: naming the first step that went wrong; the record is kept as `diverged.json`.
    """
    missing = record.get("log_not_finite", {})
    lost = not_finite(trainer.model)
    folder = Path(trainer.args.output_dir)
    # Weights may be finite and of no use: DeepSpeed takes no step whose gradient is infinite.
    if not lost and not (record["log"] and record["log"][-1]["loss"] is None):
        if trainer.is_world_process_zero():
            (folder / RECORD).unlink(missing_ok=True)  # of an earlier attempt
        if missing and trainer.is_world_process_zero():
            told = "; ".join(f"{key} (first in step {at['first_step']})" for key, at in missing.items())
            print(f"Numbers of the log that were NaN or infinite are null in the record: {told}.", flush=True)
        return
    if trainer.is_world_process_zero():
        write_json(folder / RECORD, record)
    first = min((at["first_step"] for at in missing.values()), default=trainer.state.global_step)
    good = complete_before(folder, first)
    what = (
        f"{len(lost)} trained tensors hold NaN or infinity, e.g. {lost[0]}" if lost else "the last loss is no number"
    )
    raise SemiHVError(
        f"The run has diverged: {what}; first in the log without a number is step {first}.",
        f"No weights are written, the log is in {folder / RECORD}. Lower the learning rate, leave spike_guard on, and "
        + (f"go on with `resume: {good}`." if good is not None else "start anew in another output_dir."),
    )
