"""Draft decoding: large JPEGs decoded at a fraction of their size, only when asked for."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from semihv_hf.models.assemble import build_processor
from semihv_hf.models.pmc_cambrian.image_decoding_pmc_cambrian import decode_with_size, draft_jpeg, open_image
from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import PIXEL_KEYS, PMCCambrianImageProcessorPil
from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor

TOWERS = {"siglip": {"size": 32}, "dino": {"size": 28}}
LARGER_TOWERS = {"siglip": {"size": 96}, "convnext": {"size": 200}}
ROTATE_RIGHT, MIRROR, TRANSPOSE = 6, 2, 5


@pytest.fixture(params=[PMCCambrianImageProcessorPil, PMCCambrianImageProcessor], ids=["pil", "torchvision"])
def backend(request):
    return request.param


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft shapes with fine grain, as in a photograph: noise at three scales, none of it as fine as a pixel."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, weight in ((4, 0.6), (12, 0.3), (40, 0.1)):
        levels = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += weight * np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(total.round().astype(np.uint8))


def encode(image: Image.Image, format: str = "JPEG", orientation: int | None = None, **options) -> bytes:
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def unread(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def assert_equal(first, second):
    assert set(first) == set(second)
    for key in first:
        assert torch.equal(first[key], second[key]), key


def level_differences(first, second) -> torch.Tensor:
    """Differences of all towers in grey levels."""
    return torch.cat([(first[key].int() - second[key].int()).abs().flatten() for key in first if key != "image_sizes"])


def test_nothing_is_drafted_unless_it_is_asked_for(backend):
    data = encode(smooth(300, 200))
    whole = unread(data)
    whole.load()
    processor = backend(towers=TOWERS)
    assert processor.draft_decoding is False
    assert_equal(processor(unread(data), return_tensors="pt"), processor(whole, return_tensors="pt"))
    drafted = processor(unread(data), draft_decoding=True, return_tensors="pt")
    assert not torch.equal(drafted["pixel_values"], processor(whole, return_tensors="pt")["pixel_values"])


@pytest.mark.parametrize("size", [(600, 400), (401, 603), (515, 515), (1800, 80)])
def test_grey_levels_stay_close_and_the_size_stays_the_originals(backend, size):
    data = encode(smooth(*size, seed=1), quality=95)
    processor = backend(towers=LARGER_TOWERS, do_rescale=False, do_normalize=False)
    exact = processor(unread(data), return_tensors="pt")
    drafted = processor(unread(data), draft_decoding=True, return_tensors="pt")
    assert drafted["image_sizes"].tolist() == exact["image_sizes"].tolist() == [[size[1], size[0]]]
    differences = level_differences(exact, drafted).float()
    # the edge of the padding may move by a fraction of a pixel
    assert 0 < differences.mean() < 1.5
    assert torch.quantile(differences, 0.95) <= 6


@pytest.mark.parametrize("orientation", [ROTATE_RIGHT, MIRROR, TRANSPOSE])
def test_exif_rotation_is_applied_to_image_and_size(backend, orientation):
    data = encode(smooth(640, 384, seed=2), orientation=orientation, quality=95)
    processor = backend(towers=LARGER_TOWERS, do_rescale=False, do_normalize=False)
    exact = processor(unread(data), return_tensors="pt")
    drafted = processor(unread(data), draft_decoding=True, return_tensors="pt")
    turned = orientation in (ROTATE_RIGHT, TRANSPOSE)
    assert drafted["image_sizes"].tolist() == exact["image_sizes"].tolist() == [[640, 384] if turned else [384, 640]]
    assert 0 < level_differences(exact, drafted).float().mean() < 1.5


@pytest.mark.parametrize(
    "data",
    [encode(smooth(300, 200), "PNG"), encode(smooth(300, 200).convert("L"), "TIFF"), encode(smooth(300, 200), "WEBP")],
    ids=["png", "tiff", "webp"],
)
def test_other_formats_are_untouched(backend, data):
    processor = backend(towers=TOWERS)
    exact = processor(unread(data), return_tensors="pt")
    assert_equal(exact, processor(unread(data), draft_decoding=True, return_tensors="pt"))


def test_arrays_and_images_that_were_already_read_are_untouched(backend):
    image = unread(encode(smooth(300, 200)))
    image.load()
    processor = backend(towers=TOWERS)
    for same in (image, np.asarray(image), torch.from_numpy(np.array(image))):
        exact = processor(same, return_tensors="pt")
        assert_equal(exact, processor(same, draft_decoding=True, return_tensors="pt"))


@pytest.mark.parametrize("size", [(62, 40), (30, 20), (1, 1), (62, 1)])
def test_small_images_are_untouched(backend, size):
    data = encode(smooth(*size))
    processor = backend(towers=TOWERS)
    exact = processor(unread(data), return_tensors="pt")
    assert_equal(exact, processor(unread(data), draft_decoding=True, return_tensors="pt"))


@pytest.mark.parametrize("smallest", [1, 2, 7, 32, 100])
@pytest.mark.parametrize("size", [(63, 20), (64, 64), (130, 257), (8, 800), (799, 600), (9, 15)])
def test_the_longer_side_is_as_short_as_it_may_be_and_never_shorter(size, smallest):
    drafted = draft_jpeg(unread(encode(Image.new("RGB", size))), smallest)
    drafted.load()
    halved = [tuple(-(-side // scale) for side in size) for scale in (8, 4, 2)]
    assert drafted.size == next((small for small in halved if max(small) >= smallest), size)


@pytest.mark.parametrize("size", [(3, 800), (801, 1)])
def test_a_strip_is_halved_only_as_often_as_its_shorter_side_allows(backend, size):
    drafted = draft_jpeg(unread(encode(Image.new("RGB", size))), 32)
    drafted.load()
    assert drafted.size == {3: (2, 400), 801: (801, 1)}[size[0]]
    output = backend(towers=TOWERS, draft_decoding=True)(unread(encode(Image.new("RGB", size))))
    assert output["image_sizes"].tolist() == [[size[1], size[0]]]


def test_the_largest_tower_decides(backend):
    data = encode(smooth(300, 200))
    processor = backend(towers={"siglip": {"size": 32}, "convnext": {"size": 160}}, draft_decoding=True)
    exact = backend(towers=processor.towers)(unread(data), return_tensors="pt")
    assert_equal(exact, processor(unread(data), return_tensors="pt"))


def test_the_callers_image_stays_as_it_was(backend):
    image = unread(encode(smooth(300, 200)))
    backend(towers=TOWERS, draft_decoding=True)(image)
    assert image.size == (300, 200) and image.tile
    image.load()
    assert np.asarray(image).shape == (200, 300, 3)


def test_a_draft_of_the_callers_own_is_kept(backend):
    data = encode(smooth(512, 512))
    image = unread(data)
    image.draft(None, (256, 256))
    output = backend(towers=TOWERS, draft_decoding=True)(image, return_tensors="pt")
    assert output["image_sizes"].tolist() == [[256, 256]]


def test_paths_and_base64_texts_are_drafted_like_open_images(backend, tmp_path):
    data = encode(smooth(300, 200), orientation=ROTATE_RIGHT)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    processor = backend(towers=TOWERS, draft_decoding=True)
    drafted = processor(unread(data), return_tensors="pt")
    text = base64.b64encode(data).decode()
    for source in (path, str(path), text, f"data:image/jpeg;base64,{text}"):
        assert_equal(drafted, processor(source, return_tensors="pt"))
    with Image.open(path) as opened:
        assert_equal(drafted, processor(opened, return_tensors="pt"))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_drafted(backend, mode):
    data = encode(smooth(600, 400, seed=3).convert(mode), quality=95)
    processor = backend(towers=LARGER_TOWERS, do_rescale=False, do_normalize=False)
    exact = processor(unread(data), return_tensors="pt")
    drafted = processor(unread(data), draft_decoding=True, return_tensors="pt")
    assert drafted["image_sizes"].tolist() == [[400, 600]]
    assert 0 < level_differences(exact, drafted).float().mean() < 1.5


def test_a_batch_may_mix_drafted_and_other_images(backend):
    images = [encode(smooth(300, 200)), encode(smooth(90, 300), "PNG"), encode(smooth(40, 30))]
    processor = backend(towers=TOWERS, draft_decoding=True)
    batch = processor([unread(data) for data in images], return_tensors="pt")
    assert batch["image_sizes"].tolist() == [[200, 300], [300, 90], [30, 40]]
    for row, data in enumerate(images):
        single = processor(unread(data), return_tensors="pt")
        for key in batch:
            assert torch.equal(batch[key][row], single[key][0]), key


def test_the_setting_is_saved_and_reaches_the_other_backend(tmp_path):
    processor = PMCCambrianImageProcessorPil(towers=TOWERS, draft_decoding=True)
    processor.save_pretrained(tmp_path)
    assert PMCCambrianImageProcessorPil.from_pretrained(tmp_path).draft_decoding is True
    assert processor.with_torchvision().draft_decoding is True
    assert PMCCambrianImageProcessorPil.from_pretrained(tmp_path, draft_decoding=False).draft_decoding is False


def test_a_conversation_with_a_path_is_drafted_and_keeps_its_image_tokens(tokenizer_dirs, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(smooth(301, 199)))
    processor = build_processor(tokenizer_dirs["llama3"], TOWERS, 6)
    content = [{"type": "image", "image": str(path)}, {"type": "text", "text": "What is it?"}]
    settings = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    conversation = [{"role": "user", "content": content}]
    exact = processor.apply_chat_template(conversation, **settings)
    drafted = processor.apply_chat_template(conversation, processor_kwargs={"draft_decoding": True}, **settings)
    assert torch.equal(exact["input_ids"], drafted["input_ids"])
    assert exact["image_sizes"].tolist() == drafted["image_sizes"].tolist() == [[199, 301]]
    assert not torch.equal(exact[PIXEL_KEYS["siglip"]], drafted[PIXEL_KEYS["siglip"]])


@pytest.mark.parametrize("draft", [False, True])
def test_a_damaged_jpeg_is_named(backend, tmp_path, draft):
    path = tmp_path / "scan.jpg"
    data = encode(smooth(300, 200))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"Image 1 \('.*scan.jpg'\) cannot be read"):
        backend(towers=TOWERS, draft_decoding=draft)([smooth(30, 20), path])


def test_a_jpeg_is_opened_without_reading_its_pixels_or_keeping_the_file_open(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(smooth(300, 200)))
    image = open_image(path)
    path.unlink()
    assert image.tile and isinstance(image.fp, io.BytesIO)
    decoded, size = decode_with_size(image, draft_side=100)
    assert (decoded.size, size) == ((150, 100), (200, 300))
