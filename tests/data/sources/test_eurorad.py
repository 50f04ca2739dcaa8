"""Eurorad: both files it is read from, the date rule, permission files, and titles that file names cannot hold."""

import hashlib
import io
import json
import pickle
import zipfile
from datetime import date

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.case_folders import CaseFolders, folder_name
from semihv_hf.data.sources.eurorad import Eurorad
from semihv_hf.data.sources.eurorad_permission import read_permission
from semihv_hf.data.sources.publication_dates import earliest_day
from semihv_hf.errors import SemiHVError


def picture(seed, kind="JPEG"):
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 10), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def entry(title, images=("fig1",), published="2016-05-04", **fields):
    row = {
        "title": title,
        "CLINICAL_HISTORY": f"History of {title}.",
        "IMAGING_FINDINGS": f"Findings of {title}.",
        "DISCUSSION": f"Discussion of {title}.",
        "FINAL_DIAGNOSIS": f"Diagnosis of {title}",
        "img": [{"img_id": name, "img_alt2": f"Caption of {name}."} for name in images],
        "published": published,
    }
    row.update(fields)
    return {name: value for name, value in row.items() if value is not None}


ODD = "Gastric volvulus? A/P film: early [type 1] Sign"


@pytest.fixture
def release(tmp_path):
    rows = [
        entry("Lung cyst", ("1", "2", "3")),
        entry(ODD, ("fig1",)),
        entry("Old case", published="2015-07-05"),
        entry("First free case", published="6 July 2015"),
        entry("Undated case", published=None),
        entry("Badly dated case", published="soon"),
        entry("Lung cyst"),
        entry("Torn image", ("1", "2")),
        entry("Missing image", ("1", "9")),
        entry("No image", ()),
        entry("No text", IMAGING_FINDINGS="", DISCUSSION=None, img=[{"img_id": "1", "img_alt2": None}]),
        entry("", ("1",)),
        "not a case",
        entry("Nameless image", img=[{"img_alt2": "?"}]),
        entry(
            "With id", ("1",), id=18001, date="04/05/2019", published=None, url="https://www.eurorad.org/case/18001"
        ),
    ]
    (tmp_path / "eurorad.json").write_text(json.dumps(rows), encoding="utf-8-sig")
    for number, name in enumerate(("1.JPG", "2.png", "3.jpeg")):
        put(tmp_path / "lung_cyst" / name, picture(number, "PNG" if "png" in name else "JPEG"))
    put(tmp_path / folder_name(ODD) / "fig1.jpg", picture(10))
    for number, title in enumerate(("Old case", "First free case", "Undated case", "Badly dated case")):
        put(tmp_path / folder_name(title) / "fig1.jpg", picture(20 + number))
    put(tmp_path / "Torn_image" / "1.jpg", picture(30))
    put(tmp_path / "Torn_image" / "2.jpg", picture(31)[:-40])
    put(tmp_path / "Missing_image" / "1.jpg", picture(32))
    put(tmp_path / "No_text" / "1.jpg", picture(33))
    put(tmp_path / "With_id" / "1.jpg", picture(34))
    put(
        tmp_path / "EURORAD_implement" / "Lung_cyst.txt",
        b"\xef\xbb\xbf1: A cyst: thin wall.\n\n3: \n9: Elsewhere.\nnotes\n",
    )
    return tmp_path


def read_all(source):
    listed = list(source.items())
    read = [row for item in listed if isinstance(item, Item) for row in source.read(item)]
    cases = {row.source_id: row for row in read if isinstance(row, Case)}
    return listed, cases, [row for row in [*listed, *read] if isinstance(row, Skipped)]


def permit(tmp_path, **fields):
    entry = {
        "cases": ["old CASE"], "author": "Dr A. Submitter", "date": "2026-01-31",
        "statement": "I permit the use of my case for training a model, as described in my letter.",
    }  # fmt: skip
    path = tmp_path / "permission.json"
    path.write_text(json.dumps({"permissions": [{**entry, **fields}]}))
    return path


def test_every_case_is_read_once_or_left_out_for_a_reason(release):
    listed, cases, skipped = read_all(Eurorad(release))
    assert sorted(cases) == sorted(["Lung cyst", ODD, "First free case", "18001"])
    assert {row.source_id: row.reason for row in skipped} == {
        "Old case": "date rule",
        "Undated case": "date rule",
        "Badly dated case": "date rule",
        "Lung cyst": "duplicate row",
        "Torn image": "unreadable image",
        "Missing image": "missing image",
        "No image": "missing image",
        "No text": "missing text",
        "eurorad.json/12": "malformed row",
        "eurorad.json/13": "malformed row",
        "eurorad.json/14": "malformed row",
    }
    assert len(listed) == 15 == len(cases) + len(skipped)
    assert not any(str(release) in row.detail for row in skipped)


