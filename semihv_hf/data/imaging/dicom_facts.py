"""What a DICOM header says about an image, as facts with the element that says it. Nothing that names a person."""

from typing import TYPE_CHECKING

import numpy as np

from ..schema import Fact

if TYPE_CHECKING:
    import pydicom

MODALITIES = {
    "CR": "X-ray", "CT": "CT", "DX": "X-ray", "ES": "endoscopy", "GM": "microscopy", "IO": "X-ray",
    "IVUS": "ultrasound", "MG": "mammography", "MR": "MRI", "NM": "scintigraphy", "OP": "fundus photograph",
    "OPT": "OCT", "PT": "PET", "PX": "X-ray", "RF": "fluoroscopy", "SM": "histology", "US": "ultrasound",
    "XA": "angiography", "XC": "photograph",
}  # fmt: skip
_SEX = {"M": "male", "F": "female", "O": "other"}
_AGE_UNITS = {"D": "days", "W": "weeks", "M": "months", "Y": "years"}
_OLDEST = 89  # years; older people are few enough to be known by their age
_OBLIQUE = 0.9  # cosine of about 25 degrees: a slice that is more oblique belongs to no plane


def dicom_facts(data: "pydicom.Dataset", frame: int = 0) -> list[Fact]:
    """The facts of one image.

    Args:
        data (`pydicom.Dataset`): the object.
        frame (`int`, *optional*, defaults to 0): the frame, for the plane of an enhanced object.

    Returns:
        `list[Fact]`: modality, body part, plane, view, laterality, sex, age and sequence, as far as they are stated.
    """
    found = [
        ("modality", MODALITIES.get(str(data.get("Modality", ""))), "(0008,0060) Modality"),
        ("body_part", _words(data, "BodyPartExamined"), "(0018,0015) Body Part Examined"),
        ("plane", _plane(data, frame), "(0020,0037) Image Orientation (Patient)"),
        ("view", str(data.get("ViewPosition") or "").strip() or None, "(0018,5101) View Position"),
        ("laterality", _laterality(data), "(0020,0062) Image Laterality or (0020,0060) Laterality"),
        ("sex", _SEX.get(str(data.get("PatientSex", ""))), "(0010,0040) Patient's Sex"),
        ("age", _age(str(data.get("PatientAge") or "")), "(0010,1010) Patient's Age"),
    ]
    return [Fact(name, value, f"DICOM {element}") for name, value, element in found if value]


def _words(data: "pydicom.Dataset", keyword: str) -> str | None:
    return str(data.get(keyword) or "").lower().strip() or None


def _laterality(data: "pydicom.Dataset") -> str | None:
    stated = str(data.get("ImageLaterality") or data.get("Laterality") or "")
    return {"L": "left", "R": "right", "B": "both"}.get(stated)


def _age(stated: str) -> str | None:
    number, unit = stated[:-1], _AGE_UNITS.get(stated[-1:])
    if unit is None or not number.isdecimal():
        return None
    return f"over {_OLDEST} years" if unit == "years" and int(number) > _OLDEST else f"{int(number)} {unit}"


def _plane(data: "pydicom.Dataset", frame: int) -> str | None:
    from .dicom import functional_group

    directions = functional_group(data, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    if directions is None or len(directions) != 6:
        return None
    normal = np.abs(np.cross([float(v) for v in directions[:3]], [float(v) for v in directions[3:]]))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())] if normal.max() > _OBLIQUE else None
