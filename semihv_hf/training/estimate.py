"""How much memory and time a recipe takes, by part: from shapes on the meta device, before anything is loaded.

    python -m semihv_hf.training.estimate --config recipes/stage2_instruction/8b.yaml
    python -m semihv_hf.training.estimate --config recipes/stage2_instruction/8b.yaml --strategy fsdp2 --gpus 16

Counts of parameters, gradients, optimizer states and of what autograd keeps are exact for the shapes given. What a
GPU run adds (workspace, fragmentation, communication buffers) is an allowance, and the time rests on a utilisation
that is assumed, not measured: the table says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from semihv_hf.errors import SemiHVError

from .plan import GPUS, STRATEGIES, Plan, make_plan, read_recipe, trains_in_float32, weight_dtype

GIB = 2**30
# CUDA context, cuBLAS and NCCL buffers; then a share of the rest for fragmentation.
CONTEXT_BYTES, FRAGMENTATION = 2 * GIB, 0.05
# ZeRO's own defaults: stage3_max_live_parameters, and reduce_bucket_size held twice with overlap_comm.
LIVE_PARAMETERS, REDUCE_BUCKET = 1_000_000_000, 500_000_000


@dataclass
class Estimate:
    """Memory of one GPU by part in bytes, FLOPs by part of one step over all GPUs, and the time they take."""

    plan: Plan
    parameters: dict[str, tuple[int, int]]
    memory: dict[str, float]
    flops: dict[str, float]
    notes: list[str] = field(default_factory=list)

    @property
    def memory_gib(self) -> float:
        """All parts together."""
        return sum(self.memory.values()) / GIB

    @property
    def fits(self) -> bool:
        """Whether that is less than the GPU has."""
        return self.memory_gib < GPUS[self.plan.gpu][1]

    @property
    def step_seconds(self) -> float:
        """Time of a step at the plan's utilisation."""
        peak = GPUS[self.plan.gpu][0] * 1e12
        return sum(self.flops.values()) / (peak * self.plan.utilisation * self.plan.gpus)

    @property
    def gpu_hours(self) -> float | None:
        """Of all GPUs together, if the number of steps is known."""
        return None if self.plan.steps is None else self.plan.steps * self.step_seconds * self.plan.gpus / 3600

    def table(self) -> str:
        """The estimate as text."""
        plan = self.plan
        lines = [f"{plan.strategy} on {plan.gpus} x {plan.gpu} (estimated, not measured)", ""]
        lines += [f"{'part':<28}{'parameters':>18}{'trained':>18}"]
        for name, (numel, trained) in self.parameters.items():
            lines.append(f"{name:<28}{numel:>18,}{trained:>18,}")
        totals = [sum(pair[i] for pair in self.parameters.values()) for i in (0, 1)]
        lines.append(f"{'all':<28}{totals[0]:>18,}{totals[1]:>18,}")
        lines += ["", f"{'memory of one GPU':<28}{'GiB':>18}"]
        lines += [f"{name:<28}{size / GIB:>18.2f}" for name, size in self.memory.items()]
        has = GPUS[plan.gpu][1]
        lines.append(f"{'all':<28}{self.memory_gib:>18.2f}   of {has:.1f}: {'fits' if self.fits else 'DOES NOT FIT'}")
        lines += ["", f"{'a step':<28}{'TFLOP':>18}"]
        lines += [f"{name:<28}{count / 1e12:>18,.1f}" for name, count in self.flops.items()]
        lines.append(f"{'all':<28}{sum(self.flops.values()) / 1e12:>18,.1f}")
        lines += [
            "",
            f"global batch: {plan.rows_per_step:,.0f} {'pairs' if plan.reference else 'rows'} "
            f"of {plan.tokens_per_row:,.0f} tokens "
            f"({plan.gpus} GPUs x {plan.accumulation} micro-batches of {plan.tokens:,} tokens)",
            f"step: {self.step_seconds:,.2f} s at an assumed utilisation of {plan.utilisation:.0%}",
        ]
        if plan.steps is not None:
            hours = plan.steps * self.step_seconds / 3600
            lines.append(f"run: {plan.steps:,} steps, {hours:,.2f} hours, {self.gpu_hours:,.1f} GPU-hours")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def state_memory(parts: dict, plan: Plan) -> dict[str, float]:
    """
    Bytes of weights, gradients and optimizer states on one GPU, for AdamW.

    | strategy | frozen weights | trained weights | gradients | Adam's two moments |
    |---|---|---|---|---|
    | single, ddp | as loaded | as loaded, and a bfloat16 copy | as the weights; twice under ddp | twice the weights |
    | zero2 | bfloat16 | bfloat16, and a float32 copy / N | bfloat16 / N, and two buckets | float32 / N |
    | zero3 | bfloat16 / N | bfloat16 / N, and a float32 copy / N | bfloat16 / N, and two buckets | float32 / N |
    | fsdp2 | as loaded / N | float32 / N | float32 / N | float32 / N |

    Without mixed precision DeepSpeed keeps what was loaded, and no copy.

    QLoRA on one GPU, as loaded: a weight of the decoder's linear layers takes half a byte, and a byte for each block
    of 64 and four for each 256 blocks (double quantisation): 0.5159 bytes. Everything else that is frozen (towers,
    embeddings, head, norms, and the copies that PEFT keeps of modules that train in full) takes 2 bytes. What trains
    (adapters, connector, samplers) is float32: 4 bytes, 2 for its bfloat16 copy, 4 for the gradient, 8 for AdamW.
    For stage 2: 0.5159 x 6,979,321,856 + 2 x (2,695,384,304 towers + 525,336,576 head + 525,602,816 embeddings and
    norms + 302,760,960 copies) + 18 x 470,533,120 bytes = 18.8 GiB; activations and allowances come on top.

    Args:
        parts (`dict[str, Part]`): from [`~semihv_hf.training.meta_model.census`].
        plan ([`Plan`]): strategy, number of GPUs and precision.

    Returns:
        `dict[str, float]`: bytes by part.
    """
    count = sum(part.trainable for part in parts.values())
    frozen = sum(part.frozen_bytes for part in parts.values())
    towers = parts["towers"].frozen_bytes if "towers" in parts else 0.0
    trained = float(sum(n * size for part in parts.values() for n, size in part.trainable_sizes))
    shards, memory = plan.gpus, {}
    memory["towers (frozen)"], memory["other frozen weights"] = towers, frozen - towers
    if plan.strategy in ("single", "ddp"):
        memory["trained weights"] = trained
        if plan.mixed:
            wide = sum(n for part in parts.values() for n, size in part.trainable_sizes if size == 4)
            memory["bfloat16 copies"] = 2.0 * wide
        memory["gradients"] = trained
        if plan.strategy == "ddp" and plan.gpus > 1:
            memory["communication"] = trained  # DDP's buckets
        memory["optimizer states"] = 2 * trained
        return memory
    sharded = 1 if plan.strategy == "zero2" else shards
    for key in ("towers (frozen)", "other frozen weights"):
        memory[key] /= sharded
    if plan.strategy == "fsdp2":
        memory["trained weights"] = 4.0 * count / shards if plan.mixed else trained / shards
        memory["gradients"] = memory["trained weights"]
        memory["optimizer states"] = 2 * memory["trained weights"]
        return memory
    held = 2.0 * count if plan.mixed else trained
    memory["trained weights"] = held / sharded
    memory["gradients"] = held / shards
    memory["communication"] = 2 * held / count * min(REDUCE_BUCKET, count) if count else 0.0
    if plan.mixed:
        memory["float32 weights"] = 4.0 * count / shards
    memory["optimizer states"] = (8.0 * count if plan.mixed else 2 * trained) / shards
    return memory


