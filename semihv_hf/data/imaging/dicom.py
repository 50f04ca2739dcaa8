"""DICOM objects: decoding of every transfer syntax, modality transformation, palettes and colour spaces.

pydicom decodes through python-gdcm and Pillow; imagecodecs takes the syntaxes that those lack (lossless and 12-bit
JPEG, high-throughput JPEG 2000). Every decoder used is under a permissive licence.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import SemiHVError
from ..burned_in import RefusedImage
from .unreadable import UnreadableImage

if TYPE_CHECKING:
    import pydicom

PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Of all frames that are decoded at once.
MAX_DECODED_BYTES = 4 << 30
# JPEG Extended, JPEG Lossless, and JPEG Lossless with the first predictor.
_JPEG_OF_IMAGECODECS = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
# Elements of a data set outside of sequences; a real one has some hundred.
MAX_ELEMENTS = 50_000
# High-throughput JPEG 2000: lossless, lossless with RPCL, lossy.
_HIGH_THROUGHPUT = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


def open_dicom(source: str | Path | bytes, name: str | None = None) -> "pydicom.Dataset":
    """Opens a DICOM object that holds pixels, without decoding them.

    Args:
        source (`str`, `pathlib.Path` or `bytes`): the file or its content.
        name (`str`, *optional*): what an error calls it.

    Returns:
        `pydicom.Dataset`: the data set.

    Raises:
        `UnreadableImage`: it is truncated, is no DICOM file, or holds no pixels.
    """
    import pydicom

    name = name or ("DICOM data" if isinstance(source, bytes) else str(source))
    with readable(name), io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        data = pydicom.filereader.read_partial(file, _Elements())
        if not any(element in data for element in PIXEL_ELEMENTS):
            raise UnreadableImage(name, "the object holds no pixel data")
        frame_count(data)
    return data


class _Elements:
    """Told of each element by the reader, and stops it before it reads millions: a few packed kilobytes hold them.

    In a data set every tag stands once (PS3.5, 7.1); the reader itself may look at the first one twice.
    """

    def __init__(self):
        self.count, self.repeated, self.last = 0, 0, None

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        self.count += 1
        self.repeated += tag == self.last
        if self.repeated > 100 or self.count > MAX_ELEMENTS:
            raise ValueError("its elements repeat themselves, or are too many for a data set")
        self.last = tag
        return False


@contextmanager
def readable(name: str | Path) -> Iterator[None]:
    """Turns whatever pydicom and its decoders raise into [`UnreadableImage`], and keeps them quiet about it.

    Args:
        name (`str` or `pathlib.Path`): the file, for the error.
    """
    # pydicom reports through warnings and a logger what the raised error says as well.
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UnreadableImage, RefusedImage, SemiHVError):
        raise
    except Exception as error:  # pydicom and its decoders raise many types for a damaged file
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from error
    finally:
        logger.setLevel(level)


def frame_count(data: "pydicom.Dataset") -> int:
    """How many frames a DICOM object states that it holds.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        `int`: at least 1.
    """
    return max(1, int(data.get("NumberOfFrames") or 1))


def read_dicom(path: str | Path, step: int = 1) -> tuple["pydicom.Dataset", np.ndarray]:
    """Reads a DICOM object and its pixels.

    The modality transformation (rescale or look-up table) is applied, inverted greyscale (MONOCHROME1) is turned
    round, palette colours are looked up. Colour is RGB: pydicom converts JPEG and YBR data itself, so converting here
    again would turn an echocardiogram green. For pictures as a viewer shows them, see
    [`semihv_hf.data.imaging.render_dicom`].

    Args:
        path (`str` or `pathlib.Path`): the file.
        step (`int`, *optional*, defaults to 1): decode only every so many frames.

    Returns:
        `tuple[pydicom.Dataset, numpy.ndarray]`: the data set and `(frames, rows, columns[, 3])` pixels.

    Raises:
        `UnreadableImage`: the file is truncated, is no DICOM image, or no decoder can read it.
    """
    data = open_dicom(path)
    with readable(path):
        frames = range(0, frame_count(data), step)
        stored = decode_frames(data, frames)
        pixels = np.stack([frame_values(data, frame, values) for frame, values in zip(frames, stored)])
    if data.PhotometricInterpretation == "MONOCHROME1":
        pixels = pixels.max() - pixels.astype(np.float32)
    return data, pixels


def decode_frames(data: "pydicom.Dataset", frames: Sequence[int]) -> list[np.ndarray]:
    """The stored values of frames, decompressed; colour as RGB, palettes as indices.

    Args:
        data (`pydicom.Dataset`): the object.
        frames (`Sequence[int]`): frame numbers from 0, ascending.

    Returns:
        `list[numpy.ndarray]`: `(rows, columns[, 3])` arrays.

    Raises:
        `ValueError`: the frames would take more than `MAX_DECODED_BYTES`.
    """
    from pydicom.pixels import iter_pixels

    bits = int(data.get("BitsAllocated") or 8)
    size = len(frames) * int(data.Rows) * int(data.Columns) * int(data.SamplesPerPixel) * max(1, bits // 8)
    if size > MAX_DECODED_BYTES:
        raise ValueError(f"{len(frames)} frames would take {size:,} bytes; decode fewer of them at once")
    syntax = data.file_meta.get("TransferSyntaxUID", "")
    if syntax in _JPEG_OF_IMAGECODECS or syntax in _HIGH_THROUGHPUT:
        return [_by_imagecodecs(data, syntax, frame) for frame in frames]
    decoded = [pixels.copy() for pixels in iter_pixels(data, indices=list(frames))]
    if len(decoded) != len(frames):
        raise ValueError(f"only {len(decoded)} of {len(frames)} frames are there")
    return decoded


def _by_imagecodecs(data: "pydicom.Dataset", syntax: str, frame: int) -> np.ndarray:
    import imagecodecs
    from pydicom.encaps import get_frame
    from pydicom.pixels import convert_color_space

    coded = get_frame(data.PixelData, frame, number_of_frames=frame_count(data))
    if syntax in _HIGH_THROUGHPUT:
        pixels = imagecodecs.htj2k_decode(coded)
        if data.PhotometricInterpretation == "YBR_FULL":  # not a transform of the codec's own, which it undoes
            pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
    else:
        pixels = imagecodecs.jpeg_decode(coded)
    if pixels.shape[:2] != (data.Rows, data.Columns):
        raise ValueError(f"a frame of {pixels.shape[:2]} pixels is coded where {(data.Rows, data.Columns)} are stated")
    if data.SamplesPerPixel == 1 and data.PixelRepresentation == 1 and pixels.dtype.kind == "u":
        signed = np.int16 if data.BitsAllocated == 16 else np.int8
        unused = data.BitsAllocated - data.BitsStored
        pixels = (pixels.astype(np.dtype(signed).str.replace("i", "u")) << unused).view(signed) >> unused
    return pixels


def frame_values(data: "pydicom.Dataset", frame: int, stored: np.ndarray) -> np.ndarray:
    """Stored values through the modality transformation, or through the palette to RGB.

    Args:
        data (`pydicom.Dataset`): the object.
        frame (`int`): the frame, for what enhanced objects state per frame.
        stored (`numpy.ndarray`): what [`decode_frames`] gave for it.

    Returns:
        `numpy.ndarray`: values in the unit of the modality, or colours.
    """
    if data.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        return apply_color_lut(stored, data)
    if data.SamplesPerPixel != 1:
        return stored
    stated = functional_group(data, frame, "PixelValueTransformationSequence")
    if stated.get("ModalityLUTSequence"):
        return look_up(stored, stated.ModalityLUTSequence[0], data)
    slope, intercept = stated.get("RescaleSlope"), stated.get("RescaleIntercept")
    if slope is None or intercept is None or (float(slope), float(intercept)) == (1.0, 0.0):
        return stored
    return stored.astype(np.float64) * float(slope) + float(intercept)


def functional_group(data: "pydicom.Dataset", frame: int, name: str) -> "pydicom.Dataset":
    """What an enhanced object states for one frame, else for all of them, else the object itself.

    Args:
        data (`pydicom.Dataset`): the object.
        frame (`int`): the frame, the first is 0.
        name (`str`): the keyword of the macro's sequence, for example `"FrameVOILUTSequence"`.

    Returns:
        `pydicom.Dataset`: the first item of that sequence, or `data`.
    """
    per_frame = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        if group.get(name):
            return group[name].value[0]
    return data


def look_up(values: np.ndarray, table: "pydicom.Dataset", data: "pydicom.Dataset") -> np.ndarray:
    """Values through a modality or VOI look-up table (PS3.3 C.11.1.1, C.11.2.1.1).

    pydicom's own functions keep indices in the type of the table's entries, so that a table of 8 bits wraps round
    behind index 255, and they refuse modality tables of 12 bits.

    Args:
        values (`numpy.ndarray`): integers, or floats that are rounded.
        table (`pydicom.Dataset`): the item with LUT Descriptor and LUT Data.
        data (`pydicom.Dataset`): the object, for its byte order.

    Returns:
        `numpy.ndarray`: `uint16` entries; values outside the table take its first or last one.
    """
    entries = table_entries(table, data)
    first = int(table.LUTDescriptor[1])
    if first > 0x7FFF and values.dtype.kind != "u":  # a negative number that was written as an unsigned one
        first -= 1 << 16
    index = np.rint(values).astype(np.int64) - first
    return entries[np.clip(index, 0, len(entries) - 1)]


def table_entries(table: "pydicom.Dataset", data: "pydicom.Dataset") -> np.ndarray:
    """The entries of a look-up table.

    Args:
        table (`pydicom.Dataset`): the item with LUT Descriptor and LUT Data.
        data (`pydicom.Dataset`): the object, for its byte order.

    Returns:
        `numpy.ndarray`: `uint16`, as many as the descriptor states.

    Raises:
        `ValueError`: there are fewer.
    """
    count, _, bits = (int(value) for value in table.LUTDescriptor)
    count = count or 1 << 16
    entries = table.LUTData
    if isinstance(entries, bytes):
        order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
        packed = len(entries) < 2 * count and bits <= 8  # two entries of 8 bits in a word
        entries = np.frombuffer(entries, np.uint8 if packed else f"{order}u2")
    entries = np.atleast_1d(np.asarray(entries))[:count].astype(np.uint16)
    if len(entries) < count:
        raise ValueError(f"a look-up table has {len(entries)} of the {count} entries it states")
    return entries
