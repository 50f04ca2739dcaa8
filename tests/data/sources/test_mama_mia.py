"""MAMA-MIA: the release's layout with a workbook of 49 columns, phases, masks and what is known to be wrong in it."""

import io
import pickle

import nibabel
import numpy as np
import openpyxl
import pytest
from PIL import Image

from semihv_hf.data.checks import validate_case
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped
from semihv_hf.data.sources.mama_mia import MamaMia
from semihv_hf.errors import SemiHVError

COLUMNS = (
    "patient_id dataset bilateral_breast_cancer multifocal_cancer nac_agent endocrine_therapy anti_her2_neu_therapy "
    "pcr mastectomy_post_nac days_to_follow_up days_to_recurrence days_to_metastasis days_to_death hr er pr her2 "
    "mammaprint oncotype_score nottingham_grade tumor_subtype age menopause ethnicity has_implant weight patient_size "
    "bmi_group view bilateral_mri num_phases fat_suppressed field_strength image_rows image_columns num_slices "
    "pixel_spacing slice_thickness site manufacturer scanner_model high_bit window_center window_width echo_time "
    "repetition_time acquisition_times acquisition_date tcia_series_uid"
).split()
SHAPE = (20, 14, 23)  # x, y, z: 23 is no multiple of ten
LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
TUMOUR = (slice(3, 9), slice(4, 7), slice(11, 14))  # x 3..8, y 4..6, z 11..13


