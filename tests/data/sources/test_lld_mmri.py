"""LLD-MMRI: both layouts written as they are released, with boxes that only fit when no axis is mixed up."""

import gzip
import io
import json
import pickle

import nibabel
import numpy as np
import pytest
from PIL import Image

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.lld_mmri import CLASSIFICATION_FILES, LESIONS, LldMmri
from semihv_hf.errors import SemiHVError

# SimpleITK's usual axes, as nibabel sees them: x to the left, y to the back, z to the head.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (24, 16, 10)  # x, y, z: no two alike, so that no swap of axes goes unseen


def volume_with_box(path, box, slices, shape=SHAPE, affine=LPS, spacing=(1.0, 1.0, 3.0)):
    """A dark volume with a bright box (x_min, y_min, x_max, y_max; the last exclusive) in some slices."""
    data = np.random.default_rng(0).integers(0, 40, shape).astype(np.int16)
    left, top, right, bottom = box
    data[left:right, top:bottom, list(slices)] = 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine @ np.diag([*spacing, 1.0])), path)


def boxes(box, slices):
    names = ("x_min", "y_min", "x_max", "y_max")
    flat = [{**dict(zip(names, box)), "slice_idx": index} for index in slices]
    whole = {**dict(zip(names, box)), "z_min": min(slices), "z_max": max(slices)}
    return {"2D_box": flat, "3D_box": whole}


def lesion(category, box, slices):
    return {"category": category, "bbox": boxes(box, slices)}


def series(study, uid, phase, lesions):
    return {
        "studyUID": study, "seriesUID": uid, "phase": phase, "pixel_spacing": [1.0, 1.0], "slice_thickness": 3.0,
        "annotation": {"lesion": {str(number): entry for number, entry in enumerate(lesions)}},
    }  # fmt: skip


BOX, TALL = (3, 5, 12, 9), (15, 2, 19, 13)


@pytest.fixture
def full(tmp_path):
    """Every defect of the full release once; see the tests for what must become of each."""
    images = tmp_path / "images"
    volume_with_box(images / "MR-1" / "st1" / "good.nii.gz", BOX, (2, 3, 4, 5))
    volume_with_box(images / "MR-1" / "st1" / "plain.nii", TALL, (7,))
    volume_with_box(images / "MR-2" / "st2" / "hidden.nii.gz", BOX, (1,))
    volume_with_box(images / "MR-2" / "st2" / "torn.nii.gz", BOX, (1,))
    torn = images / "MR-2" / "st2" / "torn.nii.gz"
    torn.write_bytes(torn.read_bytes()[:-200])
    volume_with_box(images / "MR-3" / "st3" / "s.nii.gz", BOX, (1,))
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), LPS), images / "MR-3" / "st3" / "empty.nii.gz")
    (tmp_path.parent / f"{tmp_path.name}-outside.nii.gz").write_bytes(torn.read_bytes())
    (images / "MR-3" / "st3" / "link.nii.gz").symlink_to(tmp_path.parent / f"{tmp_path.name}-outside.nii.gz")
    annotation = {
        "MR-1": [
            series("st1", "good", "C+A", [lesion(6, BOX, (2, 3, 4, 5)), lesion(4, TALL, (3,))]),
            series("st1", "plain", "T2WI", [lesion(0, TALL, (7,))]),
            series("st1", "good", "C+A", [lesion(6, BOX, (2, 3, 4, 5))]),  # listed twice
        ],
        "MR-2": [
            series("st2", "hidden", "In Phase", [lesion(-1, BOX, (1,))]),
            series("st2", "torn", "DWI", [lesion(2, BOX, (1,))]),
            series("st2", "absent", "DWI", [lesion(2, BOX, (1,))]),
        ],
        "MR-3": [
            series("st3", "s", "Out Phase", [lesion(9, BOX, (1,))]),
            series("st3", "unboxed", "Out Phase", [{"category": 1, "bbox": {"2D_box": [{"x_min": 1}]}}]),
            series("st3", "empty", "C-pre", [lesion(1, BOX, (1,))]),
            series("st3", "link", "C-pre", [lesion(1, BOX, (1,))]),
            {"studyUID": "st3", "phase": "C+V"},
        ],
        "MR-4": [series("../..", "x", "C+V", [lesion(1, BOX, (1,))])],
        "MR-5": [
            series("st5", "far", "C+V", [lesion(1, (3, 5, 99, 9), (1,))]),
            series("st5", "deep", "C+V", [lesion(1, BOX, (10,))]),
        ],
    }
    for name in ("far", "deep"):
        volume_with_box(images / "MR-5" / "st5" / f"{name}.nii.gz", BOX, (1,))
    (tmp_path / "labels").mkdir()
    text = json.dumps({"Annotation_info": annotation})
    (tmp_path / "labels" / "Annotation.json").write_text(text, encoding="utf-8-sig")
    return tmp_path


