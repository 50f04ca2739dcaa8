"""Vision towers out of their own checkpoints: Hugging Face folders, and timm and open_clip files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.snapshots import hub_snapshot

from .checkpoint_files import CheckpointFolder, weight_files
from .tower_keys import (
    TRUNK,
    TimmSettings,
    convnext_settings,
    open_clip_settings,
    siglip_settings,
    square,
    stored_as,
    timm_settings,
    tower_targets,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

HF_TYPES = {
    "siglip": {"siglip": "SiglipConfig", "siglip_vision_model": "SiglipVisionConfig"},
    "clip": {"clip": "CLIPConfig", "clip_vision_model": "CLIPVisionConfig"},
    "dino": {"dinov2": "Dinov2Config"},
    "convnext": {},
}
TIMM_TOWERS = ("siglip", "convnext")
LAYOUTS = {
    "siglip": "a Hugging Face SigLIP folder, or open_clip or timm files of SigLIP",
    "clip": "a Hugging Face CLIP folder",
    "dino": "a Hugging Face DINOv2 folder (without registers)",
    "convnext": "open_clip or timm files of ConvNeXt",
}
# The towers that run at another size than they were trained at, and the size of the released model.
IMAGE_SIZES = {"dino": 378, "convnext": 1024}

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PLAIN_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_CONFIGS = ["config.json", OPEN_CLIP_CONFIG]
HUB_SAFETENSORS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json", OPEN_CLIP_FILES[0]]
HUB_PICKLES = ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json", OPEN_CLIP_FILES[1]]


class TowerCheckpoint:
    """
    A vision tower's own checkpoint, opened: configuration and shapes are known and checked, no weight is read yet.

    Every tensor of the source must be used or be known as dispensable (text model, pooling and classification heads),
    and every tensor of the tower must be there in its shape. DINOv2's position embedding is brought to the grid of
    `image_size` once, see [`bake_positions`], so that nothing is interpolated when the model runs.

    Args:
        name (`str`): `siglip`, `clip`, `dino` or `convnext`.
        source (`str` or `os.PathLike`): a folder, a file of weights with its configuration beside it, or a Hub id.
            Hugging Face folders of SigLIP, CLIP and DINOv2 (the vision part of a full model is taken out), and
            open_clip or timm files of SigLIP and ConvNeXt. Safetensors are preferred to pickles.
        image_size (`int`, *optional*): side of the square input in pixels; by default 378 for `dino`, 1024 for
            `convnext`, and the checkpoint's own for the others, which cannot be changed.

    Attributes:
        config (`PreTrainedConfig`): entry of [`PMCCambrianConfig`].
        shapes (`dict[str, tuple[int, ...]]`): shape of every tensor that [`TowerCheckpoint.get`] gives, by its name
            behind `model.vision_towers.<name>.`.
        source (`str`): where it came from.

    Raises:
        `SemiHVError`: for an unknown tower or layout, a Hub id that cannot be had, a pickle with code in it, and a
            missing, unexpected or misshapen tensor.
    """

    def __init__(self, name: str, source: str | os.PathLike, *, image_size: int | None = None):
        if name not in HF_TYPES:
            raise SemiHVError(f"Unknown vision tower {name!r}.", f"Known towers are {', '.join(HF_TYPES)}.")
        self.name, self.source = name, str(source)
        place = Path(source).expanduser()
        if not place.exists():
            place = _download(self.source)
            self.source += f"@{place.name}"
        layout, settings, self._files = _open(name, place, self.source)
        shapes = self._files.shapes
        if layout == "hf":
            self.config = _hf_config(name, settings)
        else:
            self.config = _timm_config(name, settings, shapes)
        self.shapes = expected_shapes(name, self.config)
        self._origin = _assign(name, layout, shapes, self.shapes, self.source)
        self._grid = None
        self._set_image_size(IMAGE_SIZES.get(name) if image_size is None else image_size)

    def get(self, key: str) -> torch.Tensor:
        """
        Reads one tensor.

        Args:
            key (`str`): one of `shapes`.

        Returns:
            `torch.Tensor`: of that shape; a large one is mapped from the file, not copied.
        """
        origin, part, parts = self._origin[key]
        value = self._files.get(origin)
        if parts > 1:
            value = value.chunk(parts)[part].clone()
        if key == "embeddings.position_embeddings" and self._grid is not None:
            value = bake_positions(value, self._grid)
        return value.reshape(self.shapes[key])

    def _set_image_size(self, image_size: int | None) -> None:
        config = self.config
        if image_size is None or image_size == config.image_size:
            return
        if self.name not in IMAGE_SIZES:
            raise SemiHVError(
                f"{self.source} is a {self.name} tower for {config.image_size} pixels, {image_size} were asked for.",
                "Take a checkpoint of that size; only the DINOv2 and ConvNeXt towers can be set to another.",
            )
        if self.name == "dino":
            grid, rest = divmod(image_size, config.patch_size)
            if rest or grid < 1:
                raise SemiHVError(f"The image size {image_size} is no multiple of the patch size {config.patch_size}.")
            key = "embeddings.position_embeddings"
            # The patches count: 380 pixels hold as many of 14 as 378 do.
            if grid != config.image_size // config.patch_size:
                self._grid = grid
                self.shapes[key] = (1, grid**2 + 1, config.hidden_size)
        config.image_size = image_size


def bake_positions(embedding: torch.Tensor, grid: int) -> torch.Tensor:
    """
    DINOv2's position embedding at another grid, as transformers 4.37 interpolated it at run time.

    Newer versions interpolate to a size instead of by a factor, which gives other numbers; the connector was trained
    with these.

    Args:
        embedding (`torch.Tensor` of shape `(1, 1 + side**2, width)`): the row of CLS, then the trained grid.
        grid (`int`): patches along one side, at least 1.

    Returns:
        `torch.Tensor` of shape `(1, 1 + grid**2, width)`: in the dtype of `embedding`, computed in float32.
    """
    import torch

    side = math.isqrt(embedding.shape[1] - 1)
    maps = embedding[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    # The 0.1 keeps the rounded-down output size from falling one short.
    factor = (grid + 0.1) / side
    maps = torch.nn.functional.interpolate(
        maps, scale_factor=(factor, factor), mode="bicubic", align_corners=False, recompute_scale_factor=False
    )
    baked = maps.permute(0, 2, 3, 1).reshape(1, grid**2, -1)
    return torch.cat([embedding[:, :1], baked.to(embedding.dtype)], dim=1)


def expected_shapes(name: str, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """
    Names and shapes of the tensors that a saved model holds for a tower.

    Args:
        name (`str`): `siglip`, `clip`, `dino` or `convnext`.
        config (`PreTrainedConfig`): the tower's configuration.

    Returns:
        `dict[str, tuple[int, ...]]`: by the names behind `model.vision_towers.<name>.`.

    Raises:
        `SemiHVError`: if no tower can be built from the configuration.
    """
    import torch
    from transformers import AutoModel
    from transformers.core_model_loading import revert_weight_conversion

    from .pmc_cambrian.convnext_pmc_cambrian import PMCCambrianConvNextTower

    try:
        with torch.device("meta"):
            tower = PMCCambrianConvNextTower(config) if name == "convnext" else AutoModel.from_config(config)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, KeyError) as error:
        raise SemiHVError(f"No {name} tower can be built from its configuration: {first_line(error)}") from error
    state = tower.state_dict()
    if name == "dino":
        # In memory the library names and cuts these layers otherwise than on disk.
        state = revert_weight_conversion(tower, state)
    return {key: tuple(value.shape) for key, value in state.items()}


def _download(source: str) -> Path:
    wanted = {"what": "vision tower", "do": "Give a folder, a file of weights, or a Hub id you can reach."}
    folder = hub_snapshot(source, patterns=[*HUB_CONFIGS, *HUB_SAFETENSORS], **wanted)
    if not any(folder.glob("*.safetensors")):
        folder = hub_snapshot(source, patterns=[*HUB_CONFIGS, *HUB_PICKLES], **wanted)
    return folder


def _open(name: str, place: Path, source: str) -> tuple[str, Mapping | TimmSettings, CheckpointFolder]:
    """Which layout a checkpoint has, its settings, and its files."""
    folder = place.parent if place.is_file() else place
    given = CheckpointFolder(folder, [place]) if place.is_file() else None
    config, open_clip = _json(folder / "config.json"), _json(folder / OPEN_CLIP_CONFIG)
    kind, architecture = config.get("model_type"), config.get("architecture")
    # A folder may hold one network in two layouts; a file is one or the other.
    clip_keys = given is not None and any(key.startswith("visual.") for key in given)
    only_open_clip = bool(open_clip) and given is None and not _has_plain_files(folder)
    if kind in HF_TYPES[name] and not clip_keys and not only_open_clip:
        return "hf", config, given or CheckpointFolder(folder)
    if name in TIMM_TOWERS and open_clip and (given is None or clip_keys or not architecture):
        return "timm", open_clip_settings(open_clip), given or _timm_files(folder, OPEN_CLIP_FILES)
    if name in TIMM_TOWERS and architecture:
        return "timm", timm_settings(config), given or _timm_files(folder, PLAIN_FILES)
    found = [f"config.json of model_type {kind!r}"] if config else ["no config.json"]
    if name in TIMM_TOWERS and not open_clip:
        found.append(f"no {OPEN_CLIP_CONFIG}")
    raise SemiHVError(
        f"{source} is no checkpoint of a {name} tower: it has {' and '.join(found)}.", f"Give {LAYOUTS[name]}."
    )


def _has_plain_files(folder: Path) -> bool:
    return any((folder / f"{file}{end}").is_file() for file in PLAIN_FILES for end in ("", ".index.json"))


def _timm_files(folder: Path, preferred: tuple[str, ...]) -> CheckpointFolder:
    for file in preferred:
        if (folder / file).is_file():
            return CheckpointFolder(folder, [folder / file])
    others = [folder / file for file in OPEN_CLIP_FILES if (folder / file).is_file()]
    return CheckpointFolder(folder, others[:1] or weight_files(folder))


def _json(path: Path) -> dict:
    """A JSON object, empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SemiHVError(f"{path} is not JSON ({error}).", "Fetch the file again.") from error
    if not isinstance(value, dict):
        raise SemiHVError(f"{path} is not a JSON object.", "Fetch the file again.")
    return value


