"""PadChest: the table as it is released, with lists printed in two ways, and the real table of 160,861 rows."""

import csv
import gzip
import os
import shutil
import zipfile
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from release_checks import facts_of, pixels_of, png, read_all, reasons

from semihv_hf.data.messages import message_text
from semihv_hf.data.release import Release
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.padchest import KNOWN_BAD_FILES, PadChest, grey_levels, labelled_places
from semihv_hf.data.sources.release_tables import numbered_rows
from semihv_hf.errors import SemiHVError
from semihv_hf.packages import fetch_package

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM",
    "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime",
    "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip


def row(name, **cells):
    usual = {
        "ImageID": name, "ImageDir": "0", "StudyDate_DICOM": "20140915", "StudyID": "s1", "PatientID": "p1",
        "PatientBirth": "1930.0", "PatientSex_DICOM": "F", "ViewPosition_DICOM": "POSTEROANTERIOR",
        "Projection": "PA", "MethodProjection": "Manual review of DICOM fields", "Pediatric": "No",
        "Modality_DICOM": "CR", "PhotometricInterpretation_DICOM": "MONOCHROME2", "BitsStored_DICOM": "12",
        "WindowCenter_DICOM": "2047.5", "WindowWidth_DICOM": "4095", "ReportID": "5", "Report": " sin hallazg .",
        "MethodLabel": "Physician", "Labels": "['normal']", "Localizations": "[]",
        "LabelsLocalizationsBySentence": "[['normal']]", "labelCUIS": "[]", "LocalizationsCUIS": "[]",
    }  # fmt: skip
    return {**usual, **cells}


def values(seed=0, top=4095, size=(24, 20)):
    return np.random.default_rng(seed).integers(0, top + 1, size, np.uint16)


BAD = "216840111366964012989926673512011083134050913_00-168-009.png"
ROWS = [
    row(
        "a.png", Labels="['cardiomegaly', ' pleural effusion', 'cardiomegaly', '']",
        Localizations="['loc cardiac', 'loc left']", Report=" aument  indic cardiotorac . derram izquierd .",
        LabelsLocalizationsBySentence="[['cardiomegaly', 'loc cardiac'], nan, [' pleural effusion', 'loc left']]",
        labelCUIS="['C0018800' 'C0032227'\n 'C0742855']", LocalizationsCUIS="['C1522601']",
    ),
    row(
        "b.png", ImageDir="54", PatientID="p2", Projection="L", MethodLabel="RNN_model", PatientSex_DICOM="nan",
        Labels="['scoliosis' 'unchanged']", LabelsLocalizationsBySentence="['unchanged', 'scoliosis']",
        Report=" impresion", WindowCenter_DICOM="None", WindowWidth_DICOM="None", PatientBirth="",
    ),
    row("c.png", PatientID="p3", Labels="nan", Localizations="nan", LabelsLocalizationsBySentence="nan", labelCUIS="",
        LocalizationsCUIS="", Report="nan", Projection="UNK"),
    row("a.png", PatientID="p1"),  # again
    row("inverted.png", PhotometricInterpretation_DICOM="MONOCHROME1", Projection="AP_horizontal",
        Labels="['exclude']", LabelsLocalizationsBySentence="['exclude']"),
    row("torn.png"),
    row("absent.png", ImageDir="7"),
    row("../../out.png"),
    row("colour.png"),
    row("what.png", Projection="OBLIQUE"),
    row("who.png", MethodLabel="GPT"),
    row("list.png", Labels="['normal' 'unchanged' ... 'scoliosis']"),
    row("date.png", StudyDate_DICOM="2014"),
    row("born.png", PatientBirth="2030"),
    row("window.png", WindowCenter_DICOM="wide"),
    row("nobody.png", PatientID=""),
    row(""),
    row("oblique.png", Projection="EXCLUDE"),
    row(BAD),
]  # fmt: skip


def write(root, rows, packed=False):
    path = root / (TABLE + (".gz" if packed else ""))
    with (gzip.open(path, "wt", encoding="utf-8-sig", newline="") if packed
          else open(path, "w", encoding="utf-8-sig", newline="")) as file:  # fmt: skip
        writer = csv.DictWriter(file, COLUMNS, restval="None")
        writer.writeheader()
        writer.writerows({**cells, "": number} for number, cells in enumerate(rows))


