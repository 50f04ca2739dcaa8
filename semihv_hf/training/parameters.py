"""Which parameters train: chosen by patterns, counted, grouped by learning rate, and proven frozen afterwards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from semihv_hf.errors import SemiHVError


@dataclass
class TrainableReport:
    """What a stage trains and what it leaves alone; counts are of distinct tensors and their elements."""

    patterns: list[str]
    names: list[str]
    parameters: int
    frozen_tensors: int
    frozen_parameters: int

    def __str__(self) -> str:
        return (
            f"training {self.parameters:,} parameters in {len(self.names)} tensors; "
            f"{self.frozen_parameters:,} in {self.frozen_tensors} tensors stay frozen"
        )

    def record(self, bit_identical: bool) -> dict[str, dict]:
        """The same for `stage.json`.

        Args:
            bit_identical (`bool`): whether the frozen tensors were found unchanged after training.

        Returns:
            `dict`: `trainable` and `frozen`.
        """
        return {
            "trainable": {
                "patterns": self.patterns,
                "names": self.names,
                "parameters": self.parameters,
                "tensors": len(self.names),
            },
            "frozen": {
                "parameters": self.frozen_parameters,
                "tensors": self.frozen_tensors,
                "bit_identical": bit_identical,
            },
        }


def select_trainable(model: nn.Module, patterns: list[str]) -> TrainableReport:
    """
    Makes exactly the parameters trainable whose full name matches a pattern.

    Args:
        model (`nn.Module`): the model.
        patterns (`list[str]`): regular expressions, each matched against whole parameter names.

    Returns:
        [`TrainableReport`]

    Raises:
        `SemiHVError`: if a pattern is no regular expression or matches nothing.
    """
    parameters = dict(model.named_parameters())
    chosen: set[str] = set()
    for pattern in patterns:
        try:
            matched = {name for name in parameters if re.fullmatch(pattern, name)}
        except re.error as error:
            raise SemiHVError(f"The trainable pattern {pattern!r} is no regular expression: {error}.") from error
        if not matched:
            raise SemiHVError(
                f"The trainable pattern {pattern!r} matches no parameter.",
                f"Names look like {next(iter(parameters))!r}.",
            )
        chosen |= matched
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    frozen = [parameter for name, parameter in parameters.items() if name not in chosen]
    return TrainableReport(
        patterns=list(patterns),
        names=[name for name in parameters if name in chosen],
        parameters=sum(element_count(parameters[name]) for name in chosen),
        frozen_tensors=len(frozen),
        frozen_parameters=sum(element_count(parameter) for parameter in frozen),
    )


def describe_trainable(model: nn.Module) -> TrainableReport:
    """What trains in a model whose parameters were chosen already, such as one with adapters."""
    parameters = dict(model.named_parameters())
    chosen = {name for name, parameter in parameters.items() if parameter.requires_grad}
    frozen = [parameter for name, parameter in parameters.items() if name not in chosen]
    return TrainableReport(
        patterns=[],
        names=sorted(chosen),
        parameters=sum(element_count(parameters[name]) for name in chosen),
        frozen_tensors=len(frozen),
        frozen_parameters=sum(element_count(parameter) for parameter in frozen),
    )


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """SHA-256 of the bytes of every parameter that takes no gradient, by name."""
    digests = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            with whole_tensor(parameter) as tensor:
                raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digests[name] = hashlib.sha256(raw.numpy()).hexdigest()
    return digests


@contextmanager
def whole_tensor(parameter: torch.Tensor) -> Iterator[torch.Tensor]:
    """
    A parameter with all its elements, also where each process holds a part (ZeRO-3, FSDP2); all processes must ask.

    Args:
        parameter (`torch.Tensor`): a parameter of a model.

    Yields:
        `torch.Tensor`: to be read within the block only.
    """
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            yield parameter.data
    elif hasattr(parameter, "full_tensor"):
        yield parameter.detach().full_tensor()
    else:
        yield parameter


def element_count(parameter: torch.Tensor) -> int:
    """Elements of a parameter, also where this process holds only a part of them."""
    return getattr(parameter, "ds_numel", parameter.numel())


def plain_name(name: str) -> str:
    """A parameter's name in the model without adapters, so that one pattern fits both."""
    name = name.removeprefix("base_model.model.")
    return re.sub(r"\.(base_layer|modules_to_save\.\w+|original_module)(?=\.)", "", name)


