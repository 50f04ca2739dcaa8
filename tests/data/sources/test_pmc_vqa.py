"""PMC-VQA: both versions written as they are released, with the defects of their tables."""

import csv
import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.pmc_vqa import PmcVqa
from semihv_hf.errors import SemiHVError

V1 = ("Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label")
V2 = (
    "index", "Figure_path", "Caption", "Question", "Choice A", "Choice B", "Choice C", "Choice D", "Answer", "split",
)  # fmt: skip


def jpeg(seed: int, size=(24, 16)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", comment=b"scanner 7")
    return buffer.getvalue()


def table(path, header, rows, encoding="utf-8"):
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def first(figure, question, answer, options, label):
    return [figure, question, answer, *options, label]


def prefixed(*texts):
    return [f" {letter}:{text} " for letter, text in zip("ABCD", texts)]


ORGANS = ("Liver", "Kidney", "Spleen", "Heart")


@pytest.fixture
def version_1(tmp_path):
    """Rows of every kind, with what must become of each."""
    train = [
        first("PMC1000_F1.jpg", "Which organ? ", "Kidney", prefixed(*ORGANS), "B"),
        first("PMC1000_F1.jpg", "Which\nside?", "Left", ["A: Left", "B:Right", "C :Both", "D:None"], "A"),
        first("PMC1000_F1.jpg", "Which organ?", "Kidney", prefixed(*ORGANS), "B"),  # again
        first("PMC1001_F2.JPG", "What is marked?", "Spleen.", prefixed(*ORGANS), ""),  # no letter, full stop
        first("PMC1002_F1.jpg", "Which organ?", "", prefixed(*ORGANS), "E"),  # no such letter
        first("PMC1002_F1.jpg", "What organ?", "Kidney", prefixed("Liver", "Kidney", "", "Heart"), "B"),  # empty
        first("PMC1002_F1.jpg", "Organ?", "Liver", prefixed(*ORGANS), "B"),  # letter and text differ
        first("PMC1002_F1.jpg", "Organ shown?", "Lung", prefixed(*ORGANS), ""),  # no such option
        first("PMC1002_F1.jpg", "Organs?", "Liver", ["B:Liver", "A:Kidney", "C:Spleen", "D:Heart"], "A"),
        first("PMC1002_F1.jpg", "Same?", "Liver", prefixed("Liver", "liver.", "Spleen", "Heart"), "A"),
        first("PMC1003_F1.jpg", "Torn?", "Liver", prefixed(*ORGANS), "A"),
        first("PMC1004_F1.jpg", "Absent?", "Liver", prefixed(*ORGANS), "A"),
        first("PMC1004_F1.jpg", "Still absent?", "Liver", prefixed(*ORGANS), "A"),
        first("../outside.jpg", "Outside?", "Liver", prefixed(*ORGANS), "A"),
        first("", "No figure?", "Liver", prefixed(*ORGANS), "A"),
        [*first("PMC1002_F1.jpg", "Too long?", "Liver", prefixed(*ORGANS), "A"), "one cell more"],
        first("PMC1002_F1.jpg", "No answer?", "", prefixed(*ORGANS), ""),
    ]
    table(tmp_path / "train.csv", V1, train, encoding="utf-8-sig")
    clean = [first("PMC2000_F1.jpg", "Which organ?", "Heart", prefixed(*ORGANS), "D")]
    table(tmp_path / "test_clean.csv", V1, clean)
    test = [
        first("PMC2000_F1.jpg", "Which organ?", "Heart", prefixed(*ORGANS), "D"),  # the row that people checked
        first("PMC2000_F1.jpg", "Which lobe?", "Upper", prefixed("Upper", "Lower", "Middle", "C. difficile"), "A"),
    ]
    table(tmp_path / "test.csv", V1, test)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("images/PMC1000_F1.jpg", jpeg(1))
        archive.writestr("images/PMC1001_F2.jpg", jpeg(2))
        archive.writestr("images/PMC1002_F1.jpg", jpeg(3))
        archive.writestr("images/PMC1003_F1.jpg", jpeg(4)[:-60])
        archive.writestr("images/PMC2000_F1.jpg", jpeg(5))
    (tmp_path.parent / "outside.jpg").write_bytes(jpeg(6))
    return tmp_path, len(train) + len(clean) + len(test)


@pytest.fixture
def version_2(tmp_path):
    planes, agents = (" Axial", "Coronal", "Sagittal", "Oblique"), ("None", "Iodine", "C. difficile", "Barium")
    rows = [
        [7, "PMC3000_Fig1_1.jpg", "Axial  CT of\nthe chest.", "Which plane?", *planes, "A", "train"],
        [9, "PMC3000_Fig1_1.jpg", "Axial CT of the chest.", "What agent?", *agents, "C", "train"],
        [11, "PMC3001_Fig2_3.jpg", "A figure.", "Wrong split?", "1", "2", "3", "4", "A", "test"],
        [12, "PMC3001_Fig2_3.jpg", "", "Nothing else?", "1", "2", "3", "4", "d", "train"],
    ]  # fmt: skip
    table(tmp_path / "train_2.csv", V2, rows)
    table(
        tmp_path / "test_2.csv",
        V2,
        [[3, "PMC4000_Fig1_1.jpg", "A film.", "View?", "PA", "AP", "Left", "Right", "B", "test"]],
    )
    folder = tmp_path / "images_2" / "figures"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("PMC3000_Fig1_1.jpg", "PMC3001_Fig2_3.jpg", "PMC4000_Fig1_1.jpg")):
        (folder / name).write_bytes(jpeg(20 + seed))
    return tmp_path, len(rows) + 1


