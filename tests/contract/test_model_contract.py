"""What transformers promises of every model: saving and loading, backends, offload, dtypes, training, vocabulary."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_cambrian import small_towers_config

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import num_image_tokens
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

SIDES = {"pixel_values": 32, "pixel_values_clip": 32, "pixel_values_dino": 28, "pixel_values_convnext": 48}
PAD, IMAGE, STOP = 0, 6, 399  # no test generates token 399
# Largest difference of float32 logits of a size near 9 between two ways of computing the same attention.
SAME = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def batch():
    """Two images of different shape in one row, and a text-only row padded on the left."""
    first, second = (IMAGE,) * num_image_tokens(40, 60, 4), (IMAGE,) * num_image_tokens(60, 40, 4)
    rows = [[1, 8, 9, *first, 10, 11, *second, 12], [1, 8, 9, 10]]
    length = max(map(len, rows))
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "input_ids": torch.tensor([[PAD] * (length - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows]),
        "image_sizes": torch.tensor([[40, 60], [60, 40]]),
    }
    for key, side in SIDES.items():
        inputs[key] = torch.randn(2, 3, side, side, generator=generator)
    return inputs


@pytest.fixture(scope="module")
def text_only(batch):
    return {"input_ids": batch["input_ids"][1:, -4:]}


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    """The model's weights in one file."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(tiny_model, batch):
    """Logits at the attended positions."""
    return scores(tiny_model, batch)


def load(folder, **options):
    return PMCCambrianForConditionalGeneration.from_pretrained(folder, **options)


def scores(model, batch):
    with torch.no_grad():
        return model(**batch).logits[batch["attention_mask"].bool()]


def generate(model, batch, **options):
    defaults = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": PAD, "eos_token_id": STOP}
    return model.generate(**batch, **defaults, **options)


def labels_of(batch):
    trained = batch["attention_mask"].bool() & (batch["input_ids"] != IMAGE)
    return torch.where(trained, batch["input_ids"], -100)


# saving and loading


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", [None, "100KB"])
def test_weights_come_back_bit_identical_from_safetensors_alone(tied, shard, new_model, batch, tmp_path):
    model = new_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, **({"max_shard_size": shard} if shard else {}))
    weights = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(weights) == 1 if shard is None else len(weights) > 3
    assert not [*tmp_path.glob("*.bin"), *tmp_path.glob("*.pt")]
    saved = {key for name in weights for key in safe_open(tmp_path / name, "pt").keys()}
    assert ("lm_head.weight" in saved) is not tied
    loaded, report = load(tmp_path, output_loading_info=True)
    assert all(not names for names in report.values()), report
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) is tied
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(scores(loaded, batch), scores(model, batch))


