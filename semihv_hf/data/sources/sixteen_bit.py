"""Greyscale pictures of 16 bits as releases store them, or the reason why there is none."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..imaging import UnreadableImage
from ..pictures import clean_picture, read_sixteen_bit
from ..release import Release
from ..zip_index import UnsafeFile
from .base import Skipped

_PNG_DEPTH = slice(24, 25)  # in the header chunk, which comes first


def read_grey_values(
    release: Release, names: Sequence[str], source_id: str, *, eight_bit: bool = False
) -> np.ndarray | Skipped:
    """Reads the values of a greyscale picture from the first place that holds it.

    Args:
        release ([`Release`]): the release.
        names (`Sequence[str]`): where the picture may lie, relative to the release or as the end of the path of an
            archive's member.
        source_id (`str`): what a skipped row is to be called.
        eight_bit (`bool`, *optional*, defaults to `False`): whether a PNG of 8 bits is read, too.

    Returns:
        `numpy.ndarray` or [`Skipped`]: `(rows, columns)` of `uint16`, or `uint8` for a picture of 8 bits; or a
        "missing image", "unreadable image" or "unsafe file".
    """
    name = names[0]
    try:
        for name in names:
            try:
                data = release.read_bytes(name)
                break
            except FileNotFoundError:
                continue
        else:
            return Skipped(source_id, "missing image", names[0])
        if eight_bit and data[_PNG_DEPTH] == b"\x08":
            return _eight_bit(data, name)
        return read_sixteen_bit(data, name=name)
    except UnsafeFile as error:
        return Skipped(source_id, "unsafe file", _one_line(f"{name} {error.reason}"))
    except UnreadableImage as error:
        return Skipped(source_id, "unreadable image", _one_line(f"{name}: {error.reason}"))
    except OSError as error:
        # An error of the operating system names the file with its path on this machine; its own words do not.
        return Skipped(source_id, "unreadable image", _one_line(f"{name}: {error.strerror or error}"))


def _eight_bit(data: bytes, name: str) -> np.ndarray:
    with Image.open(io.BytesIO(clean_picture(data, name=name))) as image:
        return np.asarray(image.convert("L"))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
