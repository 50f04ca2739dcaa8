"""What the original gets wrong, each defect by the number it has in the specification: the model's behaviour.

B6 is tested in tests/property/test_generation.py, B7 in test_processing.py, B14 and B15 in test_chat_template.py, P1
in test_convert_cambrian.py, and what can be read off the code in test_original_defects_code.py.
"""

import copy
import io
import json
import socket

import pytest
import torch
from datasets import Dataset, Features, Image, Value, load_dataset
from safetensors.torch import load_file, save_file
from tiny_cambrian import small_towers_config
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, LlamaConfig

from semihv_hf.models.export import save_checkpoint
from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig, kept_region, num_image_tokens
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration, PMCCambrianModel
from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

IMAGE_TOKEN = 6
PIXELS = {"pixel_values": 32, "pixel_values_clip": 32, "pixel_values_dino": 28, "pixel_values_convnext": 48}
GREEDY = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}


def new_model(**changes) -> PMCCambrianForConditionalGeneration:
    """All four towers; every parameter drawn large enough that each part shows in the logits."""
    model = PMCCambrianForConditionalGeneration(small_towers_config(**changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 and "norm" in name else 0.15 * noise)
    return model


@pytest.fixture(scope="module")
def model():
    return new_model()


def row(*parts, seed: int = 0) -> dict:
    """One row of ids, with the pixels of its images; an image is given by its (height, width), a text by its ids."""
    sizes = [part for part in parts if isinstance(part, tuple)]
    ids = [[IMAGE_TOKEN] * num_image_tokens(*part, 4) if isinstance(part, tuple) else part for part in parts]
    inputs = {"input_ids": torch.tensor([sum(ids, [])])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    generator = torch.Generator().manual_seed(seed)
    for key, side in PIXELS.items() if sizes else ():
        inputs[key] = torch.randn(len(sizes), 3, side, side, generator=generator)
    if sizes:
        inputs["image_sizes"] = torch.tensor(sizes)
    return inputs


def logits(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("frozen", [True, False])
def test_defect_b1_two_calls_in_training_mode_give_equal_tower_features(frozen):
    model = new_model(freeze_vision_towers=frozen).train()
    assert model.training and model.model.vision_towers.training is not frozen
    inputs = row([1, 8], (40, 60), [10])
    pixels = dict(zip(("siglip", "clip", "dino", "convnext"), (inputs[key] for key in PIXELS)))
    first, second = model.model.get_tower_features(pixels), model.model.get_tower_features(pixels)
    assert all(torch.equal(first[name], second[name]) for name in pixels)
    assert all(value.std() > 0 for value in first.values())
    # and they are those of evaluation mode: nothing in a tower is random while it trains
    in_evaluation = model.eval().model.get_tower_features(pixels)
    assert all(torch.equal(first[name], in_evaluation[name]) for name in pixels)


def test_defect_b2_the_very_first_forward_runs_the_samplers_as_generate_does(model):
    inputs = row([1, 8], (40, 60), [10, 11])
    last = logits(copy.deepcopy(model), inputs)[:, -1]
    generated = copy.deepcopy(model).generate(
        **inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True, **GREEDY
    )
    torch.testing.assert_close(generated.logits[0], last, atol=1e-5, rtol=0)
    without = copy.deepcopy(model)
    without.model.language_model.sampler_layers = ()
    assert (logits(without, inputs)[:, -1] - last).abs().max() > 1e-2


def state_of(model) -> dict[str, object]:
    """What every module holds, parameters and buffers aside: tensors, lists and dictionaries by their contents."""
    skipped = {"_parameters", "_buffers", "_modules"}
    held = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key not in skipped:
                held[f"{name}.{key}"] = repr(value.to_dict() if hasattr(value, "to_dict") else value)
        held[f"{name} tensors"] = sorted([*module._parameters, *module._buffers])
        held[f"{name} buffers"] = {key: value.tolist() for key, value in module._buffers.items() if value is not None}
    return held


def changes(before: dict, after: dict) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_defect_b3_no_module_keeps_anything_of_a_call():
    model = new_model()
    model.set_attn_implementation("eager")
    text, image = row([1, 8, 9, 10]), row([1, 8], (40, 60), [10, 11])
    two = row([1], (60, 40), [9], (50, 50), [10, 11], seed=1)
    fresh, answer = state_of(model), logits(model, text)
    assert len(fresh) > 500 and any("sampler_layers" in name for name in fresh)
    assert changes(fresh, state_of(model)) == set()
    recorded = {"output_hidden_states": True, "output_attentions": True}
    logits(model, image | recorded)
    # At the first call that asks for them, the library hangs its own recorders on the layers.
    used = state_of(model)
    kinds = {name.rpartition(".")[2] for name in changes(fresh, used)}
    assert kinds == {"_forward_hooks", "_output_capturing_hooks_installed"}
    model(**two, **recorded, labels=two["input_ids"]).loss.backward()
    for search in ({}, {"num_beams": 3}, {"prefill_chunk_size": 5}, {"prompt_lookup_num_tokens": 3}):
        model.generate(**two, max_new_tokens=3, **GREEDY, **search)
    assert changes(used, state_of(model)) == set()
    assert torch.equal(logits(model, text), answer)


def test_defect_b3_the_check_above_would_see_a_cached_feature():
    model = new_model()
    before = state_of(model)
    model.model.connector.layers[0].cached = torch.ones(2)
    model.model.language_model.lists = [1]
    assert changes(before, state_of(model)) == {"model.connector.layers.0.cached", "model.language_model.lists"}


def test_defect_b4_several_images_stand_at_any_position(model):
    first, second = (40, 60), (60, 40)
    inputs = row([1, 8], first, [9, 10], second, [11, 12, 13])
    answer = logits(model, inputs)[0, -1]
    # The same numbers from the two images' features, computed one image at a time.
    singles = [{key: inputs[key][i : i + 1] for key in (*PIXELS, "image_sizes")} for i in range(2)]
    with torch.no_grad():
        outputs = [model.model.get_image_features(**single) for single in singles]
    joined = type(outputs[0])(
        pooler_output=[output.pooler_output[0] for output in outputs],
        deepstack_features=[[output.deepstack_features[i][0] for output in outputs] for i in range(3)],
    )
    text = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    apart = logits(model, {**text, "mm_encoder_outputs": {"image": joined}})[0, -1]
    torch.testing.assert_close(apart, answer, atol=1e-5, rtol=0)
    # Every image counts, and so does its place.
    for image in range(2):
        changed = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
        changed["pixel_values"][image] += 1
        assert (logits(model, changed)[0, -1] - answer).abs().max() > 1e-3
    swapped = {**inputs, **{key: inputs[key].flip(0) for key in (*PIXELS, "image_sizes")}}
    assert (logits(model, swapped)[0, -1] - answer).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 5), (100, 2500), (3000, 100), (1, 1000), (1000, 1)])
