"""A recipe's model without its weights: on the meta device, for counting parameters, saved tensors and FLOPs.

Nothing is computed and nothing allocated, so the 8B model takes seconds on a laptop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from semihv_hf.errors import SemiHVError

# Names that a recipe may give in `plan.architecture` while its checkpoint is not there yet.
ARCHITECTURES = ("pmc-cambrian-8b",)


def released_config():
    """
    The configuration of PMC-Cambrian-8B with its four towers, as `semihv convert` makes it from the released files.

    Returns:
        `PMCCambrianConfig`
    """
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig

    return PMCCambrianConfig(
        siglip_config={
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
            "hidden_act": "gelu",
            "vision_use_head": False,
        },
        clip_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 768,
        },
        dino_config={
            "hidden_size": 1536,
            "num_hidden_layers": 40,
            "num_attention_heads": 24,
            "mlp_ratio": 4,
            "use_swiglu_ffn": True,
            "image_size": 378,
            "patch_size": 14,
        },
        convnext_config={},
        text_config={
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            "rms_norm_eps": 1e-5,
        },
    )


def recipe_config(stage):
    """
    The configuration of a recipe's model: the checkpoint's if it is there, else the architecture that `plan` names.

    Args:
        stage ([`StageArguments`]): `model` and `plan` are read.

    Returns:
        `PreTrainedConfig`

    Raises:
        `SemiHVError`: if there is no checkpoint and no known architecture.
    """
    from transformers import AutoConfig

    import semihv_hf  # noqa: F401  registers the model's Auto classes

    if Path(stage.model).is_dir():
        return AutoConfig.from_pretrained(stage.model)
    architecture = (stage.plan or {}).get("architecture")
    if architecture in ARCHITECTURES:
        return released_config()
    raise SemiHVError(
        f"There is no checkpoint {stage.model}, and plan.architecture is {architecture!r}.",
        f"Name a folder, or one of: {', '.join(ARCHITECTURES)}.",
    )


def build_meta_model(config, stage, dtype: torch.dtype, wide: bool = False) -> nn.Module:
    """
    The model of a stage on the meta device, its parameters chosen for training or its adapters in place.

    Args:
        config (`PreTrainedConfig`): from [`recipe_config`].
        stage ([`StageArguments`]): `trainable` or the `lora_*` settings are read.
        dtype (`torch.dtype`): what the weights are loaded in.
        wide (`bool`, *optional*, defaults to `False`): whether everything that trains is float32.

    Returns:
        `nn.Module`: the model, or the adapter model around it.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    from .lora import train_in_float32
    from .parameters import select_trainable

    with torch.device("meta"), no_init_weights():
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    if not stage.lora_r:
        select_trainable(model, stage.trainable)
        if wide:
            train_in_float32(model)
        return model
    from peft import get_peft_model

    from .adapters import adapter_config
    from .arguments import StageArguments

    adapters = adapter_config(stage, model)
    if not isinstance(stage, StageArguments):  # preference tuning: the reference is the model without adapters
        adapters.modules_to_save = None
    model = get_peft_model(model, adapters, low_cpu_mem_usage=True, autocast_adapter_dtype=wide)
    if wide:
        train_in_float32(model)
    else:  # PEFT makes adapters in float32 and, with real weights, moves them to the dtype of the layer below
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
    return model


@dataclass
class Part:
    """Parameters of one part of a model, each tensor once.

    Args:
        numel (`int`): elements.
        trainable (`int`): of them, those that train.
        frozen_bytes (`float`): bytes of the frozen weights as loaded.
        trainable_sizes (`list[tuple[int, int]]`): elements and bytes an element of each trained tensor.
    """

    numel: int = 0
    trainable: int = 0
    frozen_bytes: float = 0.0
    trainable_sizes: list[tuple[int, int]] = field(default_factory=list)


# 4-bit NormalFloat, as bitsandbytes stores it with double quantisation: half a byte, a byte for each block of 64, and
# a float32 number for each 256 blocks.
FOUR_BIT_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)


def census(model: nn.Module, four_bit: bool = False) -> dict[str, Part]:
    """
    Counts parameters by part: `towers`, `connector`, `samplers`, `text`, `head`, `adapters`.

    Args:
        model (`nn.Module`): any image-text model, also within an adapter model.
        four_bit (`bool`, *optional*, defaults to `False`): whether linear layers that may be are loaded in 4 bit.

    Returns:
        `dict[str, Part]`
    """
    from .parameters import part_of

    quantised = _four_bit_weights(model) if four_bit else set()
    parts: dict[str, Part] = {}
    for name, parameter in model.named_parameters():
        part = parts.setdefault(part_of(name), Part())
        part.numel += parameter.numel()
        if parameter.requires_grad:
            part.trainable += parameter.numel()
            part.trainable_sizes.append((parameter.numel(), parameter.element_size()))
        else:
            size = FOUR_BIT_BYTES if name in quantised else parameter.element_size()
            part.frozen_bytes += parameter.numel() * size
    return parts


def _four_bit_weights(model: nn.Module) -> set[str]:
    import re

    from .lora import FOUR_BIT_SKIP_MODULES

    names = set()
    for name, module in model.named_modules():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if isinstance(module, nn.Linear) and ".lora_" not in name:
            if not any(re.match(pattern, plain) for pattern in FOUR_BIT_SKIP_MODULES):
                names.add(f"{name}.weight")
    return names


@dataclass
class Measure:
    """What one call of a module would take.

    Args:
        saved_bytes (`int`): tensors kept for the backward pass, parameters left out.
        flops (`float`): of the forward pass.
    """

    saved_bytes: int = 0
    flops: float = 0.0

    def __mul__(self, factor: float) -> Measure:
        return Measure(self.saved_bytes * factor, self.flops * factor)

    def __add__(self, other: Measure) -> Measure:
        return Measure(self.saved_bytes + other.saved_bytes, self.flops + other.flops)


