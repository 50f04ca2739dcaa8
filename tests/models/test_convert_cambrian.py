"""Released checkpoints into ours: equal numbers, every key accounted for, nothing half done."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference_cambrian import Reference, released_config, released_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import semihv_hf
from semihv_hf.errors import SemiHVError
from semihv_hf.models.convert_cambrian import convert_checkpoint

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
SIZES = [(640, 480), (480, 640), (500, 500), (1000, 350), (333, 900)]  # below the aspect at which the original crashes


def write_release(folder: Path, config: dict, weights: dict, shards: int = 1) -> Path:
    """A folder as it was released: config.json and safetensors, in shards with an index if there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return folder
    keys, weight_map = list(weights), {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: weights[key] for key in keys[shard::shards]}
        weight_map |= dict.fromkeys(part, name)
        save_file(part, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def load(folder: Path, **options):
    model, info = semihv_hf.PMCCambrianForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, dtype="float32", **options
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def ours(model, features, size, before, after):
    """The same call on the converted model: image tokens and logits."""
    with torch.no_grad():
        vision = model.model.embed_vision_features([feature[None] for feature in features], torch.tensor([size[::-1]]))
        ids = [*before, *[model.config.image_token_id] * len(vision.pooler_output[0]), *after]
        logits = model(input_ids=torch.tensor([ids]), mm_encoder_outputs={"image": vision}).logits[0]
    return vision.pooler_output[0], logits


def features_of(config: dict, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cells = config["mm_vision_tower_aux_token_len_list"]
    return [torch.randn(count, dim, generator=generator) for count, dim in zip(cells, config["tower_dims"])]


@pytest.mark.parametrize(("name", "count"), [("cambrian_tiny", 7), ("cambrian_tiny_connector_only", 4)])
def test_equals_the_original(name, count, tmp_path):
    folder = GOLDEN / name
    if not folder.is_dir():
        pytest.skip(f"the reference numbers {folder} are missing")
    report = convert_checkpoint(folder / "checkpoint", tmp_path / "ours")
    with safe_open(folder / "checkpoint" / "model.safetensors", framework="pt") as file:
        assert report["keys"] == len(file.keys()) and report["ignored"] == []
    model, numbers = load(tmp_path / "ours"), load_file(folder / "cases.safetensors")
    assert report["parameters"]["total"] == sum(parameter.numel() for parameter in model.parameters())
    cases = json.loads((folder / "cases.json").read_text())
    assert len(cases) == count
    for case in cases:
        index, before = case["case"], case["tokens_before_image"]
        features = [numbers[f"{index}.features.{tower}"] for tower in range(4)]
        size = (case["image_width"], case["image_height"])
        tokens, logits = ours(model, features, size, before, case["tokens_after_image"])
        expected = numbers[f"{index}.inputs_embeds"][len(before) : len(before) + case["image_tokens"]]
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(logits, numbers[f"{index}.logits"], atol=5e-5, rtol=0)


GEOMETRIES = {
    "as released": {},
    "another tower order": {
        "towers": ("dino", "convnext", "siglip", "clip"),
        "dims": (20, 24, 12, 16),
        "sides": (4, 8, 4, 4),
    },
    "two towers": {"towers": ("clip", "siglip"), "dims": (16, 12), "sides": (8, 4)},
    "samplers from layer 1 in every layer": {
        "start_of_vision_sampler_layers": 1,
        "stride_of_vision_sampler_layers": 1,
        "num_of_vision_sampler_layers": 3,
    },
    "no samplers": {"connector_only": True},
    "one cross-attention layer": {"connector_depth": 1},
    "another query side": {"image_token_len": 9, "query_num_list": [9], "sides": (3, 3, 6, 9)},
    "a query grid of its own": {"query_num_list": [4], "sides": (4, 8, 4, 8)},
    "two query groups": {"query_num_list": [16, 4], "num_query_group": 2, "sides": (4, 8, 4, 8)},
    "a wider aggregator": {"vision_hidden_size": 64},
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_the_specification_in_every_geometry(geometry, tmp_path):
    config = released_config(**GEOMETRIES[geometry])
    weights = released_weights(config, seed=len(geometry))
    convert_checkpoint(write_release(tmp_path / "theirs", config, weights), tmp_path / "ours")
    model, reference = load(tmp_path / "ours"), Reference(config, weights)
    for index, size in enumerate(SIZES):
        features, before, after = features_of(config, index), [1, 7, 8], [9, 10, 11, 12]
        expected_tokens, expected_logits = reference(features, size, before, after)
        tokens, logits = ours(model, features, size, before, after)
        torch.testing.assert_close(tokens, expected_tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(logits, expected_logits, atol=5e-5, rtol=0)


@pytest.mark.parametrize("image_position", [0, 2, 9, 25, 60])
def test_defect_p1_a_misaligned_image_position_can_be_reproduced(image_position, tmp_path):
    """The image begins at token 5; 20 slots from `image_position` on are updated instead of its own."""
    config = released_config()
    weights = released_weights(config)
    source = write_release(tmp_path / "theirs", config, weights)
    convert_checkpoint(source, tmp_path / "ours", legacy_image_position=image_position)
    convert_checkpoint(source, tmp_path / "aligned")
    model, aligned, reference = load(tmp_path / "ours"), load(tmp_path / "aligned"), Reference(config, weights)
    assert aligned.config.legacy_image_position is None
    for index, size in enumerate(SIZES):
        features, before, after = features_of(config, index), [1, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15]
        _, expected = reference(features, size, before, after, image_position)
        _, logits = ours(model, features, size, before, after)
        torch.testing.assert_close(logits, expected, atol=5e-5, rtol=0)
        difference = (logits - ours(aligned, features, size, before, after)[1]).abs().max()
        assert difference > 1e-3, "what the samplers read makes a difference"


def test_the_right_image_position_is_no_special_case(tmp_path):
    config = released_config()
    source = write_release(tmp_path / "theirs", config, released_weights(config))
    convert_checkpoint(source, tmp_path / "ours", legacy_image_position=5)
    convert_checkpoint(source, tmp_path / "aligned")
    call = (features_of(config, 0), (640, 480), [1, 5, 6, 7, 8], [9, 10])
    model = load(tmp_path / "ours")
    torch.testing.assert_close(ours(model, *call)[1], ours(load(tmp_path / "aligned"), *call)[1], atol=1e-5, rtol=0)


def test_legacy_rows_in_a_padded_batch_equal_single_rows(tmp_path):
    config = released_config()
    source = write_release(tmp_path / "theirs", config, released_weights(config))
    convert_checkpoint(source, tmp_path / "ours", legacy_image_position=2)
    model, token = load(tmp_path / "ours"), 128003
    features = [torch.stack(pair) for pair in zip(features_of(config, 0), features_of(config, 1))]
    with torch.no_grad():
        vision = model.model.embed_vision_features(features, torch.tensor([[480, 640], [900, 333]]))
        rows = [[1, 5, 6, 7] + [token] * len(image) + [9] for image in vision.pooler_output]
        rows.insert(1, [1, 20, 21, 22])  # a text among them
        length = max(map(len, rows))
        batch = torch.tensor([[0] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        output = model(input_ids=batch, attention_mask=mask, mm_encoder_outputs={"image": vision}).logits
        for place, (image, size) in {0: (0, (640, 480)), 2: (1, (333, 900))}.items():
            single = ours(model, features_of(config, image), size, [1, 5, 6, 7], [9])[1]
            torch.testing.assert_close(output[place, -len(single) :], single, atol=2e-5, rtol=0)
        two = torch.tensor([[token] * sum(map(len, vision.pooler_output))])
        with pytest.raises(ValueError, match="one image for a row, got 2 images in 1 rows"):
            model(input_ids=two, mm_encoder_outputs={"image": vision})


def test_shards_in_and_out_change_nothing(tmp_path):
    config = released_config()
    weights = released_weights(config)
    one = write_release(tmp_path / "one", config, weights)
    many = write_release(tmp_path / "many", config, weights, shards=3)
    convert_checkpoint(one, tmp_path / "a")
    report = convert_checkpoint(many, tmp_path / "b", max_shard_size="60KB")
    assert len(report["files"]) > 3
    a, b = load(tmp_path / "a").state_dict(), load(tmp_path / "b").state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    index = json.loads((tmp_path / "b" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(a)


def test_a_connector_on_its_own_joins_its_base_model(tmp_path):
    config = released_config()
    weights = released_weights(config)
    language = {key for key in weights if key.startswith(("model.layers", "model.norm", "model.embed", "lm_head"))}
    source = tmp_path / "connector"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    torch.save({key: value for key, value in weights.items() if key not in language}, source / "mm_projector.bin")
    base = write_release(tmp_path / "llama", {}, {key: weights[key] for key in language}, shards=2)
    with pytest.raises(SemiHVError, match="without its language model"):
        convert_checkpoint(source, tmp_path / "ours")
    convert_checkpoint(source, tmp_path / "ours", base_model=base)
    convert_checkpoint(write_release(tmp_path / "whole", config, weights), tmp_path / "theirs")
    a, b = load(tmp_path / "ours").state_dict(), load(tmp_path / "theirs").state_dict()
    assert all(torch.equal(a[key], b[key]) for key in b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_is_chosen(dtype, tmp_path):
    config = released_config()
    weights = released_weights(config)
    convert_checkpoint(write_release(tmp_path / "theirs", config, weights), tmp_path / "ours", dtype=dtype)
    saved = load_file(tmp_path / "ours" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {getattr(torch, dtype)}
    assert torch.equal(saved["lm_head.weight"], weights["lm_head.weight"].to(getattr(torch, dtype)))
    model = semihv_hf.PMCCambrianForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert model.dtype == getattr(torch, dtype)


def test_a_tokenizer_brings_the_processor_and_the_stops(tokenizer_dirs, tmp_path, run_python):
    config = released_config(vocab_size=400)
    source = write_release(tmp_path / "theirs", config, released_weights(config))
    (source / "generation_config.json").write_text(json.dumps({"do_sample": True, "eos_token_id": [1, 6]}))
    convert_checkpoint(source, tmp_path / "ours", tokenizer=tokenizer_dirs["llama3"])
    model = load(tmp_path / "ours")
    processor = semihv_hf.PMCCambrianProcessor.from_pretrained(tmp_path / "ours")
    assert processor.query_side == 4 and processor.image_token_id == model.config.image_token_id < 400
    generation = model.generation_config
    assert generation.do_sample is False and generation.pad_token_id == processor.tokenizer.pad_token_id
    assert processor.tokenizer.convert_tokens_to_ids("<|eot_id|>") in generation.eos_token_id
    code = """
import sys
sys.modules["semihv_hf"] = None
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(model).__name__, type(processor).__name__)
"""
    assert "PMCCambrianForConditionalGeneration PMCCambrianProcessor" in run_python(code, tmp_path / "ours").stdout


def test_towers_are_attached_and_see_pixels(tmp_path, tokenizer_dirs, picture):
    """Tiny towers of the real classes, each from a checkpoint of its own; the DINOv2 one is brought to 378 pixels."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    places = {}
    for option, kind, settings in (
        ("clip", CLIPVisionModel, CLIPVisionConfig(**small, image_size=32, patch_size=8)),
        ("dinov2", Dinov2Model, Dinov2Config(**small, mlp_ratio=2, image_size=84, patch_size=42)),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            kind(settings).save_pretrained(tmp_path / option)
        places[option] = tmp_path / option
    config = released_config(towers=("dino", "clip"), dims=(16, 16), sides=(4, 4), vocab_size=400)
    source = write_release(tmp_path / "theirs", config, released_weights(config))
    report = convert_checkpoint(source, tmp_path / "ours", tokenizer=tokenizer_dirs["llama3"], **places)
    model = load(tmp_path / "ours")
    assert report["parameters"]["total"] == sum(parameter.numel() for parameter in model.parameters())
    assert report["parameters"]["vision_towers"] > 0 and set(report["towers"]) == {"clip", "dino"}
    assert model.config.dino_config.image_size == 378
    assert model.model.vision_towers.dino.embeddings.position_embeddings.shape == (1, 82, 16)
    processor = semihv_hf.PMCCambrianProcessor.from_pretrained(tmp_path / "ours")
    question = {"type": "text", "text": "What is it?"}
    messages = [{"role": "user", "content": [{"type": "image", "image": picture(64, 48)}, question]}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["pixel_values_dino"].shape[-1] == 378 and inputs["pixel_values_clip"].shape[-1] == 32
    answer = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 4


def test_a_tower_that_is_not_listed_or_has_another_width_is_refused(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    settings = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    CLIPVisionModel(CLIPVisionConfig(**settings, image_size=32, patch_size=8)).save_pretrained(tmp_path / "clip")
    config = released_config(towers=("siglip", "dino"), dims=(12, 16), sides=(4, 4))
    source = write_release(tmp_path / "a", config, released_weights(config))
    with pytest.raises(SemiHVError, match="A clip tower was given, but config.json lists no such tower"):
        convert_checkpoint(source, tmp_path / "ours", clip=tmp_path / "clip")
    config = released_config(towers=("siglip", "clip"), dims=(12, 16), sides=(4, 4))
    source = write_release(tmp_path / "b", config, released_weights(config))
    with pytest.raises(SemiHVError, match="clip tower gives 8 channels, but sva_config.tower_dims says 16"):
        convert_checkpoint(source, tmp_path / "ours", clip=tmp_path / "clip")


def test_old_rope_scaling_is_understood(tmp_path):
    config = released_config(rope_scaling={"type": "linear", "factor": 2.0})
    convert_checkpoint(write_release(tmp_path / "theirs", config, released_weights(config)), tmp_path / "ours")
    rope = load(tmp_path / "ours").config.text_config.rope_parameters
    assert rope["rope_type"] == "linear" and rope["factor"] == 2.0 and rope["rope_theta"] == 500000.0


def test_buffers_of_older_libraries_are_left_out(tmp_path):
    config = released_config()
    weights = released_weights(config) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}
    report = convert_checkpoint(write_release(tmp_path / "theirs", config, weights), tmp_path / "ours")
    assert report["ignored"] == ["model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert report["keys"] == len(weights) - 1


def changed(**changes):
    return lambda config, weights: config.update(changes)


def without(key):
    return lambda config, weights: weights.pop(key)


def with_tensor(key, *shape):
    return lambda config, weights: weights.update({key: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.mm_projector.2.bias"), "lacks 1 of .* tensors: model.connector.projector.fc2.bias"),
        (without("model.vision_sampler_layers.1.layers.0.norm.bias"), r"vision_samplers.1.norm.bias"),
        (with_tensor("model.surplus.weight", 2), "1 tensors that the model does not know: model.surplus.weight"),
        (with_tensor("model.image_newline", 7), r"image_newline has shape \(7,\).*asks for \(48,\)"),
        (with_tensor("model.vision_tower_aux_list.1.x.weight", 2), "holds weights of a vision tower"),
        (without("model.mm_projector_aux_2.0.weight"), "no model.mm_projector_aux_2.0.weight.*dino tower"),
        (changed(model_type="llava"), "model_type 'llava'"),
        (changed(mm_projector_type="mlp2x_gelu"), "mm_projector_type 'mlp2x_gelu'"),
        (changed(image_token_len=15), "image_token_len is 15.*no square"),
        (changed(mm_vision_tower_aux_list=["siglip", "openai/clip", "dinov2", "resnet50"]), "'resnet50'"),
        (changed(mm_vision_tower_aux_list=["siglip", "openai/clip"]), "2 vision towers, but 4 token lengths"),
        (changed(mm_vision_tower_aux_list=["siglip", "clip-a", "clip-b", "dino"]), "repeats a tower"),
        (changed(vision_tower_aux_token_len_list=[1, 1, 1, 1]), "contradicts itself"),
        (changed(mm_vision_tower_aux_token_len_list=[16, 16, 16, 36]), "no multiple of the query side 4"),
        (changed(tower_dims=[1, 2, 3, 4]), r"tower_dims \[1, 2, 3, 4\].*\[12, 16, 20, 24\]"),
        (changed(num_query_group=2), "num_query_group 2, but 1"),
        (changed(num_of_vision_sampler_layers=9), "last sampler would run after decoder layer 16"),
        (changed(connector_depth=None), "no connector_depth"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_left(change, message, tmp_path):
    config = released_config()
    weights = released_weights(config)
    change(config, weights)
    source = write_release(tmp_path / "theirs", config, weights)
    with pytest.raises(SemiHVError, match=message):
        convert_checkpoint(source, tmp_path / "ours")
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs"]


def test_a_pickle_with_code_in_it_is_not_run(tmp_path):
    config = released_config()
    source = tmp_path / "theirs"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    witness = tmp_path / "was-run"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(witness),))

    torch.save({"model.image_newline": Trap()}, source / "pytorch_model.bin")
    with pytest.raises(SemiHVError, match="pytorch_model.bin is a pickle that holds more than tensors"):
        convert_checkpoint(source, tmp_path / "ours")
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Trap()}))
    with pytest.raises(SemiHVError, match="pytorch_model.bin"):
        convert_checkpoint(source, tmp_path / "ours")
    assert not witness.exists() and not (tmp_path / "ours").exists()


def test_damaged_and_missing_files_are_named(tmp_path):
    config = released_config()
    source = write_release(tmp_path / "theirs", config, released_weights(config), shards=2)
    shard = source / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SemiHVError, match="model-00002-of-00002.safetensors cannot be read"):
        convert_checkpoint(source, tmp_path / "ours")
    shard.unlink()
    with pytest.raises(SemiHVError, match="names 2 files, of which 1 are missing: model-00002-of-00002"):
        convert_checkpoint(source, tmp_path / "ours")
    with pytest.raises(SemiHVError, match="has no config.json"):
        convert_checkpoint(tmp_path, tmp_path / "ours")


def test_a_folder_that_is_not_empty_is_kept(tmp_path):
    config = released_config()
    source = write_release(tmp_path / "theirs", config, released_weights(config))
    target = tmp_path / "ours"
    target.mkdir()
    convert_checkpoint(source, target)
    (target / "mine.txt").write_text("mine")
    with pytest.raises(SemiHVError, match="not empty"):
        convert_checkpoint(source, target)
    assert (target / "mine.txt").exists()
    convert_checkpoint(source, target, overwrite=True)
    assert not (target / "mine.txt").exists() and load(target)


MEASURE = """
import resource, sys
from semihv_hf.models.convert_cambrian import convert_checkpoint
import semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian, safetensors.torch
convert_checkpoint(sys.argv[1], sys.argv[2], max_shard_size="2MB")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert_checkpoint(sys.argv[3], sys.argv[4], max_shard_size="10MB")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_shard_not_by_the_checkpoint(tmp_path):
    small = released_config()
    large = released_config(vocab_size=50_000, hidden_size=64, num_hidden_layers=60, intermediate_size=4096)
    for name, config in (("small", small), ("large", large)):
        write_release(tmp_path / name, config, released_weights(config), shards=1 if name == "small" else 8)
    total = sum(path.stat().st_size for path in (tmp_path / "large").glob("*.safetensors")) / 2**20
    assert total > 200
    arguments = [tmp_path / "small", tmp_path / "a", tmp_path / "large", tmp_path / "b"]
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(semihv_hf.__file__).parents[1])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert float(done.stdout) < total / 2, f"{done.stdout} MiB more for a checkpoint of {total:.0f} MiB"


def test_the_command_line_converts(tmp_path, semihv):
    config = released_config()
    source = write_release(tmp_path / "theirs", config, released_weights(config))
    done = semihv("convert", source, tmp_path / "ours", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert "parameters from" in done.stdout and (tmp_path / "ours" / "conversion.json").is_file()
    done = semihv("convert", source, tmp_path / "ours")
    assert done.returncode == 1 and done.stderr.strip().startswith("error:") and "not empty" in done.stderr
