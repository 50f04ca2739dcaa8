"""What the registry says about a file of images: how to read it, whose it is, which facts hold."""

from dataclasses import dataclass, field

# A span of an axis, as fractions, that belongs to one split. What lies between two spans is used by neither.
Span = tuple[float, float, str]


@dataclass(frozen=True)
class VolumeEntry:
    """A volume that slices are taken from.

    Args:
        kind (`str`): the image kind, the unit of balance.
        package (`str`): the package that holds it.
        path (`str`): the file, relative to the unpacked package.
        group (`str`): the patient or anatomy that a split must respect.
        facts (`tuple`): `(name, value, source)` of every slice.
        spans (`dict[str, tuple[Span, ...]]`): per plane, which part of the extent belongs to which split.
        step_mm (`dict[str, float]`): per plane, the distance between two slices.
        extent_mm (`dict[str, tuple[float, float]]`, *optional*): per plane, the millimetres that the spans refer to;
            the extent of the content when not given.
        windows (`tuple[str, ...]`, *optional*): CT windows, given to the slices in turn.
        windows_per_slice (`int`, *optional*, defaults to 1): how many of them each slice gets.
        mask (`str`, *optional*): a label volume that marks a lesion.
        levels (`tuple[str, ...]`, *optional*): the planes for which the position along the extent is stated.
    """

    kind: str
    package: str
    path: str
    group: str
    facts: tuple[tuple[str, str, str], ...]
    spans: dict[str, tuple[Span, ...]]
    step_mm: dict[str, float]
    extent_mm: dict[str, tuple[float, float]] = field(default_factory=dict)
    windows: tuple[str, ...] = ()
    windows_per_slice: int = 1
    mask: str | None = None
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class TileEntry:
    """A large picture or film that overlapping tiles are cut from.

    Args:
        kind (`str`): the image kind.
        package (`str`): the package that holds it.
        path (`str`): the file.
        group (`str`): the film or slide.
        facts (`tuple`): `(name, value, source)` of every tile.
        spans (`tuple[Span, ...]`): which part of `axis` belongs to which split.
        axis (`str`): `"x"` or `"y"`.
        sizes (`tuple[int, ...]`): tile sides in pixels.
        count (`dict[str, int]`): the number of tiles per split.
        background (`int`, *optional*): 0 or 255 when tiles that are mostly background are to be skipped.
        across (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`): the part of the other axis that is used.
        overlap (`float`, *optional*, defaults to 0.62): how much of a tile an earlier one may cover.
        stack (`bool`, *optional*, defaults to `False`): the file is a stack: its planes are images and the spans
            divide the stack.
    """

    kind: str
    package: str
    path: str
    group: str
    facts: tuple[tuple[str, str, str], ...]
    spans: tuple[Span, ...]
    axis: str
    sizes: tuple[int, ...]
    count: dict[str, int]
    background: int | None = None
    across: tuple[float, float] = (0.0, 1.0)
    overlap: float = 0.62
    stack: bool = False


@dataclass(frozen=True)
class DicomEntry:
    """A DICOM object: a still, or frames of a cine.

    Args:
        kind (`str`): the image kind.
        package (`str`): the package that holds it.
        path (`str`): the file.
        group (`str`): the patient or cine.
        split (`str`): the split of all its frames.
        facts (`tuple`, *optional*): `(name, value, source)` that the tags do not give.
        tags (`tuple[str, ...]`, *optional*): which facts to read from tags: modality, body_part, plane, projection.
        frame_step (`int`, *optional*, defaults to 1): take every so many frames.
        crops (`tuple`, *optional*): `(left, top, right, bottom)` fractions; burnt-in text is left out by them.
        windows (`tuple[str, ...]`, *optional*): CT windows, one image each.
    """

    kind: str
    package: str
    path: str
    group: str
    split: str
    facts: tuple[tuple[str, str, str], ...] = ()
    tags: tuple[str, ...] = ("modality",)
    frame_step: int = 1
    crops: tuple[tuple[float, float, float, float], ...] = ((0.0, 0.0, 1.0, 1.0),)
    windows: tuple[str, ...] = ()


Entry = VolumeEntry | TileEntry | DicomEntry
