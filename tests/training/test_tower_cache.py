"""Features of frozen towers are computed once, and the model cannot tell that they came from a file."""

import pytest
import torch
from small_cambrian import small_batch, small_model, small_processor

from semihv_hf.errors import SemiHVError
from semihv_hf.training.tower_cache import TowerCache, attach_towers


@pytest.fixture(scope="module")
def processor(tiny_text_model):
    return small_processor(tiny_text_model)


@pytest.fixture(scope="module")
def images(picture):
    return [picture(60, 40, 1), picture(40, 60, 2), picture(50, 50, 3), picture(90, 30, 4)]


@pytest.fixture(scope="module")
def batches(processor, images):
    """Two batches of two images, and a text-only row in the second."""
    first = small_batch(processor, images[:2], ["Is this an axial MRI?", "What plane is shown?"])
    second = small_batch(processor, [images[2], None, images[3]], ["Is this an MRI?", "What plane?", "Describe it."])
    return [first, second]


def tower_calls(model):
    """Number of images that each forward of the towers had, appended as they come."""
    calls = []
    model.model.vision_towers.register_forward_pre_hook(lambda module, args: calls.append(len(args[1])))
    return calls


def losses_and_gradients(model, batches):
    model.train()
    model.zero_grad()
    losses = [model(**batch).loss for batch in batches]
    sum(losses).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return [float(loss.detach()) for loss in losses], gradients


def same(one, other):
    return (
        one[0] == other[0]
        and one[1].keys() == other[1].keys()
        and all(torch.equal(value, other[1][name]) for name, value in one[1].items())
    )


@pytest.mark.parametrize("frozen_connector", [False, True], ids=["connector trains", "connector frozen"])
def test_features_are_computed_once_and_loss_and_gradients_are_exactly_equal(
    frozen_connector, processor, batches, tmp_path
):
    model = small_model(processor)
    model.model.connector.requires_grad_(not frozen_connector)
    # Without a cache, image by image: matrix products of another batch size may differ in the last bit.
    plain = attach_towers(model, micro_batch=1)
    reference = losses_and_gradients(model, batches)
    plain.detach()

    calls = tower_calls(model)
    towers = attach_towers(model, TowerCache(tmp_path / "features"))
    epochs = [losses_and_gradients(model, batches) for _ in range(3)]
    counts = towers.cache.counts
    assert counts == {"read": 8, "computed": 4, "stored": 4, "over_the_limit": 0, "unreadable": 0}
    assert calls == [1] * 4 * 4  # four images through four towers, in the first epoch only
    assert all(epoch[0] == epochs[0][0] for epoch in epochs) and all(same(epoch, epochs[0]) for epoch in epochs)
    if frozen_connector:  # its batch differs, too
        torch.testing.assert_close(epochs[0][0], reference[0], rtol=1e-6, atol=1e-6)
        assert not any("connector" in name for name in epochs[0][1])
    else:
        assert same(epochs[0], reference)
        assert any("connector" in name for name in epochs[0][1])
    towers.detach()

    # Another process, another batch: the same files, nothing computed.
    again = attach_towers(model, TowerCache(tmp_path / "features"))
    assert same(losses_and_gradients(model, batches), epochs[0])
    losses_and_gradients(model, [small_batch_of(batches)])
    assert again.cache.counts["computed"] == 0 and len(calls) == 16


def small_batch_of(batches):
    """The first row of the first batch alone."""
    rows = {"input_ids", "attention_mask", "labels"}
    kept = batches[0]["attention_mask"][0].bool()
    return {key: value[:1][:, kept] if key in rows else value[:1] for key, value in batches[0].items()}


