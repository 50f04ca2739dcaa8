# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""The spatial vision aggregator (arXiv 2406.16860, section 3): windows, masks, cross-attention, connector."""

from typing import NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init

from .configuration_pmc_cambrian import PMCCambrianSvaConfig
from .configuration_pmc_cambrian import kept_region


class VisionContext(NamedTuple):
    """What the queries of some image positions look at.

    Attributes:
        keys (`torch.Tensor` of shape `(rows, num_keys, hidden_size)`): the windows of all towers.
        context (`torch.Tensor` of shape `(rows, hidden_size)`): global context of the row's image.
        mask (`torch.BoolTensor` of shape `(rows, num_keys)`): `True` where a key may be attended to.
    """

    keys: torch.Tensor
    context: torch.Tensor
    mask: torch.Tensor


Region = tuple[int, int, int, int]


def tower_windows(
    features: list[torch.Tensor], config: PMCCambrianSvaConfig, side: int, regions: list[Region]
) -> torch.Tensor:
    """
    Groups the grid of every tower by the query that sees it.

    Args:
        features (`list[torch.Tensor]`): for each tower `(images, aux_side**2, hidden_size)`, row-major.
        config (`PMCCambrianSvaConfig`): the geometry.
        side (`int`): side of the query grid.
        regions (`list[tuple[int, int, int, int]]`): the wanted queries of each image, see [`kept_region`].

    Returns:
        `torch.Tensor` of shape `(rows, keys, hidden_size)`, the queries of all images one after the other.
    """
    return _TowerWindows.apply(config.ratios(side), side, regions, *features)


class _TowerWindows(torch.autograd.Function):
    """Copies each wanted window once, to where it belongs. Indexing and concatenation would copy all of them thrice,
    and the windows are hundreds of megabytes."""

    @staticmethod
    def forward(ctx, ratios, side, regions, *features):
        ctx.geometry = (ratios, side, regions)
        ctx.shapes = [feature.shape for feature in features]
        rows = sum(_count(region) for region in regions)
        keys = features[0].new_empty(rows, sum(ratio**2 for ratio in ratios), features[0].shape[-1])
        for window, grid in _window_pairs(keys, features, *ctx.geometry):
            window.copy_(grid)
        return keys

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_keys):
        # Windows do not overlap: every cell of a grid takes its gradient from one place, or is not seen at all.
        grads = [grad_keys.new_zeros(shape) for shape in ctx.shapes]
        for window, grid in _window_pairs(grad_keys, grads, *ctx.geometry):
            grid.copy_(window)
        return None, None, None, *grads


def _window_pairs(keys, features, ratios: tuple[int, ...], side: int, regions: list[Region]):
    """For each tower and image two views of shape `(rows, columns, ratio, ratio, width)`: of keys, of features."""
    per_image = [_count(region) for region in regions]
    per_tower = [ratio**2 for ratio in ratios]
    for feature, ratio, windows in zip(features, ratios, keys.split(per_tower, dim=1)):
        grids = feature.unflatten(1, (side, ratio, side, ratio))
        for (top, bottom, left, right), grid, window in zip(regions, grids, windows.split(per_image)):
            window = window.unflatten(1, (ratio, ratio)).unflatten(0, (bottom - top, right - left))
            yield window, grid[top:bottom, :, left:right].transpose(1, 2)


def _count(region: Region) -> int:
    return (region[1] - region[0]) * (region[3] - region[2])


def window_mask(height: int, width: int, config: PMCCambrianSvaConfig, side: int) -> torch.Tensor:
    """
    Which keys of each query hold real pixels. A tower's window without any is opened wholly, as in the original.

    Args:
        height (`int`): height of the original image in pixels.
        width (`int`): width of the original image in pixels.
        config (`PMCCambrianSvaConfig`): the geometry.
        side (`int`): side of the query grid.

    Returns:
        `torch.BoolTensor` of shape `(side**2, keys)`, on the CPU.
    """
    masks = []
    for ratio in config.ratios(side):
        grid = torch.zeros(side * ratio, side * ratio, dtype=torch.bool)
        row_start, row_stop, column_start, column_stop = kept_region(height, width, side * ratio)
        grid[row_start:row_stop, column_start:column_stop] = True
        window = grid.view(side, ratio, side, ratio).permute(0, 2, 1, 3).reshape(side * side, ratio * ratio)
        masks.append(window | ~window.any(dim=-1, keepdim=True))
    return torch.cat(masks, dim=1)


