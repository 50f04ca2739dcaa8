"""From a registry entry to images: slices of volumes, tiles of pictures, frames of DICOM objects."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import imaging
from ...schema import Fact
from .entries import DicomEntry, Entry, Span, TileEntry, VolumeEntry

LONGEST_SIDE = 256
# A slice that shows less than this share of what the fullest slice of its plane shows is left out.
LEAST_CONTENT = 0.3
LEAST_LESION_MM2 = 30.0
_MODALITIES = {"CT": "CT", "MR": "MRI", "US": "ultrasound", "CR": "X-ray", "DX": "X-ray", "NM": "scintigraphy"}


@dataclass
class ImageItem:
    """One image with what is known about it, before it becomes a case.

    Args:
        kind (`str`): the image kind.
        package (`str`): the package.
        source_id (`str`): the file, and the slice, tile or frame.
        group (`str`): the patient, volume or film.
        split (`str`): the split.
        pixels (`numpy.ndarray`): `uint8`, greyscale or RGB.
        facts (`list[Fact]`): what the file says.
    """

    kind: str
    package: str
    source_id: str
    group: str
    split: str
    pixels: np.ndarray
    facts: list[Fact]


def read_entry(entry: Entry, folder: Path, seed: int, limit: int | None = None) -> Iterator[ImageItem]:
    """Reads the images of one entry.

    Args:
        entry (`VolumeEntry`, `TileEntry` or `DicomEntry`): what to read.
        folder (`pathlib.Path`): the unpacked package.
        seed (`int`): places the tiles.
        limit (`int`, *optional*): stop looking for tiles of a split after so many.

    Yields:
        [`ImageItem`]: one image at a time.

    Raises:
        `UnreadableImage`: the file cannot be read.
    """
    if isinstance(entry, VolumeEntry):
        yield from _slices(entry, folder)
    elif isinstance(entry, TileEntry):
        yield from _tiles(entry, folder, seed, limit)
    else:
        yield from _frames(entry, folder)


def _split_at(position: float, spans: tuple[Span, ...]) -> str | None:
    return next((split for low, high, split in spans if low <= position <= high), None)


def _read_volume(path: Path) -> imaging.Volume:
    return imaging.read_nrrd(path) if path.suffix == ".nrrd" else imaging.read_nifti(path)


def _slices(entry: VolumeEntry, folder: Path) -> Iterator[ImageItem]:
    volume = _read_volume(folder / entry.path)
    mask = _read_volume(folder / entry.mask) if entry.mask else None
    shown, is_content = _scaled(volume, entry)
    turn = 0
    for plane, spans in entry.spans.items():
        axis = imaging.PLANES[plane]
        spacing, origin = volume.spacing[axis], volume.origin[axis]
        filled = is_content.data.mean(axis=tuple(other for other in range(3) if other != axis))
        low, high = entry.extent_mm.get(plane) or _extent(is_content, axis, spacing, origin)
        for number in range(int((high - low) / entry.step_mm[plane] + 1e-6) + 1):
            position = low + number * entry.step_mm[plane]
            fraction = (position - low) / (high - low)
            index = round((position - origin) / spacing)
            split = _split_at(fraction, spans)
            if split is None or not 0 <= index < volume.data.shape[axis]:
                continue
            if filled[index] < LEAST_CONTENT * filled.max():
                continue
            facts = [Fact(*fact) for fact in entry.facts]
            facts.append(
                Fact("plane", plane, f"affine axis codes {volume.axes}, slices along the {_normal(plane)} axis")
            )
            if plane in entry.levels:
                facts.append(_level(plane, fraction))
            if mask is not None:
                facts += _lesion(imaging.plane_slice(mask, plane, index), imaging.plane_spacing(mask, plane))
            values = imaging.plane_slice(shown, plane, index)
            steps = imaging.plane_spacing(volume, plane)
            for window in _turns(entry, turn):
                pixels = values if window is None else imaging.apply_window(values, *imaging.CT_WINDOWS[window])
                named = f"{Path(entry.path).name}#{plane}={index}" + (f",{window}" if window else "")
                yield ImageItem(
                    entry.kind, entry.package, named, entry.group, split,
                    imaging.fit_pixels(pixels, LONGEST_SIDE, steps), facts + _window_fact(window),
                )  # fmt: skip
            turn += entry.windows_per_slice


def _scaled(volume: imaging.Volume, entry: VolumeEntry) -> tuple[imaging.Volume, imaging.Volume]:
    """The volume as shown (8-bit unless a CT window follows), and where it holds more than air or background."""
    data = volume.data
    if entry.windows:
        content = data > -400
    else:
        data = imaging.to_8bit(data.astype(np.float32), 0.1, 99.8)
        content = data > 26
    # A contiguous copy per view direction is cheap beside slicing a compressed or Fortran-ordered array.
    return _with_data(volume, data), _with_data(volume, content)


def _with_data(volume: imaging.Volume, data: np.ndarray) -> imaging.Volume:
    return imaging.Volume(np.ascontiguousarray(data), volume.spacing, volume.origin, volume.axes)


def _extent(content: imaging.Volume, axis: int, spacing: float, origin: float) -> tuple[float, float]:
    others = tuple(other for other in range(3) if other != axis)
    inside = np.flatnonzero(content.data.mean(axis=others) > 0.02)
    return origin + inside[0] * spacing, origin + inside[-1] * spacing


def _normal(plane: str) -> str:
    return {"axial": "superior", "coronal": "anterior", "sagittal": "right"}[plane]


def _level(plane: str, fraction: float) -> Fact:
    names = ("lower", "middle", "upper") if plane == "axial" else ("posterior", "middle", "anterior")
    name = names[min(2, int(fraction * 3))]
    return Fact(
        "level",
        f"{name} third",
        f"slice position along the affine: third of the extent along the {_normal(plane)} axis",
    )


def _lesion(mask: np.ndarray, spacing: tuple[float, float]) -> list[Fact]:
    area = float((mask > 0).sum()) * spacing[0] * spacing[1]
    if 0 < area < LEAST_LESION_MM2:
        return []  # the edge of a lesion: neither answer would be fair
    return [Fact("lesion", "visible" if area else "not visible", "segmentation mask label 1")]


def _turns(entry: VolumeEntry, turn: int) -> list[str | None]:
    if not entry.windows:
        return [None]
    return [entry.windows[(turn + offset) % len(entry.windows)] for offset in range(entry.windows_per_slice)]


def _window_fact(window: str | None) -> list[Fact]:
    if window is None:
        return []
    center, width = imaging.CT_WINDOWS[window]
    return [Fact("window", window, f"window applied here: centre {center:.0f} HU, width {width:.0f} HU")]


def _tiles(entry: TileEntry, folder: Path, seed: int, limit: int | None) -> Iterator[ImageItem]:
    path = folder / entry.path
    whole = imaging.read_dicom(path)[1][0] if path.suffix == ".dcm" else imaging.read_picture(path)
    if path.suffix == ".dcm" or whole.dtype != np.uint8:
        whole = imaging.to_8bit(whole.astype(np.float32))
    for low, high, split in entry.spans:
        wanted = entry.count.get(split, 0)
        share = sum(b - a for a, b, s in entry.spans if s == split)
        wanted = round(wanted * (high - low) / share) if wanted else 0
        boxes = _boxes(entry, whole, (low, high), min(wanted, limit or wanted), seed, split)
        for name, tile in boxes:
            yield ImageItem(
                entry.kind, entry.package, f"{path.name}#{name}", entry.group, split,
                imaging.fit_pixels(tile, LONGEST_SIDE), [Fact(*fact) for fact in entry.facts],
            )  # fmt: skip


def _boxes(
    entry: TileEntry, whole: np.ndarray, span: tuple[float, float], wanted: int, seed: int, split: str
) -> list[tuple[str, np.ndarray]]:
    """Tiles at seeded places inside a span, none of them overlapping an earlier one by more than about half."""
    rng = random.Random(f"{seed}:{entry.group}:{split}:{span}")
    planes = whole.shape[0] if entry.stack else 1
    rows, columns = whole.shape[1:3] if entry.stack else whole.shape[:2]
    chosen: list[tuple[int, int, int, int]] = []
    found = []
    for _ in range(wanted * 60):
        if len(found) == wanted:
            break
        side = rng.choice(entry.sizes)
        bounds = {"x": (0, columns), "y": (0, rows)}
        page = 0
        if entry.stack:
            page = rng.randrange(int(span[0] * planes), int(span[1] * planes) + 1)
        else:
            length = columns if entry.axis == "x" else rows
            other, width = ("y", rows) if entry.axis == "x" else ("x", columns)
            bounds[other] = (int(np.ceil(entry.across[0] * width)), int(entry.across[1] * width))
            bounds[entry.axis] = (int(np.ceil(span[0] * length)), int(span[1] * length))
        side = min(side, *(high - low for low, high in bounds.values()))
        left = rng.randint(bounds["x"][0], bounds["x"][1] - side)
        top = rng.randint(bounds["y"][0], bounds["y"][1] - side)
        box = (page, left, top, side)
        if any(_overlap(box, other) > entry.overlap for other in chosen):
            continue
        tile = (whole[page] if entry.stack else whole)[top : top + side, left : left + side]
        if entry.background is not None and imaging.content_share(tile[::4, ::4], entry.background) < 0.5:
            continue
        if tile.std() < 6:
            continue
        if entry.path.endswith(".dcm"):
            tile = imaging.to_8bit(
                tile.astype(np.float32), 1, 99
            )  # a film holds more contrast than a tile of it needs
        chosen.append(box)
        found.append((f"page={page},x={left},y={top},side={side}", tile))
    return found


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    if abs(one[0] - other[0]) > 1:
        return 0.0
    width = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    height = min(one[2] + one[3], other[2] + other[3]) - max(one[2], other[2])
    return max(0, width) * max(0, height) / min(one[3], other[3]) ** 2


def _frames(entry: DicomEntry, folder: Path) -> Iterator[ImageItem]:
    path = folder / entry.path
    data, frames = imaging.read_dicom(path, entry.frame_step)
    facts = [fact for tag in entry.tags if (fact := _tag_fact(data, tag)) is not None]
    facts += [Fact(*fact) for fact in entry.facts]
    turned = _turned(data) if any(fact.name == "plane" and fact.value == "axial" for fact in facts) else (1, 1)
    for number, frame in enumerate(frames):
        for window in entry.windows or (None,):
            for left, top, right, bottom in entry.crops:
                pixels = _show(data, frame, window)[:: turned[0], :: turned[1]]
                rows, columns = pixels.shape[:2]
                box = (int(left * columns), int(top * rows), int(right * columns), int(bottom * rows))
                pixels = pixels[box[1] : box[3], box[0] : box[2]]
                if imaging.content_share(pixels) < 0.08:
                    continue
                named = f"{path.name}#frame={number * entry.frame_step},box={box}" + (f",{window}" if window else "")
                yield ImageItem(
                    entry.kind, entry.package, named, entry.group, entry.split,
                    imaging.fit_pixels(pixels, LONGEST_SIDE), facts + _window_fact(window),
                )  # fmt: skip


def _turned(data) -> tuple[int, int]:
    """Steps along rows and columns that put the front of an axial slice up and the patient's right on the left."""
    across, down = data.ImageOrientationPatient[:3], data.ImageOrientationPatient[3:]
    return (-1 if float(down[1]) < 0 else 1), (-1 if float(across[0]) < 0 else 1)


