"""Images in messages: no larger than the model looks at, no metadata, the same bytes each time, errors as values."""

import base64
import hashlib
import io
import random

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.images import SIZE_RULES, image_hash, image_part, target_size
from semihv_hf.llm.types import Failure

NAME = "DOE^JANE 1970-01-01"


def photograph(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth noise: many values, as a photograph has."""
    rng = np.random.default_rng(width * height)
    small = rng.integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def sent(part: dict) -> bytes:
    return base64.b64decode(part["image_url"]["url"].partition(",")[2])


def opened(part: dict) -> Image.Image:
    return Image.open(io.BytesIO(sent(part)))


@pytest.mark.parametrize(
    ("size", "detail", "provider", "longest", "expected"),
    [((3000, 2000), "high", "openai", None, (1152, 768)), ((4096, 1000), "high", "openai", None, (2048, 500)),
     ((600, 500), "high", "openai", None, (600, 500)), ((1024, 512), "low", "openai", None, (512, 256)),
     ((3000, 2000), "high", "local", None, (3000, 2000)), ((3000, 2000), "high", "local", 336, (336, 224)),
     ((300, 200), "high", "local", 336, (300, 200)), ((5000, 2), "high", "openai", None, (2048, 1))],
)  # fmt: skip
def test_an_image_gets_the_size_that_the_model_uses_and_is_never_enlarged(size, detail, provider, longest, expected):
    part = image_part(encoded(photograph(*size), "JPEG"), detail=detail, provider=provider, longest=longest)
    assert opened(part).size == expected
    assert ("detail" in part["image_url"]) == (provider == "openai")


def test_the_size_rule_keeps_the_proportion_and_the_limits_for_any_size():
    rng = random.Random(0)
    rule = SIZE_RULES["openai"]["high"]
    for _ in range(2000):
        size = (rng.randint(1, 9000), rng.randint(1, 9000))
        width, height = target_size(size, rule)
        assert 1 <= width <= size[0] and 1 <= height <= size[1]
        assert max(width, height) <= 2048 and min(width, height) <= 768
        exact = min(1.0, 2048 / max(size), 768 / min(size))
        assert abs(width - size[0] * exact) <= 1 and abs(height - size[1] * exact) <= 1


def with_everything(image: Image.Image, form: str) -> bytes:
    """A file with a name in every place where one can be."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = NAME
    options = {"exif": exif, "comment": NAME.encode()} if form == "JPEG" else {"exif": exif}
    if form == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Patient", NAME)
        options["pnginfo"].add_itxt("Comment", NAME)
    if form == "TIFF":
        options = {"description": NAME, "artist": NAME}
    return encoded(image, form, **options)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("size", [(300, 200), (2400, 1800)])
def test_no_metadata_is_sent_whether_or_not_the_size_changes(form, size):
    data = with_everything(photograph(*size), form)
    assert NAME.encode() in data
    part = image_part(data + (NAME.encode() if form == "JPEG" else b""))
    assert NAME.encode() not in sent(part) and b"Exif" not in sent(part)
    assert not opened(part).getexif() and not {"comment", "Patient", "exif"} & set(opened(part).info)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_fits_keeps_its_pixels_bit_for_bit(options, mode):
    exif = Image.Exif()
    exif[0x010E] = NAME
    data = encoded(photograph(301, 203, mode), "JPEG", quality=80, exif=exif, comment=NAME.encode(), **options)
    part = image_part(data)
    assert np.array_equal(np.asarray(opened(part)), np.asarray(Image.open(io.BytesIO(data))))
    assert opened(part).mode == mode and len(sent(part)) < len(data)


def test_a_turn_that_exif_asks_for_is_carried_out():
    upright = Image.new("RGB", (40, 20))
    upright.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    part = image_part(encoded(upright, "JPEG", exif=exif, quality=95))
    turned = np.asarray(opened(part)).astype(int)
    assert turned.shape == (40, 20, 3)
    assert turned[:18, :, 0].min() > 200 and turned[22:, :, 0].max() < 60


def test_drawings_stay_exact_as_png_and_photographs_become_jpeg():
    drawing = Image.new("RGB", (400, 300), "white")
    drawing.paste((0, 0, 0), (50, 50, 200, 60))
    part = image_part(encoded(drawing, "BMP"))
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    assert np.array_equal(np.asarray(opened(part)), np.asarray(drawing))
    scan = photograph(400, 300, "L")
    part = image_part(encoded(scan, "PNG"))
    assert part["image_url"]["url"].startswith("data:image/jpeg;base64,") and opened(part).mode == "L"
    assert np.abs(np.asarray(opened(part)).astype(int) - np.asarray(scan)).max() <= 8


def test_transparent_pixels_become_white():
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (10, 10, 20, 20))
    for form in ("PNG", "WEBP"):
        pixels = np.asarray(opened(image_part(encoded(clear, form, lossless=True))).convert("L"))
        assert pixels[0, 0] > 250 and pixels[15, 15] < 5


def test_equal_input_gives_equal_bytes_and_the_hash_is_that_of_the_image():
    data = encoded(photograph(1200, 900), "PNG")
    first, second = image_part(data), image_part(data)
    assert first == second
    assert image_hash(first) == hashlib.sha256(sent(first)).hexdigest()
    assert image_hash(first) != image_hash(image_part(data, detail="low"))
    with pytest.raises(SemiHVError, match="no image"):
        image_hash({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}})


def animated() -> bytes:
    frames = [photograph(20, 20), photograph(20, 20).rotate(90)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"no image", "cannot be read"), (encoded(photograph(400, 400), "JPEG")[:3000], "cannot be read"),
     (encoded(photograph(400, 400), "PNG")[:3000], "cannot be read"), (animated(), "2 frames"),
     (encoded(Image.new("I;16", (9, 9), 4000), "PNG"), "8 bits"), (encoded(Image.new("F", (9, 9)), "TIFF"), "8 bits"),
     (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "cannot be read")],
    ids=["empty", "text", "half a jpeg", "half a png", "animation", "16 bits", "floats", "a program"],
)  # fmt: skip
def test_an_image_that_cannot_be_sent_is_a_failure_with_its_reason(data, reason):
    part = image_part(data)
    assert isinstance(part, Failure) and part.kind == "image" and reason in part.detail
    assert "\n" not in part.detail


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
def test_damage_at_any_place_of_a_file_raises_nothing():
    rng = random.Random(3)
    kinds = set()
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF"):
        data = encoded(photograph(60, 50), form)
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(rng.randint(1, 6)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            kept = rng.choice([len(broken), rng.randint(1, len(broken))])
            kinds.add(type(image_part(bytes(broken[:kept]))))
    assert kinds == {dict, Failure}


@pytest.mark.parametrize("setting", [{"detail": "medium"}, {"provider": "nobody"}, {"longest": 0}, {"longest": 1.5}])
def test_a_wrong_setting_is_an_error_that_names_it(setting):
    with pytest.raises(SemiHVError, match=next(iter(setting))):
        image_part(encoded(photograph(9, 9), "PNG"), **setting)
