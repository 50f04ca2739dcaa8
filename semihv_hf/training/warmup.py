"""Warm-up of randomly initialised towers on the facts of the training images, before stage 1.

Only small models need it: the 8B recipes start from pre-trained towers. Towers and connector learn together, without
the language model, from two signals: the alignment objective on the connector's image tokens, and a linear head on
each tower's own map, which is thrown away afterwards. Augmentation works on batches of tensors, so that decoding
happens once.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from semihv_hf.errors import SemiHVError

from .alignment import AlignmentObjective, FactVocabulary, embed_values
from .augment import random_affine, random_intensity

CANVAS_SIDE = 112


@dataclass
class WarmupArguments:
    """Settings of the warm-up.

    Args:
        steps (`int`): optimisation steps.
        batch_size (`int`, *optional*, defaults to 32): images a step.
        learning_rate (`float`, *optional*, defaults to 2e-3): peak of the one-cycle schedule.
        weight_decay (`float`, *optional*, defaults to 0.05): AdamW's weight decay.
        head_weight (`float`, *optional*, defaults to 1.0): weight of the towers' own heads.
        seed (`int`, *optional*, defaults to 0): seed of batches and augmentation.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    head_weight: float = 1.0
    seed: int = 0


def canvases(images: list, pad_color: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Pads every image to a square and shrinks it once.

    Args:
        images (`list[PIL.Image.Image]`): decoded images.
        pad_color (`tuple[int, int, int]`): colour of the padding.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: uint8 pixels `(images, 3, side, side)` and `(height, width)` sizes.
    """
    from PIL import Image, ImageOps

    pixels, sizes = [], []
    for image in images:
        square = ImageOps.pad(
            image.convert("RGB"), (CANVAS_SIDE, CANVAS_SIDE), method=Image.Resampling.BICUBIC, color=pad_color
        )
        pixels.append(np.asarray(square))
        sizes.append((image.height, image.width))
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(sizes)


class TowerHeads(nn.Module):
    """One linear layer on each tower's map, pooled to 3 x 3 cells, for each group of facts."""

    def __init__(self, tower_dims: list[int], sizes: list[int]):
        super().__init__()
        self.sizes = sizes
        self.heads = nn.ModuleList([nn.Linear(9 * dim, sum(sizes)) for dim in tower_dims])

    def forward(self, features: list[torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        total = 0
        for head, feature in zip(self.heads, features):
            side = int(feature.shape[1] ** 0.5)
            grid = feature.transpose(1, 2).reshape(len(feature), -1, side, side)
            pooled = nn.functional.adaptive_avg_pool2d(nn.functional.layer_norm(grid, grid.shape[1:]), 3).flatten(1)
            for group, logits in enumerate(head(pooled).split(self.sizes, dim=-1)):
                if (targets[:, group] != -100).any():
                    total = total + nn.functional.cross_entropy(logits, targets[:, group])
        return total / (len(self.heads) * len(self.sizes))


def tower_pixels(batch: torch.Tensor, towers: dict[str, dict]) -> dict[str, torch.Tensor]:
    """Resizes a batch in `[0, 1]` for each tower and normalises it with that tower's mean and deviation."""
    pixels = {}
    for name, tower in towers.items():
        size = (tower["size"], tower["size"])
        resized = nn.functional.interpolate(batch, size, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (torch.tensor(tower[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        pixels[name] = (resized.clamp(0, 1) - mean) / std
    return pixels


def warm_up(model, processor, images: list, facts: list, groups: list[str], args: WarmupArguments, progress=None):
    """
    Trains towers and connector in place.

    Args:
        model ([`PMCCambrianForConditionalGeneration`]): the model; its text model is not touched.
        processor ([`PMCCambrianProcessor`]): gives tower sizes, colours and the tokenizer.
        images (`list[PIL.Image.Image]`): training images.
        facts (`list[list[dict]]`): facts of each image.
        groups (`list[str]`): groups of facts, see [`FactVocabulary`].
        args ([`WarmupArguments`]): settings.
        progress (`Callable[[int], None]`, *optional*): called after every step with the number of finished steps.

    Returns:
        `list[dict]`: the log, one entry every ten steps: step, loss, learning rate, accuracy of each group.
    """
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import kept_region

    base, side = model.model, model.config.sva_config.query_side
    vocabulary = FactVocabulary.from_records(groups, facts)
    objective = AlignmentObjective(embed_values(vocabulary, processor.tokenizer, model.get_input_embeddings()))
    towers = processor.image_processor.towers
    pixels, sizes = canvases(images, tuple(next(iter(towers.values()))["pad_color"]))
    targets = torch.tensor([vocabulary.targets(row) for row in facts])
    weights = _balanced(targets)

    base.vision_towers.requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(args.seed)
        heads = TowerHeads(model.config.sva_config.tower_dims, [len(values) for values in vocabulary.values])
    trained = nn.ModuleList([base.vision_towers, base.connector, heads])
    optimizer = torch.optim.AdamW(trained.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.learning_rate, total_steps=max(args.steps, 2), pct_start=0.15
    )
    generator = torch.Generator().manual_seed(args.seed)
    log, recent, started = [], [], time.monotonic()
    for step in range(1, args.steps + 1):
        chosen = torch.multinomial(weights, args.batch_size, replacement=True, generator=generator)
        batch = random_affine(pixels[chosen].float() / 255, generator)
        batch = random_intensity(batch, generator)
        features = base.get_tower_features(tower_pixels(batch, towers))
        tokens = base.embed_vision_features(features, sizes[chosen]).pooler_output
        regions = [kept_region(height, width, side) for height, width in sizes[chosen].tolist()]
        loss, accuracy = objective(tokens, regions, targets[chosen])
        loss = loss + args.head_weight * heads(
            [features[n] for n in model.config.sva_config.tower_names], targets[chosen]
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append((float(loss.detach()), accuracy))
        if not math.isfinite(recent[-1][0]):
            raise SemiHVError(
                f"The loss of the warm-up is {recent[-1][0]} in step {step}.", "Lower its learning rate."
            )
        if step % 10 == 0 or step == args.steps:
            log.append(_log_entry(step, recent, schedule, groups, time.monotonic() - started))
            recent = []
        if progress is not None:
            progress(step)
    optimizer.zero_grad(set_to_none=True)
    base.vision_towers.requires_grad_(not model.config.freeze_vision_towers)
    return log


def _balanced(targets: torch.Tensor) -> torch.Tensor:
    """Sampling weights: an image kind with few images is drawn more often, by the square root of its share."""
    kinds, inverse, counts = torch.unique(targets[:, :2], dim=0, return_inverse=True, return_counts=True)
    return counts.float().pow(-0.5)[inverse]


def _log_entry(step: int, recent: list, schedule, groups: list[str], seconds: float) -> dict:
    accuracies = torch.stack([accuracy for _, accuracy in recent]).nanmean(dim=0).tolist()
    return {
        "step": step,
        "loss": sum(loss for loss, _ in recent) / len(recent),
        "learning_rate": schedule.get_last_lr()[0],
        "seconds": round(seconds, 2),
        **{f"accuracy/{group}": value for group, value in zip(groups, accuracies) if value == value},
    }
