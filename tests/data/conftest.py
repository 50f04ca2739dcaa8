"""A set of cases as a source gives them, without any image file."""

import io

import numpy as np
import pytest
from PIL import Image

from semihv_hf.data.schema import Case, Fact, case_id

PLANES = ("axial", "coronal", "sagittal")


def _make_case(number: int, split: str, **facts: str) -> Case:
    buffer = io.BytesIO()
    pixels = np.random.default_rng([number, len(split)]).integers(0, 255, (16, 16), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    stated = [Fact(name, value, f"source of {name}") for name, value in facts.items()]
    identity = case_id("pydicom", f"{split}{number}", [buffer.getvalue()])
    return Case(identity, "pydicom", f"{split}{number}", f"g{number}", split, "MIT", [buffer.getvalue()], stated)


@pytest.fixture
def make_case():
    """Makes one case: `make_case(number, split, **facts)`."""
    return _make_case


@pytest.fixture
def cases(make_case) -> list[Case]:
    made = []
    for split, count in (("train", 12), ("validation", 6), ("test", 12)):
        for number in range(count):
            plane = PLANES[number % 3]
            made.append(make_case(number, split, modality="MRI", body_part="brain", plane=plane))
            made.append(make_case(100 + number, split, modality="CT", body_part="chest", plane=plane))
            made.append(make_case(200 + number, split, modality="ultrasound", body_part="heart"))
            stain = ("H&E", "DAB immunohistochemistry")[number % 2]
            made.append(make_case(300 + number, split, modality="histology", body_part="skin", stain=stain))
            made.append(make_case(400 + number, split, modality="fluorescence microscopy", body_part="cell nuclei"))
    return made


@pytest.fixture
def kinds(cases) -> dict[str, str]:
    return {case.id: case.fact("modality").value for case in cases}
