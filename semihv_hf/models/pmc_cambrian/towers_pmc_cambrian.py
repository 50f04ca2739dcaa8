# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""The vision towers of PMC-Cambrian, each brought to the grid that the aggregator expects."""

import torch
from torch import nn
from transformers import AutoModel

from .configuration_pmc_cambrian import TOWER_NAMES
from .configuration_pmc_cambrian import PMCCambrianConfig
from .convnext_pmc_cambrian import PMCCambrianConvNextTower
from .sva_pmc_cambrian import resize_maps


class PMCCambrianVisionTowers(nn.Module):
    """The named towers that a configuration asks for, each giving `(images, aux_side**2, tower_dim)`."""

    def __init__(self, config: PMCCambrianConfig):
        super().__init__()
        for name in TOWER_NAMES:
            tower_config = getattr(config, f"{name}_config")
            if tower_config is None:
                continue
            if name == "siglip":
                # The pooling head is never read; a configuration from elsewhere may still ask for it.
                tower_config.vision_use_head = False
            build = PMCCambrianConvNextTower if name == "convnext" else AutoModel.from_config
            tower = build(tower_config)
            self.add_module(name, tower)

    def unread_parts(self) -> nn.ModuleList:
        """What the towers have but their features do not depend on: training it would wait for a gradient in vain."""
        parts = nn.ModuleList()
        if hasattr(self, "clip"):
            parts += [self.clip.encoder.layers[-1], self.clip.post_layernorm]
        if hasattr(self, "dino") and self.dino.embeddings.mask_token is not None:
            parts.append(nn.ParameterList([self.dino.embeddings.mask_token]))
        return parts

    def forward(self, name: str, pixel_values: torch.Tensor, side: int) -> torch.Tensor:
        tower = getattr(self, name)
        pixel_values = pixel_values.to(dtype=next(tower.parameters()).dtype)
        if name == "convnext":
            return (
                torch.cat([resize_maps(map_, side) for map_ in tower(pixel_values)], dim=1).flatten(2).transpose(1, 2)
            )
        if name == "siglip":
            tokens = tower(pixel_values).last_hidden_state
        elif name == "clip":
            tokens = tower(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]
        else:
            tokens = tower(pixel_values).last_hidden_state[:, 1:]
        grid = int(tokens.shape[1] ** 0.5)
        if grid == side:
            return tokens
        maps = tokens.transpose(1, 2).reshape(len(tokens), -1, grid, grid)
        return resize_maps(maps, side).flatten(2).transpose(1, 2)
