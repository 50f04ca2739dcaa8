"""DeepLesion: the table as the NIH ships it, 16-bit slices, boxes that count from 1, several lesions of a slice."""

import csv
import json
import shutil
import zipfile

import numpy as np
import pytest
from release_checks import facts_of, pixels_of, png, read_all, reasons

from semihv_hf.data.messages import message_text
from semihv_hf.data.sources.deeplesion import TEXT_MINED, DeepLesion
from semihv_hf.data.sources.deeplesion_table import COLUMNS, LESION_TYPES
from semihv_hf.errors import SemiHVError

SIZE = (64, 48)  # columns, rows


def row(name="000001_01_01_109.png", **cells):
    patient, study, series, number = name.removesuffix(".png").split("_")
    usual = {
        "File_name": name, "Patient_index": str(int(patient)), "Study_index": str(int(study)),
        "Series_ID": str(int(series)), "Key_slice_index": str(int(number)),
        "Measurement_coordinates": "23.5, 15, 24, 27, 21, 21.6, 26.2, 21.1", "Bounding_boxes": "16, 10, 31.25, 32",
        "Lesion_diameters_Pixel_": "12, 5.1", "Normalized_lesion_location": "0.44666, 0.283794, 0.434454",
        "Coarse_lesion_type": "-1", "Possibly_noisy": "0", "Slice_range": "108, 111",
        "Spacing_mm_px_": "0.5, 0.5, 5", "Image_size": f"{SIZE[0]}, {SIZE[1]}", "DICOM_windows": "-175, 275",
        "Patient_gender": "F", "Patient_age": "62", "Train_Val_Test": "1",
    }  # fmt: skip
    return {**usual, **cells}


OTHER = {"Bounding_boxes": "40, 30, 50, 40", "Measurement_coordinates": "45, 35, 46, 36, 44, 35, 45, 34"}
TWO, THREE, NOISY = "000002_01_01_012.png", "000003_02_01_020.png", "000004_01_01_001.png"
TORN, ABSENT, SMALL = "000005_01_01_001.png", "000006_01_01_001.png", "000007_01_01_001.png"
ROWS = [
    row(),
    row(TWO, Coarse_lesion_type="4", Train_Val_Test="3", Patient_age="NaN", Patient_gender="M"),
    row(THREE, Bounding_boxes="-3, -4, 20, 52.5", Train_Val_Test="2", Coarse_lesion_type="5", Patient_age="0"),
    row(TWO, Coarse_lesion_type="8", Train_Val_Test="3", Patient_age="NaN", Patient_gender="M", **OTHER),
    row(),  # again
    row(NOISY, Possibly_noisy="1"),
    row(TORN),
    row(TORN, **OTHER),
    row(ABSENT),
    row(SMALL),
    row("000008_01_01_001.png", Bounding_boxes="60, 10, 90, 30"),
    row("000008_01_01_002.png", Bounding_boxes="30, 10, 20, 30"),
    row("000008_01_01_003.png", Coarse_lesion_type="9"),
    row("000008_01_01_004.png", Train_Val_Test="4"),
    row("000008_01_01_005.png", Measurement_coordinates="1, 2, 3"),
    row("000008_01_01_006.png", DICOM_windows="275, -175"),
    row("000008_01_01_007.png", File_name="000008.png"),
    row("000008_01_01_008.png", File_name=""),
    row(TWO, Train_Val_Test="1", Bounding_boxes="1, 1, 5, 5"),  # a slice in two splits
]  # fmt: skip


def hounsfield(name, size=SIZE):
    numbers = [int(part) for part in name.removesuffix(".png").split("_")]
    return np.random.default_rng(numbers).integers(-1024, 1500, (size[1], size[0]))


def slice_png(name, size=SIZE):
    return png((hounsfield(name, size) + 32768).astype(np.uint16))


def shown(name, low=-175, high=275):
    return np.clip((hounsfield(name) - low) / (high - low), 0, 1) * 255


def place(name):
    series, _, number = name.rpartition("_")
    return f"Images_png/{series}/{number}"


