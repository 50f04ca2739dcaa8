"""The model: sizes, batches, state, towers, saving."""

import pytest
import torch
from tiny_cambrian import TOKEN_COUNTS, small_towers_config

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig, kept_region, num_image_tokens
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PMCCambrianForConditionalGeneration(small_towers_config()).eval()


def inputs(sizes, seed=0):
    """A left-padded batch, one row and one image for each size."""
    rows = [[1, 8, 9] + [6] * num_image_tokens(height, width, 4) + [10, 11, 12] for height, width in sizes]
    return _pad(rows, sizes, torch.Generator().manual_seed(seed))


def _pad(rows, sizes, generator):
    length = max(map(len, rows))
    batch = {
        "input_ids": torch.tensor([[0] * (length - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows]),
    }
    sides = {"pixel_values": 32, "pixel_values_clip": 32, "pixel_values_dino": 28, "pixel_values_convnext": 48}
    for key, side in sides.items():
        batch[key] = torch.randn(len(sizes), 3, side, side, generator=generator)
    batch["image_sizes"] = torch.tensor(sizes)
    return batch


def test_parameter_count_of_the_8b_model():
    config = PMCCambrianConfig(
        text_config={
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
        }
    )
    with torch.device("meta"):
        model = PMCCambrianForConditionalGeneration(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_333_022_208


@pytest.mark.parametrize(("width", "height", "tokens"), TOKEN_COUNTS)
def test_image_tokens(width, height, tokens):
    assert num_image_tokens(height, width, 24) == tokens


def test_kept_region_keeps_the_order_of_float_operations():
    rows = kept_region(55, 88, 24)
    assert rows[1] - rows[0] == 24 - 2 * ((24 - int(55 * (24 / 88))) // 2)
    with pytest.raises(ValueError, match="height 0"):
        kept_region(0, 10, 24)


def test_batch_equals_single(model):
    sizes = [(40, 60), (60, 40), (50, 50)]
    batch = inputs(sizes)
    together = model.generate(**batch, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=399)
    for index in range(len(sizes)):
        mask = batch["attention_mask"][index].bool()
        single = {key: value[index : index + 1] for key, value in batch.items() if key.startswith(("pixel", "image"))}
        ids = batch["input_ids"][index][mask][None]
        alone = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **single,
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=399,
        )
        assert torch.equal(alone[0, ids.shape[1] :], together[index, batch["input_ids"].shape[1] :])


def test_forward_equals_generate(model):
    """B2: the original's forward leaves the samplers out unless generate ran before."""
    batch = inputs([(40, 60)])
    logits = model(**batch).logits[0, -1]
    generated = model.generate(
        **batch, max_new_tokens=1, do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    torch.testing.assert_close(generated.logits[0][0], logits, atol=1e-5, rtol=1e-5)


def test_samplers_change_the_result(model):
    batch = inputs([(40, 60)])
    with torch.no_grad():
        with_samplers = model(**batch).logits
        samplers, model.model.language_model.sampler_layers = model.model.language_model.sampler_layers, ()
        without = model(**batch).logits
        model.model.language_model.sampler_layers = samplers
    assert (with_samplers - without).abs().max() > 1e-4


def test_no_state_is_left(model):
    """B3: an image before must not change an answer without one."""
    text = {"input_ids": torch.tensor([[1, 8, 9, 10]])}
    with torch.no_grad():
        before = model(**text).logits
        model(**inputs([(40, 60)]))
        after = model(**text).logits
    assert torch.equal(before, after)


def test_towers_stay_in_evaluation_mode_and_frozen(model):
    """B1: the original's ConvNeXt drops paths at random, in training and inference."""
    batch = inputs([(40, 60)])
    pixels = {name: batch[key] for name, key in _tower_keys().items()}
    model.train()
    first, second = model.model.get_tower_features(pixels), model.model.get_tower_features(pixels)
    assert len(first) == 4 and all(torch.equal(first[name], second[name]) for name in first)
    assert not any(module.training for module in model.model.vision_towers.modules())
    loss = model(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    model.eval()
    assert all(parameter.grad is None for parameter in model.model.vision_towers.parameters())
    assert all(parameter.grad is not None for parameter in model.model.connector.parameters())
    model.zero_grad()


def _tower_keys():
    return {
        "siglip": "pixel_values",
        "clip": "pixel_values_clip",
        "dino": "pixel_values_dino",
        "convnext": "pixel_values_convnext",
    }


def test_save_and_load_is_bit_identical(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = PMCCambrianForConditionalGeneration.from_pretrained(tmp_path)
    expected = model.state_dict()
    assert expected.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.model.vision_towers.parameters())


def test_mismatched_image_tokens_name_both_numbers(model):
    batch = inputs([(40, 60)])
    batch["input_ids"][0, -1] = 6
    with pytest.raises((ValueError, RuntimeError), match="Image features and image tokens do not match"):
        model(**batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower_names": ["siglip", "clip", "dino", "vgg"]}, "vgg"),
        ({"aux_sides": [4, 4, 4]}, "4, 4 and 3"),
        ({"aux_sides": [4, 4, 4, 9]}, "9 of convnext"),
        ({"tower_dims": [16, 16, 16, 99]}, "convnext tower gives 28"),
        ({"num_samplers": 9}, "lower num_samplers"),
    ],
)
def test_a_wrong_configuration_is_refused(change, message):
    sva = small_towers_config().sva_config.to_dict() | change
    with pytest.raises(Exception, match=message):
        small_towers_config(sva_config=sva)


def test_missing_pixels_name_the_tower(model):
    batch = inputs([(40, 60)])
    del batch["pixel_values_dino"]
    with pytest.raises(ValueError, match="pixel_values_dino is missing"):
        model(**batch)
