# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""Exact image processor of PMC-Cambrian on PIL, and the settings that both backends share."""

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.processing_utils import ImagesKwargs

from .image_decoding_pmc_cambrian import decode_with_size
from .image_decoding_pmc_cambrian import flatten_images
from .image_decoding_pmc_cambrian import open_image
from .image_decoding_pmc_cambrian import pad_to_square

PIXEL_KEYS = {
    "siglip": "pixel_values",
    "clip": "pixel_values_clip",
    "dino": "pixel_values_dino",
    "convnext": "pixel_values_convnext",
}

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# The pad colour of SigLIP is CLIP's mean, not the grey of its own normalisation: so it was trained.
DEFAULT_TOWERS = {
    "siglip": {"size": 384, "pad_color": (122, 116, 104), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "clip": {"size": 336, "pad_color": (122, 116, 104), "mean": CLIP_MEAN, "std": CLIP_STD},
    "dino": {
        "size": 378,
        "pad_color": (123, 116, 103),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    "convnext": {"size": 1024, "pad_color": (122, 116, 104), "mean": CLIP_MEAN, "std": CLIP_STD},
}


class PMCCambrianImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    towers (`dict[str, dict]`, *optional*, defaults to the four towers of the 8B model):
        One entry for each vision tower that is present: `siglip`, `clip`, `dino`, `convnext`. An entry may set `size`
        (`int`), `pad_color` (three grey levels), `mean` and `std` (three numbers); what it leaves out is the 8B value.
    window_percentiles (`tuple[float, float]`, *optional*, defaults to `(0.0, 100.0)`):
        Percentiles of an image with more than 8 bits that become black and white. The default spans the whole range,
        so that nothing saturates.
    draft_decoding (`bool`, *optional*, defaults to `False`):
        Let the JPEG decoder halve large images while it decodes, as often as no tower is then enlarged. Several times
        faster on large photographs, and not exact: grey levels change where the image is finer than what is kept, and
        the picture may move on its square by half a pixel of the smaller size.
        `image_sizes`, and so the number of image tokens, stay those of the original. Only for JPEGs whose pixels have
        not been read: paths, addresses, base64 texts and freshly opened PIL images.
    """

    towers: dict[str, dict] | None
    window_percentiles: list[float] | tuple[float, ...] | None
    draft_decoding: bool | None


def complete_towers(towers: dict[str, dict]) -> dict[str, dict]:
    """
    Fill in what the settings of each tower leave out.

    Args:
        towers (`dict[str, dict]`): settings by tower name, see [`PMCCambrianImageProcessorKwargs`].

    Returns:
        `dict[str, dict]`: the same towers in the model's order, each with `size`, `pad_color`, `mean` and `std`.

    Raises:
        `ValueError`: for an unknown tower or setting, and for a value of the wrong length or size.
    """
    unknown = [name for name in towers if name not in DEFAULT_TOWERS]
    if unknown or not towers:
        what = f"Unknown vision tower {unknown[0]!r}" if unknown else "No vision tower is set"
        raise ValueError(f"{what}: the known ones are {', '.join(DEFAULT_TOWERS)}.")
    completed = {}
    for name, defaults in DEFAULT_TOWERS.items():
        if name not in towers:
            continue
        settings = {**defaults, **(towers[name] or {})}
        extra = sorted(set(settings) - set(defaults))
        if extra:
            raise ValueError(
                f"Unknown setting {extra[0]!r} of tower {name}: the known ones are {', '.join(defaults)}."
            )
        if int(settings["size"]) < 1:
            raise ValueError(f"The size of tower {name} must be at least 1, got {settings['size']}.")
        settings["size"] = int(settings["size"])
        for key in ("pad_color", "mean", "std"):
            if len(settings[key]) != 3:
                raise ValueError(f"{key} of tower {name} needs 3 values, got {len(settings[key])}.")
        settings["pad_color"] = [int(level) for level in settings["pad_color"]]
        settings["mean"] = [float(value) for value in settings["mean"]]
        settings["std"] = [float(value) for value in settings["std"]]
        completed[name] = settings
    return completed


def level_table(settings: dict, do_rescale: bool, rescale_factor: float, do_normalize: bool) -> np.ndarray:
    """Value of every grey level in every channel, (3, 256): rescaling and normalising are then one look-up."""
    levels = np.repeat(np.arange(256)[None], 3, axis=0)
    if not do_rescale and not do_normalize:
        return levels.astype(np.uint8)
    if do_rescale:
        levels = levels * rescale_factor
    levels = levels.astype(np.float32)
    if do_normalize:
        levels = (levels - np.float32(settings["mean"])[:, None]) / np.float32(settings["std"])[:, None]
    return levels


class SharedSettings:
    """What both backends of the image processor have in common: settings, checks, keys and how they are saved."""

    # Saving always brings the code along, so that a folder loads where this package is not installed.
    _auto_class = "AutoImageProcessor"
    valid_kwargs = PMCCambrianImageProcessorKwargs
    towers = DEFAULT_TOWERS
    window_percentiles = (0.0, 100.0)
    draft_decoding = False
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True

    @property
    def model_input_names(self) -> list[str]:
        """Keys of the output: one for each tower that is present, and `image_sizes`."""
        return [PIXEL_KEYS[name] for name in self.towers] + ["image_sizes"]

    def fetch_images(self, images: Any) -> Any:
        """Open texts (paths, addresses, base64) wherever they are nested, without any conversion."""
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        return open_image(images) if isinstance(images, (str, os.PathLike)) else images

    def _standardize_kwargs(
        self,
        towers: dict | None = None,
        window_percentiles: Any = None,
        draft_decoding: bool | None = None,
        **kwargs,
    ) -> dict:
        kwargs = super()._standardize_kwargs(**kwargs)
        kwargs["towers"] = complete_towers(self.towers if towers is None else towers)
        kwargs["draft_decoding"] = self.draft_decoding if draft_decoding is None else draft_decoding
        low, high = self.window_percentiles if window_percentiles is None else window_percentiles
        kwargs["window_percentiles"] = (float(low), float(high))
        return kwargs

    def _validate_preprocess_kwargs(self, **kwargs) -> None:
        # Size, colours and statistics belong to a tower: a value for all of them would silently do nothing.
        for key in ("size", "crop_size", "pad_size", "image_mean", "image_std", "resample"):
            if kwargs.get(key) is not None:
                raise ValueError(f"{key} is no setting of this image processor: set it for each tower in `towers`.")
        if kwargs.get("do_resize") is False or kwargs.get("do_pad") is False or kwargs.get("do_center_crop"):
            raise ValueError("Images are always padded to a square and resized, and never cropped.")

    def _preprocess_image_like_inputs(self, images: Any, draft_decoding: bool = False, **kwargs) -> BatchFeature:
        images = flatten_images(images)
        if not images:
            raise ValueError("No images were given.")
        draft_side = max(settings["size"] for settings in kwargs["towers"].values()) if draft_decoding else None
        return self._preprocess(images, draft_side=draft_side, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Settings as they are saved, with the code of both backends for `AutoImageProcessor`."""
        output = super().to_dict()
        output["auto_map"] = {"AutoImageProcessor": dict(self.auto_map_backends)}
        return output


class PMCCambrianImageProcessorPil(SharedSettings, PilBackend):
    r"""
    Pixels for every vision tower from one decoding, equal to the original preprocessing.

    Each tower gets the image centred on a square of the tower's pad colour, one bicubic PIL resize, rescaling and
    normalisation. Squares of equal colour are made once. The output has one key for each tower that is present
    (`pixel_values`, `pixel_values_clip`, `pixel_values_dino`, `pixel_values_convnext`) and `image_sizes`, int64
    (images, 2): height and width of the upright original.

    The towers of an image are resized side by side, on as many threads as torch may use (`torch.set_num_threads`; one
    in the workers of a `DataLoader`).

    Nested lists (one for each sample) are flattened in order. See [`decode_image`] for grey, palette, transparent,
    rotated, 16-bit and float images.

    Args:
        towers (`dict[str, dict]`, *optional*): the towers that are present, see [`PMCCambrianImageProcessorKwargs`].
        window_percentiles (`tuple[float, float]`, *optional*, defaults to `(0.0, 100.0)`): window of wide images.
        draft_decoding (`bool`, *optional*, defaults to `False`): decode large JPEGs at a fraction of their size.
        do_rescale (`bool`, *optional*, defaults to `True`): multiply grey levels by `rescale_factor`.
        rescale_factor (`float`, *optional*, defaults to `1 / 255`): see `do_rescale`.
        do_normalize (`bool`, *optional*, defaults to `True`): subtract the tower's mean, divide by its deviation.
            With neither of the two the output is `uint8`.
    """

    # AutoImageProcessor asks for "torchvision" whenever nothing is said. That key is left out on purpose, so that it
    # falls back to the first entry of the sorted file and the exact backend is the default; `backend="fast"` gives the
    # other one. AutoProcessor knows which was asked for, see PMCCambrianProcessor.
    auto_map_backends = {
        "exact": "image_processing_pil_pmc_cambrian.PMCCambrianImageProcessorPil",
        "fast": "image_processing_pmc_cambrian.PMCCambrianImageProcessor",
        "pil": "image_processing_pil_pmc_cambrian.PMCCambrianImageProcessorPil",
    }

    def with_torchvision(self):
        """The same settings on the torchvision backend."""
        from .image_processing_pmc_cambrian import PMCCambrianImageProcessor

        settings = copy.deepcopy({key: getattr(self, key, None) for key in self._valid_kwargs_names})
        return PMCCambrianImageProcessor(**settings)

    def _preprocess(
        self,
        images: list,
        towers: dict[str, dict],
        window_percentiles: tuple[float, float],
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        draft_side: int | None = None,
        input_data_format: Any = None,
        return_tensors: Any = None,
        **kwargs,
    ) -> BatchFeature:
        tables = {name: level_table(towers[name], do_rescale, rescale_factor, do_normalize) for name in towers}
        data = {}
        for name, settings in towers.items():
            shape = (len(images), 3, settings["size"], settings["size"])
            data[PIXEL_KEYS[name]] = np.empty(shape, dtype=tables[name].dtype)
        sizes = np.empty((len(images), 2), dtype=np.int64)

        # Slowest first, so that no thread is left with it at the end.
        names = sorted(towers, key=lambda name: -towers[name]["size"])
        colors = {tuple(settings["pad_color"]) for settings in towers.values()}
        with ThreadPoolExecutor(min(len(towers), torch.get_num_threads())) as pool:
            for index, image in enumerate(images):
                image, sizes[index] = decode_with_size(image, index, window_percentiles, input_data_format, draft_side)
                squares = {color: pad_to_square(image, color) for color in colors}
                jobs = [
                    (squares[tuple(towers[name]["pad_color"])], tables[name], data[PIXEL_KEYS[name]][index])
                    for name in names
                ]
                list(pool.map(resize_into, *zip(*jobs)))
        data["image_sizes"] = sizes
        return BatchFeature(data=data, tensor_type=return_tensors)


def resize_into(square: Image.Image, table: np.ndarray, output: np.ndarray) -> None:
    """One tower's pixels of one image: `output` (3, size, size) is filled from `table`, see [`level_table`]."""
    levels = np.asarray(square.resize(output.shape[1:], Image.Resampling.BICUBIC))
    for channel in range(3):
        # every level is within the table, so "clip" never acts: it only spares the bounds check's buffer
        np.take(table[channel], levels[..., channel], out=output[channel], mode="clip")


__all__ = ["PMCCambrianImageProcessorPil"]
