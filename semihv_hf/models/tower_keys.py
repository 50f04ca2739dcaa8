"""Vision towers as other libraries store them: what their tensors are called, and what their settings mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from semihv_hf.errors import SemiHVError

Shapes = Mapping[str, tuple[int, ...]]

# What a checkpoint may hold beside the tower: text model, projections, pooling and classification heads, and buffers
# that the model computes itself. Anything else that the tower has no place for is an error.
BUFFERS = re.compile(r"(^|\.)(num_batches_tracked|embeddings\.position_ids)$")
HF_DROPPED = {
    "siglip": re.compile(r"(text_model|(vision_model\.)?head)\.|logit_(scale|bias)$"),
    "clip": re.compile(r"text_model\.|(text|visual)_projection\.weight$|logit_scale$"),
    "dino": re.compile(r"classifier\.(weight|bias)$"),
}
HF_PREFIX = {"siglip": "vision_model.", "clip": "vision_model.", "dino": "dinov2."}
OPEN_CLIP_DROPPED = re.compile(
    r"(text|visual\.head|transformer|token_embedding|ln_final)\."
    r"|text_projection(\.|$)|(logit_scale|logit_bias|positional_embedding|attn_mask)$"
)
TIMM_DROPPED = {
    "siglip": re.compile(r"(attn_pool|head|fc_norm)\."),
    "convnext": re.compile(r"(head|norm_pre)\."),
}
TRUNK = "visual.trunk."

VALUE = r"(weight|bias)"
TIMM_KEYS = {
    name: tuple((re.compile(pattern), target) for pattern, target in pairs)
    for name, pairs in {
        "siglip": (
            (r"pos_embed", ("embeddings.position_embedding.weight",)),
            (rf"patch_embed\.proj\.{VALUE}", (r"embeddings.patch_embedding.\1",)),
            (rf"blocks\.(\d+)\.norm([12])\.{VALUE}", (r"encoder.layers.\1.layer_norm\2.\3",)),
            (
                rf"blocks\.(\d+)\.attn\.qkv\.{VALUE}",
                tuple(rf"encoder.layers.\1.self_attn.{part}_proj.\2" for part in "qkv"),
            ),
            (rf"blocks\.(\d+)\.attn\.proj\.{VALUE}", (r"encoder.layers.\1.self_attn.out_proj.\2",)),
            (rf"blocks\.(\d+)\.mlp\.fc([12])\.{VALUE}", (r"encoder.layers.\1.mlp.fc\2.\3",)),
            (rf"norm\.{VALUE}", (r"post_layernorm.\1",)),
        ),
        "convnext": (
            (rf"stem\.0\.{VALUE}", (r"embeddings.patch_embeddings.\1",)),
            (rf"stem\.1\.{VALUE}", (r"embeddings.layernorm.\1",)),
            (rf"stages\.(\d+)\.downsample\.([01])\.{VALUE}", (r"encoder.stages.\1.downsampling_layer.\2.\3",)),
            (rf"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.{VALUE}", (r"encoder.stages.\1.layers.\2.dwconv.\3",)),
            (rf"stages\.(\d+)\.blocks\.(\d+)\.norm\.{VALUE}", (r"encoder.stages.\1.layers.\2.layernorm.\3",)),
            (rf"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc([12])\.{VALUE}", (r"encoder.stages.\1.layers.\2.pwconv\3.\4",)),
            (r"stages\.(\d+)\.blocks\.(\d+)\.gamma", (r"encoder.stages.\1.layers.\2.layer_scale_parameter",)),
        ),
    }.items()
}

# Heads leave no trace in the tensors; timm fixes them for each size.
SIGLIP_NAME = re.compile(r"vit_([a-z0-9]+)_patch\d+_siglip(_|$)")
SIGLIP_HEADS = {
    "tiny": 3,
    "small": 6,
    "medium": 8,
    "base": 12,
    "large": 16,
    "so400m": 16,
    "huge": 16,
    "giant": 16,
    "giantopt": 16,
    "gigantic": 16,
}
# The sizes that only SigLIP 2 and the multilingual SigLIP have use the tanh form of GELU in timm, all others erf.
SIGLIP_TANH_NAME = re.compile(
    r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip_|vit_large_patch16_siglip_(gap_)?512"
)
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}
# The other ConvNeXt names of timm stand for other norms, stems, activations or blocks.
CONVNEXT_NAME = re.compile(r"convnext_(atto|femto|pico|nano|tiny|small|base|large|xlarge|xxlarge)(_mlp|_hnf)?")
CONVNEXT_EPS = {"convnext_xxlarge": 1e-5}

# Settings of timm models that the tensors show anyway, or that the features do not depend on.
HARMLESS = {
    "siglip": set(
        "img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads mlp_ratio qkv_bias qk_norm "
        "scale_attn_norm scale_mlp_norm proj_bias init_values class_token no_embed_class reg_tokens pre_norm "
        "final_norm fc_norm pool_include_prefix dynamic_img_size dynamic_img_pad drop_rate pos_drop_rate "
        "patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init act_layer".split()
    ),
    "convnext": set(
        "in_chans num_classes global_pool depths dims kernel_sizes ls_init_value patch_size head_init_scale "
        "head_norm_first head_hidden_size conv_mlp conv_bias use_grn norm_eps drop_rate drop_path_rate".split()
    ),
}
ONLY_VALUE = {"convnext": {"act_layer": "gelu", "output_stride": 32, "stem_type": "patch", "norm_layer": "layernorm"}}


@dataclass(frozen=True)
class TimmSettings:
    """
    What a timm or open_clip configuration says about a tower.

    Args:
        architecture (`str`): timm's name of the model, without the tag of the weights.
        image_size (`int`, *optional*): side of the square input in pixels, where it is stated.
        model_args (`Mapping`): arguments that differ from those the architecture stands for.
        file (`str`): the configuration file, for messages.
    """

    architecture: str
    image_size: int | None = None
    model_args: Mapping = field(default_factory=dict)
    file: str = "config.json"


def open_clip_settings(config: Mapping) -> TimmSettings:
    """
    What an `open_clip_config.json` says about its vision tower.

    Args:
        config (`Mapping`): the file's content.

    Returns:
        [`TimmSettings`]: architecture and image size.

    Raises:
        `SemiHVError`: if the vision tower is not one of timm's.
    """
    file = "open_clip_config.json"
    vision = (config.get("model_cfg") or {}).get("vision_cfg") or {}
    if not vision.get("timm_model_name"):
        raise SemiHVError(
            f"{file} names no timm_model_name: its vision tower is not one of timm's.",
            "Take a SigLIP or ConvNeXt checkpoint of open_clip.",
        )
    return TimmSettings(vision["timm_model_name"].split(".")[0], square(vision.get("image_size"), file), {}, file)


def timm_settings(config: Mapping) -> TimmSettings:
    """
    What the `config.json` of a timm model says.

    Args:
        config (`Mapping`): the file's content, with an `architecture`.

    Returns:
        [`TimmSettings`]: architecture, image size and arguments.

    Raises:
        `SemiHVError`: if the images are not square.
    """
    arguments = config.get("model_args") or {}
    size = arguments.get("img_size")
    if size is None:
        # Older versions of timm wrote the entries of pretrained_cfg one level higher.
        size = (config.get("pretrained_cfg") or config).get("input_size")
        size = None if size is None else size[1:]
    return TimmSettings(config["architecture"].split(".")[0], square(size, "config.json"), arguments)


def square(size: int | list | tuple | None, file: str) -> int | None:
    """The side of a size that may be stated twice, as height and width; `SemiHVError` if the two differ."""
    if not isinstance(size, list | tuple):
        return size
    if len(set(size)) != 1:
        raise SemiHVError(f"{file} states the size {list(size)}; the towers take square images and patches.")
    return size[0]


def tower_targets(name: str, layout: str, key: str) -> tuple[str, ...] | None:
    """
    Our names of a foreign tensor.

    Args:
        name (`str`): `siglip`, `clip`, `dino` or `convnext`.
        layout (`str`): `hf` for Hugging Face's names, `timm` for those of timm and open_clip.
        key (`str`): name of a tensor in the checkpoint.

    Returns:
        `tuple[str, ...]`, *optional*: one name; three for a fused projection, which is split into them; none for a
        tensor that is left out; `None` if the tensor is unknown.
    """
    if BUFFERS.search(key):
        return ()
    if layout == "hf":
        return () if HF_DROPPED[name].match(key) else (key.removeprefix(HF_PREFIX[name]),)
    if not key.startswith(TRUNK) and OPEN_CLIP_DROPPED.match(key):
        return ()
    key = key.removeprefix(TRUNK)
    if TIMM_DROPPED[name].match(key):
        return ()
    for pattern, targets in TIMM_KEYS[name]:
        if match := pattern.fullmatch(key):
            return tuple(match.expand(target) for target in targets)
    return None


def stored_as(layout: str, key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in which a foreign tensor enters a tower, before a fused projection is split: dimensions of 1 go."""
    if layout == "timm":
        if key.endswith("pos_embed") and len(shape) == 3 and shape[0] == 1:
            return shape[1:]
        if re.search(r"\.mlp\.fc[12]\.weight$", key) and len(shape) == 4 and shape[2:] == (1, 1):
            return shape[:2]  # timm's smaller ConvNeXts store these layers as 1x1 convolutions
    return shape


