"""Text burnt into pixels: what a header says decides, and every decision has a reason."""

import pickle

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from semihv_hf.data.burned_in import RefusedImage, judge_burned_in, mask_outside, ultrasound_regions
from semihv_hf.data.imaging import render_dicom
from semihv_hf.packages import fetch_package

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(scope="module")
def files():
    return fetch_package("pydicom", "3.0.2") / "pydicom/data/test_files"


def header(*boxes, **tags) -> Dataset:
    data = Dataset()
    data.Rows, data.Columns = 100, 200
    for name, value in tags.items():
        setattr(data, name, value)
    if boxes:
        items = []
        for box in boxes:
            item = Dataset()
            for name, value in zip(("MinX0", "MinY0", "MaxX1", "MaxY1"), box):
                setattr(item, f"RegionLocation{name}", value)
            items.append(item)
        data.SequenceOfUltrasoundRegions = items
    return data


IMAGE = (10, 20, 189, 99)
ORIGINAL = ["ORIGINAL", "PRIMARY"]


@pytest.mark.parametrize(
    ("data", "action", "said"),
    [
        (header(Modality="CT", BurnedInAnnotation="YES"), "refuse", "YES"),
        (header(IMAGE, Modality="US", BurnedInAnnotation="YES"), "mask", "YES"),
        (header(Modality="OT", BurnedInAnnotation="NO"), "allow", "NO"),
        (header(Modality="US", BurnedInAnnotation="NO"), "allow", "NO"),
        (header(Modality="OT", BurnedInAnnotation="NO", ConversionType="SD"), "refuse", "scanned document"),
        (header(Modality="CR", BurnedInAnnotation="NO", ConversionType="DF"), "refuse", "digitized film"),
        (header(Modality="CT", BurnedInAnnotation="NO", ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "refuse",
         "saved screen"),
        (header(IMAGE, Modality="US"), "mask", "(0018,6011)"),
        (header(Modality="US"), "refuse", "no ultrasound region"),
        (header((0, 0, 199, 99), Modality="US"), "refuse", "cover the whole image"),
        (header((0, 0, 199, 49), (0, 50, 199, 99), Modality="US"), "refuse", "cover the whole image"),
        (header(Modality="CT", SOPClassUID=CAPTURE), "refuse", "secondary capture"),
        (header(Modality="CT", SOPClassUID=CAPTURE + ".4"), "refuse", "secondary capture"),
        (header(Modality="NM", ConversionType="WSD"), "refuse", "workstation"),
        (header(Modality="CT", ImageType=ORIGINAL), "allow", "no banner"),
        (header(Modality="CT", ImageType=["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]), "refuse", "PROT"),
        (header(Modality="MR", ImageType=["DERIVED", "SECONDARY"]), "refuse", "SECONDARY"),
        (header(Modality="MR", ImageType=[*ORIGINAL, "PROTON_DENSITY", "NONE"]), "allow", "no banner"),
        (header(Modality="CR", ImageType=["DERIVED", "PRIMARY"]), "allow", "no banner"),
        (header(Modality="XA", ImageType=ORIGINAL), "allow", "no banner"),
        (header(Modality="RF", ImageType=["DERIVED", "SECONDARY"]), "refuse", "SECONDARY"),
        (header(Modality="ES"), "refuse", "ES"),
        (header(Modality="OT"), "refuse", "OT"),
        (header(), "refuse", "unknown"),
    ],
)  # fmt: skip
def test_the_header_decides_and_the_reason_says_by_which_element(data, action, said):
    verdict = judge_burned_in(data)
    assert verdict.action == action and said in verdict.reason
    assert bool(verdict.regions) == (action == "mask")


def test_regions_are_inclusive_in_the_file_clipped_and_never_empty():
    data = header((10, 20, 19, 39), (-5, -5, 500, 3), (50, 50, 40, 60), (300, 0, 400, 10))
    assert ultrasound_regions(data) == ((10, 20, 20, 40), (0, 0, 200, 4))
    incomplete = header((1, 2, 3, 4))
    del incomplete.SequenceOfUltrasoundRegions[0].RegionLocationMaxY1
    assert ultrasound_regions(incomplete) == ()


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_masking_keeps_regions_and_nothing_else(shape):
    pixels = np.random.default_rng(0).integers(1, 255, shape, dtype=np.uint8)
    masked = mask_outside(pixels, ((2, 3, 10, 12), (8, 10, 30, 20)))
    inside = np.zeros((20, 30), bool)
    inside[3:12, 2:10] = inside[10:20, 8:30] = True
    assert (masked[inside] == pixels[inside]).all() and not masked[~inside].any() and pixels.all()


@pytest.mark.parametrize("name", ["examples_palette.dcm", "examples_ybr_color.dcm"])
def test_an_ultrasound_of_a_real_machine_is_masked_to_its_regions(files, name):
    path = files / name
    kept, masked = render_dicom(path, frames=[0], on_burned_in="keep"), render_dicom(path, frames=[0])
    regions = judge_burned_in(pydicom.dcmread(path)).regions
    assert regions and (masked.pixels[0] == mask_outside(kept.pixels[0], regions)).all()
    assert (masked.pixels[0] != kept.pixels[0]).any(), "there was a banner to black out"
    said = {fact.name: fact.value for fact in masked.facts}, {fact.name: fact.value for fact in kept.facts}
    assert [facts["burnt_in_text"] for facts in said] == ["outside of the regions blacked out", "kept"]
    with pytest.raises(RefusedImage, match="Ultrasound Regions"):
        render_dicom(path, on_burned_in="refuse")


def test_an_ultrasound_screen_without_regions_is_refused(files):
    with pytest.raises(RefusedImage, match="examples_rgb_color.dcm: US") as error:
        render_dicom(files / "examples_rgb_color.dcm")  # it has "LYMPH NODE" in its pixels
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.path, again.reason) == (error.value.path, error.value.reason)


def test_faces_are_pointed_out():
    assert "face" in judge_burned_in(header(Modality="CT", BodyPartExamined="HEAD")).note
    assert "YES" in judge_burned_in(header(Modality="CT", RecognizableVisualFeatures="YES")).note
    assert "photograph" in judge_burned_in(header(Modality="XC")).note
    stated = header(Modality="MR", BodyPartExamined="BRAIN", RecognizableVisualFeatures="NO")
    assert judge_burned_in(stated).note == judge_burned_in(header(Modality="CT", BodyPartExamined="CHEST")).note == ""
