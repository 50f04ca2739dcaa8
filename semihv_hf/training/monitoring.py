"""What a run does, in its log history: tokens and images a second, padding, norms and rates by group, memory, waiting.

```python
>>> from semihv_hf.training.monitoring import ThroughputCallback

>>> ThroughputCallback().attach(trainer)  # any transformers Trainer; or Trainer(callbacks=[ThroughputCallback()])
>>> trainer.train()
>>> trainer.state.log_history[-1]["tokens_per_second"]
```
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from semihv_hf.errors import SemiHVError, first_line

NO_DECAY = " (no decay)"
_WANDB = "Run `wandb login`, set WANDB_API_KEY, or log to the disk with WANDB_MODE=offline."

# The first of these that a batch has tells its images, one row for each.
IMAGE_KEYS = ("image_sizes", "image_grid_thw", "pixel_values")


def count_tokens(batch: Mapping[str, Any], pad_token_id: int | None = None) -> tuple[torch.Tensor | int, int]:
    """
    Tokens of a batch that belong to a row, and tokens that are computed.

    Args:
        batch (`Mapping`): what the model is called with.
        pad_token_id (`int`, *optional*): padding of a packed batch, which has no attention mask.

    Returns:
        `tuple[torch.Tensor or int, int]`: real and computed tokens; the first stays on its device, so that counting
        does not wait for the device.
    """
    ids = batch.get("input_ids")
    if ids is None:
        embeds = batch.get("inputs_embeds")
        computed = 0 if embeds is None else embeds.shape[0] * embeds.shape[1]
        return computed, computed
    mask = batch.get("attention_mask")
    if mask is not None and mask.shape == ids.shape:
        return (mask != 0).sum(), ids.numel()
    if pad_token_id is None:
        return ids.numel(), ids.numel()
    # Padding stands at the end of a pack: an end-of-turn token with the pad token's id, further ahead, is no padding.
    kept = (ids != pad_token_id).flip(-1).cumsum(-1) > 0
    return kept.sum(), ids.numel()


def count_images(batch: Mapping[str, Any]) -> int:
    """Images of a batch: rows of `image_sizes`, `image_grid_thw` or `pixel_values`, whichever there is."""
    values = next((batch[key] for key in IMAGE_KEYS if batch.get(key) is not None), None)
    return 0 if values is None else len(values)


class ThroughputCallback(TrainerCallback):
    """
    Adds to every entry of the training log:

    | key | meaning |
    |---|---|
    | `tokens_per_second`, `images_per_second` | of all processes together; padding not counted |
    | `real_token_share` | tokens of rows among computed tokens |
    | `num_tokens` | tokens of rows since the start, of all processes |
    | `grad_norm/<group>` | of the step that is logged, as the optimizer meets it: after clipping |
    | `learning_rate/<group>` | of the same step |
    | `memory_gib` | largest so far: on the GPU where there is one, else of the process |
    | `data_wait_share` | part of the training time spent waiting for batches |

    Time of evaluation and saving is not training time. Groups are the optimizer's, by `group_name` where they have one
    (see [`~semihv_hf.training.parameters.optimizer_groups`]). A group without a gradient has no norm, and what cannot
    be had is absent, see [`not_logged`], never 0.

    Args:
        count (`Callable`, *optional*, defaults to [`count_tokens`]): `(batch, pad_token_id) -> (real, computed)`.
    """

    def __init__(self, count: Callable[[Mapping, int | None], tuple[Any, int]] = count_tokens):
        self.count = count
        self._hook = None
        self._pad_token_id = None
        self._report = None
        self._tokens = 0
        self._reset()
        self._mark: float | None = None
        self._begun: float | None = None
        self._groups: dict[str, float] = {}

    def attach(self, trainer) -> ThroughputCallback:
        """Puts this callback before all others of a trainer, so that its numbers reach trackers and printers, too."""
        trainer.add_callback(self)
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))
        return self

    def _reset(self) -> None:
        self._real, self._computed, self._images = 0, 0, 0
        self._training_seconds, self._waiting_seconds = 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to log the numbers of one that was not interrupted."""
        sums = [float(self._real), self._computed, self._images, self._training_seconds, self._waiting_seconds]
        return {"tokens": self._tokens, "sums": sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what [`state_dict`] gave when the checkpoint was written."""
        self._tokens = state["tokens"]
        self._real, self._computed, self._images, self._training_seconds, self._waiting_seconds = state["sums"]

    def tell(self, report) -> None:
        """
        Says what the next batch holds, where the batch itself no longer does.

        Args:
            report ([`~semihv_hf.training.collation.BatchReport`]): its `real_tokens` and `images` are counted in place
                of what the inputs of the model look like.
        """
        self._report = report

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **kwargs):
        self.detach()
        self._reset()
        self._tokens = 0
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        self._pad_token_id = getattr(tokenizer, "pad_token_id", None)
        for key, reason in not_logged(args).items():
            if state.is_world_process_zero:
                print(f"{key} is not logged: {reason}.", flush=True)
        self._hook = model.register_forward_pre_hook(self._see, with_kwargs=True)
        self._mark = time.monotonic()

    def _see(self, module, args, kwargs):
        # The model takes no report of a collator; a spike guard, where there is one, has taken it already.
        report, self._report = kwargs.pop("report", self._report), None
        # Without gradient a forward is an evaluation or a reference model's.
        if not (module.training and torch.is_grad_enabled()):
            return args, kwargs
        real, computed = self.count(kwargs, self._pad_token_id)
        images = count_images(kwargs)
        if report is not None:
            real, images = report.real_tokens, report.images
        self._real = self._real + real
        self._computed += computed
        self._images += images
        return args, kwargs

    def detach(self) -> None:
        """Stops looking at the model; training again begins anew."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_step_begin(self, args, state, control, **kwargs):
        self._begun = time.monotonic()
        self._waiting_seconds += self._begun - self._mark
        self._training_seconds += self._begun - self._mark

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        if optimizer is not None and self._is_logged(state, args):
            self._groups = group_statistics(optimizer)

    @staticmethod
    def _is_logged(state, args) -> bool:
        step = state.global_step + 1
        every = max(int(state.logging_steps or args.logging_steps), 1)
        return step % every == 0 or (step == 1 and args.logging_first_step)

    def on_step_end(self, args, state, control, **kwargs):
        self._mark = time.monotonic()
        self._training_seconds += self._mark - self._begun

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is not None and "loss" in logs and self._computed:
            numbers = self._numbers(args)
            logs.update(numbers)
            if state.log_history:
                state.log_history[-1].update(numbers)
            self._reset()
        self._mark = time.monotonic()

    def on_evaluate(self, args, state, control, **kwargs):
        self._mark = time.monotonic()

    def on_save(self, args, state, control, **kwargs):
        self._mark = time.monotonic()

    def on_train_end(self, args, state, control, **kwargs):
        self.detach()

    def _numbers(self, args) -> dict[str, float]:
        sums = [float(self._real), float(self._computed), float(self._images)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            together = torch.tensor(sums, dtype=torch.float64, device=args.device)
            torch.distributed.all_reduce(together)
            sums = together.tolist()
        real, computed, images = sums
        seconds = max(self._training_seconds, 1e-9)
        self._tokens += int(real)
        return {
            "num_tokens": self._tokens,
            "tokens_per_second": real / seconds,
            "images_per_second": images / seconds,
            "real_token_share": real / computed,
            "data_wait_share": self._waiting_seconds / seconds,
            "memory_gib": peak_memory_gib(args.device),
            **self._groups,
        }


def not_logged(config) -> dict[str, str]:
    """
    Numbers that a run cannot log.

    Args:
        config (`transformers.TrainingArguments`): the run's.

    Returns:
        `dict[str, str]`: key of the log to the reason, for the run's record.
    """
    if config.deepspeed_plugin is None:
        return {}
    return {
        "grad_norm/<group>": "DeepSpeed takes its step within the backward pass and hands no gradients out; grad_norm "
        "is that of all groups together"
    }


def group_statistics(optimizer) -> dict[str, float]:
    """
    Gradient norm and learning rate of every group of an optimizer, groups that differ in weight decay only together.

    Args:
        optimizer (`torch.optim.Optimizer`): or a wrapper with `param_groups`.

    Returns:
        `dict[str, float]`: `grad_norm/<group>` where the group has gradients, and `learning_rate/<group>`.
    """
    gradients: dict[str, list[torch.Tensor]] = {}
    numbers: dict[str, float] = {}
    for index, group in enumerate(optimizer.param_groups):
        name = str(group.get("group_name", f"group_{index}")).removesuffix(NO_DECAY)
        numbers[f"learning_rate/{name}"] = float(group["lr"])
        gradients.setdefault(name, []).extend(p.grad for p in group["params"] if p.grad is not None)
    for name, tensors in gradients.items():
        if tensors:
            norm = torch.nn.utils.get_total_norm(tensors)
            # A sharded norm is that of one process until it is put together.
            numbers[f"grad_norm/{name}"] = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    return numbers


def check_trackers(report_to: list[str]) -> None:
    """
    Refuses to report to a tracker that is not installed or cannot be reached, before anything is loaded.

    Args:
        report_to (`list[str]`): names as in `TrainingArguments.report_to`.

    Raises:
        `SemiHVError`
    """
    from importlib.util import find_spec

    for name in ("trackio", "wandb", "mlflow", "swanlab"):
        if name in report_to and find_spec(name) is None:
            raise SemiHVError(f"report_to names {name}, which is not installed.", f"Run `pip install {name}`.")
    if "tensorboard" in report_to and find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise SemiHVError("report_to names tensorboard, which is not installed.", "Run `pip install tensorboard`.")
    if "wandb" in report_to and os.environ.get("WANDB_MODE", "online") not in ("offline", "disabled", "dryrun"):
        import wandb

        # A process without a terminal would end at its first log entry, in a traceback.
        try:
            known = wandb.login(prompt=False)
        except wandb.errors.Error as error:
            raise SemiHVError(f"report_to names wandb, which refuses: {first_line(error)}.", _WANDB) from error
        if not known:
            raise SemiHVError("report_to names wandb, but there is no API key.", _WANDB)


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory so far: allocated on the GPU if `device` is one, else resident in this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    from .stage_record import peak_rss_gib

    return peak_rss_gib()
