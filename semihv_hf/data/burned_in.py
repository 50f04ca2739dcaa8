"""Text burnt into pixels: which DICOM objects may be shown, which are masked, which are refused.

The rules read the header only. They know where ultrasound machines draw their banner, and which kinds of objects are
screens or scanned sheets; they do not read the pixels, so they promise nothing about text inside a region.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pydicom

Box = tuple[int, int, int, int]

# Screens, scanned sheets and films, and drawings (0008,0064).
_CONVERSIONS = {
    "DV": "digitized video",
    "DI": "a digital interface",
    "DF": "digitized film",
    "WSD": "a workstation",
    "SD": "a scanned document",
    "SI": "a scanned image",
    "DRW": "a drawing",
    "SYN": "a synthetic image",
}
_SCANNED = ("DF", "SD", "SI")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Words of Image Type (0008,0008) by which vendors mark screens, protocols and reports.
_SCREENS = {"SCREEN", "SCREENSAVE", "PROT", "PROTOCOL", "DOSE", "REPORT", "CAPTURE", "SECONDARY"}
# Machines that write pixels of the detector alone, without a banner.
_PLAIN_MODALITIES = (
    "CT", "MR", "PT", "NM", "CR", "DX", "MG", "IO", "PX", "XA", "RF", "OP", "OPT", "SM", "GM", "XC", "SEG",
)  # fmt: skip
_HEAD = ("HEAD", "BRAIN", "FACE", "SKULL", "ORBIT", "SINUS", "JAW", "NECK")


class RefusedImage(Exception):
    """An image that may show who the patient is.

    Args:
        path (`str`): the file.
        reason (`str`): why it is refused.
    """

    def __init__(self, path: str, reason: str):
        self.path = str(path)
        self.reason = " ".join(str(reason).split())[:300]
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self):
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class BurnedIn:
    """What is to be done about text in the pixels of one object.

    Args:
        action (`str`): `"allow"`, `"mask"` or `"refuse"`.
        reason (`str`): why, naming the element that decides.
        regions (`tuple[Box, ...]`, *optional*): what stays visible when masking: left, top, right, bottom in pixels
            from 0, right and bottom exclusive.
        note (`str`, *optional*): what the object says about features by which a person can be recognised.
    """

    action: str
    reason: str
    regions: tuple[Box, ...] = ()
    note: str = ""


def judge_burned_in(data: "pydicom.Dataset") -> BurnedIn:
    """Decides by the header what is to be done about burnt-in text.

    In this order: (0028,0301) Burned In Annotation YES is masked where ultrasound regions are known, else refused;
    scanned sheets and films, and screen saves, are refused even where the object says NO; NO is believed otherwise;
    ultrasound is masked to its regions; secondary captures and derived screens are refused; other machines that draw
    no banner are allowed; everything else is refused, because nothing is known about it.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        [`BurnedIn`]: the action and the reason.
    """
    action, reason, regions = _judge(data)
    return BurnedIn(action, reason, regions, _recognizable(data))


def _judge(data: "pydicom.Dataset") -> tuple[str, str, tuple[Box, ...]]:
    stated = str(data.get("BurnedInAnnotation") or "").strip().upper()
    modality = str(data.get("Modality") or "").strip().upper()
    conversion = str(data.get("ConversionType") or "").strip().upper()
    image_type = [str(part).upper() for part in _many(data.get("ImageType"))]
    regions = ultrasound_regions(data)
    if stated == "YES":
        return _mask_or_refuse(data, regions, "(0028,0301) Burned In Annotation is YES")
    if conversion in _SCANNED:
        return "refuse", f"(0008,0064) Conversion Type says {_CONVERSIONS[conversion]}", ()
    if any("SCREEN" in part for part in image_type):
        return "refuse", f"(0008,0008) Image Type {'/'.join(image_type)} is a saved screen", ()
    if stated == "NO":
        return "allow", "(0028,0301) Burned In Annotation is NO", ()
    if modality in ("US", "IVUS"):
        return _mask_or_refuse(data, regions, f"{modality} without a statement about burnt-in text")
    if conversion or str(data.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
        source = _CONVERSIONS.get(conversion, "an unknown device")
        return "refuse", f"a secondary capture from {source}, without a statement about burnt-in text", ()
    screens = [part for part in image_type if _SCREENS & set(re.split("[^A-Z]+", part))]
    if screens:
        return "refuse", f"(0008,0008) Image Type has {'/'.join(screens)}, without a statement about burnt-in text", ()
    if modality in _PLAIN_MODALITIES:
        return "allow", f"{modality} images of the detector have no banner, and the object states nothing else", ()
    return "refuse", f"modality {modality or 'unknown'} without a statement about burnt-in text", ()


def _mask_or_refuse(data: "pydicom.Dataset", regions: tuple[Box, ...], why: str) -> tuple[str, str, tuple[Box, ...]]:
    if not regions:
        return "refuse", f"{why}, and no ultrasound region tells text from image", ()
    shown = np.zeros((int(data.get("Rows") or 0), int(data.get("Columns") or 0)), bool)
    for left, top, right, bottom in regions:
        shown[top:bottom, left:right] = True
    if shown.all():
        return "refuse", f"{why}, and the ultrasound regions cover the whole image", ()
    return "mask", f"{why}; what lies outside of (0018,6011) Ultrasound Regions is blacked out", regions


def ultrasound_regions(data: "pydicom.Dataset") -> tuple[Box, ...]:
    """The rectangles that an ultrasound machine declares to hold image, not text.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        `tuple[Box, ...]`: left, top, right, bottom from 0, right and bottom exclusive, clipped to the image; empty
        ones are left out.
    """
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    found = []
    for item in data.get("SequenceOfUltrasoundRegions") or ():
        corners = [
            item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        ]  # the last two are inclusive
        if any(corner is None for corner in corners):
            continue
        left, top, right, bottom = (int(corner) for corner in corners)
        box = (max(left, 0), max(top, 0), min(right + 1, columns), min(bottom + 1, rows))
        if box[0] < box[2] and box[1] < box[3]:
            found.append(box)
    return tuple(found)


def mask_outside(pixels: np.ndarray, regions: tuple[Box, ...], black: int = 0) -> np.ndarray:
    """Blacks out everything outside of some rectangles.

    Args:
        pixels (`numpy.ndarray`): `(rows, columns)` or `(rows, columns, channels)`.
        regions (`tuple[Box, ...]`): what stays.
        black (`int`, *optional*, defaults to 0): the value to write.

    Returns:
        `numpy.ndarray`: a new array.
    """
    masked = np.full_like(pixels, black)
    for left, top, right, bottom in regions:
        masked[top:bottom, left:right] = pixels[top:bottom, left:right]
    return masked


def _recognizable(data: "pydicom.Dataset") -> str:
    stated = str(data.get("RecognizableVisualFeatures") or "").strip().upper()
    if stated == "YES":
        return "(0028,0302) Recognizable Visual Features is YES"
    part = str(data.get("BodyPartExamined") or "").upper()
    modality = str(data.get("Modality") or "").upper()
    if stated != "NO" and modality in ("CT", "MR", "PT") and any(word in part for word in _HEAD):
        return (
            f"a face can be rebuilt from the slices of a {modality} of the {part.lower()}; nothing was done about it"
        )
    if stated != "NO" and modality == "XC":
        return "a photograph may show a face; nothing was done about it"
    return ""


def _many(value) -> list:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
