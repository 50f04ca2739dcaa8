"""Clinical image files to plain 8-bit pixels: DICOM, NIfTI, NRRD, TIFF, whole-slide regions, JPEG and PNG.

Only pixels leave this module, so whatever a header says about a person stays behind. A file that cannot be read
raises [`UnreadableImage`] with the reason; nothing is ever put in its place.
"""

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import pydicom

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
# Centre and width in Hounsfield units, the usual presets.
CT_WINDOWS = {
    "lung window": (-600.0, 1500.0),
    "soft tissue window": (40.0, 400.0),
    "bone window": (500.0, 2000.0),
    "brain window": (40.0, 80.0),
}
# JPEG Extended, JPEG Lossless, and JPEG Lossless with the first predictor.
_JPEG_OF_IMAGECODECS = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")


class UnreadableImage(Exception):
    """A file that holds no usable image.

    Args:
        path (`str` or `pathlib.Path`): the file.
        reason (`str`): what is wrong with it.
    """

    def __init__(self, path: str | Path, reason: str):
        self.path = str(path)
        self.reason = " ".join(str(reason).split())[:300]
        super().__init__(f"{self.path}: {self.reason}")


@dataclass
class Volume:
    """A volume on axes that run to the patient's right, front and head (RAS+).

    Args:
        data (`numpy.ndarray`): `(right, anterior, superior)` values.
        spacing (`tuple[float, float, float]`): millimetres per voxel along each axis.
        origin (`tuple[float, float, float]`): millimetres of the first voxel along each axis.
        axes (`str`): how the file stored its axes, for example `"LAS"`, the evidence for a slice's plane.
    """

    data: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    axes: str


def read_dicom(path: str | Path, step: int = 1) -> tuple["pydicom.Dataset", np.ndarray]:
    """Reads a DICOM object and its pixels.

    Rescale slope and intercept are applied, inverted greyscale (MONOCHROME1) is turned round, palette colours are
    looked up. Colour is RGB: pydicom converts JPEG and YBR data itself, so converting here again would turn an
    echocardiogram green.

    Args:
        path (`str` or `pathlib.Path`): the file.
        step (`int`, *optional*, defaults to 1): decode only every so many frames.

    Returns:
        `tuple[pydicom.Dataset, numpy.ndarray]`: the data set and `(frames, rows, columns[, 3])` pixels.

    Raises:
        `UnreadableImage`: the file is truncated, is no DICOM image, or no decoder can read it.
    """
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_rescale

    # pydicom reports through warnings and a logger what the raised error says as well.
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            if "PixelData" not in data:
                raise UnreadableImage(path, "the object holds no pixel data")
            frames = range(0, int(data.get("NumberOfFrames") or 1), step)
            pixels = np.stack([_decode_frame(data, frame) for frame in frames])
            if data.PhotometricInterpretation == "PALETTE COLOR":
                pixels = apply_color_lut(pixels, data)
            elif data.SamplesPerPixel == 1:
                pixels = apply_rescale(pixels, data)
    except UnreadableImage:
        raise
    except Exception as error:  # pydicom and its decoders raise many types for a damaged file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error
    finally:
        logger.setLevel(level)
    if data.PhotometricInterpretation == "MONOCHROME1":
        pixels = pixels.max() - pixels.astype(np.float32)
    return data, pixels


def _decode_frame(data: "pydicom.Dataset", frame: int) -> np.ndarray:
    # Lossless JPEG and 12-bit JPEG: pydicom needs a plugin for them that is not always there, imagecodecs has both.
    if data.file_meta.TransferSyntaxUID in _JPEG_OF_IMAGECODECS:
        import imagecodecs
        from pydicom.encaps import get_frame

        frames = int(data.get("NumberOfFrames") or 1)
        pixels = imagecodecs.jpeg_decode(get_frame(data.PixelData, frame, number_of_frames=frames))
        if data.SamplesPerPixel == 1 and data.PixelRepresentation == 1:
            unused = 16 - data.BitsStored
            pixels = (pixels.astype(np.uint16) << unused).view(np.int16) >> unused
        return pixels
    from pydicom.pixels import pixel_array

    return pixel_array(data, index=frame)


def read_nifti(path: str | Path, frame: int = 0) -> Volume:
    """Reads a NIfTI volume onto RAS+ axes.

    Args:
        path (`str` or `pathlib.Path`): a `.nii` or `.nii.gz` file.
        frame (`int`, *optional*, defaults to 0): which time point of a four-dimensional file.

    Returns:
        [`Volume`]: the volume.

    Raises:
        `UnreadableImage`: the file is truncated or no NIfTI volume.
    """
    import nibabel

    try:
        image = nibabel.load(path)
        # One read of the whole array: slicing the compressed proxy slice by slice unpacks the file every time.
        data = np.asarray(image.dataobj)
        affine = image.affine
    except Exception as error:  # nibabel, zlib and gzip raise many types for a damaged file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error
    if data.ndim == 4:
        data = data[..., frame]
    return canonical_volume(data, affine, path)


