"""Radiopaedia: a table whose columns the user names, case folders, captions with another beginning, attribution."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.radiopaedia import Radiopaedia
from semihv_hf.errors import SemiHVError

COLUMNS = {
    "title": "case_title", "rid": "rID", "findings": "description", "history": "presentation", "author": "contributor",
    "discussion": "case_discussion", "modality": "mod", "sex": "gender",
}  # fmt: skip
HEADER = "case_title,rID,presentation,description,case_discussion,mod,gender,contributor,notes\n"
TITLE = "Ankle fracture: A/P view?"


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def release(tmp_path):
    rows = (
        f'"{TITLE}",1001,Fall.,"A fracture, displaced.",Common.,X-ray (radiograph),Male,Dr C,\n'
        "Renal cyst,1002,Pain.,A cyst.,,Ultrasound,female,Dr D,\n"
        "renal cyst,1002,Pain.,A cyst.,,Ultrasound,female,Dr D,\n"
        "No folder,1003,,Something.,,CT,,,\n"
        "Torn,1004,,Something.,,CT,,,\n"
        "Silent,1005,,,,CT,,,\n"
        "No rid,,,Something.,,CT,,,\n"
        ",1006,,Something.,,CT,,,\n"
        "Too long,1007,,Something.,,CT,,,,,,\n"
        "Bad JSON,1008,,Something.,,CT,,,\n"
        "Empty,1009,,Something.,,CT,,,\n"
    )
    (tmp_path / "20240801_radiopaedia.csv").write_text(HEADER + rows, encoding="utf-8-sig")
    cases = tmp_path / "Radiopaedia"
    # A colon survives in most file systems; the authors replace only "/", "?" and blanks.
    for number in (2, 10, 1):
        put(cases / "Ankle_fracture:_A_P_view_" / f"03_{number}.jpg", picture(number))
    put(cases / "Ankle_fracture:_A_P_view_" / "thumbnail.jpg", picture(99))
    put(cases / "instruct/Ankle_fracture:_A_P_view_/09_2.txt", "\ufeffA broken fibula.\n".encode())
    put(cases / "instruct/Ankle_fracture:_A_P_view_/09_10.txt", b" \n")
    for identity, plane, position in ((501, "Longitudinal", 2), (502, "Transverse", 1)):
        put(cases / "renal_cyst" / f"03_{identity}.JPEG", picture(identity))
        meta = {"id": identity, "fullscreen_filename": f"{identity}_big.jpg", "plane_projection": plane,
                "aux_modality": "B-mode", "position": position, "caption": f"{plane} view", "width": 5}  # fmt: skip
        put(cases / "renal_cyst" / f"{identity}.json", json.dumps(meta).encode())
    put(cases / "Torn" / "03_1.jpg", picture(4)[:-30])
    put(cases / "Torn" / "03_2.jpg", picture(5))
    for name in ("Silent", "No_rid", "Bad_JSON"):
        put(cases / name / "03_1.png", picture(6))
    put(cases / "Bad_JSON" / "images.json", b'{"images": [')
    (cases / "Empty").mkdir()
    return tmp_path


def read_all(source):
    listed = list(source.items())
    read = [row for item in listed if isinstance(item, Item) for row in source.read(item)]
    cases = {row.source_id: row for row in read if isinstance(row, Case)}
    return listed, cases, [row for row in [*listed, *read] if isinstance(row, Skipped)]


def test_without_a_map_the_error_shows_the_header_and_an_example(release):
    with pytest.raises(SemiHVError) as error:
        Radiopaedia(release)
    assert "20240801_radiopaedia.csv has the columns case_title, rID, presentation" in error.value.what
    assert "{title: case_title, rid: rID, history: presentation, discussion: case_discussion}" in error.value.do
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({**COLUMNS, "findings": "describtion"}, "lacks describtion and has case_title"),
        ({**COLUMNS, "heading": "case_title"}, "heading, which is no role"),
        ({**COLUMNS, "findings": ""}, "no column for findings"),
        ({"title": "case_title"}, "lacks rid and url"),
        ({"rid": "rID"}, "lacks title"),
        ({}, "no mapping"),
    ],
)
def test_map_that_does_not_fit_is_refused_with_the_reason(release, columns, problem):
    with pytest.raises(SemiHVError, match=problem):
        Radiopaedia(release, columns=columns)


def test_every_row_is_kept_or_left_out_for_a_reason(release):
    listed, cases, skipped = read_all(Radiopaedia(release, columns=COLUMNS))
    assert sorted(cases) == ["1001", "1002"]
    assert {row.source_id: row.reason for row in skipped} == {
        "1002": "duplicate row",
        "1003": "missing image",
        "1004": "unreadable image",
        "1005": "missing text",
        "20240801_radiopaedia.csv/7": "licence",
        "20240801_radiopaedia.csv/8": "malformed row",
        "20240801_radiopaedia.csv/9": "malformed row",
        "1008": "malformed row",
        "1009": "missing image",
    }
    assert len(listed) == 11 == len(cases) + len(skipped)
    assert not any(str(release) in row.detail for row in skipped)


def test_a_case_has_its_texts_pictures_and_attribution(release):
    case = read_all(Radiopaedia(release, columns=COLUMNS))[1]["1001"]
    folder = release / "Radiopaedia" / "Ankle_fracture:_A_P_view_"
    # Only names that begin with 03, in the order of their numbers; pictures without metadata stay as they are.
    assert [Image.open(io.BytesIO(data)).tobytes() for data in case.images] == [
        Image.open(folder / f"03_{number}.jpg").tobytes() for number in (1, 2, 10)
    ]
    assert [(text.role, text.annotation, text.image, text.text) for text in case.texts] == [
        ("history", "human", None, "Fall."),
        ("findings", "human", None, "A fracture, displaced."),
        ("discussion", "human", None, "Common."),
        ("caption", "machine", 1, "A broken fibula."),
    ]
    facts = [(fact.name, fact.value) for fact in case.facts]
    assert facts == [
        ("title", TITLE), ("rid", "1001"), ("modality", "X-ray"), ("sex", "male"), ("author", "Dr C"),
        ("attribution", "image 1 (03_1.jpg): Dr C, Radiopaedia.org, rID: 1001"),
        ("attribution", "image 2 (03_2.jpg): Dr C, Radiopaedia.org, rID: 1001"),
        ("attribution", "image 3 (03_10.jpg): Dr C, Radiopaedia.org, rID: 1001"),
    ]  # fmt: skip
    assert case.fact("rid").source == "20240801_radiopaedia.csv column rID"


def test_json_of_the_site_gives_captions_planes_and_order(release):
    case = read_all(Radiopaedia(release, columns=COLUMNS))[1]["1002"]
    assert [text.text for text in case.texts if text.role == "caption"] == ["Transverse view", "Longitudinal view"]
    assert case.fact("plane") is None and case.fact("planes").value == "transverse, longitudinal"
    assert case.fact("stated_modality").value == "b-mode"
    assert case.fact("attribution").value == "image 1 (502): Dr D, Radiopaedia.org, rID: 1002"


def test_table_with_a_row_for_each_image_gives_one_case_with_its_captions(tmp_path):
    text = (
        "t,u,file,cap\nLung,http://x/1,03_1.jpg,First\nLung,http://x/1,sub/03_2,Second\nLung,http://x/1,03_2x.jpg,\n"
    )
    (tmp_path / "t.csv").write_text(text + "Lung,http://x/1,03_1.jpg,Again\nLung,http://x/1,,None\n")
    for name in ("03_1.jpg", "03_2.JPG", "03_9.jpg"):
        put(tmp_path / "pics" / "lung" / name, picture(int(name[3])))
    columns = {"title": "t", "url": "u", "image": "file", "caption": "cap"}
    source = Radiopaedia(tmp_path, columns=columns, images="pics", incomplete=True)
    _, cases, skipped = read_all(source)
    assert [text.text for text in cases["Lung"].texts] == ["First", "Second"]
    assert len(cases["Lung"].images) == 2 and "http://x/1" in cases["Lung"].fact("attribution").value
    assert {row.source_id: row.reason for row in skipped} == {
        "t.csv/5": "missing image",
        "Lung/image 03_1.jpg": "duplicate row",
        "Lung/image 03_2x.jpg": "missing image",
    }
    _, cases, skipped = read_all(Radiopaedia(tmp_path, columns=columns, images="pics"))
    assert not cases and ("Lung", "missing image") in [(row.source_id, row.reason) for row in skipped]


def test_map_may_be_a_file_and_choose_the_table(release, tmp_path_factory):
    (release / "radiopaedia[不含图片信息].csv").write_text("other\n1\n", encoding="utf-8")
    path = tmp_path_factory.mktemp("map") / "columns.yaml"
    path.write_text("".join(f"{role}: {column}\n" for role, column in COLUMNS.items()))
    source = Radiopaedia(release, columns=str(path))
    assert source.table == "20240801_radiopaedia.csv" and source.path_options == ("columns",)
    assert Radiopaedia(release, columns=COLUMNS).path_options == ()
    (release / "radiopaedia[不含图片信息].csv").write_text(HEADER, encoding="utf-8")
    with pytest.raises(SemiHVError, match="fits 20240801_radiopaedia.csv and radiopaedia"):
        Radiopaedia(release, columns=COLUMNS)
    named = Radiopaedia(release, columns=COLUMNS, table="radiopaedia[不含图片信息].csv")
    assert list(named.items()) == [] and named.metadata() == ["radiopaedia[不含图片信息].csv"]
    path.write_text("[")
    with pytest.raises(SemiHVError, match="columns.yaml cannot be read"):
        Radiopaedia(release, columns=str(path))
    with pytest.raises(SemiHVError, match="no table x.csv"):
        Radiopaedia(release, columns=COLUMNS, table="x.csv")


def test_records_come_from_the_case_s_own_texts(release):
    source = Radiopaedia(release, columns=COLUMNS)
    _, cases, _ = read_all(source)
    records = list(source.records(cases["1001"]))
    assert [(record.task, record.annotation) for record in records] == [
        ("report", ["rule", "human"]), ("case", ["rule", "human"]), ("caption", ["rule", "machine"]),
    ]  # fmt: skip
    assert message_text(records[0].messages[1]) == "A fracture, displaced."
    assert records[2].images == [cases["1001"].images[1]] and records[0].modality == "X-ray"
    for record in records + list(source.records(cases["1002"])):
        validate_record(record.row())


def test_every_row_is_valid_and_reading_repeats_after_pickling(release):
    source = Radiopaedia(release, columns=COLUMNS, held_out=0.5, incomplete=True)
    items = [item for item in source.items() if isinstance(item, Item)]
    assert list(source.items()) == list(source.items())
    json.dumps([item.data for item in items])
    rows = [row for item in items for row in source.read(item)]
    other = pickle.loads(pickle.dumps(source))
    assert [row for item in items for row in other.read(item)] == rows
    cases = [row for row in rows if isinstance(row, Case)]
    assert len(cases) == 3  # with the case that lost its torn image
    for case in cases:
        validate_case(case.row())


def test_wrong_folder_says_what_was_expected_and_found(release, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(SemiHVError, match="a table of cases.*Found: nothing"):
        Radiopaedia(empty, columns=COLUMNS)
    with pytest.raises(SemiHVError, match="missing photos .a folder for each case.*20240801_radiopaedia.csv"):
        Radiopaedia(release, columns=COLUMNS, images="photos")
