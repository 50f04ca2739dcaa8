"""What lies between two log lines of a training run, kept with a checkpoint: a class to put before a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class WindowMixin:
    """
    Sums since the last line of the log, state of callbacks, and the random state at the beginning of the epoch.

    transformers begins them anew when it resumes, so that the next line of the log would be another one. Callbacks
    that have `state_dict()` and `load_state_dict(state)` are saved and resumed. One file a rank.
    """

    # Attributes beside transformers' own state that a resumed run needs for the same loss curve. A value is a tensor,
    # a number, a string, or lists and dictionaries of these. Subclasses may add names.
    resumed_attributes = ("_tr_loss", "_globalstep_last_logged", "_metrics", "_total_train_tokens")

    _epoch_random_state: dict[str, Any] | None = None

    def _save_window(self, folder: Path) -> None:
        """What lies between two log lines, and the random state at the beginning of the epoch; one file a rank."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [name for name in self.resumed_attributes if hasattr(self, name)]
        window = {
            "epoch_random_state": self._epoch_random_state,
            "attributes": {name: _detached(getattr(self, name)) for name in names},
            "callbacks": {key: _detached(callback.state_dict()) for key, callback in self._stateful_callbacks()},
        }
        torch.save(window, folder / _window_name(self.args.process_index))

    def _load_window(self, checkpoint: str) -> dict[str, Any] | None:
        path = Path(checkpoint) / _window_name(self.args.process_index)
        if not path.is_file():  # fewer processes wrote it
            return None
        window = torch.load(path, map_location="cpu", weights_only=True)
        for name, value in window["attributes"].items():
            setattr(self, name, _merged(getattr(self, name, None), value))
        # transformers' closing `train_loss` is that of the steps of this call; the half-filled window is older.
        self._total_loss_scalar -= self._tr_loss.item()
        for key, callback in self._stateful_callbacks():
            if key in window["callbacks"]:
                callback.load_state_dict(window["callbacks"][key])
        return window

    def _stateful_callbacks(self) -> list[tuple[str, Any]]:
        found = [
            item
            for item in self.callback_handler.callbacks
            if hasattr(item, "state_dict") and hasattr(item, "load_state_dict")
        ]
        return [(f"{index} {type(item).__name__}", item) for index, item in enumerate(found)]


def _window_name(rank: int) -> str:
    return f"window_{rank}.pt"


def _detached(value: Any) -> Any:
    """A copy that `torch.load(weights_only=True)` reads back."""
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_detached(item) for item in value]
    return value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value


def _merged(present: Any, saved: Any) -> Any:
    """The saved value in the form of the present one: its device, its kind of dictionary."""
    if isinstance(present, dict) and isinstance(saved, dict):
        for key, value in saved.items():
            present[key] = _merged(present.get(key), value)
        return present
    if isinstance(present, torch.Tensor) and isinstance(saved, torch.Tensor):
        return saved.to(present.device)
    return saved