@pytest.fixture
def release(tmp_path):
    root = tmp_path / "release"
    (root / "0").mkdir(parents=True)
    write(root, ROWS)
    for seed, name in enumerate(["a.png", "c.png", "inverted.png", "torn.png", BAD]):
        (root / "0" / name).write_bytes(png(values(seed)))
    (root / "0/torn.png").write_bytes(png(values(3))[:300])
    (root / "0/colour.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8))[:60])
    with zipfile.ZipFile(root / "54.zip", "w") as archive:
        archive.writestr("b.png", png(values(9, 65_535)))
    return root


def test_every_row_is_kept_or_skipped_with_its_reason(release):
    cases, skipped, _ = read_all(PadChest(release), release)
    assert list(cases) == ["a.png", "b.png", "c.png", "inverted.png"]
    assert reasons(skipped) == {
        "a.png in row 4": "duplicate row", "torn.png": "unreadable image", "absent.png": "missing image",
        "../../out.png": "unsafe file", "colour.png": "unreadable image", "what.png": "unknown label",
        "who.png": "unknown label", "list.png": "malformed row", "date.png": "malformed row",
        "born.png": "malformed row", "window.png": "malformed row", "nobody.png": "malformed row",
        "row 17": "malformed row", "oblique.png": "known bad file", BAD: "known bad file",
    }  # fmt: skip
    assert len(cases) + len(skipped) == len(ROWS)
    assert "shortened by numpy" in skipped["list.png"].detail and not skipped[BAD].is_damage


def test_a_case_says_what_the_row_says(release):
    cases, _, _ = read_all(PadChest(release), release)
    a, b, c, inverted = cases.values()
    assert (a.group, a.split, a.licence) == ("p1", "train", "PadChest Dataset Research Use Agreement")
    stated = {name: facts_of(a, name) for name in ("modality", "body_part", "view", "sex", "age", "finding")}
    assert stated == {
        "modality": ["X-ray"], "body_part": ["chest"], "view": ["PA"], "sex": ["female"], "age": ["84"],
        "finding": ["cardiomegaly", "pleural effusion"],
    }  # fmt: skip
    assert facts_of(a, "finding_concept") == ["C0018800", "C0032227", "C0742855"]
    assert (facts_of(a, "location"), facts_of(a, "location_concept")) == (["cardiac", "left"], ["C1522601"])
    report, labels = a.texts
    assert (report.language, report.annotation) == ("es", "human")
    assert report.text == "aument indic cardiotorac . derram izquierd ."
    assert (labels.text, labels.annotation) == ("cardiomegaly (cardiac); pleural effusion (left)", "human")
    assert (b.text("labels").text, b.text("labels").annotation) == ("unchanged; scoliosis", "machine")
    assert facts_of(b, "view") == ["lateral"] and not facts_of(b, "age") and not facts_of(b, "sex")
    assert b.fact("finding").source == "column Labels (MethodLabel RNN_model)"
    assert c.texts == [] and not facts_of(c, "view") and facts_of(inverted, "view") == ["AP supine"]


def test_sixteen_bits_are_shown_in_the_window_of_the_row(release):
    cases, _, _ = read_all(PadChest(release), release)
    full = (values(0).astype(np.float64) / 4095 * 255 + 0.5).astype(np.int16)
    assert np.abs(pixels_of(cases["a.png"].images[0]).astype(np.int16) - full).max() <= 1
    shown = pixels_of(cases["inverted.png"].images[0]).astype(np.float64)
    assert np.corrcoef(shown.ravel(), values(2).ravel())[0, 1] < -0.99
    rescaled = pixels_of(cases["b.png"].images[0])
    assert rescaled.min() == 0 and rescaled.max() == 255


def test_a_window_that_cannot_be_meant_is_not_applied():
    raw = values(1)
    narrow = grey_levels(raw, 12, [1000, 200])
    assert (narrow[raw < 890] == 0).all() and (narrow[raw > 1110] == 255).all()
    for bits, window in ((12, None), (12, [9000, 100]), (12, [2047, 1]), (0, [1000, 200]), (10, [511.5, 1023])):
        assert np.array_equal(grey_levels(raw, bits, window), grey_levels(raw, 12, None)), (bits, window)


def test_records_are_the_report_in_spanish_and_the_labels_in_english(release):
    cases, _, records = read_all(PadChest(release), release)
    by_case = {name: [r for r in records if r.case_id == case.id] for name, case in cases.items()}
    report, labels = by_case["a.png"]
    assert (report.task, report.annotation) == ("report", ["rule", "human"])
    assert message_text(report.messages[1]) == cases["a.png"].text("report").text
    assert "language: es" in report.provenance[0].evidence
    assert (labels.task, message_text(labels.messages[1])) == ("vqa", cases["a.png"].text("labels").text)
    # One stem of a heading is no report, and nobody can see in an image that nothing has changed.
    (scoliosis,) = by_case["b.png"]
    assert (message_text(scoliosis.messages[1]), scoliosis.annotation) == ("scoliosis", ["rule", "machine"])
    assert by_case["c.png"] == [] and [r.task for r in by_case["inverted.png"]] == ["report"]


def test_resized_copies_of_eight_bits_in_one_folder_are_read_as_they_are(tmp_path):
    write(tmp_path, [row("a.png")], packed=True)
    small = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    (tmp_path / "a.png").write_bytes(png(small))
    cases, skipped, _ = read_all(PadChest(tmp_path), tmp_path)
    assert not skipped and np.array_equal(pixels_of(cases["a.png"].images[0]), small)


def test_images_can_be_stored_smaller_and_patients_held_out_whole(tmp_path):
    (tmp_path / "0").mkdir()
    write(tmp_path, [row(f"{number}.png", PatientID=f"p{number // 2}") for number in range(40)])
    for number in range(40):
        (tmp_path / f"0/{number}.png").write_bytes(png(values(number)))
    cases, _, _ = read_all(PadChest(tmp_path, held_out=0.3, seed=1, longest=12), tmp_path)
    assert {pixels_of(case.images[0]).shape for case in cases.values()} == {(12, 10)}
    splits: dict[str, set] = {}
    for case in cases.values():
        splits.setdefault(case.group, set()).add(case.split)
    assert all(len(found) == 1 for found in splits.values())
    assert 2 <= sum(found == {"test"} for found in splits.values()) <= 12


def test_labels_of_one_list_take_the_places_behind_them():
    assert labelled_places(["COPD signs", "loc basal", "loc basal", "normal", "COPD signs", "loc left"]) == [
        "COPD signs (basal, left)", "normal",
    ]  # fmt: skip
    assert labelled_places([["loc left"], None, [], ["nodule"]]) == ["nodule"] and labelled_places([]) == []


def test_a_wrong_folder_or_table_says_what_was_expected_and_found(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SemiHVError, match="PADCHEST_chest_x_ray_images_labels_.*Found: notes.txt"):
        PadChest(tmp_path)
    (tmp_path / TABLE).write_text("ImageID,Labels\n")
    with pytest.raises(SemiHVError, match=r"missing columns ImageDir, .*Found: ImageID, Labels"):
        PadChest(tmp_path)


@pytest.fixture(scope="module")
def real_tables():
    return fetch_package("torchxrayvision", "1.5.7") / "torchxrayvision/data"


@pytest.fixture
def real_release(real_tables, tmp_path):
    source = real_tables / f"{TABLE}.gz"
    try:
        os.link(source, tmp_path / source.name)
    except OSError:  # another file system
        shutil.copy(source, tmp_path)
    return tmp_path


def test_the_first_rows_of_the_real_table_parse(real_release):
    found = list(islice(PadChest(real_release).items(), 10_000))
    assert len({entry.source_id for entry in found}) == 10_000
    assert Counter(type(entry) for entry in found) == {Item: 10_000}


@pytest.mark.slow
def test_all_rows_of_the_real_table_parse(real_release):
    """The images are not in the package: every kept row is then skipped by reading as a missing image."""
    padchest = PadChest(real_release)
    reasons_, writers, labels, kept, unread = Counter(), Counter(), set(), 0, Counter()
    for item in padchest.items():
        if isinstance(item, Skipped):
            reasons_[item.reason] += 1
            continue
        kept += 1
        writers[item.data["method"]] += 1
        labels.update(item.data["labels"])
        if kept % 1000 == 1:
            unread.update(outcome.reason for outcome in padchest.read(item))
    assert reasons_ == {"known bad file": len(KNOWN_BAD_FILES) + 11}  # 11 rows are marked EXCLUDE
    assert kept + reasons_.total() == 160_861 and len(KNOWN_BAD_FILES) == 21
    assert unread == {"missing image": 161}
    assert writers.total() == kept and writers["Physician"] == 39_053
    assert len(labels) == 193 and not any(label != label.strip() or label.startswith("loc ") for label in labels)


def test_all_rows_of_the_real_table_of_nih_are_read(real_tables):
    rows = numbered_rows(Release(real_tables), "Data_Entry_2017_v2020.csv.gz")
    images = {cells["Image Index"] for _, cells in rows if cells["Finding Labels"] and "" not in cells}
    assert len(images) == 112_120
