"""LoRA adapters and 4-bit loading touch the text model's decoder, and neither towers nor aggregator."""

import re

import pytest
import torch
from torch import nn

from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration
from semihv_hf.training.lora import FOUR_BIT_SKIP_MODULES, LORA_TARGETS, lora_modules_to_save

PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture()
def model(folder):
    return PMCCambrianForConditionalGeneration.from_pretrained(folder)


@pytest.fixture(scope="module")
def batch(tiny_processor, picture):
    def turns(text, *images):
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
        return [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]

    return tiny_processor.apply_chat_template(
        [turns("Is this an axial MRI?", picture(60, 40, 1)), turns("What plane is shown?")],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


@pytest.fixture()
def adapters(model):
    """Makes a model with adapters: `adapters(**settings)`."""
    peft = pytest.importorskip("peft", reason="adapters need peft")

    def make(**settings):
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=LORA_TARGETS, task_type="CAUSAL_LM", **settings)
        return peft.get_peft_model(model, config)

    return make


def scores(model, batch):
    model.eval()
    with torch.no_grad():
        return model(**batch).logits[batch["attention_mask"].bool()]


def train(model, batch, steps=2):
    """A few steps of what may be trained; returns the losses."""
    model.train()
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.3)
    labels = torch.where(batch["attention_mask"].bool() & (batch["input_ids"] > 6), batch["input_ids"], -100)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_target_pattern_matches_every_decoder_projection_and_nothing_else(model):
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    matched = {name for name in linear if re.fullmatch(LORA_TARGETS, name)}
    layers = model.config.text_config.num_hidden_layers
    assert len(matched) == layers * len(PROJECTIONS)
    assert {name.rsplit(".", 1)[1] for name in matched} == PROJECTIONS
    # The bare names occur elsewhere, too, which is why there is a pattern.
    elsewhere = {name for name in linear if name.split(".")[-1] in PROJECTIONS} - matched
    assert {name.split(".")[1] for name in elsewhere} == {"vision_towers", "connector", "language_model"}


def test_adapters_train_alone_and_the_towers_stay_frozen_and_in_evaluation_mode(adapters, batch):
    wrapped = adapters()
    before = {name: parameter.clone() for name, parameter in wrapped.named_parameters()}
    losses = train(wrapped, batch, steps=3)
    assert losses[-1] < losses[0]
    changed = {name for name, parameter in wrapped.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed and all(".lora_" in name for name in changed)
    assert changed <= {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    towers = wrapped.base_model.model.model.vision_towers
    assert wrapped.training and not any(module.training for module in towers.modules())
    assert not any(parameter.requires_grad for parameter in towers.parameters())


def test_connector_and_samplers_train_in_full_beside_adapters_where_asked(adapters, model, batch):
    names = lora_modules_to_save(model.config)
    assert names == ["connector", "vision_samplers.0", "vision_samplers.1"]
    wrapped = adapters(modules_to_save=names)
    trained = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    for part in ("connector.modules_to_save", "vision_samplers.0.modules", "vision_samplers.1.modules", ".lora_A."):
        assert any(part in name for name in trained), part
    assert not any("vision_towers" in name for name in trained)
    before = {name: parameter.clone() for name, parameter in wrapped.named_parameters() if name in trained}
    train(wrapped, batch)
    # The second sampler stands behind the last decoder layer: no trained token looks at the rows that it updates.
    same = [name for name in trained if torch.equal(wrapped.get_parameter(name), before[name])]
    assert all("vision_samplers.1." in name for name in same)


@pytest.mark.parametrize("with_modules", [False, True], ids=["adapters alone", "with connector and samplers"])
def test_saved_loaded_and_merged_adapters_answer_alike(with_modules, adapters, model, folder, batch, tmp_path):
    from peft import PeftModel

    untrained = scores(model, batch)
    wrapped = adapters(modules_to_save=lora_modules_to_save(model.config) if with_modules else None)
    assert torch.equal(scores(wrapped, batch), untrained)  # a new adapter changes nothing
    train(wrapped, batch)
    trained = scores(wrapped, batch)
    assert (trained - untrained).abs().max() > 0.1
    wrapped.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file() and not list(tmp_path.glob("*.bin"))
    base = PMCCambrianForConditionalGeneration.from_pretrained(folder)
    keys = base.state_dict().keys()
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert torch.equal(scores(loaded, batch), trained)
    merged = loaded.merge_and_unload()
    assert merged.state_dict().keys() == keys
    # W x + B A x against (W + B A) x, in float32 at logits of a size near 10.
    torch.testing.assert_close(scores(merged, batch), trained, atol=1e-4, rtol=0)


# 4-bit


def four_bit(folder):
    pytest.importorskip("bitsandbytes", reason="4-bit loading needs bitsandbytes (it runs on CPUs, too)")
    pytest.importorskip("accelerate", reason="device_map needs accelerate")
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=FOUR_BIT_SKIP_MODULES,
    )
    return PMCCambrianForConditionalGeneration.from_pretrained(
        folder, quantization_config=settings, device_map="cpu", dtype=torch.float32
    )


def test_four_bit_loading_quantises_the_decoder_and_computes_with_its_weights(folder, model, batch):
    quantised = four_bit(folder)
    from bitsandbytes.functional import dequantize_4bit

    small = {name: module for name, module in quantised.named_modules() if type(module).__name__ == "Linear4bit"}
    layers = model.config.text_config.num_hidden_layers
    assert len(small) == layers * len(PROJECTIONS)
    assert all(re.fullmatch(LORA_TARGETS, name) for name in small)
    assert not any(parameter.requires_grad for parameter in quantised.model.vision_towers.parameters())
    # The same weights, rounded to 4 bits and back, in the ordinary model.
    with torch.no_grad():
        for name, module in small.items():
            weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
            model.get_submodule(name).weight.copy_(weight)
    torch.testing.assert_close(scores(quantised, batch), scores(model, batch), atol=1e-3, rtol=0)


def test_adapters_train_on_a_four_bit_model(folder, batch):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    quantised = peft.prepare_model_for_kbit_training(four_bit(folder), use_gradient_checkpointing=False)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=LORA_TARGETS, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(quantised, config)
    losses = train(wrapped, batch, steps=3)
    assert losses[-1] < losses[0]
    assert not any(module.training for module in wrapped.base_model.model.model.vision_towers.modules())
