"""Pictures on disk as arrays. For the encoded bytes that a case holds, see [`semihv_hf.data.pictures`]."""

from pathlib import Path

import numpy as np
from PIL import Image

from .unreadable import UnreadableImage


def read_picture(path: str | Path) -> np.ndarray:
    """Reads a PNG, JPEG, TIFF of either byte order, or the full-resolution page of an SVS whole-slide file.

    A slide that is too large for memory is read in parts by [`semihv_hf.data.imaging.slides.Slide`].

    Args:
        path (`str` or `pathlib.Path`): the file.

    Returns:
        `numpy.ndarray`: `(rows, columns[, 3])`, or `(pages, rows, columns)` for a stack.

    Raises:
        `UnreadableImage`: the file is truncated or of another kind.
    """
    try:
        if Path(path).suffix.lower() in (".tif", ".tiff", ".svs"):
            import tifffile

            values = tifffile.imread(path)
            return values.astype(values.dtype.newbyteorder("="), copy=False)
        with Image.open(path) as image:
            return np.asarray(image.convert("L") if image.mode in ("L", "1") else image.convert("RGB"))
    except Exception as error:  # Pillow, tifffile and the codecs raise many types for a damaged file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error
