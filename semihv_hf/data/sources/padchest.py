"""PadChest: chest X-rays of one Spanish hospital with stemmed Spanish reports and English labels.

Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated reports", arXiv 1901.07441. One
row of the table is one image and becomes one case; the patient is the group. Two thirds and more of the labels come
from a recurrent network (`MethodLabel` RNN_model) and are marked as written by a machine.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SemiHVError
from ..imaging import apply_window, encode_png, fit_pixels, to_8bit
from ..licences import source_licence
from ..list_columns import concept_codes, flat_words, is_blank, parse_list
from ..messages import message
from ..schema import Case, Fact, Provenance, QuestionTurn, Record, Text, case_id
from ..tables import DiskTable
from .base import Item, Skipped, Source
from .conversations import record_of, wording
from .release_tables import numbered_rows, require_columns
from .sixteen_bit import read_grey_values

# Missing or broken in the release. The list is that of torchxrayvision 1.5.7, `datasets.py`, class PC_Dataset: 11
# files that were not found, 2 with a damaged chunk, 8 that are cut off.
KNOWN_BAD_FILES = frozenset(
    f"216840111366964{rest}.png"
    for rest in """
    012339356563862009072111404053_00-043-192 012283393834152009033102258826_00-059-087
    012373310883942009117084022290_00-064-025 012373310883942009170084120009_00-097-074
    012373310883942009152114636712_00-102-045 012487858717522009280135853083_00-075-001
    012558082906712009327122220177_00-102-064 012819207061112010281134410801_00-129-131
    012819207061112010306085429121_04-020-102 012819207061112010307142602253_04-014-084
    012819207061112010315104455352_04-024-184 012959786098432011033083840143_00-176-115
    012989926673512011074122523403_00-163-058 012989926673512011083134050913_00-168-009
    012989926673512011151082430686_00-157-045 013076187734852011291090445391_00-196-188
    013590140476722013043111952381_02-065-198 013590140476722013058110301622_02-056-111
    013686042548532013208193054515_02-026-007 013829543166512013353113303615_02-092-190
    013962490064942014134093945580_01-178-104
    """.split()
)
# What the paper calls the projections; UNK is unknown, EXCLUDE marks images that the authors took out.
PROJECTIONS = {
    "PA": "PA", "AP": "AP", "AP_horizontal": "AP supine", "L": "lateral", "COSTAL": "ribs", "UNK": "", "EXCLUDE": "",
}  # fmt: skip
WRITERS = {"Physician": "human", "RNN_model": "machine"}
SEXES = {"M": "male", "F": "female", "O": "other"}
# Labels about the report or the study, which the image cannot show.
NOT_VISIBLE = ("exclude", "unchanged", "suboptimal study")
COLUMNS = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "Projection", "MethodProjection", "PhotometricInterpretation_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM",
    "WindowWidth_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip
REPORT_IN_SPANISH = (
    "Describe los hallazgos de esta radiografía de tórax.",
    "Escribe el informe de esta radiografía de tórax.",
    "¿Qué se observa en esta radiografía de tórax?",
    "Redacta los hallazgos de este estudio.",
)
LABELLED_FINDINGS = (
    "Which findings does this chest X-ray show? List them.",
    "List the findings on this chest X-ray, with their place in brackets.",
    "What is found on this chest X-ray?",
    "Name the radiographic findings on this image.",
)
_TABLE = "PADCHEST_chest_x_ray_images_labels_*.csv"
_LOCATION = "loc "


class PadChest(Source):
    """The release of BIMCV: a table, and 16-bit PNG files in numbered folders or zip archives.

    Args:
        root (`str` or `pathlib.Path`): the folder of the release.
        held_out (`float`, *optional*, defaults to 0.0): the share of patients in the test split; the release has none.
        seed (`int`, *optional*, defaults to 0): chooses those patients.
        longest (`int`, *optional*, defaults to 0): the longest side of stored images in pixels; 0 keeps the size.

    Raises:
        `SemiHVError`: the folder holds no PadChest table, or the table has other columns.
    """

    name = "padchest"
    layout = ((f"{_TABLE} | {_TABLE}.gz", "the table of images, reports and labels"),)

    def __init__(self, root: str | Path, *, held_out: float = 0.0, seed: int = 0, longest: int = 0):
        super().__init__(root, held_out=held_out, seed=seed)
        if longest < 0:
            raise SemiHVError(f"longest is {longest}.", "Give a number of pixels, or 0 to keep the size.")
        self.longest = longest
        self.table = self.release.first(_TABLE) or self.release.first(_TABLE + ".gz")
        require_columns(self.release, self.name, self.table, COLUMNS)

    def items(self) -> Iterator[Item | Skipped]:
        """Lists the rows of the table in their order.

        Yields:
            [`Item`] or [`Skipped`]: one a row.
        """
        with DiskTable() as seen:
            for number, row in numbered_rows(self.release, self.table):
                name = row["ImageID"].strip()
                if not name:
                    yield Skipped(f"row {number}", "malformed row", "the column ImageID is empty")
                elif not seen.add(name):
                    yield Skipped(f"{name} in row {number}", "duplicate row", "an earlier row names the same image")
                else:
                    yield self._item(name, row)

    def _item(self, name: str, row: Mapping[str, str]) -> Item | Skipped:
        if name in KNOWN_BAD_FILES:
            return Skipped(name, "known bad file", "missing or broken in the release")
        if row["Projection"] == "EXCLUDE":
            return Skipped(name, "known bad file", "the release marks its projection as EXCLUDE")
        for column, known in (("Projection", PROJECTIONS), ("MethodLabel", WRITERS)):
            if row[column] not in known:
                return Skipped(name, "unknown label", f"{column} is {row[column]!r}, not one of {', '.join(known)}")
        try:
            data = parse_row(row)
        except ValueError as error:
            return Skipped(name, "malformed row", str(error))
        return Item(name, self.split_of(None, data["patient"]), data)

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads the image of one row.

        Args:
            item ([`Item`]): as [`items`] gave it.

        Yields:
            [`Case`] or [`Skipped`]: one.
        """
        data = item.data
        # Archives and resized copies of the release hold the images without the numbered folder.
        names = (f"{data['folder']}/{item.source_id}", item.source_id)
        values = read_grey_values(self.release, names, item.source_id, eight_bit=True)
        if isinstance(values, Skipped):
            yield values
            return
        pixels = grey_levels(values, data["bits"], data["window"])
        if data["inverted"]:
            pixels = 255 - pixels
        image = encode_png(fit_pixels(pixels, self.longest) if self.longest else pixels)
        yield Case(
            id=case_id(self.name, item.source_id, [image]),
            source=self.name,
            source_id=item.source_id,
            group=data["patient"],
            split=item.split,
            licence=source_licence(self.name).licence,
            images=[image],
            facts=_facts(data),
            texts=_texts(data),
        )

    def records(self, case: Case) -> Iterator[Record]:
        """The report in Spanish, and the labels in English, as far as an image can show them.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: none to two.
        """
        report = case.text("report")
        # Some reports are cut down to the stem of a heading ("impresion"); one word says something only if "normal".
        if report and (len(_words(report.text)) > 1 or _words(report.text) == ["normal"]):
            asked = message("user", wording(case.id, REPORT_IN_SPANISH), images=1)
            noted = Provenance("messages[1]", evidence=["language: es", "the release cut its words down to stems"])
            answer = message("assistant", report.text)
            yield record_of(case, "report", [asked, answer], ["rule", report.annotation], provenance=[noted])
        labels = case.text("labels")
        shown = [entry for entry in labels.text.split("; ") if entry not in NOT_VISIBLE] if labels else []
        if shown:
            asked = message("user", wording(case.id + "labels", LABELLED_FINDINGS), images=1)
            answer = message("assistant", "; ".join(shown))
            turn = QuestionTurn(0, "padchest labels", "open", [], "finding", case.fact("finding").source)
            yield record_of(case, "vqa", [asked, answer], ["rule", labels.annotation], questions=[turn])


