"""Rows one after another in a single sequence that attend to nothing but themselves.

Isolation rests on what transformers does with `position_ids` that start again at 0 while there is no attention mask
and no cache: it masks each run of positions from the others, in sdpa, eager and flash attention alike. A mask of ones,
a cache or missing positions switch that off without a word, so that packing is offered only for models for which a
test compares it with separate rows.
"""

from __future__ import annotations

from typing import Any

import torch

from semihv_hf.errors import SemiHVError

# Models whose packed loss and gradients are compared with those of separate rows, by `model_type`.
ONE_DIMENSIONAL = ("pmc_cambrian", "llava")
# Their positions of image tokens have a height and a width; the model's own `get_rope_index` makes them.
THREE_DIMENSIONAL = ("qwen2_vl", "qwen2_5_vl")
# Known to be wrong: why.
WRONG = {
    "gemma3": "its image tokens see each other both ways, and transformers looks up in a packed row which of them "
    "belong together by the positions of another row",
}

# What the processor returns for every token, beside what it returns for every image.
TOKEN_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "assistant_masks", "labels")


def check_packing(model_config) -> None:
    """
    Refuses to pack for a model for which it is not known to be right.

    Args:
        model_config (`PreTrainedConfig`): the model's configuration.

    Raises:
        `SemiHVError`: naming the models that can be packed, or the setting in the way.
    """
    model_type = getattr(model_config, "model_type", None)
    known = ONE_DIMENSIONAL + THREE_DIMENSIONAL
    if model_type not in known:
        why = WRONG.get(model_type, "that its packed rows stay apart is not known")
        raise SemiHVError(
            f"Rows of a {model_type} model cannot be packed: {why}.",
            f"Set packing to false; known are {', '.join(known)}.",
        )
    if getattr(model_config, "legacy_image_position", None) is not None:
        raise SemiHVError(
            "legacy_image_position counts from the start of a sequence, so rows cannot be packed.",
            "Set packing to false.",
        )


class RowPacker:
    """
    Makes one sequence of a padded batch.

    Args:
        model_config (`PreTrainedConfig`): configuration of the model, see [`check_packing`].
        pad_token_id (`int`): fills the tail.
        pad_to_multiple_of (`int`, *optional*): length of the sequence is a multiple of it; the tail is a document of
            its own, without labels.
    """

    def __init__(self, model_config, pad_token_id: int, pad_to_multiple_of: int | None = None):
        check_packing(model_config)
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of
        self.rope = _rope_of(model_config) if model_config.model_type in THREE_DIMENSIONAL else None

    def __call__(self, batch: dict[str, Any], images_of_rows: list[int]) -> dict[str, Any]:
        """
        Args:
            batch (`dict`): `input_ids`, `attention_mask`, `labels`, ... of shape `(rows, length)`, and image inputs.
            images_of_rows (`list[int]`): number of images of each row.

        Returns:
            `dict`: every token key `(1, T)` without padding and without attention mask; `position_ids` `(1, T)`, or
            `(4, 1, T)` for models with three-dimensional positions (that of the text first); `use_cache` `False`;
            image inputs unchanged.
        """
        keep = batch["attention_mask"].bool()
        batch["labels"][torch.arange(len(keep)), keep.int().argmax(dim=1)] = -100  # nothing is predicted across rows
        positions = self._positions(batch, keep, images_of_rows)
        packed = {}
        for key, value in batch.items():
            if key == "attention_mask":
                continue
            packed[key] = value[keep][None] if key in TOKEN_KEYS else value
        tail = -int(keep.sum()) % (self.pad_to_multiple_of or 1)
        if tail:
            fill = {"input_ids": self.pad_token_id, "labels": -100}
            for key in TOKEN_KEYS:
                if key in packed:
                    packed[key] = torch.nn.functional.pad(packed[key], (0, tail), value=fill.get(key, 0))
            end = torch.arange(tail).expand(*positions.shape[:-1], -1)
            positions = torch.cat([positions, end], dim=-1)
        packed["position_ids"] = positions
        packed["use_cache"] = False
        return packed

    def _positions(self, batch: dict[str, Any], keep: torch.BoolTensor, images_of_rows: list[int]) -> torch.Tensor:
        counts = keep.sum(dim=1).tolist()
        plain = torch.cat([torch.arange(count) for count in counts])[None]
        if self.rope is None:
            return plain
        grids = batch.get("image_grid_thw")
        rows, first = [], 0
        for row, images in enumerate(images_of_rows):
            positions, _ = self.rope.get_rope_index(
                batch["input_ids"][row][keep[row]][None],
                mm_token_type_ids=batch["mm_token_type_ids"][row][keep[row]][None],
                image_grid_thw=grids[first : first + images] if images else None,
            )
            rows.append(positions)
            first += images
        return torch.cat([plain[None], torch.cat(rows, dim=-1)], dim=0)


def _rope_of(model_config):
    """The model's class without its layers: the methods that make positions read nothing but the configuration."""
    from transformers import AutoModel

    model_class = AutoModel._model_mapping[type(model_config)]
    bare = model_class.__new__(model_class)
    torch.nn.Module.__init__(bare)
    bare.config = model_config
    return bare
