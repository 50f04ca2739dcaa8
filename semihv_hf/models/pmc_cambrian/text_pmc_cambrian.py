# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""The language model of PMC-Cambrian: a Llama decoder with samplers between its layers."""

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_pmc_cambrian import PMCCambrianSvaConfig
from .sva_pmc_cambrian import PMCCambrianSvaLayer
from .sva_pmc_cambrian import VisionContext
from .sva_pmc_cambrian import init_sva_layer


class PMCCambrianTextModel(LlamaModel):
    """A Llama decoder that lets the hidden states of image tokens look at the vision towers after chosen layers."""

    def __init__(self, config, sva_config: PMCCambrianSvaConfig):
        super().__init__(config)
        self.sampler_layers = tuple(sva_config.sampler_layers)
        self.sampler_initializer_range = sva_config.initializer_range
        self.vision_samplers = nn.ModuleList(
            [PMCCambrianSvaLayer(sva_config, config.hidden_size, sva_config.query_side) for _ in self.sampler_layers]
        )

    @torch.no_grad()
    def _init_weights(self, module):
        # The library asks the text model, not the one around it, for everything inside the text model.
        super()._init_weights(module)
        if isinstance(module, PMCCambrianSvaLayer):
            init_sva_layer(module, self.sampler_initializer_range)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        image_rows: torch.LongTensor | None = None,
        vision: VisionContext | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        r"""
        Args:
            image_rows (`torch.LongTensor` of shape `(rows,)`, *optional*):
                positions in the flattened `(batch * length)` sequence that the samplers update.
            vision (`VisionContext`, *optional*): what these rows look at, in the same order.
        """
        if (input_ids is None) ^ (inputs_embeds is not None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen).unsqueeze(0)

        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        hidden_states = inputs_embeds
        position_embeddings = self.rotary_emb(hidden_states, position_ids=position_ids)
        samplers = dict(zip(self.sampler_layers, self.vision_samplers)) if vision is not None else {}
        for index, decoder_layer in enumerate(self.layers[: self.config.num_hidden_layers]):
            hidden_states = decoder_layer(
                hidden_states,
                attention_mask=causal_mask,
                position_embeddings=position_embeddings,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                **kwargs,
            )
            if index in samplers:
                hidden_states = self._sample(samplers[index], hidden_states, image_rows, vision)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values)

    def _sample(self, sampler, hidden_states, image_rows, vision):
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        rows = image_rows.to(flat.device)
        context = VisionContext(
            vision.keys.to(flat.device, flat.dtype),
            vision.context.to(flat.device, flat.dtype),
            vision.mask.to(flat.device),
        )
        updated = sampler(flat[rows], context).to(flat.dtype)
        # Out of place: gradient checkpointing and autograd still need the old rows.
        return flat.index_copy(0, rows, updated).view_as(hidden_states)
