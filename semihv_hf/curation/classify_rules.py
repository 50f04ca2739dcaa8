"""Classes that need no model: from what files state about an image, and from what a release is known to hold.

A rule answers only where it is certain. Booleans that were read out of captions (LLaVA-Med, BioMed-VITAL) and labels
that a model gave (PubMedVision) are no such statement: the class must rest on the image. DICOM's Body Part Examined is
taken at its word, although a scanner's protocol sets it and it is known to be wrong now and then (Gueld et al.,
Proc. SPIE 4685, 2002); `classify_agreement` shows where a model that looks at the images sees something else.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from semihv_hf.curation.vocabulary import OTHER, topic_of
from semihv_hf.data.schema import Case, Fact, Label

# The modality words of `semihv_hf.data` that mean one class whatever else is known. Not among them: angiography (XA is
# also biliary, and fluorescein angiography is light), fluoroscopy (with contrast medium in vessels or without),
# scintigraphy (planar or SPECT), microscopy, infrared.
_CLASS_OF_MODALITY: Mapping[str, str] = {
    "X-ray": "x-ray",
    "mammography": "x-ray",
    "CT": "ct",
    "MRI": "mr",
    "PET": "pet/spect",
    "ultrasound": "ultrasound",
    "histology": "pathology",
    "OCT": "oct",
    "electron microscopy": "em",
    "dermoscopy": "dermatology",
    "fundus photograph": "optical image",
    "fluorescence microscopy": "optical image",
    "colposcopy": "optical image",
}
# Modality words that become certain with a body part: a class, and what the body part must say.
_CLASS_WITH_PART: Mapping[str, tuple[tuple[str, str], ...]] = {
    "photograph": (("dermatology", r"\bskin\b"),),
    "endoscopy": (
        ("colonoscopy", r"\bcolon\b|\bcolorect|\brectum\b|\bcaecum\b|\bcecum\b"),
        ("optical image", r"\bstomach\b|esophag|\bbronch|\bduodenum\b|\blaryn|\bbladder\b|\bnose\b|\bknee\b"),
    ),
}  # fmt: skip
# A word of one region and a word of another in one text ("femoral neck", "head of pancreas") leave it open.
_REGIONS: Mapping[str, str] = {
    "head & neck": (
        r"heads?|brain|cerebr\w*|cerebell\w*|skull|crani\w+|intracranial|face|facial|maxill\w*|mandib\w*|jaws?|orbits?|eyes?"
        r"|retina|mouth|oral|teeth|tooth|tongue|nose|nasal|sinus(?:es)?|nasopharynx|pharynx|larynx|necks?|thyroid|parotid"
        r"|carotid\w*|ears?|iacs?|tmjs?|pituitary|sella|cspine|c spine|cervical spine|headneck"
    ),
    "thorax": (
        r"chests?|thora\w+|lungs?|pulmonary|heart|cardiac|cardio\w*|coronary|mediastin\w+|breasts?|ribs?|sternum|o?esophag\w+"
        r"|pleura\w*|tspine|t spine|thoracic spine"
    ),
    "abdomen": (
        r"abdom\w+|liver|hepatic|kidneys?|renal|pancrea\w*|spleen|gallbladder|bladder|urinary|stomach|duodenum|bowels?|colon"
        r"|rectum|pelvi[sc]|uterus|ovar(?:y|ies)|prostate|adrenals?|appendix|small intestine|large intestine|kub"
    ),
    "upper extremity": (
        r"shoulders?|upper (?:arms?|extremit(?:y|ies)|limbs?)|arms?|elbows?|forearms?|wrists?|hands?|fingers?|thumbs?"
        r"|humerus|radius|ulna"
    ),
    "lower extremity": (
        r"hips?|thighs?|knees?|legs?|lower (?:legs?|extremit(?:y|ies)|limbs?)|ankles?|foot|feet|toes?|femurs?|femoral"
        r"|tibia|fibula|calcaneus|heels?|patella"
    ),
    "extremity": r"extremit(?:y|ies)|limbs?",
    OTHER: r"whole ?body|cell nuclei|cells",
}  # fmt: skip
_LIMBS = ("upper extremity", "lower extremity")
_KNOWN: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "mimic_cxr": {"modality": ("x-ray", "chest X-rays"), "body_part": ("thorax", "chest X-rays")},
    "padchest": {"modality": ("x-ray", "chest X-rays"), "body_part": ("thorax", "chest X-rays")},
    "deeplesion": {"modality": ("ct", "CT slices")},
    "lld_mmri": {"modality": ("mr", "MRI of the liver"), "body_part": ("abdomen", "MRI of the liver")},
    "mama_mia": {
        "topic": ("breast cancer", "MRI of breast cancer"),
        "modality": ("mr", "MRI of the breast"),
        "body_part": ("thorax", "MRI of the breast"),
    },
}
# The releases whose own statements about each image are people's, or follow from how the image was made.
_TRUSTED = ("eurorad", "quilt")
# Coarse lesion types of DeepLesion that lie in one region; bone and soft tissue are everywhere.
_LESION_PARTS = {
    "mediastinum": "thorax", "lung": "thorax", "abdomen": "abdomen", "liver": "abdomen", "kidney": "abdomen",
    "pelvis": "abdomen", "bone": None, "soft tissue": None,
}  # fmt: skip
_DICOM = "DICOM ("
# A longer diagnosis, or one of more parts, is a sentence or a list of which keywords would have to be chosen.
_LONGEST_DIAGNOSIS = 100
_SEPARATORS = r"[,;\n]"


def labels_by_rule(case: Case) -> list[Label]:
    """The labels that are certain without looking at the image.

    Args:
        case ([`Case`]): the case.

    Returns:
        `list[Label]`: at most one a name, in the order topic, modality, body part, each with the fact or the knowledge
            about the release that decided.

    Example:

    ```python
    >>> from semihv_hf.curation.classify_rules import labels_by_rule
    >>> from semihv_hf.data.schema import Case, Fact
    >>> fact = Fact("body_part", "liver", "DICOM (0018,0015) Body Part Examined")
    >>> [(label.name, label.value) for label in labels_by_rule(Case("1", "mine", "1", "1", "train", "", [], [fact]))]
    [('body_part', 'abdomen')]

    ```
    """
    known = {
        name: Label(name, value, "rule", f"{case.source}, a release of {what}")
        for name, (value, what) in _KNOWN.get(case.source, {}).items()
    }
    found = {"topic": _topic(case), "modality": _modality(case), "body_part": _body_part(case)}
    # What is known about a whole release needs no look at the facts of one case.
    return [label for name in found if (label := known.get(name) or found[name]) is not None]


@lru_cache(maxsize=4096)
def body_region_of(words: str) -> str | None:
    """The body part class of an organ or a region, as DICOM tags and releases name it.

    Args:
        words (`str`): for example `"LIVER"`, `"C-SPINE"` or `"left knee"`.

    Returns:
        `str` or `None`: one of the classes of `semihv_hf.curation.vocabulary`; `None` where the words name none that
            is known, or parts of several.
    """
    plain = " ".join(re.findall(r"[a-z]+", words.lower()[:200]))
    found = {region for region, pattern in _REGIONS.items() if re.search(rf"\b(?:{pattern})\b", plain)}
    if "extremity" in found and found & set(_LIMBS):  # "upper extremity" is more than "extremity"
        found.discard("extremity")
    if found == set(_LIMBS):
        return "extremity"
    return found.pop() if len(found) == 1 else None


def _modality(case: Case) -> Label | None:
    facts = _certain(case, "modality")
    parts = " ".join(fact.value for fact in _certain(case, "body_part")).lower()
    return _one("modality", facts, lambda fact: _modality_class(fact.value, parts))


def _modality_class(value: str, parts: str) -> str | None:
    if value in _CLASS_OF_MODALITY:
        return _CLASS_OF_MODALITY[value]
    return next((name for name, part in _CLASS_WITH_PART.get(value, ()) if re.search(part, parts)), None)


def _body_part(case: Case) -> Label | None:
    if case.source == "deeplesion":
        lesions = [fact for fact in case.facts if fact.name == "label"]
        return _one("body_part", lesions, lambda fact: _LESION_PARTS.get(fact.value))
    return _one("body_part", _certain(case, "body_part"), lambda fact: body_region_of(fact.value))


def _topic(case: Case) -> Label | None:
    """Of a diagnosis that people wrote, and of findings and lesion classes that people set."""
    diagnosis = case.text("diagnosis")
    if diagnosis is not None and diagnosis.annotation == "human":
        value = topic_of(diagnosis.text)
        whole = len(diagnosis.text) <= _LONGEST_DIAGNOSIS and len(re.findall(_SEPARATORS, diagnosis.text)) < 3
        return Label("topic", value, "rule", "text diagnosis, written by people") if whole and value != OTHER else None
    if case.source == "lld_mmri":
        stated = [fact for fact in case.facts if fact.name == "label"]
    elif case.source == "padchest":
        stated = [fact for fact in case.facts if fact.name == "finding" and "Physician" in fact.source]
    else:
        return None
    # Of more than three findings no rule can tell which three the case is about.
    values = list(dict.fromkeys(fact.value for fact in stated))
    return Label("topic", topic_of(", ".join(values)), "rule", stated[0].source) if 1 <= len(values) <= 3 else None


def _certain(case: Case, name: str) -> list[Fact]:
    """The facts of a name that are statements about the image itself."""
    facts = [fact for fact in case.facts if fact.name == name]
    if _speaks_of_its_images(case):
        return facts
    return [fact for fact in facts if fact.source.startswith(_DICOM)]


def _speaks_of_its_images(case: Case) -> bool:
    if case.source == "radiopaedia":  # its table speaks of a case, whose images may differ
        return len(case.images) == 1
    return case.source in _TRUSTED or case.source in _packages()


@lru_cache(maxsize=1)
def _packages() -> frozenset[str]:
    """The open packages, whose facts come from DICOM headers and from the packages' documentation."""
    from semihv_hf.data.licences import registry

    return frozenset(name for name, entry in registry().items() if entry.kind == "package")


def _one(name: str, facts: Iterable[Fact], value_of: Callable[[Fact], str | None]) -> Label | None:
    """The label that all facts agree on; none where one of them leaves it open or says something else."""
    told = [(value_of(fact), fact) for fact in facts]
    if len({value for value, _ in told}) != 1 or told[0][0] is None:
        return None
    value, fact = told[0]
    return Label(name, value, "rule", f"{fact.name}: {fact.value} ({fact.source})")
