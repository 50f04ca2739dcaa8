"""Lengths known before batching equal those that the processor produces, and what cannot be measured is counted."""

import pytest
import tiny_families
from datasets import Dataset, Features
from PIL import Image as PILImage
from PIL import ImageFile
from tiny_families import encoded, mixed_rows, row

from semihv_hf.data.features import record_features
from semihv_hf.errors import SemiHVError
from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.lengths import RowMeter, measure_rows, row_lengths, with_length
from semihv_hf.training.row_images import image_size


@pytest.fixture(scope="module", params=tiny_families.NAMES)
def processor(request, tiny_text_model):
    return tiny_families.make(request.param, tiny_text_model).processor


@pytest.fixture(scope="module")
def llava():
    return tiny_families.llava().processor


def real_length(example, processor) -> int:
    return VisionCollator(processor)([example])["input_ids"].shape[1]


def as_dataset(rows) -> Dataset:
    features = Features({name: record_features()[name] for name in ("messages", "images")})
    columns = {name: [example[name] for example in rows] for name in ("messages", "images")}
    return Dataset.from_dict(columns, features=features)


def test_lengths_equal_what_the_processor_returns(processor, picture):
    rows = mixed_rows(picture)
    lengths = row_lengths(rows, processor)
    assert lengths == [real_length(example, processor) for example in rows]
    assert len(set(lengths)) > 1


def test_no_pixel_is_decoded(processor, picture, monkeypatch):
    rows = [{**e, "images": [encoded(i) for i in e["images"]]} for e in mixed_rows(picture)]
    expected = [real_length(example, processor) for example in rows]
    stored = as_dataset(rows)
    meter_is_tried_once = RowMeter(processor)

    def refuse(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert meter_is_tried_once.measure(rows) == expected
    assert row_lengths(stored, processor) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_turned_image_is_measured_as_it_is_decoded(kind, orientation, tmp_path):
    from datasets import Image

    exif = PILImage.Exif()
    exif[0x0112] = orientation
    file = encoded(PILImage.new("RGB", (90, 30)), kind, exif=exif)
    path = tmp_path / "image"
    path.write_bytes(file["bytes"])
    decoded = Image().decode_example(file)
    assert (decoded.height, decoded.width) == ((90, 30) if orientation == 6 else (30, 90))
    assert image_size(file) == image_size(str(path)) == (decoded.height, decoded.width)
    assert image_size(PILImage.open(path)) == (decoded.height, decoded.width)


def test_rows_that_cannot_be_measured_are_counted_with_their_ids(llava, picture):
    good = row("image", "Is this a CT?", images=[encoded(picture(60, 40))])
    rows = [
        good,
        row("image", "x", images=[{"bytes": b"no image", "path": None}], id="broken"),
        row("x", images=[encoded(picture(9, 9))], id="no place for the image"),
        row("an <image> in words", id="a placeholder without an image"),
        {"messages": None, "images": [], "id": "nothing"},
        row("image", "x", images=[{"bytes": None, "path": "/no/such/file.png"}]),
        good,
    ]
    measured = measure_rows(rows, llava)
    length = real_length(good, llava)
    assert measured.lengths == [length, None, None, None, None, None, length]
    assert [failure.id for failure in measured.failures] == [rows[n].get("id", str(n)) for n in range(1, 6)]
    assert [failure.row for failure in measured.failures] == [1, 2, 3, 4, 5]
    for failure, words in zip(
        measured.failures, ["UnidentifiedImageError", "placeholders", "<image>", "no messages", "FileNotFoundError"]
    ):
        assert words in failure.reason and "\n" not in failure.reason
    with pytest.raises(SemiHVError, match="5 of 7 rows cannot be measured, first row broken"):
        row_lengths(rows, llava)


def test_a_dataset_without_conversations_is_refused(llava):
    with pytest.raises(SemiHVError, match="no column messages: its columns are text"):
        measure_rows(Dataset.from_dict({"text": ["a"]}), llava)


def test_a_stream_gets_its_lengths_as_it_comes(llava, picture):
    rows = [{**e, "images": [encoded(i) for i in e["images"]]} for e in mixed_rows(picture)]
    stored = as_dataset(rows)
    expected = row_lengths(stored, llava)
    stream = list(with_length(stored.to_iterable_dataset(), llava))
    assert [entry["length"] for entry in stream] == expected
    assert all(isinstance(image, dict) for entry in stream for image in entry["images"])
    # It asks for no more than a batch of rows ahead.
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield rows[0]

    assert next(with_length(endless(), llava))["length"] == expected[0]
    assert len(taken) <= 256

    failures = []
    limit = sorted(expected)[-1] - 1
    kept = list(with_length([*rows, {"messages": None}], llava, max_length=limit, on_failure=failures.append))
    assert [entry["length"] for entry in kept] == [length for length in expected if length <= limit]
    assert failures[0].id == rows[expected.index(max(expected))]["id"] and failures[0].too_long
    assert failures[1].id.startswith("sha256 ") and not failures[1].too_long and len(failures) == 2
    with pytest.raises(SemiHVError, match=r"longer than \d+"):
        list(with_length(rows, llava, max_length=limit))


def test_a_processor_whose_lengths_do_not_follow_from_sizes_is_refused():
    gemma = tiny_families.gemma3().processor
    gemma.image_processor.do_pan_and_scan = True
    with pytest.raises(SemiHVError, match="do_pan_and_scan"):
        RowMeter(gemma)
    llava = tiny_families.llava().processor
    # Its count goes by the crop size, and there is no crop.
    llava.image_processor.do_center_crop = False
    llava.image_processor.size = {"shortest_edge": 64}
    with pytest.raises((SemiHVError, ValueError)) as raised:
        RowMeter(llava)
    assert isinstance(raised.value, SemiHVError) and "follow from their sizes" in str(raised.value)
    with pytest.raises(SemiHVError, match="does not say how many tokens"):
        RowMeter(object())
