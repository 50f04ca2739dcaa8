"""Slices of volumes: which way round they are, what boxes become, grey ranges, and files that are damaged."""

import gzip
import io

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semihv_hf.data.imaging import UnreadableImage, canonical_volume, plane_slice, plane_spacing
from semihv_hf.data.release import Release
from semihv_hf.data.volume_slices import (
    StoredVolume,
    mask_box,
    percentile_window,
    read_volume,
    scaled,
    slice_box,
    slice_picture,
    slice_pixels,
)
from semihv_hf.packages import fetch_package

AXES = {"LPS": (-1.0, -1.0, 1.0), "RAS": (1.0, 1.0, 1.0), "LAS": (-1.0, 1.0, 1.0), "RPI": (1.0, -1.0, -1.0)}


def stored(shape=(6, 4, 3), signs=(-1.0, -1.0, 1.0), spacing=(1.0, 1.0, 1.0)):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return StoredVolume("v.nii", data, np.diag([*np.multiply(signs, spacing), 1.0]))


@pytest.mark.parametrize("axes", AXES)
def test_axial_slices_are_turned_as_other_volumes_are(axes):
    volume = stored(signs=AXES[axes], spacing=(2.0, 3.0, 4.0))
    canonical = canonical_volume(volume.data, volume.affine, "v.nii")
    depth = volume.data.shape[2]
    for index in range(depth):
        counted = index if axes.endswith("S") else depth - 1 - index
        assert np.array_equal(slice_pixels(volume, index), plane_slice(canonical, "axial", counted))
    assert volume.spacing == plane_spacing(canonical, "axial") == (3.0, 2.0)
    assert volume.plane == "axial"


def test_a_real_volume_is_turned_as_other_volumes_are():
    folder = fetch_package("nilearn", "0.14.1") / "nilearn/datasets/data"
    name = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    volume = read_volume(Release(folder), name)
    canonical = canonical_volume(volume.data, volume.affine, name)
    assert volume.plane == "axial" and volume.is_oriented
    assert np.array_equal(slice_pixels(volume, 90), plane_slice(canonical, "axial", 90))


@settings(max_examples=60)
@given(st.data())
def test_a_box_marks_the_same_voxels_before_and_after_a_slice_is_turned(data):
    width, height = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 9))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    signs = data.draw(st.sampled_from(sorted(AXES.values())))
    volume = stored((width, height, 1), signs)
    volume.data[:] = 0
    volume.data[left:right, top:bottom] = 1
    assert slice_box(volume, (left, top, right, bottom)) == mask_box(slice_pixels(volume, 0))


@pytest.mark.parametrize(
    "box", [(2, 1, 2, 3), (3, 1, 2, 3), (-2, 0, 2, 2), (0, 0, 8, 2), (0, 0, 2, 6), (np.nan, 0, 2, 2)]
)
def test_boxes_that_are_empty_or_leave_the_slice_are_refused(box):
    with pytest.raises(ValueError, match="not inside a slice of 6 x 4"):
        slice_box(stored(), box)


def test_boxes_that_leave_the_slice_by_a_pixel_are_cut():
    assert slice_box(stored(), (-1, 2, 7, 5)) == [0, 2, 6, 4]


def test_mask_box_of_nothing_is_none():
    assert mask_box(np.zeros((3, 4))) is None


@pytest.mark.parametrize(("spacing", "size"), [((1.0, 1.0), (6, 4)), ((3.0, 1.0), (6, 12)), ((0.5, 1.0), (12, 4))])
def test_pictures_have_square_pixels_and_say_how_boxes_grow(spacing, size):
    picture, scale = slice_picture(np.arange(24.0).reshape(4, 6), (0.0, 23.0), spacing)
    assert Image.open(io.BytesIO(picture)).size == size
    assert scaled([0, 0, 6, 4], scale) == [0, 0, *size]


def test_values_that_are_not_finite_do_not_spoil_a_picture():
    values = np.array([[0.0, np.nan], [np.inf, 10.0]], np.float32)
    assert percentile_window(values, "v", 0, 100) == (0.0, 10.0)
    picture, _ = slice_picture(values, (0.0, 10.0), (1.0, 1.0))
    assert np.asarray(Image.open(io.BytesIO(picture))).tolist() == [[0, 0], [255, 255]]


def test_grey_range_reaches_what_stands_out_of_a_wide_background():
    values = np.zeros((100, 100, 10), np.int16)
    values[50, 50, 5] = 700
    assert percentile_window(values, "v") == (0.0, 700.0)


@pytest.mark.parametrize("values", [np.full((3, 3, 3), 4), np.full((3, 3, 3), np.nan)])
def test_volumes_without_contrast_are_unreadable(values):
    with pytest.raises(UnreadableImage):
        percentile_window(values, "v")


def test_grey_range_of_a_large_volume_rests_on_a_sample_of_it():
    values = np.random.default_rng(0).normal(100, 20, (256, 256, 160)).astype(np.float32)
    low, high = percentile_window(values, "v")
    expected = np.percentile(values, [0.5, 99.5])
    assert abs(low - expected[0]) < 0.3 and abs(high - expected[1]) < 0.3


@pytest.fixture
def packed(tmp_path):
    data = np.random.default_rng(0).integers(0, 99, (8, 7, 6)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1.0, -1.0, 3.0, 1.0])), tmp_path / "v.nii.gz")
    return tmp_path, data


def test_files_are_read_whatever_they_are_called_and_however_they_are_packed(packed):
    folder, data = packed
    raw = gzip.decompress((folder / "v.nii.gz").read_bytes())
    (folder / "plain.nii.gz").write_bytes(raw)  # not packed at all
    (folder / "packed.nii").write_bytes(gzip.compress(raw))
    (folder / "members.nii.gz").write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]) + bytes(20))
    four = nibabel.Nifti1Image(data[..., None], np.eye(4))
    nibabel.save(four, folder / "four.nii.gz")
    for name in ("v.nii.gz", "plain.nii.gz", "packed.nii", "members.nii.gz", "four.nii.gz"):
        assert np.array_equal(read_volume(Release(folder), name).data, data), name


def test_damaged_files_are_unreadable_with_a_reason(packed):
    folder, data = packed
    whole = (folder / "v.nii.gz").read_bytes()
    raw = gzip.decompress(whole)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    nibabel.save(nibabel.Nifti1Image(np.stack([data, data], axis=3), np.eye(4)), folder / "two.nii.gz")
    flat = nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 1.0, 1.0]))
    flat.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    nibabel.save(flat, folder / "flat.nii.gz")
    contents = {
        "torn.nii.gz": whole[:-60], "damaged.nii.gz": bytes(damaged), "text.nii.gz": b"no volume",
        "short.nii": raw[:400], "empty.nii.gz": b"",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name in (*contents, "two.nii.gz", "flat.nii.gz"):
        with pytest.raises(UnreadableImage) as error:
            read_volume(Release(folder), name)
        assert error.value.reason and str(folder) not in str(error.value), name


def test_a_file_that_does_not_state_its_orientation_has_no_plane(tmp_path):
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.int16), None)
    nibabel.save(image, tmp_path / "v.nii")
    volume = read_volume(Release(tmp_path), "v.nii")
    assert not volume.is_oriented and volume.plane is None


def test_an_oblique_slice_has_no_plane():
    turn = np.array([[1, 0, 0], [0, np.cos(0.7), -np.sin(0.7)], [0, np.sin(0.7), np.cos(0.7)]])
    affine = np.eye(4)
    affine[:3, :3] = turn
    assert StoredVolume("v", np.zeros((2, 2, 2)), affine).plane is None
