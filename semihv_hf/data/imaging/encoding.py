"""8-bit pixels as pictures of bounded size, encoded without metadata."""

import io

import numpy as np
from PIL import Image


def fit_pixels(pixels: np.ndarray, longest: int, spacing: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Resamples to square pixels with a bounded longest side; small images are not blown up beyond twice.

    Args:
        pixels (`numpy.ndarray`): `uint8` `(rows, columns[, 3])`.
        longest (`int`): the longest side allowed.
        spacing (`tuple[float, float]`, *optional*, defaults to `(1.0, 1.0)`): row and column spacing.

    Returns:
        `numpy.ndarray`: `uint8` pixels.
    """
    rows, columns = pixels.shape[:2]
    unit = min(spacing)
    height, width = rows * spacing[0] / unit, columns * spacing[1] / unit
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (columns, rows):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes pixels as PNG without any metadata.

    Args:
        pixels (`numpy.ndarray`): `uint8`, greyscale or RGB.

    Returns:
        `bytes`: the file.
    """
    buffer = io.BytesIO()
    # A low level: building the whole set stays cheap, and shards are not recompressed.
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def content_share(pixels: np.ndarray, background: int = 0, tolerance: int = 24) -> float:
    """The share of pixels that differ from the background.

    Args:
        pixels (`numpy.ndarray`): `uint8` pixels.
        background (`int`, *optional*, defaults to 0): 0 for black, 255 for white.
        tolerance (`int`, *optional*, defaults to 24): how far from it still counts as background.

    Returns:
        `float`: between 0 and 1.
    """
    grey = pixels if pixels.ndim == 2 else pixels[..., 1]  # green carries most of the brightness
    return float((np.abs(grey.astype(np.float32) - background) > tolerance).mean())