def test_a_missing_key_is_reported_by_name_and_freshly_initialised(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    for key in ("model.connector.image_newline", "model.language_model.vision_samplers.1.pos_embeds.3"):
        del weights[key]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded, report = load(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {
        "model.connector.image_newline",
        "model.language_model.vision_samplers.1.pos_embeds.3",
    }
    newline = loaded.model.connector.image_newline
    assert torch.isfinite(newline).all() and 0.5 < newline.std() * len(newline) ** 0.5 < 2


def test_an_extra_key_is_reported_by_name(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors") | {"model.connector.gate": torch.zeros(3)}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    _, report = load(tmp_path, output_loading_info=True)
    assert set(report["unexpected_keys"]) == {"model.connector.gate"} and not report["missing_keys"]


def test_a_weight_of_another_shape_is_refused_and_the_report_names_it(folder, tmp_path, caplog):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 65
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(tmp_path)
    report = next(line for line in caplog.text.splitlines() if "mlp.down_proj.weight" in line)
    assert "[48, 64]" in report and "[48, 65]" in report


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_with_code_in_it_is_refused_and_not_run(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    torch.save({"lm_head.weight": Marker(tmp_path / "was_run")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match="(?i)weights.only"):
        load(tmp_path)
    assert not (tmp_path / "was_run").exists()


# ways of computing the same


@pytest.mark.parametrize("attention", ["eager", "sdpa", pytest.param("flex_attention", marks=pytest.mark.slow)])
def test_attention_backends_agree_on_a_padded_batch(attention, folder, batch, expected):
    """B17: the original mixes backends."""
    if attention == "flex_attention":
        _needs_flex_attention()
    model = load(folder, attn_implementation=attention)
    towers = model.model.vision_towers
    parts = (model.model.language_model, towers.siglip, towers.clip, towers.dino)
    assert [part.config._attn_implementation for part in parts] == [attention] * 4
    torch.testing.assert_close(scores(model, batch), expected, **SAME)


def _needs_flex_attention() -> None:
    from transformers.utils import is_torch_flex_attn_available

    if not is_torch_flex_attn_available():
        pytest.skip("this torch has no torch.nn.attention.flex_attention")
    _needs_compiler()


def _needs_compiler() -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("a C++ compiler (g++ or clang++) is missing: torch.compile cannot build CPU code")


@pytest.mark.parametrize(
    "placement",
    [
        {"model.vision_towers": "disk", "model.connector": "disk", "model.language_model": "cpu", "lm_head": "cpu"},
        {"model.vision_towers": "cpu", "model.connector": "cpu", "model.language_model": "disk", "lm_head": "disk"},
        "auto",
    ],
    ids=["vision on disk", "text on disk", "auto"],
)
def test_offloaded_weights_give_the_same_answer(placement, folder, batch, expected, tiny_model, tmp_path):
    """B8: the original runs on one CUDA device only."""
    pytest.importorskip("accelerate", reason="device_map needs accelerate")
    size = sum(parameter.numel() * parameter.element_size() for parameter in tiny_model.parameters())
    options = {"max_memory": {"cpu": int(0.7 * size)}} if placement == "auto" else {}
    model = load(folder, device_map=placement, offload_folder=tmp_path, **options)
    assert {"cpu", "disk"} == set(model.hf_device_map.values())
    assert any(parameter.is_meta for parameter in model.parameters()), "nothing was offloaded"
    assert torch.equal(scores(model, batch), expected)
    assert torch.equal(generate(model, batch), generate(tiny_model, batch))


def test_bfloat16_keeps_clear_decisions(folder, batch, expected):
    model = load(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    found = scores(model, batch).float()
    difference = (found - expected).abs()
    # 8 bits of mantissa through 3 decoder layers, at logits of a size near 9.
    assert difference.mean() < 0.2 and difference.max() < 1.5
    best = expected.topk(2).values
    clear = best[:, 0] - best[:, 1] > 2 * difference.max(dim=-1).values
    assert clear.float().mean() > 0.25
    assert torch.equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


def compiled(model, batch, backend):
    """Tokens of a static cache whose one-token steps are compiled as one graph, and the number of graphs."""
    from transformers import CompileConfig

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    config = CompileConfig(fullgraph=True, mode="default", backend=backend)
    config._compile_all_devices = True  # the library compiles for accelerators only, unless told
    tokens = generate(model, batch, cache_implementation="static", compile_config=config)
    return tokens, torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_the_decode_step_is_one_graph_and_gives_equal_tokens(folder, batch, tiny_model):
    tokens, graphs = compiled(load(folder), batch, "eager")
    assert graphs == 1
    assert torch.equal(tokens, generate(tiny_model, batch))


@pytest.mark.slow
def test_the_compiled_decode_step_gives_equal_tokens(folder, batch, tiny_model):
    _needs_compiler()
    tokens, graphs = compiled(load(folder), batch, "inductor")
    assert graphs == 1
    assert torch.equal(tokens, generate(tiny_model, batch))


# training


def gradients(model, batch, **labels):
    model.zero_grad()
    model(**batch, **labels).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("frozen", [True, False], ids=["towers frozen", "towers trained"])
@pytest.mark.parametrize("images", [True, False], ids=["images", "text only"])
def test_activation_checkpointing_gives_equal_gradients(frozen, images, new_model, batch, text_only):
    model = new_model(freeze_vision_towers=frozen).train()
    inputs = batch if images else text_only
    labels = {"labels": labels_of(batch) if images else text_only["input_ids"]}
    passes = []
    layers = [model.model.language_model.layers[0], model.model.vision_towers.dino.encoder.layer[0]]
    for index, layer in enumerate(layers):
        layer.mlp.register_forward_pre_hook(lambda *arguments, index=index: passes.append(index))
    plain = gradients(model, inputs, **labels)
    assert (passes.count(0), passes.count(1)) == (1, int(images))
    passes.clear()
    model.activation_checkpointing_enable()
    checkpointed = gradients(model, inputs, **labels)
    # Computed again in the backward pass: the text model always, the towers if they train.
    assert (passes.count(0), passes.count(1)) == (2, images * (1 if frozen else 2))
    assert plain.keys() == checkpointed.keys()
    assert any("vision_towers" in name for name in plain) is (images and not frozen)
    assert any("vision_samplers" in name for name in plain) is images
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_trained_towers_are_in_training_mode_and_every_parameter_gets_a_gradient(new_model, batch):
    model = new_model(freeze_vision_towers=False).train()
    assert all(module.training for module in model.model.vision_towers.modules())
    found = gradients(model, batch, labels=labels_of(batch))
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found.keys() == wanted
    for tower in ("siglip", "clip", "dino", "convnext"):
        assert any(name.startswith(f"model.vision_towers.{tower}.") for name in wanted)


@pytest.mark.parametrize("frozen", [True, False])
def test_towers_stay_as_the_configuration_says_through_every_change_of_mode(frozen, new_model, tmp_path):
    new_model(freeze_vision_towers=frozen).save_pretrained(tmp_path)
    for model in (load(tmp_path), load(tmp_path, dtype=torch.bfloat16)):
        towers = model.model.vision_towers
        assert not any(module.training for module in model.modules())
        for change in (model.train, model.model.train, lambda m=model: m.eval().train()):
            change()
            assert model.model.language_model.training
            assert any(module.training for module in towers.modules()) is not frozen
            assert any(parameter.requires_grad for parameter in towers.parameters()) is not frozen


# the vocabulary


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_grows_and_shrinks_without_touching_what_stays(tied, new_model, batch, tmp_path):
    model = new_model(tie_word_embeddings=tied)
    before = scores(model, batch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for size, padded_to, result in ((433, None, 433), (433, 64, 448), (400, 16, 400)):
            model.resize_token_embeddings(size, pad_to_multiple_of=padded_to)
            assert model.config.text_config.vocab_size == result == model.lm_head.out_features
            assert model.get_input_embeddings().num_embeddings == result
            assert (model.lm_head.weight is model.get_input_embeddings().weight) is tied
            after = scores(model, batch)
            assert after.shape[-1] == result
            assert torch.equal(after[:, :400], before)
            assert torch.isfinite(model(**batch, labels=labels_of(batch)).loss)
        model.resize_token_embeddings(420)
    model.save_pretrained(tmp_path)
    assert torch.equal(scores(load(tmp_path), batch), scores(model, batch))


# bad input


def test_placeholders_and_images_that_differ_name_both_numbers(tiny_model, batch):
    wanted = num_image_tokens(40, 60, 4) + num_image_tokens(60, 40, 4)
    inputs = {**batch, "input_ids": batch["input_ids"].clone()}
    inputs["input_ids"][1, -1] = IMAGE
    for run in (tiny_model, lambda **given: generate(tiny_model, given)):
        with pytest.raises(ValueError, match=f"tokens: {wanted + 1}, features: {wanted}"):
            run(**inputs)


def test_towers_that_differ_in_number_or_size_are_named(tiny_model, batch):
    sva = tiny_model.config.sva_config
    features = [torch.zeros(1, side * side, dim) for side, dim in zip(sva.aux_sides, sva.tower_dims)]
    size = torch.tensor([[40, 60]])
    with pytest.raises(ValueError, match="3 feature tensors for 4 towers"):
        tiny_model.model.embed_vision_features(features[:3], size)
    with pytest.raises(ValueError, match="clip, dino, convnext tower.*given were siglip"):
        tiny_model.model.embed_vision_features({"siglip": features[0]}, size)
    with pytest.raises(ValueError, match=r"siglip tower have shape \(1, 5, 16\), expected \(1, 16, 16\)"):
        tiny_model.model.embed_vision_features([features[0][:, :5], *features[1:]], size)
    with pytest.raises(ValueError, match=r"clip tower have shape \(1, 16, 16\), expected \(2, 16, 16\)"):
        tiny_model(**{**batch, "pixel_values_clip": batch["pixel_values_clip"][:1]})


@pytest.mark.parametrize("key", SIDES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_no_numbers_are_named(key, value, tiny_model, batch):
    pixels = batch[key].clone()
    pixels[1, 0, 3, 3] = value
    with pytest.raises(ValueError, match=rf"{key} holds values that are NaN or infinite"):
        tiny_model(**{**batch, key: pixels})


def test_a_configuration_on_disk_that_names_an_unknown_tower_is_refused(folder, tmp_path):
    config = small_towers_config().to_dict()
    config["sva_config"]["tower_names"] = ["siglip", "clip", "dino", "eva02"]
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    with pytest.raises(Exception, match="Unknown vision tower 'eva02'.*siglip, clip, dino, convnext"):
        load(tmp_path)
