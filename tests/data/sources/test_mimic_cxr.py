"""MIMIC-CXR-JPG and its sibling's reports, in the layout of PhysioNet, with missing and torn files."""

import csv
import gzip
import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from release_checks import facts_of, pixels_of, read_all, reasons

from semihv_hf.data.messages import count_images, message_text
from semihv_hf.data.schema import SPLITS
from semihv_hf.data.sources.mimic_cxr import FINDINGS, MimicCxr
from semihv_hf.data.sources.mimic_cxr_rules import PLACES, SECTIONS
from semihv_hf.errors import SemiHVError

METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
# subject, study, views as (dicom, ViewPosition, ViewCodeSequence), split, chexpert values, report
STUDIES = [
    ("10000032", "50414267", [("aa", "PA", ""), ("bb", "LATERAL", "")], "train", {"No Finding": "1.0"},
     "                  FINAL REPORT\n INDICATION:  ___F with cough\n \n FINDINGS: \n \n Clear\n lungs.\n \n"
     " IMPRESSION: \n \n 1. No ___.\n"),
    ("10000032", "50414268", [("cc", "", "antero-posterior")], "train",
     {"Pneumonia": "-1.0", "Edema": "0.0", "Fracture": "-1"}, " IMPRESSION:  Edema is gone.\n ADDENDUM:  Told.\n"),
    ("11000001", "51000001", [("dd", "AP", "")], "validate", {}, " COMPARISON:  None.\n \n Large heart.\n"),
    ("11000001", "51000002", [("torn", "AP", ""), ("ee", "", "")], "test", {}, " FINDINGS:  Tube.\n"),
    ("12000001", "52000001", [("absent", "AP", "")], "train", {}, " FINDINGS:  Clear.\n"),
    ("12000001", "52000002", [("ff", "AP", "")], "train", {}, None),
    ("12000001", "52000003", [("gg", "AP", "")], "train", {"Edema": "2.0"}, " FINDINGS:  Clear.\n"),
    ("12000001", "52000004", [("hh", "AP", "")], "held", {}, " FINDINGS:  Clear.\n"),
    ("12000001", "52000005", [("ii", "AP", "")], None, {}, " FINDINGS:  Clear.\n"),
    ("12000001", "52000006", [("jj", "AP", "")], "train", {}, "   FINAL REPORT\n \n"),
    ("12000001", "52000007", [("kk", "AP", "")], "train", {}, "\xff"),
    ("12000001", "52000008", [("ll", "AP", "")], "train", None, " PORTABLE CHEST ___.\n \n Clear.\n"),
]  # fmt: skip
EXTRA = [
    {"dicom_id": "aa", "subject_id": "10000032", "study_id": "50414267"},  # again
    {"dicom_id": "", "subject_id": "10000032", "study_id": "50414267"},
    {"dicom_id": "mm", "subject_id": "p1", "study_id": "50414267"},
    {"dicom_id": "nn", "subject_id": "13000001", "study_id": "51000001"},  # of another subject's study
]


def jpeg(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 12), np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "PatientName"
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, quality=90)
    return buffer.getvalue()


def write_table(path, columns, rows):
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def report_name(subject, study):
    return f"files/p{subject[:2]}/p{subject}/s{study}.txt"


def write(root, studies=STUDIES, extra=(), reports=True):
    images, splits, labels = [], [], []
    for subject, study, views, split, values, report in studies:
        folder = root / f"files/p{subject[:2]}/p{subject}/s{study}"
        folder.mkdir(parents=True)
        for dicom, position, meaning in views:
            images.append({
                "dicom_id": dicom, "subject_id": subject, "study_id": study, "ViewPosition": position,
                "ViewCodeSequence_CodeMeaning": meaning, "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
            })  # fmt: skip
            if split:
                splits.append({"dicom_id": dicom, "study_id": study, "subject_id": subject, "split": split})
            data = jpeg(len(images))
            if dicom != "absent":
                (folder / f"{dicom}.jpg").write_bytes(data[:-60] if dicom == "torn" else data)
        if values is not None:
            labels.append({"subject_id": subject, "study_id": study, **values})
        if reports and report is not None:
            (root / report_name(subject, study)).write_bytes(report.encode("latin-1"))
    write_table(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, [*images, *extra])
    write_table(root / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), splits)
    for labeller in ("chexpert", "negbio"):
        columns = ("subject_id", "study_id", *FINDINGS)
        write_table(root / f"mimic-cxr-2.0.0-{labeller}.csv.gz", columns, labels)


