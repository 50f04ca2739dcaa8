# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of PMC-Cambrian: four named vision towers, the spatial vision aggregator and a Llama text model."""

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.configuration_utils import strict

TOWER_NAMES = ("siglip", "clip", "dino", "convnext")
MOST_LAYERS = 10_000


def kept_region(height: int, width: int, side: int) -> tuple[int, int, int, int]:
    """
    Cells of a `side` x `side` grid over the padded square image that hold real pixels.

    The order of the float operations is the original's and must stay: `height * side // width` keeps another region
    for some sizes (88x55 at side 24 is one). Beyond an aspect ratio of `side` the original keeps nothing and crashes;
    here at least one row or column (two for an even side) remains.

    Args:
        height (`int`): height of the original image in pixels, at least 1.
        width (`int`): width of the original image in pixels, at least 1.
        side (`int`): cells along one side of the grid, at least 1.

    Returns:
        `tuple[int, int, int, int]`: `(row_start, row_stop, column_start, column_stop)`, stops exclusive.

    Raises:
        `ValueError`: if a size is smaller than 1.
    """
    if height < 1 or width < 1 or side < 1:
        raise ValueError(f"kept_region needs sizes of at least 1, got height {height}, width {width}, side {side}.")
    if width / height > 1.0:
        padding = (side - int(height * (side / width))) // 2
        padding = min(padding, (side - 1) // 2)
        return padding, side - padding, 0, side
    padding = (side - int(width * (side / height))) // 2
    padding = min(padding, (side - 1) // 2)
    return 0, side, padding, side - padding


def num_image_tokens(height: int, width: int, side: int) -> int:
    """Placeholder tokens of one image: the kept rows times (kept columns + 1 newline token)."""
    row_start, row_stop, column_start, column_stop = kept_region(height, width, side)
    return (row_stop - row_start) * (column_stop - column_start + 1)


@strict
class PMCCambrianConvNextConfig(PreTrainedConfig):
    r"""
    The multi-stage ConvNeXt tower: the outputs of all stages are resized to one grid and concatenated on the channels.

    Args:
        num_channels (`int`, *optional*, defaults to 3): input channels.
        image_size (`int`, *optional*, defaults to 1024): side of the square input in pixels.
        patch_size (`int`, *optional*, defaults to 4): kernel and stride of the stem.
        hidden_sizes (`list[int]`, *optional*, defaults to `[384, 768, 1536, 3072]`): width of each stage.
        depths (`list[int]`, *optional*, defaults to `[3, 4, 30, 3]`): blocks of each stage.
        layer_norm_eps (`float`, *optional*, defaults to 1e-5):
            epsilon of every LayerNorm. The library's own ConvNeXt hard-codes 1e-6, the released weights use 1e-5.
        layer_scale_init_value (`float`, *optional*, defaults to 1e-6): initial per-channel scale of a block.
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of the initial weights.
    """

    model_type = "pmc_cambrian_convnext"
    base_config_key = "convnext_config"

    num_channels: int = 3
    image_size: int = 1024
    patch_size: int = 4
    hidden_sizes: list[int] | tuple[int, ...] = (384, 768, 1536, 3072)
    depths: list[int] | tuple[int, ...] = (3, 4, 30, 3)
    layer_norm_eps: float = 1e-5
    layer_scale_init_value: float = 1e-6
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if len(self.hidden_sizes) != len(self.depths):
            raise ValueError(
                f"hidden_sizes names {len(self.hidden_sizes)} stages and depths {len(self.depths)}: give one of each."
            )


@strict
class PMCCambrianSvaConfig(PreTrainedConfig):
    r"""
    The spatial vision aggregator (SVA): the connector and the samplers inside the language model.

    Args:
        hidden_size (`int`, *optional*, defaults to 1024): width of projected tower features and of the aggregator.
        num_attention_heads (`int`, *optional*, defaults to 16): heads of every cross-attention.
        num_layers (`int`, *optional*, defaults to 3): cross-attention layers of the connector.
        query_side (`int`, *optional*, defaults to 24): side of the grid of image tokens.
        group_sides (`list[int]`, *optional*):
            side of the query grid of each query group, by default one group of `query_side`. A group on another grid
            is resized to `query_side`; the groups' channels are concatenated before the projector.
        tower_names (`list[str]`, *optional*): towers in key order; the first one gives the global context.
        tower_dims (`list[int]`, *optional*): width of each tower's output.
        aux_sides (`list[int]`, *optional*, defaults to `[24, 24, 24, 96]`):
            side of each tower's grid after resizing, a multiple of `query_side` and of every entry of `group_sides`.
        num_samplers (`int`, *optional*, defaults to 10): samplers inside the language model; 0 for a connector only.
        sampler_start (`int`, *optional*, defaults to 0): decoder layer after which the first sampler runs.
        sampler_stride (`int`, *optional*, defaults to 3): decoder layers from one sampler to the next.
        layer_norm_eps (`float`, *optional*, defaults to 1e-5): epsilon of every LayerNorm.
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of the initial weights.
    """

    model_type = "pmc_cambrian_sva"
    base_config_key = "sva_config"

    hidden_size: int = 1024
    num_attention_heads: int = 16
    num_layers: int = 3
    query_side: int = 24
    group_sides: list[int] | tuple[int, ...] | None = None
    tower_names: list[str] | tuple[str, ...] = TOWER_NAMES
    tower_dims: list[int] | tuple[int, ...] = (1152, 1024, 1536, 5760)
    aux_sides: list[int] | tuple[int, ...] = (24, 24, 24, 96)
    num_samplers: int = 10
    sampler_start: int = 0
    sampler_stride: int = 3
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.group_sides is None:
            self.group_sides = [self.query_side]
        if not self.group_sides:
            raise ValueError("group_sides is empty: name the grid of at least one query group.")
        unknown = [name for name in self.tower_names if name not in TOWER_NAMES]
        if unknown:
            raise ValueError(f"Unknown vision tower {unknown[0]!r}: the known ones are {', '.join(TOWER_NAMES)}.")
        if len(set(self.tower_names)) != len(self.tower_names):
            raise ValueError(f"tower_names repeats a tower: {', '.join(self.tower_names)}.")
        if not len(self.tower_names) == len(self.tower_dims) == len(self.aux_sides):
            raise ValueError(
                f"tower_names, tower_dims and aux_sides name {len(self.tower_names)}, {len(self.tower_dims)} and "
                f"{len(self.aux_sides)} towers: give one value for each tower."
            )
        for name, side in zip(self.tower_names, self.aux_sides):
            for query_side in (self.query_side, *self.group_sides):
                if side % query_side:
                    raise ValueError(f"The grid side {side} of {name} is no multiple of the query side {query_side}.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} heads.")

    def ratios(self, query_side: int) -> tuple[int, ...]:
        """Cells of each tower's grid along one side of the window that a query of this grid sees."""
        return tuple(side // query_side for side in self.aux_sides)

    @property
    def num_keys(self) -> int:
        """Keys that an image token attends to in the language model: the windows of all towers together."""
        return sum(ratio**2 for ratio in self.ratios(self.query_side))

    @property
    def sampler_layers(self) -> tuple[int, ...]:
        """Decoder layers after which a sampler runs."""
        return tuple(self.sampler_start + index * self.sampler_stride for index in range(self.num_samplers))


@strict
class PMCCambrianConfig(PreTrainedConfig):
    r"""
    Configuration of [`PMCCambrianForConditionalGeneration`].

    Every tower is optional: a model without towers takes pre-computed features through
    [`PMCCambrianModel.embed_vision_features`].

    Args:
        siglip_config (`dict` or `SiglipVisionConfig`, *optional*): tower whose last hidden state is taken.
        clip_config (`dict` or `CLIPVisionConfig`, *optional*): tower whose last-but-one hidden state is taken.
        dino_config (`dict` or `Dinov2Config`, *optional*): tower whose last hidden state without CLS is taken.
        convnext_config (`dict` or `PMCCambrianConvNextConfig`, *optional*): the multi-stage tower.
        sva_config (`dict` or `PMCCambrianSvaConfig`, *optional*): the spatial vision aggregator.
        text_config (`dict` or `LlamaConfig`, *optional*): the language model.
        image_token_id (`int`, *optional*, defaults to 128003): placeholder id of an image token.
        legacy_image_position (`int`, *optional*):
            reproduces a misaligned training run: the samplers update the rows of the sequence that begin here, counted
            on a layout with `query_side * (query_side + 1)` slots for the image, wherever the image really is. One
            image for a row, and the whole prompt in one pass. By default the samplers update the image's own rows.
        freeze_vision_towers (`bool`, *optional*, defaults to `True`):
            whether the towers take no gradient and stay in evaluation mode, also under `model.train()`.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`): whether head and input embeddings are shared.
    """

    model_type = "pmc_cambrian"
    # As of the model: the code goes where the configuration goes.
    _auto_class = "AutoConfig"
    sub_configs_defaults = {
        "siglip_config": SubConfigSpec(config_class=AutoConfig, model_type="siglip_vision_model", optional=True),
        "clip_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model", optional=True),
        "dino_config": SubConfigSpec(config_class=AutoConfig, model_type="dinov2", optional=True),
        "convnext_config": SubConfigSpec(config_class=PMCCambrianConvNextConfig, optional=True),
        "sva_config": PMCCambrianSvaConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    siglip_config: dict | PreTrainedConfig | None = None
    clip_config: dict | PreTrainedConfig | None = None
    dino_config: dict | PreTrainedConfig | None = None
    convnext_config: dict | PreTrainedConfig | None = None
    sva_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 128003
    legacy_image_position: int | None = None
    freeze_vision_towers: bool = True
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name, dim in zip(self.sva_config.tower_names, self.sva_config.tower_dims):
            tower = getattr(self, f"{name}_config")
            if tower is None:
                continue
            width = sum(tower.hidden_sizes) if name == "convnext" else tower.hidden_size
            if width != dim:
                raise ValueError(f"The {name} tower gives {width} channels, but sva_config.tower_dims says {dim}.")
        for name in TOWER_NAMES:
            if getattr(self, f"{name}_config") is not None and name not in self.sva_config.tower_names:
                raise ValueError(f"{name}_config is set, but sva_config.tower_names leaves {name} out.")
        if self.legacy_image_position is not None and self.legacy_image_position < 0:
            raise ValueError(f"legacy_image_position must be at least 0, got {self.legacy_image_position}.")
        # A downloaded file may say anything; building a thousand million layers would never end.
        counts = (self.text_config.num_hidden_layers, self.sva_config.num_layers, self.sva_config.num_samplers)
        if max(counts) > MOST_LAYERS:
            raise ValueError(
                f"The configuration asks for {max(counts)} layers, more than the {MOST_LAYERS} that may be."
            )
        layers = self.sva_config.sampler_layers
        if layers and layers[-1] >= self.text_config.num_hidden_layers:
            raise ValueError(
                f"The last sampler would run after decoder layer {layers[-1]}, but the language model has layers 0 to "
                f"{self.text_config.num_hidden_layers - 1}: lower num_samplers, sampler_start or sampler_stride."
            )


__all__ = ["PMCCambrianConfig", "PMCCambrianConvNextConfig", "PMCCambrianSvaConfig"]
