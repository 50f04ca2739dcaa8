"""Geometric and intensity augmentation of a batch of square images, drawn from one generator."""

from __future__ import annotations

import math

import torch


def random_affine(
    images: torch.Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 12.0,
    scale: float = 0.2,
    shift: float = 0.06,
) -> torch.Tensor:
    """
    Rotates, scales (each axis for itself) and shifts every image; the border is repeated.

    Nothing is mirrored: left and right are facts of a medical image.

    Args:
        images (`torch.Tensor` of shape `(images, channels, side, side)`): float pixels.
        generator (`torch.Generator`): source of randomness.
        degrees (`float`, *optional*, defaults to 12.0): largest rotation to either side.
        scale (`float`, *optional*, defaults to 0.2): largest relative change of size, along each axis.
        shift (`float`, *optional*, defaults to 0.06): largest shift as a fraction of the side.

    Returns:
        `torch.Tensor`: the same shape.
    """
    count = len(images)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle = uniform(degrees) * math.pi / 180
    width, height = 1 + uniform(scale), 1 + uniform(scale)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = angle.cos() * width, -angle.sin() * height, uniform(shift) * 2
    theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = angle.sin() * width, angle.cos() * height, uniform(shift) * 2
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_intensity(images: torch.Tensor, generator: torch.Generator, *, strength: float = 0.25) -> torch.Tensor:
    """
    Changes brightness, contrast and gamma of every image and adds a little noise.

    Args:
        images (`torch.Tensor` of shape `(images, channels, side, side)`): pixels in `[0, 1]`.
        generator (`torch.Generator`): source of randomness.
        strength (`float`, *optional*, defaults to 0.25): largest relative change.

    Returns:
        `torch.Tensor`: the same shape, in `[0, 1]`.
    """
    count = len(images)

    def uniform() -> torch.Tensor:
        return (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1) * strength

    changed = images.clamp(0, 1) ** (1 + uniform())
    mean = changed.mean(dim=(1, 2, 3), keepdim=True)
    changed = (changed - mean) * (1 + uniform()) + mean + uniform() * 0.3
    noise = torch.randn(images.shape, generator=generator) * 0.02
    return (changed + noise).clamp(0, 1)