def everything(source):
    kept, skipped = [], []
    for item in source.items():
        for entry in [item] if isinstance(item, Skipped) else source.read(item):
            (skipped if isinstance(entry, Skipped) else kept).append(entry)
    return kept, skipped


def rows_of(case: Case) -> list[str]:
    return [place for fact in case.facts if fact.name == "row" for place in fact.value.split(", ")]


def test_a_figure_of_version_1_becomes_one_case_with_all_its_questions(version_1):
    kept, _ = everything(PmcVqa(version_1[0]))
    assert [case.source_id for case in kept] == [
        "v1/train/PMC1000_F1.jpg", "v1/train/PMC1001_F2.JPG", "v1/test/PMC2000_F1.jpg",
    ]  # fmt: skip
    case = kept[0]
    assert [(text.role, text.text) for text in case.texts] == [
        ("question", "Which organ?"),
        ("options", "A. Liver\nB. Kidney\nC. Spleen\nD. Heart"),
        ("answer", "B. Kidney"),
        ("question", "Which side?"),
        ("options", "A. Left\nB. Right\nC. Both\nD. None"),
        ("answer", "A. Left"),
    ]
    assert {text.annotation for text in case.texts} == {"machine"}
    assert (case.group, case.split, case.fact("pmcid").value) == ("PMC1000", "train", "PMC1000")
    assert kept[1].text("answer").text == "C. Spleen", "the answer's text decides where there is no letter"
    assert b"scanner 7" not in case.images[0]


def test_each_defect_of_version_1_is_skipped_with_its_reason(version_1):
    root, rows = version_1
    kept, skipped = everything(PmcVqa(root))
    assert {entry.source_id: entry.reason for entry in skipped} == {
        "v1/train.csv/3": "duplicate row",
        **{f"v1/train.csv/{number}": "malformed row" for number in (5, 6, 7, 8, 9, 10, 15, 16, 17)},
        "v1/train.csv/11": "unreadable image",
        "v1/train.csv/12": "missing image",
        "v1/train.csv/13": "missing image",
        "v1/train.csv/14": "unsafe file",
    }
    details = {entry.source_id: entry.detail for entry in skipped}
    assert "'E' is not the letter of an option" in details["v1/train.csv/5"]
    assert details["v1/train.csv/6"] == "option C is empty"
    assert details["v1/train.csv/7"] == "the answer's letter is B, but its text is option A"
    assert details["v1/train.csv/8"] == "the answer 'Lung' is none of the options"
    assert details["v1/train.csv/9"] == "the text of choice A calls itself B"
    assert details["v1/train.csv/10"] == "options A and B say the same, and one of them is the answer"
    assert not any(str(root) in entry.detail for entry in skipped)
    assert sum(len(rows_of(case)) for case in kept) + len(skipped) == rows


def test_a_checked_question_is_kept_once_and_names_both_tables(version_1):
    kept, _ = everything(PmcVqa(version_1[0]))
    case = next(case for case in kept if case.split == "test")
    facts = [fact for fact in case.facts if fact.name == "row"]
    assert [fact.value for fact in facts] == ["test_clean.csv 1, test.csv 1", "test.csv 2"]
    assert ["checked by people" in fact.source for fact in facts] == [True, False]
    assert case.texts[4].text.endswith("D. C. difficile")


def test_the_first_tables_with_their_misspelt_column_are_read(tmp_path):
    header = [name.replace("Answer", "Anwser") for name in V1[:-1]]
    table(tmp_path / "train.csv", header, [["PMC1_F1.jpg", "Which?", " C: Spleen", *prefixed(*ORGANS)]])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "PMC1_F1.JPG").write_bytes(jpeg(1))
    (case,), skipped = everything(PmcVqa(tmp_path))
    assert case.text("answer").text == "C. Spleen" and not skipped


