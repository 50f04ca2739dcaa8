"""Image processors: golden numbers, every kind of image, batches, settings, saving."""

import base64
import functools
import http.server
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import (
    DEFAULT_TOWERS,
    PIXEL_KEYS,
    PMCCambrianImageProcessorPil,
)
from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = {
    "in the repository": REPOSITORY / "tests" / "golden" / "image_processor",
    "shared": REPOSITORY.parent / "shared" / "golden" / "image_processor",
}
TOWER_NAME_IN_GOLDEN = {"siglip": "siglip", "clip": "clip", "dino": "dinov2", "convnext": "convnext"}
TOWERS = {"siglip": {"size": 32}, "dino": {"size": 28}}


@pytest.fixture(params=[PMCCambrianImageProcessorPil, PMCCambrianImageProcessor], ids=["pil", "torchvision"])
def processor(request):
    return request.param(towers=TOWERS)


@pytest.fixture()
def exact():
    return PMCCambrianImageProcessorPil(towers=TOWERS)


def grey_levels(processor, image) -> np.ndarray:
    """The 8-bit levels (3, 32, 32) that the SigLIP tower's pixels stand for."""
    pixels = processor(image, return_tensors="np")["pixel_values"][0]
    return np.rint((pixels * 0.5 + 0.5) * 255).astype(int)


def assert_same(processor, image, other):
    first, second = processor(image, return_tensors="pt"), processor(other, return_tensors="pt")
    assert set(first) == set(second)
    for key in first:
        assert torch.equal(first[key], second[key]), key


# golden numbers


def golden_cases(place: str):
    folder = GOLDEN[place]
    if not (folder / "cases.json").is_file():
        pytest.skip(f"the golden numbers of the image processor are not at {folder}")
    cases = json.loads((folder / "cases.json").read_text())
    return folder, cases, load_file(folder / "cases.safetensors")


