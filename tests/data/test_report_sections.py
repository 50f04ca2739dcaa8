"""Reports cut into sections: real layouts with their defects, and no word is ever lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semihv_hf.data.report_sections import (
    PREFERENCE,
    conclusion,
    find_section,
    section_name,
    split_sections,
    unwrapped,
)

BANNER = "                                 FINAL REPORT\n"
# Lines begin with a blank, and a line of one blank parts the sections.
FULL = BANNER + "\n \n".join(
    [
        " EXAMINATION:  CHEST (PA AND LAT)", " INDICATION:  ___M after a drawn fall  // broken rib?",
        " TECHNIQUE:  Two views", " COMPARISON:  ___.",
        " FINDINGS: ", " The drawn lungs are clear, and the drawn\n ribs are whole.  The heart is round.",
        " IMPRESSION: ", " No broken rib.\n",
    ]
)  # fmt: skip


def named(report):
    return [(section.name, section.text) for section in split_sections(report)]


def told(report):
    best = conclusion(split_sections(report))
    return best and (best.name, unwrapped(best.text))


def test_a_full_report_has_its_sections_in_order():
    sections = split_sections(FULL)
    names = ["preamble", "examination", "indication", "technique", "comparison", "findings", "impression"]
    assert [section.name for section in sections] == names
    assert find_section(sections, "indication").text == "___M after a drawn fall  // broken rib?"
    findings = "The drawn lungs are clear, and the drawn ribs are whole. The heart is round."
    assert unwrapped(find_section(sections, "findings").text) == findings
    assert told(FULL) == ("impression", "No broken rib.")


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("IMPRESSION", "impression"), ("CONCLUSION", "impression"), ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/ IMPRESSION", "impression"), ("IMPRESSON", "impression"), ("IMPERSSION", "impression"),
        ("FINIDNGS", "findings"), ("FINDING", "findings"), ("CHEST, TWO VIEWS", "findings"),
        ("PORTABLE AP CHEST RADIOGRAPH", "findings"), ("FRONTAL AND LATERAL VIEWS OF THE CHEST", "findings"),
        ("CLINICAL HISTORY", "history"), ("CLINICAL INFORMATION", "history"), ("COMPARISIONS", "comparison"),
        ("REFERENCE EXAM", "comparison"), ("REASON FOR EXAMINATION", "indication"), ("IDICATION", "indication"),
        ("EXAM", "examination"), ("RECOMMENDATION(S)", "recommendations"), ("WETREAD", "wet read"),
        ("ADDENDUM", "addendum"), ("COMPRESSION", "compression"), ("NOTE", "note"),
    ],
)  # fmt: skip
def test_headings_that_mean_the_same_have_one_name(heading, name):
    assert section_name(heading) == name
    assert named(f" {heading}:  x\n")[0] == (name, "x")


LAYOUTS = {
    "the last section of a name counts": (
        " FINDINGS:  Old.\n IMPRESSION:  Old.\n \n FINDINGS:  New.\n IMPRESSION:  New.\n", ("impression", "New.")),
    "an empty section does not count": (
        " IMPRESSION:  Clear.\n IMPRESSION:\n \n", ("impression", "Clear.")),
    "a title that looks like a heading is empty": (
        " CHEST, PA LATERAL:\n \n INDICATION:  Cough.\n \n IMPRESSION:  Clear.\n", ("impression", "Clear.")),
    "headings on neighbouring lines are both seen": (
        " FINDINGS:\n IMPRESSION:  Clear.\n", ("impression", "Clear.")),
    "a view opens the findings": (
        " HISTORY:  Fall.\n \n CHEST, AP:  Clear ___.\n", ("findings", "Clear ___.")),
    "without findings the paragraph after the first counts": (
        BANNER + " CHEST RADIOGRAPHS PERFORMED ON ___\n \n COMPARISON:  ___.\n \n The lungs are\n clear.\n",
        ("last paragraph", "The lungs are clear.")),
    "the comparison is the report where there is nothing else": (
        " INDICATION:  Cough.\n COMPARISON:  No change since ___.\n", ("comparison", "No change since ___.")),
    "a wet read is not the report": (
        " WET READ: ___ ___ 10:15 PM\n  Clear.\n \n More.\n______\n" + BANNER + " IMPRESSION:  Effusion.\n",
        ("impression", "Effusion.")),
    "an addendum after the report is not its impression": (
        " IMPRESSION:  Clear.\n \n ADDENDUM:  Dr. ___ was told.\n", ("impression", "Clear.")),
    "an addendum with an impression of its own replaces it": (
        " IMPRESSION:  Clear.\n \n ADDENDUM:\n IMPRESSION:  Effusion.\n", ("impression", "Effusion.")),
    "a notification gives no last paragraph": (
        " COMPARISON:  None.\n \n Clear lungs.\n \n NOTIFICATION:  Told\n \n by phone.\n",
        ("last paragraph", "Clear lungs.")),
    "a report without headings stays whole": (
        BANNER + " PORTABLE CHEST ___.\n \n Clear lungs.\n", ("full report", "PORTABLE CHEST ___.\n\nClear lungs.")),
    "a colon inside a sentence is no heading": (
        " FINDINGS:  Two devices: A PICC LINE: right.\n Seen: both.\n",
        ("findings", "Two devices: A PICC LINE: right. Seen: both.")),
    "items keep their lines": (
        " IMPRESSION:\n 1.  Clear\n lungs.\n 2. Normal heart.\n", ("impression", "1. Clear lungs.\n2. Normal heart.")),
    "carriage returns are line ends": (
        " FINDINGS:  Clear.\r\n IMPRESSION:  Normal.\r\n", ("impression", "Normal.")),
    "lines without the leading blank are read, too": (
        "FINDINGS: Clear.\nIMPRESSION: Normal.", ("impression", "Normal.")),
    "only what was done says nothing": (" EXAMINATION:  CHEST\n TECHNIQUE:  AP\n", None),
    "a heading at the very end is empty": (" TECHNIQUE:  AP\n IMPRESSION:", None),
    "a blank report says nothing": (" \n \n", None),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_stands_for_the_report(layout):
    report, expected = LAYOUTS[layout]
    assert told(report) == expected


def words(*texts):
    return "".join("".join(texts).split())


HEADINGS = st.sampled_from(
    ["EXAMINATION", "INDICATION", "HISTORY", "COMPARISON", "FINDINGS", "IMPRESSION", "WET READ", "ADDENDUM",
     "RECOMMENDATION(S)", "CHEST, TWO VIEWS", "IMPRESSON"]
)  # fmt: skip
PARAGRAPH = st.lists(st.sampled_from(["clear", "___", "effusion.", "no", "1.", "heart:"]), min_size=1).map(" ".join)
BODY = st.lists(PARAGRAPH, max_size=3).map("\n \n ".join)
REPORTS = st.tuples(
    st.sampled_from(["", BANNER, BANNER + " CHEST ___\n \n"]), st.lists(st.tuples(HEADINGS, BODY), max_size=6)
)


@given(REPORTS)
def test_every_section_is_found_and_the_last_one_that_says_anything_counts(parts):
    opening, bodies = parts
    report = opening + "".join(f" {heading}:  {body}\n \n" for heading, body in bodies)
    sections = split_sections(report)
    headed = [section for section in sections if section.heading]
    assert [(section.heading, section.name) for section in headed] == [(h, section_name(h)) for h, _ in bodies]
    for name in ("findings", "impression"):
        said = [body for heading, body in bodies if section_name(heading) == name and body]
        found = find_section(sections, name)
        assert words(found.text if found else "") == words(said[-1] if said else "")
    best = conclusion(sections)
    present = [name for name in PREFERENCE if find_section(sections, name)]
    assert (best.name if best else None) in ([present[0]] if present else [None, "full report"])


@given(
    st.one_of(st.text(), st.text(alphabet=" \n\r\tAB:(_),-/1.x"), REPORTS.map(lambda parts: parts[0] + str(parts[1])))
)
def test_no_word_of_any_text_is_lost_or_moved(report):
    sections = split_sections(report)
    pieces = [f"{section.heading}:{section.text}" if section.heading else section.text for section in sections]
    assert words(*pieces) == words(report)
    assert words(unwrapped(report)) == words(report.replace("\r", "\n")) or "FINAL REPORT" in report
    assert unwrapped(unwrapped(report)) == unwrapped(report)
