# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""PMC-Cambrian: vision towers, spatial vision aggregator and a Llama text model with samplers between its layers.

Architecture: Cambrian-1 (arXiv 2406.16860), which PMC-Cambrian (arXiv 2410.14948) keeps unchanged.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_utils import PreTrainedModel
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils import can_return_tuple
from transformers.utils import torch_compilable_check

from .configuration_pmc_cambrian import PMCCambrianConfig
from .convnext_pmc_cambrian import PMCCambrianConvNextLayer
from .convnext_pmc_cambrian import PMCCambrianConvNextTower
from .generation_pmc_cambrian import PMCCambrianGenerationMixin
from .legacy_pmc_cambrian import legacy_rows
from .legacy_pmc_cambrian import padded_slots
from .outputs_pmc_cambrian import PMCCambrianCausalLMOutputWithPast
from .outputs_pmc_cambrian import PMCCambrianModelOutputWithPast
from .outputs_pmc_cambrian import PMCCambrianVisionOutput
from .saving_pmc_cambrian import PMCCambrianSavingMixin
from .sva_pmc_cambrian import PMCCambrianConnector
from .sva_pmc_cambrian import PMCCambrianSvaLayer
from .sva_pmc_cambrian import VisionContext
from .sva_pmc_cambrian import init_linear
from .sva_pmc_cambrian import init_sva_layer
from .text_pmc_cambrian import PMCCambrianTextModel
from .towers_pmc_cambrian import PMCCambrianVisionTowers


class PMCCambrianPreTrainedModel(PMCCambrianSavingMixin, PreTrainedModel):
    config: PMCCambrianConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "LlamaDecoderLayer",
        "PMCCambrianConnector",
        "PMCCambrianSvaLayer",
        "PMCCambrianConvNextLayer",
    ]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The rows that the samplers read depend on the data.
    _can_compile_fullgraph = False
    _can_record_outputs = {"hidden_states": LlamaDecoderLayer, "attentions": LlamaAttention}

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """See [`~PreTrainedModel.from_pretrained`]; the towers come frozen if the configuration says so."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # Loading replaces the parameters that __init__ froze.
        model.base_model.freeze_towers()
        return loaded

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        sva, convnext = self.config.sva_config, self.config.convnext_config
        if isinstance(module, PMCCambrianConnector):
            # Their own shapes are empty where parameters are sharded while they load (ZeRO-3).
            init.normal_(module.query, mean=0.0, std=sva.hidden_size**-0.5)
            init.normal_(module.image_newline, mean=0.0, std=self.config.text_config.hidden_size**-0.5)
            init_linear(module, sva.initializer_range)
        elif isinstance(module, PMCCambrianSvaLayer):
            init_sva_layer(module, sva.initializer_range)
        elif isinstance(module, PMCCambrianConvNextTower):
            init_linear(module, convnext.initializer_range)
        elif isinstance(module, PMCCambrianConvNextLayer):
            init.constant_(module.layer_scale_parameter, convnext.layer_scale_init_value)

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: that tells `_init_weights` to leave out modules whose parameters all lie deeper, as most of ours do."""
        return False


