"""The layout of released Cambrian checkpoints: their configuration and key names, and what ours are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from semihv_hf.errors import SemiHVError

# First match wins: the name of the ConvNeXt tower begins with "clip", too.
TOWER_PATTERNS = (
    ("siglip", re.compile(r"siglip", re.I)),
    ("convnext", re.compile(r"convnext", re.I)),
    ("dino", re.compile(r"dino", re.I)),
    ("clip", re.compile(r"clip", re.I)),
)

TEXT_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
    "attention_bias",
    "mlp_bias",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)

# The original writes 16 into the code, at any width.
SVA_HEADS = 16

KEY_PATTERNS = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
        (r"^model\.image_newline$", "model.connector.image_newline"),
        (r"^model\.vision_query$", "model.connector.query"),
        (r"^model\.mm_projector\.0\.", "model.connector.projector.fc1."),
        (r"^model\.mm_projector\.2\.", "model.connector.projector.fc2."),
        (r"^model\.mm_projector_aux_(\d+)\.0\.", r"model.connector.aux_projectors.\1.fc1."),
        (r"^model\.mm_projector_aux_(\d+)\.2\.", r"model.connector.aux_projectors.\1.fc2."),
        (r"^model\.mm_projector_aux_(\d+)\.3\.", r"model.connector.aux_projectors.\1.norm."),
        (r"^model\.vision_sampler_0\.layers\.(\d+)\.", r"model.connector.layers.\1."),
        (r"^model\.vision_sampler_layers\.(\d+)\.layers\.0\.", r"model.language_model.vision_samplers.\1."),
        (r"cross_attn\.q_proj\.0\.", "cross_attn.q_norm."),
        (r"cross_attn\.q_proj\.1\.", "cross_attn.q_proj."),
        (r"cross_attn\.(k|v)_proj_(\d+)\.0\.", r"cross_attn.\1_norms.\2."),
        (r"cross_attn\.(k|v)_proj_(\d+)\.1\.", r"cross_attn.\1_projs.\2."),
        (r"pos_embed_(\d+)$", r"pos_embeds.\1"),
        (r"proj_out\.linear_(\d)\.", r"mlp.fc\1."),
    )
)

QUERY_GROUP = re.compile(r"^model\.vision_sampler_(\d+)\.layers\.")

# Buffers that older versions of the libraries stored; the model computes them.
IGNORED_KEYS = re.compile(r"rotary_emb\.inv_freq$|num_batches_tracked$")
TOWER_KEYS = re.compile(r"^model\.vision_tower(_aux_list)?\.")


def convert_key(key: str) -> str | None:
    """
    Our name of a released key.

    Args:
        key (`str`): a key of a released checkpoint.

    Returns:
        `str`, *optional*: the name in [`PMCCambrianForConditionalGeneration`]; `None` for a buffer that is not kept.

    Raises:
        `SemiHVError`: for the weights of a vision tower, which no released checkpoint holds.
    """
    if IGNORED_KEYS.search(key):
        return None
    if TOWER_KEYS.match(key):
        raise SemiHVError(
            f"The checkpoint holds weights of a vision tower ({key}), which released checkpoints do not.",
            "A run with trained towers has no known layout: save its towers on their own and attach them.",
        )
    # The first query group keeps a short name in ours, those behind it count from 0.
    if (group := QUERY_GROUP.match(key)) and int(group[1]) > 0:
        key = QUERY_GROUP.sub(f"model.connector.more_groups.{int(group[1]) - 1}.", key)
    for pattern, target in KEY_PATTERNS:
        key = pattern.sub(target, key)
    return key


def tower_order(names: Iterable[str]) -> list[str]:
    """
    The towers that a configuration lists, by our names.

    Args:
        names (`Iterable[str]`): such as `siglip/CLIP-ViT-SO400M-14-384` or a local folder's name.

    Returns:
        `list[str]`: of `siglip`, `clip`, `dino` and `convnext`, in the order given.

    Raises:
        `SemiHVError`: for a name that is none of them.
    """
    order = []
    for name in names:
        known = next((tower for tower, pattern in TOWER_PATTERNS if pattern.search(name)), None)
        if known is None:
            raise SemiHVError(
                f"Unknown vision tower {name!r} in mm_vision_tower_aux_list.",
                f"Known towers are {', '.join(tower for tower, _ in TOWER_PATTERNS)}.",
            )
        order.append(known)
    return order


def convert_config(source: Mapping, shapes: Mapping[str, Iterable[int]]) -> dict:
    """
    The settings of [`PMCCambrianConfig`] that a released configuration states, without towers.

    Args:
        source (`Mapping`): the released `config.json`.
        shapes (`Mapping[str, Iterable[int]]`): shape of every released tensor; the widths of the towers are read here.

    Returns:
        `dict`: keyword arguments of [`PMCCambrianConfig`].

    Raises:
        `SemiHVError`: if the configuration is of another kind of model, lacks a key or contradicts itself.
    """
    if source.get("model_type") != "cambrian_llama":
        raise SemiHVError(
            f"config.json has model_type {source.get('model_type')!r}; only 'cambrian_llama' can be converted.",
            "Point to the folder of a Cambrian or PMC-Cambrian checkpoint with a Llama language model.",
        )
    for key, expected in (("mm_projector_type", "sva"), ("mm_vision_select_layer", -2)):
        if source.get(key, expected) != expected:
            raise SemiHVError(f"config.json has {key} {source[key]!r}; only {expected!r} can be converted.")
    query_side = _side("image_token_len", _required(source, "image_token_len"))
    names = tower_order(_required(source, "mm_vision_tower_aux_list"))
    lengths = _one_of(source, ("mm_vision_tower_aux_token_len_list", "vision_tower_aux_token_len_list"))
    if len(lengths) != len(names):
        raise SemiHVError(f"config.json lists {len(names)} vision towers, but {len(lengths)} token lengths.")
    groups = source.get("query_num_list") or [source["image_token_len"]]
    if source.get("num_query_group", len(groups)) != len(groups):
        raise SemiHVError(f"config.json has num_query_group {source['num_query_group']}, but {len(groups)} queries.")
    samplers = 0 if source.get("connector_only", False) else _required(source, "num_of_vision_sampler_layers")
    sva = {
        "hidden_size": _required(source, "vision_hidden_size"),
        "num_attention_heads": SVA_HEADS,
        "num_layers": _required(source, "connector_depth"),
        "query_side": query_side,
        "group_sides": [_side("query_num_list", number) for number in groups],
        "tower_names": names,
        "tower_dims": _tower_dims(source, names, shapes),
        "aux_sides": [_side("mm_vision_tower_aux_token_len_list", length) for length in lengths],
        "num_samplers": samplers,
        "sampler_start": source.get("start_of_vision_sampler_layers", 0),
        "sampler_stride": source.get("stride_of_vision_sampler_layers", 1),
    }
    return {
        "sva_config": sva,
        "text_config": _text_config(source),
        "tie_word_embeddings": bool(source.get("tie_word_embeddings", False)),
    }


def _text_config(source: Mapping) -> dict:
    rope = {"rope_type": "default", "rope_theta": float(source.get("rope_theta", 10000.0))}
    scaling = dict(source.get("rope_scaling") or {})
    if scaling:
        rope |= {"rope_type": scaling.pop("rope_type", None) or scaling.pop("type"), **scaling}
        rope.pop("type", None)
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    for key in needed:
        _required(source, key)
    text = {key: source[key] for key in TEXT_KEYS if source.get(key) is not None}
    return {**text, "rope_parameters": rope, "tie_word_embeddings": bool(source.get("tie_word_embeddings", False))}


def _tower_dims(source: Mapping, names: list[str], shapes: Mapping[str, Iterable[int]]) -> list[int]:
    """Widths of the towers' outputs: the original reads them from the towers, the projectors' weights show them."""
    dims = []
    for index, name in enumerate(names):
        key = f"model.mm_projector_aux_{index}.0.weight"
        if key not in shapes:
            raise SemiHVError(f"The checkpoint has no {key}, the projector of the {name} tower.")
        dims.append(int(tuple(shapes[key])[1]))
    stated = source.get("tower_dims")
    if stated is not None and list(stated) != dims:
        raise SemiHVError(f"config.json has tower_dims {list(stated)}, but the projectors take {dims}.")
    return dims


def _required(source: Mapping, key: str):
    if source.get(key) is None:
        raise SemiHVError(f"config.json has no {key}.", "Is this the folder of a Cambrian checkpoint?")
    return source[key]


def _one_of(source: Mapping, keys: tuple[str, ...]):
    """A value that the original stores under several names."""
    found = {key: source[key] for key in keys if source.get(key) is not None}
    if not found:
        return _required(source, keys[0])
    values = list(found.values())
    if any(value != values[0] for value in values):
        raise SemiHVError(f"config.json contradicts itself: {', '.join(f'{k} is {v}' for k, v in found.items())}.")
    return values[0]


def _side(key: str, cells: int) -> int:
    side = math.isqrt(cells)
    if side * side != cells:
        raise SemiHVError(f"{key} is {cells} in config.json, which is no square number: the grids are square.")
    return side
