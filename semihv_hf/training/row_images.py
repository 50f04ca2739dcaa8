"""The images of a training row: left undecoded until a worker needs their pixels, and measured by their headers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

# Where a PNG can say that it is to be turned. Only then is it read to the end: these chunks may follow the pixels.
PNG_ORIENTATION = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def undecoded(dataset):
    """
    The same dataset with image columns that give files instead of pixels.

    Otherwise reading a row decodes it, and one damaged file ends the run instead of being counted.

    Args:
        dataset (`Dataset` or `IterableDataset`): rows with an `images` or `image` column, or with none.

    Returns:
        `Dataset` or `IterableDataset`: with `Image(decode=False)` in these columns; unchanged where the types of the
        columns are not known.
    """
    from datasets import Image, LargeList, List

    for name in ("images", "image"):
        feature = (getattr(dataset, "features", None) or {}).get(name)
        if isinstance(feature, Image) and feature.decode:
            dataset = dataset.cast_column(name, Image(decode=False))
        elif isinstance(feature, (List, LargeList)) and isinstance(feature.feature, Image) and feature.feature.decode:
            dataset = dataset.cast_column(name, type(feature)(Image(decode=False)))
    return dataset


def row_images(row: dict[str, Any]) -> list:
    """The images of a row, from `images` or `image`; an empty list for a row of text only."""
    if "images" in row:
        return list(row["images"] or [])
    image = row.get("image")
    return [] if image is None else [image]


def image_size(value: Any) -> tuple[int, int]:
    """
    Height and width of an image as it will be decoded, read from its header.

    Args:
        value (`dict`, `str` or `PIL.Image.Image`): `{"bytes", "path"}`, a path, or an opened image.

    Returns:
        `tuple[int, int]`: height and width of the upright image.

    Raises:
        `Exception`: whatever PIL raises for a header that it cannot read.
    """
    from PIL import ExifTags, Image

    if isinstance(value, Image.Image):
        return _upright_size(value, value.getexif().get(ExifTags.Base.Orientation))
    data, path = _file(value)
    if data is None:
        with open(path, "rb") as file:
            data = file.read()
    with Image.open(io.BytesIO(data)) as opened:
        # `getexif` of a PNG decodes the pixels to find what lies behind them.
        says_nothing = opened.format == "PNG" and not any(mark in data for mark in PNG_ORIENTATION)
        return _upright_size(opened, None if says_nothing else opened.getexif().get(ExifTags.Base.Orientation))


def _file(value: Any) -> tuple[bytes | None, str | None]:
    """Bytes and path of an undecoded image; raises for what is none, which `datasets` would hand through."""
    data, path = (None, value) if isinstance(value, str) else (None, None)
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
    if data is None and path is None:
        raise ValueError(f"{type(value).__name__} is no image: it has neither bytes nor a path")
    return data, path


def _upright_size(image: Image.Image, orientation: int | None) -> tuple[int, int]:
    width, height = image.size
    # PIL has already turned the size of a TIFF.
    return (width, height) if orientation in TURNED and image.format != "TIFF" else (height, width)


def decode_image(value: Any) -> Image.Image:
    """
    Decodes an image as `datasets` does, upright.

    Args:
        value (`dict`, `str` or `PIL.Image.Image`): `{"bytes", "path"}`, a path, or an opened image.

    Returns:
        `PIL.Image.Image`: with its pixels read.

    Raises:
        `Exception`: whatever PIL raises for a file that does not decode.
    """
    import datasets
    from PIL import ExifTags, Image, ImageOps

    if isinstance(value, Image.Image):
        value.load()
        turned = value.getexif().get(ExifTags.Base.Orientation) is not None
        return ImageOps.exif_transpose(value) if turned else value
    data, path = _file(value)
    return datasets.Image().decode_example({"bytes": data, "path": path})