def _timm_config(name: str, timm: TimmSettings, shapes: Mapping[str, tuple[int, ...]]) -> PreTrainedConfig:
    from transformers import SiglipVisionConfig

    from .pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConvNextConfig

    trunk = {key.removeprefix(TRUNK): shape for key, shape in shapes.items() if key.startswith(TRUNK)} or shapes
    if name == "siglip":
        return _build(SiglipVisionConfig, siglip_settings(timm, trunk))
    return _build(PMCCambrianConvNextConfig, convnext_settings(timm, trunk))


def _hf_config(name: str, config: dict) -> PreTrainedConfig:
    """The vision part alone, with the settings of its own class: old files carry those of the library with them."""
    import transformers
    from transformers import PreTrainedConfig

    config_class = getattr(transformers, HF_TYPES[name][config["model_type"]])
    if config["model_type"] in ("siglip", "clip"):
        parts = {key: config[key] for key in ("vision_config", "vision_config_dict") if config.get(key) is not None}
        if not parts:
            raise SemiHVError(f"config.json of the {name} tower has no vision_config.", "Fetch the file again.")
        whole = _build(config_class, parts).vision_config
    else:
        whole = _build(config_class, {key: value for key, value in config.items() if key != "model_type"})
    common = {spec.name for spec in dataclasses.fields(PreTrainedConfig)}
    own = [spec.name for spec in dataclasses.fields(whole) if spec.name not in common and spec.name[0] != "_"]
    settings = {key: getattr(whole, key) for key in own}
    for key in ("image_size", "patch_size"):
        if isinstance(settings[key], list | tuple):
            settings[key] = square(settings[key], "config.json")
    if name == "siglip":
        # The released connector was trained on timm's network, which has the exact GELU whatever this file says, and
        # on its tokens: the pooling head is not part of the tower.
        settings |= {"hidden_act": "gelu", "vision_use_head": False}
    return _build(type(whole), settings)