def _show(data, frame: np.ndarray, window: str | None) -> np.ndarray:
    if window is not None:
        return imaging.apply_window(frame, *imaging.CT_WINDOWS[window])
    if frame.ndim == 3:
        return frame if frame.dtype == np.uint8 else imaging.to_8bit(frame.astype(np.float32))
    asked = imaging.dicom_window(data) if data.get("Modality") == "MR" else None
    return imaging.apply_window(frame, *asked) if asked else imaging.to_8bit(frame.astype(np.float32))


def _tag_fact(data, name: str) -> Fact | None:
    if name == "modality":
        value = _MODALITIES.get(str(data.get("Modality", "")))
        return Fact(name, value, "DICOM (0008,0060) Modality") if value else None
    if name == "body_part":
        value = str(data.get("BodyPartExamined", "")).lower().strip()
        return Fact(name, value, "DICOM (0018,0015) Body Part Examined") if value else None
    if name == "plane":
        directions = data.get("ImageOrientationPatient")
        if directions is None:
            return None
        normal = np.abs(np.cross([float(v) for v in directions[:3]], [float(v) for v in directions[3:]]))
        # An oblique slice belongs to no plane: beyond about 25 degrees nothing is stated.
        value = ("sagittal", "coronal", "axial")[int(normal.argmax())] if normal.max() > 0.9 else None
        return Fact(name, value, "DICOM (0020,0037) Image Orientation (Patient)") if value else None
    raise ValueError(f"no tag is known for the fact {name!r}")
