"""The arithmetic of the estimate against real tensors: optimizer states, gradients, and what autograd keeps."""

import dataclasses

import pytest
import torch
from small_cambrian import small_batch, small_model, small_processor

from semihv_hf.errors import SemiHVError
from semihv_hf.training.arguments import StageArguments
from semihv_hf.training.estimate import GIB, estimate, estimate_recipe, main, state_memory
from semihv_hf.training.meta_model import FOUR_BIT_BYTES, build_meta_model, census, measure
from semihv_hf.training.plan import Plan, make_plan

FULL = [r"model\.connector\..*", r"model\.language_model\..*", r"lm_head\..*"]


def stage(**changes):
    settings = {"model": "m", "dataset": "d", "stage": "2", "title": "t"}
    return StageArguments(**settings, **({"trainable": FULL} if "lora_r" not in changes else {}), **changes)


def plan(**changes):
    settings = {
        "strategy": "single",
        "gpus": 1,
        "gpu": "cpu",
        "tokens": 60,
        "tokens_per_row": 60,
        "images": 1,
        "accumulation": 1,
        "checkpointing": False,
        "mixed": False,
        "utilisation": 0.35,
        "steps": 100,
        "rows_per_step": 1,
    }
    return Plan(**(settings | changes))


@pytest.fixture(scope="module")
def processor(tiny_text_model):
    return small_processor(tiny_text_model)


@pytest.fixture(scope="module")
def batch(processor, picture):
    return small_batch(processor, [picture(50, 50)], ["Is this an axial MRI?"])


@pytest.fixture(scope="module")
def meta(processor):
    return build_meta_model(small_model(processor).config, stage(), torch.float32)


def trained_model(processor):
    from semihv_hf.training.parameters import select_trainable

    model = small_model(processor).train()
    select_trainable(model, FULL)
    return model


def test_weights_gradients_and_optimizer_states_are_the_real_ones(processor, batch, meta):
    model = trained_model(processor)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(**batch).loss.backward()
    for parameter in model.parameters():  # the last sampler is seen by no later token
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = [value for state in optimizer.state.values() for key, value in state.items() if key != "step"]

    memory = state_memory(census(meta), plan())
    assert memory["optimizer states"] == sum(value.nbytes for value in states)
    assert memory["gradients"] == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert memory["trained weights"] == sum(p.nbytes for p in model.parameters() if p.requires_grad)
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    assert memory["towers (frozen)"] + memory["other frozen weights"] == frozen


def test_what_autograd_keeps_is_near_what_a_real_forward_keeps(processor, batch, meta):
    model = trained_model(processor)
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.model(**{key: value for key, value in batch.items() if key != "labels"})
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    tokens = batch["input_ids"].shape[1]
    result = estimate(meta, plan(tokens=tokens, tokens_per_row=tokens))
    parts = {name: size for name, size in result.memory.items() if name.startswith("activations")}
    counted = sum(size for name, size in parts.items() if name != "activations: head")
    assert counted == pytest.approx(real, rel=0.2)
    # Computing layers again keeps their inputs and one layer.
    again = estimate(meta, plan(tokens=tokens, tokens_per_row=tokens, checkpointing=True))
    assert again.memory["activations: layer inputs"] == 3 * tokens * 48 * 4
    assert again.memory["activations: one layer"] * 3 == parts["activations: layers"]
    assert sum(again.flops.values()) > sum(result.flops.values())


def test_saved_tensors_and_flops_of_a_known_module():
    with torch.device("meta"):
        layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 4))
        x = torch.empty(10, 8)
    counted = measure(lambda: layers(x), layers)
    # The inputs of both layers are kept, the weights are not counted.
    assert counted.saved_bytes == 10 * 8 * 4 + 10 * 16 * 4
    assert counted.flops == 2 * 10 * (8 * 16 + 16 * 4)
    q, k, v = (torch.empty(1, 2, 6, 4, device="meta", requires_grad=True) for _ in range(3))
    attention = torch.nn.functional.scaled_dot_product_attention
    fused = measure(lambda: attention(q, k, v))
    assert fused.flops == 2 * (2 * 6 * 6) * (4 + 4) and fused.saved_bytes == 4 * (4 * 2 * 6 * 4) + 2 * 6 * 4
    assert measure(lambda: attention(q, k, v, is_causal=True)).flops == fused.flops / 2


