"""A checkpoint is loaded whole or refused; the digests notice what did not come back."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaConfig, LlavaForConditionalGeneration

from semihv_hf.errors import SemiHVError
from semihv_hf.training.strict_loading import load_weights, parameter_digests


def llava(seed: int, hidden: int = 16):
    """The smallest LLaVA: `save_pretrained` writes most of its keys under other names."""
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": hidden, "intermediate_size": 16}
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8, **layers},
        text_config={"model_type": "llama", "vocab_size": 32, "num_key_value_heads": 2, **layers},
        image_token_index=6,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config)


@pytest.fixture()
def saved(tmp_path):
    model = llava(0)
    model.save_pretrained(tmp_path)
    return model, tmp_path


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_renamed_keys_come_back_bit_by_bit(saved):
    model, folder = saved
    other = llava(1)
    names = set(load_file(folder / "model.safetensors"))
    assert names != set(model.state_dict()), "the keys of this checkpoint are renamed"
    assert parameter_digests(other) != parameter_digests(model)
    load_weights(other, folder)
    assert parameter_digests(other) == parameter_digests(model)
    assert all(value.equal(other.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_model_of_two_precisions_keeps_both(tmp_path):
    model, other = llava(0).bfloat16(), llava(1).bfloat16()
    for each in (model, other):
        each.model.multi_modal_projector.float()
    model.save_pretrained(tmp_path)
    load_weights(other, tmp_path)
    assert parameter_digests(other) == parameter_digests(model)
    assert {str(value.dtype) for value in other.parameters()} == {"torch.bfloat16", "torch.float32"}


def test_a_missing_parameter_is_an_error(saved):
    model, folder = saved
    rewrite(folder, lambda tensors: tensors.pop(next(name for name in tensors if "vision_tower" in name)))
    with pytest.raises(SemiHVError, match="lacks 1 parameters of this model, e.g. .*vision_tower"):
        load_weights(model, folder)


def test_an_unknown_parameter_is_an_error(saved):
    model, folder = saved
    rewrite(folder, lambda tensors: tensors.update({"fifth_tower.weight": torch.zeros(2)}))
    with pytest.raises(SemiHVError, match="holds unknown 1 parameters of this model, e.g. fifth_tower.weight"):
        load_weights(model, folder)


def test_other_shapes_are_an_error(saved):
    _, folder = saved
    before = parameter_digests(wide := llava(2, hidden=32))
    with pytest.raises(SemiHVError, match="do not fit LlavaForConditionalGeneration|has other shapes"):
        load_weights(wide, folder)
    assert parameter_digests(wide) == before


def test_an_adapter_is_loaded_whole(tmp_path):
    from peft import LoraConfig, get_peft_model

    def adapted(seed):
        settings = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["multi_modal_projector"])
        model = get_peft_model(llava(0), settings)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for value in model.parameters():
                if value.requires_grad:
                    value.copy_(torch.randn(value.shape, generator=generator))
        return model

    model, other = adapted(1), adapted(2)
    model.save_pretrained(tmp_path)
    load_weights(other, tmp_path)
    assert parameter_digests(other) == parameter_digests(model)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    lost = next(name for name in tensors if "lora_A" in name)
    tensors.pop(lost)
    save_file(tensors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SemiHVError, match="lacks 1 parameters of this model, e.g. .*lora_A"):
        load_weights(other, tmp_path)


def test_digests_notice_one_bit_of_any_parameter():
    model = llava(0)
    before = parameter_digests(model)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        flat = value.view(-1)
        kept = flat[-1].clone()
        flat[-1] = torch.nextafter(kept, kept + 1)
        assert [key for key, digest in parameter_digests(model).items() if digest != before[key]] == [name]
        flat[-1] = kept
