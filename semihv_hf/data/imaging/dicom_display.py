"""DICOM frames as a viewer shows them: 8 bits, greyscale or RGB, with what is known about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..burned_in import RefusedImage, judge_burned_in, mask_outside
from ..schema import Fact
from .dicom import (
    decode_frames,
    frame_count,
    frame_values,
    functional_group,
    look_up,
    open_dicom,
    readable,
    table_entries,
)
from .dicom_facts import dicom_facts
from .overlays import overlay_groups, overlay_mask
from .windows import apply_voi_function, apply_window, dicom_window

if TYPE_CHECKING:
    import pydicom


@dataclass
class RenderedDicom:
    """The pictures of a DICOM object.

    Args:
        pixels (`list[numpy.ndarray]`): `uint8`, `(rows, columns)` or `(rows, columns, 3)`, one for each frame shown.
        frames (`list[int]`): the number of each, the first frame of the object is 0.
        facts (`list[Fact]`): what the header says, which window was used, and what was done about overlays and
            burnt-in text. The plane and the window are those of the first frame shown.
    """

    pixels: list[np.ndarray]
    frames: list[int]
    facts: list[Fact] = field(default_factory=list)


def render_dicom(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    frames: Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    overlays: str = "drop",
    on_burned_in: str = "mask",
) -> RenderedDicom:
    """Renders a DICOM object to 8 bits.

    Greyscale goes through the modality transformation, then through the given window, else the object's VOI look-up
    table, else its first window with its VOI LUT Function, else the range between two percentiles; MONOCHROME1 and an
    INVERSE presentation shape are turned round at the end; padding pixels are black. Enhanced objects are asked for
    each frame. Palettes and colour spaces become RGB.

    Args:
        source (`str`, `pathlib.Path` or `bytes`): the file or its content.
        name (`str`, *optional*): what an error calls it.
        frames (`Sequence[int]`, *optional*): which frames, ascending from 0; all by default.
        window (`tuple[float, float]`, *optional*): centre and width in the unit of the modality.
        overlays (`str`, *optional*, defaults to `"drop"`): `"drop"` leaves overlay planes away, `"burn"` draws them
            in white, `"refuse"` raises where there is one. A fact says what was done.
        on_burned_in (`str`, *optional*, defaults to `"mask"`): `"mask"` blacks out what lies outside the ultrasound
            regions where the rules of [`semihv_hf.data.burned_in`] ask for it, and raises where text may be and cannot
            be masked; `"refuse"` raises in either case; `"keep"` shows the pixels as they are, and a fact says so.

    Returns:
        [`RenderedDicom`]: the pictures and the facts.

    Raises:
        [`UnreadableImage`]: the object cannot be decoded.
        [`semihv_hf.data.burned_in.RefusedImage`]: it may show text that identifies a person, or has an overlay.
        `ValueError`: an argument is none of those named.
    """
    if overlays not in ("drop", "burn", "refuse") or on_burned_in not in ("mask", "refuse", "keep"):
        raise ValueError(f"overlays={overlays!r} or on_burned_in={on_burned_in!r} is none of the known values")
    name = name or ("DICOM data" if isinstance(source, bytes) else str(source))
    data = open_dicom(source, name)
    verdict = judge_burned_in(data)
    if verdict.action == "refuse" and on_burned_in != "keep":
        raise RefusedImage(name, verdict.reason)
    if verdict.action == "mask" and on_burned_in == "refuse":
        raise RefusedImage(name, verdict.reason)
    groups = overlay_groups(data)
    if groups and overlays == "refuse":
        raise RefusedImage(name, f"it has {len(groups)} overlay planes")
    with readable(name):
        chosen = list(range(frame_count(data))) if frames is None else list(frames)
        if not chosen or chosen != sorted(set(chosen)) or not 0 <= chosen[0] <= chosen[-1] < frame_count(data):
            raise ValueError(f"frames {chosen} are not ascending numbers below {frame_count(data)}")
        pixels, used = [], None
        for frame, stored in zip(chosen, decode_frames(data, chosen)):
            shown, how = _show(data, frame, stored, window)
            used = used or how
            if verdict.action == "mask" and on_burned_in == "mask":
                shown = mask_outside(shown, verdict.regions)
            if overlays == "burn":
                for group in groups:
                    shown[overlay_mask(data, group, frame)] = 255
            pixels.append(shown)
        facts = dicom_facts(data, chosen[0]) + [used] * (used is not None)
    facts += _what_was_done(len(groups), overlays, verdict, on_burned_in)
    return RenderedDicom(pixels, chosen, facts)


def _what_was_done(planes: int, overlays: str, verdict, on_burned_in: str) -> list[Fact]:
    done = "kept" if on_burned_in == "keep" and verdict.action != "allow" else verdict.action
    words = {"allow": "none expected", "mask": "outside of the regions blacked out", "kept": "kept"}[done]
    facts = [Fact("burnt_in_text", words, verdict.reason)]
    if verdict.note:
        facts.append(Fact("recognizable_features", "possible", verdict.note))
    if planes:
        facts.append(Fact("overlays", "drawn" if overlays == "burn" else "left out", f"DICOM 60xx, {planes} planes"))
    return facts


def _show(
    data: "pydicom.Dataset", frame: int, stored: np.ndarray, window: tuple[float, float] | None
) -> tuple[np.ndarray, Fact | None]:
    values = frame_values(data, frame, stored)
    if values.ndim == 3:
        return _colour_8bit(data, values), None
    shown, how = _window(data, frame, values, stored, window)
    if data.PhotometricInterpretation == "MONOCHROME1" or data.get("PresentationLUTShape") == "INVERSE":
        shown = 255 - shown
    padding = _padding(data, stored)
    if padding is not None:
        shown = np.where(padding, np.uint8(0), shown)
    return np.ascontiguousarray(shown), how


def _colour_8bit(data: "pydicom.Dataset", values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values.copy()
    is_palette = data.PhotometricInterpretation == "PALETTE COLOR"
    bits = values.dtype.itemsize * 8 if is_palette else int(data.BitsStored)
    return (values >> (bits - 8)).astype(np.uint8)


def _window(
    data: "pydicom.Dataset", frame: int, values: np.ndarray, stored: np.ndarray, given: tuple[float, float] | None
) -> tuple[np.ndarray, Fact | None]:
    if given is not None:
        return apply_window(values, *given), _window_fact(*given, "window applied here")
    stated = functional_group(data, frame, "FrameVOILUTSequence")
    if stated.get("VOILUTSequence"):
        entries = look_up(values, stated.VOILUTSequence[0], data)
        # Descriptors often promise more bits than the entries use, so the table's own largest entry is white.
        white = max(int(table_entries(stated.VOILUTSequence[0], data).max()), 1)
        return apply_window(entries, white / 2, white), Fact("window", "look-up table", "DICOM (0028,3010) VOI LUT")
    asked = dicom_window(stated)
    if asked is not None:
        function = str(stated.get("VOILUTFunction") or "LINEAR").upper()
        fact = _window_fact(*asked, "DICOM (0028,1050) Window Center, (0028,1051) Window Width")
        return apply_voi_function(values, *asked, function), fact
    bits = int(data.get("BitsStored") or 8)
    if values.dtype == np.uint8:  # 8 bits are shown as they are, fewer (a segmentation has 1) stretched to them
        return (values if bits == 8 else (values.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)), None
    padding = _padding(data, stored)
    known = values if padding is None or padding.all() else values[~padding]
    low, high = (float(value) for value in np.percentile(known[np.isfinite(known)], [0.5, 99.5]))
    width = max(high - low, 1e-6)
    shown = apply_window(np.nan_to_num(values.astype(np.float64), nan=low), low + width / 2, width)
    return shown, None


def _window_fact(center: float, width: float, source: str) -> Fact:
    return Fact("window", f"centre {center:g}, width {width:g}", source)


def _padding(data: "pydicom.Dataset", stored: np.ndarray) -> np.ndarray | None:
    """Pixels that only fill the rectangle (PS3.3 C.7.5.1.1.2)."""
    value = data.get("PixelPaddingValue")
    if value is None or not isinstance(value, int):
        return None
    limit = data.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    return (stored >= low) & (stored <= high)
