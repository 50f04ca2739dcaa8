"""Which parameters train: chosen by patterns, counted, grouped by learning rate, and proven frozen afterwards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

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
        `list[dict]`: groups with `params`, `lr`, `weight_decay` and `group_name`, see [`group_names`], or the part of
        the model; empty ones are left out.

    Raises:
        `SemiHVError`: if a pattern matches no trainable parameter.
    """
    groups: dict[tuple[str, bool], dict] = {}
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    patterns = {
        name: next((pattern for pattern in learning_rates if re.fullmatch(pattern, plain_name(name))), None)
        for name, _ in trained
    }
    names = group_names(learning_rates, {part_of(name) for name, pattern in patterns.items() if pattern is None})
    for name, parameter in trained:
        pattern = patterns[name]
        title = part_of(name) if pattern is None else names[pattern]
        # Under ZeRO-3 a process holds a flat part; the shape stands aside.
        decayed = (
            len(getattr(parameter, "ds_shape", parameter.shape)) > 1
            and "pos_embed" not in name
            and "position_embedding" not in name
        )
        group = groups.setdefault(
            (title, decayed),
            {
                "params": [],
                "lr": learning_rate if pattern is None else learning_rates[pattern],
                "weight_decay": weight_decay if decayed else 0.0,
                "group_name": f"{title}{'' if decayed else ' (no decay)'}",
            },
        )
        group["params"].append(parameter)
    idle = [pattern for pattern in learning_rates if pattern not in patterns.values()]
    if idle:
        raise SemiHVError(f"The learning rate pattern {idle[0]!r} matches no trainable parameter.")
    return list(groups.values())


def group_names(patterns: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """
    Names of groups in logs: a pattern without what stands for any letters, alternatives joined by hyphens.

    Args:
        patterns (`Iterable[str]`): regular expressions on names of parameters.
        taken (`Iterable[str]`, *optional*): names of other groups; a second group of a name gets a number.

    Returns:
        `dict[str, str]`: pattern to name, each another one.

    Example:

    ```python
    >>> group_names([r"model\\.connector\\.(layers|query).*", r".*(connector|vision_samplers)\\..*"]).values()
    dict_values(['connector.layers-query', 'connector-vision_samplers'])
    ```
    """
    names: dict[str, str] = {}
    used = set(taken)
    for pattern in patterns:
        text = pattern.replace("\\.", "/")  # a dot that is meant
        text = re.sub(r"\(\?[:=!<]+|\\\w|\[[^\]]*\]|\.(?=[*+?{])|\{[\d,]*\}|[\^$*+?()]", "", text)
        text = re.sub(r"[^\w./]+", "-", text).replace("/", ".")
        text = re.sub(r"[.\-]*\.[.\-]*", ".", text).strip(".-_").removeprefix("model.") or "all"
        number = next(number for number in count(1) if (text if number == 1 else f"{text}_{number}") not in used)
        names[pattern] = text if number == 1 else f"{text}_{number}"
        used.add(names[pattern])
    return names


def move_idle(optimizer, *_) -> None:
    """
    Gives a gradient of zero to what had one before and has none in this step; a hook before an optimizer's step.

    torch leaves such a parameter alone, ZeRO and FSDP move it on by its momentum: the same run would end with other
    weights on another number of GPUs. So all move it, as if the step's loss did not depend on it, which is so.

    Args:
        optimizer (`torch.optim.Optimizer`): about to take a step.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None and parameter in optimizer.state:
                parameter.grad = torch.zeros_like(parameter)


class OptimizerGroups:
    """
    Put it before a trainer: its optimizer's groups are those of [`optimizer_groups`], and a step without an image is
    the same however the model is spread, see [`move_idle`].

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
            self.optimizer.register_step_pre_hook(move_idle)
        return super().create_optimizer(model)