def test_version_2_has_captions_and_asks_for_each_figure_once(version_2):
    root, rows = version_2
    source = PmcVqa(root, version="2")
    kept, skipped = everything(source)
    assert [(case.source_id, case.split) for case in kept] == [
        ("v2/train/PMC3000_Fig1_1.jpg", "train"),
        ("v2/train/PMC3001_Fig2_3.jpg", "train"),
        ("v2/test/PMC4000_Fig1_1.jpg", "test"),
    ]
    assert kept[0].text("caption").text == "Axial CT of the chest." and kept[0].text("caption").annotation == "human"
    assert kept[1].text("caption") is None and kept[1].text("answer").text == "D. 4"
    assert [(entry.source_id, entry.detail) for entry in skipped] == [
        ("v2/train_2.csv/3", "column split says 'test' in train_2.csv")
    ]
    records = list(source.records(kept[0]))
    assert [record.task for record in records] == ["caption", "multiple_choice", "multiple_choice"]
    assert sum(len(rows_of(case)) for case in kept) + len(skipped) == rows


def test_a_question_asks_for_the_letter_and_gets_it(version_2):
    source = PmcVqa(version_2[0])
    case = everything(source)[0][0]
    record = list(source.records(case))[2]
    asked, answer = map(message_text, record.messages)
    assert asked.split("\n") == [
        "What agent?", "A. None", "B. Iodine", "C. C. difficile", "D. Barium",
        "Answer with the letter of the right option only.",
    ]  # fmt: skip
    assert answer == "C" and record.questions[0].options == ["A", "B", "C", "D"]
    assert record.annotation == ["machine", "machine"] and record.modality == "unknown"
    assert record.provenance[0].evidence == ["row: train_2.csv 2 (tables and rows counted from 1)"]
    longer = PmcVqa(version_2[0], answer_form="letter_and_option")
    record = list(longer.records(case))[2]
    assert message_text(record.messages[1]) == "C. C. difficile" in record.questions[0].options
    assert "letter and the text" in message_text(record.messages[0])


def test_both_versions_in_one_folder_are_told_apart(version_1, version_2):
    root = version_1[0]
    assert {item.source_id[:2] for item in PmcVqa(root).items() if isinstance(item, Item)} == {"v1", "v2"}
    only = [item.source_id for item in PmcVqa(root, version="1").items() if isinstance(item, Item)]
    assert {name[:2] for name in only} == {"v1"} and len(only) == 6
    kept, skipped = everything(PmcVqa(root, version="both"))
    assert sum(len(rows_of(case)) for case in kept) + len(skipped) == version_1[1] + version_2[1]


def test_rows_pass_the_checks_and_survive_a_second_process(version_1, version_2):
    source = PmcVqa(version_1[0], version="both")
    again = pickle.loads(pickle.dumps(source))
    items = list(source.items())
    assert list(again.items()) == items and len({item.source_id for item in items}) == len(items)
    seen = 0
    for item in items:
        if isinstance(item, Skipped):
            continue
        entries = list(source.read(item))
        assert list(again.read(item)) == entries
        for case in (entry for entry in entries if isinstance(entry, Case)):
            validate_case(case.row())
            records = list(again.records(case))
            assert len({record.id for record in records}) == len(records) > 0
            for record in records:
                validate_record(record.row())
                seen += 1
    assert seen == 2 + 1 + 2 + 3 + 1 + 2


def test_a_damaged_archive_is_named(version_1):
    root = version_1[0]
    archive = root / "images.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    kept, skipped = everything(PmcVqa(root))
    torn = [entry for entry in skipped if entry.reason == "unreadable image"]
    assert not kept and torn and all("images.zip" in entry.detail for entry in torn)


def test_a_wrong_folder_or_version_says_what_is_there(tmp_path, version_2):
    with pytest.raises(SemiHVError, match=r"no table of PMC-VQA version 1: expected one of train.csv.*version 2"):
        PmcVqa(version_2[0], version="1")
    with pytest.raises(SemiHVError, match="no version '3'"):
        PmcVqa(version_2[0], version="3")
    with pytest.raises(SemiHVError, match="Unknown answer_form"):
        PmcVqa(version_2[0], answer_form="essay")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "notes.txt").write_text("nothing")
    with pytest.raises(SemiHVError, match=r"no pmc_vqa release: missing train_2.csv.*images_2.zip.*Found: notes.txt"):
        PmcVqa(wrong)
