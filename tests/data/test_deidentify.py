"""Headers without what names a person: what goes, what stays together, what is recorded, what is refused."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, UltrasoundImageStorage

from semihv_hf.data.burned_in import RefusedImage
from semihv_hf.data.deidentify import deidentify_dataset, deidentify_folder
from semihv_hf.data.imaging import UnreadableImage, render_dicom
from semihv_hf.errors import SemiHVError
from semihv_hf.packages import fetch_package

pytest.importorskip("dicognito", reason="dicognito is not installed: de-identification is not tested")
pytest.importorskip("dicomanonymizer", reason="dicom-anonymizer is not installed: de-identification is not tested")

SECRET = "correct horse battery staple"
# Everything that names the drawn patient; none of it may be found in any file that is written.
TELLTALES = ("Featherstone", "Wilhelmina", "HOSP-4711", "ACC-0815", "Dr. Quackenbush", "Little Whinging", "555-0199",
             "Saint Elsewhere", "19490203", "SN-9876", "OVERLAYTEXT", "PRIVATE-NOTE", "CONSOLE7")  # fmt: skip


def make(number=0, patient="HOSP-4711", day="20200315", modality="CT", **tags) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{patient[-4:]}.{number}"
    meta.SourceApplicationEntityTitle = "CONSOLE7"
    data = FileDataset("a.dcm", {}, file_meta=meta, preamble=b"CONSOLE7" * 16)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, modality
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PatientName, data.PatientID, data.PatientBirthDate = "Featherstone^Wilhelmina", patient, "19490203"
    data.PatientSex, data.PatientAge, data.PatientAddress = "F", "071Y", "4 Privet Drive, Little Whinging"
    data.AccessionNumber, data.StudyID = "ACC-0815", "S1"
    data.StudyDate, data.StudyTime, data.SeriesDate, data.AcquisitionDateTime = day, "101500.25", day, day + "101501"
    data.ReferringPhysicianName, data.InstitutionName = "Dr. Quackenbush", "Saint Elsewhere"
    data.StudyDescription, data.DeviceSerialNumber = "CT of Wilhelmina", "SN-9876"
    data.ImageComments, data.PatientTelephoneNumbers = "call 555-0199", "555-0199"
    data.BodyPartExamined, data.Manufacturer, data.KVP = "CHEST", "ACME", "120"
    data.ContrastBolusRoute = "as told by Wilhelmina"  # an attribute of no table, where somebody typed a name
    data.private_block(0x0019, "ACME 1.0", create=True).add_new(1, "LO", "PRIVATE-NOTE")
    request, image = Dataset(), Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepID = "for Wilhelmina", "ACC-0815"
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.5.99"
    image.PersonName = "Featherstone"
    image.private_block(0x0021, "ACME 1.0", create=True).add_new(1, "LO", "PRIVATE-NOTE")
    data.RequestAttributesSequence, data.ReferencedImageSequence = [request], [image]
    plane = (
        (0x10, "US", 8), (0x11, "US", 8), (0x22, "LO", "OVERLAYTEXT"), (0x40, "CS", "G"), (0x50, "SS", [1, 1]),
        (0x100, "US", 1), (0x102, "US", 0), (0x3000, "OW", b"\xff" * 8),
    )  # fmt: skip
    for element, vr, value in plane:
        data.add_new((0x6000, element), vr, value)
    data.add_new((0x5000, 0x0022), "LO", "OVERLAYTEXT")
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    for name, value in tags.items():
        setattr(data, name, value)
    if "PixelData" not in tags:
        data.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    return data


def save(data, path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def outputs(folder) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def shift(before: str, after: str) -> int:
    days = [date(int(text[:4]), int(text[4:6]), int(text[6:8])) for text in (before, after)]
    return (days[1] - days[0]).days


def test_nothing_that_names_the_patient_is_left_anywhere_in_the_file(tmp_path):
    before = save(make(), tmp_path / "src/Featherstone.dcm")
    assert all(word.encode() in before.read_bytes() for word in TELLTALES)
    report = deidentify_folder(tmp_path / "src", tmp_path / "dst", secret=SECRET, progress=False)
    (after,) = outputs(tmp_path / "dst")
    for path in (after, Path(report["log"]), tmp_path / "dst/.deidentification_state.jsonl"):
        found = [
            word for word in TELLTALES if word.lower() in (path.read_bytes().decode("latin-1") + str(path)).lower()
        ]
        assert found == [], path.name
    data = pydicom.dcmread(after)
    assert not [
        element for element in data.iterall() if element.tag.is_private or element.tag.group in (0x5000, 0x6000)
    ]
    assert data.PatientID and data.PatientName and data.AccessionNumber, "replaced, so that studies stay apart"
    assert (data.BodyPartExamined, data.Manufacturer, data.KVP) == ("CHEST", "ACME", 120)
    assert data.PatientBirthDate == "" and data.PatientSex == "" and "PatientAge" not in data
    assert data.PixelData == make().PixelData and data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
    assert data.ReferencedImageSequence[0].ReferencedSOPClassUID == CTImageStorage


def test_what_was_done_is_recorded_in_the_file_and_nothing_more(tmp_path):
    data = make()
    what = deidentify_dataset(data, secret=SECRET)
    codes = [(i.CodeValue, i.CodingSchemeDesignator, i.CodeMeaning) for i in data.DeidentificationMethodCodeSequence]
    assert codes == [
        ("113100", "DCM", "Basic Application Confidentiality Profile"),
        ("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]
    assert what.codes == ["113100", "113107"] and what.pixels == "unchanged"
    assert data.PatientIdentityRemoved == "YES" and "DICOGNITO" in data.DeidentificationMethod
    assert data.LongitudinalTemporalInformationModified == "MODIFIED" and "BurnedInAnnotation" not in data
    assert what.done["private_removed"] == 4 and what.done["overlays_and_curves_removed"] == 9
    assert what.done["dates_shifted"] == 3 and what.done["scrubbed"] == 1
    kept = make(PatientAge="093Y")
    assert deidentify_dataset(kept, secret=SECRET, keep_characteristics=True).codes == ["113100", "113107", "113108"]
    assert (kept.PatientSex, kept.PatientAge, kept.PatientBirthDate) == ("F", "090Y", None)


def test_one_secret_keeps_studies_and_time_spans_together_and_another_does_not():
    first, later, other_patient, other_secret = make(1), make(2, day="20200415"), make(3, patient="HOSP-4712"), make(1)
    for data in (first, later, other_patient):
        deidentify_dataset(data, secret=SECRET)
    deidentify_dataset(other_secret, secret=SECRET + "!")
    assert first.PatientID == later.PatientID != other_patient.PatientID
    assert first.StudyInstanceUID == later.StudyInstanceUID == other_patient.StudyInstanceUID
    assert first.SOPInstanceUID != later.SOPInstanceUID
    assert shift(first.StudyDate, later.StudyDate) == 31, "the time between two studies of a patient is kept"
    moved = shift("20200315", first.StudyDate)
    assert -730 <= moved <= -62 and first.SeriesDate == first.AcquisitionDateTime[:8] == first.StudyDate
    assert shift("20200315", other_patient.StudyDate) != moved, "each patient moves by another time"
    assert other_secret.PatientID != first.PatientID and other_secret.StudyInstanceUID != first.StudyInstanceUID
    assert re.fullmatch(r"2\.\d{1,62}", first.SOPInstanceUID)


@pytest.mark.parametrize("wrong", ["00000000", "15.3.2020", "ANON", "00010101"])
def test_a_date_that_is_none_is_emptied_and_its_time_with_it(wrong):
    data = make(StudyDate=wrong)
    deidentify_dataset(data, secret=SECRET)
    assert not data.StudyDate and not data.StudyTime and data.SeriesDate


def test_what_dicom_registers_stays_and_what_it_does_not_know_goes():
    data = make()
    data.add_new((0x0008, 0x9999), "LO", "no such attribute")
    data.add_new((0x0018, 0x1400), "UN", b"opaque")
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-D3000", "SRT", "Chest"
    item.ContextUID = "1.2.840.10008.6.1.2"
    data.AnatomicRegionSequence = [item]
    deidentify_dataset(data, secret=SECRET)
    assert (0x0008, 0x9999) not in data and data[0x0018, 0x1400].value == "REMOVED"
    assert data.AnatomicRegionSequence[0].ContextUID == "1.2.840.10008.6.1.2"


def test_overlay_planes_in_unused_bits_are_cleared():
    words = np.arange(64, dtype=np.uint16) | (1 << 14)
    data = make(PixelData=words.tobytes())
    del data[0x6000, 0x3000]
    data[0x6000, 0x0100].value, data[0x6000, 0x0102].value = 16, 14
    assert deidentify_dataset(data, secret=SECRET).done["overlay_bits_cleared"] == 1
    assert np.frombuffer(data.PixelData, np.uint16).tolist() == list(range(64))


def ultrasound(**tags):
    region = Dataset()
    for name, value in zip(("MinX0", "MinY0", "MaxX1", "MaxY1"), (1, 3, 6, 7)):
        setattr(region, f"RegionLocation{name}", value)
    return make(modality="US", SOPClassUID=UltrasoundImageStorage, SequenceOfUltrasoundRegions=[region], **tags)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_banner_is_blacked_out_when_asked_and_refused_when_not(photometric):
    with pytest.raises(RefusedImage, match="Ultrasound Regions"):
        deidentify_dataset(ultrasound(), secret=SECRET)
    data = ultrasound(PhotometricInterpretation=photometric)
    what = deidentify_dataset(data, secret=SECRET, on_burned_in="mask")
    pixels = data.pixel_array
    inside = np.zeros((8, 8), bool)
    inside[3:8, 1:7] = True
    assert (pixels[inside] == np.arange(64).reshape(8, 8)[inside]).all()
    assert (pixels[~inside] == (4095 if photometric == "MONOCHROME1" else 0)).all()
    assert what.pixels == "masked" and what.codes == ["113100", "113101", "113107"]
    assert data.BurnedInAnnotation == "NO" and data.PatientIdentityRemoved == "YES"


def test_a_real_ultrasound_is_masked_in_every_frame(tmp_path):
    path = fetch_package("pydicom", "3.0.2") / "pydicom/data/test_files/examples_ybr_color.dcm"
    (tmp_path / "src").mkdir()
    shutil.copy(path, tmp_path / "src/Featherstone.dcm")
    report = deidentify_folder(tmp_path / "src", tmp_path / "dst", secret=SECRET, on_burned_in="mask", progress=False)
    assert (report["written"], report["failures"]) == (1, [])
    before = render_dicom(path, frames=[0, 29])
    (output,) = outputs(tmp_path / "dst")
    after = render_dicom(output, frames=[0, 29], on_burned_in="refuse")
    assert all((one == other).all() for one, other in zip(before.pixels, after.pixels))
    assert pydicom.dcmread(output).LossyImageCompression == "01", "it was compressed with loss once"


def test_objects_without_pixels_and_short_secrets_are_refused():
    report = make()
    del report.PixelData
    with pytest.raises(UnreadableImage, match="no pixels"):
        deidentify_dataset(report, secret=SECRET)
    with pytest.raises(SemiHVError, match="fewer than 16"):
        deidentify_dataset(make(), secret="short")
    with pytest.raises(SemiHVError, match="on_burned_in"):
        deidentify_dataset(make(), secret=SECRET, on_burned_in="ignore")


def folder_of_many(root: Path) -> Path:
    for number in range(12):
        save(make(number), root / f"Wilhelmina/{number:02}.dcm")
    save(make(3), root / "again.dcm")
    save(ultrasound(), root / "us.dcm")
    (root / "notes.txt").write_text("Featherstone")
    whole = (root / "Wilhelmina/05.dcm").read_bytes()
    (root / "Wilhelmina/torn.dcm").write_bytes(whole[: len(whole) // 2])
    (root / "link.dcm").symlink_to("/dev/null")
    return root


def test_a_folder_is_counted_file_by_file_and_the_originals_stay(tmp_path):
    source = folder_of_many(tmp_path / "src")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    report = deidentify_folder(source, tmp_path / "dst", secret=SECRET, progress=False)
    assert {name: report[name] for name in ("total", "written", "refused", "failed", "not_dicom")} == {
        "total": 17, "written": 12, "refused": 1, "failed": 3, "not_dicom": 1,
    }  # fmt: skip
    reasons = {failure["file"]: failure["reason"] for failure in report["failures"]}
    assert set(reasons) == {"Wilhelmina/03.dcm", "Wilhelmina/torn.dcm", "link.dcm", "us.dcm"}
    assert str(tmp_path) not in " ".join(reasons.values()) and "leads out" in reasons["link.dcm"]
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    with open(report["log"], newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["output"] for row in sorted(rows, key=lambda row: row["output"])] == [
        path.relative_to(tmp_path / "dst").as_posix() for path in outputs(tmp_path / "dst")
    ]
    assert all(row["codes"] == "113100;113107" and "private_removed=4" in row["done"] for row in rows)


def test_a_wrong_folder_is_refused_before_anything_is_written(tmp_path):
    source = save(make(), tmp_path / "src/a.dcm").parent
    for wrong in (source, source / "inside", tmp_path):
        with pytest.raises(SemiHVError, match="lie in each other"):
            deidentify_folder(source, wrong, secret=SECRET, progress=False)
    with pytest.raises(SemiHVError, match="no folder"):
        deidentify_folder(tmp_path / "none", tmp_path / "dst", secret=SECRET, progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("x")
    with pytest.raises(SemiHVError, match="holds something else"):
        deidentify_folder(source, tmp_path / "full", secret=SECRET, progress=False)
    deidentify_folder(source, tmp_path / "dst", secret=SECRET, progress=False)
    with pytest.raises(SemiHVError, match="another secret"):
        deidentify_folder(source, tmp_path / "dst", secret=SECRET + "!", progress=False)
    assert list(source.iterdir()) == [source / "a.dcm"]


def test_killed_and_started_again_the_folder_is_that_of_an_undisturbed_run(tmp_path):
    source = folder_of_many(tmp_path / "src")
    deidentify_folder(source, tmp_path / "whole", secret=SECRET, progress=False)
    code = (
        "import sys\nfrom semihv_hf.data.deidentify import deidentify_folder\n"
        f"deidentify_folder(sys.argv[1], sys.argv[2], secret={SECRET!r}, progress=False)"
    )
    dst = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(source), str(dst)])
    while process.poll() is None and len(outputs(dst)) < 4:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 4 <= len(outputs(dst)) <= 12
    state = dst / ".deidentification_state.jsonl"
    with open(state, "a") as handle:  # a line that was being written when the power went
        handle.write('{"file_key": "00')
    deidentify_folder(source, dst, secret=SECRET, progress=False)

    def content(folder):
        return {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != state.name
        }

    assert content(dst) == content(tmp_path / "whole") and len(outputs(dst)) == 12
    stamps = {path: os.stat(path).st_mtime_ns for path in outputs(dst)}
    deidentify_folder(source, dst, secret=SECRET, progress=False)
    assert {path: os.stat(path).st_mtime_ns for path in outputs(dst)} == stamps, "what is done is not done again"


def test_the_objects_of_a_package_lose_their_patients(tmp_path):
    own = fetch_package("pydicom", "3.0.2") / "pydicom/data/test_files"
    shutil.copytree(own, tmp_path / "src")
    report = deidentify_folder(tmp_path / "src", tmp_path / "dst", secret=SECRET, progress=False)
    assert report["total"] == sum(report[name] for name in ("written", "refused", "failed", "not_dicom"))
    assert report["written"] == len(outputs(tmp_path / "dst")) >= 28
    assert all(failure["reason"] for failure in report["failures"])
    names = set()
    for path in filter(Path.is_file, (tmp_path / "src").rglob("*")):
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        names |= {str(data.get(name) or "") for name in ("PatientName", "PatientID", "AccessionNumber")}
    names = {name for name in names if len(name) >= 5}
    assert len(names) > 5
    for path in outputs(tmp_path / "dst"):
        data = pydicom.dcmread(path)
        text = str(data)
        assert data.pixel_array.size and [name for name in names if name in text] == [], path
