"""Quilt-1M: the table as it is released, with its repeated images, its two ways to print lists and its gaps."""

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
from semihv_hf.data.sources.quilt import Quilt, printed_concepts, printed_strings
from semihv_hf.errors import SemiHVError

COLUMNS = (
    "Unnamed: 0", "caption", "image_path", "subset", "split", "pathology", "roi_text", "noisy_text", "corrected_text",
    "med_umls_ids", "magnification", "height", "width", "single_wsi", "not_histology",
)  # fmt: skip
FIRST, SECOND, THIRD = "aB3_image_0001.jpg", "aB3_image_0002.jpg", "1234_image_0003.jpg"


def jpeg(seed: int, size=(32, 32)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def row(caption, image, **cells):
    usual = {"subset": "quilt", "split": "train", "height": "32.0", "width": "32.0", "not_histology": "0"}
    return {"caption": caption, "image_path": image, **usual, **cells}


def write(root, rows, columns=COLUMNS):
    with open(root / "quilt_1M_lookup.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows({**entry, "Unnamed: 0": number} for number, entry in enumerate(rows))


ROWS = [
    row(
        "Nests of atypical\nmelanocytes.", FIRST, pathology="['Dermatopathology', 'Soft tissue']",
        roi_text="['pagetoid spread', \"the patient's nevus\"]", magnification="1.0",
        med_umls_ids="[[{'entity': 'Melanocytes', 'cui': 'C0025201'}, {'entity': 'Nevus', 'cui': 'C0027960'}]]",
        noisy_text="so here we have um",
    ),
    row("Glands.", SECOND, split="val", magnification="2.0", height="480", width="640", single_wsi="1"),
    row(
        "Pagetoid cells.", FIRST, pathology="['Dermatopathology' 'Cytology']", magnification="1.0",
        roi_text="['upper dermis' 'pagetoid spread']", med_umls_ids="[['C0025201' 'C0007097']\n ['C0027960']]",
    ),
    row("Nests of atypical melanocytes.", FIRST, roi_text="['pagetoid spread', \"the patient's nevus\"]"),  # again
    row("A tweet.", THIRD, subset="openpath", split="train", not_histology="1.0", height="", width=""),
    row("The same tweet in the validation split.", THIRD, subset="openpath", split="val", not_histology="1.0"),
    row("", "aB3_image_0004.jpg"),
    row("nan", "aB3_image_0004.jpg"),
    row("No image.", ""),
    row("Unknown split.", "aB3_image_0004.jpg", split="holdout"),
    row("Unknown subset.", "aB3_image_0004.jpg", subset="arch"),
    row("Torn.", "aB3_image_0005.jpg"),
    row("Absent.", "aB3_image_0006.jpg"),
    row("Absent again.", "aB3_image_0006.jpg"),
    row("Outside.", "../../secret.jpg"),
]  # fmt: skip


@pytest.fixture
def release(tmp_path):
    write(tmp_path, ROWS)
    with zipfile.ZipFile(tmp_path / "images_part_1.zip", "w") as archive:
        archive.writestr(f"quilt_1m/{FIRST}", jpeg(1))
        archive.writestr("quilt_1m/aB3_image_0005.jpg", jpeg(2)[:200])
    (tmp_path / "images_part_2" / "quilt_1m").mkdir(parents=True)
    (tmp_path / "images_part_2" / "quilt_1m" / SECOND).write_bytes(jpeg(3))
    (tmp_path / "quilt_1m").mkdir()
    (tmp_path / "quilt_1m" / THIRD.replace(".jpg", ".JPG")).write_bytes(jpeg(4))
    return tmp_path


def everything(source):
    kept, skipped = [], []
    for item in source.items():
        for entry in [item] if isinstance(item, Skipped) else source.read(item):
            (skipped if isinstance(entry, Skipped) else kept).append(entry)
    return kept, skipped


def values(case: Case, name: str) -> list[str]:
    return [fact.value for fact in case.facts if fact.name == name]


def test_an_image_that_repeats_becomes_one_case_with_its_captions(release):
    kept, _ = everything(Quilt(release))
    assert [case.source_id for case in kept] == [FIRST, SECOND, THIRD]
    case = kept[0]
    assert [(text.role, text.text) for text in case.texts] == [
        ("caption", "Nests of atypical melanocytes."),
        ("roi", "pagetoid spread"),
        ("roi", "the patient's nevus"),
        ("caption", "Pagetoid cells."),
        ("roi", "upper dermis"),
    ]
    assert {text.annotation for text in case.texts} == {"machine"} and {text.image for text in case.texts} == {0}
    assert values(case, "pathology") == ["Dermatopathology", "Soft tissue", "Cytology"]
    assert values(case, "umls_cui") == ["C0025201", "C0027960", "C0007097"]
    assert values(case, "umls_entity") == ["Melanocytes", "Nevus"]
    assert values(case, "magnification") == ["over 10x to 20x"] and values(case, "row") == ["1, 3"]
    assert (case.fact("modality").value, case.group, case.split) == ("histology", "aB3", "train")


def test_each_defect_is_skipped_and_every_row_is_accounted_for(release):
    kept, skipped = everything(Quilt(release))
    assert {entry.source_id.rpartition("/")[2]: entry.reason for entry in skipped} == {
        "4": "duplicate row", "7": "missing text", "8": "missing text", "9": "missing image", "10": "unknown label",
        "11": "unknown label", "12": "unreadable image", "13": "missing image", "14": "missing image",
        "15": "unsafe file",
    }  # fmt: skip
    assert sum(len(values(case, "row")[0].split(", ")) for case in kept) + len(skipped) == len(ROWS)
    assert not any(str(release) in entry.detail for entry in skipped)


def test_what_is_not_histology_stays_with_a_fact_unless_it_is_unwanted(release):
    case = everything(Quilt(release))[0][2]
    assert values(case, "not_histology") == ["yes"] and case.fact("modality") is None
    assert case.text("caption").annotation == "human", "a post is written by a person"
    kept, skipped = everything(Quilt(release, skip_not_histology=True))
    unwanted = [entry for entry in skipped if entry.reason == "not medical"]
    assert [entry.source_id for entry in unwanted] == ["quilt_1M_lookup.csv/5", "quilt_1M_lookup.csv/6"]
    assert not unwanted[0].is_damage and THIRD not in [case.source_id for case in kept]


def test_the_stated_split_is_kept_and_a_held_out_row_wins(release):
    kept, _ = everything(Quilt(release, held_out=0.9))
    assert [case.split for case in kept] == ["train", "validation", "validation"]
    assert values(kept[2], "stated_splits") == ["train, validation"] and not values(kept[0], "stated_splits")


def test_a_size_that_is_not_the_image_s_is_a_fact_and_no_failure(release):
    kept, _ = everything(Quilt(release))
    (stated,) = (fact for fact in kept[1].facts if fact.name == "stated_size")
    assert stated.value == "640 x 480" and "the image has 32 x 32" in stated.source
    assert not values(kept[0], "stated_size") and values(kept[1], "single_wsi") == ["yes"]


def test_a_table_without_the_later_columns_and_without_splits_is_read(tmp_path):
    rows = [row(f"Tissue {number}.", f"v{number}_image_{number}.jpg", split="") for number in range(40)]
    write(tmp_path, rows, columns=[name for name in COLUMNS if name not in ("single_wsi", "not_histology")])
    (tmp_path / "images").mkdir()
    splits = {item.source_id: item.split for item in Quilt(tmp_path, held_out=0.3, seed=5).items()}
    assert set(splits.values()) == {"train", "test"} and len(splits) == 40
    assert splits == {item.source_id: item.split for item in Quilt(tmp_path, held_out=0.3, seed=5).items()}
    assert splits != {item.source_id: item.split for item in Quilt(tmp_path, held_out=0.3, seed=6).items()}


@pytest.mark.parametrize(
    "cell, strings",
    [
        ("['a', 'b c']", ["a", "b c"]),
        ("['a' 'b c'\n 'd']", ["a", "b c", "d"]),
        ("[\"it's\", 'x \\'y\\'']", ["it's", "x 'y'"]),
        ("['a' ... 'b']", ["['a' ... 'b']"]),
        ("[a, b]", ["[a, b]"]),
        ("plain words", ["plain words"]),
        ("", []),
        ("nan", []),
        ("[]", []),
        ("[None]", []),
    ],
)
def test_lists_are_read_however_they_were_printed(cell, strings):
    assert printed_strings(cell) == strings


def test_concepts_are_read_from_either_print():
    printed = str([[{"entity": "Bowen's disease", "cui": "C0006079"}], [{"entity": "Skin", "cui": "C1123023"}]])
    assert printed_concepts(printed) == (["C0006079", "C1123023"], ["Bowen's disease", "Skin"])
    as_numpy = str(np.array([["C0006079", "C1123023"]]))
    assert printed_concepts(as_numpy) == (["C0006079", "C1123023"], [])
    assert printed_concepts("C123 C12345678") == ([], [])


def test_each_caption_is_one_record(release):
    source = Quilt(release)
    kept, _ = everything(source)
    records = list(source.records(kept[0]))
    assert [message_text(record.messages[1]) for record in records] == [
        "Nests of atypical melanocytes.", "Pagetoid cells.",
    ]  # fmt: skip
    assert {record.task for record in records} == {"caption"} and {record.modality for record in records} == {
        "histology"
    }
    assert records[0].annotation == ["rule", "machine"]


def test_rows_pass_the_checks_and_survive_a_second_process(release):
    source = Quilt(release)
    again = pickle.loads(pickle.dumps(source))
    items = list(source.items())
    assert list(again.items()) == items and len({item.source_id for item in items}) == len(items)
    cases = [entry for item in items if isinstance(item, Item) for entry in source.read(item)]
    assert cases == [entry for item in items if isinstance(item, Item) for entry in again.read(item)]
    cases = [entry for entry in cases if isinstance(entry, Case)]
    assert len(cases) == 3
    for case in cases:
        validate_case(case.row())
        for record in source.records(case):
            validate_record(record.row())


def test_a_wrong_folder_says_what_is_there(tmp_path):
    (tmp_path / "quilt_1M_lookup.csv.part").write_text("")
    with pytest.raises(SemiHVError, match=r"no quilt release: missing quilt_1M_lookup.csv .*Found: quilt_1M_lookup"):
        Quilt(tmp_path)
