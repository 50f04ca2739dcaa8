# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""What `generate` needs beside the library's own loops: kept caches, features used twice, drafts without images."""

import copy

import torch
from transformers.generation import GenerationMixin
from transformers.generation import LogitsProcessorList
from transformers.generation import SuppressTokensLogitsProcessor


class PMCCambrianGenerationMixin(GenerationMixin):
    """
    `generate` for PMC-Cambrian.

    Batches, beams, chunked prefill and static caches are the library's. Three things are mended here: a conversation
    that goes on from a kept cache may bring the images of all its turns, features passed as `mm_encoder_outputs` stay
    as they were, and drafts of assisted decoding hold no image tokens.
    """

    def _prefill(self, input_ids, generation_config, model_kwargs, is_first_iteration=True):
        images = (model_kwargs.get("mm_encoder_outputs") or {}).get("image")
        if images is not None and is_first_iteration and input_ids.numel():
            held = self._tokens_in_cache(input_ids, generation_config, model_kwargs)
            kept = self._images_after(held, input_ids, images)
            model_kwargs["mm_encoder_outputs"] = {**model_kwargs["mm_encoder_outputs"], "image": kept}
        return super()._prefill(input_ids, generation_config, model_kwargs, is_first_iteration=is_first_iteration)

    @staticmethod
    def _tokens_in_cache(input_ids, generation_config, model_kwargs) -> int:
        """How many of the `input_ids` the cache holds: none if only the new tokens of a conversation are given."""
        cache = model_kwargs.get("past_key_values")
        mask = model_kwargs.get("attention_mask")
        # The library drops a mask of ones and keeps its length here.
        length = getattr(generation_config, "_mask_length", -1) if mask is None else mask.shape[1]
        return cache.get_seq_length() if cache is not None and length == input_ids.shape[1] else 0

    def _images_after(self, held: int, input_ids: torch.LongTensor, images):
        """
        The image tokens that stand behind the first `held` columns; all of them if only those were given.

        Raises:
            `ValueError`: if the features fit neither the whole prompt nor what the cache lacks. In chunks the library
                would take features of another image without a word.
        """
        mask = input_ids == self.config.image_token_id
        num_features, wanted = sum(map(len, images.pooler_output)), int(mask[:, held:].sum())
        if num_features == wanted:
            return images
        if num_features != int(mask.sum()):
            raise ValueError(
                f"Image features and image tokens do not match, tokens: {wanted}, features: {num_features}"
            )
        if not wanted:
            return None
        rows = (mask.flatten().cumsum(0) - 1).view_as(mask)[:, held:][mask[:, held:]]
        fields = [[torch.cat(list(field))[rows]] for field in (images.pooler_output, *images.deepstack_features)]
        return type(images)(pooler_output=fields[0], deepstack_features=fields[1:])

    def _expand_multimodal_outputs(self, input_ids, mm_encoder_output, *args, **kwargs):
        # The library repeats the features for each beam in place; the caller may ask another question about them.
        own = {modality: copy.copy(output) for modality, output in mm_encoder_output.items()}
        return super()._expand_multimodal_outputs(input_ids, own, *args, **kwargs)

    def _get_candidate_generator(self, generation_config, input_ids, model_kwargs, logits_processor=None, **kwargs):
        if self._tokens_in_cache(input_ids, generation_config, model_kwargs):
            # The library would run the whole prompt behind the cache again, and answer something else.
            raise ValueError(
                "Assisted decoding cannot go on from a kept cache with the whole conversation: pass the new tokens "
                "only, or no past_key_values."
            )
        # A drafted image token would count as the placeholder of an image that nobody gave. Drafts are found in the
        # prompt, where image tokens abound. What the model itself answers is not touched.
        no_images = SuppressTokensLogitsProcessor([self.config.image_token_id], device=input_ids.device)
        return super()._get_candidate_generator(
            generation_config=generation_config,
            input_ids=input_ids,
            model_kwargs=model_kwargs,
            logits_processor=LogitsProcessorList([*(logits_processor or []), no_images]),
            **kwargs,
        )


__all__ = ["PMCCambrianGenerationMixin"]
