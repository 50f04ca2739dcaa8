"""The JAMA Clinical Challenge from a copy of the user's own, here with invented cases in the scraper's layout."""

import csv
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from semihv_hf.data.benchmarks.question import validate_question
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.jama import CANARY, Jama
from semihv_hf.errors import SemiHVError

COLUMNS = (
    "link", "question", "opa", "opb", "opc", "opd", "diagnosis", "answer_idx", "answer", "explanation", "field",
)  # fmt: skip
CASE = "An invented patient shows a drawn square.The square is grey (Figure). Laboratory values were invented."
DISCUSSION = "The key feature is the square. It was drawn. \n\nNothing else is known."


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, **cells):
    usual = {
        "link": f"https://journal.example/case/{number}", "question": f"{CASE} What Would You Do Next?",
        "opa": "Draw a circle", "opb": "C. difficile culture", "opc": "Erase  the square", "opd": "Wait",
        "diagnosis": "Square", "answer_idx": "C", "answer": "erase the square.", "explanation": DISCUSSION,
        "field": "Invented Challenge",
    }  # fmt: skip
    return {**usual, **cells}


ROWS = [
    row(0),
    row(1, question="Only a question, without a case?", diagnosis=float("nan"), answer=None, field=None),
    row(2, answer="Wait"),  # another option than the letter says
    row(3, answer="Operate"),  # no option
    row(4, answer_idx="E"),
    row(5, opb=""),
    row(6, explanation=""),
    row(7, opa="A. Left", opb="B. Right", opc="C. Both", opd="D. None", answer_idx="b", answer="B. Right"),
    row(8, question=None),
    row(9),
    "no object",
    row(11),
    row(12),
]


@pytest.fixture
def copy(tmp_path):
    """A copy with pictures: one, two in an order that names do not sort to, a torn one, and one of another case."""
    rows = [{"id": number, **entry} if isinstance(entry, dict) else entry for number, entry in enumerate(ROWS)]
    rows[12]["id"] = 11
    (tmp_path / "jama_raw.json").write_text(json.dumps(rows, indent=4), encoding="utf-8-sig")
    (tmp_path / "jama_links.json").write_text("[]")
    images = tmp_path / "images"
    images.mkdir()
    (images / "0_10.PNG").write_bytes(png(10))
    (images / "0_2.png").write_bytes(png(2))
    (images / "1.jpeg").write_bytes(png(3))
    (images / "9.png").write_bytes(png(4)[:-40])
    (images / "11.txt").write_bytes(b"no picture")
    (images / "70.png").write_bytes(png(5))
    return tmp_path


def everything(source):
    kept, skipped = [], []
    for item in source.items():
        for entry in [item] if isinstance(item, Skipped) else source.read(item):
            (skipped if isinstance(entry, Skipped) else kept).append(entry)
    return kept, skipped


def test_a_row_becomes_a_test_case_with_its_parts(copy):
    kept, _ = everything(Jama(copy))
    assert [case.source_id for case in kept] == ["0", "1", "7", "11"] and {case.split for case in kept} == {"test"}
    case = kept[0]
    assert [(text.role, text.text, text.annotation) for text in case.texts] == [
        ("case", CASE, "human"),
        ("question", "What Would You Do Next?", "human"),
        ("options", "A. Draw a circle\nB. C. difficile culture\nC. Erase the square\nD. Wait", "human"),
        ("answer", "C. Erase the square", "human"),
        ("diagnosis", "Square", "human"),
        ("discussion", DISCUSSION, "human"),
    ]
    assert case.fact("field").value == "Invented Challenge" and case.fact("canary").value == CANARY
    assert case.group == "https://journal.example/case/0"


def test_gaps_of_the_scraper_are_gaps_and_no_words(copy):
    case = everything(Jama(copy))[0][1]
    assert [text.role for text in case.texts] == ["question", "options", "answer", "discussion"]
    assert case.text("question").text == "Only a question, without a case?" and case.fact("field") is None


def test_letters_are_taken_off_options_only_where_all_have_them(copy):
    kept, _ = everything(Jama(copy))
    assert kept[2].text("options").text == "A. Left\nB. Right\nC. Both\nD. None"
    assert kept[2].text("answer").text == "B. Right"
    assert "B. C. difficile culture" in kept[0].text("options").text


def test_each_defect_is_skipped_and_every_row_is_accounted_for(copy):
    kept, skipped = everything(Jama(copy))
    assert {entry.source_id: (entry.reason, entry.detail) for entry in skipped} == {
        "2": ("malformed row", "answer_idx is C, but the answer is option D"),
        "3": ("malformed row", "answer_idx is C, but the answer is no option: 'Operate'"),
        "4": ("malformed row", "the answer 'E' is not the letter of an option"),
        "5": ("malformed row", "option B is empty"),
        "6": ("malformed row", "column explanation is empty"),
        "8": ("malformed row", "column question is empty"),
        "9": ("unreadable image", "images/9.png: the PNG data ends before its last chunk, so the file is torn"),
        "10": ("malformed row", "it is no object"),
        "11 (row 12)": ("duplicate row", "id 11 came before"),
    }
    assert len(kept) + len(skipped) == len(ROWS)


