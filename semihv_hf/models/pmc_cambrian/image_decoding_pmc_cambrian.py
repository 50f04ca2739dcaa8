# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""How images of every kind become upright 8-bit colour; both backends of the image processor share it."""

import base64
import binascii
import io
import os
import urllib.request
from typing import Any

import numpy as np
import torch
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps

WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
TURNED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF: width and height change places


def open_image(source: str | os.PathLike, timeout: float = 60.0) -> Image.Image:
    """
    Open an image without converting it, so that more than 8 bits, palettes and alpha survive until decoding.

    Args:
        source (`str` or `os.PathLike`): http(s) address, path of a file, `data:image/...` URI or base64 text.
        timeout (`float`, *optional*, defaults to 60.0): seconds to wait for an address.

    Returns:
        `PIL.Image.Image`: the image. A JPEG is held compressed until [`decode_image`] needs its pixels, so that it can
        still be decoded at a smaller size and a long list of files stays small; everything else is fully read.

    Raises:
        `ValueError`: if nothing readable is there.
    """
    source = os.fspath(source)
    # Of a long path the end is what names the file.
    shown = source if len(source) <= 80 else source[:37] + "..." + source[-40:]
    try:
        if source.startswith(("http://", "https://")):
            with urllib.request.urlopen(source, timeout=timeout) as reply:
                image = Image.open(io.BytesIO(reply.read()))
        elif os.path.isfile(source):
            image = Image.open(source)
        else:
            text = source.split(",", 1)[1] if source.startswith("data:image/") and "," in source else source
            image = Image.open(io.BytesIO(base64.b64decode(text, validate=False)))
        if image.format == "JPEG":
            with image:
                image = reopen_jpeg(image)
            image.filename = shown  # for the message if the pixels turn out to be damaged
        else:
            image.load()
    except (OSError, binascii.Error, ValueError) as error:
        raise ValueError(f"No image can be read from {shown!r} (address, path or base64 text): {error}") from error
    return image


