"""The first batch, decoded, with what is trained marked."""

import pytest
import torch
from small_cambrian import small_batch, small_processor

from semihv_hf.training.dry_run import DIM, GREEN, RESET, show_first_batch


@pytest.fixture(scope="module")
def processor(tiny_text_model):
    return small_processor(tiny_text_model)


@pytest.fixture(scope="module")
def batch(processor, picture):
    return small_batch(processor, [picture(60, 40), None], ["Is this an axial MRI?", "What plane is shown?"])


def test_rows_images_and_trained_tokens_of_a_padded_batch(batch, processor):
    text = show_first_batch(batch, processor, colour=False)
    lines = text.splitlines()
    trained = int((batch["labels"] != -100).sum())
    padding = int((batch["attention_mask"] == 0).sum())
    assert (
        lines[0]
        == f"batch of 2 x {batch['input_ids'].shape[1]} tokens: {trained} trained, {padding} padding, 1 images"
    )
    images = int((batch["input_ids"] == processor.image_token_id).sum())
    assert f"<image x {images}>" in text and text.count("<image") == 1
    assert text.count("[[Yes.<|im_end|>") == 2
    assert "Is this an axial MRI?" in text and "[[Is" not in text
    assert sum(line.startswith("--- ") for line in lines) == 2
    assert "<|endoftext|>" not in text  # the padding is counted, not shown


def test_colour_marks_the_same_tokens(batch, processor):
    plain, coloured = (show_first_batch(batch, processor, colour=colour) for colour in (False, True))
    assert coloured.count(GREEN) == plain.count("[[") == 2 and coloured.count(DIM) == 1
    stripped = coloured
    for code in (GREEN, DIM, RESET):
        stripped = stripped.replace(code, "")
    assert stripped == plain.replace("[[", "").replace("]]", "")


def test_a_pack_is_shown_document_by_document(batch, processor):
    rows = [batch["input_ids"][i][batch["attention_mask"][i].bool()] for i in range(2)]
    labels = [batch["labels"][i][batch["attention_mask"][i].bool()] for i in range(2)]
    pad = torch.full((5,), processor.tokenizer.pad_token_id)
    pack = {
        "input_ids": torch.cat([*rows, pad])[None],
        "labels": torch.cat([*labels, torch.full((5,), -100)])[None],
        "position_ids": torch.cat([torch.arange(len(part)) for part in (*rows, pad)])[None],
        "image_sizes": batch["image_sizes"],
    }
    text = show_first_batch(pack, processor, row_ids=["eurorad-1", "pmc-2"], colour=False)
    lines = [line for line in text.splitlines() if line.startswith("--- ")]
    trained = [int((part != -100).sum()) for part in labels]
    assert lines == [
        f"--- 0 eurorad-1: batch row 0, from 0, {len(rows[0])} tokens, {trained[0]} trained",
        f"--- 1 pmc-2: batch row 0, from {len(rows[0])}, {len(rows[1])} tokens, {trained[1]} trained",
    ]
    assert "5 padding" in text
    # Each document reads as its row of the padded batch does.
    padded = show_first_batch(batch, processor, colour=False)
    bodies = [[line for line in part.splitlines()[1:] if not line.startswith("--- ")] for part in (text, padded)]
    assert bodies[0] == bodies[1]


def test_a_preference_batch_shows_its_completions_as_trained(batch, processor):
    pairs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    pairs["completion_mask"] = (batch["labels"] != -100).long()
    assert show_first_batch(pairs, processor, colour=False).count("[[Yes.") == 2