def test_the_model_as_it_is_agrees_with_the_cache(processor, batches, tmp_path):
    model = small_model(processor)
    stock = losses_and_gradients(model, batches)
    attach_towers(model, TowerCache(tmp_path))
    cached = losses_and_gradients(model, batches)
    torch.testing.assert_close(cached[0], stock[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cached[1], stock[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 2, 8])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trained"])
def test_micro_batches_of_the_towers_give_the_same_loss_and_gradients(micro_batch, frozen, processor, images):
    model = small_model(processor, freeze_vision_towers=frozen)
    batch = small_batch(processor, images[:3], ["What plane is shown?"] * 3)
    stock = losses_and_gradients(model, [batch])
    calls = tower_calls(model)
    attach_towers(model, micro_batch=micro_batch)
    split = losses_and_gradients(model, [batch])
    assert max(calls) == min(micro_batch, 3) and sum(calls) == 3 * 4
    torch.testing.assert_close(split[0], stock[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(split[1], stock[1], rtol=1e-4, atol=1e-6)
    assert any("vision_towers" in name for name in split[1]) is not frozen


def test_frozen_towers_save_nothing_for_a_backward_pass(processor, images):
    model = small_model(processor)
    batch = small_batch(processor, images[:2], ["What plane is shown?"] * 2)
    pixels = {"siglip": batch["pixel_values"]}
    pixels |= {name: batch[f"pixel_values_{name}"] for name in ("clip", "dino", "convnext")}

    def saved():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            features = model.model.get_tower_features(pixels)
        return sum(kept), features

    count, features = saved()
    assert count == 0 and not any(value.requires_grad for value in features.values())
    model.model.vision_towers.requires_grad_(True)
    assert saved()[0] > 0


def test_other_weights_or_another_preprocessing_meet_no_old_features(processor, batches, images, tmp_path):
    for seed in (0, 1):
        towers = attach_towers(small_model(processor, seed), TowerCache(tmp_path))
        losses_and_gradients(towers_model(towers), batches[:1])
        assert towers.cache.counts["computed"] == 2
    assert len(list(tmp_path.glob("*/about.json"))) == 2
    brighter = dict(batches[0], pixel_values_dino=batches[0]["pixel_values_dino"] + 1e-6)
    losses_and_gradients(towers_model(towers), [brighter])
    assert towers.cache.counts["computed"] == 4


def towers_model(towers):
    """The base model with a loss of its own: the mean of the last hidden state."""

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = towers.base

        def forward(self, labels=None, **inputs):
            return Result(self.base(**inputs).last_hidden_state.mean())

    class Result:
        def __init__(self, loss):
            self.loss = loss

    return Loss()


def test_a_broken_file_is_counted_and_computed_anew(processor, batches, tmp_path):
    model = small_model(processor)
    towers = attach_towers(model, TowerCache(tmp_path))
    before = losses_and_gradients(model, batches[:1])
    victim = next(tmp_path.glob("*/*/*.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-7])
    assert same(losses_and_gradients(model, batches[:1]), before)
    assert towers.cache.counts["unreadable"] == 1 and towers.cache.counts["computed"] == 3
    assert same(losses_and_gradients(model, batches[:1]), before)
    assert towers.cache.counts["unreadable"] == 1 and towers.cache.counts["computed"] == 3


def test_a_full_cache_stores_no_more_and_says_so(processor, batches, tmp_path):
    model = small_model(processor)
    towers = attach_towers(model, TowerCache(tmp_path, max_gib=1e-9))
    losses = [losses_and_gradients(model, batches)[0] for _ in range(2)]
    assert losses[0] == losses[1] and not list(tmp_path.glob("*/*/*.safetensors"))
    assert towers.cache.counts["over_the_limit"] == towers.cache.counts["computed"] == 8


def test_text_only_batches_and_ready_features_pass_untouched(processor, batches, tmp_path):
    model = small_model(processor)
    text = small_batch(processor, [None], ["What plane is shown?"])
    plain = losses_and_gradients(model, [text])
    towers = attach_towers(model, TowerCache(tmp_path))
    assert same(losses_and_gradients(model, [text]), plain)
    assert towers.cache.counts["computed"] == 0
    with pytest.raises(ValueError, match="pixel_values_dino is missing"):
        model(**{key: value for key, value in batches[0].items() if key != "pixel_values_dino"})


def test_what_cannot_be_cached_is_refused(processor, tiny_text_model, tmp_path):
    from transformers import AutoModelForCausalLM

    with pytest.raises(SemiHVError, match="a tower trains"):
        attach_towers(small_model(processor, freeze_vision_towers=False), TowerCache(tmp_path))
    with pytest.raises(SemiHVError, match="LlamaForCausalLM has no vision towers"):
        attach_towers(AutoModelForCausalLM.from_pretrained(tiny_text_model))
    with pytest.raises(SemiHVError, match="micro-batch of the towers is 0"):
        attach_towers(small_model(processor), micro_batch=0)
    sharded = small_model(processor)
    next(sharded.model.vision_towers.parameters()).ds_id = 1
    with pytest.raises(SemiHVError, match="ZeRO-3 or FSDP shards them"):
        attach_towers(sharded, TowerCache(tmp_path))