@pytest.fixture
def release(tmp_path):
    root = tmp_path / "jpg"
    write(root, extra=EXTRA)
    return root


def test_every_study_and_every_image_is_kept_or_skipped_with_its_reason(release):
    cases, skipped, _ = read_all(MimicCxr(release), release)
    assert list(cases) == ["p10000032/s50414267", "p10000032/s50414268", "p11000001/s51000002", "p12000001/s52000008"]
    assert reasons(skipped) == {
        "aa in row 15": "duplicate row", "no dicom_id in row 16": "malformed row", "mm in row 17": "malformed row",
        "p11000001/s51000001": "malformed row",  # two subjects
        "p11000001/s51000002/torn": "unreadable image",
        "p12000001/s52000001/absent": "missing image", "p12000001/s52000001": "missing image",
        "p12000001/s52000002": "missing text", "p12000001/s52000003": "unknown label",
        "p12000001/s52000004": "malformed row", "p12000001/s52000005": "malformed row",
        "p12000001/s52000006": "missing text", "p12000001/s52000007": "missing text",
    }  # fmt: skip
    assert len(cases) + sum(name.count("/") == 1 for name in skipped) == len(STUDIES)
    assert sum(len(case.images) for case in cases.values()) == 5
    assert "'2.0'" in skipped["p12000001/s52000003"].detail and "UTF-8" in skipped["p12000001/s52000007"].detail


def test_a_study_is_one_case_with_all_its_views(release):
    cases, _, _ = read_all(MimicCxr(release), release)
    first, second, third, last = cases.values()
    assert (first.group, first.split, third.split) == ("p10000032", "train", "test")
    assert facts_of(first, "view") == ["PA", "lateral"] and facts_of(second, "view") == ["AP"]
    assert facts_of(first, "modality") == ["X-ray"] and facts_of(first, "procedure") == ["CHEST (PA AND LAT)"]
    assert len(first.images) == 2 and b"PatientName" not in first.images[0]
    assert np.array_equal(pixels_of(first.images[0]), pixels_of(jpeg(1)))
    assert facts_of(third, "view") == [] and len(third.images) == 1
    texts = {text.role: (text.text, text.annotation) for text in first.texts}
    assert texts["findings"] == ("Clear lungs.", "human") and texts["impression"] == ("1. No ___.", "human")
    assert texts["history"] == ("___F with cough", "human")
    assert texts["labels"] == ("No Finding: positive", "machine")
    assert texts["report"][0].startswith("INDICATION: ___F with cough\n\nFINDINGS:")
    assert last.text("description").text == "PORTABLE CHEST ___.\n\nClear."


def test_labels_say_what_the_report_does_not_mention(release):
    cases, _, _ = read_all(MimicCxr(release), release)
    second = cases["p10000032/s50414268"]
    stated = {name: second.fact(f"chexpert {name.lower()}").value for name in FINDINGS}
    assert stated == {
        **dict.fromkeys(FINDINGS, "not mentioned"), "Pneumonia": "uncertain", "Edema": "negative",
        "Fracture": "uncertain",
    }  # fmt: skip
    assert not [fact for fact in cases["p12000001/s52000008"].facts if fact.name.startswith("chexpert")]
    both, _, _ = read_all(MimicCxr(release, labels="both"), release)
    case = both["p10000032/s50414267"]
    assert case.fact("negbio no finding").value == "positive" and [t.role for t in case.texts].count("labels") == 2