def reopen_jpeg(image: Image.Image) -> Image.Image:
    """A second, unread image on a copy of the compressed bytes of an unread JPEG; closes no file of the caller."""
    position = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(position)
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def draft_jpeg(image: Any, smallest_side: int) -> Any:
    """
    Let the JPEG decoder itself halve an image once or several times, which skips most of the work.

    Args:
        image (`Any`): an image of any kind. Only a JPEG whose pixels have not been read yet is touched, and the
            caller's object stays as it is.
        smallest_side (`int`): what the longer side in pixels may not fall below.

    Returns:
        `Any`: an unread JPEG of 1/2, 1/4 or 1/8 of the size (rounded up; a strip only as small as its shorter side
        allows), or the same image if it cannot be halved.
    """
    if not isinstance(image, Image.Image) or image.format != "JPEG" or not getattr(image, "tile", None):
        return image
    longer = max(image.size)
    scale = next((scale for scale in (8, 4, 2) if -(-longer // scale) >= smallest_side), 1)
    if scale == 1:
        return image
    smaller = reopen_jpeg(image)
    if smaller.size != image.size:  # the caller has asked for a draft of their own
        return image
    smaller.draft(None, tuple(max(1, side // scale) for side in image.size))
    smaller.filename = image.filename
    return smaller


def flatten_images(images: Any) -> list:
    """
    One flat list of images from one image, a list, lists nested by sample (rows may be empty or None) or a 4-D batch.

    Args:
        images (`Any`): PIL images, arrays, tensors, paths or addresses in any of these layouts.

    Returns:
        `list`: PIL images, and arrays or tensors with three dimensions; texts are opened.

    Raises:
        `TypeError`: for anything that is no image.
    """
    if images is None:
        return []
    if isinstance(images, (list, tuple)):
        return [image for entry in images for image in flatten_images(entry)]
    if isinstance(images, (str, os.PathLike)):
        return [open_image(images)]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, (np.ndarray, torch.Tensor)):
        if images.ndim == 2:
            # the channel goes where `channels_last` looks first
            return [images[None] if isinstance(images, torch.Tensor) else images[..., None]]
        if images.ndim == 3:
            return [images]
        if images.ndim == 4:
            return list(images)
        raise ValueError(f"An image has 2 or 3 dimensions and a batch 4, got an array of shape {tuple(images.shape)}.")
    raise TypeError(f"Expected PIL images, arrays, tensors, paths or addresses, got {type(images).__name__}.")


def window_to_grey_levels(values: np.ndarray, percentiles: tuple[float, float], index: int) -> np.ndarray:
    """
    Map values of more than 8 bits to grey levels 0 to 255, linearly between two percentiles of the image.

    With the percentiles 0 and 100 no value saturates. An image of one value becomes black.

    Args:
        values (`np.ndarray`): finite numbers of any type and shape.
        percentiles (`tuple[float, float]`): the ones that become black and white.
        index (`int`): position of the image in the batch, for the message.

    Returns:
        `np.ndarray`: `uint8`, same shape.

    Raises:
        `ValueError`: if the percentiles are no rising pair within 0 and 100.
    """
    low_percentile, high_percentile = percentiles
    if not 0 <= low_percentile < high_percentile <= 100:
        raise ValueError(f"window_percentiles must rise within 0 and 100, got {percentiles} (image {index}).")
    values = values.astype(np.float64)
    if (low_percentile, high_percentile) == (0, 100):
        low, high = values.min(), values.max()
    else:
        low, high = np.percentile(values, (low_percentile, high_percentile))
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)


def array_to_grey_levels(array: np.ndarray, percentiles: tuple[float, float], index: int) -> np.ndarray:
    """
    Bring pixel values of any type to 8 bits.

    `uint8` stays; booleans become 0 and 255; floats within 0 and 1 are multiplied by 255; colour values within 0 and
    255 are grey levels in a wide type and are rounded; everything else is windowed, all channels together.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            height, width = array.shape[:2]
            raise ValueError(f"Image {index} ({height}x{width}) holds {count} values that are NaN or infinite.")
        if array.min() >= 0.0 and array.max() <= 1.0:
            return np.rint(array.astype(np.float64) * 255.0).astype(np.uint8)
    elif not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"Image {index} holds {array.dtype} values: integers, floats or booleans are needed.")
    if array.shape[-1] >= 3 and array.min() >= 0 and array.max() <= 255:
        return np.rint(array).astype(np.uint8)
    return window_to_grey_levels(array, percentiles, index)


def channels_last(array: np.ndarray, first_if_unclear: bool, data_format: Any, index: int) -> np.ndarray:
    """
    Move the channels of a three-dimensional array to the end.

    Where both ends could be channels, the custom of the library decides: first for tensors, last for arrays.
    """
    if data_format is not None:
        data_format = str(getattr(data_format, "value", data_format))
        return np.moveaxis(array, 0, -1) if data_format == "channels_first" else array
    first, last = array.shape[0] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    if not first and not last:
        raise ValueError(f"Image {index} has shape {array.shape}: 1, 3 or 4 channels must come first or last.")
    return np.moveaxis(array, 0, -1) if first and (first_if_unclear or not last) else array


def decode_image(
    image: Any,
    index: int = 0,
    percentiles: tuple[float, float] = (0.0, 100.0),
    data_format: Any = None,
) -> Image.Image:
    """
    Turn one image of any kind into 8-bit colour, upright.

    * The EXIF orientation is applied (the original preprocessing ignores it).
    * Grey and palette images become colour as PIL converts them.
    * An image with transparency comes back as RGBA: each tower then sees its own pad colour through it.
    * More than 8 bits (16-bit PNG and TIFF, `I`, `F`, wide integer and float arrays) are windowed, see
      [`array_to_grey_levels`]; the original saturates them.

    Args:
        image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`): the image; arrays with channels first or last.
        index (`int`, *optional*, defaults to 0): position in the batch, named in errors.
        percentiles (`tuple[float, float]`, *optional*, defaults to `(0.0, 100.0)`): window of wide images.
        data_format (`str` or `ChannelDimension`, *optional*): channel layout of an array, guessed if left out.

    Returns:
        `PIL.Image.Image`: mode RGB, or RGBA if some pixel is transparent.

    Raises:
        `ValueError`: for an empty image, NaN, or a layout or mode that cannot be read.
    """
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"Image {index} is empty: its size is {image.height}x{image.width} (height x width).")
        image = upright_image(image, index)
        if image.mode == "RGB" and "transparency" not in image.info:
            return image
        if image.mode in ALPHA_MODES or ("transparency" in image.info and image.mode not in WIDE_MODES):
            return drop_opaque_alpha(image.convert("RGBA"))
        if image.mode not in WIDE_MODES:
            try:
                return image.convert("RGB")
            except ValueError as error:
                raise ValueError(f"Image {index} has mode {image.mode}, which does not convert to RGB.") from error
        # PIL's own conversion of more than 8 bits clips at 255: window the numbers instead
        array = np.asarray(image)[..., None]
    else:
        is_tensor = isinstance(image, torch.Tensor)
        if is_tensor:
            image = image.detach().cpu()
            # numpy has no bfloat16
            array = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
        else:
            array = image
        array = channels_last(array, is_tensor, data_format, index) if array.ndim == 3 else array[..., None]
        if 0 in array.shape:
            raise ValueError(
                f"Image {index} is empty: its size is {array.shape[0]}x{array.shape[1]} (height x width)."
            )
    array = np.ascontiguousarray(array_to_grey_levels(array, percentiles, index))
    if array.shape[-1] == 1:
        return Image.fromarray(array[..., 0]).convert("RGB")
    image = Image.fromarray(array)
    return drop_opaque_alpha(image) if image.mode == "RGBA" else image


def decode_with_size(
    image: Any,
    index: int = 0,
    percentiles: tuple[float, float] = (0.0, 100.0),
    data_format: Any = None,
    draft_side: int | None = None,
) -> tuple[Image.Image, tuple[int, int]]:
    """
    [`decode_image`], perhaps at a smaller size, and the size that the image has at full resolution.

    Args:
        image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`): see [`decode_image`].
        index (`int`, *optional*, defaults to 0): see [`decode_image`].
        percentiles (`tuple[float, float]`, *optional*, defaults to `(0.0, 100.0)`): see [`decode_image`].
        data_format (`str` or `ChannelDimension`, *optional*): see [`decode_image`].
        draft_side (`int`, *optional*): if given, a JPEG is decoded as small as its longer side stays this long.

    Returns:
        `tuple[PIL.Image.Image, tuple[int, int]]`: the image, and `(height, width)` of the upright original.
    """
    drafted = image if draft_side is None else draft_jpeg(image, draft_side)
    if drafted is image:
        decoded = decode_image(image, index, percentiles, data_format)
        return decoded, (decoded.height, decoded.width)
    width, height = image.size
    if drafted.getexif().get(ExifTags.Base.Orientation, 1) in TURNED_ORIENTATIONS:
        width, height = height, width
    return decode_image(drafted, index, percentiles, data_format), (height, width)


def upright_image(image: Image.Image, index: int) -> Image.Image:
    """Read an image fully and apply its EXIF orientation; `ValueError` naming it if the file is damaged."""
    try:
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError) as error:
        name = getattr(image, "filename", "")
        where = f" ({os.fsdecode(name)!r})" if name else ""
        raise ValueError(f"Image {index}{where} cannot be read: {error}") from error
    return image


def drop_opaque_alpha(image: Image.Image) -> Image.Image:
    """RGB if every pixel of an RGBA image is opaque, else the image as it is."""
    return image.convert("RGB") if image.getextrema()[3][0] == 255 else image


def pad_to_square(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    """
    Centre an image on a square of one colour, which also shows through where the image is transparent.

    Args:
        image (`PIL.Image.Image`): mode RGB or RGBA.
        color (`tuple[int, int, int]`): grey levels of the square.

    Returns:
        `PIL.Image.Image`: RGB, as wide and high as the longer side; the same image if nothing is to be done.
    """
    width, height = image.size
    if width == height and image.mode == "RGB":
        return image
    side = max(width, height)
    canvas = Image.new("RGB", (side, side), tuple(color))
    position = ((side - width) // 2, (side - height) // 2)
    canvas.paste(image, position, mask=image if image.mode == "RGBA" else None)
    return canvas