class PMCCambrianModel(PMCCambrianPreTrainedModel):
    """Towers, connector and text model, without the language modelling head."""

    def __init__(self, config: PMCCambrianConfig):
        super().__init__(config)
        self.vision_towers = PMCCambrianVisionTowers(config)
        self.connector = PMCCambrianConnector(config.sva_config, config.text_config.hidden_size)
        self.language_model = PMCCambrianTextModel(config.text_config, config.sva_config)
        self.post_init()
        self.freeze_towers()

    def freeze_towers(self):
        """Takes the towers out of training if `config.freeze_vision_towers` is set, else the parts never read."""
        frozen = self.vision_towers if self.config.freeze_vision_towers else self.vision_towers.unread_parts()
        frozen.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Module):
        self.language_model.embed_tokens = value

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_vision_towers:
            self.vision_towers.eval()
        return self

    def embed_vision_features(
        self, features: list[torch.Tensor] | dict[str, torch.Tensor], image_sizes: torch.Tensor
    ) -> PMCCambrianVisionOutput:
        r"""
        From tower features to image tokens.

        Args:
            features (`list[torch.Tensor]` or `dict[str, torch.Tensor]`):
                one tensor for each tower of `config.sva_config.tower_names`, in that order or by name, each
                `(images, aux_side**2, tower_dim)`, row-major over the padded square.
            image_sizes (`torch.Tensor` of shape `(images, 2)`): `(height, width)` of the original images in pixels.

        Returns:
            [`PMCCambrianVisionOutput`]

        Raises:
            `ValueError`: if a tower is missing or a shape does not fit the configuration.
        """
        sva = self.config.sva_config
        if isinstance(features, dict):
            missing = [name for name in sva.tower_names if name not in features]
            if missing:
                raise ValueError(f"No features for the {', '.join(missing)} tower: given were {', '.join(features)}.")
            features = [features[name] for name in sva.tower_names]
        if len(features) != len(sva.tower_names):
            raise ValueError(f"{len(features)} feature tensors for {len(sva.tower_names)} towers.")
        sizes = [tuple(size) for size in torch.as_tensor(image_sizes).tolist()]
        for name, feature, side, dim in zip(sva.tower_names, features, sva.aux_sides, sva.tower_dims):
            if tuple(feature.shape) != (len(sizes), side * side, dim):
                raise ValueError(
                    f"Features of the {name} tower have shape {tuple(feature.shape)}, expected "
                    f"{(len(sizes), side * side, dim)}: (images, aux_side**2, tower_dim)."
                )
        weight = self.connector.query
        # Offloaded weights are on no device until their module is called; the call then moves its inputs by itself.
        device = None if weight.is_meta else weight.device
        features = [feature.to(device=device, dtype=weight.dtype) for feature in features]
        legacy = self.config.legacy_image_position is not None
        tokens, contexts = self.connector.per_image(
            *self.connector(features, sizes, whole_grid=legacy), sizes, whole_grid=legacy
        )
        deepstack_features = [
            [vision.keys.flatten(1) for vision in contexts],
            [vision.context for vision in contexts],
            [vision.mask for vision in contexts],
        ]
        if legacy:
            deepstack_features.append([padded_slots(*size, sva.query_side).to(tokens[0].device) for size in sizes])
        return PMCCambrianVisionOutput(pooler_output=tokens, deepstack_features=deepstack_features)

    def get_tower_features(self, pixels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        Runs the vision towers, without gradient where they are frozen.

        Args:
            pixels (`dict[str, torch.Tensor]`): tower name to `(images, 3, R, R)` normalised pixels.

        Returns:
            `dict[str, torch.Tensor]`: tower name to `(images, aux_side**2, tower_dim)`.

        Raises:
            `ValueError`: if the model has no such tower, or one of its towers gets no pixels, or NaN or infinite ones.
        """
        sva, features = self.config.sva_config, {}
        for name in sva.tower_names:
            if not hasattr(self.vision_towers, name):
                raise ValueError(f"This model has no {name} tower: pass features through embed_vision_features.")
            key = "pixel_values" if name == "siglip" else f"pixel_values_{name}"
            if pixels.get(name) is None:
                raise ValueError(f"No pixels for the {name} tower: {key} is missing.")
            # Pixels need not come from the processor, which would have noticed.
            torch_compilable_check(
                torch.isfinite(pixels[name]).all(), f"{key} holds values that are NaN or infinite ({name} tower)."
            )
        for name, side in zip(sva.tower_names, sva.aux_sides):
            trained = any(parameter.requires_grad for parameter in getattr(self.vision_towers, name).parameters())
            with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
                features[name] = self.vision_towers(name, pixels[name], side)
        return features

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        pixel_values_clip: torch.Tensor | None = None,
        pixel_values_dino: torch.Tensor | None = None,
        pixel_values_convnext: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        **kwargs,
    ) -> PMCCambrianVisionOutput:
        r"""
        From pixels to image tokens.

        Args:
            pixel_values (`torch.Tensor` of shape `(images, 3, 384, 384)`): pixels of the SigLIP tower.
            pixel_values_clip (`torch.Tensor` of shape `(images, 3, 336, 336)`): pixels of the CLIP tower.
            pixel_values_dino (`torch.Tensor` of shape `(images, 3, 378, 378)`): pixels of the DINOv2 tower.
            pixel_values_convnext (`torch.Tensor` of shape `(images, 3, 1024, 1024)`): pixels of the ConvNeXt tower.
            image_sizes (`torch.Tensor` of shape `(images, 2)`): `(height, width)` of the original images in pixels.

        Returns:
            [`PMCCambrianVisionOutput`]
        """
        if image_sizes is None:
            raise ValueError("image_sizes is missing: the processor returns it beside the pixels.")
        pixels = {
            "siglip": pixel_values,
            "clip": pixel_values_clip,
            "dino": pixel_values_dino,
            "convnext": pixel_values_convnext,
        }
        return self.embed_vision_features(self.get_tower_features(pixels), image_sizes)

    def _embed_tokens(self, input_ids: torch.LongTensor) -> torch.Tensor:
        embed = self.get_input_embeddings()
        if self.config.image_token_id >= embed.num_embeddings:
            # A placeholder outside the vocabulary is as good as any other: its embedding is replaced.
            input_ids = input_ids.masked_fill(input_ids == self.config.image_token_id, 0)
        return embed(input_ids)

    def get_placeholder_mask(
        self, input_ids: torch.LongTensor | None, inputs_embeds: torch.Tensor, num_features: int
    ) -> torch.BoolTensor:
        """Positions of image tokens, `(batch, length)`; raises if their number differs from `num_features`."""
        if input_ids is None:
            if self.config.image_token_id >= self.get_input_embeddings().num_embeddings:
                raise ValueError(
                    f"image_token_id {self.config.image_token_id} has no embedding, so image tokens cannot be found "
                    "in inputs_embeds: pass input_ids."
                )
            token = torch.full((), self.config.image_token_id, dtype=torch.long, device=inputs_embeds.device)
            mask = (inputs_embeds == self.get_input_embeddings()(token)).all(-1)
        else:
            mask = (input_ids == self.config.image_token_id).to(inputs_embeds.device)
        num_tokens = mask.sum()
        torch_compilable_check(
            num_tokens == num_features,
            f"Image features and image tokens do not match, tokens: {num_tokens}, features: {num_features}",
        )
        return mask

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_clip: torch.Tensor | None = None,
        pixel_values_dino: torch.Tensor | None = None,
        pixel_values_convnext: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        mm_encoder_outputs: dict[str, PMCCambrianVisionOutput] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PMCCambrianModelOutputWithPast:
        if (input_ids is None) ^ (inputs_embeds is not None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        pixels = (pixel_values, pixel_values_clip, pixel_values_dino, pixel_values_convnext)
        images = (mm_encoder_outputs or {}).get("image")
        if any(pixel is not None for pixel in pixels):
            if images is not None:
                raise ValueError("You cannot specify both pixel values and mm_encoder_outputs at the same time")
            images = self.get_image_features(*pixels, image_sizes=image_sizes, return_dict=True)

        if inputs_embeds is None:
            inputs_embeds = self._embed_tokens(input_ids)
        image_rows, vision = None, None
        if images is not None:
            tokens = torch.cat(list(images.pooler_output)).to(inputs_embeds.device, inputs_embeds.dtype)
            mask = self.get_placeholder_mask(input_ids, inputs_embeds, len(tokens))
            inputs_embeds = inputs_embeds.masked_scatter(mask.unsqueeze(-1), tokens)
            image_rows, vision = self._vision_rows(mask, images, attention_mask, past_key_values)

        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            image_rows=image_rows,
            vision=vision,
            **kwargs,
        )
        return PMCCambrianModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=None if images is None else images.pooler_output,
        )

    def _vision_rows(self, mask: torch.BoolTensor, images: PMCCambrianVisionOutput, attention_mask, past_key_values):
        """Image tokens that are no newline, as positions in the flattened batch, and what they look at."""
        if not self.language_model.sampler_layers:
            return None, None
        if self.config.legacy_image_position is not None:
            seen = 0 if past_key_values is None else past_key_values.get_seq_length()
            return legacy_rows(self.config, mask, attention_mask, seen, images)
        keys, context, key_mask = (torch.cat(list(field)) for field in images.deepstack_features)
        latent = key_mask.any(dim=-1)
        rows = mask.flatten().nonzero().squeeze(-1)[latent.to(mask.device)]
        if not len(rows):
            return None, None
        keys = keys[latent].unflatten(-1, (self.config.sva_config.num_keys, -1))
        return rows, VisionContext(keys, context[latent], key_mask[latent])


class PMCCambrianForConditionalGeneration(PMCCambrianPreTrainedModel, PMCCambrianGenerationMixin):
    """PMC-Cambrian with its language modelling head."""

    # Saving always brings the code along, so that a folder loads where this package is not installed.
    _auto_class = "AutoModelForImageTextToText"
    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: PMCCambrianConfig):
        super().__init__(config)
        self.model = PMCCambrianModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(self, *args, **kwargs) -> PMCCambrianVisionOutput:
        """See [`PMCCambrianModel.get_image_features`]."""
        return self.model.get_image_features(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_clip: torch.Tensor | None = None,
        pixel_values_dino: torch.Tensor | None = None,
        pixel_values_convnext: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, PMCCambrianVisionOutput] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PMCCambrianCausalLMOutputWithPast:
        r"""
        Args:
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*): targets, -100 where none is trained.
            logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0): last positions to score, 0 for all.
            mm_encoder_outputs (`dict`, *optional*): `{"image": PMCCambrianVisionOutput}` in place of pixels.

        Example:

        ```python
        >>> content = [{"type": "image", "image": image}, {"type": "text", "text": "Is this a CT?"}]
        >>> messages = [{"role": "user", "content": content}]
        >>> inputs = processor.apply_chat_template(
        ...     messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ... )
        >>> output = model.generate(**inputs, max_new_tokens=8)
        ```
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_clip=pixel_values_clip,
            pixel_values_dino=pixel_values_dino,
            pixel_values_convnext=pixel_values_convnext,
            image_sizes=image_sizes,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            vocab_size = self.config.text_config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab_size, **kwargs)
        return PMCCambrianCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )


__all__ = ["PMCCambrianForConditionalGeneration", "PMCCambrianModel", "PMCCambrianPreTrainedModel"]