def init_linear(parent: nn.Module, std: float) -> None:
    """Fresh weights for the linear and convolution layers below `parent`; those that were loaded stay."""
    for module in parent.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            init.normal_(module.weight, mean=0.0, std=std)


def init_sva_layer(layer: "PMCCambrianSvaLayer", std: float) -> None:
    """Fresh weights for one layer of the aggregator; those that were loaded stay."""
    for position in layer.pos_embeds.parameters():
        init.normal_(position, mean=0.0, std=1.0)
    init_linear(layer, std)


class PMCCambrianCrossAttention(nn.Module):
    """One query over the keys of its own windows; every tower has key and value projections of its own."""

    def __init__(self, config: PMCCambrianSvaConfig):
        super().__init__()
        width, eps, towers = config.hidden_size, config.layer_norm_eps, len(config.tower_names)
        self.num_heads = config.num_attention_heads
        self.q_norm = nn.LayerNorm(width, eps=eps)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_norms = nn.ModuleList([nn.LayerNorm(width, eps=eps) for _ in range(towers)])
        self.k_projs = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(towers)])
        self.v_norms = nn.ModuleList([nn.LayerNorm(width, eps=eps) for _ in range(towers)])
        self.v_projs = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(towers)])
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, queries: torch.Tensor, windows: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        rows, width = queries.shape
        head = (rows, -1, self.num_heads, width // self.num_heads)
        query = self.q_proj(self.q_norm(queries)).view(head).transpose(1, 2)
        keys = [proj(norm(window)) for proj, norm, window in zip(self.k_projs, self.k_norms, windows)]
        values = [proj(norm(window)) for proj, norm, window in zip(self.v_projs, self.v_norms, windows)]
        key = torch.cat(keys, dim=1).view(head).transpose(1, 2)
        value = torch.cat(values, dim=1).view(head).transpose(1, 2)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return self.o_proj(attended.transpose(1, 2).reshape(rows, width))


class PMCCambrianSvaMLP(nn.Module):
    def __init__(self, width: int, output_width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, width, bias=False)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(width, output_width, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(hidden_states)))


class PMCCambrianWindowPositions(nn.Module):
    """Learned positions of the keys within a window, for each tower that has more than one key there.

    They are added in a `forward` of their own, not read by the layer: offloaded parameters come with the call.
    """

    def __init__(self, lengths: list[int], width: int):
        super().__init__()
        for index, length in enumerate(lengths):
            if length > 1:
                self.register_parameter(str(index), nn.Parameter(torch.randn(length, width)))

    def forward(self, windows: list[torch.Tensor]) -> list[torch.Tensor]:
        """Each tower's window `(rows, length, hidden_size)` with its positions added."""
        positions = [self._parameters.get(str(index)) for index in range(len(windows))]
        return [window if position is None else window + position for window, position in zip(windows, positions)]


class PMCCambrianSvaLayer(nn.Module):
    """A cross-attention layer; the residual is the layer's input, there is no gate and no learned tower weight."""

    def __init__(self, config: PMCCambrianSvaConfig, query_width: int, query_side: int):
        super().__init__()
        width = config.hidden_size
        self.lengths = [ratio**2 for ratio in config.ratios(query_side)]
        self.proj_context = nn.Linear(width, width, bias=False)
        self.proj_in = nn.Linear(query_width + width, width, bias=False)
        self.pos_embeds = PMCCambrianWindowPositions(self.lengths, width)
        self.cross_attn = PMCCambrianCrossAttention(config)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = PMCCambrianSvaMLP(width, query_width)

    def forward(self, hidden_states: torch.Tensor, vision: VisionContext) -> torch.Tensor:
        """`hidden_states` of shape `(rows, query_width)`; returns the same shape, the residual added."""
        context = self.proj_context(vision.context)
        queries = self.proj_in(torch.cat([hidden_states, context], dim=-1))
        windows = self.pos_embeds(list(vision.keys.split(self.lengths, dim=1)))
        queries = queries + self.cross_attn(queries, windows, vision.mask)
        return hidden_states + self.mlp(self.norm(queries))


