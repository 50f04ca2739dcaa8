"""The Basic Application Level Confidentiality Profile (DICOM PS3.15 Table E.1-1) as handlers of dicognito."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicognito.datetimeanonymizer import DateTimeAnonymizer
from dicognito.element_anonymizer import ElementAnonymizer
from pydicom.datadict import dictionary_has_tag, repeater_has_tag, tag_for_keyword
from pydicom.sequence import Sequence

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

TABLE = "dicomfields_2026c"
# The Retain Patient Characteristics Option (113108), as far as it keeps values unchanged.
CHARACTERISTICS = (
    "EthnicGroup", "PatientAge", "PatientSex", "PatientSexNeutered", "PatientSize", "PatientWeight",
    "PregnancyStatus", "SmokingStatus",
)  # fmt: skip
OLDEST = 89  # years; an older patient is called 90
# What the table empties or replaces and dicognito replaces consistently, so that studies stay together.
_CONSISTENT = ("AccessionNumber", "PatientID", "PatientName", "StudyID")
_DUMMIES = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "UL", "US"), 0),
    "AS": "000Y", "DS": "0", "IS": "0", "OB": b"\0\0", "UN": b"\0\0", "UR": "https://removed.invalid",
}  # fmt: skip
_DATE = re.compile(r"\d{8}|\d{4}\.\d{2}\.\d{2}|")  # the form with points is that of ACR-NEMA
_DATE_TIME = re.compile(r"\d{4}(\d{2}){0,5}(\.\d{1,6})?([+-]\d{4})?|")
_STANDARD_UIDS = "1.2.840.10008."


class BasicProfile(ElementAnonymizer):
    """Removes, empties or replaces the attributes of the table, at every depth of sequences.

    Dates are left to [`ShiftDates`], instance UIDs and a few identifiers to dicognito. Attributes that the DICOM
    dictionary does not know are removed, because nothing is known about what they hold.

    Args:
        done (`collections.Counter`): counts what is done.
        keep (`tuple[str, ...]`, *optional*): keywords of attributes that stay.
    """

    def __init__(self, done: Counter, keep: tuple[str, ...] = ()):
        self.done = done
        self.keep = {tag_for_keyword(keyword) for keyword in keep}
        self.consistent = {tag_for_keyword(keyword) for keyword in _CONSISTENT}
        self.actions = _actions()

    def __call__(self, dataset: "Dataset", data_element: "DataElement") -> bool:
        """Handles one element; `False` leaves it to the next handler."""
        tag, element = data_element.tag, data_element
        if tag in self.keep:
            return self._kept(element)
        if 0x5000 <= tag.group <= 0x50FF or 0x6000 <= tag.group <= 0x60FF:
            return self._remove(dataset, element, "overlays_and_curves_removed")
        if element.VR == "UN" or not (dictionary_has_tag(tag) or repeater_has_tag(tag)):
            return self._remove(dataset, element, "unknown_removed")
        if element.VR in ("DA", "DT") and "Birth" not in element.keyword:
            return False
        if element.VR == "TM" and _date_of(dataset, element):
            return True  # its date is shifted together with it
        action = self.actions.get(tag)
        if action is None:
            return self._empty(element) if element.VR == "PN" and element.value else False
        if action == "X":
            return self._remove(dataset, element)
        if action == "U":
            return False if element.VR == "UI" else self._remove(dataset, element)
        if action == "X/Z/U*":
            return False  # a sequence of references: its UIDs are replaced one by one
        if tag in self.consistent and element.value:
            return False
        if action in ("Z", "X/Z"):
            return self._empty(element)
        return self._replace(dataset, element)

    def describe_actions(self) -> Iterator[str]:
        """Says in words what is done."""
        yield f"Remove, empty or replace what PS3.15 Table E.1-1 ({TABLE}) names, and attributes that are not known"

    def _kept(self, element: "DataElement") -> bool:
        if element.VR == "AS" and str(element.value).endswith("Y") and str(element.value)[:-1].isdecimal():
            if int(str(element.value)[:-1]) > OLDEST:
                element.value = f"{OLDEST + 1:03d}Y"
                self.done["replaced"] += 1
        return True

    def _remove(self, dataset: "Dataset", element: "DataElement", counted: str = "removed") -> bool:
        del dataset[element.tag]
        self.done[counted] += 1
        return True

    def _empty(self, element: "DataElement") -> bool:
        if element.value:
            self.done["emptied"] += 1
        element.value = Sequence() if element.VR == "SQ" else None
        return True

    def _replace(self, dataset: "Dataset", element: "DataElement") -> bool:
        if element.VR not in _DUMMIES:  # a sequence or a time: what could stand in its place says nothing
            return self._remove(dataset, element)
        if element.value not in (None, ""):
            element.value = _DUMMIES[element.VR]
            self.done["replaced"] += 1
        return True


class ShiftDates(ElementAnonymizer):
    """Moves dates, and the times that go with them, by one offset; empties what is no date.

    Args:
        done (`collections.Counter`): counts what is done.
        offset_hours (`int`): by how much.
    """

    def __init__(self, done: Counter, offset_hours: int):
        self.done = done
        self.shift = DateTimeAnonymizer(offset_hours)

    def __call__(self, dataset: "Dataset", data_element: "DataElement") -> bool:
        """Handles one element; `False` leaves it to the next handler."""
        if data_element.VR not in ("DA", "DT") or not data_element.value:
            return False
        try:
            _check_dates(data_element)
            self.shift(dataset, data_element)
            self.done["dates_shifted"] += 1
        except (ValueError, OverflowError, TypeError):  # not a date of the calendar, or before its first year
            data_element.value = None
            time = data_element.keyword.replace("Date", "Time")
            if time != data_element.keyword and time in dataset:
                dataset[time].value = None
            self.done["emptied"] += 1
        return True

    def describe_actions(self) -> Iterator[str]:
        """Says in words what is done."""
        yield from self.shift.describe_actions()


class StandardUIDs(ElementAnonymizer):
    """Keeps the UIDs that DICOM itself registers: they name a kind of thing, not a thing.

    Args:
        done (`collections.Counter`): counts the UIDs that are left to dicognito to replace.
    """

    def __init__(self, done: Counter):
        self.done = done

    def __call__(self, dataset: "Dataset", data_element: "DataElement") -> bool:
        """Handles one element; `False` leaves it to the next handler."""
        if data_element.VR != "UI" or not data_element.value:
            return False
        values = [data_element.value] if isinstance(data_element.value, str) else list(data_element.value)
        if all(str(value).startswith(_STANDARD_UIDS) for value in values):
            return True
        self.done["uids_replaced"] += len(values)
        return False

    def describe_actions(self) -> Iterator[str]:
        """Says in words what is done."""
        yield "Keep UIDs that DICOM registers"


def _check_dates(element: "DataElement") -> None:
    # dicognito parses what begins like a date, so "15.3.2020" would become a day of the year 1532.
    values = [element.value] if isinstance(element.value, str) else list(element.value)
    form = _DATE if element.VR == "DA" else _DATE_TIME
    if not all(form.fullmatch(str(value).strip()) for value in values):
        raise ValueError(f"{element.value!r} is no date")


def _date_of(dataset: "Dataset", element: "DataElement") -> bool:
    keyword = element.keyword.replace("Time", "Date")
    return "Birth" not in keyword and keyword != element.keyword and bool(dataset.get(keyword))


def _actions() -> dict[int, str]:
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    table = dicom_anonymization_database_selector(TABLE)
    names = {
        "D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z/D", "X_Z_TAGS": "X/Z",
        "X_D_TAGS": "X/D", "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U*",
    }  # fmt: skip
    # Entries of four numbers are the repeating groups of curves and overlays, which go as a whole.
    return {tag[0] << 16 | tag[1]: name for key, name in names.items() for tag in table[key] if len(tag) == 2}
