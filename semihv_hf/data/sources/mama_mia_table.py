"""The tables of MAMA-MIA: clinical and imaging facts, splits, and how good the automatic masks are."""

import zipfile
from collections.abc import Iterator
from typing import Any

from ...errors import SemiHVError
from ..release import Release
from ..schema import Fact
from ..tables import DiskTable
from .base import Item, Skipped
from .release_tables import numbered_rows, require_columns
from .volume_reading import one_line

INFO, SHEET = "clinical_and_imaging_info.xlsx", "dataset_info"
SPLITS = "train_test_splits.csv"
QUALITY = ("automatic_segmentations_quality_scores.csv", "preliminary_automatic_segmentations_quality_scores.csv")
COHORTS = ("DUKE", "ISPY1", "ISPY2", "NACT")
_STATUS = {"0": "negative", "1": "positive"}
_YES = {"0": "no", "1": "yes"}
# Columns that become facts: the fact's name, the words for the table's codes, and a unit. Dates, follow-up, weight,
# ethnicity and site are left out: they describe a person, and no image shows them.
FACTS: dict[str, tuple[str, dict[str, str], str]] = {
    "dataset": ("cohort", {}, ""),
    "age": ("age", {}, ""),
    "menopause": ("menopause", {}, ""),
    "tumor_subtype": ("tumour_subtype", {}, ""),
    "hr": ("hormone_receptor", _STATUS, ""),
    "er": ("oestrogen_receptor", _STATUS, ""),
    "pr": ("progesterone_receptor", _STATUS, ""),
    "her2": ("her2", _STATUS, ""),
    "nottingham_grade": ("nottingham_grade", {}, ""),
    "pcr": ("pathologic_complete_response", _YES, ""),
    "bilateral_breast_cancer": ("bilateral_breast_cancer", _YES, ""),
    "multifocal_cancer": ("multifocal_cancer", _YES, ""),
    "has_implant": ("breast_implant", _YES, ""),
    "bilateral_mri": ("both_breasts_imaged", _YES, ""),
    "fat_suppressed": ("fat_suppressed", _YES, ""),
    "view": ("acquired_plane", {}, ""),
    "field_strength": ("field_strength", {}, " T"),
    "manufacturer": ("manufacturer", {}, ""),
    "slice_thickness": ("slice_thickness", {}, " mm"),
}
_MISSING = ("", "nan", "none", "n/a", "na")
_MAX_PHASES = 99


def patients(release: Release) -> Iterator[Skipped | tuple[str, str | None, dict[str, Any]]]:
    """The patients of the clinical table, joined with the other tables.

    Args:
        release ([`Release`]): the release.

    Yields:
        [`Skipped`] or `tuple`: the patient, the stated split or `None`, and what an item keeps: `num_phases`, `row`
        (the columns of `FACTS`) and `quality`. After them, patients that only the table of splits names.

    Raises:
        `SemiHVError`: the workbook is damaged or lacks the sheet or a column.
    """
    with DiskTable() as seen, DiskTable(_splits(release)) as splits, DiskTable(_quality(release)) as quality:
        for number, row in _sheet_rows(release):
            patient = row.get("patient_id", "")
            if not patient:
                yield Skipped(f"{SHEET}/{number}", "malformed row", "the row names no patient")
            elif not seen.add(patient.lower()):
                yield Skipped(patient, "duplicate row", f"{SHEET} row {number}")
            elif row.get("dataset") not in COHORTS:
                yield Skipped(patient, "unknown label", f"cohort {row.get('dataset')!r} in {SHEET} row {number}")
            else:
                yield _joined(patient, number, row, splits.all(patient.lower()), quality.get(patient.lower()))
        for patient in splits.keys():
            if seen.add(patient):
                name = splits.get(patient)[1]
                yield Skipped(name, "malformed row", f"{SPLITS} names a patient that {SHEET} lacks")