def test_pictures_belong_to_the_id_that_they_are_named_by(copy):
    kept, _ = everything(Jama(copy))
    assert [len(case.images) for case in kept] == [2, 1, 0, 0]
    assert kept[0].images == [png(2), png(10)], "0_2 comes before 0_10, and 70.png is no picture of case 7"
    kept, skipped = everything(Jama(copy, require_images=True))
    assert [case.source_id for case in kept] == ["0", "1"]
    assert [entry.source_id for entry in skipped if entry.reason == "missing image"] == ["7", "11"]


def test_pictures_may_be_named_in_a_map_or_a_column(copy):
    (copy / "jama_images.json").write_text(
        json.dumps({"7": ["70.png"], "11": "images/1.jpeg; 0_2.png", "0": ["no.png"]})
    )
    source = Jama(copy)
    kept, skipped = everything(source)
    assert {case.source_id: len(case.images) for case in kept} == {"1": 0, "7": 1, "9": 0, "11": 2}
    assert [entry.detail for entry in skipped if entry.reason == "missing image"] == ["no.png"]
    assert source.metadata() == ["jama_images.json", "jama_raw.json"]
    rows = [
        {"id": 1, **row(1, images=["images/0_2.png", "70.png"])},
        {"id": 2, **row(2, answer="", images="../x.png")},
    ]
    (copy / "jama_raw.json").write_text(json.dumps(rows))
    kept, skipped = everything(Jama(copy))
    assert [case.images for case in kept] == [[png(2), png(5)]]
    assert [entry.reason for entry in skipped] == ["unsafe file"]


def test_the_table_and_the_json_give_the_same_cases(tmp_path):
    rows = [row(0), row(1, diagnosis="")]
    with open(tmp_path / "jama_raw.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    from_table = everything(Jama(tmp_path))[0]
    (tmp_path / "jama_raw.json").write_text(json.dumps([{"id": n, **entry} for n, entry in enumerate(rows)]))
    from_json = everything(Jama(tmp_path))[0]
    assert [case.texts for case in from_table] == [case.texts for case in from_json] and len(from_table) == 2
    assert [case.id for case in from_table] == [case.id for case in from_json]
    assert len({case.id for case in from_table}) == 2, "cases without a picture differ by their texts"


def test_a_record_asks_the_case_and_answers_with_option_and_discussion(copy):
    source = Jama(copy)
    kept, _ = everything(source)
    (record,) = source.records(kept[0])
    asked, answer = map(message_text, record.messages)
    assert asked.startswith(f"{CASE}\nWhat Would You Do Next?\nA. Draw a circle\n") and asked.endswith("D. Wait")
    assert answer == f"Answer: C. Erase the square. {DISCUSSION}"
    assert record.task == "case" and record.questions[0].options == ["A", "B", "C", "D"] and len(record.images) == 2
    assert all(CANARY in entry.evidence for entry in record.provenance)
    (record,) = source.records(kept[1])
    assert message_text(record.messages[0]).startswith("Only a question")


def test_questions_are_rows_of_a_benchmark(copy):
    entries = list(Jama(copy).questions())
    questions = [entry for entry in entries if not isinstance(entry, Skipped)]
    assert len(entries) == len(ROWS) and [question.source_id for question in questions] == ["0", "1", "7", "11"]
    for question in questions:
        validate_question(question.row())
    assert questions[0].question == f"{CASE}\nWhat Would You Do Next?" and questions[0].answer == "Erase the square"
    assert (questions[0].answer_letter, questions[0].category) == ("C", "Invented Challenge")


def test_rows_pass_the_checks_and_survive_a_second_process(copy):
    source = Jama(copy)
    again = pickle.loads(pickle.dumps(source))
    items = list(source.items())
    assert list(again.items()) == items and len({item.source_id for item in items}) == len(items)
    read = [entry for item in items if isinstance(item, Item) for entry in source.read(item)]
    assert read == [entry for item in items if isinstance(item, Item) for entry in again.read(item)]
    cases = [entry for entry in read if isinstance(entry, Case)]
    assert len(cases) == 4
    for case in cases:
        validate_case(case.row())
        for record in again.records(case):
            validate_record(record.row())


def test_a_list_of_links_is_no_copy(tmp_path):
    (tmp_path / "jama_links.json").write_text("[]")
    with pytest.raises(SemiHVError, match=r"lists where the cases are, not the cases.*your own subscription"):
        Jama(tmp_path)


def test_a_wrong_folder_or_file_says_what_is_wrong(tmp_path):
    (tmp_path / "cases.json").write_text("[]")
    with pytest.raises(
        SemiHVError, match=r"no jama release: missing jama_raw.json \| jama_raw.csv.*Found: cases.json"
    ):
        Jama(tmp_path)
    for text, problem in (("[{", "no valid JSON"), ("{}", "no list of cases")):
        (tmp_path / "jama_raw.json").write_text(text)
        with pytest.raises(SemiHVError, match=problem):
            list(Jama(tmp_path).items())
    (tmp_path / "jama_raw.json").write_text("[]")
    for text, problem in (("[]", "no object"), ("{", "no valid JSON")):
        (tmp_path / "jama_images.json").write_text(text)
        with pytest.raises(SemiHVError, match=problem):
            list(Jama(tmp_path).items())