def _build(config_class: type, settings: dict) -> PreTrainedConfig:
    from huggingface_hub.errors import StrictDataclassError

    try:
        return config_class(**settings)
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise SemiHVError(f"The tower's configuration is not valid: {reason}", "Fetch config.json again.") from error


def _assign(name: str, layout: str, shapes: Mapping, wanted: Mapping, source: str) -> dict[str, tuple[str, int, int]]:
    """Our name to `(their name, part, parts)`; nothing left over, nothing missing, every shape right."""
    origin: dict[str, tuple[str, int, int]] = {}
    for key, shape in shapes.items():
        targets = tower_targets(name, layout, key)
        if targets == ("embeddings.mask_token",) and targets[0] not in wanted:
            continue  # only DINOv2's training reads it
        if targets is None or any(target not in wanted for target in targets):
            raise SemiHVError(
                f"{source} has the tensor {key}, for which the {name} tower has no place.", f"Give {LAYOUTS[name]}."
            )
        stored = stored_as(layout, key, tuple(shape))
        for part, target in enumerate(targets):
            if target in origin:
                raise SemiHVError(f"{source} has {origin[target][0]} and {key}, which are both {target}.")
            needed = (wanted[target][0] * len(targets), *wanted[target][1:]) if wanted[target] else ()
            if stored != needed:
                raise SemiHVError(f"{source}: {key} has shape {tuple(shape)}, the {name} tower needs {needed}.")
            origin[target] = (key, part, len(targets))
    missing = [target for target in wanted if target not in origin]
    if missing:
        raise SemiHVError(
            f"{source} lacks {len(missing)} of the {len(wanted)} tensors of a {name} tower: {missing[0]}.",
            "Fetch the checkpoint again.",
        )
    return origin