@pytest.mark.parametrize("place", list(GOLDEN))
def test_pil_equals_golden(place):
    folder, cases, values = golden_cases(place)
    images = [Image.open(folder / case["file"]) for case in cases]
    output = PMCCambrianImageProcessorPil()(images, return_tensors="pt")
    assert output["image_sizes"].tolist() == [[case["height"], case["width"]] for case in cases]
    for row, case in enumerate(cases):
        for tower, name in TOWER_NAME_IN_GOLDEN.items():
            found = output[PIXEL_KEYS[tower]][row].flatten().numpy()[values[f"{case['case']}.{name}.indices"]]
            np.testing.assert_allclose(found, values[f"{case['case']}.{name}.values"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", list(GOLDEN))
def test_torchvision_is_within_one_level_of_golden(place):
    folder, cases, values = golden_cases(place)
    images = [Image.open(folder / case["file"]) for case in cases]
    output = PMCCambrianImageProcessor()(images, return_tensors="pt")
    for row, case in enumerate(cases):
        for tower, name in TOWER_NAME_IN_GOLDEN.items():
            pixels = output[PIXEL_KEYS[tower]][row]
            found = pixels.flatten().numpy()[values[f"{case['case']}.{name}.indices"]]
            positions = values[f"{case['case']}.{name}.indices"] // (pixels.shape[1] * pixels.shape[2])
            std = np.asarray(DEFAULT_TOWERS[tower]["std"])[positions]
            levels = np.abs(found - values[f"{case['case']}.{name}.values"]) * std * 255
            assert levels.max() < 1.01
            assert (levels > 0.01).mean() < 0.005


@pytest.mark.parametrize("size", [(50, 20), (21, 64), (33, 33), (1, 40)])
def test_pil_equals_the_formula(picture, size):
    image = picture(*size)
    output = PMCCambrianImageProcessorPil(towers={name: {"size": 40} for name in PIXEL_KEYS})(image)
    side = max(size)
    for tower, key in PIXEL_KEYS.items():
        settings = DEFAULT_TOWERS[tower]
        square = Image.new("RGB", (side, side), settings["pad_color"])
        square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
        pixels = np.asarray(square.resize((40, 40), Image.Resampling.BICUBIC)).astype(np.float64) / 255
        pixels = (pixels - np.asarray(settings["mean"])) / np.asarray(settings["std"])
        np.testing.assert_allclose(output[key][0], pixels.transpose(2, 0, 1), rtol=0, atol=1e-6)


def test_backends_agree_on_whole_images(picture):
    # Random pixels are the worst case: real images and the golden ones stay within one level in under 0.5 %.
    images = [picture(90, 70, seed=1), picture(40, 120, seed=2)]
    exact = PMCCambrianImageProcessorPil(do_rescale=False, do_normalize=False)
    first, second = exact(images, return_tensors="pt"), exact.with_torchvision()(images, return_tensors="pt")
    assert torch.equal(first["image_sizes"], second["image_sizes"])
    for key in PIXEL_KEYS.values():
        levels = (first[key].int() - second[key].int()).abs()
        assert levels.max() <= 2
        assert (levels > 1).float().mean() < 1e-4
        assert (levels > 0).float().mean() < 0.015


# batches


def test_mixed_sizes_in_a_batch_equal_single_images(processor, picture):
    images = [picture(50, 20), picture(21, 64), picture(32, 32)]
    batch = processor(images, return_tensors="pt")
    assert set(batch) == {"pixel_values", "pixel_values_dino", "image_sizes"}
    assert batch["pixel_values"].shape == (3, 3, 32, 32)
    assert batch["pixel_values_dino"].shape == (3, 3, 28, 28)
    assert batch["image_sizes"].dtype == torch.int64
    assert batch["image_sizes"].tolist() == [[20, 50], [64, 21], [32, 32]]
    for row, image in enumerate(images):
        single = processor(image, return_tensors="pt")
        for key in batch:
            assert torch.equal(batch[key][row], single[key][0]), key


def test_one_list_for_each_sample_is_flattened(processor, picture):
    images = [picture(50, 20), picture(21, 64), picture(32, 32)]
    assert_same(processor, images, [images[:2], [], images[2:], None])


def test_a_batch_array_is_split(processor):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    assert_same(processor, pixels, [pixels[0], pixels[1]])


@pytest.mark.parametrize("nothing", [[], [[], []]])
def test_no_image_raises(processor, nothing):
    with pytest.raises(ValueError, match="No images"):
        processor(nothing)


@pytest.mark.parametrize("what", [3, {"bytes": b""}, ["a", 3]])
def test_what_is_no_image_raises(processor, what):
    with pytest.raises((TypeError, ValueError)):
        processor(what)


# kinds of images


def test_padding_has_each_towers_colour(processor):
    output = processor(Image.new("RGB", (40, 10), (255, 0, 0)), return_tensors="np")
    for tower in TOWERS:
        settings = DEFAULT_TOWERS[tower]
        corner = output[PIXEL_KEYS[tower]][0, :, 0, 0] * np.asarray(settings["std"]) + np.asarray(settings["mean"])
        assert np.rint(corner * 255).tolist() == list(settings["pad_color"])


def test_grey_and_palette_and_one_bit_images(processor, picture):
    image = picture(30, 20)
    grey = image.convert("L")
    assert_same(processor, grey, Image.merge("RGB", [grey] * 3))
    palette = image.quantize(16)
    assert palette.mode == "P"
    assert_same(processor, palette, palette.convert("RGB"))
    bits = grey.convert("1")
    assert_same(processor, bits, bits.convert("RGB"))
    cmyk = image.convert("CMYK")
    assert_same(processor, cmyk, cmyk.convert("RGB"))


def test_opaque_alpha_changes_nothing(processor, picture):
    image = picture(30, 20)
    rgba = image.convert("RGBA")
    assert_same(processor, rgba, image)
    assert_same(processor, np.asarray(rgba), image)


def test_a_transparent_image_shows_the_pad_colour(processor):
    output = processor(Image.new("RGBA", (20, 20), (255, 255, 255, 0)), return_tensors="np")
    for tower in TOWERS:
        settings = DEFAULT_TOWERS[tower]
        pixels = output[PIXEL_KEYS[tower]][0].transpose(1, 2, 0) * settings["std"] + np.asarray(settings["mean"])
        assert (np.rint(pixels * 255) == settings["pad_color"]).all()


def test_a_transparent_palette_entry_shows_the_pad_colour(exact):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.info["transparency"] = 1
    assert grey_levels(exact, image)[:, 5, 5].tolist() == [122, 116, 104]


def test_half_transparent_pixels_are_mixed(exact):
    levels = grey_levels(exact, Image.new("LA", (20, 20), (255, 128)))
    expected = [round((255 * 128 + pad * 127) / 255) for pad in (122, 116, 104)]
    assert np.abs(levels[:, 5, 5] - expected).max() <= 1


def test_exif_orientation_is_applied(processor, picture):
    image = picture(40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    rotated = Image.open(io.BytesIO(buffer.getvalue()))
    assert rotated.size == (40, 20)
    assert processor(rotated, return_tensors="pt")["image_sizes"].tolist() == [[40, 20]]
    assert_same(processor, rotated, image.transpose(Image.Transpose.ROTATE_270))


def ramp(dtype, low, high) -> np.ndarray:
    return np.linspace(low, high, 32)[None].repeat(32, axis=0).astype(dtype)


def as_png(array: np.ndarray) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_16_bit_images_are_windowed_and_do_not_saturate(exact):
    values = ramp(np.uint16, 300, 4095)
    expected = np.rint((values.astype(float) - 300) / (4095 - 300) * 255).astype(int)
    png = as_png(values)
    assert png.mode.startswith("I")
    for image in (png, values, torch.from_numpy(values.astype(np.int32)), values.astype(np.float32)):
        levels = grey_levels(exact, image)
        assert (levels[0] == levels[2]).all()
        assert (levels[0] == expected).all()
    # the conversion of the original would make all of it white
    assert len(np.unique(levels)) == 32


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_wide_pil_modes(exact, mode):
    dtype = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
    image = Image.fromarray(ramp(dtype, 0, 30000))
    assert image.mode == mode
    levels = grey_levels(exact, image)
    assert (levels[0, 0, 0], levels[0, 0, -1]) == (0, 255)
    assert (np.diff(levels[0, 0]) > 0).all()


def test_negative_values_are_windowed(exact):
    levels = grey_levels(exact, ramp(np.int16, -1000, 1000))
    assert (levels[0, 0, 0], levels[0, 0, -1]) == (0, 255)
    assert (np.diff(levels[0, 0]) > 0).all()


def test_window_percentiles_cut_outliers(picture):
    values = np.arange(10000, dtype=np.uint16).reshape(100, 100) % 1000
    values[0, 0] = 65535
    towers = {"siglip": {"size": 100}}
    plain = grey_levels(PMCCambrianImageProcessorPil(towers=towers), values)
    windowed = grey_levels(PMCCambrianImageProcessorPil(towers=towers, window_percentiles=(1.0, 99.0)), values)
    assert plain[:, 1:].max() <= 4
    assert windowed[0, 1:].max() == 255 and windowed[0, 1:].min() == 0


def test_a_wide_image_of_one_value_is_black(exact):
    assert (grey_levels(exact, np.full((8, 8), 700, dtype=np.uint16)) == 0).all()


@pytest.mark.parametrize("percentiles", [(5.0, 5.0), (-1.0, 50.0), (0.0, 101.0)])
def test_percentiles_must_rise(percentiles):
    processor = PMCCambrianImageProcessorPil(towers=TOWERS, window_percentiles=percentiles)
    with pytest.raises(ValueError, match="window_percentiles"):
        processor(np.arange(64, dtype=np.uint16).reshape(8, 8))


def test_floats_within_one_and_wide_colour_values_are_8_bit_levels(processor, picture):
    image = picture(30, 20)
    pixels = np.asarray(image)
    assert_same(processor, pixels.astype(np.float32) / 255, image)
    assert_same(processor, torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1), image)
    assert_same(processor, pixels.astype(np.int64), image)
    assert_same(processor, pixels.astype(np.float64), image)
    mask = pixels[..., 0] > 128
    assert_same(processor, mask, Image.fromarray(mask.astype(np.uint8) * 255))


def test_bfloat16_tensors(processor, picture):
    levels = torch.from_numpy(np.asarray(picture(30, 20)) // 128 * 255).permute(2, 0, 1)
    assert_same(processor, (levels.float() / 255).to(torch.bfloat16), levels)


def test_channel_layouts(processor, picture):
    image = picture(30, 20)
    pixels = np.array(image)
    for same in (
        pixels,
        pixels.transpose(2, 0, 1),
        torch.from_numpy(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1),
    ):
        assert_same(processor, same, image)
    grey = np.array(image.convert("L"))
    for same in (grey, grey[None], grey[..., None], torch.from_numpy(grey)):
        assert_same(processor, same, image.convert("L"))


def test_an_unclear_layout_follows_the_library_or_the_argument(exact):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 7, 3), dtype=np.uint8)
    assert exact(pixels)["image_sizes"].tolist() == [[3, 7]]
    assert exact(torch.from_numpy(pixels))["image_sizes"].tolist() == [[7, 3]]
    assert exact(pixels, input_data_format="channels_first")["image_sizes"].tolist() == [[7, 3]]


@pytest.mark.parametrize("shape", [(5, 6, 7), (2, 8, 8), (1, 2, 3, 4, 5)])
def test_an_unreadable_layout_raises(processor, shape):
    with pytest.raises(ValueError, match="shape"):
        processor(np.zeros(shape, dtype=np.uint8))


# bad input


@pytest.mark.parametrize(
    "empty",
    [Image.new("RGB", (0, 5)), np.zeros((5, 0, 3), dtype=np.uint8), torch.zeros(3, 0, 4), np.zeros((0, 4), np.uint8)],
    ids=["pil", "array", "tensor", "grey"],
)
def test_an_empty_image_raises_and_is_named(processor, picture, empty):
    with pytest.raises(ValueError, match=r"Image 1 is empty.*(5x0|0x4)"):
        processor([picture(8, 8), empty])


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 2)])
def test_a_thin_image_is_legal(processor, picture, size):
    output = processor(picture(*size), return_tensors="pt")
    assert output["pixel_values"].shape == (1, 3, 32, 32)
    assert output["image_sizes"].tolist() == [[size[1], size[0]]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_raises_and_is_named(processor, picture, value):
    values = np.ones((6, 9), dtype=np.float32)
    values[2, 3] = value
    for bad in (values, Image.fromarray(values), torch.from_numpy(values)):
        with pytest.raises(ValueError, match=r"Image 1 \(6x9\) holds 1 values"):
            processor([picture(8, 8), bad])


def test_a_damaged_file_raises_and_is_named(processor, picture, tmp_path):
    path = tmp_path / "scan.png"
    picture(64, 64).save(path)
    data = path.read_bytes()
    with pytest.raises(ValueError, match="Image 1 cannot be read"):
        processor([picture(8, 8), Image.open(io.BytesIO(data[: len(data) // 2]))])
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="scan.png"):
        processor(str(path))
    with pytest.raises(ValueError, match="nowhere.png"):
        processor("nowhere.png")


# where images come from


def test_paths_and_base64_keep_16_bits(exact, tmp_path):
    values = ramp(np.uint16, 300, 4095)
    path = tmp_path / "wide.png"
    Image.fromarray(values).save(path)
    text = base64.b64encode(path.read_bytes()).decode()
    for source in (str(path), path, text, f"data:image/png;base64,{text}"):
        assert_same(exact, source, values)


def test_an_address_is_fetched(processor, picture, tmp_path):
    image = picture(30, 20)
    image.save(tmp_path / "image.png")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert_same(processor, f"{address}/image.png", image)
        with pytest.raises(ValueError, match="missing.png"):
            processor(f"{address}/missing.png")
    finally:
        server.shutdown()
        server.server_close()


# settings


def test_defaults_are_the_four_towers_of_the_8b_model():
    processor = PMCCambrianImageProcessorPil()
    sizes = {name: settings["size"] for name, settings in processor.towers.items()}
    assert sizes == {"siglip": 384, "clip": 336, "dino": 378, "convnext": 1024}
    assert processor.model_input_names == [*PIXEL_KEYS.values(), "image_sizes"]


def test_settings_of_one_processor_do_not_reach_another():
    PMCCambrianImageProcessorPil().towers["siglip"]["size"] = 5
    assert PMCCambrianImageProcessorPil().towers["siglip"]["size"] == 384


@pytest.mark.parametrize(
    ("towers", "named"),
    [
        ({"eva": {}}, "'eva'"),
        ({}, "No vision tower"),
        ({"clip": {"sise": 3}}, "'sise'"),
        ({"clip": {"size": 0}}, "size of tower clip"),
        ({"clip": {"mean": [0.5]}}, "mean of tower clip"),
    ],
)
def test_wrong_towers_raise(towers, named):
    with pytest.raises(ValueError, match=named):
        PMCCambrianImageProcessorPil(towers=towers)


@pytest.mark.parametrize(
    "setting",
    [{"size": {"height": 3, "width": 3}}, {"image_mean": [0.5] * 3}, {"do_resize": False}, {"do_pad": False}],
)
def test_settings_that_would_do_nothing_raise(processor, picture, setting):
    with pytest.raises(ValueError):
        processor(picture(8, 8), **setting)


def test_rescaling_and_normalising_can_be_left_out(processor, picture):
    image = picture(32, 32)
    levels = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"]
    assert levels.dtype == torch.uint8
    assert torch.equal(levels[0], torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()))
    scaled = processor(image, do_normalize=False, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(scaled, levels / 255, rtol=0, atol=1e-7)


def test_towers_can_be_chosen_for_one_call(processor, picture):
    output = processor(picture(8, 8), towers={"clip": {"size": 16}}, return_tensors="pt")
    assert set(output) == {"pixel_values_clip", "image_sizes"}
    assert set(processor(picture(8, 8))) == {"pixel_values", "pixel_values_dino", "image_sizes"}


def test_save_and_load(processor, picture, tmp_path):
    processor.window_percentiles = (1.0, 99.0)
    processor.save_pretrained(tmp_path)
    again = type(processor).from_pretrained(tmp_path)
    assert again.towers == processor.towers
    assert tuple(again.window_percentiles) == (1.0, 99.0)
    assert_same(again, picture(50, 20), picture(50, 20))
    assert torch.equal(
        again(picture(50, 20), return_tensors="pt")["pixel_values"],
        processor(picture(50, 20), return_tensors="pt")["pixel_values"],
    )
    # the code of both backends lies beside the settings, which name it
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    for reference in saved["auto_map"]["AutoImageProcessor"].values():
        assert (tmp_path / f"{reference.split('.')[0]}.py").is_file()


def test_input_is_not_changed(processor, picture):
    image = picture(30, 20)
    pixels = np.array(image)
    before = pixels.copy()
    processor([image, pixels])
    assert (pixels == before).all() and (np.asarray(image) == before).all()