class PMCCambrianAuxProjector(nn.Module):
    """Brings one tower's features to the aggregator's width."""

    def __init__(self, config: PMCCambrianSvaConfig, tower_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(tower_dim, config.hidden_size)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc2(self.act(self.fc1(features))))


class PMCCambrianProjector(nn.Module):
    """From the aggregator's width, all query groups side by side, to the text model's."""

    def __init__(self, width: int, text_width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, text_width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(text_width, text_width)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(hidden_states)))


class PMCCambrianConnector(nn.Module):
    """From tower features to image tokens: projectors, cross-attention over windows, unpadding, newline tokens."""

    def __init__(self, config: PMCCambrianSvaConfig, text_width: int):
        super().__init__()
        self.config = config
        width, groups = config.hidden_size, config.group_sides
        self.aux_projectors = nn.ModuleList([PMCCambrianAuxProjector(config, dim) for dim in config.tower_dims])
        self.query = nn.Parameter(torch.randn(len(groups), width))
        self.image_newline = nn.Parameter(torch.randn(text_width))
        # The first group keeps the short name: the released models have no other.
        self.layers = self._group_layers(groups[0])
        self.more_groups = nn.ModuleList([self._group_layers(side) for side in groups[1:]])
        self.projector = PMCCambrianProjector(width * len(groups), text_width)

    def _group_layers(self, side: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList([PMCCambrianSvaLayer(config, config.hidden_size, side) for _ in range(config.num_layers)])

    def forward(
        self, features: list[torch.Tensor], image_sizes: list[tuple[int, int]], whole_grid: bool = False
    ) -> tuple[torch.Tensor, VisionContext]:
        """
        What it gives are as many tensors for one image as for ten: sharded training fetches a module's weights once
        for each tensor that it gives, and would wait for ever where processes have different numbers of images.

        Args:
            features (`list[torch.Tensor]`): for each tower `(images, aux_side**2, tower_dim)`.
            image_sizes (`list[tuple[int, int]]`): `(height, width)` of the original images in pixels.
            whole_grid (`bool`, *optional*, defaults to `False`):
                whether the contexts are those of all `query_side**2` queries, the padded area included.

        Returns:
            `tuple`: the tokens of all images, `(tokens, text_width)`, one image after the other; and the
            [`VisionContext`] of the same tokens, in which a newline row has an all-`False` mask. [`per_image`] parts
            them.
        """
        side = self.config.query_side
        projected = [project(feature) for project, feature in zip(self.aux_projectors, features)]
        regions = [kept_region(height, width, side) for height, width in image_sizes]
        lengths = [_count(region) for region in regions]
        vision = vision_context(projected, image_sizes, self.config, side, regions)

        groups = []
        for query, query_side, layers in zip(self.query, self.config.group_sides, [self.layers, *self.more_groups]):
            if query_side == side:
                groups.append(_aggregate(layers, query, vision))
                continue
            everywhere = vision_context(projected, image_sizes, self.config, query_side)
            grid = _aggregate(layers, query, everywhere).view(len(image_sizes), query_side, query_side, -1)
            grid = resize_maps(grid.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
            groups.append(torch.cat([_kept(image, region) for image, region in zip(grid, regions)]))
        tokens = self.projector(torch.cat(groups, dim=-1)).split(lengths)
        if whole_grid:
            vision = vision_context(projected, image_sizes, self.config, side)
        else:
            vision = VisionContext(
                *(
                    torch.cat(
                        [_append_zero_column(rows, region) for rows, region in zip(field.split(lengths), regions)]
                    )
                    for field in vision
                )
            )
        return torch.cat([self._with_newlines(image, region) for image, region in zip(tokens, regions)]), vision

    def per_image(
        self,
        tokens: torch.Tensor,
        vision: VisionContext,
        image_sizes: list[tuple[int, int]],
        whole_grid: bool = False,
    ) -> tuple[list[torch.Tensor], list[VisionContext]]:
        """
        Parts what [`forward`] gives.

        Args:
            tokens (`torch.Tensor`): the tokens of all images.
            vision ([`VisionContext`]): their context.
            image_sizes (`list[tuple[int, int]]`): as for [`forward`].
            whole_grid (`bool`, *optional*, defaults to `False`): as for [`forward`].

        Returns:
            `tuple`: the image tokens, `(rows * (columns + 1), text_width)`, and the context of each image.
        """
        side = self.config.query_side
        regions = [kept_region(height, width, side) for height, width in image_sizes]
        lengths = [_count(region) + region[1] - region[0] for region in regions]
        rows = [side * side] * len(image_sizes) if whole_grid else lengths
        contexts = [VisionContext(*fields) for fields in zip(*(field.split(rows) for field in vision))]
        return list(tokens.split(lengths)), contexts

    def _with_newlines(self, tokens: torch.Tensor, region: Region) -> torch.Tensor:
        rows = region[1] - region[0]
        newline = self.image_newline.to(tokens.dtype).expand(rows, 1, -1)
        return torch.cat([tokens.unflatten(0, (rows, -1)), newline], dim=1).flatten(0, 1)


def vision_context(
    projected: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    config: PMCCambrianSvaConfig,
    side: int,
    regions: list[Region] | None = None,
) -> VisionContext:
    """
    What the queries of a grid look at, all images one after the other.

    Args:
        projected (`list[torch.Tensor]`): for each tower `(images, aux_side**2, hidden_size)`; the first one's mean is
            the global context, padded area included.
        image_sizes (`list[tuple[int, int]]`): `(height, width)` of the original images in pixels.
        config (`PMCCambrianSvaConfig`): the geometry.
        side (`int`): side of the query grid.
        regions (`list[tuple[int, int, int, int]]`, *optional*): the wanted queries of each image, by default all.

    Returns:
        [`VisionContext`]
    """
    if regions is None:
        regions = [(0, side, 0, side)] * len(image_sizes)
    keys = tower_windows(projected, config, side, regions)
    masks = []
    for (height, width), region in zip(image_sizes, regions):
        masks.append(_kept(window_mask(height, width, config, side).unflatten(0, (side, side)), region))
    rows = torch.tensor([_count(region) for region in regions], device=keys.device)
    context = projected[0].mean(dim=1).repeat_interleave(rows, dim=0)
    return VisionContext(keys, context, torch.cat(masks).to(keys.device))


def resize_maps(maps: torch.Tensor, side: int) -> torch.Tensor:
    """Feature maps `(images, channels, height, width)` on a `side` x `side` grid.

    In float32 whatever the dtype, without antialiasing: what the released connector was trained on.
    """
    resized = nn.functional.interpolate(maps.float(), size=(side, side), mode="bilinear", align_corners=False)
    return resized.to(maps.dtype)


def _aggregate(layers: nn.ModuleList, query: torch.Tensor, vision: VisionContext) -> torch.Tensor:
    hidden_states = query.to(vision.keys.dtype).expand(len(vision.keys), -1)
    for layer in layers:
        hidden_states = layer(hidden_states, vision)
    return hidden_states


def _kept(grid: torch.Tensor, region: Region) -> torch.Tensor:
    """The region's cells of a grid `(side, side, ...)`, one after the other."""
    return grid[region[0] : region[1], region[2] : region[3]].flatten(0, 1)


def _append_zero_column(field: torch.Tensor, region: Region) -> torch.Tensor:
    shaped = field.unflatten(0, (region[1] - region[0], -1))
    return torch.cat([shaped, torch.zeros_like(shaped[:, :1])], dim=1).flatten(0, 1)
