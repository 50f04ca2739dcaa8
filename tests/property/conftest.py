"""The small model of tests/models with weights large enough that answers differ, and its processor."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))


@pytest.fixture(scope="session")
def answering_model():
    """All four towers, three connector layers, two samplers; its tokens follow from what it is given."""
    from generation_cases import with_large_weights
    from tiny_cambrian import small_towers_config

    return with_large_weights(small_towers_config())


@pytest.fixture(scope="session")
def generation_processor(tiny_text_model):
    """The processor of `answering_model`: a 4x4 query grid, ChatML."""
    from generation_cases import TOWERS

    from semihv_hf.models.assemble import build_processor

    processor = build_processor(tiny_text_model, TOWERS, 4, chat_template="chatml")
    assert processor.image_token_id == 6  # the model's
    return processor


@pytest.fixture(scope="session")
def cases(answering_model, generation_processor):
    """Encodes conversations and lets the model answer them together or one by one."""
    from generation_cases import Cases

    return Cases(answering_model, generation_processor)