def parse_row(row: Mapping[str, str]) -> dict[str, Any]:
    """Reads the cells of one row.

    Args:
        row (`Mapping[str, str]`): a row by the names of its columns, its projection and method known.

    Returns:
        `dict[str, Any]`: what [`PadChest.read`] needs, as JSON can hold it.

    Raises:
        `ValueError`: a cell is not what the release's description says; the message names the column.
    """
    if row.get(""):
        raise ValueError("the row has more cells than the table has columns")
    patient = row["PatientID"].strip()
    if not patient:
        raise ValueError("the column PatientID is empty")
    lists = {}
    for column in ("Labels", "Localizations", "LabelsLocalizationsBySentence"):
        try:
            lists[column] = parse_list(row[column])
        except ValueError as error:
            raise ValueError(f"column {column}: {error}") from error
    center, width = _number(row, "WindowCenter_DICOM"), _number(row, "WindowWidth_DICOM")
    bits = _number(row, "BitsStored_DICOM")
    return {
        "folder": row["ImageDir"].strip(),
        "study": row["StudyID"].strip(),
        "patient": patient,
        "sex": SEXES.get(row["PatientSex_DICOM"].strip(), ""),
        "age": _age(row),
        "projection": row["Projection"],
        "projection_method": row["MethodProjection"].strip(),
        "inverted": row["PhotometricInterpretation_DICOM"].strip() == "MONOCHROME1",
        "bits": 0 if bits is None else int(bits),
        "window": None if center is None or width is None else [center, width],
        "report": "" if is_blank(row["Report"]) else " ".join(row["Report"].split()),
        "method": row["MethodLabel"],
        "labels": flat_words(lists["Labels"]),
        "locations": flat_words(lists["Localizations"]),
        "entries": labelled_places(lists["LabelsLocalizationsBySentence"]),
        "label_concepts": concept_codes(row["labelCUIS"]),
        "location_concepts": concept_codes(row["LocalizationsCUIS"]),
    }