@pytest.fixture
def classification(tmp_path):
    base = tmp_path / "classification_dataset"
    # Cut out by crop_roi.py, so SimpleITK wrote them without spacing.
    for folder in ("MR-7", "MR-7_1"):
        for phase in CLASSIFICATION_FILES:
            volume_with_box(base / "images" / folder / f"{phase}.nii.gz", BOX, (4, 5), spacing=(1, 1, 1))
    (base / "images" / "MR-7_1" / "DWI.nii.gz").unlink()
    (base / "labels").mkdir()
    (base / "labels" / "labels.txt").write_text("\ufeffMR-7 0\nMR-7_1 6\nMR-8\n\nMR-7 0\n", encoding="utf-8")
    (base / "labels" / "labels_val_inaccessible.txt").write_text("MR-9 -1\n")
    (base / "labels" / "train_fold1.txt").write_text("MR-7 0\n")
    return tmp_path


def read_all(source):
    listed = list(source.items())
    read = [row for entry in listed if isinstance(entry, Item) for row in source.read(entry)]
    rows = [row for row in read if isinstance(row, Case)]
    skipped = [row for row in [*listed, *read] if isinstance(row, Skipped)]
    return listed, {row.source_id: row for row in rows}, skipped


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def bright_box(picture):
    rows, columns = np.nonzero(picture > 128)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_regions_enclose_exactly_what_the_boxes_mark(full):
    _, cases, _ = read_all(LldMmri(full))
    case = cases["MR-1/st1/good/0"]
    assert len(case.images) == 4 and [region.image for region in case.regions] == [0, 1, 2, 3]
    for image, region in zip(case.images, case.regions):
        assert pixels(image).shape == (16, 24)  # rows along y, columns along x
        assert region.box == bright_box(pixels(image)) == list(BOX)
    tall = cases["MR-1/st1/plain/0"]
    assert tall.regions[0].box == bright_box(pixels(tall.images[0])) == list(TALL)


