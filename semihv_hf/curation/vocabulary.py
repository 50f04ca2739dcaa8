"""The classes of modality and body part, and the spellings by which label files name them.

The classes are those of the authors' figure classifier (`deal_pmc.py` of MultiViewDx), in their right spelling and in
lower case. The authors give names only; what each is taken to mean stands in the prompt, `prompts/classify.jinja`.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

OTHER = "other"
MODALITIES: tuple[str, ...] = (
    "x-ray",
    "dsa",
    "ct",
    "mr",
    "pet/spect",
    "ultrasound",
    "pathology",
    "camera",
    "gross pathology",
    "dermatology",
    "oct",
    "em",
    "electrophoresis",
    "colonoscopy",
    "simulated illustration",
    "radioisotope",
    "optical image",
    "mitotic",
    OTHER,
)
BODY_PARTS: tuple[str, ...] = (
    "head & neck",
    "thorax",
    "abdomen",
    "extremity",
    "upper extremity",
    "lower extremity",
    OTHER,
)

# Further spellings, without case, blanks and signs; the authors' own misspellings first.
_MODALITY_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "x-ray": ("xrays", "radiograph", "radiography", "plainfilm", "mammography", "mammogram", "fluoroscopy"),
    "dsa": ("digitalsubtractionangiography",),
    "ct": ("ctscan", "cbct", "computedtomography", "computerizedtomography", "computerisedtomography"),
    "mr": ("mri", "mrscan", "mriscan", "magneticresonance", "magneticresonanceimaging"),
    "pet/spect": ("pet", "spect", "petct", "spectct", "petmr", "petmri", "positronemissiontomography",
                  "singlephotonemissioncomputedtomography"),
    "ultrasound": ("altralsound", "ultrasonography", "ultrasonic", "us", "sonography", "echocardiography"),
    "pathology": ("histopathology", "histology", "microscopicpathology"),
    "camera": ("camara", "cameraimage", "camerapicture", "photo", "photograph", "photography"),
    "gross pathology": ("gross", "grossspecimen"),
    "dermatology": ("demotology", "dermotology", "dermatologic", "dermoscopy", "dermatoscopy"),
    "oct": ("opticalcoherencetomography",),
    "em": ("electronmicroscopy", "electronmicroscope", "electronmicrograph"),
    "electrophoresis": ("gelelectrophoresis",),
    "colonoscopy": ("colonscopy", "colonoscope"),
    "simulated illustration": ("simulatedillustrations", "illustration", "simulation"),
    "radioisotope": ("radioisotopes", "radioisotopeimaging", "scintigraphy", "scintigram"),
    "optical image": ("opticalimages", "opticalimaging"),
    "mitotic": ("mitosis",),
    OTHER: ("others",),
}  # fmt: skip
_BODY_PART_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "head & neck": ("headandneck",),
    "thorax": ("thoroax", "thoracic", "chest"),
    "abdomen": ("abdominal",),
    "extremity": ("extremities", "limb", "limbs"),
    # The authors' "Upper" and "Lower" stand alone behind "Extremity", whose kinds they are taken to be.
    "upper extremity": ("upper", "extremityupper", "upperextremities", "upperlimb", "upperlimbs"),
    "lower extremity": ("lower", "extremitylower", "lowerextremities", "lowerlimb", "lowerlimbs"),
    OTHER: ("others",),
}
# Longer than any spelling: a sentence is no class, and need not be looked at.
_LONGEST = 200
_NO_TOPIC = (OTHER, "others", "none", "n/a", "unknown")


@lru_cache(maxsize=4096)
def modality_of(text: str) -> str | None:
    """The modality class that a text names.

    Args:
        text (`str`): one class, in any case and with any blanks, hyphens and signs, for example `"Altralsound"` or
            `"X Ray"`.

    Returns:
        `str` or `None`: one of `MODALITIES`; `None` where the text is none of the known spellings. The dummy value
            `"Modality"` of the authors' PMC-OA labels is none.
    """
    return modality_spellings().get(_plain(text))


@lru_cache(maxsize=4096)
def body_part_of(text: str) -> str | None:
    """The body part class that a text names.

    Args:
        text (`str`): one class, in any case and with any blanks and signs, for example `"Thoroax"` or
            `"Extremity, Upper"`.

    Returns:
        `str` or `None`: one of `BODY_PARTS`; `None` where the text is none of the known spellings. Organs such as
            `"liver"` are none: see [`semihv_hf.curation.classify_rules.body_region_of`].
    """
    return body_part_spellings().get(_plain(text))


def topic_of(text: str) -> str:
    """A topic as it is kept: at most three keywords, in lower case, none twice, with a comma and a blank between.

    Args:
        text (`str`): keywords between commas or semicolons, in the order of their weight.

    Returns:
        `str`: the first three keywords; `"other"` where there are none.
    """
    words = (" ".join(word.split()).strip(" .:'\"*_[]").lower() for word in re.split(r"[,;，；、\n]", text))
    kept = [word for word in dict.fromkeys(words) if word and word not in _NO_TOPIC]
    return ", ".join(kept[:3]) or OTHER


@lru_cache(maxsize=1)
def modality_spellings() -> Mapping[str, str]:
    """All spellings of modalities, without case, blanks and signs, each with its class."""
    return _spellings(MODALITIES, _MODALITY_SPELLINGS)


@lru_cache(maxsize=1)
def body_part_spellings() -> Mapping[str, str]:
    """All spellings of body parts, without case, blanks and signs, each with its class."""
    return _spellings(BODY_PARTS, _BODY_PART_SPELLINGS)


def _spellings(names: tuple[str, ...], further: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {_plain(spelling): name for name in names for spelling in (name, *further[name])}


def _plain(text: str) -> str:
    if len(text) > _LONGEST:
        return ""
    known = unicodedata.normalize("NFKC", html.unescape(text)).casefold()
    return re.sub(r"[\W_]+", "", known)
