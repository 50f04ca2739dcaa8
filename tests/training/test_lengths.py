"""Lengths known before batching equal those that the processor produces."""

import io

import pytest
from datasets import Dataset, Features
from PIL import Image as PILImage

from semihv_hf.data.features import record_features
from semihv_hf.data.messages import message
from semihv_hf.training.lengths import conversation_lengths


def png(width, height):
    data = io.BytesIO()
    PILImage.new("L", (width, height), 90).save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


@pytest.fixture
def rows():
    def turn(images):
        return [message("user", "Is this a CT?", images), message("assistant", "no")]

    features = Features({name: record_features()[name] for name in ("messages", "images")})
    images = [[png(60, 40)], [], [png(40, 60), png(10, 200)]]
    messages = [turn(1), turn(0), turn(1) + turn(1)]
    return Dataset.from_dict({"messages": messages, "images": images}, features=features)


def test_lengths_equal_what_the_processor_returns(rows, tiny_text_model):
    from trl.data_utils import prepare_multimodal_messages

    from semihv_hf.models.assemble import build_processor

    processor = build_processor(tiny_text_model, {"siglip": {"size": 32}}, 4, chat_template="chatml")
    lengths = conversation_lengths(rows, processor)
    assert len(lengths) == 3 and lengths[0] > lengths[1]
    for row, length in zip(rows, lengths):
        messages = prepare_multimodal_messages(row["messages"], images=row["images"])
        ids = processor.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        assert len(ids[0] if isinstance(ids[0], list) else ids) == length
