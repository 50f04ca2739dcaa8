# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""ConvNeXt tower of PMC-Cambrian (arXiv 2201.03545): stem and stages, the outputs of all stages kept.

The library's own ConvNeXt fixes the LayerNorm epsilon at 1e-6 and does not accept the attention settings of the model
it is nested in, so this tower is a plain module. It has no stochastic depth: the towers never train with it.
"""

import torch
from torch import nn

from .configuration_pmc_cambrian import PMCCambrianConvNextConfig


class PMCCambrianLayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of `(images, channels, height, width)`."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PMCCambrianConvNextLayer(nn.Module):
    """Depthwise 7x7 convolution, LayerNorm, two pointwise layers and a learned scale for each channel."""

    def __init__(self, config: PMCCambrianConvNextConfig, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.layernorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.layer_scale_parameter = nn.Parameter(torch.full((dim,), float(config.layer_scale_init_value)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states
        hidden_states = self.layernorm(self.dwconv(hidden_states).permute(0, 2, 3, 1))
        hidden_states = self.pwconv2(self.act(self.pwconv1(hidden_states)))
        return residual + (self.layer_scale_parameter * hidden_states).permute(0, 3, 1, 2)


class PMCCambrianConvNextStage(nn.Module):
    """A stage: downsampling by two in all but the first, then its layers."""

    def __init__(self, config: PMCCambrianConvNextConfig, index: int):
        super().__init__()
        dim = config.hidden_sizes[index]
        self.downsampling_layer = nn.ModuleList()
        if index > 0:
            previous = config.hidden_sizes[index - 1]
            self.downsampling_layer.append(PMCCambrianLayerNorm2d(previous, eps=config.layer_norm_eps))
            self.downsampling_layer.append(nn.Conv2d(previous, dim, kernel_size=2, stride=2))
        self.layers = nn.ModuleList([PMCCambrianConvNextLayer(config, dim) for _ in range(config.depths[index])])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for layer in self.downsampling_layer:
            hidden_states = layer(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class PMCCambrianConvNextEmbeddings(nn.Module):
    """The stem: a strided convolution and a LayerNorm."""

    def __init__(self, config: PMCCambrianConvNextConfig):
        super().__init__()
        width = config.hidden_sizes[0]
        self.patch_embeddings = nn.Conv2d(
            config.num_channels, width, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.layernorm = PMCCambrianLayerNorm2d(width, eps=config.layer_norm_eps)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.layernorm(self.patch_embeddings(pixel_values))


class PMCCambrianConvNextEncoder(nn.Module):
    def __init__(self, config: PMCCambrianConvNextConfig):
        super().__init__()
        self.stages = nn.ModuleList([PMCCambrianConvNextStage(config, index) for index in range(len(config.depths))])


class PMCCambrianConvNextTower(nn.Module):
    """The multi-stage tower."""

    def __init__(self, config: PMCCambrianConvNextConfig):
        super().__init__()
        self.config = config
        self.embeddings = PMCCambrianConvNextEmbeddings(config)
        self.encoder = PMCCambrianConvNextEncoder(config)

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(images, channels, image_size, image_size)`): normalised pixels.

        Returns:
            `list[torch.Tensor]`: one `(images, hidden_sizes[i], side_i, side_i)` feature map for each stage.
        """
        hidden_states = self.embeddings(pixel_values)
        maps = []
        for stage in self.encoder.stages:
            hidden_states = stage(hidden_states)
            maps.append(hidden_states)
        return maps
