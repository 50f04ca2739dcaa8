"""Modalities and body parts as releases spell them, in the words of this package."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..schema import Fact

# The first that fits counts: CT angiography is CT, PET/CT is PET, an X-ray microscope is none of medicine's X-rays.
_MODALITIES = (
    (r"electron micro", "electron microscopy"),
    (r"fluorescen\w+ micro|confocal|immunofluorescen", "fluorescence microscopy"),
    (r"histo|h ?& ?e\b|haematoxylin|hematoxylin|immunohisto|whole slide|patholog\w+ slide", "histology"),
    (r"microscop", "microscopy"),
    (r"optical coherence|\boct\b", "OCT"),
    (r"fundus|retinal photo", "fundus photograph"),
    (r"dermo?scop|dermatoscop", "dermoscopy"),
    (r"colposcop", "colposcopy"),
    (r"endoscop|colonoscop|bronchoscop|laparoscop|gastroscop|arthroscop|cystoscop", "endoscopy"),
    (r"infrared", "infrared"),
    (r"positron|\bpet\b", "PET"),
    (r"scintigra|\bspect\b|single.photon|nuclear|bone scan", "scintigraphy"),
    (r"ultraso|sonogra|echocardio|doppler", "ultrasound"),
    (r"computed tomogra|computeri[sz]ed tomogra|\b(?:cb)?ct\b|\bcta\b|ct[ _-]scan", "CT"),
    (r"magnetic|\b(?:f)?mri?\b|\bmra\b|\bmrcp\b", "MRI"),
    (r"mammogra", "mammography"),
    (r"fluorosc", "fluoroscopy"),
    (r"angiogra", "angiography"),
    (r"x-?[ _]?ray|radiogra|orthopantomo", "X-ray"),
    (r"photogra|gross", "photograph"),
)
_BODY_PARTS = (
    (r"^(?:upper|lower)? ?(?:limbs?|extremit(?:y|ies))$", "extremity"),
    (r"^(?:oral cavity|mouth|oral)$", "mouth"),
    (r"^(?:thorax|chest)$", "chest"),
    (r"^(?:eyes?|ocular|orbit)$", "eye"),
    (r"^(?:gastrointestinal|gi|digestive)(?: tract| system)?$", "gastrointestinal tract"),
    (r"^(?:blood vessels?|vascular|vessels?)(?: system)?$", "blood vessels"),
)
_NOTHING = re.compile(
    r"^(?:others?|unknown|unspecified|none|n/?a|not (?:applicable|specified)|null|miscellaneous|multiple)?$"
)
# The five booleans of LLaVA-Med and BioMed-VITAL.
_DOMAINS = {
    "chest_xray": (("modality", "X-ray"), ("body_part", "chest")),
    "mri": (("modality", "MRI"),),
    "ct_scan": (("modality", "CT"),),
    "histology": (("modality", "histology"),),
    "gross": (("modality", "photograph"),),
}


@lru_cache(maxsize=1024)  # a release of a million rows uses a few dozen spellings
def modality_of(words: str) -> str | None:
    """A modality in the words of this package.

    Args:
        words (`str`): how a release calls it, for example `"Computed Tomography"`.

    Returns:
        `str` or `None`: `None` where the words name none that is known, or list several; it is never guessed.
    """
    plain = " ".join(words.lower().split())
    listed = {value for part in re.split(r"[;,|]", plain) if (value := _first_modality(part))}
    return listed.pop() if len(listed) == 1 else None


def _first_modality(plain: str) -> str | None:
    return next((value for pattern, value in _MODALITIES if re.search(pattern, plain)), None)


@lru_cache(maxsize=1024)
def body_part_of(words: str) -> str | None:
    """A body part in lower-case plain words.

    Args:
        words (`str`): how a release calls it, for example `"Oral Cavity"`.

    Returns:
        `str` or `None`: the words themselves where no other spelling is known; `None` for "Others" and the like.
    """
    plain = " ".join(words.lower().split())
    if _NOTHING.match(plain):
        return None
    return next((value for pattern, value in _BODY_PARTS if re.search(pattern, plain)), plain)


def stated_facts(row: Mapping[str, Any], file: str) -> list[Fact]:
    """The facts of a row with the keys `modality` and `body_part`, both as stated and in the words of this package.

    Args:
        row (`Mapping[str, Any]`): the row.
        file (`str`): where it stands.

    Returns:
        `list[Fact]`: `modality` and `body_part` where they are known, and `stated_modality` and `stated_body_part`
            with the release's own spelling.
    """
    facts = []
    for name, plain in (("modality", modality_of), ("body_part", body_part_of)):
        stated = row.get(name)
        if not isinstance(stated, str) or not stated.strip():
            continue
        source = f"{file} key {name}"
        value = plain(stated)
        facts += [Fact(name, value, source)] if value else []
        facts.append(Fact(f"stated_{name}", stated.strip(), source))
    return facts


def domain_facts(domain: Any, file: str) -> list[Fact]:
    """The facts that the domain booleans of a LLaVA-Med or BioMed-VITAL row state.

    Args:
        domain (`Any`): an object of names and booleans.
        file (`str`): where it stands.

    Returns:
        `list[Fact]`: a `domain` for each that is true; a modality, and a body part, only where exactly one is true.
    """
    if not isinstance(domain, Mapping):
        return []
    true = sorted(str(name) for name, holds in domain.items() if holds is True)
    facts = [Fact("domain", name, f"{file} key domain.{name}") for name in true]
    if len(true) == 1:
        facts = [Fact(*fact, f"{file} key domain.{true[0]}") for fact in _DOMAINS.get(true[0], ())] + facts
    return facts
