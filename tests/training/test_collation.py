"""Batches from rows: equal to TRL's where both work, and every row that is left out is counted."""

import pickle

import pytest
import tiny_families
import torch
from datasets import Dataset, Image, List
from tiny_families import encoded, mixed_rows, row
from torch.utils.data import DataLoader
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from semihv_hf.errors import SemiHVError
from semihv_hf.training.collation import VisionCollator, take_report, token_counts
from semihv_hf.training.row_images import undecoded

BROKEN = {"bytes": b"\x89PNG\r\n\x1a\nthis goes no further", "path": None}


@pytest.fixture(scope="module", params=tiny_families.NAMES)
def processor(request, tiny_text_model):
    return tiny_families.make(request.param, tiny_text_model).processor


@pytest.fixture(scope="module")
def llava():
    return tiny_families.llava()


def same(one, other):
    assert set(one) == set(other)
    for key, value in one.items():
        assert torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key], key


def test_a_batch_equals_trls(processor, picture):
    rows = mixed_rows(picture)
    trl = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    expected = dict(trl(mixed_rows(picture)))
    same(VisionCollator(processor)(rows), expected)
    labels = expected["labels"]
    assert 0 < int((labels != -100).sum()) < int(expected["attention_mask"].sum()) / 2
    # From files it is the same, and in a text-only batch there is nothing of images.
    files = [{**entry, "images": [encoded(image) for image in entry["images"]]} for entry in rows]
    same(VisionCollator(processor)(files), expected)
    text = VisionCollator(processor)([rows[1]])
    assert not [key for key in text if "pixel" in key or key.startswith("image")]
    same(VisionCollator(processor)([{"messages": rows[1]["messages"], "images": None}]), text)


def test_without_assistant_only_loss_everything_but_images_and_padding_is_trained(processor, picture):
    rows = mixed_rows(picture)
    trl = DataCollatorForVisionLanguageModeling(processor)
    expected = trl(mixed_rows(picture))["labels"]
    found = VisionCollator(processor, assistant_only_loss=False)(rows)["labels"]
    images = torch.isin(expected, torch.tensor(processor.image_token_ids))
    assert images.any() and torch.equal(found, expected.masked_fill(images, -100))


def test_padding_to_a_multiple_changes_only_the_tail(llava, picture):
    rows = mixed_rows(picture)
    plain = VisionCollator(llava.processor)(rows)
    padded = VisionCollator(llava.processor, pad_to_multiple_of=32)(rows)
    width = plain["input_ids"].shape[1]
    assert padded["input_ids"].shape[1] % 32 == 0 and padded["input_ids"].shape[1] - width < 32
    assert torch.equal(padded["labels"][:, :width], plain["labels"])
    assert not padded["attention_mask"][:, width:].any() and (padded["labels"][:, width:] == -100).all()


def test_a_row_that_cannot_be_used_is_left_out_and_counted(processor, picture):
    rows = mixed_rows(picture)
    bad = [
        row("image", "x", images=[BROKEN], id="broken"),
        row("x", images=[picture(9, 9)], id="no place"),
        row("Is this an axial MRI? " * 300, id="long"),
        row("image", "x", images=[None], id="nothing"),
        {"id": "silent", "messages": row("x")["messages"][:1], "images": []},
        {"id": "null", "messages": None, "images": []},
    ]
    collator = VisionCollator(processor, max_length=400, report=True)
    batch = collator([rows[0], bad[0], rows[1], bad[1], bad[2], rows[2], *bad[3:]])
    report = take_report(batch)
    same(batch, VisionCollator(processor)([rows[0], rows[1], rows[2]]))
    # Where all of a row is learnt, an answer is not missed.
    assert len(VisionCollator(processor, assistant_only_loss=False)([rows[0], bad[4]])["input_ids"]) == 2
    assert report.row_ids == ["one", "text", "two"] and report.images == 3 and report.places == [0, 2, 5]
    reasons = {failure.id: failure.reason for failure in report.left_out}
    assert reasons.keys() == {"broken", "no place", "nothing", "long", "silent", "null"}
    assert "longer than max_length (400)" in reasons["long"] and "the assistant says nothing" in reasons["silent"]
    assert (report.real_tokens, report.computed_tokens) == token_counts(batch)
    assert take_report(batch) is None
    assert sorted(collator.bad_rows.reasons) == sorted(reasons)
    with pytest.raises(SemiHVError, match=r"2 rows cannot be used, more than max_bad_rows \(1\): last row no place"):
        VisionCollator(processor, max_bad_rows=1)([bad[0], rows[0], bad[1]])