def test_defect_b5_an_image_of_any_aspect_ratio_keeps_some_tokens(size, model):
    for side in (4, 24, 96):
        top, bottom, left, right = kept_region(*size, side)
        assert bottom - top >= 2 and right - left >= 2
    answer = model.generate(**row([1, 8], size, [10]), max_new_tokens=2, **GREEDY)
    assert answer.shape[1] == 3 + num_image_tokens(*size, 4) + 2
    assert torch.isfinite(logits(model, row([1, 8], size, [10]))).all()


def test_defect_b8_the_model_runs_on_the_cpu_in_bfloat16_and_in_pieces(model, tmp_path):
    inputs = row([1, 8], (40, 60), [10, 11])
    expected = logits(model, inputs)[0, -1]
    half = copy.deepcopy(model).to(torch.bfloat16)
    low = logits(half, inputs)[0, -1]
    assert low.dtype == torch.bfloat16
    assert nn.functional.cosine_similarity(low.float(), expected, dim=0) > 0.98
    pytest.importorskip("accelerate", reason="accelerate is missing: device_map was not tried")
    model.save_pretrained(tmp_path / "model")
    whole = sum(parameter.numel() * 4 for parameter in model.parameters())
    in_pieces = PMCCambrianForConditionalGeneration.from_pretrained(
        tmp_path / "model", device_map="auto", max_memory={"cpu": whole // 2}, offload_folder=tmp_path / "disk"
    )
    assert set(in_pieces.hf_device_map.values()) == {"cpu", "disk"}
    torch.testing.assert_close(logits(in_pieces, inputs)[0, -1], expected, atol=1e-5, rtol=0)


def test_defect_b8_layers_that_must_stay_whole_are_named(model):
    classes = {type(module).__name__ for module in model.modules()}
    assert set(model._no_split_modules) <= classes
    assert {"LlamaDecoderLayer", "PMCCambrianSvaLayer"} <= set(model._no_split_modules)


def test_defect_b9_tensors_of_any_memory_layout_are_taken(model):
    inputs = row([1, 8], (40, 60), [10, 11])
    expected = logits(model, inputs)
    strided = {key: inputs[key].transpose(-1, -2).contiguous().transpose(-1, -2) for key in PIXELS}
    assert not any(value.is_contiguous() for value in strided.values())
    torch.testing.assert_close(logits(model, {**inputs, **strided}), expected, atol=1e-5, rtol=0)
    pixels = dict(zip(("siglip", "clip", "dino", "convnext"), (inputs[key] for key in PIXELS)))
    with torch.no_grad():
        features = model.model.get_tower_features(pixels)
        strided = {name: value.transpose(1, 2).contiguous().transpose(1, 2) for name, value in features.items()}
        plain = model.model.embed_vision_features(features, inputs["image_sizes"]).pooler_output[0]
        other = model.model.embed_vision_features(strided, inputs["image_sizes"]).pooler_output[0]
    torch.testing.assert_close(other, plain, atol=1e-6, rtol=0)


def test_defect_b10_rows_stream_in_their_order_and_a_broken_one_is_an_error_not_another_row(
    processor, picture, tmp_path
):
    def encoded(image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    images = [encoded(picture(20 + index, 30, index)) for index in range(4)]
    images[2] = images[2][:60]
    features = Features({"question": Value("string"), "image": Image(decode=False)})
    rows = [{"question": f"What? {i}", "image": {"bytes": data, "path": None}} for i, data in enumerate(images)]
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    stream = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", streaming=True)
    seen = []
    for read in stream.cast_column("image", Image(decode=False)):
        content = [{"type": "image", "image": read["image"]["bytes"]}, {"type": "text", "text": read["question"]}]
        text = processor.apply_chat_template([{"role": "user", "content": content}])
        if read["question"] == "What? 2":
            with pytest.raises((OSError, ValueError)):
                processor(text=[text], images=[Image().decode_example(read["image"])], return_tensors="pt")
            continue
        inputs = processor(text=[text], images=[Image().decode_example(read["image"])], return_tensors="pt")
        seen.append((read["question"], tuple(inputs["image_sizes"][0].tolist())))
    assert seen == [("What? 0", (30, 20)), ("What? 1", (30, 21)), ("What? 3", (30, 23))]


@pytest.fixture()
def checkpoint(model, tokenizer_dirs, tmp_path):
    """A saved model with its towers, in a folder whose name says nothing."""
    from semihv_hf.models.assemble import build_processor

    towers = {"siglip": {"size": 32}, "clip": {"size": 32}, "dino": {"size": 28}, "convnext": {"size": 48}}
    processor = build_processor(tokenizer_dirs["chatml"], towers, 4, chat_template="chatml")
    return save_checkpoint(model, processor, tmp_path / "some folder, (v2) ünnamed")


def test_defect_b11_the_auto_classes_know_the_model(checkpoint):
    assert type(AutoConfig.from_pretrained(checkpoint)) is PMCCambrianConfig
    assert type(AutoModel.from_pretrained(checkpoint)) is PMCCambrianModel
    assert type(AutoModelForImageTextToText.from_pretrained(checkpoint)) is PMCCambrianForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(checkpoint)) is PMCCambrianProcessor
    auto_map = json.loads((checkpoint / "config.json").read_text())["auto_map"]
    assert {"AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoModelForCausalLM"} <= set(auto_map)


def test_defect_b12_the_towers_come_from_the_folder_itself_without_a_network(checkpoint, model, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loaded = AutoModelForImageTextToText.from_pretrained(checkpoint)
    expected = model.model.vision_towers.state_dict()
    assert {name.split(".")[0] for name in expected} == {"siglip", "clip", "dino", "convnext"}
    found = loaded.model.vision_towers.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    inputs = row([1, 8], (40, 60), [10, 11])
    torch.testing.assert_close(logits(loaded.eval(), inputs), logits(model, inputs), atol=1e-5, rtol=0)


def test_defect_b13_a_model_without_towers_trains_on_features_computed_before(model):
    inputs = row([1, 8], (40, 60), [10, 11])
    pixels = dict(zip(("siglip", "clip", "dino", "convnext"), (inputs[key] for key in PIXELS)))
    features = {name: value.detach() for name, value in model.model.get_tower_features(pixels).items()}
    bare = new_model(**{f"{name}_config": None for name in features})
    bare.load_state_dict(model.state_dict(), strict=False)
    assert not any("tower" in name for name in bare.state_dict())
    text = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        images = bare.train().model.embed_vision_features(features, inputs["image_sizes"])
        loss = bare(**text, mm_encoder_outputs={"image": images}, labels=inputs["input_ids"]).loss
        loss.backward()
        assert all(parameter.grad is not None for parameter in bare.model.connector.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    torch.testing.assert_close(losses[0], model(**inputs, labels=inputs["input_ids"]).loss.item(), atol=1e-5, rtol=0)
    assert losses[2] < losses[1] < losses[0]


def test_defect_b13_every_stage_has_a_recipe(root):
    for stage in ("stage1_alignment", "stage2_instruction", "stage3_annealing"):
        assert list((root / "recipes" / stage).glob("*.yaml")), stage
    assert list((root / "recipes" / "accelerate").glob("*.yaml"))
    assert (root / "recipes" / "sft.py").is_file()


def test_defect_b17_attention_backends_agree_also_where_a_row_is_padded(model):
    inputs = row([1, 8], (40, 60), [10, 11])
    padded = {**inputs}
    padded["input_ids"] = nn.functional.pad(inputs["input_ids"], (3, 0))
    padded["attention_mask"] = nn.functional.pad(inputs["attention_mask"], (3, 0))
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert (eager.config._attn_implementation, model.config._attn_implementation) == ("eager", "sdpa")
    assert eager.model.vision_towers.siglip.config._attn_implementation == "eager"
    for given in (inputs, padded):
        new = {"max_new_tokens": 4, **GREEDY}
        torch.testing.assert_close(logits(eager, given)[:, -1], logits(model, given)[:, -1], atol=1e-5, rtol=0)
        assert torch.equal(eager.generate(**given, **new)[:, -4:], model.generate(**given, **new)[:, -4:])


def test_defect_b18_a_missing_newline_is_reported_and_initialised(model, tmp_path):
    model.save_pretrained(tmp_path)
    key = "model.connector.image_newline"
    state = load_file(tmp_path / "model.safetensors")
    del state[key]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    newlines = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loaded, report = PMCCambrianForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
        assert set(report["missing_keys"]) == {key} and not report["unexpected_keys"]
        newlines.append(loaded.model.connector.image_newline.detach())
    # Drawn as in training, N(0, 1/width), and not whatever the memory held: the same from the same seed.
    assert torch.equal(*newlines)
    width = len(newlines[0])
    assert 0.6 * width**-0.5 < newlines[0].std() < 1.4 * width**-0.5
    assert torch.isfinite(logits(loaded.eval(), row([1, 8], (40, 60), [10]))).all()


def test_defect_b20_each_setting_has_one_name_in_one_nested_configuration(tmp_path):
    config = small_towers_config()
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["sva_config"]["aux_sides"] == [4, 4, 4, 8]
    own = {key for key in saved if key not in LlamaConfig().to_dict()}
    nested = [saved[key] for key in saved if key.endswith("_config")]
    names = own | {key for part in nested for key in part}
    assert [name for name in names if "token_len" in name or "aux" in name] == ["aux_sides"]
    assert not own & set(saved["sva_config"]) - {"model_type", "tie_word_embeddings"}
    assert PMCCambrianConfig.from_pretrained(tmp_path).to_dict() == PMCCambrianConfig(**config.to_dict()).to_dict()


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (50, 50), (17, 60), (60, 17), (33, 100), (5, 9)])
def test_defect_p2_samplers_update_the_grid_of_an_image_of_any_shape(size, model):
    top, bottom, left, right = kept_region(*size, 4)
    grid = (bottom - top) * (right - left)
    inputs, rows = row([1, 8], size, [10, 11]), []
    assert int((inputs["input_ids"] == IMAGE_TOKEN).sum()) == grid + bottom - top
    samplers = model.model.language_model.vision_samplers
    handles = [sampler.register_forward_pre_hook(lambda _, given: rows.append(len(given[0]))) for sampler in samplers]
    try:
        answer = model.generate(**inputs, max_new_tokens=3, **GREEDY)
    finally:
        for handle in handles:
            handle.remove()
    assert rows == [grid] * len(samplers)  # in the prefill only, newline tokens left out
    # A larger batch with another shape before it answers the same.
    other = row([1], (30, 90), [9], size, [10, 11], seed=3)
    both = {key: torch.cat([other[key][:1], inputs[key]]) for key in (*PIXELS, "image_sizes")}
    first = row([1, 8, 9], (30, 90), [10])["input_ids"][0]
    length = max(len(first), inputs["input_ids"].shape[1])
    ids = [first, inputs["input_ids"][0]]
    both["input_ids"] = torch.stack([nn.functional.pad(one, (length - len(one), 0)) for one in ids])
    both["attention_mask"] = torch.stack(
        [nn.functional.pad(torch.ones_like(one), (length - len(one), 0)) for one in ids]
    )
    assert torch.equal(model.generate(**both, max_new_tokens=3, **GREEDY)[1, -3:], answer[0, -3:])
