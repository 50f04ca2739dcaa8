"""The global random generators of a process, taken and put back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def take_random_state() -> dict[str, Any]:
    """
    States of Python's, NumPy's and torch's global generators, the current GPU's included.

    Returns:
        `dict`: tensors, tuples and numbers, which `torch.load(weights_only=True)` reads back.
    """
    name, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def put_random_state(state: dict[str, Any]) -> None:
    """
    Puts back what [`take_random_state`] returned.

    Args:
        state (`dict`): the states.
    """
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
