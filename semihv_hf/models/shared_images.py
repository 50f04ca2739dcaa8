# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""Many questions about the same images: every image goes through preprocessing, towers and connector once."""

from __future__ import annotations

import os
from typing import Any

from semihv_hf.errors import SemiHVError

IMAGE_KEYS = ("image", "url", "path", "base64")


def share_image_features(
    model: Any, processor: Any, conversations: list[list[dict]], *, share_prefix: bool = False, **template_options: Any
) -> dict:
    """
    Inputs of `generate` for conversations that show the same images, each image encoded only once.

    The answers are those of one call for each conversation. What is spared is the decoding, the vision towers and the
    connector for every further conversation about an image; with `share_prefix` also the text model's pass over what
    all prompts begin with, which is most of a prompt with an image in it.

    Args:
        model ([`PMCCambrianForConditionalGeneration`]): on its device, in evaluation mode.
        processor ([`PMCCambrianProcessor`]): the model's processor.
        conversations (`list[list[dict]]`): messages with `role` and `content`, as for `apply_chat_template`. Images
            are the same if they are the same Python object or equal texts (path, address, base64).
        share_prefix (`bool`, *optional*, defaults to `False`): read the common beginning of the prompts once. All
            conversations must show the same images in the same order, and nothing is spared if their texts differ
            before the last image. The result is then good for one call of `generate`, without beams,
            `num_return_sequences` and assisted decoding: it holds a cache that grows.
        template_options (`Any`): variables of the chat template, such as `system_prompt`.

    Returns:
        `dict`: `input_ids` and `attention_mask`, padded on the left (with `share_prefix` behind the common prefix),
        and `mm_encoder_outputs` if an image is shown, or `past_key_values` with `share_prefix`.

    Raises:
        `SemiHVError`: there is no conversation, a text itself holds the image token, or a prefix is to be shared by
            conversations about different images.

    Example:

    ```python
    >>> picture = {"type": "image", "image": image}
    >>> questions = ["Is this a CT?", "Which plane is shown?"]
    >>> inputs = share_image_features(
    ...     model,
    ...     processor,
    ...     [[{"role": "user", "content": [picture, {"type": "text", "text": text}]}] for text in questions],
    ... )
    >>> answers = model.generate(**inputs, max_new_tokens=8)[:, inputs["input_ids"].shape[1] :]
    ```
    """
    import torch

    if not conversations:
        raise SemiHVError("There is no conversation.", "Pass a list with at least one list of messages.")
    shown = [_images_of(conversation) for conversation in conversations]
    different, order = _without_repeats([image for images in shown for image in images])
    of_first = order[: len(shown[0])]
    if share_prefix and order != of_first * len(shown):
        raise SemiHVError(
            "The conversations show different images, so they have no common prefix.",
            "Call share_image_features once for each image, or leave share_prefix out.",
        )
    texts = processor.apply_chat_template(
        conversations, tokenize=False, add_generation_prompt=True, **template_options
    )
    sizes, features = [], None
    with torch.no_grad():
        if different:
            pixels = processor.image_processor(different, return_tensors="pt")
            sizes = [pixels["image_sizes"][index] for index in order]
            pixels = {
                key: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
                for key, value in pixels.items()
            }
            features = model.get_image_features(**pixels, return_dict=True)
        prompts = _expand_image_tokens(processor, texts, shown, sizes)
        # The template writes all special tokens itself.
        tokens = processor.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        # commonprefix compares any sequences; each prompt keeps a token of its own to go on from
        prefix = os.path.commonprefix([row[:-1] for row in tokens]) if share_prefix else []
        if features is not None and prefix.count(processor.image_token_id) != _count_features(features, of_first):
            prefix = []
        if prefix:
            shared = {"past_key_values": _read_prefix(model, prefix, features, of_first, len(tokens))}
        elif features is not None:
            shared = {"mm_encoder_outputs": {"image": repeat_image_features(features, order)}}
        else:
            shared = {}
    return {**_pad_behind(prefix, tokens, processor.tokenizer.pad_token_id, model.device), **shared}


def repeat_image_features(features: Any, order: list[int]) -> Any:
    """
    The features of some images in a new order, each as often as it is named. Nothing is copied.

    Args:
        features ([`PMCCambrianVisionOutput`]): what `get_image_features` returned.
        order (`list[int]`): for each image token of the prompts, row by row, the position of its image.

    Returns:
        [`PMCCambrianVisionOutput`]: to be passed as `mm_encoder_outputs={"image": ...}`.
    """
    return type(features)(
        pooler_output=[features.pooler_output[index] for index in order],
        deepstack_features=[[field[index] for index in order] for field in features.deepstack_features],
    )


def _expand_image_tokens(processor: Any, texts: list[str], shown: list[list], sizes: list) -> list[str]:
    first, prompts = 0, []
    for text, images in zip(texts, shown, strict=True):
        pieces = text.split(processor.image_token)
        if len(pieces) != len(images) + 1:
            raise SemiHVError(
                f"A conversation has {len(images)} images, but {len(pieces) - 1} image tokens "
                f"({processor.image_token}).",
                "Take the image token out of its texts.",
            )
        prompt = pieces[0]
        for number, piece in enumerate(pieces[1:], start=first):
            prompt += processor.replace_image_token({"image_sizes": sizes}, number) + piece
        prompts.append(prompt)
        first += len(images)
    return prompts


def _count_features(features: Any, order: list[int]) -> int:
    return sum(len(features.pooler_output[index]) for index in order)


def _read_prefix(model: Any, prefix: list[int], features: Any, order: list[int], rows: int) -> Any:
    """The text model's cache after the common beginning of all prompts, for as many rows as there are prompts."""
    import torch
    from transformers import DynamicCache

    images = {}
    if features is not None:
        images["mm_encoder_outputs"] = {"image": repeat_image_features(features, order)}
    cache = DynamicCache(config=model.config.get_text_config())
    ids = torch.tensor([prefix], device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **images)
    cache.batch_repeat_interleave(rows)
    return cache


def _pad_behind(prefix: list[int], tokens: list[list[int]], pad_id: int, device: Any) -> dict:
    """Rows of equal length: the prefix, padding, what is left of the row. Without a prefix that is left padding."""
    import torch

    longest, start = max(len(row) for row in tokens), len(prefix)
    ids = [[*prefix, *[pad_id] * (longest - len(row)), *row[start:]] for row in tokens]
    mask = [[*[1] * start, *[0] * (longest - len(row)), *[1] * (len(row) - start)] for row in tokens]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _images_of(conversation: list[dict]) -> list:
    blocks = [
        block
        for message in conversation
        if not isinstance(message["content"], str)
        for block in message["content"]
        if block.get("type") == "image"
    ]
    return [next(block[key] for key in IMAGE_KEYS if key in block) for block in blocks]


def _without_repeats(images: list) -> tuple[list, list[int]]:
    """The different ones among `images`, and for each image the position of its equal there."""
    different, positions = [], {}
    order = []
    for image in images:
        key = image if isinstance(image, str) else id(image)
        if key not in positions:
            positions[key] = len(different)
            different.append(image)
        order.append(positions[key])
    return different, order