def labelled_places(sentences: list) -> list[str]:
    """The labels with the places that the release puts behind each.

    Args:
        sentences (`list`): the column LabelsLocalizationsBySentence: lists of words, one a sentence where a physician
            labelled it, else one list; a place begins with "loc ".

    Returns:
        `list[str]`: for example `["cardiomegaly", "pleural effusion (left, basal)"]`, each once.
    """
    found: dict[str, list[str]] = {}
    for sentence in sentences if any(isinstance(part, list) for part in sentences) else [sentences]:
        label = None
        for word in sentence if isinstance(sentence, list) else [sentence]:
            word = (word or "").strip()
            if word.startswith(_LOCATION):
                place = word.removeprefix(_LOCATION)
                if label is not None and place not in found[label]:
                    found[label].append(place)
            elif word:
                label = word
                found.setdefault(label, [])
    return [f"{label} ({', '.join(places)})" if places else label for label, places in found.items()]


def grey_levels(values: np.ndarray, bits: int, window: list[float] | None) -> np.ndarray:
    """Maps the values of an image to 8 bits.

    The row's window counts for values as the detector stored them. A file whose values exceed the bits that were
    stored was rescaled when it was written, so the window no longer fits it; percentiles are taken instead.

    Args:
        values (`numpy.ndarray`): `uint16`, or `uint8`, which is returned as it is.
        bits (`int`): the column BitsStored_DICOM, 0 where it is unknown.
        window (`list[float]` or `None`): the centre and width of the row.

    Returns:
        `numpy.ndarray`: `uint8`.
    """
    if values.dtype == np.uint8 or window is None or not bits:
        return to_8bit(values)
    center, width = window
    darkest, brightest = int(values.min()), int(values.max())
    fits = width > 1 and center - width / 2 < brightest and center + width / 2 > darkest
    return apply_window(values, center, width) if fits and brightest < 2**bits else to_8bit(values)


def _facts(data: Mapping[str, Any]) -> list[Fact]:
    method = f"MethodLabel {data['method']}"
    view = PROJECTIONS[data["projection"]]
    facts = [
        Fact("modality", "X-ray", "PadChest, a release of chest X-rays; column Modality_DICOM"),
        Fact("body_part", "chest", "PadChest, a release of chest X-rays"),
        *([Fact("view", view, f"column Projection ({data['projection_method']})")] if view else []),
        *([Fact("sex", data["sex"], "column PatientSex_DICOM")] if data["sex"] else []),
        *(
            [Fact("age", str(data["age"]), "columns StudyDate_DICOM and PatientBirth")]
            if data["age"] is not None
            else []
        ),
        Fact("study", data["study"], "column StudyID"),
    ]
    if data["report"]:
        facts.append(Fact("report_language", "es", "column Report; its words are stems"))
    for name, column, values in (
        ("finding", "Labels", data["labels"]),
        ("location", "Localizations", [place.removeprefix(_LOCATION) for place in data["locations"]]),
        ("finding_concept", "labelCUIS", data["label_concepts"]),
        ("location_concept", "LocalizationsCUIS", data["location_concepts"]),
    ):
        facts.extend(Fact(name, value, f"column {column} ({method})") for value in values)
    return facts


def _texts(data: Mapping[str, Any]) -> list[Text]:
    texts = [Text("report", data["report"], "human", language="es")] if data["report"] else []
    # A few rows print labels and no sentences.
    entries = data["entries"] or data["labels"]
    if data["labels"]:
        texts.append(Text("labels", "; ".join(entries), WRITERS[data["method"]]))
    return texts


def _age(row: Mapping[str, str]) -> int | None:
    born, studied = _number(row, "PatientBirth"), row["StudyDate_DICOM"].strip()
    if born is None:
        return None
    if not re.fullmatch(r"\d{8}", studied):
        raise ValueError(f"column StudyDate_DICOM: {studied!r} is no date")
    age = int(studied[:4]) - int(born)
    if not 0 <= age <= 120:
        raise ValueError(f"columns StudyDate_DICOM and PatientBirth make the patient {age} years old")
    return age


def _number(row: Mapping[str, str], column: str) -> float | None:
    cell = row[column]
    try:
        number = float(cell)
    except ValueError as error:
        if is_blank(cell):
            return None
        raise ValueError(f"column {column}: {cell!r} is no number") from error
    if number != number:  # pandas prints a missing number as nan
        return None
    if not abs(number) < 1e9:
        raise ValueError(f"column {column}: {cell!r} is out of range")
    return number


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text)
