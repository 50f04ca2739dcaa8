"""What must be the same for a run to go on from a checkpoint: architecture, trained parameters, data, global batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from .row_images import undecoded

_SAMPLED_ROWS = 8

# What each fact is called in a message.
_TITLES = {
    "architecture": "the architecture (class, names and shapes of parameters)",
    "trainable": "the set of trained parameters",
    "strategy": "the sharding strategy",
    "world_size": "the number of processes",
    "global_batch": "the global batch",
    "data": "the training data",
    "seed": "the seed",
    "order": "the order of rows",
}


def model_facts(model: nn.Module) -> dict[str, Any]:
    """
    Describes a model by its class and the names and shapes of its parameters, and which of them train.

    Args:
        model (`nn.Module`): the model before it is wrapped or sharded by a trainer.

    Returns:
        `dict`: `architecture` and `trainable`.
    """
    named = list(model.named_parameters())
    # Under ZeRO-3 a rank holds a part; the whole shape stands aside.
    shapes = [f"{name} {tuple(getattr(value, 'ds_shape', value.shape))}" for name, value in named]
    trained = [name for name, value in named if value.requires_grad]
    return {
        "architecture": {"class": type(model).__name__, "tensors": len(named), "parameters": _hash(sorted(shapes))},
        "trainable": {"tensors": len(trained), "names": _hash(sorted(trained))},
    }


def data_facts(dataset: Any) -> dict[str, Any]:
    """
    Describes a training set by its size, its columns and a few of its rows, of a stream the first ones; pixels are
    hashed undecoded.

    Not by `datasets`' own fingerprint, which differs for the same rows in another cache.

    Args:
        dataset (`datasets.Dataset` or any other): the training set.

    Returns:
        `dict`: `rows` (`None` for a stream), `columns` and `sample` where they can be told.
    """
    from datasets import Dataset, IterableDataset

    rows = len(dataset) if hasattr(dataset, "__len__") else None
    columns = getattr(dataset, "column_names", None)
    facts: dict[str, Any] = {"rows": rows, "columns": sorted(columns) if columns else None}
    if isinstance(dataset, Dataset) and rows:
        places = sorted({index * (rows - 1) // (_SAMPLED_ROWS - 1) for index in range(_SAMPLED_ROWS)})
        table = dataset.with_format("arrow")
        # Arrow rows hold the images' files, not their pixels.
        facts["sample"] = _hash(json.dumps(_plain(table[place].to_pylist()), sort_keys=True) for place in places)
    elif isinstance(dataset, IterableDataset):
        first = undecoded(dataset).take(_SAMPLED_ROWS)
        facts["sample"] = _hash(json.dumps(_plain(row), sort_keys=True) for row in first)
    return facts


def difference(recorded: dict[str, Any], present: dict[str, Any]) -> str | None:
    """
    The first fact in which a checkpoint's run and the present run differ.

    Args:
        recorded (`dict`): facts of the checkpoint.
        present (`dict`): facts of this run.

    Returns:
        `str`: one clause for a message, or `None` if all facts agree.
    """
    # The world may have another size if the strategy keeps whole copies: then the same rows make the same batch.
    free = {"world_size"} if recorded.get("strategy") == present.get("strategy") == "replicated" else set()
    for name, value in present.items():
        if name not in free and recorded.get(name) != value:
            return f"{_TITLES.get(name, name)} differs: {_show(recorded.get(name))} there, {_show(value)} here"
    return None


def _plain(value: Any) -> Any:
    """Values that JSON can hold; of a file its name or its bytes, not the folder it happens to lie in."""
    if isinstance(value, dict):
        if set(value) == {"bytes", "path"}:
            name = Path(value["path"]).name if value["path"] else None
            return _plain(value["bytes"]) if value["bytes"] is not None else name
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
