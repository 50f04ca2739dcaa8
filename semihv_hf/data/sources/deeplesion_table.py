"""The table of DeepLesion, `DL_info.csv`: one row a lesion, several numbers joined in a cell, coordinates from 1."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..list_columns import is_blank, parse_numbers
from ..release import Release
from .base import Skipped
from .release_tables import numbered_rows

TABLE = "DL_info.csv"
COLUMNS = (
    "File_name", "Patient_index", "Study_index", "Series_ID", "Key_slice_index", "Measurement_coordinates",
    "Bounding_boxes", "Lesion_diameters_Pixel_", "Normalized_lesion_location", "Coarse_lesion_type", "Possibly_noisy",
    "Slice_range", "Spacing_mm_px_", "Image_size", "DICOM_windows", "Patient_gender", "Patient_age", "Train_Val_Test",
)  # fmt: skip
# The order is that of the release's readme as public readers of the table repeat it; it could not be checked against
# the readme itself. Types are given for the validation and test splits only; elsewhere the column holds -1.
LESION_TYPES = {
    1: "bone", 2: "abdomen", 3: "mediastinum", 4: "liver", 5: "lung", 6: "kidney", 7: "soft tissue", 8: "pelvis",
}  # fmt: skip
UNKNOWN_TYPE = -1
SPLITS = {"1": "train", "2": "validation", "3": "test"}
SEXES = {"F": "female", "M": "male"}
# The release draws a box around both diameters and widens it by this much, so it may pass the edge of the image.
BOX_MARGIN = 5.0


class BadRegion(ValueError):
    """A box that does not lie in its image."""


def lesion_rows(release: Release) -> Iterator[tuple[str, dict[str, Any]] | Skipped]:
    """Reads the table.

    Args:
        release ([`Release`]): the release.

    Yields:
        `tuple[str, dict]` or [`Skipped`]: the key slice and one lesion in it as [`parse_lesion`] gives it, or a row
        that cannot be used: malformed, of an unknown type, or with a box outside its image.
    """
    for number, row in numbered_rows(release, TABLE):
        name = row["File_name"].strip()
        source_id = f"{name or 'no name'} in row {number}"
        try:
            lesion = parse_lesion(row)
        except BadRegion as error:
            yield Skipped(source_id, "bad region", str(error))
        except ValueError as error:
            yield Skipped(source_id, "malformed row", str(error))
        else:
            if lesion["type"] != UNKNOWN_TYPE and lesion["type"] not in LESION_TYPES:
                yield Skipped(source_id, "unknown label", f"Coarse_lesion_type is {lesion['type']}, not -1 or 1 to 8")
            else:
                yield name, {"row": number, **lesion}


def parse_lesion(row: Mapping[str, str]) -> dict[str, Any]:
    """Reads the cells of one row; coordinates are turned to count from 0.

    Args:
        row (`Mapping[str, str]`): a row by the names of its columns.

    Returns:
        `dict[str, Any]`: the lesion, as JSON can hold it.

    Raises:
        [`BadRegion`]: the box lies outside the image.
        `ValueError`: a cell is not what the release's description says; the message names the column.
    """
    if row.get(""):
        raise ValueError("the row has more cells than the table has columns")
    name = row["File_name"].strip()
    if not name.lower().endswith(".png") or name.count("_") < 3:
        raise ValueError(f"column File_name: {name!r} is not patient_study_series_slice.png")
    split = row["Train_Val_Test"].strip()
    if split not in SPLITS:
        raise ValueError(f"column Train_Val_Test: {split!r} is not 1, 2 or 3")
    low, high = _numbers(row, "DICOM_windows", 2)
    if not low < high:
        raise ValueError(f"column DICOM_windows: {row['DICOM_windows']!r} is no window")
    spacing = _numbers(row, "Spacing_mm_px_", 3)
    width, height = _numbers(row, "Image_size", 2)
    first, last = _numbers(row, "Slice_range", 2)
    return {
        "patient": name.split("_")[0],
        "slice": _integer(row, "Key_slice_index"),
        "slices": [int(first), int(last)],
        "box": _box(row, width, height),
        "measured": [value - 1 for value in _numbers(row, "Measurement_coordinates", 8)],
        "diameters_mm": [round(value * spacing[0], 1) for value in _numbers(row, "Lesion_diameters_Pixel_", 2)],
        "type": _integer(row, "Coarse_lesion_type"),
        "noisy": _integer(row, "Possibly_noisy") > 0,
        "spacing": spacing,
        "size": [int(width), int(height)],
        "window": [low, high],
        "sex": SEXES.get(row["Patient_gender"].strip().upper(), ""),
        "age": _age(row),
        "split": SPLITS[split],
    }


def _box(row: Mapping[str, str], width: float, height: float) -> list[float]:
    """Left, top, right and bottom from 0, the last two exclusive, without what the margin puts outside the image.

    The column counts from 1 and includes the last pixel, so its right and bottom are exclusive ones from 0 already.
    """
    left, top, right, bottom = _numbers(row, "Bounding_boxes", 4)
    box = [left - 1, top - 1, right, bottom]
    if not (box[0] < box[2] and box[1] < box[3]):
        raise BadRegion(f"column Bounding_boxes: {row['Bounding_boxes']!r} is not left < right and top < bottom")
    outside = max(-box[0], -box[1], box[2] - width, box[3] - height)
    inside = [max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)]
    if outside > BOX_MARGIN + 1 or not (inside[0] < inside[2] and inside[1] < inside[3]):
        raise BadRegion(
            f"column Bounding_boxes: {row['Bounding_boxes']!r} lies outside an image of {width:.0f} x {height:.0f}"
        )
    return [round(value, 4) for value in inside]


def _numbers(row: Mapping[str, str], column: str, count: int) -> list[float]:
    try:
        return parse_numbers(row[column], count)
    except ValueError as error:
        raise ValueError(f"column {column}: {error}") from error


def _integer(row: Mapping[str, str], column: str) -> int:
    number = _numbers(row, column, 1)[0]
    if number != int(number):
        raise ValueError(f"column {column}: {row[column]!r} is no whole number")
    return int(number)


def _age(row: Mapping[str, str]) -> int | None:
    # Some patients have no age, which the table prints as NaN; 0 is what some copies hold instead.
    return None if is_blank(row["Patient_age"]) else _integer(row, "Patient_age") or None