def test_strategies_share_what_they_say_they_share(meta):
    parts = census(meta)
    count = sum(part.trainable for part in parts.values())
    frozen = sum(part.numel - part.trainable for part in parts.values())
    assert census(meta)["towers"].trainable == 0 and census(meta)["towers"].numel == frozen

    def of(strategy, **changes):
        return state_memory(parts, plan(strategy=strategy, gpus=4, mixed=True, **changes))

    ddp, zero2, zero3, fsdp2 = (of(name) for name in ("ddp", "zero2", "zero3", "fsdp2"))
    assert ddp["trained weights"] == 4 * count and ddp["optimizer states"] == 8 * count
    assert ddp["communication"] == ddp["gradients"] == 4 * count and ddp["bfloat16 copies"] == 2 * count
    assert zero2["trained weights"] == 2 * count and zero2["optimizer states"] == 2 * count
    assert zero2["float32 weights"] == count and zero2["gradients"] == count / 2
    assert zero3["trained weights"] == count / 2 and zero3["towers (frozen)"] == zero2["towers (frozen)"] / 4
    assert fsdp2["trained weights"] == count and fsdp2["optimizer states"] == 2 * count
    assert sum(zero3.values()) < sum(zero2.values()) < sum(ddp.values())


def test_adapters_and_four_bit_weights(processor):
    config = small_model(processor).config
    adapters = stage(lora_r=4, lora_modules_to_save=["connector"])
    for dtype, wide, size in ((torch.bfloat16, True, 4), (torch.bfloat16, False, 2), (torch.float32, False, 4)):
        parts = census(build_meta_model(config, adapters, dtype, wide=wide))
        assert {s for part in parts.values() for _, s in part.trainable_sizes} == {size}
    weights = dict(small_model(processor).named_parameters())
    inside = [name for name in weights if "language_model.layers." in name and name.endswith("_proj.weight")]
    assert len(inside) == 3 * 7
    projections = sum(weights[name].numel() for name in inside)
    four = census(build_meta_model(config, adapters, torch.bfloat16), four_bit=True)
    plain = census(build_meta_model(config, adapters, torch.bfloat16))
    assert plain["text"].frozen_bytes - four["text"].frozen_bytes == pytest.approx(projections * (2 - FOUR_BIT_BYTES))
    assert four["towers"].frozen_bytes == plain["towers"].frozen_bytes
    assert plain["text"].trainable == 0 and plain["adapters"].trainable == plain["adapters"].numel > 0