def estimate(model, plan: Plan, four_bit: bool = False) -> Estimate:
    """
    Memory and time of a plan.

    Args:
        model (`nn.Module`): from [`~semihv_hf.training.meta_model.build_meta_model`].
        plan ([`Plan`]): what it rests on.
        four_bit (`bool`, *optional*, defaults to `False`): whether the decoder is loaded in 4 bit.

    Returns:
        [`Estimate`]
    """
    import torch

    from .meta_model import Measure, census, measure_decoder_layer, measure_vision

    parts = census(model, four_bit)
    dtype = torch.bfloat16 if plan.mixed else torch.float32
    width_bytes = 2 if plan.mixed else 4
    model = model.to(dtype)  # of the activations; the sizes of the weights were taken
    layer, layers, width = measure_decoder_layer(model, max(int(plan.tokens_per_row), 1), dtype)
    layer *= plan.tokens / max(int(plan.tokens_per_row), 1)
    vision = {name: value * plan.images for name, value in measure_vision(model, dtype).items()}
    towers, connector, samplers = (vision.get(name, Measure()) for name in ("towers", "connector", "samplers"))

    share = {name: part.trainable / part.numel for name, part in parts.items()}
    backward = any(share.get(name) for name in ("connector", "samplers", "text", "adapters", "towers"))
    memory = state_memory(parts, plan)
    if plan.strategy in ("zero3", "fsdp2"):
        numel = sum(part.numel for part in parts.values())
        biggest = max(p.numel() for p in model.parameters())
        live = min(LIVE_PARAMETERS, numel) if plan.strategy == "zero3" else 2 * layer_numel(model) + biggest
        memory["gathered weights"] = float(width_bytes * min(live, numel))
    if backward:
        boundary = width_bytes * plan.tokens * width
        if plan.checkpointing:
            memory["activations: layer inputs"] = float(layers * boundary)
            memory["activations: one layer"] = float(layer.saved_bytes)
        else:
            memory["activations: layers"] = float(layers * layer.saved_bytes)
        memory["activations: samplers"] = float(samplers.saved_bytes)
        memory["activations: connector"] = float(connector.saved_bytes) if share.get("connector") else 0.0
        memory["activations: head"] = float(3 * boundary)
    memory["activations: towers"] = float(towers.saved_bytes)
    memory["tower workspace"] = tower_workspace(model, plan.images, width_bytes)
    if plan.gpu != "cpu":
        memory["context, fragmentation"] = CONTEXT_BYTES + FRAGMENTATION * sum(memory.values())

    again = 1.0 if plan.checkpointing and backward else 0.0
    text_share = (share.get("text", 0.0) * parts["text"].numel + _trained(parts, "adapters")) / parts["text"].numel
    head_flops = 2.0 * plan.tokens * parts["head"].numel if "head" in parts else 0.0
    decoder = layers * layer.flops
    # Forward, backward through the activations, backward to the trained weights, and the forward again.
    flops = {
        "towers": towers.flops * (1 + 2 * share.get("towers", 0.0)),
        "connector": connector.flops * (1 + (2.0 if share.get("connector") else 0.0)),
        "decoder": decoder * (1 + float(backward) + text_share * float(backward) + again),
        "samplers": samplers.flops * (1 + float(backward) + share.get("samplers", 0.0)),
        "head": head_flops * (1 + float(backward) + share.get("head", 0.0)),
    }
    if plan.reference:
        flops["reference"] = towers.flops + connector.flops + decoder + samplers.flops + head_flops
    flops = {name: value * plan.gpus * plan.accumulation for name, value in flops.items() if value}
    counts = {name: (part.numel, part.trainable) for name, part in parts.items()}
    return Estimate(plan, counts, {name: size for name, size in memory.items() if size}, flops, _notes(plan, vision))