def test_a_row_that_only_the_processor_refuses_is_found(picture):
    qwen = tiny_families.qwen("qwen2_vl").processor
    strip = row("image", "x", images=[picture(1000, 4)], id="strip")  # beyond 200:1
    good = mixed_rows(picture)
    collator = VisionCollator(qwen, report=True)
    batch = collator([good[0], strip, good[1]])
    report = take_report(batch)
    assert [failure.id for failure in report.left_out] == ["strip"] and report.row_ids == ["one", "text"]
    same(batch, VisionCollator(qwen)([good[0], good[1]]))


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_of_nothing_but_damaged_rows_trains_nothing(llava, packing):
    collator = VisionCollator(llava.processor, packing=packing, model_config=llava.model.config, report=True)
    batch = collator([row("image", "x", images=[BROKEN], id="broken")])
    report = take_report(batch)
    assert report.row_ids == [] and report.real_tokens == 0 and report.computed_tokens == 2
    assert (batch["labels"] == -100).all()
    labels = batch.pop("labels")
    logits = llava.model(**batch).logits
    assert logits.isfinite().all() and logits.shape[:2] == labels.shape


def test_real_and_computed_tokens_of_padded_and_packed_batches(llava, picture):
    rows = mixed_rows(picture)
    padded = VisionCollator(llava.processor)(rows)
    real, computed = token_counts(padded)
    assert real == int(padded["attention_mask"].sum()) < computed == padded["input_ids"].numel()
    settings = {"packing": True, "model_config": llava.model.config, "pad_to_multiple_of": 128}
    packed = VisionCollator(llava.processor, report=True, **settings)(rows)
    assert token_counts(packed) == (real, packed["input_ids"].numel())
    assert packed["input_ids"].numel() % 128 == 0
    assert take_report(packed).images == 4


def test_images_are_decoded_once_each_and_in_the_workers(llava, picture, monkeypatch):
    from semihv_hf.training import collation

    rows = mixed_rows(picture)
    columns = {name: [entry[name] for entry in rows] for name in ("messages", "id")}
    columns["images"] = [[encoded(image) for image in entry["images"]] for entry in rows]
    stored = Dataset.from_dict(columns).cast_column("images", List(Image()))
    raw = undecoded(stored)
    assert isinstance(raw[0]["images"][0], dict) and not isinstance(stored[0]["images"][0], dict)
    streamed = undecoded(stored.to_iterable_dataset())
    assert isinstance(next(iter(streamed))["images"][0], dict)

    calls = []
    monkeypatch.setattr(collation, "decode_image", lambda value: calls.append(1) or collation_decode(value))
    collation_decode = undecoded.__globals__["decode_image"]
    collator = VisionCollator(llava.processor)
    expected = collator([raw[index] for index in range(4)])
    assert len(calls) == 4
    (batch,) = DataLoader(raw, batch_size=4, collate_fn=collator, num_workers=2)
    assert len(calls) == 4  # those of the worker are its own
    same(batch, expected)


def test_the_collator_travels_to_a_spawned_worker(llava, picture):
    settings = {"packing": True, "model_config": llava.model.config}
    collator = VisionCollator(llava.processor, **settings)
    rows = mixed_rows(picture)
    same(pickle.loads(pickle.dumps(collator))(rows), collator(rows))
    qwen = tiny_families.qwen("qwen2_5_vl")
    collator = VisionCollator(qwen.processor, packing=True, model_config=qwen.model.config)
    same(pickle.loads(pickle.dumps(collator))(rows), collator(rows))


def test_what_can_never_work_is_one_clear_error(llava):
    with pytest.raises(SemiHVError, match="Row 7 has no messages: its columns are id, text"):
        VisionCollator(llava.processor)([{"id": 7, "text": "a"}])
    with pytest.raises(SemiHVError, match="generation"):
        VisionCollator(llava.processor, chat_template="{{ messages[0]['content'] }}")
    processor = tiny_families.llava().processor
    processor.tokenizer.pad_token = None
    with pytest.raises(SemiHVError, match="no pad token"):
        VisionCollator(processor)
