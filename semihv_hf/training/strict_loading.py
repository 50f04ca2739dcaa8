"""Weights that all come back: a checkpoint is loaded into a model whole, or not at all.

`transformers.Trainer` 5.23 loads checkpoints by `load_state_dict(strict=False)` and logs what did not fit. Keys that
`save_pretrained` renames do not fit, so parts of a model, vision towers among them, kept their initial values.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from semihv_hf.errors import SemiHVError, first_line

# Tensors up to this many elements are digested whole, larger ones at this many evenly spaced elements.
_SAMPLED = 65536


def load_start(name: str | Path, **load):
    """
    The model that a stage starts from, every parameter from its checkpoint: transformers would make the others up.

    Args:
        name (`str` or `Path`): folder or Hub id.
        load: keyword arguments of `from_pretrained`.

    Returns:
        `PreTrainedModel`

    Raises:
        `SemiHVError`: if the checkpoint lacks a parameter. One that it has too many is named by transformers alone.
    """
    from transformers import AutoModelForImageTextToText

    model, report = AutoModelForImageTextToText.from_pretrained(name, output_loading_info=True, **load)
    _refuse(name, "lacks", report["missing_keys"])
    return model


def load_weights(model: nn.Module, folder: str | Path) -> None:
    """
    Copies every parameter and persistent buffer of a checkpoint into a model of the same architecture.

    Args:
        model (`PreTrainedModel` or `PeftModel`): the model. Of a PEFT model the adapter is loaded, with the modules
            that are saved beside it; its base model stays.
        folder (`str` or `Path`): what `save_pretrained` wrote.

    Raises:
        `SemiHVError`: if a parameter is missing from the checkpoint, has another shape there, or the checkpoint holds
            one that the model has not.
    """
    if hasattr(model, "peft_config"):
        _load_adapter(model, Path(folder))
        return
    # `from_pretrained` knows how the keys of each architecture are renamed. float32 holds float16 and bfloat16
    # exactly, also where a model mixes them.
    wide = torch.float64 if any(value.dtype == torch.float64 for value in model.parameters()) else torch.float32
    try:
        loaded, report = type(model).from_pretrained(
            folder, config=copy.deepcopy(model.config), dtype=wide, output_loading_info=True
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise SemiHVError(
            f"The weights in {folder} do not fit {type(model).__name__}: {first_line(error)}."
        ) from error
    _refuse(folder, "lacks", report["missing_keys"])
    _refuse(folder, "holds unknown", report["unexpected_keys"])
    _refuse(folder, "has other shapes of", [key[0] for key in report["mismatched_keys"]])
    source, target = loaded.state_dict(), model.state_dict()
    _refuse(folder, "lacks", target.keys() - source.keys())
    _refuse(folder, "holds unknown", source.keys() - target.keys())
    with torch.no_grad():
        for name, value in target.items():
            value.copy_(source[name])


def _load_adapter(model: nn.Module, folder: Path) -> None:
    from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    adapter = model.active_adapters[0] if isinstance(model.active_adapters, list) else model.active_adapter
    weights = load_peft_weights(str(folder), device="cpu")
    expected = get_peft_model_state_dict(model, adapter_name=adapter)
    _refuse(folder, "lacks", expected.keys() - weights.keys())
    _refuse(folder, "holds unknown", weights.keys() - expected.keys())
    _refuse(folder, "has other shapes of", [name for name in expected if expected[name].shape != weights[name].shape])
    set_peft_model_state_dict(model, weights, adapter_name=adapter)


def _refuse(folder: str | Path, verb: str, names: Iterable[str]) -> None:
    names = sorted(names)
    if names:
        raise SemiHVError(
            f"The checkpoint {folder} {verb} {len(names)} parameters of this model, e.g. {names[0]}.",
            "It belongs to another architecture, or to other settings of this one.",
        )


def parameter_digests(model: nn.Module) -> dict[str, str]:
    """
    A short digest of every parameter and persistent buffer, to tell whether all of them came back.

    Large tensors are sampled, so that this stays a matter of seconds for billions of parameters.

    Args:
        model (`nn.Module`): the model, its parameters whole (not sharded).

    Returns:
        `dict[str, str]`: name to 16 hexadecimal digits.
    """
    digests = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            continue
        flat = value.detach().reshape(-1)
        if flat.numel() > _SAMPLED:
            flat = flat[:: flat.numel() // _SAMPLED + 1]
        raw = flat.cpu().contiguous().view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        head = f"{tuple(value.shape)} {value.dtype} ".encode()
        digests[name] = hashlib.sha256(head + raw).hexdigest()[:16]
    return digests