def _trained(parts: dict, name: str) -> int:
    return parts[name].trainable if name in parts else 0


def layer_numel(model) -> int:
    """Parameters of one decoder layer."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return sum(parameter.numel() for parameter in base.get_decoder().layers[0].parameters())


def tower_workspace(model, images: float, width_bytes: int) -> float:
    """
    Memory of frozen towers while they run, without a backward pass: their features, and the widest of ConvNeXt's maps
    three times (input, output and activation of a block's middle). It is gone before the decoder's own peak where the
    allocator can reuse it; counted in full all the same.

    Args:
        model (`nn.Module`): any model; 0 for others than PMC-Cambrian.
        images (`float`): images that go through the towers together.
        width_bytes (`int`): bytes of a number.

    Returns:
        `float`: bytes.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config.model_type != "pmc_cambrian":
        return 0.0
    sva, convnext = base.config.sva_config, base.config.convnext_config
    features = sum(side * side * dim for side, dim in zip(sva.aux_sides, sva.tower_dims))
    widest = 0
    if convnext is not None:
        side = convnext.image_size // convnext.patch_size
        widest = 4 * convnext.hidden_sizes[0] * side * side
    return images * width_bytes * (features + 3 * widest)


def _notes(plan: Plan, vision: dict) -> list[str]:
    notes = []
    if not vision:
        notes.append("towers and projector of this model are not measured: memory and time of the decoder alone")
    if plan.steps is None:
        notes.append("the number of rows is not stated (plan.rows), so there is no time of the run")
    return notes


def estimate_recipe(path: str | Path, strategy: str | None = None, gpus: int | None = None) -> Estimate:
    """
    Memory and time of a recipe.

    Args:
        path (`str` or `Path`): the YAML file.
        strategy (`str`, *optional*): in place of the recipe's.
        gpus (`int`, *optional*): in place of the recipe's.

    Returns:
        [`Estimate`]
    """
    from .meta_model import build_meta_model, recipe_config

    stage, settings = read_recipe(path)
    plan = make_plan(stage, settings, strategy, gpus)
    model = build_meta_model(recipe_config(stage), stage, weight_dtype(settings), wide=trains_in_float32(plan))
    return estimate(model, plan, stage.load_in_4bit)


def main(argv: list[str] | None = None) -> None:
    """Prints the table of a recipe."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m semihv_hf.training.estimate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", required=True, help="recipe, e.g. recipes/stage2_instruction/8b.yaml")
    parser.add_argument("--strategy", choices=STRATEGIES, help="in place of the recipe's expect_strategy")
    parser.add_argument("--gpus", type=int, help="in place of the recipe's expect_processes")
    options = parser.parse_args(argv)
    print(estimate_recipe(options.config, options.strategy, options.gpus).table())


if __name__ == "__main__":
    import sys

    try:
        main()
    except SemiHVError as error:
        sys.exit(f"error: {error}")