def write(root, rows=ROWS, names=None):
    with open(root / "DL_info.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    neighbours = [f"000001_01_01_{number}.png" for number in (107, 108, 110, 111)]
    for name in names or ["000001_01_01_109.png", TWO, THREE, NOISY, TORN, SMALL, *neighbours]:
        path = root / place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = slice_png(name, (32, 32) if name == SMALL else SIZE)
        path.write_bytes(data[:200] if name == TORN else data)


@pytest.fixture
def release(tmp_path):
    root = tmp_path / "release"
    root.mkdir()
    write(root)
    return root


def test_every_lesion_is_kept_or_skipped_with_its_reason(release):
    cases, skipped, _ = read_all(DeepLesion(release), release)
    assert list(cases) == ["000001_01_01_109.png", TWO, THREE, NOISY]
    assert reasons(skipped) == {
        "000001_01_01_109.png in row 5": "duplicate row",
        f"{TORN} in row 7": "unreadable image", f"{TORN} in row 8": "unreadable image",
        f"{ABSENT} in row 9": "missing image", f"{SMALL} in row 10": "bad region",
        "000008_01_01_001.png in row 11": "bad region", "000008_01_01_002.png in row 12": "bad region",
        "000008_01_01_003.png in row 13": "unknown label", "000008_01_01_004.png in row 14": "malformed row",
        "000008_01_01_005.png in row 15": "malformed row", "000008_01_01_006.png in row 16": "malformed row",
        "000008.png in row 17": "malformed row", "no name in row 18": "malformed row",
        f"{TWO} in row 19": "malformed row",
    }  # fmt: skip
    assert sum(len(case.regions) for case in cases.values()) + len(skipped) == len(ROWS)
    assert "32 x 32 pixels, not 64 x 48" in skipped[f"{SMALL} in row 10"].detail


def test_values_are_hounsfield_units_in_the_window_of_the_row(release):
    cases, _, _ = read_all(DeepLesion(release), release)
    for name in ("000001_01_01_109.png", TWO):
        assert np.abs(pixels_of(cases[name].images[0]) - shown(name)).max() <= 1
    assert facts_of(cases[TWO], "window") == ["-175 to 275 HU"]


def test_boxes_count_from_zero_and_end_inside_the_image(release):
    cases, _, _ = read_all(DeepLesion(release), release)
    first, two, three, _ = cases.values()
    # Column 16 to column 31.25, both counted from 1 and included.
    assert [(region.box, region.label, region.image) for region in first.regions] == [
        ([15, 9, 31.25, 32], "lesion", 0)
    ]
    assert [region.label for region in two.regions] == ["liver lesion", "pelvis lesion"]
    assert two.regions[1].box == [39, 29, 50, 40]
    assert three.regions[0].box == [0, 0, 20, 48]  # widened by five pixels beyond the edge in the release


def test_a_case_says_what_its_rows_say(release):
    cases, _, _ = read_all(DeepLesion(release), release)
    first, two, three, noisy = cases.values()
    assert [(case.group, case.split) for case in cases.values()] == [
        ("000001", "train"), ("000002", "test"), ("000003", "validation"), ("000004", "train"),
    ]  # fmt: skip
    stated = {name: facts_of(first, name) for name in ("modality", "plane", "sex", "age", "slice", "finding", "label")}
    assert stated == {
        "modality": ["CT"], "plane": ["axial"], "sex": ["female"], "age": ["62"], "slice": ["109"],
        "finding": ["lesion"], "label": [],
    }  # fmt: skip
    assert facts_of(first, "diameters_mm") == ["6 x 2.5"] and facts_of(first, "slice_interval_mm") == ["5"]
    assert facts_of(first, "measurement") == ["22.5, 14, 23, 26, 20, 20.6, 25.2, 20.1"]
    assert facts_of(two, "label") == ["liver", "pelvis"] and facts_of(two, "sex") == ["male"]
    assert facts_of(two, "age") == [] == facts_of(three, "age") and facts_of(noisy, "possibly_noisy") == ["yes"]
    assert not any(case.texts for case in cases.values())


def test_possibly_noisy_lesions_can_be_left_out(release):
    _, skipped, _ = read_all(DeepLesion(release, noisy=False), release)
    assert reasons(skipped)[f"{NOISY} in row 6"] == "known bad file"


def test_a_record_asks_for_the_type_where_the_release_states_it(release):
    cases, _, records = read_all(DeepLesion(release), release)
    assert [(record.source_id, message_text(record.messages[1])) for record in records] == [
        (TWO, "liver"), (TWO, "pelvis"), (THREE, "lung"),
    ]  # fmt: skip
    for record in records:
        (question,) = record.questions
        assert (record.task, question.answer_type, question.options) == (
            "multiple_choice", "closed", list(LESION_TYPES.values())
        )  # fmt: skip
        assert all(option in message_text(record.messages[0]) for option in question.options)
    assert "[39, 29, 50, 40]" in message_text(records[1].messages[0])


def test_neighbouring_slices_are_added_as_far_as_the_release_goes(release):
    source = DeepLesion(release, context=2)
    item = next(item for item in source.items() if item.source_id == "000001_01_01_109.png")
    (case,) = source.read(item)
    names = [f"000001_01_01_{number}.png" for number in (108, 109, 110, 111)]  # 107 is outside Slice_range
    assert len(case.images) == 4 and case.regions[0].image == 1
    for image, name in zip(case.images, names):
        assert np.abs(pixels_of(image) - shown(name)).max() <= 1
    (release / place(names[2])).unlink()
    (skipped,) = source.read(item)
    assert (skipped.reason, skipped.detail) == ("missing image", "Images_png/000001_01_01/110.png")


def test_slices_are_read_out_of_the_archives_of_the_release(release):
    expected, _, _ = read_all(DeepLesion(release), release)
    with zipfile.ZipFile(release / "Images_png_01.zip", "w") as archive:
        for path in sorted(release.glob("Images_png/*/*.png")):
            archive.write(path, path.relative_to(release))
    shutil.rmtree(release / "Images_png")
    assert read_all(DeepLesion(release), release)[0] == expected


def test_key_slices_are_taken_as_they_are_and_marks_in_them_are_told(release):
    plain = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0]), np.uint8)
    marked = np.stack([plain] * 3, axis=2)
    marked[9:32, 15] = (0, 255, 0)
    (release / "Key_slices").mkdir()
    (release / "Key_slices/000001_01_01_109.png").write_bytes(png(plain))
    (release / f"Key_slices/{TWO.upper()}").write_bytes(png(marked))
    cases, skipped, _ = read_all(DeepLesion(release, pictures="key_slices"), release)
    assert np.array_equal(pixels_of(cases["000001_01_01_109.png"].images[0]), plain)
    assert [facts_of(case, "overlay") for case in cases.values()] == [[], ["drawn marks"]]
    assert reasons(skipped)[f"{THREE} in row 3"] == "missing image"


