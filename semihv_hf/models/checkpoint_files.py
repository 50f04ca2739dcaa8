"""Tensors of checkpoint folders, read one at a time: shapes first, values when they are needed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError, first_line

if TYPE_CHECKING:
    import torch


class CheckpointFile:
    """
    One file of tensors.

    Args:
        path (`Path`): a `.safetensors` file, or a `.bin`, `.pt` or `.pth` file that holds nothing but tensors.

    Raises:
        `SemiHVError`: if the file is damaged, or a pickle that would run code.
    """

    def __init__(self, path: Path):
        import torch
        from safetensors import SafetensorError, safe_open

        self.path = path
        if path.suffix == ".safetensors":
            try:
                self._file = safe_open(path, framework="pt")
                self.shapes = {key: tuple(self._file.get_slice(key).get_shape()) for key in self._file.keys()}
            except (SafetensorError, OSError) as error:
                raise SemiHVError(f"{path} cannot be read: {error}.", "Fetch the file again.") from error
            self._get = self._file.get_tensor
            return
        try:
            # Mapped, not read: a file of many gigabytes takes memory only for the tensors in use. The format of
            # torch before 1.6, which old checkpoints on the Hub have, cannot be mapped.
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            raise SemiHVError(
                f"{path} is a pickle that holds more than tensors; it could run code and is not loaded.",
                "Get the safetensors file of this checkpoint, or save the plain state dict.",
            ) from error
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            raise SemiHVError(f"{path} cannot be read: {first_line(error)}.", "Fetch the file again.") from error
        if not isinstance(tensors, dict):
            raise SemiHVError(f"{path} is no plain state dict: it holds a {type(tensors).__name__}.")
        others = [key for key, value in tensors.items() if not isinstance(value, torch.Tensor)]
        if others:
            raise SemiHVError(f"{path} is no plain state dict: {others[0]!r} is no tensor.")
        self.shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        self._get = tensors.__getitem__

    def get(self, key: str) -> torch.Tensor:
        """Reads one tensor."""
        return self._get(key)


class CheckpointFolder:
    """
    All tensors of a checkpoint folder.

    Args:
        folder (`Path`): has `model.safetensors`, its shards and index, or the same as `pytorch_model.bin`.
        files (`list[Path]`, *optional*): the files, where they have other names.

    Raises:
        `SemiHVError`: if there is no such file, a shard of the index is missing, or a key stands in two files.
    """

    def __init__(self, folder: Path, files: list[Path] | None = None):
        self.folder = Path(folder)
        self.files: dict[str, CheckpointFile] = {}
        for path in weight_files(self.folder) if files is None else files:
            file = CheckpointFile(path)
            for key in file.shapes:
                if key in self.files:
                    raise SemiHVError(f"{key} stands in {self.files[key].path} and again in {path}.")
                self.files[key] = file
        self.shapes = {key: file.shapes[key] for key, file in self.files.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def get(self, key: str) -> torch.Tensor:
        """Reads one tensor."""
        return self.files[key].get(key)


def weight_files(folder: Path) -> list[Path]:
    """
    The files that hold a checkpoint's weights: safetensors where both kinds lie in the folder.

    Args:
        folder (`Path`): a checkpoint folder.

    Returns:
        `list[Path]`: in the order of the index.

    Raises:
        `SemiHVError`: if there are none, or one that the index names is missing.
    """
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        index = folder / f"{stem}{suffix}.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise SemiHVError(
                    f"{index} names {len(names)} files, of which {len(missing)} are missing: {missing[0]}.",
                    "Fetch the rest of the checkpoint.",
                )
            return [folder / name for name in names]
        if (folder / f"{stem}{suffix}").is_file():
            return [folder / f"{stem}{suffix}"]
    raise SemiHVError(f"{folder} has no model.safetensors and no pytorch_model.bin, nor an index of shards.")
