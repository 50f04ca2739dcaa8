"""LLD-MMRI: liver lesions of seven kinds in eight MRI phases, with a box in each slice that shows the lesion.

Two layouts (github.com/LMMMEng/LLD-MMRI2023, main/README.md). The full release has whole volumes and boxes; the
classification release has volumes that were cut out around each lesion. A case is one lesion in one phase, with its
slices as images: a fact such as the phase then holds for every image of the case. The eight cases of a lesion share
their group, which is the patient.
"""

import re
from collections.abc import Iterator
from typing import Any

from ...errors import SemiHVError
from .. import licences
from ..imaging import UnreadableImage, evenly_spaced
from ..messages import message
from ..schema import Case, Fact, Provenance, QuestionTurn, Record, Region, case_id, content_id
from ..tables import DiskTable, shallow_events
from ..volume_slices import (
    StoredVolume,
    percentile_window,
    scaled,
    slice_box,
    slice_picture,
    slice_pixels,
)
from .base import Item, Skipped, Source
from .choices import LETTER_AND_OPTION
from .conversations import record_of, wording
from .volume_reading import one_line, volume_or_skipped

ANNOTATION = "labels/Annotation.json"
# Names of the categories as main/README.md gives them, in plain words.
LESIONS = (
    "hepatic hemangioma",
    "intrahepatic cholangiocarcinoma",
    "hepatic abscess",
    "hepatic metastasis",
    "hepatic cyst",
    "focal nodular hyperplasia",
    "hepatocellular carcinoma",
)
HIDDEN = -1  # the label of the challenge's validation cases
# Series as the releases name them: (fact, value). Spelling is compared without case, blanks and underscores.
PHASES = {
    "t2wi": ("sequence", "T2-weighted"),
    "dwi": ("sequence", "diffusion-weighted"),
    "inphase": ("sequence", "T1-weighted in phase"),
    "outphase": ("sequence", "T1-weighted out of phase"),
    "c-pre": ("phase", "pre-contrast"),
    "c+a": ("phase", "arterial"),
    "c+v": ("phase", "venous"),
    "c+delay": ("phase", "delayed"),
}
CLASSIFICATION_FILES = ("T2WI", "In Phase", "Out Phase", "C+Delay", "C+V", "C-pre", "C+A", "DWI")
# How many slices above and below its box main/preprocess/crop_roi.py keeps of a lesion.
_CROP_MARGIN = 2
PROMPT_VERSION = "LLD-MMRI questions 1"
_QUESTIONS = (
    "Which kind of focal liver lesion does this MRI slice show?",
    "What is the most likely diagnosis of the liver lesion in this MRI slice?",
    "To which of these kinds does the liver lesion belong?",
    "Classify the focal liver lesion in this image.",
)


