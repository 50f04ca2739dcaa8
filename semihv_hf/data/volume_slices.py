"""Slices of volumes as pictures, with the boxes and masks that mark something in them.

A volume is kept as its file stores it, because boxes of a release count voxels of the file. SimpleITK, in which most
boxes are drawn, indexes that array as [z, y, x]; nibabel as (x, y, z). A slice is therefore transposed before it
becomes a picture: rows run along y, columns along x.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .imaging import UnreadableImage, apply_window, encode_png, fit_pixels
from .release import Release

LONGEST_SIDE = 1024
MAX_VOLUME_BYTES = 2 << 30  # unpacked; a breast MRI of 512 x 512 x 200 voxels of 32 bits has a tenth of it
_SAMPLED_VOXELS = 1 << 22  # percentiles of more voxels than this do not change what is seen
_STRAIGHT = 0.9  # cosine of about 25 degrees: a slice that is more oblique belongs to no plane


@dataclass
class StoredVolume:
    """A volume as its file stores it.

    Args:
        name (`str`): the file, relative to the release.
        data (`numpy.ndarray`): `(x, y, z)` values.
        affine (`numpy.ndarray`): `(4, 4)`, voxel indices to RAS+ millimetres.
        is_oriented (`bool`, *optional*, defaults to `True`): whether the file states its orientation; otherwise the
            affine is a convention.
    """

    name: str
    data: np.ndarray
    affine: np.ndarray
    is_oriented: bool = True

    @property
    def spacing(self) -> tuple[float, float]:
        """Millimetres per row and per column of [`slice_pixels`]."""
        x, y = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(y), float(x)

    @property
    def plane(self) -> str | None:
        """The plane of slices along the last axis; `None` where they are oblique or the file does not say."""
        if not self.is_oriented:
            return None
        normal = np.abs(self.affine[:3, 2]) / np.linalg.norm(self.affine[:3, 2])
        return ("sagittal", "coronal", "axial")[int(normal.argmax())] if normal.max() > _STRAIGHT else None

    @property
    def flips(self) -> tuple[bool, bool]:
        """Whether columns and rows must be turned round so that an axial slice has the patient's front up and right
        on the left, as it is usually shown; other slices are left as they are."""
        from nibabel.orientations import aff2axcodes

        x, y, _ = aff2axcodes(self.affine)
        return (x == "R", y == "A") if x in "LR" and y in "AP" else (False, False)


def read_volume(release: Release, name: str) -> StoredVolume:
    """Reads a NIfTI file of a release without turning it.

    Args:
        release ([`Release`]): the release.
        name (`str`): a `.nii` or `.nii.gz` file, unpacked or in an archive of the release.

    Returns:
        [`StoredVolume`]: the volume.

    Raises:
        `FileNotFoundError`: there is no such file.
        [`semihv_hf.data.zip_index.UnsafeFile`]: it may not be read.
        [`UnreadableImage`]: it is torn, holds no single volume of real numbers, or would unpack to more than
            `MAX_VOLUME_BYTES`.
    """
    import nibabel

    raw = release.read_bytes(name)
    if raw.startswith(b"\x1f\x8b"):  # told by content: .nii files that are packed, and the reverse, exist
        raw = _unpacked(raw, name)
    try:
        image = nibabel.Nifti1Image.from_bytes(raw)
        data = np.asarray(image.dataobj)
    except Exception as error:  # nibabel and numpy raise many types for a damaged file
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from error
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3 or data.dtype.kind not in "iuf" or 0 in data.shape:
        raise UnreadableImage(name, f"an array of {data.dtype} and shape {data.shape} is no volume")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise UnreadableImage(name, "its affine is degenerate, so the size of its voxels is unknown")
    is_oriented = bool(image.header["sform_code"] or image.header["qform_code"])
    return StoredVolume(name, data, affine, is_oriented)


def _unpacked(raw: bytes, name: str) -> bytes:
    parts, room = [], MAX_VOLUME_BYTES
    while raw:  # a file may consist of several gzip members; zeros behind the last are padding
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            parts.append(unpacker.decompress(raw, room))
        except zlib.error as error:
            raise UnreadableImage(name, f"the gzip data is damaged: {error}") from error
        room -= len(parts[-1])
        if not unpacker.eof:
            full = room == 0
            raise UnreadableImage(name, f"unpacks to over {MAX_VOLUME_BYTES} bytes" if full else "the gzip is torn")
        raw = unpacker.unused_data.lstrip(b"\0")
        if room == 0 and raw:
            raise UnreadableImage(name, f"unpacks to over {MAX_VOLUME_BYTES} bytes")
    return b"".join(parts)


def percentile_window(values: np.ndarray, name: str, low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """The grey range of a whole volume, so that its slices keep their brightness relative to each other.

    Args:
        values (`numpy.ndarray`): any real values; those that are not finite are left out.
        name (`str`): the file, named when this fails.
        low (`float`, *optional*, defaults to 0.5): the percentile shown as black.
        high (`float`, *optional*, defaults to 99.5): the percentile shown as white.

    Returns:
        `tuple[float, float]`: the values shown as black and as white.

    Raises:
        [`UnreadableImage`]: the volume holds one value only, or none.
    """
    flat = values.ravel(order="K")  # no copy of a volume in either order of axes
    sample = flat[:: -(-flat.size // _SAMPLED_VOXELS)].astype(np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise UnreadableImage(name, "it holds no finite value")
    bottom, top = (float(value) for value in np.percentile(sample, [low, high]))
    if bottom == top:  # mostly background: percentiles do not reach what stands out of it
        bottom, top = float(sample.min()), float(sample.max())
    if bottom == top:
        raise UnreadableImage(name, "all of its values are the same")
    return bottom, top


def slice_pixels(volume: StoredVolume, index: int) -> np.ndarray:
    """One slice along the last axis, the right way round for a picture.

    Args:
        volume ([`StoredVolume`]): the volume.
        index (`int`): the slice.

    Returns:
        `numpy.ndarray`: `(rows, columns)` values, turned round as `volume.flips` says.
    """
    pixels = volume.data[:, :, index].T
    columns, rows = volume.flips
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def slice_box(volume: StoredVolume, box: Sequence[float]) -> list[float]:
    """Where a box of voxels lies in [`slice_pixels`].

    Args:
        volume ([`StoredVolume`]): the volume.
        box (`Sequence[float]`): x and y of the first voxel, x and y behind the last.

    Returns:
        `list[float]`: left, top, right, bottom in pixels, right and bottom exclusive.

    Raises:
        `ValueError`: the box is empty or leaves the slice by more than the pixel that counting from 1 would explain.
    """
    width, height = volume.data.shape[:2]
    left, top, right, bottom = (float(value) for value in box)
    if not (-1 <= left < right <= width + 1 and -1 <= top < bottom <= height + 1):
        raise ValueError(f"the box {[left, top, right, bottom]} is not inside a slice of {width} x {height} voxels")
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    columns, rows = volume.flips
    if columns:
        left, right = width - right, width - left
    if rows:
        top, bottom = height - bottom, height - top
    return [left, top, right, bottom]


def mask_box(mask: np.ndarray) -> list[float] | None:
    """The smallest box around what a mask marks.

    Args:
        mask (`numpy.ndarray`): `(rows, columns)`, true or non-zero where something is marked.

    Returns:
        `list[float]` or `None`: left, top, right, bottom, right and bottom exclusive; `None` for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def slice_picture(
    pixels: np.ndarray, window: tuple[float, float], spacing: tuple[float, float]
) -> tuple[bytes, tuple[float, float]]:
    """A slice as PNG with square pixels.

    Args:
        pixels (`numpy.ndarray`): `(rows, columns)` values.
        window (`tuple[float, float]`): the values shown as black and as white.
        spacing (`tuple[float, float]`): millimetres per row and per column.

    Returns:
        `tuple[bytes, tuple[float, float]]`: the file, and by how much x and y of a box grow, for [`scaled`].
    """
    low, high = window
    values = np.nan_to_num(pixels.astype(np.float32), nan=low, posinf=high, neginf=low)
    shown = fit_pixels(apply_window(values, (low + high) / 2, high - low), LONGEST_SIDE, spacing)
    return encode_png(shown), (shown.shape[1] / pixels.shape[1], shown.shape[0] / pixels.shape[0])


def scaled(box: Sequence[float], scale: tuple[float, float]) -> list[float]:
    """A box in a picture that was resized.

    Args:
        box (`Sequence[float]`): left, top, right, bottom.
        scale (`tuple[float, float]`): by how much x and y grow.

    Returns:
        `list[float]`: left, top, right, bottom.
    """
    return [box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]]