def read_nrrd(path: str | Path) -> Volume:
    """Reads an NRRD volume onto RAS+ axes.

    Args:
        path (`str` or `pathlib.Path`): a `.nrrd` file that states its space.

    Returns:
        [`Volume`]: the volume.

    Raises:
        `UnreadableImage`: the file is truncated, or does not state an anatomical space.
    """
    import nrrd

    try:
        data, header = nrrd.read(str(path))
    except Exception as error:  # nrrd and zlib raise many types for a damaged file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error
    signs = {"left-posterior-superior": (-1, -1, 1), "right-anterior-superior": (1, 1, 1)}.get(header.get("space", ""))
    if signs is None or "space directions" not in header:
        raise UnreadableImage(path, f"its space is {header.get('space')!r}, so the planes are unknown")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"], dtype=float).T
    affine[:3, 3] = header["space origin"]
    return canonical_volume(data, np.diag([*signs, 1]) @ affine, path)


def canonical_volume(data: np.ndarray, affine: np.ndarray, path: str | Path) -> Volume:
    """Turns an array and its affine into a [`Volume`] on the nearest RAS+ axes.

    Args:
        data (`numpy.ndarray`): a three-dimensional array.
        affine (`numpy.ndarray`): voxel indices to RAS+ millimetres.
        path (`str` or `pathlib.Path`): the file, named when this fails.

    Returns:
        [`Volume`]: the volume; its array is a view where that is possible.

    Raises:
        `UnreadableImage`: the array is not three-dimensional or the affine is degenerate.
    """
    from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation

    if data.ndim != 3 or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise UnreadableImage(path, f"an array of shape {data.shape} with this affine is no volume")
    axes = "".join(aff2axcodes(affine))
    orientation = io_orientation(affine)
    turned = apply_orientation(data, orientation)
    affine = affine @ inv_ornt_aff(orientation, data.shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Volume(turned, tuple(map(float, spacing)), tuple(map(float, affine[:3, 3])), axes)


def plane_slice(volume: Volume, plane: str, index: int) -> np.ndarray:
    """One slice, as it is usually shown: head or front up, the patient's right on the left, face to the left.

    Args:
        volume ([`Volume`]): the volume.
        plane (`str`): `"axial"`, `"coronal"` or `"sagittal"`.
        index (`int`): the voxel index along the plane's normal.

    Returns:
        `numpy.ndarray`: `(rows, columns)` values, not yet scaled to square pixels.
    """
    data = volume.data
    if plane == "axial":
        return data[::-1, ::-1, index].T
    if plane == "coronal":
        return data[::-1, index, ::-1].T
    return data[index, ::-1, ::-1].T


def plane_spacing(volume: Volume, plane: str) -> tuple[float, float]:
    """Millimetres per row and per column of [`plane_slice`].

    Args:
        volume ([`Volume`]): the volume.
        plane (`str`): `"axial"`, `"coronal"` or `"sagittal"`.

    Returns:
        `tuple[float, float]`: row and column spacing.
    """
    x, y, z = volume.spacing
    return {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}[plane]


def apply_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Maps values to 8 bits through a window.

    Args:
        values (`numpy.ndarray`): values, for CT in Hounsfield units.
        center (`float`): the value shown as middle grey.
        width (`float`): the range shown between black and white.

    Returns:
        `numpy.ndarray`: `uint8`.
    """
    low = center - width / 2
    return (np.clip((values.astype(np.float32) - low) / width, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_8bit(values: np.ndarray, low: float = 0.5, high: float = 99.5) -> np.ndarray:
    """Maps values to 8 bits between two percentiles; 8-bit input is returned unchanged.

    Args:
        values (`numpy.ndarray`): any real values.
        low (`float`, *optional*, defaults to 0.5): the percentile shown as black.
        high (`float`, *optional*, defaults to 99.5): the percentile shown as white.

    Returns:
        `numpy.ndarray`: `uint8`.
    """
    if values.dtype == np.uint8:
        return values
    bottom, top = np.percentile(values, [low, high])
    width = max(float(top - bottom), 1e-6)
    return apply_window(values, bottom + width / 2, width)


def dicom_window(data: "pydicom.Dataset") -> tuple[float, float] | None:
    """The window that a DICOM object asks to be shown with.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        `tuple[float, float]` or `None`: centre and width, when the object states them.
    """
    center, width = data.get("WindowCenter"), data.get("WindowWidth")
    if center is None or width is None:
        return None
    first = [
        float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
        for value in (center, width)
    ]
    return (first[0], first[1]) if first[1] > 1 else None


def read_picture(path: str | Path) -> np.ndarray:
    """Reads a PNG, JPEG, TIFF or the full-resolution page of an SVS whole-slide file.

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

            return tifffile.imread(path)
        with Image.open(path) as image:
            return np.asarray(image.convert("L") if image.mode in ("L", "1") else image.convert("RGB"))
    except Exception as error:  # Pillow, tifffile and the codecs raise many types for a damaged file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error


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