def test_all_images_of_a_case_are_used_with_the_radiologists_texts(release):
    case = read_all(Eurorad(release))[1]["Lung cyst"]
    assert len(case.images) == 3
    texts = [(text.role, text.annotation, text.image, text.text) for text in case.texts]
    assert texts == [
        ("history", "human", None, "History of Lung cyst."),
        ("findings", "human", None, "Findings of Lung cyst."),
        ("discussion", "human", None, "Discussion of Lung cyst."),
        ("diagnosis", "human", None, "Diagnosis of Lung cyst"),
        ("caption", "human", 0, "Caption of 1."),
        ("caption", "machine", 0, "A cyst: thin wall."),
        ("caption", "human", 1, "Caption of 2."),
        ("caption", "human", 2, "Caption of 3."),
    ]
    facts = {fact.name: (fact.value, fact.source) for fact in case.facts}
    assert facts["published"] == ("2016-05-04", "eurorad.json field published")
    assert case.licence == "CC-BY-4.0" and case.source == "eurorad"


def test_cases_with_a_damaged_image_can_be_kept_without_it(release):
    _, cases, skipped = read_all(Eurorad(release, incomplete=True))
    assert len(cases["Torn image"].images) == 1
    assert [text.image for text in cases["Torn image"].texts if text.role == "caption"] == [0]
    lost = {row.source_id: row.reason for row in skipped if "/image " in row.source_id}
    assert lost == {"Torn image/image 2": "unreadable image", "Missing image/image 9": "missing image"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015-07-06", date(2015, 7, 6)),
        ("2019-03-02T10:00:00Z", date(2019, 3, 2)),
        ("06.07.2015", date(2015, 7, 6)),
        ("Published on 6 July 2015", date(2015, 7, 6)),
        ("July 6th, 2015", date(2015, 7, 6)),
        ("07/06/2015", date(2015, 6, 7)),
        ("06/07/2015", date(2015, 6, 7)),  # Europe means 6 July, America 7 June
        ("25/12/2015", date(2015, 12, 25)),
        ("2015", date(2015, 1, 1)),
        ("Jul 2015", date(2015, 7, 1)),
        ("31.02.2016", None),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_a_day_is_the_earliest_that_a_text_may_mean(text, expected):
    assert earliest_day(text) == expected


def test_dates_can_come_from_a_table(release, tmp_path_factory):
    table = tmp_path_factory.mktemp("dates") / "dates.csv"
    table.write_text("\ufeffTitle,Date\nundated  CASE,2017-01-02\nBadly dated case,2017-01-02\nOld case,2020-01-01\n")
    _, cases, skipped = read_all(Eurorad(release, dates=str(table)))
    assert cases["Undated case"].fact("published").value == "2017-01-02"
    assert cases["Undated case"].fact("published").source == "table of dates, column date"
    # What the case says itself is not overruled by the table.
    assert {row.source_id for row in skipped if row.reason == "date rule"} == {"Old case", "Badly dated case"}
    table.write_text("name,when\n")
    with pytest.raises(SemiHVError, match="columns name, when"):
        Eurorad(release, dates=str(table))
    with pytest.raises(SemiHVError, match="no table of dates"):
        Eurorad(release, dates=str(table) + "x")


def test_permission_opens_the_cases_it_names_and_is_recorded_with_them(release, tmp_path_factory):
    path = permit(tmp_path_factory.mktemp("permission"))
    source = Eurorad(release, permission=str(path))
    _, cases, skipped = read_all(source)
    fact = cases["Old case"].fact("permission")
    assert fact.value.startswith("Dr A. Submitter, 2026-01-31: I permit the use")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == source.permission.sha256 in fact.source
    assert cases["Lung cyst"].fact("permission") is None  # needs none
    assert {row.source_id for row in skipped if row.reason == "date rule"} == {"Undated case", "Badly dated case"}


def test_permission_for_all_cases_opens_undated_ones_too(release, tmp_path_factory):
    path = permit(tmp_path_factory.mktemp("permission"), cases="all")
    _, cases, skipped = read_all(Eurorad(release, permission=str(path)))
    assert {"Old case", "Undated case", "Badly dated case"} <= set(cases)
    assert not any(row.reason == "date rule" for row in skipped)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"author": ""}, "no author"),
        ({"statement": "ok"}, "fewer than 40"),
        ({"date": "2999-01-01"}, "no day up to today"),
        ({"date": "some day"}, "no day up to today"),
        ({"cases": []}, "lists no `cases`"),
        ({"cases": None}, "lists no `cases`"),
        ({"cases": [True]}, "lists no `cases`"),
    ],
)
def test_permission_that_lacks_something_is_refused(release, tmp_path, fields, problem):
    with pytest.raises(SemiHVError, match=problem):
        Eurorad(release, permission=str(permit(tmp_path, **fields)))


