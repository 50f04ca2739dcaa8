# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""The spatial vision aggregator (arXiv 2406.16860, section 3): windows, masks, cross-attention, connector."""

from typing import NamedTuple

import torch
from torch import nn

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


def tower_windows(features: list[torch.Tensor], config: PMCCambrianSvaConfig) -> torch.Tensor:
    """
    Groups the grid of every tower by the query that sees it.

    Args:
        features (`list[torch.Tensor]`): for each tower `(images, side**2, hidden_size)`, row-major.
        config (`PMCCambrianSvaConfig`): the geometry.

    Returns:
        `torch.Tensor` of shape `(images, query_side**2, num_keys, hidden_size)`.
    """
    side = config.query_side
    windows = []
    for feature, ratio in zip(features, config.ratios):
        images, _, width = feature.shape
        grid = feature.view(images, side, ratio, side, ratio, width).permute(0, 1, 3, 2, 4, 5)
        windows.append(grid.reshape(images, side * side, ratio * ratio, width))
    return torch.cat(windows, dim=2)


def window_mask(height: int, width: int, config: PMCCambrianSvaConfig) -> torch.Tensor:
    """
    Which keys of each query hold real pixels. A tower's window without any is opened wholly, as in the original.

    Returns:
        `torch.BoolTensor` of shape `(query_side**2, num_keys)`, on the CPU.
    """
    side = config.query_side
    masks = []
    for ratio in config.ratios:
        grid = torch.zeros(side * ratio, side * ratio, dtype=torch.bool)
        row_start, row_stop, column_start, column_stop = kept_region(height, width, side * ratio)
        grid[row_start:row_stop, column_start:column_stop] = True
        window = grid.view(side, ratio, side, ratio).permute(0, 2, 1, 3).reshape(side * side, ratio * ratio)
        masks.append(window | ~window.any(dim=-1, keepdim=True))
    return torch.cat(masks, dim=1)


class PMCCambrianCrossAttention(nn.Module):
    """One query over the keys of its own windows; every tower has key and value projections of its own."""

    def __init__(self, config: PMCCambrianSvaConfig):
        super().__init__()
        width, eps, towers = config.hidden_size, config.layer_norm_eps, len(config.tower_names)
        self.num_heads = config.num_attention_heads
        self.lengths = [ratio**2 for ratio in config.ratios]
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


class PMCCambrianSvaLayer(nn.Module):
    """A cross-attention layer; the residual is the layer's input, there is no gate and no learned tower weight."""

    def __init__(self, config: PMCCambrianSvaConfig, query_width: int):
        super().__init__()
        width = config.hidden_size
        self.lengths = [ratio**2 for ratio in config.ratios]
        self.proj_context = nn.Linear(width, width, bias=False)
        self.proj_in = nn.Linear(query_width + width, width, bias=False)
        self.pos_embeds = nn.ParameterDict(
            {str(i): nn.Parameter(torch.randn(n, width)) for i, n in enumerate(self.lengths) if n > 1}
        )
        self.cross_attn = PMCCambrianCrossAttention(config)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = PMCCambrianSvaMLP(width, query_width)

    def forward(self, hidden_states: torch.Tensor, vision: VisionContext) -> torch.Tensor:
        """`hidden_states` of shape `(rows, query_width)`; returns the same shape, the residual added."""
        context = self.proj_context(vision.context)
        queries = self.proj_in(torch.cat([hidden_states, context], dim=-1))
        windows = list(vision.keys.split(self.lengths, dim=1))
        for index, position in self.pos_embeds.items():
            windows[int(index)] = windows[int(index)] + position
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
        self.aux_projectors = nn.ModuleList([PMCCambrianAuxProjector(config, dim) for dim in config.tower_dims])
        self.query = nn.Parameter(torch.randn(1, config.hidden_size))
        self.image_newline = nn.Parameter(torch.randn(text_width))
        self.layers = nn.ModuleList(
            [PMCCambrianSvaLayer(config, config.hidden_size) for _ in range(config.num_layers)]
        )
        self.projector = PMCCambrianProjector(config.hidden_size, text_width)

    def forward(
        self, features: list[torch.Tensor], image_sizes: list[tuple[int, int]]
    ) -> tuple[list[torch.Tensor], list[VisionContext]]:
        """
        Args:
            features (`list[torch.Tensor]`): for each tower `(images, aux_side**2, tower_dim)`.
            image_sizes (`list[tuple[int, int]]`): `(height, width)` of the original images in pixels.

        Returns:
            `tuple`: the image tokens, `(rows * (columns + 1), text_width)` for each image; and the
            [`VisionContext`] of the same tokens, in which a newline row has an all-`False` mask.
        """
        config, side = self.config, self.config.query_side
        projected = [project(feature) for project, feature in zip(self.aux_projectors, features)]
        context = projected[0].mean(dim=1)
        windows = tower_windows(projected, config)

        regions = [kept_region(height, width, side) for height, width in image_sizes]
        kept = [self._kept_positions(region, windows.device) for region in regions]
        keys = torch.cat([windows[image, positions] for image, positions in enumerate(kept)])
        rows_per_image = torch.tensor([len(positions) for positions in kept], device=windows.device)
        masks = [window_mask(height, width, config).to(windows.device) for height, width in image_sizes]
        mask = torch.cat([image_mask[positions] for image_mask, positions in zip(masks, kept)])
        vision = VisionContext(keys, context.repeat_interleave(rows_per_image, dim=0), mask)

        hidden_states = self.query.to(keys.dtype).expand(len(keys), -1)
        for layer in self.layers:
            hidden_states = layer(hidden_states, vision)
        tokens = self.projector(hidden_states)
        return self._with_newlines(tokens, vision, regions, rows_per_image.tolist())

    def _kept_positions(self, region: tuple[int, int, int, int], device: torch.device) -> torch.Tensor:
        row_start, row_stop, column_start, column_stop = region
        rows = torch.arange(row_start, row_stop, device=device)
        columns = torch.arange(column_start, column_stop, device=device)
        return (rows[:, None] * self.config.query_side + columns).flatten()

    def _with_newlines(
        self, tokens: torch.Tensor, vision: VisionContext, regions: list, lengths: list[int]
    ) -> tuple[list[torch.Tensor], list[VisionContext]]:
        newline = self.image_newline.to(tokens.dtype)
        images, contexts = [], []
        per_image = zip(regions, tokens.split(lengths), *(field.split(lengths) for field in vision))
        for (row_start, row_stop, column_start, column_stop), image, keys, context, mask in per_image:
            grid = (row_stop - row_start, column_stop - column_start)
            column = newline.expand(grid[0], 1, -1)
            images.append(torch.cat([image.view(*grid, -1), column], dim=1).flatten(0, 1))
            contexts.append(VisionContext(*(_append_zero_column(field, grid) for field in (keys, context, mask))))
        return images, contexts


def _append_zero_column(field: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    shaped = field.view(*grid, *field.shape[1:])
    return torch.cat([shaped, torch.zeros_like(shaped[:, :1])], dim=1).flatten(0, 1)