def write(path, data, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def mask_volume(shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[TUMOUR] = 1
    mask[3, 4, 12] = 2  # another label is marked, too
    mask[10, 5, 12] = 1  # slice 12 has the largest area
    return mask


def phase_volume(phase):
    data = np.random.default_rng(phase).integers(50, 90, SHAPE).astype(np.int16)
    if phase:
        data[mask_volume() > 0] = 600 - 60 * phase  # takes up contrast at once and washes out
    return data


def study(root, patient, phases=3, folder=None, affine=LPS):
    for phase in range(phases):
        write(root / "images" / (folder or patient) / f"{patient}_{phase:04d}.nii.gz", phase_volume(phase), affine)
    write(root / "segmentations" / "expert" / f"{patient}.nii.gz", mask_volume(), affine)


def clinical(patient, dataset="DUKE", phases=3, **cells):
    row = {"patient_id": patient, "dataset": dataset, "num_phases": phases, **cells}
    return [row.get(column) for column in COLUMNS]


ROWS = [
    clinical(
        "DUKE_001", pcr=0.0, er=1.0, pr=0.0, her2="NaN", age=41.0, field_strength=1.5, tumor_subtype="her2_enriched",
        view="axial", ethnicity="asian", site="Site AAI", acquisition_date="1984/10/13", manufacturer="SIEMENS",
    ),
    clinical("ISPY1_1001", "ISPY1"),
    clinical("ISPY2_100899", "ISPY2"),
    clinical("NACT_01", "NACT"),
    clinical("DUKE_001"),
    clinical("DUKE_404"),
    clinical("DUKE_405"),
    clinical("DUKE_406"),
    clinical("DUKE_407", "Duke"),
    clinical("DUKE_408", phases=None),
    clinical(None, phases=4),
    [None] * len(COLUMNS),
    clinical("DUKE_409"),
    clinical("DUKE_410"),
]  # fmt: skip


@pytest.fixture
def release(tmp_path):
    study(tmp_path, "DUKE_001")
    study(tmp_path, "ispy1_1001", folder="ISPY1_1001")  # the table says ISPY1_1001
    study(tmp_path, "ISPY2_100899")
    torn = tmp_path / "images/ISPY2_100899/ISPY2_100899_0002.nii.gz"
    torn.write_bytes(torn.read_bytes()[:-300])
    study(tmp_path, "NACT_01", phases=2)  # the table promises three
    study(tmp_path, "DUKE_404")
    (tmp_path / "segmentations/expert/DUKE_404.nii.gz").unlink()
    study(tmp_path, "DUKE_405")
    write(tmp_path / "segmentations/expert/DUKE_405.nii.gz", np.zeros((20, 14, 22), np.uint8))
    study(tmp_path, "DUKE_406")
    moved = LPS.copy()
    moved[0, 3] = 5.0
    write(tmp_path / "segmentations/expert/DUKE_406.nii.gz", mask_volume(), moved)
    study(tmp_path, "DUKE_409")
    write(tmp_path / "images/DUKE_409/DUKE_409_0001.nii.gz", np.full(SHAPE, 7, np.int16))
    book = openpyxl.Workbook()
    book.active.title = "readme"
    sheet = book.create_sheet("dataset_info")
    sheet.append(COLUMNS)
    for row in ROWS:
        sheet.append(row)
    book.save(tmp_path / "clinical_and_imaging_info.xlsx")
    splits = "\ufefftrain_split,test_split\nDUKE_001,ISPY1_1001\nUCSF_9,DUKE_410\nDUKE_410,\n"
    (tmp_path / "train_test_splits.csv").write_text(splits, encoding="utf-8")
    scores = "patient_id,expert_1_qs,expert_2_qs\nDUKE_001,Good,Acceptable\n"
    (tmp_path / "automatic_segmentations_quality_scores.csv").write_text(scores)
    return tmp_path


def read_all(source):
    listed = list(source.items())
    read = [row for entry in listed if isinstance(entry, Item) for row in source.read(entry)]
    cases = [row for row in read if isinstance(row, Case)]
    return listed, cases, [row for row in [*listed, *read] if isinstance(row, Skipped)]


def read_one(source, patient):
    return list(source.read(next(item for item in source.items() if item.source_id == patient)))


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def index(case):
    return int(case.source_id.rpartition(" ")[2])


def test_every_patient_becomes_slices_or_one_reason(release):
    listed, cases, skipped = read_all(MamaMia(release))
    assert [(row.source_id, row.reason) for row in skipped if row.source_id in ("DUKE_001", "UCSF_9")] == [
        ("DUKE_001", "duplicate row"), ("UCSF_9", "malformed row"),
    ]  # fmt: skip
    assert {row.source_id: row.reason for row in skipped} == {
        "DUKE_001": "duplicate row",
        "ISPY2_100899": "unreadable image",
        "NACT_01": "missing image",
        "DUKE_404": "missing image",
        "DUKE_405": "bad region",
        "DUKE_406": "bad region",
        "DUKE_407": "unknown label",
        "DUKE_408": "malformed row",
        "dataset_info/12": "malformed row",
        "DUKE_409": "unreadable image",
        "DUKE_410": "malformed row",
        "UCSF_9": "malformed row",
    }
    groups = {case.group for case in cases}
    assert groups == {"DUKE_001", "ISPY1_1001"}
    # Every row of the sheet but the cleared one, and the patient that only the table of splits names.
    assert len(listed) == len(ROWS) - 1 + 1 == len(groups) + len(skipped)
    assert not any(str(release) in row.detail for row in skipped)


def test_slices_reach_both_ends_also_when_ten_does_not_divide_their_number(release):
    cases = read_one(MamaMia(release, lesion_slices=0), "DUKE_001")
    assert [index(case) for case in cases] == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    # The ten slices of a step of n // 10 end before the last tenth.
    assert max(range(0, SHAPE[2], SHAPE[2] // 10)[:10]) < 0.9 * SHAPE[2] <= index(cases[-1])


def test_a_slice_shows_all_phases_on_one_grey_range(release):
    cases = read_one(MamaMia(release), "DUKE_001")
    case = next(case for case in cases if index(case) == 12)
    assert len(case.images) == 3
    assert case.fact("phase").value == "pre-contrast, post-contrast 1, post-contrast 2"
    inside = [pixels(image)[4:7, 3:9].mean() for image in case.images]
    outside = [pixels(image)[9:, 12:].mean() for image in case.images]
    assert inside[0] < 60 < inside[2] < inside[1]
    assert max(outside) - min(outside) < 8  # tissue that takes up nothing stays as it is


def test_regions_are_the_box_of_the_mask_in_every_phase(release):
    cases = {index(case): case for case in read_one(MamaMia(release, slices=0, lesion_slices=5), "DUKE_001")}
    assert sorted(cases) == [11, 12, 13]
    for place, box in ((11, [3, 4, 9, 7]), (12, [3, 4, 11, 7]), (13, [3, 4, 9, 7])):
        case = cases[place]
        assert [(region.image, region.box) for region in case.regions] == [(image, box) for image in range(3)]
        assert case.regions[0].source == f"segmentations/expert/DUKE_001.nii.gz, slice {place}"
        rows, columns = np.nonzero(pixels(case.images[1]) > 128)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box
    largest = read_one(MamaMia(release, slices=0), "DUKE_001")
    assert [index(case) for case in largest] == [12]


def test_slices_without_a_tumour_say_so(release):
    cases = read_one(MamaMia(release), "DUKE_001")
    for case in cases:
        marked = index(case) in (11, 12, 13)
        assert bool(case.regions) == marked
        assert case.fact("lesion").value == ("visible" if marked else "not visible")


# Axes of the file, and how its slices are stacked: the tumour must lie where the mask says in every picture.
AFFINES = {
    "LPS": np.diag([-1.0, -1.0, 2.0, 1.0]),
    "RAS": np.diag([1.0, 1.0, 2.0, 1.0]),
    "LPI": np.diag([-1.0, -1.0, -2.0, 1.0]),
    "sagittal": np.array([[0, 0, 2.0, 0], [-1.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", AFFINES)
def test_boxes_fit_whatever_way_the_file_is_stored(release, name):
    study(release, "DUKE_001", affine=AFFINES[name])
    (case,) = read_one(MamaMia(release, slices=0), "DUKE_001")
    assert index(case) == 12
    assert case.fact("plane").value == ("sagittal" if name == "sagittal" else "axial")
    rows, columns = np.nonzero(pixels(case.images[1]) > 128)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert case.regions[0].box == pytest.approx(seen, abs=0.01)
    # Front up and the patient's right on the left; for sagittal slices head up and face to the left.
    expected = {"LPS": [3, 4, 11, 7], "LPI": [3, 4, 11, 7], "RAS": [9, 7, 17, 10], "sagittal": [3, 12, 11, 21]}
    assert seen == expected[name]


def test_subtraction_shows_what_takes_up_contrast(release):
    (case,) = read_one(MamaMia(release, slices=0, phases=[1, 0], subtraction=True), "DUKE_001")
    assert len(case.images) == len(case.regions) == 3
    assert case.fact("phase").value.endswith("post-contrast 1, subtraction (post-contrast 1 minus pre-contrast)")
    shown = pixels(case.images[2])
    assert shown[4:7, 3:9].min() > 200 and shown[9:, 12:].max() < 30


def test_facts_are_the_table_s_words_without_what_describes_a_person(release):
    case = read_one(MamaMia(release), "DUKE_001")[0]
    facts = {fact.name: fact.value for fact in case.facts}
    expected = {
        "modality": "MRI", "body_part": "breast", "plane": "axial", "cohort": "DUKE", "age": "41",
        "pathologic_complete_response": "no", "oestrogen_receptor": "positive", "progesterone_receptor": "negative",
        "tumour_subtype": "her2_enriched", "field_strength": "1.5 T", "manufacturer": "SIEMENS",
    }  # fmt: skip
    assert expected.items() <= facts.items()
    assert "her2" not in facts  # NaN in the table
    assert not {"asian", "Site AAI", "1984/10/13"} & set(facts.values())
    assert case.fact("age").source == "clinical_and_imaging_info.xlsx column age"
    scores = [fact.value for fact in case.facts if fact.name == "automatic_segmentation_quality"]
    assert scores == ["Good", "Acceptable"]


def test_names_match_whatever_their_case_and_splits_are_the_release_s(release):
    items = {item.source_id: item for item in MamaMia(release).items() if isinstance(item, Item)}
    assert (items["DUKE_001"].split, items["ISPY1_1001"].split) == ("train", "test")
    assert len(read_one(MamaMia(release), "ISPY1_1001")) == 10  # slice 12 is among the ten already
    splits = [item.split for item in MamaMia(release, held_out=0.9, seed=1).items() if isinstance(item, Item)]
    assert splits[0] == "train" and "test" in splits[2:]


def test_automatic_masks_can_be_asked_for(release):
    write(release / "segmentations/automatic/DUKE_001.nii.gz", np.zeros(SHAPE, np.uint8))
    cases = read_one(MamaMia(release, segmentation="automatic"), "DUKE_001")
    assert len(cases) == 10 and not any(case.regions for case in cases)


@pytest.mark.parametrize(
    "options",
    [
        {"slices": 0, "lesion_slices": 0},
        {"segmentation": "none"},
        {"phases": []},
        {"phases": [1], "subtraction": True},
    ],
)
def test_options_that_make_no_sense_are_refused(release, options):
    with pytest.raises(SemiHVError):
        MamaMia(release, **options)


def test_every_row_is_valid_and_reading_repeats_after_pickling(release):
    source = MamaMia(release, subtraction=True)
    items = [item for item in source.items() if isinstance(item, Item)]
    assert list(source.items()) == list(source.items())
    cases = [row for item in items for row in source.read(item) if isinstance(row, Case)]
    assert len(cases) == 20 and len({case.id for case in cases}) == 20
    for case in cases:
        validate_case(case.row())
    other = pickle.loads(pickle.dumps(source))
    assert [row for item in items for row in other.read(item) if isinstance(row, Case)] == cases


def test_wrong_folder_and_wrong_workbook_are_one_clear_error(release, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SemiHVError, match=r"clinical_and_imaging_info.xlsx.*images.*segmentations.*Found: nothing"):
        MamaMia(empty)
    path = release / "clinical_and_imaging_info.xlsx"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SemiHVError, match="no readable workbook"):
        list(MamaMia(release).items())
    book = openpyxl.Workbook()
    book.save(path)
    with pytest.raises(SemiHVError, match="no sheet dataset_info, only Sheet"):
        list(MamaMia(release).items())
    book.active.title = "dataset_info"
    book.active.append(["patient_id", "dataset"])
    book.save(path)
    with pytest.raises(SemiHVError, match="lacks num_phases"):
        list(MamaMia(release).items())
