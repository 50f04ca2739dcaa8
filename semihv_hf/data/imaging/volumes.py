"""NIfTI and NRRD volumes on axes that run to the patient's right, front and head, and slices of them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .unreadable import UnreadableImage

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
# Of one time point, unpacked. A CT of 1,000 slices of 512 x 512 values of 32 bits is half of it.
MAX_VOLUME_BYTES = 2 << 30
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


@dataclass
class Volume:
    """A volume on axes that run to the patient's right, front and head (RAS+).

    Args:
        data (`numpy.ndarray`): `(right, anterior, superior)` values.
        spacing (`tuple[float, float, float]`): millimetres per voxel along each axis.
        origin (`tuple[float, float, float]`): millimetres of the first voxel along each axis.
        axes (`str`): how the file stored its axes, for example `"LAS"`, the evidence for a slice's plane.
        is_oriented (`bool`, *optional*, defaults to `True`): whether the file states its orientation. Without it the
            planes are a convention, and left and right must not be named.
    """

    data: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    axes: str
    is_oriented: bool = True


def read_nifti(path: str | Path, frame: int = 0) -> Volume:
    """Reads a NIfTI-1 or NIfTI-2 volume onto RAS+ axes.

    Args:
        path (`str` or `pathlib.Path`): a `.nii` or `.nii.gz` file.
        frame (`int`, *optional*, defaults to 0): which time point of a four-dimensional file, the first is 0.

    Returns:
        [`Volume`]: the volume.

    Raises:
        `UnreadableImage`: the file is truncated, is no NIfTI volume of real numbers, has no such time point, or would
            unpack to more than `MAX_VOLUME_BYTES`.
    """
    import nibabel

    try:
        image = nibabel.load(path)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (3, 4) or 0 in shape:
            raise ValueError(f"an array of shape {image.shape} is no volume and no series of volumes")
        if len(shape) == 4 and not 0 <= frame < shape[3]:
            raise ValueError(f"it has {shape[3]} time points, so there is none with the number {frame}")
        size = int(np.prod(shape[:3], dtype=np.int64)) * image.get_data_dtype().itemsize
        if size > MAX_VOLUME_BYTES:
            raise ValueError(f"one volume of it would take {size:,} bytes, more than the {MAX_VOLUME_BYTES:,} allowed")
        # One read of a whole volume: slicing the compressed proxy slice by slice unpacks the file every time.
        chosen = (*(slice(None),) * 3, frame) if len(shape) == 4 else (slice(None),) * 3
        data = np.asarray(image.dataobj[(*chosen, *(0,) * (len(image.shape) - len(shape)))])
        if data.dtype.kind not in "iufb":
            raise ValueError(f"it holds {data.dtype} values, not real numbers")
        unit = _MILLIMETRES.get(_unit(image), 1.0)
        affine = np.diag([unit, unit, unit, 1.0]) @ image.affine
        is_oriented = bool(image.header.get("sform_code", 1) or image.header.get("qform_code", 1))
    except Exception as error:  # nibabel, zlib and gzip raise many types for a damaged file
        raise UnreadableImage(path, f"{type(error).__name__}: {error}") from error
    volume = canonical_volume(data, affine, path)
    volume.is_oriented = is_oriented
    return volume


def _unit(image) -> str:
    header = image.header
    return header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "unknown"


def read_nrrd(path: str | Path) -> Volume:
    """Reads an NRRD volume onto RAS+ axes.

    Args:
        path (`str` or `pathlib.Path`): a `.nrrd` file that states its space.

    Returns:
        [`Volume`]: the volume.

    Raises:
        `UnreadableImage`: the file is truncated, does not state an anatomical space, takes its data from another file,
            or would unpack to more than `MAX_VOLUME_BYTES`.
    """
    import nrrd

    try:
        _check_nrrd(path)
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


def _check_nrrd(path: str | Path) -> None:
    """Refuses what the library reads without asking: another file, and data that unpack to more than is stated."""
    import bz2
    import zlib

    import nrrd

    with open(path, "rb") as file:
        header = nrrd.read_header(file)
        if foreign := {"data file", "datafile"} & {key.lower() for key in header}:
            raise ValueError(f"it takes its data from another file ({header[foreign.pop()]!r})")
        sizes = [int(size) for size in header["sizes"]]
        most = math.prod(sizes) * 8  # no type of the format takes more a value
        if min(sizes) < 1 or 2 * math.prod(sizes) > MAX_VOLUME_BYTES:
            raise ValueError(f"its sizes {sizes} are no volume, or one of more than {MAX_VOLUME_BYTES:,} bytes")
        encoding = str(header.get("encoding", "")).lower()
        if encoding in ("gzip", "gz"):
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            while packed := file.read(1 << 16):
                while packed and most >= 0:
                    most -= len(unpacker.decompress(packed, 1 << 24))
                    packed = unpacker.unconsumed_tail
                if most < 0:
                    raise ValueError("it would unpack to more than its sizes state")
        elif encoding in ("bzip2", "bz2"):
            with bz2.open(file) as opened:
                while piece := opened.read(1 << 24):
                    most -= len(piece)
                    if most < 0:
                        raise ValueError("it would unpack to more than its sizes state")


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

    if data.ndim != 3 or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
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