@pytest.mark.parametrize("spacing", [(1.0, 2.0, 3.0), (3.0, 1.0, 3.0)])
@pytest.mark.parametrize("signs", [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_regions_follow_square_pixels_and_the_usual_way_round(tmp_path, spacing, signs):
    affine = np.diag([*map(float, signs), 1.0, 1.0])
    volume_with_box(tmp_path / "images/MR-1/st/a.nii.gz", BOX, (2,), affine=affine, spacing=spacing)
    (tmp_path / "labels").mkdir()
    content = {"MR-1": [series("st", "a", "C+A", [lesion(6, BOX, (2,))])]}
    (tmp_path / "labels/Annotation.json").write_text(json.dumps({"Annotation_info": content}))
    _, cases, skipped = read_all(LldMmri(tmp_path))
    case = cases["MR-1/st/a/0"]
    picture = pixels(case.images[0])
    x, y = spacing[0] / min(spacing[:2]), spacing[1] / min(spacing[:2])
    assert picture.shape == (16 * y, 24 * x) and not skipped
    # The patient's right is on the left of the picture and the front is up, whatever the file's axes run to.
    left, right = (BOX[0], BOX[2]) if signs[0] < 0 else (24 - BOX[2], 24 - BOX[0])
    top, bottom = (BOX[1], BOX[3]) if signs[1] < 0 else (16 - BOX[3], 16 - BOX[1])
    assert case.regions[0].box == [left * x, top * y, right * x, bottom * y] == bright_box(picture)


def test_full_release_keeps_each_lesion_of_each_series_and_says_why_others_are_left_out(full):
    listed, cases, skipped = read_all(LldMmri(full))
    assert sorted(cases) == ["MR-1/st1/good/0", "MR-1/st1/good/1", "MR-1/st1/plain/0", "MR-2/st2/hidden/0"]
    assert {row.source_id: row.reason for row in skipped} == {
        "MR-1/st1/good/0": "duplicate row",
        "MR-2/st2/torn/0": "unreadable image",
        "MR-2/st2/absent/0": "missing image",
        "MR-3/st3/s/0": "unknown label",
        "MR-3/st3/unboxed/0": "bad region",
        "MR-3/st3/empty/0": "unreadable image",
        "MR-3/st3/link/0": "unsafe file",
        "MR-3/#4": "malformed row",
        "MR-4/../../x/0": "unsafe file",
        "MR-5/st5/far/0": "bad region",
        "MR-5/st5/deep/0": "bad region",
    }
    assert len(listed) == len(cases) + len(skipped)
    assert not any(str(full) in row.detail for row in skipped)


def test_facts_say_what_the_annotation_says(full):
    _, cases, _ = read_all(LldMmri(full))
    facts = {fact.name: fact for fact in cases["MR-1/st1/good/0"].facts}
    assert {name: fact.value for name, fact in facts.items()} == {
        "modality": "MRI", "body_part": "liver", "phase": "arterial", "plane": "axial",
        "label": "hepatocellular carcinoma", "slice_thickness": "3.0 mm",
    }  # fmt: skip
    assert facts["label"].source == "Annotation.json field category"
    assert facts["phase"].source == "labels/Annotation.json field phase"
    assert cases["MR-1/st1/plain/0"].fact("sequence").value == "T2-weighted"
    assert cases["MR-1/st1/good/1"].group == cases["MR-1/st1/good/0"].group == "MR-1"


def test_hidden_labels_are_no_label_and_no_question(full):
    source = LldMmri(full)
    hidden = read_all(source)[1]["MR-2/st2/hidden/0"]
    assert hidden.fact("label") is None and hidden.split == "validation"
    assert hidden.regions[0].label == "liver lesion"
    assert list(source.records(hidden)) == []


def test_number_of_slices_can_be_chosen_among_those_that_boxes_name(full):
    _, cases, _ = read_all(LldMmri(full, slices=2))
    sources = [region.source for region in cases["MR-1/st1/good/0"].regions]
    assert sources == [f"labels/Annotation.json 2D_box of slice {index}" for index in (2, 5)]
    with pytest.raises(SemiHVError, match="slices is 0"):
        LldMmri(full, slices=0)


def test_grey_range_is_that_of_the_whole_volume(tmp_path):
    data = np.zeros(SHAPE, np.int16)
    data[:, :, 4], data[:, :, 6] = 100, 400
    path = tmp_path / "images/MR-1/st/a.nii.gz"
    path.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(data, LPS), path)
    (tmp_path / "labels").mkdir()
    content = {"MR-1": [series("st", "a", "DWI", [lesion(2, BOX, (4, 6))])]}
    (tmp_path / "labels/Annotation.json").write_text(json.dumps({"Annotation_info": content}))
    case = read_all(LldMmri(tmp_path))[1]["MR-1/st/a/0"]
    # A range of its own for each slice would show both alike.
    assert [int(np.median(pixels(image))) for image in case.images] == [64, 255]


def test_classification_release_gives_eight_phases_a_lesion_and_one_group_a_patient(classification):
    listed, cases, skipped = read_all(LldMmri(classification))
    assert len(cases) == 8 + 7
    assert {case.group for case in cases.values()} == {"MR-7"}
    assert cases["MR-7_1/C+Delay"].fact("phase").value == "delayed"
    assert cases["MR-7_1/C+Delay"].fact("label").value == LESIONS[6]
    assert cases["MR-7/T2WI"].fact("label").source == "labels.txt column label"
    # This release has no boxes, and its volumes do not say how they lay in the patient.
    assert not any(case.regions or case.fact("plane") for case in cases.values())
    reasons = [row.reason for row in skipped]
    # MR-7_1/DWI was deleted, MR-9 never came with the archive, MR-7 stands in the list twice, MR-8 has no label.
    assert {reason: reasons.count(reason) for reason in set(reasons)} == {
        "missing image": 1 + 8, "duplicate row": 8, "malformed row": 1,
    }  # fmt: skip
    assert len(listed) == len(cases) + len(skipped)


@pytest.mark.parametrize(("count", "expected"), [(1, [4]), (3, [2, 4, 7]), (50, [2, 3, 4, 5, 6, 7])])
def test_slices_of_the_classification_release_are_spread_over_the_lesion_without_its_margin(
    classification, count, expected
):
    source = LldMmri(classification, slices=count)
    item = next(item for item in source.items() if item.source_id == "MR-7/T2WI")
    path = classification / "classification_dataset/images/MR-7/T2WI.nii.gz"
    data = np.zeros(SHAPE, np.int16)
    data[:, :, :] = np.arange(SHAPE[2]) * 10
    nibabel.save(nibabel.Nifti1Image(data, LPS), path)
    (case,) = source.read(item)
    window = np.percentile(data, [0.5, 99.5])
    shown = [int(np.median(pixels(image))) for image in case.images]
    assert shown == [int((index * 10 - window[0]) / (window[1] - window[0]) * 255 + 0.5) for index in expected]


def test_classification_folder_itself_can_be_given(classification):
    inside = read_all(LldMmri(classification / "classification_dataset"))[1]
    assert sorted(inside) == sorted(read_all(LldMmri(classification))[1])


def test_question_names_all_kinds_and_is_answered_by_the_label(full):
    source = LldMmri(full)
    case = read_all(source)[1]["MR-1/st1/good/0"]
    (record,) = source.records(case)
    validate_record(record.row())
    question, answer = (message_text(item) for item in record.messages)
    assert all(name in question for name in LESIONS)
    letter = next(line[0] for line in question.splitlines() if line.endswith("hepatocellular carcinoma"))
    assert answer == f"{letter}. hepatocellular carcinoma"
    assert record.task == "multiple_choice" and record.images == [case.images[2]]
    assert sorted(option[3:] for option in record.questions[0].options) == sorted(LESIONS)
    others = {tuple(next(iter(source.records(row))).questions[0].options) for row in read_all(source)[1].values()
              if row.fact("label")}  # fmt: skip
    assert len(others) > 1  # the right answer has no fixed place


@pytest.mark.parametrize(("layout", "count"), [("full", 4), ("classification", 15)])
def test_every_row_is_valid(request, layout, count):
    rows = read_all(LldMmri(request.getfixturevalue(layout)))[1].values()
    assert len(rows) == len({row.id for row in rows}) == count
    for row in rows:
        validate_case(row.row())


def test_either_release_can_be_chosen_where_both_lie_in_one_folder(full, classification):
    assert full == classification
    assert "MR-1/st1/good/0" in read_all(LldMmri(full))[1]
    assert "MR-7/T2WI" in read_all(LldMmri(full, layout_kind="classification"))[1]
    (full / "labels/Annotation.json").unlink()
    with pytest.raises(SemiHVError, match="missing labels/Annotation.json"):
        LldMmri(full, layout_kind="full")
    with pytest.raises(SemiHVError, match="Unknown layout"):
        LldMmri(full, layout_kind="half")


def test_listing_and_reading_repeat_also_after_pickling(full):
    source = LldMmri(full, slices=2, held_out=0.5, seed=3)
    items = list(source.items())
    assert items == list(source.items())
    other = pickle.loads(pickle.dumps(source))
    assert [list(other.read(item)) for item in items if isinstance(item, Item)] == [
        list(source.read(item)) for item in items if isinstance(item, Item)
    ]


def test_wrong_folder_says_what_was_expected_and_found(tmp_path):
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(SemiHVError, match=r"labels/Annotation\.json.*classification_dataset.*Found: notes\.md"):
        LldMmri(tmp_path)


def test_annotation_that_is_cut_off_is_one_clear_error(full):
    path = full / "labels/Annotation.json"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(SemiHVError, match="Annotation.json is no valid JSON"):
        list(LldMmri(full).items())
    path.write_text('{"info": {}}')
    with pytest.raises(SemiHVError, match="lists no patient"):
        list(LldMmri(full).items())


def test_bomb_is_refused_before_it_is_unpacked(full, monkeypatch):
    monkeypatch.setattr("semihv_hf.data.volume_slices.MAX_VOLUME_BYTES", 100_000)
    path = full / "images/MR-1/st1/good.nii.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    source = LldMmri(full)
    (row,) = source.read(next(item for item in source.items() if item.source_id == "MR-1/st1/good/0"))
    assert isinstance(row, Skipped) and row.reason == "unreadable image" and "100000 bytes" in row.detail
