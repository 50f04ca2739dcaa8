"""Statements that contradict, or go beyond, what is known about an image.

Three kinds are looked for, each narrowly, because a filter that is wrong throws good data away:

- **Measurements**: a number with a physical unit (length, volume, HU, SUV, dose, age) that neither a text nor a fact
  of the case gives. A picture of 8 bits without a scale shows none, so one that appears from nowhere is made up. A
  threshold ("larger than 3 cm") that a guideline gives is general knowledge and passes.
- **Sides**: the same structure, left in all that was written about the case and only right in the answer, or the other
  way round, in a statement that is not a negation or a verdict of normal.
- **Diagnoses**: the case's texts name diseases, and the answer asserts others and none of them.

What it cannot catch: a wrong finding in words that name no disease of the list (a "mass" that is not there), a wrong
place other than left and right, a wrong number without a unit, a wrong negation, a disease that the list does not
know, a second, made-up disease beside a right one, and anything about an image that nobody wrote about, but for
measurements. What it gets wrong: a synonym that the list takes for another disease, and a true finding of the image
that is a disease which the texts do not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

# Units by quantity, with the factor to the first one.
_UNITS = {
    "mm": ("length", 1.0),
    "millimetre": ("length", 1.0),
    "millimeter": ("length", 1.0),
    "cm": ("length", 10.0),
    "centimetre": ("length", 10.0),
    "centimeter": ("length", 10.0),
    "µm": ("length", 0.001),
    "μm": ("length", 0.001),
    "um": ("length", 0.001),
    "micron": ("length", 0.001),
    "micrometre": ("length", 0.001),
    "micrometer": ("length", 0.001),
    "inch": ("length", 25.4),
    "inche": ("length", 25.4),
    "ml": ("volume", 1.0),
    "millilitre": ("volume", 1.0),
    "milliliter": ("volume", 1.0),
    "cc": ("volume", 1.0),
    "litre": ("volume", 1000.0),
    "liter": ("volume", 1000.0),
    "hu": ("HU", 1.0),
    "hounsfield unit": ("HU", 1.0),
    "suv": ("SUV", 1.0),
    "mg": ("mass", 1.0),
    "kg": ("mass", 1e6),
    "mmhg": ("pressure", 1.0),
    "bpm": ("rate", 1.0),
    "year old": ("age", 12.0),
    "years old": ("age", 12.0),
    "month old": ("age", 1.0),
    "months old": ("age", 1.0),
}
_WORDED = "one two three four five six seven eight nine ten eleven twelve".split()
_NUMBER = rf"(?:\d+(?:[.,]\d+)?|{'|'.join(_WORDED)})"
_UNIT = "|".join(sorted((re.escape(unit).replace(r"\ ", r"[\s-]+") for unit in _UNITS), key=len, reverse=True))
# 3 cm, 3.5 x 2 cm, 3-4 cm, 3 cm x 2 cm, a 45-year-old.
_MEASUREMENT = re.compile(
    rf"(?<![\w.,])(?P<numbers>{_NUMBER}(?:\s*(?:x|×|by|to|-|–|and|or|"
    rf"/)\s*{_NUMBER}){{0,3}})[\s-]*(?P<unit>{_UNIT})s?(?![A-Za-z])",
    re.IGNORECASE,
)
_SUV = re.compile(rf"\bSUV(?:\s?max|mean)?\s*(?:of|=|:|was|is)?\s*(?P<numbers>{_NUMBER})", re.IGNORECASE)
_AGE_FACT = re.compile(r"^age: (\d+)", re.MULTILINE)
_THRESHOLD = re.compile(
    r"(?:larger|greater|more|less|smaller|bigger|wider|thicker|longer|higher|lower|older|younger) than|up to|"
    r"at least|at most|"
    r"exceed(?:s|ing)?|above|below|under|over|[<>≤≥]\s*$",
    re.IGNORECASE,
)
_CLOSE = 0.051  # relative: 2.95 and 3 are the same size, rounded

_STRUCTURES = (
    "adrenal ankle arm atrium axilla breast bronchus calf carotid cerebellum cheek chest clavicle diaphragm ear "
    "elbow eye eyelid femur fibula foot forearm hand heel hemidiaphragm hemisphere hemithorax hilum hip humerus "
    "iliac jaw kidney knee leg lobe lung mandible maxilla nostril orbit ovary patella pelvis pleura pleural "
    "radius retina rib scapula shoulder sinus testicle testis thigh thyroid tibia tonsil ulna ureter ventricle "
    "wrist frontal parietal temporal occipital basal renal ovarian pulmonary mammary side sided"
).split()
_SIDE = re.compile(
    rf"\b(?P<side>left|right)(?P<both>\s+(?:and|or)\s+(?:left|right))?[\s-]+(?:\w+[\s-]+){{0,2}}?"
    rf"(?P<structure>{'|'.join(_STRUCTURES)})s?\b",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"\b(?:no|not|without|normal|unremarkable|spared|intact|absent|absence|free of|contralateral|compared|unlike|"
    r"rather than|"
    r"neither|nor|unaffected|uninvolved|healthy|clear|preserved)\b|n['’]t\b",
    re.IGNORECASE,
)
_LEFT_RIGHT = re.compile(r"\b(left|right)")
_BOTH = re.compile(r"\b(?:bilateral|bilaterally|both|right and left|left and right)\b", re.IGNORECASE)

# Diseases by their head word. Findings that many diseases share (mass, oedema, stenosis, effusion) are not among them.
_DISEASES = (
    "abscess adenocarcinoma adenoma adenomyosis amyloidosis aneurysm appendicitis arthritis aspergillosis "
    "astrocytoma atelectasis bronchiectasis bronchiolitis bronchitis carcinoma cellulitis cholangiocarcinoma "
    "cholangitis cholecystitis chondrosarcoma chordoma cirrhosis colitis covid craniopharyngioma cryptococcosis "
    "cystadenoma cystadenocarcinoma dermatofibroma diverticulitis echinococcosis emphysema empyema encephalitis "
    "endometrioma endometriosis ependymoma fibroadenoma fibroma fibrosarcoma fracture ganglioglioma germinoma "
    "glioblastoma glioma gout haemangioblastoma haemangioma haematoma hamartoma hepatitis hernia histoplasmosis "
    "hydatid hydrocephalus infarction intussusception leiomyoma leiomyosarcoma leukaemia lipoma liposarcoma "
    "lymphangioma lymphoma medulloblastoma melanoma meningioma meningitis mesothelioma metastasis mucocele "
    "myeloma myocarditis myxoma neuroblastoma neurofibroma nephroblastoma oligodendroglioma oncocytoma "
    "osteoarthritis osteochondroma osteomyelitis osteosarcoma pancreatitis paraganglioma pericarditis peritonitis "
    "phaeochromocytoma pneumonia pneumothorax polyp psoriasis pyelonephritis rhabdomyosarcoma sarcoidosis sarcoma "
    "schwannoma scleroderma scoliosis seminoma silicosis sinusitis spondylitis stroke syphilis teratoma thymoma "
    "tuberculosis vasculitis volvulus warthin"
).split()
# The same disease by another name. What is on the left is read as what is on the right.
_SAME = {
    "bleed": "haematoma",
    "cancer": "carcinoma",
    "gbm": "glioblastoma",
    "hcc": "carcinoma",
    "hypernephroma": "carcinoma",
    "infarct": "infarction",
    "mets": "metastasis",
    "metastases": "metastasis",
    "metastatic": "metastasis",
    "nsclc": "carcinoma",
    "rcc": "carcinoma",
    "tb": "tuberculosis",
    "tuberculous": "tuberculosis",
    "tubercular": "tuberculosis",
    "tuberculoma": "tuberculosis",
    "pneumonic": "pneumonia",
    "neuroma": "schwannoma",
    "fibroid": "leiomyoma",
    "ischaemia": "infarction",
    "ischaemic": "infarction",
    "stroke": "infarction",
    "haemorrhage": "haematoma",
    "fractured": "fracture",
    "cirrhotic": "cirrhosis",
    "emphysematous": "emphysema",
    "lymphomatous": "lymphoma",
    "abscesses": "abscess",
    "wilms": "nephroblastoma",
    "coronavirus": "covid",
    "hydatidosis": "hydatid",
}
# A carcinoma is not contradicted by its kind, a sarcoma not by its kind, and so on.
_KIND = {
    "carcinoma": ("adenocarcinoma", "cholangiocarcinoma", "cystadenocarcinoma", "metastasis"),
    "sarcoma": ("leiomyosarcoma", "liposarcoma", "osteosarcoma", "rhabdomyosarcoma", "fibrosarcoma", "chondrosarcoma"),
    "glioma": ("glioblastoma", "astrocytoma", "oligodendroglioma", "ependymoma", "ganglioglioma"),
    "adenoma": ("cystadenoma", "fibroadenoma"),
    "arthritis": ("osteoarthritis", "gout"),
}
_AMERICAN = re.compile(r"\bhem(?=ang|ato|orrh)|\bisch(?:em)|\bleukem|\bpheo(?=chrom)")
_HEDGED = re.compile(
    r"\b(?:no|not|without|exclud\w+|unlike|rather than|differential|differentials|versus|vs|may|might|could|possib\w+|"
    r"ruled? out|absence|absent|such as|for example|e\.g|including|mimic\w*|resembl\w+|distinguish\w*|differentiat\w+|"
    r"suspic\w+|suspect\w*|risk|history|prior|if|either|or|consider\w*|question\w*|screen\w*)\b|n['’]t\b|\?",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def made_up_measurement(text: str, known: Sequence[str], guidelines: Sequence[str] = ()) -> str:
    """Finds a measurement that nothing supports.

    Args:
        text (`str`): what the model wrote.
        known (`Sequence[str]`): what is known about the case, and the question that was asked.
        guidelines (`Sequence[str]`, *optional*): general knowledge, from which a threshold may come.

    Returns:
        `str`: the measurement; `""` if all are supported.
    """
    given = [measure for item in known for measure in _measured(item)]
    given += [("age", 12.0 * float(found)) for item in known for found in _AGE_FACT.findall(item)]
    general = [measure for item in guidelines for measure in _measured(item)]
    for quantity, value, place, words in _found(text):
        if _among(quantity, value, given):
            continue
        before = text[max(0, place - 24) : place]
        if _THRESHOLD.search(before) and _among(quantity, value, general):
            continue
        return words
    return ""


@lru_cache(maxsize=256)
def _measured(text: str) -> tuple[tuple[str, float], ...]:
    return tuple(measurements(text))


def measurements(text: str) -> Iterator[tuple[str, float]]:
    """The measurements of a text.

    Args:
        text (`str`): any text.

    Yields:
        `tuple[str, float]`: the quantity and its value, lengths in mm, volumes in ml, ages in months.
    """
    for quantity, value, _, _ in _found(text):
        yield quantity, value


def _found(text: str) -> Iterator[tuple[str, float, int, str]]:
    for match in _MEASUREMENT.finditer(text):
        unit = re.sub(r"[\s-]+", " ", match["unit"].lower())
        quantity, factor = _UNITS[unit]
        for number in re.findall(_NUMBER, match["numbers"], re.IGNORECASE):
            yield quantity, _value(number) * factor, match.start(), match[0]
    for match in _SUV.finditer(text):
        yield "SUV", _value(match["numbers"]), match.start(), match[0]


def _value(number: str) -> float:
    lower = number.lower()
    return float(_WORDED.index(lower) + 1) if lower in _WORDED else float(lower.replace(",", "."))


def _among(quantity: str, value: float, given: Iterable[tuple[str, float]]) -> bool:
    return any(kind == quantity and abs(value - other) <= _CLOSE * max(abs(other), 1e-9) for kind, other in given)


def wrong_side(text: str, known: Sequence[str], closed: bool = False) -> str:
    """Finds a structure on the side on which nobody saw it.

    Args:
        text (`str`): what the model wrote.
        known (`Sequence[str]`): what is known about the case.
        closed (`bool`, *optional*, defaults to `False`): nothing may be said that is not known, so that a side which
            is named nowhere is wrong as well.

    Returns:
        `str`: the words; `""` if there are none.
    """
    said, both, stated = _stated_sides(tuple(known))
    if closed and (new := next((words for side, _, words in _sides(text) if side not in said), "")):
        return new
    if both or not stated:
        return ""
    told: dict[str, dict[str, str]] = {}
    for sentence in _SENTENCE.split(text):
        # Most sentences name no side, and none of those has to be looked through for what takes it back.
        named = list(_sides(sentence))
        if named and not (_NORMAL.search(sentence) or _BOTH.search(sentence)):
            for side, structure, words in named:
                told.setdefault(structure, {})[side] = words
    for structure, sides in told.items():
        if len(sides) == 1 and len(stated.get(structure, ())) == 1 and not set(sides) & stated[structure]:
            return next(iter(sides.values()))
    return ""


# What is known about a case is asked for again with each of its texts.
@lru_cache(maxsize=256)
def _stated_sides(known: tuple[str, ...]) -> tuple[frozenset[str], bool, Mapping[str, set[str]]]:
    """The sides that are named, whether both are, and the sides of each structure."""
    both = any(_BOTH.search(item) for item in known)
    said = {side for item in known for side in _LEFT_RIGHT.findall(item.lower())}
    stated: dict[str, set[str]] = {}
    for item in known:
        for side, structure, _ in _sides(item):
            stated.setdefault(structure, set()).add(side)
    return frozenset(("left", "right") if both else said), both, stated


def _sides(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _SIDE.finditer(text):
        structure = match["structure"].lower()
        structure = "side" if structure == "sided" else "kidney" if structure == "renal" else structure
        sides = ("left", "right") if match["both"] else (match["side"].lower(),)
        for side in sides:
            yield side, structure, match[0]


def other_diagnosis(text: str, known: Sequence[str], closed: bool = False) -> str:
    """Finds a disease that is asserted where the case's texts name others.

    Args:
        text (`str`): what the model wrote.
        known (`Sequence[str]`): what is known about the case, and the question.
        closed (`bool`, *optional*, defaults to `False`): nothing may be said that is not known, so that each disease
            has to be named.

    Returns:
        `str`: the disease; `""` where the texts name none, or the answer names one of theirs.
    """
    stated = {name for item in known for name in diseases(item)}
    if not stated and not closed:
        return ""
    stated |= {kind for name in stated for kind in _KIND.get(name, ())}
    stated |= {name for name, kinds in _KIND.items() if set(kinds) & stated}
    asserted: list[str] = []
    for sentence in _SENTENCE.split(text):
        named = diseases(sentence)
        if named and not _HEDGED.search(sentence):
            asserted += named
    if closed:
        return next((name for name in asserted if name not in stated), "")
    if not asserted or set(asserted) & stated:
        return ""
    return asserted[0]


def diseases(text: str) -> list[str]:
    """The diseases of the list that a text names.

    Args:
        text (`str`): any text.

    Returns:
        `list[str]`: in British spelling and the singular, each once, in the order of the text.
    """
    return list(_diseases(text))


@lru_cache(maxsize=256)
def _diseases(text: str) -> tuple[str, ...]:
    found = (_disease(word) for word in re.findall(r"[a-z]{4,}|\b(?:tb|gbm|hcc|rcc)\b", _british(text.lower())))
    return tuple(dict.fromkeys(name for name in found if name))


def _british(text: str) -> str:
    return _AMERICAN.sub(lambda found: found[0].replace("e", "ae"), text)


@lru_cache(maxsize=4096)
def _disease(word: str) -> str:
    if word in _SAME:
        return _SAME[word]
    forms = [word, word.removesuffix("s"), word.removesuffix("es")]
    if word.endswith("mata"):
        forms.append(word.removesuffix("ta"))
    if word.endswith("ses"):
        forms.append(word.removesuffix("es") + "is")
    return next((_SAME.get(form, form) for form in forms if form in _NAMES or form in _SAME), "")


_NAMES = frozenset(_DISEASES)