class LldMmri(Source):
    """The LLD-MMRI release, full or cut for classification.

    Args:
        root (`str` or `pathlib.Path`): the folder with `images/` and `labels/`, or with `classification_dataset/`.
        held_out (`float`, *optional*, defaults to 0.0): the share of patients for the test split.
        seed (`int`, *optional*, defaults to 0): chooses them.
        layout_kind (`str`, *optional*): `"full"` or `"classification"`; by default the full release where its
            annotation is there.
        slices (`int`, *optional*): how many slices of a lesion become images, spread over those that its boxes name.
            By default all of them in the full release, and three in the classification release, which names none.
    """

    name = "lld_mmri"
    layout = (
        (
            f"{ANNOTATION} | classification_dataset/labels/labels*.txt | labels/labels*.txt",
            "boxes of the full release, or labels of the classification release",
        ),
        ("images | classification_dataset/images", "a folder for each patient"),
    )

    def __init__(self, root, *, held_out=0.0, seed=0, layout_kind: str | None = None, slices: int | None = None):
        super().__init__(root, held_out=held_out, seed=seed)
        if slices is not None and slices < 1:
            raise SemiHVError(f"slices is {slices}.", "Give how many slices of a lesion to keep, at least 1.")
        self.slices = slices
        found = "full" if self.release.exists(ANNOTATION) else "classification"
        self.kind = layout_kind or found
        if self.kind not in ("full", "classification"):
            raise SemiHVError(f"Unknown layout {layout_kind!r}.", "Known are full and classification.")
        self.base = "classification_dataset/" if self.release.exists("classification_dataset") else ""
        if layout_kind is not None:
            self._require_kind()

    def _require_kind(self) -> None:
        labels = (f"{self.base}labels/labels*.txt", "labels of the classification release")
        self.release.require(self.name, [(ANNOTATION, "boxes")] if self.kind == "full" else [labels])

    def items(self) -> Iterator[Item | Skipped]:
        """One item a lesion and series. See [`Source.items`]."""
        listed = self._full_items() if self.kind == "full" else self._classification_items()
        with DiskTable() as seen:
            for entry in listed:
                if seen.add(entry.source_id):
                    yield entry
                else:
                    yield Skipped(entry.source_id, "duplicate row", "this lesion of this series is listed above")

    def _full_items(self) -> Iterator[Item | Skipped]:
        for patient, series_list in _patients(self.release):
            if not isinstance(series_list, list):
                yield Skipped(patient, "malformed row", "the patient's entry is no list of series")
                continue
            for number, series in enumerate(series_list):
                yield from self._series_items(patient, number, series)

    def _series_items(self, patient: str, number: int, series: Any) -> Iterator[Item | Skipped]:
        try:
            names = [str(series[key]) for key in ("studyUID", "seriesUID", "phase")]
            lesions = series["annotation"]["lesion"].items()
        except (AttributeError, KeyError, TypeError) as error:
            yield Skipped(f"{patient}/#{number}", "malformed row", one_line(f"series without {error}"))
            return
        study, uid, phase = names
        kept = {key: series[key] for key in ("pixel_spacing", "slice_thickness") if series.get(key) is not None}
        for key, lesion in lesions:
            source_id = f"{patient}/{study}/{uid}/{key}"
            data = {"file": f"images/{patient}/{study}/{uid}.nii.gz", "phase": phase, "patient": patient, **kept}
            yield self._item(source_id, patient, lesion, data, ANNOTATION)

    def _item(self, source_id: str, patient: str, lesion: Any, data: dict, table: str) -> Item | Skipped:
        try:
            category = int(lesion["category"])
        except (KeyError, TypeError, ValueError):
            return Skipped(source_id, "unknown label", f"the lesion in {table} has no category")
        if category != HIDDEN and not 0 <= category < len(LESIONS):
            return Skipped(source_id, "unknown label", f"category {category} in {table}")
        if "bbox" in lesion:
            boxes = _flat_boxes(lesion["bbox"])
            if not boxes:
                return Skipped(source_id, "bad region", f"{table} holds no complete 2D_box of this lesion")
            data = {**data, "boxes": boxes}
        elif self.kind == "full":
            return Skipped(source_id, "bad region", f"{table} holds no box of this lesion")
        # "A case with the label -1 means the data belongs to the validation set" (main/README.md).
        split = self.split_of("validation" if category == HIDDEN else None, patient)
        return Item(source_id, split, {**data, "category": category, "table": table})

    def _classification_items(self) -> Iterator[Item | Skipped]:
        for table in self.release.find(f"{self.base}labels/labels*.txt"):
            with self.release.open_text(table) as text:
                for number, line in enumerate(text, start=1):
                    words = line.split()
                    if not words:
                        continue
                    if len(words) != 2:
                        yield Skipped(f"{table}:{number}", "malformed row", "the line is not an id and a label")
                        continue
                    yield from self._lesion_items(words[0], words[1], table)

    def _lesion_items(self, folder: str, label: str, table: str) -> Iterator[Item | Skipped]:
        patient = re.sub(r"_\d+$", "", folder)  # further lesions of MR-x are MR-x_1, MR-x_2, ...
        for phase in CLASSIFICATION_FILES:
            data = {"file": f"{self.base}images/{folder}/{phase}.nii.gz", "phase": phase, "patient": patient}
            yield self._item(f"{folder}/{phase}", patient, {"category": label}, data, table)

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """See [`Source.read`]."""
        volume = volume_or_skipped(self.release, item.data["file"], item.source_id)
        if isinstance(volume, Skipped):
            yield volume
            return
        try:
            yield self._case(item, volume)
        except UnreadableImage as error:
            yield Skipped(item.source_id, "unreadable image", one_line(f"{error.path}: {error.reason}"))
        except ValueError as error:
            yield Skipped(item.source_id, "bad region", one_line(str(error)))

    def _case(self, item: Item, volume: StoredVolume) -> Case:
        by_slice: dict[int, list[list[float]]] = {}
        depth = volume.data.shape[2]
        for left, top, right, bottom, index in item.data.get("boxes", ()):
            if not (0 <= index < depth and index == int(index)):
                raise ValueError(f"slice {index:g} is not one of {depth}")
            by_slice.setdefault(int(index), []).append(slice_box(volume, (left, top, right, bottom)))
        window = percentile_window(volume.data, volume.name)
        images, regions = [], []
        label = _label(item.data["category"]) or "liver lesion"
        for index in self._chosen(sorted(by_slice), depth):
            picture, scale = slice_picture(slice_pixels(volume, index), window, volume.spacing)
            regions += [
                Region(len(images), label, scaled(box, scale), f"{ANNOTATION} 2D_box of slice {index}")
                for box in by_slice.get(index, ())
            ]
            images.append(picture)
        licence = licences.source_licence(self.name).licence
        return Case(
            case_id(self.name, item.source_id, images), self.name, item.source_id, item.data["patient"], item.split,
            licence, images, _facts(item, volume), [], regions,
        )  # fmt: skip

    def _chosen(self, named: list[int], depth: int) -> list[int]:
        if named:
            if self.slices is None:
                return named
            return [named[place] for place in evenly_spaced(0, len(named) - 1, self.slices)]
        margin = min(_CROP_MARGIN, (depth - 1) // 2)
        return evenly_spaced(margin, depth - 1 - margin, self.slices or 3)

    def records(self, case: Case) -> Iterator[Record | Skipped]:
        """A question for the kind of lesion, with all kinds as options, about the slice in the middle; none where the
        label is hidden. The radiologists' label is the answer; a rule puts it into words."""
        label = case.fact("label")
        if label is None:
            return
        options = sorted(LESIONS, key=lambda name: content_id(case.id, name))
        lines = [f"{letter}. {name}" for letter, name in zip("ABCDEFG", options)]
        question = "\n".join([wording(case.id, _QUESTIONS), *lines, LETTER_AND_OPTION])
        answer = lines[options.index(label.value)]
        yield record_of(
            case,
            "multiple_choice",
            [message("user", question, images=1), message("assistant", answer)],
            ["rule", "rule"],
            images=[case.images[len(case.images) // 2]],
            questions=[QuestionTurn(0, "liver lesion", "closed", lines, label.name, label.source)],
            provenance=[
                Provenance("messages[0]", prompt_version=PROMPT_VERSION),
                Provenance("messages[1]", prompt_version=PROMPT_VERSION, evidence=[f"{label.value} ({label.source})"]),
            ],
        )


def _patients(release) -> Iterator[tuple[str, Any]]:
    """Patient by patient, so that memory does not grow with the file."""
    import ijson

    empty = True
    with open(release.path(ANNOTATION), "rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        try:
            for patient in ijson.kvitems(shallow_events(file), "Annotation_info"):
                empty = False
                yield patient
        except ijson.JSONError as error:
            raise SemiHVError(
                f"{ANNOTATION} is no valid JSON: {one_line(str(error))}.", "Download it again."
            ) from error
    if empty:
        raise SemiHVError(f"{ANNOTATION} lists no patient under Annotation_info.", "Is it the release's own file?")


def _flat_boxes(bbox: Any) -> list[list[float]]:
    """The 2-D boxes as x_min, y_min, x_max, y_max, slice; empty where one lacks a number."""
    names = ("x_min", "y_min", "x_max", "y_max", "slice_idx")
    try:
        return [[float(box[name]) for name in names] for box in bbox["2D_box"]]
    except (KeyError, TypeError, ValueError):
        return []


def _label(category: int) -> str | None:
    return None if category == HIDDEN else LESIONS[category]


def _facts(item: Item, volume: StoredVolume) -> list[Fact]:
    data, stated = item.data, "LLD-MMRI data set description"
    where = f"{ANNOTATION} field phase" if data["table"] == ANNOTATION else "name of the volume's file"
    name, value = PHASES.get(re.sub(r"[\s_]", "", data["phase"]).lower(), ("sequence", data["phase"]))
    facts = [Fact("modality", "MRI", stated), Fact("body_part", "liver", stated), Fact(name, value, where)]
    # What was cut out of a volume by crop_roi.py has lost how it lay in the patient.
    if volume.plane is not None and data["table"] == ANNOTATION:
        facts.append(Fact("plane", volume.plane, "NIfTI affine"))
    label = _label(data["category"])
    if label is not None:
        field = "field category" if data["table"] == ANNOTATION else "column label"
        facts.append(Fact("label", label, f"{data['table'].rpartition('/')[2]} {field}"))
    if "slice_thickness" in data:
        facts.append(Fact("slice_thickness", f"{data['slice_thickness']} mm", f"{ANNOTATION} field slice_thickness"))
    return facts