def test_permission_file_may_be_yaml_and_must_be_one(tmp_path):
    path = tmp_path / "permission.yaml"
    statement = "statement: I permit the use of these two cases for training and testing models."
    path.write_text(f"- cases: [1234, Another case]\n  author: Dr B\n  date: 2025-02-03\n  {statement}\n")
    permission = read_permission(path)
    assert permission.fact("1234", "whatever") and permission.fact("", "another  case")
    assert permission.fact("12345", "Another") is None
    for content in ("[", "permissions: []", "just text", "- 5"):
        path.write_text(content)
        with pytest.raises(SemiHVError, match="permission.yaml"):
            read_permission(path)


def test_titles_are_found_although_file_names_cannot_hold_them(tmp_path):
    from semihv_hf.data.release import Release

    for name in ("Cafe\u0301_au_lait", "What_is_this_", "Sign  plain", "Twin- a", "Twin_-a"):
        (tmp_path / "cases" / name).mkdir(parents=True)
    folders = CaseFolders(Release(tmp_path), ("absent", "cases"))
    assert folder_name("A/B? c") == "A_B__c"
    assert folders.find("caf\u00e9 AU lait") == "cases/Cafe\u0301_au_lait"  # composed and decomposed accents
    assert folders.find("What is this?") == "cases/What_is_this_"
    assert folders.find('Sign: "plain"') == "cases/Sign  plain"  # a colon and quotes were dropped
    assert folders.find("Twin: a") is None  # two folders would fit
    assert folders.find("???") is None
    assert pickle.loads(pickle.dumps(folders)).find("What is this?") == "cases/What_is_this_"


def test_records_ask_for_findings_discussion_and_captions(release):
    source = Eurorad(release)
    case = read_all(source)[1]["Lung cyst"]
    records = list(source.records(case))
    assert [record.task for record in records] == ["report", "case", "caption", "caption", "caption"]
    report, discussion, *captions = records
    for record in records:
        validate_record(record.row())
    assert message_text(report.messages[0]).startswith("Clinical history: History of Lung cyst.")
    assert message_text(report.messages[1]) == "Findings of Lung cyst."
    assert report.images == case.images and report.annotation == ["rule", "human"]
    asked = message_text(discussion.messages[0])
    assert "Image 1: Caption of 1.\nImage 2: Caption of 2.\nImage 3: Caption of 3." in asked
    assert "Discussion" not in asked and "Diagnosis" not in asked
    assert message_text(discussion.messages[1]) == (
        "Discussion of Lung cyst.\n\nFinal diagnosis: Diagnosis of Lung cyst"
    )
    assert [(message_text(record.messages[1]), record.images) for record in captions] == [
        (f"Caption of {number + 1}.", [case.images[number]]) for number in range(3)
    ]


def test_reformatted_captions_replace_the_original_ones_on_request(release):
    source = Eurorad(release, captions="reformatted")
    captions = [record for record in source.records(read_all(source)[1]["Lung cyst"]) if record.task == "caption"]
    told = [(message_text(record.messages[1]), record.annotation[1]) for record in captions]
    assert told == [("A cyst: thin wall.", "machine"), ("Caption of 2.", "human"), ("Caption of 3.", "human")]
    with pytest.raises(SemiHVError, match="captions"):
        Eurorad(release, captions="new")


def test_images_may_lie_in_another_folder_or_in_an_archive(tmp_path):
    (tmp_path / "eurorad.json").write_text(json.dumps([entry("Case one", ("7",)), entry("Case two", ("8",))]))
    put(tmp_path / "pictures" / "Case_one" / "7.jpg", picture(1))
    source = Eurorad(tmp_path, images="pictures")
    assert sorted(read_all(source)[1]) == ["Case one"]
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("base/Case_two/8.jpg", picture(2))
    assert sorted(read_all(Eurorad(tmp_path, images="pictures"))[1]) == ["Case one", "Case two"]
    with pytest.raises(SemiHVError, match="no folder photos"):
        Eurorad(tmp_path, images="photos")


def test_image_outside_the_release_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    put(tmp_path / "secret" / "1.jpg", picture(1))
    (tmp_path / "in" / "eurorad.json").write_text(json.dumps([entry("Case", ("../../secret/1.jpg",))]))
    (tmp_path / "in" / "Case").mkdir()
    _, cases, skipped = read_all(Eurorad(tmp_path / "in"))
    assert not cases and [row.reason for row in skipped] == ["unsafe file"]
    (tmp_path / "in" / "eurorad.json").write_text(json.dumps([entry("Case", ("1",))]))
    (tmp_path / "in" / "Case").rmdir()
    (tmp_path / "in" / "Case").symlink_to(tmp_path / "secret")
    _, cases, skipped = read_all(Eurorad(tmp_path / "in"))
    assert not cases and [row.reason for row in skipped] == ["unsafe file"]