def measure(call: Callable[[], object], *modules: nn.Module, rows: int | None = None) -> Measure:
    """
    Runs a call on the meta device and looks at what autograd keeps and what is multiplied.

    Attention counts as a fused kernel: queries, keys, values, output and one number a row are kept, never the scores.

    Args:
        call (`Callable`): calls the modules on meta tensors.
        modules (`nn.Module`): their parameters are not counted.
        rows (`int`, *optional*): length of what `repeat_interleave` gives: its repeats hold no numbers on this device.

    Returns:
        [`Measure`]
    """
    own = {id(p) for module in modules for p in (*module.parameters(), *module.buffers())}
    own_storage = {p.untyped_storage()._cdata for module in modules for p in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if id(tensor) not in own and storage._cdata not in own_storage:
            kept.setdefault(storage._cdata, tensor)  # holds it: the address of a dead one may come again
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, _fused_attention(rows) as fused, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        call()
    saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return Measure(saved, counter.get_total_flops() + fused.flops)


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        row_sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, row_sums)
        return output

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("only forward passes are measured")


class _FusedMode(TorchFunctionMode):
    def __init__(self, rows: int | None):
        super().__init__()
        self.rows, self.flops = rows, 0.0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.repeat_interleave and self.rows is not None:
            kwargs = {**(kwargs or {}), "output_size": self.rows}
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args)) | (kwargs or {})
        query, key, value = given["query"], given["key"], given["value"]
        pairs = query.shape[:-1].numel() * key.shape[-2]
        self.flops += 2 * pairs * (query.shape[-1] + value.shape[-1]) * (0.5 if given.get("is_causal") else 1.0)
        return _FusedAttention.apply(query, key, value)


@contextmanager
def _fused_attention(rows: int | None):
    with _FusedMode(rows) as mode:
        yield mode


def measure_decoder_layer(model: nn.Module, tokens: int, dtype: torch.dtype) -> tuple[Measure, int, int]:
    """
    One decoder layer on one row of `tokens` tokens.

    Returns:
        `tuple`: the [`Measure`], the number of layers, and the width of the text model.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = base.get_decoder()
    layer, width = decoder.layers[0], decoder.config.hidden_size
    hidden = torch.empty(1, tokens, width, dtype=dtype, device="meta", requires_grad=True)
    head = getattr(decoder.config, "head_dim", None) or width // decoder.config.num_attention_heads
    cos, sin = (torch.empty(1, tokens, head, dtype=dtype, device="meta") for _ in range(2))

    def call():
        # The input is not counted twice: with checkpointing it is all that is kept, without it the layer keeps it.
        return layer(hidden, attention_mask=None, position_embeddings=(cos, sin), position_ids=None)

    return measure(call, layer), len(decoder.layers), width


def measure_vision(model: nn.Module, dtype: torch.dtype, size: tuple[int, int] = (512, 512)) -> dict[str, Measure]:
    """
    Towers, connector and all samplers of PMC-Cambrian on one image.

    Args:
        model (`nn.Module`): [`PMCCambrianForConditionalGeneration`] on the meta device, or an adapter model around it.
        dtype (`torch.dtype`): of the activations.
        size (`tuple[int, int]`, *optional*, defaults to `(512, 512)`): height and width of the image; a square one
            has the most tokens.

    Returns:
        `dict[str, Measure]`: `towers`, `connector`, `samplers`; empty for other models.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config.model_type != "pmc_cambrian":
        return {}
    inner, sva = base.model, base.config.sva_config
    features = [
        torch.empty(1, side * side, dim, dtype=dtype, device="meta")
        for side, dim in zip(sva.aux_sides, sva.tower_dims)
    ]
    parts = {"towers": _measure_towers(inner, dtype), "connector": Measure(), "samplers": Measure()}
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import kept_region
    from semihv_hf.models.pmc_cambrian.sva_pmc_cambrian import VisionContext

    region = kept_region(*size, sva.query_side)
    rows = (region[1] - region[0]) * (region[3] - region[2])
    width, connector = base.config.text_config.hidden_size, inner.connector
    parts["connector"] = measure(lambda: connector(features, [size]), connector, rows=rows)
    for sampler in inner.language_model.vision_samplers:
        hidden = torch.empty(rows, width, dtype=dtype, device="meta", requires_grad=True)
        trains = any(p.requires_grad for p in connector.parameters())
        keys = torch.empty(rows, sva.num_keys, sva.hidden_size, dtype=dtype, device="meta", requires_grad=trains)
        context = torch.empty(rows, sva.hidden_size, dtype=dtype, device="meta", requires_grad=trains)
        mask = torch.empty(rows, sva.num_keys, dtype=torch.bool, device="meta")
        vision = VisionContext(keys, context, mask)
        parts["samplers"] += measure(lambda s=sampler, h=hidden, v=vision: s(h, v), sampler)
    return parts


def _measure_towers(inner: nn.Module, dtype: torch.dtype) -> Measure:
    total, sva = Measure(), inner.config.sva_config
    for name, side in zip(sva.tower_names, sva.aux_sides):
        if not hasattr(inner.vision_towers, name):
            continue
        tower = getattr(inner.vision_towers, name)
        pixels = torch.empty(1, 3, tower.config.image_size, tower.config.image_size, dtype=dtype, device="meta")
        trains = any(p.requires_grad for p in tower.parameters())
        with torch.set_grad_enabled(trains):
            total += measure(lambda n=name, p=pixels, s=side: inner.vision_towers(n, p, s), tower)
    return total
