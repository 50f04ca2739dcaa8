"""Augmentation: shapes, ranges, one generator, no mirror."""

import torch

from semihv_hf.training.augment import random_affine, random_intensity


def images():
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_the_same_generator_gives_the_same_images():
    first = random_affine(images(), torch.Generator().manual_seed(3))
    again = random_affine(images(), torch.Generator().manual_seed(3))
    other = random_affine(images(), torch.Generator().manual_seed(4))
    assert first.shape == images().shape
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_nothing_changes_at_strength_zero():
    unchanged = random_affine(images(), torch.Generator().manual_seed(0), degrees=0, scale=0, shift=0)
    torch.testing.assert_close(unchanged, images(), atol=1e-5, rtol=0)


def test_left_stays_left():
    half = torch.zeros(64, 1, 24, 24)
    half[..., :12] = 1
    moved = random_affine(half, torch.Generator().manual_seed(0))
    assert (moved[..., :12].mean(dim=(1, 2, 3)) > moved[..., 12:].mean(dim=(1, 2, 3))).all()


def test_intensity_stays_in_range_and_changes_something():
    changed = random_intensity(images(), torch.Generator().manual_seed(0))
    assert changed.min() >= 0 and changed.max() <= 1
    assert (changed - images()).abs().mean() > 0.01