@pytest.fixture
def medthink(tmp_path):
    columns = {
        "title": "Splenic cyst", "CLINICAL_HISTORY": "Pain.", "IMAGING_FINDINGS": "A cyst.", "discussion": "Rare.",
        "options": {"A": "Abscess", "B": "Cyst", "C": "Haemangioma", "D": "Lymphoma", "E": "Infarct"},
        "correct_answer": "B", "correct_answer_text": "Cyst", "ICD Chapter": "Digestive", "image_count": 2,
        "image_01_id": "a", "image_01_path": "images/one.jpg", "image_01_caption": "CT.", "image_01_modality": "CT",
        "image_01_sub_modality": "CT with contrast", "image_02_id": "b", "image_02_path": "images/two.png",
        "image_02_caption": "US.", "image_02_modality": "Ultrasound", "image_02_sub_modality": None,
        "image_03_id": None, "image_03_path": None,
    }  # fmt: skip
    for split, title in (("train", "Splenic cyst"), ("test", "Hepatic cyst")):
        table = pyarrow.Table.from_pylist([{**columns, "title": title}])
        (tmp_path / "data").mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    put(tmp_path / "images/one.jpg", picture(1))
    put(tmp_path / "images/two.png", picture(2, "PNG"))
    (tmp_path / "dates.csv").write_text("title,published\nSplenic cyst,2018-01-01\nHepatic cyst,2019-01-01\n")
    return tmp_path


def test_medthinkvqa_needs_days_of_publication_and_brings_its_own_licence(medthink):
    listed, cases, skipped = read_all(Eurorad(medthink))
    assert not cases and [row.reason for row in skipped] == ["date rule"] * 2 and len(listed) == 2
    source = Eurorad(medthink, dates=str(medthink / "dates.csv"))
    _, cases, skipped = read_all(source)
    assert not skipped and [(row.source_id, row.split) for row in cases.values()] == [
        ("Hepatic cyst", "test"), ("Splenic cyst", "train"),
    ]  # fmt: skip
    case = cases["Splenic cyst"]
    assert (case.source, case.licence) == ("medthinkvqa", "CC-BY-NC-SA-4.0")
    assert case.fact("modality") is None and case.fact("modalities").value == "CT, ultrasound"
    assert case.fact("icd chapter").value == "Digestive"
    validate_case(case.row())


def test_medthinkvqa_asks_for_the_diagnosis_among_its_options(medthink):
    source = Eurorad(medthink, dates=str(medthink / "dates.csv"))
    case = read_all(source)[1]["Splenic cyst"]
    records = list(source.records(case))
    assert [record.task for record in records] == ["report", "case", "multiple_choice", "caption", "caption"]
    for record in records:
        validate_record(record.row())
    question = records[2]
    asked = message_text(question.messages[0])
    assert asked.startswith("Clinical history: Pain.") and "A. Abscess\nB. Cyst\nC. Haemangioma" in asked
    assert message_text(question.messages[1]) == "B. Cyst" and question.annotation == ["rule", "human"]
    assert len(question.questions[0].options) == 5


def test_every_row_is_valid_and_reading_repeats_after_pickling(release):
    source = Eurorad(release, held_out=0.5, seed=1)
    items = [item for item in source.items() if isinstance(item, Item)]
    assert list(source.items()) == list(source.items())
    json.dumps([item.data for item in items])
    other = pickle.loads(pickle.dumps(source))
    rows = [row for item in items for row in source.read(item)]
    assert [row for item in items for row in other.read(item)] == rows
    cases = [row for row in rows if isinstance(row, Case)]
    assert len(cases) == 4
    for case in cases:
        validate_case(case.row())


def test_wrong_and_empty_files_are_one_clear_error(tmp_path):
    with pytest.raises(SemiHVError, match=r"eurorad.json.*MedThinkVQA.*Found: nothing"):
        Eurorad(tmp_path)
    (tmp_path / "eurorad.json").write_bytes(b"")  # as in the authors' repository
    with pytest.raises(SemiHVError, match="eurorad.json cannot be read"):
        list(Eurorad(tmp_path).items())
    (tmp_path / "eurorad.json").write_text(json.dumps([entry("One"), entry("Two")])[:-30])
    listed = Eurorad(tmp_path).items()
    assert next(listed).source_id == "One"
    with pytest.raises(SemiHVError, match="eurorad.json cannot be read"):
        list(listed)
