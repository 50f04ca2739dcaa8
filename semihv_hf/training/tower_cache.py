"""Frozen vision towers run once for each image: their features on disk, and towers in small batches.

For small stages of many epochs. What is read back is what was computed, bit by bit. A file holds the features of one
image; its name is the SHA-256 of the pixels that the towers would see, of all towers, so an image, its preprocessing
and its size are told apart by content. Files lie in a folder named after the fingerprint of the towers' weights, so
that features of other weights are never met.

At the size of the 8B model an image takes 106 MiB in bfloat16 (9,216 tokens of the ConvNeXt tower make up most of it),
or 23 MB where the connector is frozen, too, since then its outputs are kept instead. Reading that from a fast disk
takes as long as an H100 needs to compute it: the cache pays on CPUs and small GPUs.

```python
>>> from semihv_hf.training.tower_cache import TowerCache, attach_towers

>>> towers = attach_towers(model, TowerCache("features", max_gib=200))
>>> trainer.train()
>>> print(towers.cache.counts)
```
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from semihv_hf.errors import SemiHVError
from semihv_hf.files import atomic_file, write_json

PIXEL_KEYS = {
    "siglip": "pixel_values",
    "clip": "pixel_values_clip",
    "dino": "pixel_values_dino",
    "convnext": "pixel_values_convnext",
}


class TowerCache:
    """
    Features of images in safetensors files.

    Args:
        folder (`str` or `Path`): where the features lie; every process of a run may use the same.
        max_gib (`float`, *optional*): size at which nothing more is stored; images beyond it are computed every time.
    """

    def __init__(self, folder: str | Path, max_gib: float | None = None):
        self.folder = Path(folder)
        self.max_bytes = None if max_gib is None else int(max_gib * 2**30)
        self.counts = {"read": 0, "computed": 0, "stored": 0, "over_the_limit": 0, "unreadable": 0}
        self._bytes: int | None = None

    def open(self, fingerprint: str, about: dict) -> None:
        """Chooses the folder of the weights with this fingerprint and says in it what they are."""
        self._place = self.folder / fingerprint[:32]
        self._place.mkdir(parents=True, exist_ok=True)
        if not (self._place / "about.json").is_file():
            write_json(self._place / "about.json", {"fingerprint": fingerprint, **about})
        self._bytes = sum(path.stat().st_size for path in self._place.glob("*/*.safetensors"))

    def path(self, key: str) -> Path:
        """File of an image's features."""
        return self._place / key[:2] / f"{key}.safetensors"

    def read(self, key: str) -> dict[str, torch.Tensor] | None:
        """Features of an image, or `None` if they are not there or cannot be read (which is counted)."""
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as handle:
                return {name: handle.get_tensor(name) for name in handle.keys()}
        except (SafetensorError, OSError):
            self.counts["unreadable"] += 1
            return None

    def store(self, key: str, tensors: dict[str, torch.Tensor]) -> None:
        """Writes the features of an image, at once or not at all; counted if there is no room."""
        from safetensors.torch import save

        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        if self.max_bytes is not None and self._bytes + len(data) > self.max_bytes:
            self.counts["over_the_limit"] += 1
            return
        with atomic_file(self.path(key), "wb") as handle:
            handle.write(data)
        self._bytes += len(data)
        self.counts["stored"] += 1


