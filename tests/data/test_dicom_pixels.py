"""DICOM pixels: every transfer syntax, look-up tables, windows, frames, overlays, colours."""

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from semihv_hf.data.burned_in import RefusedImage
from semihv_hf.data.imaging import UnreadableImage, apply_voi_function, render_dicom
from semihv_hf.data.imaging.dicom import decode_frames, open_dicom
from semihv_hf.packages import fetch_package


@pytest.fixture(scope="module")
def own_files():
    return fetch_package("pydicom", "3.0.2") / "pydicom/data/test_files"


@pytest.fixture(scope="module")
def more_files():
    return fetch_package("pydicom-data", "1.0.0") / "data_store/data"


def make(pixels: np.ndarray, *, syntax=ExplicitVRLittleEndian, frames=None, coded=None, bits=None, **tags) -> Dataset:
    """A data set as a scanner would write it; `pixels` is (rows, columns[, 3]) or (frames, rows, columns)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("made.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    if frames:
        data.NumberOfFrames = frames
    for name, value in tags.items():
        setattr(data, name, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data.PixelData = coded if coded is not None else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data["PixelData"].VR = "OB" if coded is not None else "OW"
    return data


def saved(data: Dataset, path) -> str:
    data.save_as(path, enforce_file_format=True)
    return str(path)


def table(entries, first=0, bits=16) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % (1 << 16), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def fact(rendered, name):
    return next((found.value for found in rendered.facts if found.name == name), None)


# The same objects in a lossless and an uncompressed form, as the two packages hold them.
PAIRS = [
    ("implicit", "MR_small.dcm", "MR_small_implicit.dcm", "1.2.840.10008.1.2"),
    ("big endian", "MR_small.dcm", "MR_small_bigendian.dcm", "1.2.840.10008.1.2.2"),
    ("JPEG-LS", "MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm", "1.2.840.10008.1.2.4.80"),
    ("JPEG 2000", "MR_small.dcm", "MR_small_jp2klossless.dcm", "1.2.840.10008.1.2.4.90"),
    ("RLE", "MR_small.dcm", "MR_small_RLE.dcm", "1.2.840.10008.1.2.5"),
    ("RLE colour", "SC_rgb.dcm", "SC_rgb_rle.dcm", "1.2.840.10008.1.2.5"),
]


@pytest.mark.parametrize(("kind", "plain", "packed", "syntax"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_lossless_syntaxes_give_the_pixels_of_the_plain_file(own_files, more_files, kind, plain, packed, syntax):
    def find(name):
        return next(folder / name for folder in (own_files, more_files) if (folder / name).exists())

    one, other = open_dicom(find(plain)), open_dicom(find(packed))
    assert other.file_meta.TransferSyntaxUID == syntax
    assert (decode_frames(one, [0])[0] == decode_frames(other, [0])[0]).all()


CODED = {
    "lossless JPEG": ("1.2.840.10008.1.2.4.57", lambda p: imagecodecs.ljpeg_encode(p)),
    "lossless JPEG, first predictor": ("1.2.840.10008.1.2.4.70", lambda p: imagecodecs.ljpeg_encode(p)),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", lambda p: imagecodecs.jpegls_encode(p)),
    "JPEG 2000": ("1.2.840.10008.1.2.4.90", lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="J2K")),
    "high-throughput JPEG 2000": ("1.2.840.10008.1.2.4.201", lambda p: imagecodecs.htj2k_encode(p)),
    "high-throughput JPEG 2000, RPCL": ("1.2.840.10008.1.2.4.202", lambda p: imagecodecs.htj2k_encode(p)),
}


@pytest.mark.parametrize("kind", CODED)
def test_frames_that_a_codec_wrote_come_back(kind, tmp_path):
    syntax, encode = CODED[kind]
    frames = np.random.default_rng(3).integers(0, 4096, (3, 40, 24), dtype=np.uint16)
    coded = encapsulate([bytes(encode(frame)) for frame in frames])
    path = saved(make(frames, syntax=pydicom.uid.UID(syntax), frames=3, coded=coded, bits=12), tmp_path / "a.dcm")
    assert (np.stack(decode_frames(open_dicom(path), [0, 2])) == frames[[0, 2]]).all()


def test_every_object_of_two_packages_is_rendered_or_refused_with_a_reason(own_files, more_files):
    syntaxes, unreadable = set(), []
    for path in sorted([*own_files.glob("*.dcm"), *more_files.glob("*.dcm")]):
        if path.stat().st_size > 300_000:
            continue
        try:
            data = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        if "PixelData" not in data:
            continue
        try:
            rendered = render_dicom(path, frames=[0], on_burned_in="keep")
        except UnreadableImage as error:
            unreadable.append(path.name)
            assert error.reason and "\n" not in error.reason
            continue
        assert rendered.pixels[0].dtype == np.uint8 and rendered.pixels[0].shape[:2] == (data.Rows, data.Columns)
        assert fact(rendered, "burnt_in_text")
        syntaxes.add(str(data.file_meta.TransferSyntaxUID))
    assert len(syntaxes) == 12
    # One has no sequence delimiter where one belongs, one is cut off, one counts "1A" frames, two have no rows.
    assert set(unreadable) <= {
        "JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm", "badVR.dcm", "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
    }  # fmt: skip


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40.0, 400.0), (-600.0, 1500.0), (0.0, 2.0)])
def test_windows_are_those_of_the_standard(function, center, width):
    values = np.arange(-2000, 2000, dtype=np.int16).reshape(40, 100)
    data = make(values, bits=16, WindowCenter=[center, 7], WindowWidth=[width, 9], VOILUTFunction=function)
    expected = (apply_voi_lut(values, data) + 32768) / 65535 * 255
    assert np.abs(apply_voi_function(values, center, width, function) - expected).max() <= 0.51


def test_a_window_that_is_not_defined_is_refused():
    for function, width in (("LINEAR", 0.5), ("SIGMOID", 0.0), ("CUBIC", 10.0)):
        with pytest.raises(ValueError, match="not defined"):
            apply_voi_function(np.zeros((2, 2)), 0.0, width, function)
    assert apply_voi_function(np.array([[9, 10]]), 10.0, 1.0).tolist() == [[0, 255]]


def test_the_first_window_and_its_function_are_used(tmp_path):
    values = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    data = make(values, bits=12, WindowCenter=[1000, 50], WindowWidth=[500, 10], VOILUTFunction="SIGMOID")
    rendered = render_dicom(saved(data, tmp_path / "a.dcm"))
    assert (rendered.pixels[0] == apply_voi_function(values, 1000, 500, "SIGMOID")).all()
    assert fact(rendered, "window") == "centre 1000, width 500"
    own = render_dicom(tmp_path / "a.dcm", window=(2048, 4096))
    assert fact(own, "window") == "centre 2048, width 4096" and (own.pixels[0] != rendered.pixels[0]).any()


def test_a_modality_table_of_12_bits_is_applied(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    entries = np.arange(64, dtype=np.uint16)[::-1] * 60
    data = make(values, bits=12, ModalityLUTSequence=[table(entries, bits=12)], WindowCenter=2048, WindowWidth=4096)
    shown = render_dicom(saved(data, tmp_path / "a.dcm")).pixels[0]
    assert (shown == apply_voi_function(entries.reshape(8, 8), 2048, 4096)).all()


def test_a_modality_table_of_a_real_file_gives_what_pydicom_gives(more_files):
    data = open_dicom(more_files / "mlut_18.dcm")
    from semihv_hf.data.imaging.dicom import frame_values

    stored = decode_frames(data, [0])[0]
    assert (frame_values(data, 0, stored) == apply_modality_lut(stored, data)).all()


@pytest.mark.parametrize("first", [0, 100, -5])
def test_a_voi_table_of_8_bits_does_not_wrap_round(tmp_path, first):
    values = np.array([[0, 255, 256], [1000, 4000, 4095]], np.int16)
    entries = np.arange(4096) * 255 // 4095
    sequence = [table(entries, first, bits=8)]
    data = make(values, bits=16, VOILUTSequence=sequence, WindowCenter=5, WindowWidth=5)
    rendered = render_dicom(saved(data, tmp_path / "a.dcm"))
    assert (rendered.pixels[0] == entries[np.clip(values.astype(int) - first, 0, 4095)]).all()
    assert fact(rendered, "window") == "look-up table"


def test_a_voi_table_in_words_is_read_in_the_byte_order_of_the_file(tmp_path):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    entries = (np.arange(256, dtype=np.uint16) * 257)[::-1]
    for syntax, order in ((ExplicitVRLittleEndian, "<"), (ExplicitVRBigEndian, ">")):
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [256, 0, 16])
        item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
        data = make(values, syntax=syntax, VOILUTSequence=[item])
        path = tmp_path / f"{syntax.is_little_endian}.dcm"
        little = syntax.is_little_endian
        pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=little, force_encoding=True)
        assert (render_dicom(path).pixels[0] == np.arange(256)[::-1].reshape(16, 16)).all()


def test_a_table_that_is_cut_short_is_unreadable(tmp_path):
    item = table([1, 2, 3])
    item.LUTDescriptor = [300, 0, 16]
    data = make(np.zeros((2, 2), np.uint16), VOILUTSequence=[item])
    with pytest.raises(UnreadableImage, match="3 of the 300 entries"):
        render_dicom(saved(data, tmp_path / "a.dcm"))


def test_inverted_greyscale_and_presentation_are_turned_round_once(tmp_path):
    values = np.array([[0, 100, 200, 255]], np.uint8)
    plain = render_dicom(saved(make(values), tmp_path / "a.dcm")).pixels[0]
    assert plain.tolist() == values.tolist(), "8 bits without a window are shown as they are"
    for number, tags in enumerate(
        (
            {"PhotometricInterpretation": "MONOCHROME1"},
            {"PresentationLUTShape": "INVERSE"},
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        )
    ):
        shown = render_dicom(saved(make(values, **tags), tmp_path / f"{number}.dcm")).pixels[0]
        assert shown.tolist() == (255 - values).tolist()


def test_padding_is_black_and_does_not_spoil_the_grey_range(tmp_path):
    values = np.full((10, 10), -2000, np.int16)
    values[2:8, 2:8] = np.arange(36).reshape(6, 6)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        data = make(values, PhotometricInterpretation=photometric, PixelPaddingValue=-2000)
        shown = render_dicom(saved(data, tmp_path / f"{photometric}.dcm")).pixels[0]
        assert (shown[values == -2000] == 0).all() and np.ptp(shown[2:8, 2:8].astype(int)) == 255


def test_enhanced_objects_are_windowed_and_scaled_frame_by_frame(tmp_path):
    frames = np.stack([np.arange(100, dtype=np.int16).reshape(10, 10)] * 3)
    groups = []
    for slope, center in ((1, 50), (2, 100), (3, 150)):
        scale, window = Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = slope, 0, "US"
        window.WindowCenter, window.WindowWidth = center, 2 * center
        group = Dataset()
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [scale], [window]
        groups.append(group)
    shared = Dataset()
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    shared.PlaneOrientationSequence = [orientation]
    data = make(frames, frames=3, SharedFunctionalGroupsSequence=[shared])
    data.PerFrameFunctionalGroupsSequence = groups
    rendered = render_dicom(saved(data, tmp_path / "a.dcm"))
    # The windows grow as the slopes do, so all frames look about alike; with one window for all they would not.
    assert len(rendered.pixels) == 3
    assert np.abs(rendered.pixels[0].astype(int) - rendered.pixels[2]).max() <= 2
    assert fact(rendered, "plane") == "coronal" and rendered.frames == [0, 1, 2]


def test_chosen_frames_are_those_of_the_whole_object(own_files):
    path = own_files / "examples_ybr_color.dcm"
    every = render_dicom(path, on_burned_in="keep")
    some = render_dicom(path, frames=[3, 17], on_burned_in="keep")
    assert len(every.pixels) == 30 and all((a == every.pixels[i]).all() for a, i in zip(some.pixels, [3, 17]))
    for wrong in ([], [30], [-1], [5, 5]):
        with pytest.raises(UnreadableImage, match="frames"):
            render_dicom(path, frames=wrong, on_burned_in="keep")


def test_colours_and_palettes_become_rgb(own_files):
    palette = render_dicom(own_files / "examples_palette.dcm", on_burned_in="keep").pixels[0]
    assert palette.ndim == 3 and palette.dtype == np.uint8 and palette.max() > 200
    echo = render_dicom(own_files / "examples_ybr_color.dcm", frames=[0], on_burned_in="keep").pixels[0]
    red, green, blue = echo.reshape(-1, 3).astype(float).mean(axis=0)
    assert abs(green - red) < 5 and abs(green - blue) < 5, "an echocardiogram is not green"


def test_a_segmentation_of_one_bit_is_black_and_white(own_files):
    shown = render_dicom(own_files / "liver_1frame.dcm", on_burned_in="keep").pixels[0]
    assert set(np.unique(shown)) == {0, 255}


def test_an_overlay_is_dropped_drawn_or_refused_and_never_silently(own_files):
    path = own_files / "examples_overlay.dcm"
    dropped = render_dicom(path, on_burned_in="keep")
    drawn = render_dicom(path, overlays="burn", on_burned_in="keep")
    changed = dropped.pixels[0] != drawn.pixels[0]
    marked = pydicom.dcmread(path).overlay_array(0x6000).astype(bool)
    assert marked.sum() > 100 and (drawn.pixels[0][marked] == 255).all() and not (changed & ~marked).any()
    assert (fact(dropped, "overlays"), fact(drawn, "overlays")) == ("left out", "drawn")
    with pytest.raises(RefusedImage, match="overlay"):
        render_dicom(path, overlays="refuse", on_burned_in="keep")
    with pytest.raises(ValueError, match="none of the known"):
        render_dicom(path, overlays="hide")


def test_an_overlay_in_unused_bits_is_drawn_where_it_lies(tmp_path):
    values = np.zeros((4, 4), np.uint16)
    values[1, 2] = 1 << 12
    data = make(values, bits=12, WindowCenter=100, WindowWidth=200)
    for element, vr, value in ((0x10, "US", 4), (0x11, "US", 4), (0x40, "CS", "G"), (0x50, "SS", [1, 1]),
                               (0x100, "US", 16), (0x102, "US", 12)):  # fmt: skip
        data.add_new((0x6000, element), vr, value)
    path = saved(data, tmp_path / "a.dcm")
    assert render_dicom(path).pixels[0].max() == 0, "the bit is no part of the pixel"
    drawn = render_dicom(path, overlays="burn").pixels[0]
    assert drawn[1, 2] == 255 and (drawn > 0).sum() == 1


def test_bytes_are_read_as_files_are(own_files):
    path = own_files / "CT_small.dcm"
    one, other = render_dicom(path), render_dicom(path.read_bytes(), name="b.dcm")
    assert (one.pixels[0] == other.pixels[0]).all() and one.facts == other.facts
    with pytest.raises(UnreadableImage, match="^b.dcm"):
        render_dicom(path.read_bytes()[:20_000], name="b.dcm")


def test_facts_name_their_element_and_no_person(own_files):
    rendered = render_dicom(own_files / "CT_small.dcm")
    known = {found.name: found.value for found in rendered.facts}
    assert known["modality"] == "CT" and known["plane"] == "axial" and known["sex"] == "other"
    assert all(found.source for found in rendered.facts)
    data = pydicom.dcmread(own_files / "CT_small.dcm")
    texts = " ".join(found.value + found.source for found in rendered.facts)
    assert str(data.PatientName) not in texts and str(data.PatientID) not in texts


@pytest.mark.parametrize(("age", "said"), [("045Y", "45 years"), ("089Y", "89 years"), ("097Y", "over 89 years"),
                                           ("006M", "6 months"), ("old", None), ("", None)])  # fmt: skip
def test_ages_over_89_are_not_told(tmp_path, age, said):
    data = make(np.zeros((2, 2), np.uint8), PatientAge=age)
    assert fact(render_dicom(saved(data, tmp_path / "a.dcm")), "age") == said
