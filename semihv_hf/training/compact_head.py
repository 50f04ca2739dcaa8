"""The language modelling head of TRL's loss, scored only where a label is, on devices without Triton.

TRL scores every position of a batch there to keep tile shapes constant. With short answers nine positions in ten carry
no label, and on a CPU the head then costs as much as the decoder layers together.
"""

from __future__ import annotations

import functools
import types

import torch
from torch import nn
from trl.trainer.utils import FusedCausalLMOutput


def score_labelled_positions(model: nn.Module) -> None:
    """
    Replaces the fused forward that TRL put on a model by one that scores labelled positions only.

    Loss, gradients and metrics equal TRL's. Call it after the trainer was made; without `fused_lm_head=True` the
    forward is the one that was there before.

    Args:
        model (`nn.Module`): a causal or image-text model with `base_model` and `get_output_embeddings()`.
    """
    previous = model.forward

    # Keeps the original signature: `generate` validates its arguments against it.
    @functools.wraps(type(model).forward)
    def forward(self, *args, fused_lm_head=False, labels=None, **kwargs):
        if not fused_lm_head or labels is None:
            if labels is not None:
                kwargs["labels"] = labels
            return previous(*args, fused_lm_head=fused_lm_head, **kwargs)
        kwargs.pop("num_items_in_batch", None)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        targets = labels[:, 1:].to(hidden.device)
        return _score(hidden, targets, self.get_output_embeddings())

    model.forward = types.MethodType(forward, model)


def _score(hidden: torch.Tensor, targets: torch.Tensor, head: nn.Module) -> FusedCausalLMOutput:
    mask = targets != -100
    chosen = targets[mask]
    logits = head(hidden[mask].to(head.weight.dtype)).float()
    scores = logits.log_softmax(dim=-1)

    def spread(values: torch.Tensor) -> torch.Tensor:
        # Connected to the model even when no position has a label, so that such a batch can still run backward.
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    log_probs = scores.gather(1, chosen[:, None]).squeeze(1)
    detached = scores.detach()
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / mask.sum().clamp(min=1),
        log_probs=spread(log_probs),
        entropy=spread(-(detached.exp() * detached).sum(dim=-1)),
        is_top1=spread(detached.argmax(dim=-1) == chosen),
        label_mask=mask,
    )