class TowerStep:
    """
    Takes the pixels out of a forward call of the base model and puts image features in their place.

    Made by [`attach_towers`].
    """

    def __init__(self, base: nn.Module, cache: TowerCache | None, micro_batch: int | None):
        self.base = base
        self.cache = cache
        self.micro_batch = micro_batch
        self.names = list(base.config.sva_config.tower_names)
        # With a frozen connector its outputs, a fifth of the size, are kept in place of the towers'.
        self.whole = cache is not None and not _trains(base.connector)
        self._handle = base.register_forward_pre_hook(self._replace, with_kwargs=True)
        if cache is not None:
            parts = [base.vision_towers, *([base.connector] if self.whole else [])]
            about = {"towers": self.names, "holds": "connector" if self.whole else "towers", "dtype": str(base.dtype)}
            cache.open(_fingerprint(parts, about), about)

    def detach(self) -> None:
        """The model runs its towers itself again."""
        self._handle.remove()

    def _replace(self, module, args, kwargs):
        pixels = {name: kwargs.get(PIXEL_KEYS[name]) for name in self.names}
        if args or kwargs.get("mm_encoder_outputs") is not None or all(value is None for value in pixels.values()):
            return args, kwargs
        sizes = kwargs.get("image_sizes")
        if sizes is None or any(value is None for value in pixels.values()):
            return args, kwargs  # the model's own message says what is missing
        kwargs = {key: value for key, value in kwargs.items() if key not in (*PIXEL_KEYS.values(), "image_sizes")}
        return args, kwargs | {"mm_encoder_outputs": {"image": self.image_features(pixels, sizes)}}

    def image_features(self, pixels: dict[str, torch.Tensor], sizes: torch.Tensor):
        """
        Image features of a batch, as [`~PMCCambrianModel.get_image_features`] returns them.

        Args:
            pixels (`dict[str, torch.Tensor]`): tower name to `(images, 3, R, R)`.
            sizes (`torch.Tensor` of shape `(images, 2)`): height and width of the original images.

        Returns:
            `PMCCambrianVisionOutput`
        """
        if self.cache is None:
            return self.base.embed_vision_features(self._towers(pixels), sizes)
        keys = _image_keys(pixels, sizes if self.whole else None)
        if self.whole:
            return self._together([self._cached(key, pixels, sizes, index) for index, key in enumerate(keys)])
        rows = [self._cached(key, pixels, sizes, index) for index, key in enumerate(keys)]
        device = next(iter(pixels.values())).device
        features = {name: torch.cat([row[name].to(device) for row in rows]) for name in self.names}
        return self.base.embed_vision_features(features, sizes)

    def _cached(self, key: str, pixels, sizes, index: int) -> dict[str, torch.Tensor]:
        """One image alone: features must not depend on the batch that an image first came in."""
        found = self.cache.read(key)
        if found is not None:
            self.cache.counts["read"] += 1
            return found
        self.cache.counts["computed"] += 1
        with torch.no_grad():
            features = self.base.get_tower_features({name: value[index : index + 1] for name, value in pixels.items()})
            if self.whole:
                output = self.base.embed_vision_features(features, sizes[index : index + 1])
                names = ("tokens", "keys", "context", "mask", "slots")
                fields = [output.pooler_output, *output.deepstack_features]
                features = {name: field[0] for name, field in zip(names, fields)}
        self.cache.store(key, features)
        return features

    def _together(self, rows: list[dict[str, torch.Tensor]]):
        from semihv_hf.models.pmc_cambrian.outputs_pmc_cambrian import PMCCambrianVisionOutput

        weight = self.base.connector.query
        rows = [{name: value.to(weight.device) for name, value in row.items()} for row in rows]
        fields = [name for name in ("keys", "context", "mask", "slots") if name in rows[0]]
        return PMCCambrianVisionOutput(
            pooler_output=[row["tokens"] for row in rows],
            deepstack_features=[[row[name] for row in rows] for name in fields],
        )

    def _towers(self, pixels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        count = len(next(iter(pixels.values())))
        size = self.micro_batch or count
        parts = [
            self.base.get_tower_features({name: value[start : start + size] for name, value in pixels.items()})
            for start in range(0, count, size)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.names}


def attach_towers(model: nn.Module, cache: TowerCache | None = None, micro_batch: int | None = None) -> TowerStep:
    """
    Lets a PMC-Cambrian model take its tower features from a cache, or run its towers on a few images at a time.

    The memory of a tower's forward grows with the images of a batch; where nothing is kept for a backward pass, a
    smaller batch costs no time to speak of.

    Args:
        model (`nn.Module`): [`PMCCambrianForConditionalGeneration`], also within an adapter model. Loaded weights must
            be in place: the fingerprint is taken here.
        cache ([`TowerCache`], *optional*): where features are kept. Every image then goes through the towers alone, so
            that its features are the same whatever batch it is first met in.
        micro_batch (`int`, *optional*): images that go through the towers together; all of a batch by default.

    Returns:
        [`TowerStep`]: `detach()` undoes it.

    Raises:
        `SemiHVError`: for another kind of model, and with a cache if a tower trains or its weights are sharded.
    """
    base = _base_model(model)
    if micro_batch is not None and micro_batch < 1:
        raise SemiHVError(f"The micro-batch of the towers is {micro_batch}.", "Give at least 1.")
    if cache is not None:
        if _trains(base.vision_towers):
            raise SemiHVError(
                "A tower cache needs frozen towers, but a tower trains.",
                "Leave out tower_cache, or freeze the towers.",
            )
        if any(hasattr(p, "ds_id") or hasattr(p, "full_tensor") for p in base.vision_towers.parameters()):
            # One process may find an image in the cache while another has to gather the towers for it, and waits.
            raise SemiHVError(
                "A tower cache needs whole towers in every process, but ZeRO-3 or FSDP shards them.",
                "Use DDP or ZeRO-2, or leave out tower_cache.",
            )
    return TowerStep(base, cache, micro_batch)


def _base_model(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "vision_towers") and hasattr(module, "embed_vision_features"):
            return module
    raise SemiHVError(
        f"{type(model).__name__} has no vision towers of PMC-Cambrian.", "Leave out tower_cache for other models."
    )


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _fingerprint(parts: list[nn.Module], about: dict) -> str:
    digest = hashlib.sha256(repr(sorted(about.items())).encode())
    for part in parts:
        for name, tensor in sorted({**dict(part.named_parameters()), **dict(part.named_buffers())}.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _image_keys(pixels: dict[str, torch.Tensor], sizes: torch.Tensor | None) -> list[str]:
    host = {name: value.detach().cpu() for name, value in pixels.items()}
    keys = []
    for index in range(len(next(iter(host.values())))):
        digest = hashlib.sha256()
        for name, value in host.items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape[1:])}".encode())
            digest.update(_bytes(value[index]))
        if sizes is not None:
            digest.update(repr(sizes[index].tolist()).encode())
        keys.append(digest.hexdigest())
    return keys


def _bytes(tensor: torch.Tensor):
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
