# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""Reproduces a training run whose samplers read the sequence at a fixed place that was not the image's.

The original finds the image by a constant, `image_position`, on a layout in which every image has `side` rows of
`side` cells and a newline. One published script sets the constant of another prompt, so that the samplers updated
prompt tokens and only a part of the image. A model trained so must be run so.
"""

import torch

from .configuration_pmc_cambrian import PMCCambrianConfig
from .configuration_pmc_cambrian import kept_region
from .outputs_pmc_cambrian import PMCCambrianVisionOutput
from .sva_pmc_cambrian import VisionContext


def padded_slots(height: int, width: int, side: int) -> torch.LongTensor:
    """
    Where the slots of the padded layout, `side` rows of `side` cells and a newline, lie among an image's tokens.

    Args:
        height (`int`): height of the original image in pixels.
        width (`int`): width of the original image in pixels.
        side (`int`): side of the query grid.

    Returns:
        `torch.LongTensor` of shape `(side * (side + 1),)`: index of the token, -1 for a padded slot.
    """
    row_start, row_stop, column_start, column_stop = kept_region(height, width, side)
    slots = torch.full((side, side + 1), -1)
    columns = [*range(column_start, column_stop), side]
    slots[row_start:row_stop, columns] = torch.arange((row_stop - row_start) * len(columns)).view(-1, len(columns))
    return slots.flatten()


def legacy_positions(
    image_position: int, image_start: int, slots: torch.LongTensor, side: int
) -> tuple[torch.LongTensor, torch.LongTensor]:
    """
    The tokens that a misplaced `image_position` hits, and the query each of them was taken for.

    Args:
        image_position (`int`): first of the `side * (side + 1)` positions of the padded layout that are updated.
        image_start (`int`): position of the image's first token.
        slots (`torch.LongTensor`): what [`padded_slots`] gives for the image.
        side (`int`): side of the query grid.

    Returns:
        `tuple`: positions in the sequence without padding, and cells of the query grid, both of shape `(rows,)`.
        Positions may lie beyond the end of the sequence.
    """
    cells = torch.arange(side * side)
    padded = image_position + cells // side * (side + 1) + cells % side  # newline slots are left out
    slot = (padded - image_start).clamp(0, len(slots) - 1)
    inside = (padded >= image_start) & (padded < image_start + len(slots))
    behind = padded - len(slots) + int(slots.max()) + 1
    positions = torch.where(inside, slots[slot] + image_start, torch.where(padded < image_start, padded, behind))
    real = ~(inside & (slots[slot] < 0))
    return positions[real], cells[real]


def legacy_rows(
    config: PMCCambrianConfig,
    mask: torch.BoolTensor,
    attention_mask: torch.Tensor | None,
    seen: int,
    images: PMCCambrianVisionOutput,
) -> tuple[torch.LongTensor | None, VisionContext | None]:
    """
    What the samplers update and what it looks at under `config.legacy_image_position`.

    Args:
        config (`PMCCambrianConfig`): the model's configuration.
        mask (`torch.BoolTensor` of shape `(batch, length)`): where the image tokens are.
        attention_mask (`torch.Tensor` of shape `(batch, length)`, *optional*): 0 where a row is padded.
        seen (`int`): tokens that lie in the cache already.
        images (`PMCCambrianVisionOutput`): image tokens, with the contexts of whole grids and their slots.

    Returns:
        `tuple`: positions in the flattened batch, and the [`VisionContext`] of the same rows; `None` for both if the
        place lies behind every prompt.

    Raises:
        `ValueError`: for several images in a row, a prompt in pieces, or an attention mask that is not one of padding.
    """
    side = config.sva_config.query_side
    if seen:
        raise ValueError("legacy_image_position counts from the start of the prompt: pass it whole, in one call.")
    if any(len(keys) != side * side for keys in images.deepstack_features[0]):
        raise ValueError("legacy_image_position needs the whole grid of an image: it cannot be used in chunks.")
    if attention_mask is not None and attention_mask.ndim != 2:
        raise ValueError(f"legacy_image_position needs a mask of padding, got {attention_mask.ndim} dimensions.")
    with_image = mask.any(dim=-1).nonzero().flatten().tolist()
    if len(with_image) != len(images.pooler_output):
        raise ValueError(
            f"legacy_image_position takes one image for a row, got {len(images.pooler_output)} images in "
            f"{len(with_image)} rows."
        )
    rows, queries = [], []
    for index, (row, slots) in enumerate(zip(with_image, images.deepstack_features[3])):
        attended = torch.ones_like(mask[row]) if attention_mask is None else attention_mask[row].bool()
        start = int(attended.int().argmax())
        image_start = int(mask[row].int().argmax()) - start
        positions, cells = legacy_positions(config.legacy_image_position, image_start, slots.cpu(), side)
        inside = positions < int(attended.sum())
        rows.append(row * mask.shape[1] + start + positions[inside])
        queries.append(index * side * side + cells[inside])
    keys, context, key_mask = (torch.cat(list(field)) for field in images.deepstack_features[:3])
    chosen = torch.cat(queries).to(keys.device)
    if not len(chosen):
        return None, None
    keys = keys[chosen].unflatten(-1, (config.sva_config.num_keys, -1))
    return torch.cat(rows).to(mask.device), VisionContext(keys, context[chosen], key_mask[chosen])
