"""Reading clinical files: orientation, grey scales, colours, and files that are cut off."""

import gzip

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from semihv_hf.data import imaging
from semihv_hf.data.imaging import UnreadableImage
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