def siglip_settings(timm: TimmSettings, shapes: Shapes) -> dict:
    """
    The settings of `SiglipVisionConfig` for a timm SigLIP.

    Args:
        timm ([`TimmSettings`]): its configuration.
        shapes (`Mapping[str, tuple[int, ...]]`): shape of each tensor, by timm's names.

    Returns:
        `dict`: sizes from the tensors, heads and activation from the architecture.

    Raises:
        `SemiHVError`: if the architecture or a setting is unknown, a tensor is missing, or the two disagree.
    """
    match = SIGLIP_NAME.match(timm.architecture)
    if match is None:
        raise SemiHVError(
            f"{timm.file} names the architecture {timm.architecture!r}, which is no SigLIP of timm.",
            "Take a checkpoint such as timm/ViT-SO400M-14-SigLIP-384.",
        )
    _check_arguments("siglip", timm)
    width, channels, _, patch = _shape(shapes, "patch_embed.proj.weight", 4)
    positions = _shape(shapes, "pos_embed", 3)[1]
    depth = _count(shapes, r"blocks\.(\d+)\.")
    _check_stated(timm, {"embed_dim": width, "depth": depth, "patch_size": patch})
    heads = timm.model_args.get("num_heads", SIGLIP_HEADS.get(match[1]))
    if heads is None:
        raise SemiHVError(
            f"The number of heads of {timm.architecture!r} is not known.",
            f"State num_heads in model_args, {timm.file}.",
        )
    grid = math.isqrt(positions)
    # A configuration that says nothing means the size that timm's architecture is named after.
    named = re.search(r"_(\d+)$", timm.architecture)
    image_size = timm.image_size or (int(named[1]) if named else grid * patch)
    if grid**2 != positions or image_size // patch != grid:
        raise SemiHVError(
            f"{timm.file} states {image_size} pixels, which are {(image_size // patch) ** 2} patches of {patch}, "
            f"but pos_embed has {positions} positions.",
            "Take configuration and weights of the same model.",
        )
    activation = timm.model_args.get("act_layer", "gelu_tanh" if SIGLIP_TANH_NAME.match(timm.architecture) else "gelu")
    if activation not in ACTIVATIONS:
        raise SemiHVError(f"{timm.file} has act_layer {activation!r}; known are {', '.join(ACTIVATIONS)}.")
    return {
        "hidden_size": width,
        "intermediate_size": _shape(shapes, "blocks.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_channels": channels,
        "image_size": image_size,
        "patch_size": patch,
        "hidden_act": ACTIVATIONS[activation],
        "layer_norm_eps": 1e-6,
        "vision_use_head": False,
    }


def convnext_settings(timm: TimmSettings, shapes: Shapes) -> dict:
    """
    The settings of [`PMCCambrianConvNextConfig`] for a timm ConvNeXt, without its image size.

    Args:
        timm ([`TimmSettings`]): its configuration.
        shapes (`Mapping[str, tuple[int, ...]]`): shape of each tensor, by timm's names.

    Returns:
        `dict`: sizes from the tensors, epsilon from the architecture.

    Raises:
        `SemiHVError`: see [`siglip_settings`].
    """
    if not CONVNEXT_NAME.fullmatch(timm.architecture):
        raise SemiHVError(
            f"{timm.file} names the architecture {timm.architecture!r}, which is no plain ConvNeXt of timm.",
            "Take one with LayerNorm, GELU and a patch stem, such as convnext_xxlarge.",
        )
    _check_arguments("convnext", timm)
    _, channels, _, patch = _shape(shapes, "stem.0.weight", 4)
    stages = range(max(1, _count(shapes, r"stages\.(\d+)\.")))
    widths = [_shape(shapes, f"stages.{index}.blocks.0.conv_dw.weight", 4)[0] for index in stages]
    depths = [_count(shapes, rf"stages\.{index}\.blocks\.(\d+)\.") for index in stages]
    _check_stated(timm, {"dims": widths, "depths": depths, "patch_size": patch})
    eps = timm.model_args.get("norm_eps", CONVNEXT_EPS.get(timm.architecture))
    return {
        "num_channels": channels,
        "patch_size": patch,
        "hidden_sizes": widths,
        "depths": depths,
        "layer_norm_eps": 1e-6 if eps is None else float(eps),
    }


def _check_arguments(name: str, timm: TimmSettings) -> None:
    only = ONLY_VALUE.get(name, {})
    for key, value in timm.model_args.items():
        if key in HARMLESS[name] or (key in only and value in (None, only[key])):
            continue
        raise SemiHVError(
            f"{timm.file} has {key} {value!r} in model_args, which the {name} tower does not know.",
            f"It knows {key} {only[key]!r} alone." if key in only else None,
        )


def _check_stated(timm: TimmSettings, found: dict) -> None:
    for key, value in found.items():
        stated = timm.model_args.get(key, value)
        if (list(stated) if isinstance(stated, list | tuple) else stated) != value:
            raise SemiHVError(f"{timm.file} states {key} {stated}, but the tensors show {value}.")


def _shape(shapes: Shapes, key: str, dimensions: int) -> tuple[int, ...]:
    if key not in shapes:
        raise SemiHVError(f"The checkpoint lacks the tensor {key}.", "Is it a checkpoint of this architecture?")
    if len(shapes[key]) != dimensions:
        raise SemiHVError(f"{key} has shape {shapes[key]}; a tensor of {dimensions} dimensions is expected.")
    return shapes[key]


def _count(shapes: Shapes, pattern: str) -> int:
    """Numbered parts of a model: one more than the highest number."""
    return 1 + max((int(match[1]) for key in shapes if (match := re.match(pattern, key))), default=-1)
