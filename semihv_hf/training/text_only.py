"""Batches without an image where other processes may have some: all of them must run the same modules.

ZeRO and FSDP gather and reduce parameters module by module, and plain data parallelism waits for every gradient. A
process whose batch is text only would skip the vision modules, and the others would wait for it for ever. Such a batch
gets one more row, the smallest image that the processor can make, with no label: it goes the way of a real image, so
modules run in the model's own order, whatever the model (LLaVA embeds tokens before it looks at pixels, PMC-Cambrian
after, and its samplers run between decoder layers), and the loss and all gradients stay what they were. A run on one
process, and a data parallel one that looks for unused parameters, need no such row and get none, unless nothing trains
that reads text: then such a batch would have no gradient at all, which torch takes for an error.

In a step whose global batch has no image at all the vision modules have a gradient of zero under ZeRO, and none on one
process and under data parallelism: that these move on by their momentum, too, is seen to by
[`~semihv_hf.training.parameters.OptimizerGroups`].
"""

from __future__ import annotations

from typing import Any

import torch

from .collation import REPORT_KEY

# Sides of the image that are tried, (height, width): models that cut padding away need few tokens for a flat image.
SIZES = ((64, 64), (32, 32), (16, 128), (128, 16), (8, 224), (224, 8))
PIXELS = ("pixel_values", "mm_encoder_outputs")


def needs_companion(
    strategy: str, processes: int, find_unused: bool, has_images: bool, text_trains: bool = True
) -> bool:
    """
    Whether a batch without an image must run the vision modules all the same.

    Args:
        strategy (`str`): `single`, `ddp`, `fsdp2`, `zero2`, ...
        processes (`int`): processes that train together.
        find_unused (`bool`): whether data parallelism looks for parameters without a gradient.
        has_images (`bool`): whether any dataset of the stage has images.
        text_trains (`bool`, *optional*, defaults to `True`): see [`trains_on_text`].

    Returns:
        `bool`
    """
    if not has_images:
        return False
    if not text_trains:
        return True
    return processes > 1 and not (strategy == "ddp" and find_unused)


def trains_on_text(model) -> bool:
    """
    Whether a row without images has a gradient: a decoder layer, the embeddings or the head train.

    Args:
        model (`PreTrainedModel`): any image-text model, adapters in place.

    Returns:
        `bool`: `False` also where it cannot be told.
    """
    # Not the whole decoder: PMC-Cambrian's samplers are part of it.
    layers = getattr(model.get_decoder(), "layers", None)
    modules = (layers, model.get_input_embeddings(), model.get_output_embeddings())
    return any(value.requires_grad for module in modules if module is not None for value in module.parameters())


class TextOnlyCollator:
    """
    Adds the smallest image, without labels, to batches that have none.

    Args:
        collator (`Callable`): makes the batch.
        processor (`ProcessorMixin`): the model's processor.
    """

    def __init__(self, collator, processor):
        self.collator = collator
        self.image_token_id = image_token_id(processor)
        self.size = smallest_size(processor)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        if any(batch.get(key) is not None for key in PIXELS):
            return batch
        report = batch.get(REPORT_KEY)
        batch = mask_companion(self.collator([*examples, self.companion()]), self.image_token_id)
        if report is not None:
            # The row that is added is none of the data's: it counts among the computed tokens alone.
            report.computed_tokens = batch["input_ids"].numel()
            batch[REPORT_KEY] = report
        return batch

    def companion(self) -> dict[str, Any]:
        """The row that is added: a black image and next to nothing said about it."""
        from PIL import Image

        said = {"type": "text", "text": "."}
        question = {"role": "user", "content": [{"type": "image", "text": None}, said]}
        return {
            "id": "",
            # Rows without an answer would be left out.
            "messages": [question, {"role": "assistant", "content": [said]}],
            "images": [Image.new("RGB", self.size[::-1])],
            "facts": [],
        }


def mask_companion(batch: dict[str, Any], image_token: int) -> dict[str, Any]:
    """
    Takes the labels of the only row with an image away, padded or packed.

    Args:
        batch (`dict`): a batch whose only image is the companion's.
        image_token (`int`): id of the image placeholder.

    Returns:
        `dict`: the batch.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    places = ids == image_token
    if batch.get("attention_mask") is not None:
        labels[places.any(dim=1)] = -100
        return batch
    # Packed: the companion is the last row, and begins where positions start anew before its image.
    first = int(places.flatten().nonzero()[0])
    positions = batch["position_ids"].reshape(-1, ids.shape[-1])[0]
    begin = int((positions[: first + 1] == 0).nonzero()[-1])
    labels.view(-1)[begin:] = -100
    return batch


def image_token_id(processor) -> int:
    """The id of the placeholder that a processor repeats for an image."""
    value = getattr(processor, "image_token_id", None)
    if value is None:
        value = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    return int(value)


def smallest_size(processor) -> tuple[int, int]:
    """`(height, width)` of the tried image that needs the fewest tokens."""
    if not hasattr(processor, "_get_num_multimodal_tokens"):
        return SIZES[0]
    counts = processor._get_num_multimodal_tokens(image_sizes=[list(size) for size in SIZES])["num_image_tokens"]
    return SIZES[int(torch.tensor(counts).argmin())]