def test_a_record_asks_for_what_the_report_holds(release):
    cases, _, records = read_all(MimicCxr(release), release)
    answers = {record.source_id.split("/")[1]: message_text(record.messages[1]) for record in records}
    assert answers == {
        "s50414267": "Findings:\nClear lungs.\n\nImpression:\n1. No ___.",
        "s50414268": "Edema is gone.",
        "s51000002": "Tube.",
        "s52000008": "PORTABLE CHEST ___.\n\nClear.",
    }
    assert {(record.task, *record.annotation) for record in records} == {("report", "rule", "human")}
    assert [count_images(record.messages) for record in records] == [2, 1, 1, 1]


def test_reports_may_lie_in_the_archive_or_in_the_folder_of_the_sibling_release(tmp_path, release):
    expected, _, _ = read_all(MimicCxr(release), release)
    sibling, zipped = tmp_path / "mimic-cxr", tmp_path / "zipped"
    zipped.mkdir()
    with zipfile.ZipFile(zipped / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(release.glob("files/p*/p*/s*.txt")):
            name = path.relative_to(release)
            archive.write(path, name)
            (sibling / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, sibling / name)
    with pytest.raises(SemiHVError, match="holds no reports.*mimic-cxr-reports.zip"):
        MimicCxr(release)
    for folder in (sibling, zipped):
        cases, _, _ = read_all(MimicCxr(release, reports_root=str(folder)), release)
        assert cases == expected
    shutil.copy(zipped / "mimic-cxr-reports.zip", release)
    assert read_all(MimicCxr(release), release)[0] == expected


def test_studies_without_a_report_are_kept_on_request(release):
    cases, skipped, records = read_all(MimicCxr(release, without_reports=True), release)
    kept = {"p12000001/s52000002", "p12000001/s52000006"}
    assert kept <= set(cases) and not kept & set(skipped)
    assert all(cases[name].text("report") is None for name in kept)
    assert not [record for record in records if record.source_id in kept]


def test_all_three_splits_are_read(tmp_path):
    studies = [
        ("10000001", f"5000000{number}", [(f"d{number}", "AP", "")], split, {}, " FINDINGS:  Clear.\n")
        for number, split in enumerate(("train", "validate", "test"))
    ]
    write(tmp_path, studies)
    cases, skipped, _ = read_all(MimicCxr(tmp_path), tmp_path)
    assert [case.split for case in cases.values()] == list(SPLITS) and not skipped


def test_reports_that_no_rule_cuts_rightly_have_places_of_their_own(tmp_path):
    section, place = "50913680", "50525523"
    nothing = next(study for study, span in PLACES.items() if span == (0, 0))
    body = " " * 250 + "The lungs are clear." + " " * 200 + "Not this."
    reports = {
        section: f" IMPRESSION:  Not this.\n {SECTIONS[section].upper()}:  Effusion.\n", place: body,
        nothing: " FINDINGS:  Not done.\n",
    }  # fmt: skip
    write(tmp_path, [("10602608", name, [(name, "AP", "")], "train", {}, text) for name, text in reports.items()])
    cases, skipped, records = read_all(MimicCxr(tmp_path), tmp_path)
    assert len(cases) == 3 and not skipped
    answers = {record.source_id[-8:]: message_text(record.messages[1]) for record in records}
    assert answers == {section: "Effusion.", place: "The lungs are clear."}


def test_a_wrong_folder_or_option_is_one_clear_error(tmp_path, release):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SemiHVError, match=r"missing files .*metadata.csv.gz.*Found: jpg/, notes.txt"):
        MimicCxr(tmp_path)
    with pytest.raises(SemiHVError, match="labels is 'gpt'"):
        MimicCxr(release, labels="gpt")
    (release / "mimic-cxr-2.0.0-negbio.csv.gz").unlink()
    with pytest.raises(SemiHVError, match="holds no mimic-cxr-2.*negbio"):
        MimicCxr(release, labels="negbio")
    write_table(release / "mimic-cxr-2.0.0-chexpert.csv.gz", ("study_id", "Edema"), [])
    with pytest.raises(SemiHVError, match="missing columns Atelectasis"):
        MimicCxr(release)