def test_the_bytes_of_a_model_in_four_bits_are_the_real_ones(processor, tmp_path):
    """QLoRA: 4-bit weights, the rest in bfloat16, float32 for what trains, and AdamW's states."""
    pytest.importorskip("bitsandbytes", reason="4-bit loading needs bitsandbytes (it runs on CPUs, too)")
    from peft import get_peft_model

    from semihv_hf.models.export import save_checkpoint
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration
    from semihv_hf.training.adapters import adapter_config, four_bit_settings
    from semihv_hf.training.lora import train_in_float32

    text = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    whole = small_model(processor, text_config=text | {"vocab_size": 400, "pad_token_id": 0})
    save_checkpoint(whole, processor, tmp_path)
    model = PMCCambrianForConditionalGeneration.from_pretrained(
        tmp_path, quantization_config=four_bit_settings(whole.config), dtype=torch.bfloat16, device_map="cpu"
    )
    settings = stage(lora_r=4, load_in_4bit=True)
    model = get_peft_model(model, adapter_config(settings, model))
    train_in_float32(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = sum(v.nbytes for state in optimizer.state.values() for key, v in state.items() if key != "step")
    frozen = sum(parameter.nbytes for parameter in model.parameters() if not parameter.requires_grad)
    quantised = [parameter for parameter in model.parameters() if hasattr(parameter, "quant_state")]
    assert len(quantised) == 3 * 7 and all(weight.dtype == torch.uint8 for weight in quantised)
    # Scales of the blocks, and theirs. The tables of code values, 1.1 kB a layer whatever its size, are not counted.
    scales = [weight.quant_state for weight in quantised]
    frozen += sum(scale.absmax.nbytes + scale.state2.absmax.nbytes for scale in scales)

    meta = build_meta_model(whole.config, settings, torch.bfloat16, wide=True)
    memory = state_memory(census(meta, four_bit=True), plan(mixed=True))
    counted = memory["towers (frozen)"] + memory["other frozen weights"]
    # Scales of scales come in whole numbers: less than one float32 a layer.
    assert 0 <= frozen - counted < 4 * len(quantised)
    assert memory["trained weights"] == memory["gradients"] == sum(parameter.nbytes for parameter in trained)
    assert memory["optimizer states"] == states and memory["bfloat16 copies"] == states / 4


def test_time_follows_from_flops_and_utilisation(meta):
    one = estimate(meta, plan(gpu="h100"))
    assert one.step_seconds == pytest.approx(sum(one.flops.values()) / (989e12 * 0.35))
    assert one.gpu_hours == pytest.approx(100 * one.step_seconds / 3600)
    twice = estimate(meta, plan(gpu="h100", gpus=2, strategy="ddp"))
    assert twice.step_seconds == pytest.approx(one.step_seconds)
    assert sum(twice.flops.values()) == pytest.approx(2 * sum(one.flops.values()))
    reference = estimate(meta, plan(gpu="h100", reference=True))
    assert reference.flops["reference"] < sum(one.flops.values()) < sum(reference.flops.values())
    assert "(estimated, not measured)" in one.table() and "assumed utilisation of 35%" in one.table()
    assert dataclasses.replace(one, memory={"x": 80.0 * GIB}).fits is False


def test_the_command_prints_the_table_of_a_recipe(processor, tmp_path, capsys):
    from semihv_hf.models.export import save_checkpoint

    save_checkpoint(small_model(processor), processor, tmp_path / "tiny")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {tmp_path / 'tiny'}\ndataset: d\nstage: '2'\ntitle: t\ntrainable: ['model\\.connector\\..*']\n"
        "use_cpu: true\nbf16: false\nmax_steps: 7\nper_device_train_batch_size: 3\nlearning_rate: 1.0e-4\n"
    )
    main(["--config", str(recipe), "--strategy", "ddp", "--gpus", "2"])
    out = capsys.readouterr().out
    assert "ddp on 2 x cpu" in out and "global batch: 6 rows" in out and "run: 7 steps" in out
    assert estimate_recipe(recipe).plan.strategy == "single"


def test_plans_that_mean_nothing_are_refused():
    settings = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": -1,
        "num_train_epochs": 2,
        "activation_checkpointing": True,
        "bf16": True,
        "max_length": 100,
    }
    good = make_plan(stage(plan={"rows": 100, "tokens_per_row": 50}), settings)
    assert good.steps == 100 and good.tokens == 100 and good.gpu == "h100"
    packed = make_plan(stage(plan={"rows": 100, "tokens_per_row": 25}), settings | {"packing": True})
    assert packed.tokens == 200 and packed.rows_per_step == 8 and packed.steps == 25
    for wrong, message in (({"gpus": 3}, "unknown key 'gpus'"), ({"gpu": "h1000"}, "plan.gpu is 'h1000'")):
        with pytest.raises(SemiHVError, match=message):
            make_plan(stage(plan=wrong), settings)
    with pytest.raises(SemiHVError, match="Unknown strategy 'zero9'"):
        make_plan(stage(), settings, strategy="zero9")
