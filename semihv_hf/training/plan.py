"""What an estimate rests on: a recipe's settings, read without starting a trainer, and the hardware that they name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError

STRATEGIES = ("single", "ddp", "zero2", "zero3", "fsdp2")

# Dense bfloat16 TFLOP/s from the makers' data sheets, and the GiB of memory that the driver shows.
GPUS = {
    "h200": (989.0, 139.0),
    "h100": (989.0, 79.0),
    "a100-80gb": (312.0, 79.0),
    "a100-40gb": (312.0, 39.0),
    "l40s": (362.0, 44.0),
    "a10g": (70.0, 22.0),
    "rtx-4090": (165.0, 23.0),
    "cpu": (0.1, 4.0),
}

# Folder of the recipes whose batches are pairs of rows, and whose model runs once more as the reference.
PREFERENCE = "preference"

PLAN_KEYS = ("architecture", "gpu", "images_per_row", "rows", "tokens_per_row", "utilisation")


@dataclass
class Plan:
    """What an estimate rests on.

    Args:
        strategy (`str`): one of `single`, `ddp`, `zero2`, `zero3`, `fsdp2`.
        gpus (`int`): processes.
        gpu (`str`): a key of `GPUS`.
        tokens (`int`): tokens of one micro-batch on one GPU, padding included.
        tokens_per_row (`float`): tokens of a row; attention does not look beyond a row.
        images (`float`): images of one micro-batch on one GPU.
        accumulation (`int`): micro-batches of one step.
        checkpointing (`bool`): whether decoder layers are computed again in the backward pass.
        mixed (`bool`): whether float32 weights are computed with in bfloat16.
        utilisation (`float`): share of the GPU's peak that is reached.
        steps (`int`, *optional*): optimisation steps, if known.
        rows_per_step (`float`): rows (or pairs) of a step, over all GPUs.
        reference (`bool`): whether the model runs once more without gradient, as the reference of DPO.
    """

    strategy: str
    gpus: int
    gpu: str
    tokens: int
    tokens_per_row: float
    images: float
    accumulation: int
    checkpointing: bool
    mixed: bool
    utilisation: float
    steps: int | None
    rows_per_step: float
    reference: bool = False


def read_recipe(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """
    A recipe's settings without starting a trainer: TRL's own checks ask for the hardware.

    Args:
        path (`str` or `Path`): the YAML file.

    Returns:
        `tuple[StageArguments, dict]`: the stage, and every setting of `SFTConfig`, defaults included; of a recipe in
        `recipes/preference` [`~semihv_hf.training.preference.PreferenceArguments`] and `DPOConfig`.
    """
    import yaml
    from trl import DPOConfig, SFTConfig

    from .arguments import RENAMED, StageArguments, check_recipe_keys, with_new_names
    from .preference import PreferenceArguments

    preference = Path(path).resolve().parent.name == PREFERENCE
    kind, config = (PreferenceArguments, DPOConfig) if preference else (StageArguments, SFTConfig)
    check_recipe_keys(path, kind, config)
    content = with_new_names(yaml.safe_load(Path(path).read_text()))
    known = {item.name for item in fields(kind)}
    stage = kind(**{key: value for key, value in content.items() if key in known})
    settings = {item.name: item.default for item in fields(config) if item.init}
    settings |= {new: settings[old] for old, new in RENAMED.items()}
    settings.update({key: value for key, value in content.items() if key not in known})
    return stage, settings


def make_plan(stage, settings: dict[str, Any], strategy: str | None = None, gpus: int | None = None) -> Plan:
    """
    What a recipe's estimate rests on.

    Args:
        stage ([`StageArguments`]): its `plan`, `expect_strategy` and `expect_processes` are read, and its packing.
        settings (`dict`): settings of `SFTConfig`, see [`read_recipe`].
        strategy (`str`, *optional*): in place of `expect_strategy`.
        gpus (`int`, *optional*): in place of `expect_processes`.

    Returns:
        [`Plan`]

    Raises:
        `SemiHVError`: for an unknown strategy, GPU or key of the plan.
    """
    given = dict(stage.plan or {})
    for key in given:
        if key not in PLAN_KEYS:
            raise SemiHVError(f"plan: unknown key {key!r}.", f"Known are {', '.join(PLAN_KEYS)}.")
    strategy = strategy or getattr(stage, "expect_strategy", None) or "single"
    gpu = str(given.get("gpu", "cpu" if settings.get("use_cpu") else "h100"))
    if strategy not in STRATEGIES:
        raise SemiHVError(f"Unknown strategy {strategy!r}.", f"Choose one of {', '.join(STRATEGIES)}.")
    if gpu not in GPUS:
        raise SemiHVError(f"plan.gpu is {gpu!r}.", f"Choose one of {', '.join(GPUS)}.")
    gpus = gpus or getattr(stage, "expect_processes", None) or 1
    pairs = "beta" in settings
    tokens_per_row = float(given.get("tokens_per_row", 700))
    batch = int(settings["per_device_train_batch_size"])
    accumulation = int(settings["gradient_accumulation_steps"])
    packed = settings.get("packing")
    length = getattr(stage, "pack_length", None) or settings.get("max_length")
    # A pack is filled to its length but for the last per cent or two.
    tokens = batch * int(length) if packed else math.ceil(batch * tokens_per_row) * (2 if pairs else 1)
    rows = tokens / tokens_per_row
    rows_per_step = rows * gpus * accumulation / (2 if pairs else 1)
    steps = int(settings["max_steps"]) if settings["max_steps"] > 0 else None
    if steps is None and given.get("rows"):
        steps = math.ceil(int(given["rows"]) * float(settings["num_train_epochs"]) / rows_per_step)
    return Plan(
        strategy=strategy,
        gpus=gpus,
        gpu=gpu,
        tokens=tokens,
        tokens_per_row=tokens_per_row,
        images=rows * float(given.get("images_per_row", 1.0)),
        accumulation=accumulation,
        checkpointing=bool(settings["activation_checkpointing"]),
        mixed=bool(settings["bf16"]),
        utilisation=float(given.get("utilisation", 0.35)),
        steps=steps,
        rows_per_step=rows_per_step,
        reference=pairs,
    )


def weight_dtype(settings: dict[str, Any]):
    """What a recipe's weights are loaded in: `model_init_kwargs.dtype`, float32 unless stated."""
    import torch

    return getattr(torch, str((settings.get("model_init_kwargs") or {}).get("dtype", "float32")))


def trains_in_float32(plan: Plan) -> bool:
    """Whether what trains is float32 beside bfloat16 or 4-bit weights: where ZeRO does not keep float32 copies."""
    return plan.mixed and plan.strategy in ("single", "ddp")