def test_labels_that_a_program_mined_are_marked_as_such(release):
    mined = {
        "term_list": ["nodule", "right lower lobe", "liver"],
        "train_lesion_idxs": [0], "train_relevant_labels": [[0, 1]], "train_uncertain_labels": [[]],
        "val_lesion_idxs": [], "val_relevant_labels": [], "test_lesion_idxs": [3], "test_relevant_labels": [[2]],
    }  # fmt: skip
    (release / TEXT_MINED).write_text(json.dumps(mined))
    source = DeepLesion(release)
    cases, _, _ = read_all(source, release)
    (text,) = cases["000001_01_01_109.png"].texts
    assert (text.role, text.text, text.annotation) == ("labels", "nodule, right lower lobe", "machine")
    assert [text.text for text in cases[TWO].texts] == ["liver"] and not cases[THREE].texts
    assert source.metadata() == ["DL_info.csv", TEXT_MINED]
    (release / TEXT_MINED).write_text('{"term_list": []}')
    with pytest.raises(SemiHVError, match=f"{TEXT_MINED} is not as LesaNet ships it"):
        list(DeepLesion(release).items())


def test_a_wrong_folder_or_option_is_one_clear_error(tmp_path, release):
    with pytest.raises(SemiHVError, match=r"missing DL_info.csv .*Images_png.*Found: release/"):
        DeepLesion(tmp_path)
    for options, problem in (
        ({"pictures": "png"}, "pictures is 'png'"), ({"context": -1}, "context is -1"),
        ({"context": 1, "pictures": "key_slices"}, "context is 1"),
    ):  # fmt: skip
        with pytest.raises(SemiHVError, match=problem):
            DeepLesion(release, **options)
    (release / "DL_info.csv").write_text("File_name,Bounding_boxes\n")
    with pytest.raises(SemiHVError, match="missing columns Patient_index"):
        DeepLesion(release)
