"""Radiology reports cut into their sections, in the layout of MIMIC-CXR.

A heading stands at the start of a line, in capitals, and ends with a colon: ` FINDINGS:  The lungs are clear.` The
rules are those of the reference sectioner of MIMIC-CXR (MIT-LCP/mimic-cxr, txt/section_parser.py): which names mean
the same, that a heading which only names the views opens the findings, that the last section of a name counts, and
which section stands for the report. It differs in four ways: two headings on neighbouring lines are both seen, any
misspelling close to a name is understood, a report without any heading stays whole, and a wet read, an addendum, a
notification or a recommendation never gives the last paragraph.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

PREAMBLE, FULL_REPORT, LAST_PARAGRAPH = "preamble", "full report", "last paragraph"
# Which section says what the images show, best first. Where all others are missing, the radiologist has usually
# written the report behind the comparison.
PREFERENCE = ("impression", "findings", LAST_PARAGRAPH, "comparison")
# What was added before or after the report, or is about people and not about the images.
ASIDES = ("addendum", "notification", "recommendations", "wet read")

_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z ()/,\-]*):(?=\s|\Z)", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_BANNER = re.compile(r"^[ \t]*FINAL REPORT[ \t]*$", re.MULTILINE)
_NEW_ITEM = re.compile(r"\d{1,2}[.)]\s|[-*•]\s")
_SAME = {
    "clinical information": "history",
    "pfi": "history",  # as the reference has it
    "clinical indication": "indication",
    "reason for exam": "indication",
    "reason for examination": "indication",
    "reason for study": "indication",
    "conclusion": "impression",
    "exam": "examination",
    "type of examination": "examination",
    "reference exam": "comparison",
    "recommendation": "recommendations",
    "recommendation(s)": "recommendations",
    "wetread": "wet read",
}
# A longer heading means the first of these that it holds: "FINDINGS AND IMPRESSION" is an impression.
_HELD = ("impression", "findings", "history", "comparison", "addendum", "wet read", "indication", "recommendation")
_KNOWN = (
    "impression", "findings", "history", "comparison", "addendum", "wet read", "indication", "recommendations",
    "examination", "technique", "notification", "date", "comment",
)  # fmt: skip
# Far enough from "compression" to "impression", near enough for every misspelling that the reference lists.
_CLOSE = 0.87
_VIEWS = re.compile(
    r"\b(chest|portable|(one|two|three|frontal|lateral|pa|ap) views?|(pa|ap|frontal|lateral) and|and (lat|lateral)"
    r"|lateral|frontal (semi-)?upright|bone window|ribs)\b"
)


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        name (`str`): what it is, in lower case: `"findings"`, `"impression"`, …, `"preamble"` for what comes before
            the first heading, `"last paragraph"`, `"full report"`, or the heading itself where it is an unknown one.
        heading (`str`): the heading as printed, without the colon; `""` where the section has none.
        text (`str`): what it says, without blanks around it.
    """

    name: str
    heading: str
    text: str


def split_sections(report: str) -> list[Section]:
    """Cuts a report into sections; every word of it is in exactly one heading or text.

    Args:
        report (`str`): the report, `___` where it was de-identified.

    Returns:
        `list[Section]`: in their order, empty sections included; none for a blank report.
    """
    report = report.replace("\r\n", "\n").replace("\r", "\n")
    headings = list(_HEADING.finditer(report))
    if not headings:
        return [Section(FULL_REPORT, "", report.strip())] if report.strip() else []
    sections = []
    if report[: headings[0].start()].strip():
        sections.append(Section(PREAMBLE, "", report[: headings[0].start()].strip()))
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    for heading, end in zip(headings, ends):
        printed = heading[1].strip()
        sections.append(Section(section_name(printed), printed, report[heading.end() : end].strip()))
    return _with_last_paragraph(sections)


def _with_last_paragraph(sections: list[Section]) -> list[Section]:
    """Cuts what follows the first blank line off the last section, where no section describes the images."""
    if find_section(sections, "impression") or find_section(sections, "findings"):
        return sections
    able = [place for place, section in enumerate(sections) if section.text and section.name not in ASIDES]
    if not able or sections[able[-1]].name == PREAMBLE:
        return sections
    last = sections[able[-1]]
    parts = _BLANK_LINE.split(last.text, maxsplit=1)
    if len(parts) < 2:
        return sections
    cut = [Section(last.name, last.heading, parts[0].strip()), Section(LAST_PARAGRAPH, "", parts[1].strip())]
    return [*sections[: able[-1]], *cut, *sections[able[-1] + 1 :]]


def section_name(heading: str) -> str:
    """What a heading means.

    Args:
        heading (`str`): for example `"CLINICAL HISTORY"` or `"IMPRESSON"`.

    Returns:
        `str`: a name such as `"history"` or `"impression"`; the heading in lower case where nothing fits.
    """
    name = " ".join(heading.lower().split())
    if name in _SAME:
        return _SAME[name]
    if name in _KNOWN:
        return name
    held = next((known for known in _HELD if known in name), None)
    if held:
        return "recommendations" if held == "recommendation" else held
    if _VIEWS.search(name):
        return "findings"
    close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=_CLOSE)
    return close[0] if close else name


def find_section(sections: Sequence[Section], name: str) -> Section | None:
    """The section of a name that counts: the last one that says anything.

    Args:
        sections (`Sequence[Section]`): as [`split_sections`] gives them.
        name (`str`): the name.

    Returns:
        [`Section`] or `None`: `None` where there is none.
    """
    return next((section for section in reversed(sections) if section.name == name and section.text), None)


def conclusion(sections: Sequence[Section]) -> Section | None:
    """The section that says what the images show.

    Args:
        sections (`Sequence[Section]`): as [`split_sections`] gives them.

    Returns:
        [`Section`] or `None`: by `PREFERENCE`; the whole of a report without headings; `None` where no section can.
    """
    found = (find_section(sections, name) for name in (*PREFERENCE, FULL_REPORT))
    return next((section for section in found if section), None)


def unwrapped(text: str) -> str:
    """A text with its paragraphs on one line each; numbered and dashed items keep their lines.

    Args:
        text (`str`): lines as a report prints them.

    Returns:
        `str`: the same words; the banner "FINAL REPORT" is left out.
    """
    paragraphs = []
    for paragraph in _BLANK_LINE.split(_BANNER.sub("", text)):
        lines: list[str] = []
        for line in paragraph.split("\n"):
            words = " ".join(line.split())
            if lines and words and not _NEW_ITEM.match(words):
                lines[-1] += f" {words}"
            elif words:
                lines.append(words)
        if lines:
            paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)
