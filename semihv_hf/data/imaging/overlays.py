"""Overlay planes of DICOM objects (PS3.3 C.9): graphics and text that lie over the pixels."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pydicom


def overlay_groups(data: "pydicom.Dataset") -> list[int]:
    """The groups that hold an overlay plane, of their own or in unused bits of the pixels.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        `list[int]`: even groups from 0x6000 to 0x60FE.
    """
    return [group for group in range(0x6000, 0x6100, 2) if (group, 0x0010) in data and (group, 0x0011) in data]


def overlay_mask(data: "pydicom.Dataset", group: int, frame: int) -> np.ndarray:
    """What an overlay plane draws on one frame.

    Args:
        data (`pydicom.Dataset`): the object.
        group (`int`): the overlay's group.
        frame (`int`): the frame, the first is 0.

    Returns:
        `numpy.ndarray`: `(rows, columns)` booleans in the frame's own grid.

    Raises:
        `ValueError`: the plane lies in the bits of compressed pixels, from which it cannot be taken.
    """
    shape = (int(data.Rows), int(data.Columns))
    if (group, 0x3000) not in data:
        return _embedded(data, group, frame, shape)
    drawn = data.overlay_array(group).astype(bool)
    first = int(data[group, 0x0051].value) - 1 if (group, 0x0051) in data else 0  # Image Frame Origin
    if drawn.ndim == 3:
        if not 0 <= frame - first < len(drawn):
            return np.zeros(shape, bool)
        drawn = drawn[frame - first]
    origin = data[group, 0x0050].value if (group, 0x0050) in data else (1, 1)  # row and column, from 1
    mask = np.zeros(shape, bool)
    top, left = int(origin[0]) - 1, int(origin[1]) - 1
    rows = slice(max(top, 0), min(top + drawn.shape[0], shape[0]))
    columns = slice(max(left, 0), min(left + drawn.shape[1], shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        mask[rows, columns] = drawn[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return mask


def _embedded(data: "pydicom.Dataset", group: int, frame: int, shape: tuple[int, int]) -> np.ndarray:
    if data.file_meta.TransferSyntaxUID.is_compressed:
        raise ValueError("an overlay lies in the bits of compressed pixels, from which it cannot be taken")
    words = stored_words(data).reshape(-1, *shape)
    return (words[frame] >> int(data[group, 0x0102].value)) & 1 == 1  # Overlay Bit Position


def stored_words(data: "pydicom.Dataset") -> np.ndarray:
    """The words of uncompressed greyscale pixels with all of their bits, those not used for pixels included.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        `numpy.ndarray`: a flat, read-only `uint8` or `uint16` array of all frames.
    """
    order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    count = int(data.Rows) * int(data.Columns) * max(1, int(data.get("NumberOfFrames") or 1))
    return np.frombuffer(data.PixelData, f"{order}u{int(data.BitsAllocated) // 8}", count=count)
