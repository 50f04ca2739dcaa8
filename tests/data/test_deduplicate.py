"""A training image that repeats a held-out one is found, also when it was re-encoded or scaled."""

import io

import numpy as np
import pytest
from PIL import Image

from semihv_hf.data.deduplicate import drop_repeats
from semihv_hf.data.schema import Case


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)
    return Image.fromarray(small).resize((160, 160), Image.Resampling.BICUBIC)


def case(name: str, split: str, image: Image.Image, form: str = "PNG") -> Case:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return Case(name, "s", name, "g", split, "MIT", [buffer.getvalue()])


@pytest.mark.parametrize(
    "repeat",
    [
        lambda image: image.resize((70, 70)),
        lambda image: image.point(lambda value: value * 0.6 + 40),
        lambda image: image.convert("RGB"),
    ],
    ids=["scaled", "darker", "colour"],
)
def test_repeats_are_dropped_from_the_lower_split(repeat):
    cases = [
        case("test", "test", picture(0)),
        case("validation repeats test", "validation", repeat(picture(0)), "JPEG"),
        case("train repeats test", "train", repeat(picture(0)), "JPEG"),
        case("train is new", "train", picture(1)),
    ]
    kept, dropped = drop_repeats(cases)
    assert [case.id for case in kept] == ["train is new", "test"]
    assert [(item["source_id"], item["repeats"], item["repeats_split"]) for item in dropped] == [
        ("validation repeats test", "test", "test"),
        ("train repeats test", "test", "test"),
    ]
    assert all(item["correlation"] > 0.98 for item in dropped)


def test_repeats_inside_one_split_stay():
    cases = [case("a", "train", picture(0)), case("b", "train", picture(0)), case("c", "test", picture(1))]
    kept, dropped = drop_repeats(cases)
    assert len(kept) == 3 and dropped == []


def test_blank_images_are_no_repeats_of_each_other():
    cases = [case("a", "train", Image.new("L", (9, 9))), case("b", "test", Image.new("L", (9, 9)))]
    assert drop_repeats(cases)[1] == []