def _joined(patient, number, row, stated, quality) -> Skipped | tuple[str, str | None, dict[str, Any]]:
    phases = row.get("num_phases", "")
    if not phases.isdigit() or not 1 <= int(phases) <= _MAX_PHASES:
        return Skipped(patient, "malformed row", one_line(f"num_phases is {phases!r} in {SHEET} row {number}"))
    named = {split for split, _ in stated}
    if len(named) > 1:
        return Skipped(patient, "malformed row", f"{SPLITS} puts the patient into both splits")
    kept = {column: row[column] for column in FACTS if row.get(column)}
    data = {"num_phases": int(phases), "row": kept, "quality": quality or {}}
    return patient, next(iter(named), None), data


def _sheet_rows(release: Release) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of the sheet with their number, as text; a workbook is read row by row."""
    import openpyxl

    with open(release.path(INFO), "rb") as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise SemiHVError(
                f"{INFO} is no readable workbook: {one_line(str(error))}.", "Download it again."
            ) from error
        try:
            if SHEET not in book.sheetnames:
                raise SemiHVError(
                    f"{INFO} has no sheet {SHEET}, only {', '.join(book.sheetnames)}.", "Is it complete?"
                )
            rows = book[SHEET].iter_rows(values_only=True)
            header = [_text(cell) for cell in next(rows, ())]
            missing = [column for column in ("patient_id", "dataset", "num_phases") if column not in header]
            if missing:
                raise SemiHVError(f"Sheet {SHEET} of {INFO} lacks {', '.join(missing)}.", "Is it the release's table?")
            for number, cells in enumerate(rows, start=2):
                row = dict(zip(header, map(_text, cells)))
                if any(row.values()):  # sheets end in rows that were cleared, not deleted
                    yield number, row
        finally:
            book.close()


def _text(cell: Any) -> str:
    """A cell as text: `""` for what is missing, `"41"` for 41.0."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = " ".join(str(cell).split())
    return "" if text.lower() in _MISSING else text


def _splits(release: Release) -> Iterator[tuple[str, tuple[str, str]]]:
    """Patients with their split: the table has one column for each, of unequal length."""
    if not release.first(SPLITS):
        return
    require_columns(release, "mama_mia", SPLITS, ("train_split", "test_split"))
    for _, row in numbered_rows(release, SPLITS):
        for column, split in (("train_split", "train"), ("test_split", "test")):
            patient = _text(row.get(column))
            if patient:
                yield patient.lower(), (split, patient)


def _quality(release: Release) -> Iterator[tuple[str, dict[str, str]]]:
    table = next((name for name in QUALITY if release.first(name)), None)
    if table is None:
        return
    require_columns(release, "mama_mia", table, ("patient_id",))
    for _, row in numbered_rows(release, table):
        scores = {column: _text(cell) for column, cell in row.items() if column not in ("", "patient_id")}
        yield _text(row.get("patient_id")).lower(), {f"{table} column {key}": value for key, value in scores.items()}


def item_facts(item: Item, plane: str | None, phases: list[str], marked: bool, mask: str) -> list[Fact]:
    """What is known about one slice.

    Args:
        item ([`Item`]): the patient.
        plane (`str` or `None`): the plane of the slice.
        phases (`list[str]`): what each image shows, in order.
        marked (`bool`): whether the mask marks something in the slice.
        mask (`str`): where that stands.

    Returns:
        `list[Fact]`: the facts; what the table leaves open is none.
    """
    stated = "MAMA-MIA data set description"
    facts = [Fact("modality", "MRI", stated), Fact("body_part", "breast", stated)]
    facts.append(Fact("sequence", "dynamic contrast-enhanced", stated))
    facts.append(Fact("phase", ", ".join(phases), "numbers in the names of the volumes, in the order of the images"))
    if plane is not None:
        facts.append(Fact("plane", plane, "NIfTI affine"))
    facts.append(Fact("lesion", "visible" if marked else "not visible", mask))
    for column, value in item.data["row"].items():
        name, words, unit = FACTS[column]
        facts.append(Fact(name, words.get(value, value) + unit, f"{INFO} column {column}"))
    for where, score in item.data["quality"].items():
        if score:
            facts.append(Fact("automatic_segmentation_quality", score, where))
    return facts
