"""Packed rows give the loss and the gradients of separate rows; models for which they would not are refused."""

import pytest
import tiny_families
import torch
from tiny_families import mixed_rows
from torch.nn.functional import cross_entropy

from semihv_hf.errors import SemiHVError
from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.packed_rows import check_packing

PACKED = ["pmc_cambrian", "llava", "qwen2_vl", "qwen2_5_vl"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=PACKED)
def family(request, tiny_text_model):
    made = tiny_families.make(request.param, tiny_text_model)
    made.model.requires_grad_(True)
    return made


def loss_and_gradients(model, batches):
    """Token-weighted mean over all batches, as a trainer has it, and every gradient."""
    model.zero_grad()
    total, count = 0, 0
    for batch in batches:
        batch = dict(batch)
        targets = batch.pop("labels")[:, 1:].flatten()
        logits = model(**{"use_cache": False, **batch}).logits[:, :-1].flatten(0, 1)
        total = total + cross_entropy(logits.float(), targets, reduction="sum")
        count += int((targets != -100).sum())
    (total / count).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach()) / count, gradients


def largest_difference(one, other) -> float:
    assert one.keys() == other.keys() and len(one) > 20
    scale = max(1.0, max(float(gradient.abs().max()) for gradient in one.values()))
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


def collators(family, **settings):
    return (
        VisionCollator(family.processor),
        VisionCollator(family.processor, packing=True, model_config=family.model.config, **settings),
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_and_gradients_equal_those_of_separate_rows(family, attention, picture):
    family.model.set_attn_implementation(attention)
    single, packing = collators(family)
    rows = mixed_rows(picture)
    expected, expected_gradients = loss_and_gradients(family.model, [single([row]) for row in rows])
    batch = packing(rows)
    assert batch["input_ids"].shape[0] == 1 and "attention_mask" not in batch and batch["use_cache"] is False
    found, gradients = loss_and_gradients(family.model, [batch])
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert largest_difference(expected_gradients, gradients) < TOLERANCE
    # A mask of ones switches isolation off in silence: the comparison would see it.
    leaking = {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
    assert abs(loss_and_gradients(family.model, [leaking])[0] - expected) > 100 * TOLERANCE


def test_order_tail_and_packs_within_packs_change_nothing(family, picture):
    family.model.set_attn_implementation("sdpa")
    single, packing = collators(family, pad_to_multiple_of=64)
    rows = [mixed_rows(picture)[index] for index in (1, 3, 0, 1, 2)]
    expected, expected_gradients = loss_and_gradients(family.model, [single([row]) for row in rows])
    batch = packing([rows[:2], rows[2:]])
    assert batch["input_ids"].shape[1] % 64 == 0
    found, gradients = loss_and_gradients(family.model, [batch])
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert largest_difference(expected_gradients, gradients) < TOLERANCE


def test_text_alone_is_packed_without_any_image(family, picture):
    single, packing = collators(family)
    rows = [row for row in mixed_rows(picture) if not row["images"]] * 3
    batch = packing(rows)
    assert not [key for key in batch if "pixel" in key or "image" in key]
    expected, _ = loss_and_gradients(family.model, [single([row]) for row in rows])
    assert loss_and_gradients(family.model, [batch])[0] == pytest.approx(expected, abs=TOLERANCE)


def test_positions_start_again_and_no_row_predicts_the_next(family, picture):
    single, packing = collators(family)
    rows = mixed_rows(picture)
    lengths = [single([row])["input_ids"].shape[1] for row in rows]
    batch = packing(rows)
    text = batch["position_ids"][0] if batch["position_ids"].ndim == 3 else batch["position_ids"]
    assert text.tolist() == [[position for length in lengths for position in range(length)]]
    starts = [sum(lengths[:row]) for row in range(len(rows))]
    assert batch["labels"][0, starts].tolist() == [-100] * len(rows)
    if batch["position_ids"].ndim == 3:
        # The model's own positions of each row, one behind the other.
        expected = []
        for row in rows:
            one = single([row])
            expected.append(
                family.model.model.get_rope_index(
                    one["input_ids"],
                    mm_token_type_ids=one["mm_token_type_ids"],
                    image_grid_thw=one.get("image_grid_thw"),
                )[0]
            )
        assert torch.equal(batch["position_ids"][1:], torch.cat(expected, dim=-1))


def test_gemma_is_refused_since_its_packed_rows_differ(picture, monkeypatch):
    from semihv_hf.training import packed_rows

    family = tiny_families.gemma3()
    with pytest.raises(SemiHVError, match="gemma3 model cannot be packed: its image tokens see each other both ways"):
        VisionCollator(family.processor, packing=True, model_config=family.model.config)
    # Should this fail one day, the library has mended it and Gemma can be packed.
    monkeypatch.setattr(packed_rows, "ONE_DIMENSIONAL", ("gemma3",))
    single, packing = collators(family)
    rows = mixed_rows(picture)
    expected, _ = loss_and_gradients(family.model, [single([row]) for row in rows])
    assert abs(loss_and_gradients(family.model, [packing(rows)])[0] - expected) > 100 * TOLERANCE


def test_unknown_models_and_settings_in_the_way_are_refused(tiny_text_model):
    from transformers import LlavaNextConfig

    with pytest.raises(SemiHVError, match="llava_next model cannot be packed.*known are pmc_cambrian, llava"):
        check_packing(LlavaNextConfig())
    config = tiny_families.make("pmc_cambrian", tiny_text_model).model.config
    config.legacy_image_position = 4
    with pytest.raises(SemiHVError, match="legacy_image_position"):
        check_packing(config)
    with pytest.raises(SemiHVError, match="model's configuration"):
        VisionCollator(tiny_families.llava().processor, packing=True)