def part_of(name: str) -> str:
    """Which part of an image-text model a parameter belongs to: `towers`, `connector`, `samplers`, `text`, `head`, or
    `adapters`."""
    if ".lora_" in name:
        return "adapters"
    for part, words in (
        ("samplers", ("vision_samplers",)),
        ("towers", ("vision_towers", "vision_tower", ".visual.", "vision_model")),
        ("connector", ("connector", "multi_modal_projector")),
        ("head", ("lm_head",)),
    ):
        if any(word in name for word in words):
            return part
    return "text"


def changed_parameters(model: nn.Module, before: dict[str, str]) -> list[str]:
    """Names of frozen parameters that are no longer bit-identical to the digests taken `before`."""
    after = frozen_digests(model)
    return sorted(name for name, digest in before.items() if after.get(name) != digest)


def optimizer_groups(
    model: nn.Module, learning_rate: float, learning_rates: dict[str, float], weight_decay: float
) -> list[dict]:
    """
    Groups of an optimizer: each learning rate with and without weight decay.

    Biases, norms, position embeddings and other vectors are not decayed.

    Args:
        model (`nn.Module`): the model, its trainable parameters chosen.
        learning_rate (`float`): rate of parameters that no pattern matches; they are grouped by part.
        learning_rates (`dict[str, float]`): pattern on whole names to rate; the first match counts.
        weight_decay (`float`): decay of matrices.

    Returns:
        `list[dict]`: groups with `params`, `lr`, `weight_decay` and `group_name`, the pattern or the part of the
        model; empty ones are left out.

    Raises:
        `SemiHVError`: if a pattern matches no trainable parameter.
    """
    groups: dict[tuple[str, bool], dict] = {}
    used = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        pattern = next((pattern for pattern in learning_rates if re.fullmatch(pattern, plain_name(name))), None)
        used.add(pattern)
        # Under ZeRO-3 a process holds a flat part; the shape stands aside.
        decayed = (
            len(getattr(parameter, "ds_shape", parameter.shape)) > 1
            and "pos_embed" not in name
            and "position_embedding" not in name
        )
        group = groups.setdefault(
            (pattern or part_of(name), decayed),
            {
                "params": [],
                "lr": learning_rate if pattern is None else float(learning_rates[pattern]),
                "weight_decay": weight_decay if decayed else 0.0,
                "group_name": f"{pattern or part_of(name)}{'' if decayed else ' (no decay)'}",
            },
        )
        group["params"].append(parameter)
    idle = [pattern for pattern in learning_rates if pattern not in used]
    if idle:
        raise SemiHVError(f"The learning rate pattern {idle[0]!r} matches no trainable parameter.")
    return list(groups.values())


class OptimizerGroups:
    """
    Put it before a trainer: its optimizer's groups are those of [`optimizer_groups`].

    Attributes:
        learning_rates (`dict[str, float]`): pattern on whole names to rate.
    """

    learning_rates: dict[str, float] = {}

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = model or self.model
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)
            if {"params", "model", "optimizer_dict"} & kwargs.keys():
                if self.learning_rates:
                    raise SemiHVError(
                        f"optim {self.args.optim} groups parameters by itself, so learning_rates cannot.",
                        "Choose another optim, or one learning_rate for all.",
                    )
                return super().create_optimizer(model)
            groups = optimizer_groups(model, self.args.learning_rate, self.learning_rates, self.args.weight_decay)
            self.optimizer = optimizer_class(groups, **kwargs)
        return super().create_optimizer(model)
