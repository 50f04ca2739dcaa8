# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""What the parts of PMC-Cambrian return."""

from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_outputs import ModelOutput


@dataclass
class PMCCambrianVisionOutput(BaseModelOutputWithPooling):
    r"""
    What [`PMCCambrianModel.get_image_features`] returns.

    Args:
        pooler_output (`list[torch.Tensor]`):
            for each image `(tokens, hidden_size)`: image tokens in placeholder order, newline tokens included.
        deepstack_features (`list[list[torch.Tensor]]`):
            what the samplers inside the language model need, one row for each image token: for each image
            `(tokens, num_keys * sva_hidden_size)` keys, `(tokens, sva_hidden_size)` global context and
            `(tokens, num_keys)` boolean mask. `generate` expands and slices the three lists like `pooler_output`.
    """

    deepstack_features: list | None = None


@dataclass
class PMCCambrianModelOutputWithPast(BaseModelOutputWithPast):
    r"""
    Args:
        image_hidden_states (`list[torch.Tensor]`, *optional*): image tokens of each image, `(tokens, hidden_size)`.
    """

    image_hidden_states: list | None = None


@dataclass
class PMCCambrianCausalLMOutputWithPast(ModelOutput):
    r"""
    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): next-token loss, returned when `labels` is given.
        logits (`torch.Tensor` of shape `(batch, length, vocab_size)`): scores before the softmax.
        past_key_values (`Cache`, *optional*): keys and values of the self-attention.
        hidden_states (`tuple[torch.Tensor]`, *optional*): hidden states of the decoder layers.
        attentions (`tuple[torch.Tensor]`, *optional*): attention weights of the decoder layers.
        image_hidden_states (`list[torch.Tensor]`, *optional*): image tokens of each image, `(tokens, hidden_size)`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None
    image_hidden_states: list | None = None
