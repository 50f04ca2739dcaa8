"""For any images and texts: lengths are known without pixels, and packed rows are separate rows."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import tiny_families  # noqa: E402
from tiny_families import row  # noqa: E402

from semihv_hf.training.collation import VisionCollator  # noqa: E402
from semihv_hf.training.lengths import row_lengths  # noqa: E402

# Newlines and spaces next to an image may join with what a processor puts around it.
TEXTS = st.text(st.sampled_from("aMI ?\n\t.éß<|>\U0001f600"), max_size=12)
SIZES = st.tuples(st.integers(4, 120), st.integers(4, 120))


@st.composite
def rows(draw):
    parts, images = [], []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            width, height = draw(SIZES)
            seed = draw(st.integers(0, 3))
            pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
            images.append(Image.fromarray(pixels))
            parts.append("image")
        else:
            parts.append(draw(TEXTS))
    return row(*parts, answer=draw(TEXTS) + ".", images=images)


@pytest.fixture(scope="module")
def families(tiny_text_model):
    return {name: tiny_families.make(name, tiny_text_model) for name in tiny_families.NAMES}


QUICK = {"suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@pytest.mark.parametrize("name", tiny_families.NAMES)
@settings(max_examples=25, **QUICK)
@given(batch=st.lists(rows(), min_size=1, max_size=3))
def test_lengths_equal_the_processors_for_any_row(families, name, batch):
    processor = families[name].processor
    single = VisionCollator(processor)
    expected = [single([entry])["input_ids"].shape[1] for entry in batch]
    assert row_lengths(batch, processor) == expected
    together = single(batch)
    assert together["attention_mask"].sum(dim=1).tolist() == expected


@pytest.mark.parametrize("name", ["pmc_cambrian", "llava", "qwen2_5_vl"])
@settings(max_examples=12, **QUICK)
@given(batch=st.lists(rows(), min_size=2, max_size=4))
def test_packed_rows_are_scored_as_separate_rows(families, name, batch):
    import torch

    family = families[name]
    single = VisionCollator(family.processor)
    packed = VisionCollator(family.processor, packing=True, model_config=family.model.config)(batch)
    packed.pop("labels")
    with torch.no_grad():
        together = family.model(**packed).logits[0]
        separate = []
        for entry in batch:
            one = single([entry])
            one.pop("labels")
            separate.append(family.model(**one, use_cache=False).logits[0])
    separate = torch.cat(separate)
    assert together.shape == separate.shape
    assert torch.allclose(together, separate, rtol=1e-4, atol=1e-4 * float(separate.abs().max()))
