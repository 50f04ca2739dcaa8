"""Pictures as releases hold them: cleaned without touching pixels, refused when torn, converted when they must be."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from semihv_hf.data import pictures
from semihv_hf.data.imaging import UnreadableImage
from semihv_hf.data.pictures import clean_picture, read_sixteen_bit
from semihv_hf.data.release import Release
from semihv_hf.data.sources.base import Skipped
from semihv_hf.data.sources.reading import read_picture

RNG = np.random.default_rng(7)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 255, (9, 11, 3), np.uint8)).resize((88, 72)))


def encoded(pixels=SMOOTH, kind="JPEG", mode=None, **options) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    packed = b"".join(struct.pack(">BBH", 0xFF, code, len(body) + 2) + body for code, body in segments)
    return jpeg[:2] + packed + jpeg[2:]


def exif(orientation=1, comment="Jane Doe, 1.2.1950") -> bytes:
    holder = Image.Exif()
    holder[0x0112], holder[0x010E] = orientation, comment
    return holder.tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["L", "RGB"]),
    options=st.fixed_dictionaries(
        {
            "quality": st.integers(1, 100),
            "progressive": st.booleans(),
            "optimize": st.booleans(),
            "subsampling": st.sampled_from([0, 1, 2]),
            "restart_marker_blocks": st.sampled_from([0, 1, 3]),
        }
    ),
    noise=st.binary(max_size=80),
    seed=st.integers(0, 2**16),
)
def test_cleaning_a_jpeg_keeps_every_pixel_and_drops_every_note(size, mode, options, noise, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    plain = encoded(pixels, mode=mode, **options)
    notes = [
        (0xE1, b"Exif\0\0" + noise),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + noise),
        (0xED, b"Photoshop" + noise),
    ]
    dirty = with_segments(plain, *notes, (0xFE, b"Jane Doe" + noise), (0xE2, b"ICC_PROFILE\0\1\1" + noise))
    cleaned = clean_picture(dirty + b"\xff\xd8\xfftrailing picture" + noise, name="a.jpg")
    assert (decoded(cleaned) == decoded(plain)).all() and decoded(cleaned).shape == decoded(plain).shape
    assert cleaned == plain, "what Pillow writes without notes is what is left after cleaning"
    assert clean_picture(cleaned, name="a.jpg") == cleaned


def test_the_colour_transform_of_an_adobe_jpeg_survives():
    rgb = encoded(subsampling=0, quality=95, keep_rgb=True)  # stored as RGB: without its marker it would turn green
    cleaned = clean_picture(with_segments(rgb, (0xFE, b"Jane")), name="a.jpg")
    assert b"Jane" not in cleaned and np.abs(decoded(cleaned).astype(int) - SMOOTH).mean() < 4


def test_the_thumbnail_inside_a_jpeg_header_is_dropped():
    plain = encoded()
    assert plain[2:4] == b"\xff\xe0" and plain[18:20] == b"\0\0"
    thumbnail = bytes(3 * 4)  # 2 x 2 pixels
    body = plain[6:18] + b"\2\2" + thumbnail
    dirty = plain[:2] + b"\xff\xe0" + struct.pack(">H", len(body) + 2) + body + plain[20:]
    assert clean_picture(dirty, name="a.jpg") == plain


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_anywhere_is_refused(progressive):
    whole = encoded(progressive=progressive, quality=60)
    cuts = [*range(0, len(whole) - 2, 7), len(whole) - 2, len(whole) - 1]
    for cut in cuts:
        with pytest.raises(UnreadableImage, match="dir/cut.jpg") as error:
            clean_picture(whole[:cut], name="dir/cut.jpg")
        assert error.value.reason
    assert len(cuts) > 100


def test_a_png_that_is_cut_or_changed_anywhere_is_refused():
    whole = encoded(kind="PNG")
    for cut in [*range(0, len(whole) - 1, 97), len(whole) - 1, len(whole) - 12]:
        with pytest.raises(UnreadableImage):
            clean_picture(whole[:cut], name="cut.png")
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    with pytest.raises(UnreadableImage, match="checksum"):
        clean_picture(changed, name="changed.png")


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_png_whose_pixels_end_early_is_refused_though_its_chunks_are_whole(colour_type, channels, interlaced):
    def made(size):
        header = struct.pack(">IIBBBBB", 9, 11, 8, colour_type, 0, 0, interlaced)
        chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(size))) + png_chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunks

    # The passes of 9 x 11 pixels have 2x2, 1x2, 3x1, 2x3, 5x3, 4x6 and 9x5 pixels (PNG 8.2), each row a filter byte.
    rows = 2 + 2 + 1 + 3 + 3 + 6 + 5 if interlaced else 11
    whole = 9 * 11 * channels + rows
    assert (decoded(clean_picture(made(whole), name="black.png")) == 0).all()
    for size in (whole - 1, whole // 2, 0):
        with pytest.raises(UnreadableImage, match="short.png"):
            clean_picture(made(size), name="short.png")


def test_a_png_loses_its_text_and_keeps_its_compressed_pixels():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", "Jane Doe", zip=True)
    dirty = encoded(kind="PNG", pnginfo=notes, dpi=(72, 72), exif=exif()) + b"Jane Doe behind the end"
    cleaned = clean_picture(dirty, name="a.png")
    assert cleaned == encoded(kind="PNG")
    assert Image.open(io.BytesIO(cleaned)).info == {}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_rotation_that_exif_states_is_carried_out(kind):
    turned = clean_picture(encoded(kind=kind, exif=exif(orientation=6)), name="a")
    plain = decoded(encoded(kind=kind))
    assert (decoded(turned) == np.rot90(plain, -1)).all() and b"Exif" not in turned


@pytest.mark.parametrize(
    ("kind", "mode", "options", "tolerance"),
    [
        ("PNG", "P", {}, None),
        ("PNG", "1", {}, None),
        ("PNG", "LA", {}, 1),
        ("GIF", "P", {}, None),
        ("BMP", "RGB", {}, 0),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
        ("WEBP", "RGB", {"lossless": True}, 0),
        ("JPEG2000", "RGB", {}, 0),
        ("JPEG", "CMYK", {"quality": 95}, 12),
    ],
)
def test_other_kinds_become_png_of_8_bits(kind, mode, options, tolerance):
    source = Image.fromarray(SMOOTH).convert(mode)
    cleaned = clean_picture(encoded(kind=kind, mode=mode, **options), name="a")
    grey = mode in ("1", "LA")
    expected = np.asarray(source.convert("L" if grey else "RGB"))
    assert cleaned.startswith(b"\x89PNG") and decoded(cleaned).shape == expected.shape
    assert np.abs(decoded(cleaned).astype(int) - expected).mean() <= (tolerance or 0)


def test_transparency_is_laid_on_white():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    shown = decoded(clean_picture(encoded(pixels, kind="PNG"), name="a.png"))
    assert shown.shape == (4, 4, 3) and (shown[:2] == 0).all() and (shown[2:] == 255).all()


def test_decompression_bombs_are_refused_before_they_unpack():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    jpeg = bytearray(encoded())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    gif = bytearray(encoded(kind="GIF", mode="P"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    for name, data in (("a.png", png), ("a.jpg", bytes(jpeg)), ("a.gif", bytes(gif))):
        with pytest.raises(UnreadableImage, match="more (than|pixels)"):
            clean_picture(data, name=name)
    with pytest.raises(UnreadableImage, match="more than"):
        read_sixteen_bit(png, name="a.png")


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7 ...", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(UnreadableImage) as error:
        clean_picture(data, name="x")
    assert error.value.reason and "0x" not in error.value.reason and "\n" not in error.value.reason


def test_pillow_that_accepts_torn_files_is_refused(monkeypatch):
    monkeypatch.setattr(pictures.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadableImage, match="LOAD_TRUNCATED_IMAGES"):
        clean_picture(encoded(), name="a.jpg")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("signed", [False, True])
def test_sixteen_bit_tiff_of_either_byte_order_keeps_its_values(order, compression, signed):
    values = RNG.integers(-30_000 if signed else 0, 30_000, (13, 17)).astype(np.int16 if signed else np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values.astype(values.dtype.newbyteorder(order)), byteorder=order, compression=compression)
    assert buffer.getvalue()[:2] == (b"II" if order == "<" else b"MM")
    found = read_sixteen_bit(buffer.getvalue(), name="a.tif")
    assert found.dtype == values.dtype and found.dtype.isnative and (found == values).all()


def test_sixteen_bit_png_keeps_its_values_and_other_depths_are_refused():
    values = RNG.integers(0, 1 << 16, (19, 23), dtype=np.uint16)
    data = encoded(values, kind="PNG")
    assert (read_sixteen_bit(data, name="a.png") == values).all()
    for cut in range(8, len(data), 50):
        with pytest.raises(UnreadableImage):
            read_sixteen_bit(data[:cut], name="a.png")
    for other in (encoded(kind="PNG"), encoded(kind="PNG", mode="L"), encoded(), encoded(kind="TIFF")):
        with pytest.raises(UnreadableImage):
            read_sixteen_bit(other, name="other")


def test_a_release_gives_a_picture_or_the_reason_why_not(tmp_path):
    whole = encoded()
    (tmp_path / "release").mkdir()
    (tmp_path / "release/a.JPG").write_bytes(whole)
    (tmp_path / "release/torn.jpg").write_bytes(whole[:300])
    (tmp_path / "release/folder.jpg").mkdir()
    (tmp_path / "outside.jpg").write_bytes(whole)
    (tmp_path / "release/link.jpg").symlink_to(tmp_path / "outside.jpg")
    release = Release(tmp_path / "release")
    assert read_picture(release, "a.jpg", "1") == whole
    reasons = {
        "none.jpg": "missing image",
        "torn.jpg": "unreadable image",
        "folder.jpg": "unreadable image",
        "link.jpg": "unsafe file",
        "../outside.jpg": "unsafe file",
    }
    for name, reason in reasons.items():
        skipped = read_picture(release, name, "row 3")
        assert isinstance(skipped, Skipped) and (skipped.source_id, skipped.reason) == ("row 3", reason)
        assert str(tmp_path) not in skipped.detail and skipped.detail
