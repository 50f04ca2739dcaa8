"""Where a tower's checkpoint may lie, and what is refused: wrong tensors, wrong settings, pickles with code."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tower_checkpoints import (
    CONVNEXT_XXLARGE,
    SIGLIP_SO400M,
    read_tower,
    register_tiny_siglip,
    save_clip,
    save_dino,
    save_open_clip,
    save_siglip,
    save_timm,
)

from semihv_hf.errors import SemiHVError


@pytest.fixture(scope="module")
def tiny_siglip():
    """Name of a small SigLIP among timm's models."""
    return register_tiny_siglip()


# Where a checkpoint lies


def test_a_file_is_read_with_the_configuration_beside_it(tiny_siglip, tmp_path):
    """One folder with a network of each layout: the folder gives Hugging Face's, a file its own."""
    folder = tmp_path / "both"
    save_open_clip(folder, tiny_siglip, 52)
    save_siglip(folder, whole=False)
    assert read_tower("siglip", folder).config.hidden_size == 32
    assert read_tower("siglip", folder / "model.safetensors").config.hidden_size == 32
    assert read_tower("siglip", folder / "open_clip_model.safetensors").config.hidden_size == 24
    (folder / "model.safetensors").unlink()
    assert read_tower("siglip", folder).config.hidden_size == 24


def test_shards_are_read_and_safetensors_preferred_to_pickles(tmp_path):
    folder = tmp_path / "clip"
    model = save_clip(folder, whole=False)
    whole = read_tower("clip", folder).tensors
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    torch.save({"no": torch.zeros(1)}, folder / "pytorch_model.bin")
    tower = read_tower("clip", str(folder))
    assert tower.tensors.keys() == whole.keys()
    assert all(torch.equal(tower.tensors[key], value) for key, value in whole.items())


def test_a_hub_id_is_taken_from_the_cache_when_offline(tmp_path):
    """The tests run offline: what is in the Hub's cache is found, with the commit as part of the source."""
    from huggingface_hub.constants import HF_HUB_CACHE

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = f"{HF_HUB_CACHE}/models--semihv-tests--tiny-clip"
    save_clip(tmp_path / "clip")
    shutil.copytree(tmp_path / "clip", f"{repository}/snapshots/{commit}")
    (tmp_path / "ref").write_text(commit)
    (tmp_path / "refs").mkdir()
    shutil.copytree(tmp_path / "refs", f"{repository}/refs")
    shutil.copy(tmp_path / "ref", f"{repository}/refs/main")
    try:
        tower = read_tower("clip", "semihv-tests/tiny-clip")
    finally:
        shutil.rmtree(repository)
    assert tower.source == f"semihv-tests/tiny-clip@{commit}"
    assert tower.tensors.keys() == read_tower("clip", tmp_path / "clip").tensors.keys()


@pytest.mark.parametrize("source", ["nobody/no-such-tower", "not a hub id!", "./no/such/folder"])
def test_a_source_that_is_nowhere_is_one_line(source):
    with pytest.raises(SemiHVError) as failure:
        read_tower("clip", source)
    assert source in str(failure.value) and "\n" not in str(failure.value)


def test_shapes_and_configuration_are_those_of_the_image_size(tmp_path):
    save_dino(tmp_path / "dino", image_size=56)
    tower = read_tower("dino", tmp_path / "dino", image_size=42)
    assert tower.shapes == {key: tuple(value.shape) for key, value in tower.tensors.items()}
    grid = 42 // tower.config.patch_size
    assert tower.config.image_size == 42 and tower.shapes["embeddings.position_embeddings"][1] == grid**2 + 1


def test_the_callers_random_state_is_left_alone(tmp_path):
    save_clip(tmp_path / "clip")
    state = torch.get_rng_state()
    read_tower("clip", tmp_path / "clip")
    assert torch.equal(torch.get_rng_state(), state)


# Bad input


def refused(message, name, source, **options):
    with pytest.raises(SemiHVError, match=message) as failure:
        read_tower(name, source, **options)
    assert "\n" not in str(failure.value)


def change_weights(folder, change, file="model.safetensors"):
    state = load_file(folder / file)
    change(state)
    save_file(state, folder / file, metadata={"format": "pt"})


def change_config(folder, file="config.json", **changes):
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **changes}))


@pytest.fixture()
def clip(tmp_path):
    save_clip(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture()
def timm_siglip(tmp_path):
    save_timm(tmp_path / "siglip", "vit_so400m_patch14_siglip_384", **SIGLIP_SO400M)
    return tmp_path / "siglip"


@pytest.fixture()
def timm_convnext(tmp_path):
    save_timm(tmp_path / "convnext", "convnext_xxlarge", **CONVNEXT_XXLARGE)
    return tmp_path / "convnext"


def test_an_unknown_tower_is_refused_by_name(clip):
    refused("'sam'.*siglip, clip, dino, convnext", "sam", clip)


@pytest.mark.parametrize("name", ["siglip", "dino", "convnext"])
def test_a_checkpoint_of_another_model_is_refused(name, clip):
    refused(f"no checkpoint of a {name} tower.*model_type 'clip'", name, clip)


def test_a_folder_or_file_without_configuration_is_refused(clip):
    (clip / "config.json").unlink()
    refused("no checkpoint of a clip tower.*no config.json", "clip", clip)
    refused("no checkpoint of a clip tower.*no config.json", "clip", clip / "model.safetensors")
    refused("no config.json and no open_clip_config.json", "convnext", clip)


def test_a_folder_without_weights_is_refused(clip):
    (clip / "model.safetensors").unlink()
    refused("no model.safetensors and no pytorch_model.bin", "clip", clip)


@pytest.mark.parametrize("text", ['{"model_type": "cl', "[]"])
def test_a_torn_configuration_is_refused(text, clip):
    (clip / "config.json").write_text(text)
    refused("config.json is not", "clip", clip)


def test_a_configuration_that_no_tower_fits_is_refused(clip):
    vision = json.loads((clip / "config.json").read_text())["vision_config"]
    change_config(clip, vision_config={**vision, "num_attention_heads": 5})
    refused("32.*5|5.*32", "clip", clip)
    change_config(clip, vision_config={**vision, "hidden_size": "wide"})
    refused("hidden_size", "clip", clip)
    change_config(clip, vision_config=None)
    refused("no vision_config", "clip", clip)


def test_a_missing_tensor_is_named(clip, timm_siglip, timm_convnext):
    change_weights(clip, lambda state: state.pop("vision_model.encoder.layers.1.mlp.fc1.bias"))
    refused(r"lacks 1 of the \d+ tensors.*encoder\.layers\.1\.mlp\.fc1\.bias", "clip", clip)
    change_weights(timm_siglip, lambda state: state.pop("blocks.1.attn.qkv.bias"))
    refused(r"lacks 3 of the \d+ tensors.*encoder\.layers\.1\.self_attn\.", "siglip", timm_siglip)
    change_weights(timm_siglip, lambda state: state.pop("pos_embed"))
    refused("lacks the tensor pos_embed", "siglip", timm_siglip)
    change_weights(timm_convnext, lambda state: state.pop("stages.2.blocks.0.conv_dw.weight"))
    refused(r"lacks the tensor stages\.2\.blocks\.0\.conv_dw\.weight", "convnext", timm_convnext)


@pytest.mark.parametrize(
    "key", ["vision_model.encoder.layers.0.lora_A.weight", "vision_model.encoder.layers.3.mlp.fc1.bias", "head.weight"]
)
def test_a_tensor_without_a_place_is_named(key, clip):
    change_weights(clip, lambda state: state.update({key: torch.zeros(1)}))
    refused(key.replace(".", r"\."), "clip", clip)


@pytest.mark.parametrize("key", ["cls_token", "blocks.0.ls1.gamma", "norm_pre.weight"])
def test_a_tensor_of_another_vision_transformer_is_named(key, timm_siglip):
    change_weights(timm_siglip, lambda state: state.update({key: torch.zeros(32)}))
    refused(key, "siglip", timm_siglip)


def test_two_tensors_for_one_place_are_named(clip):
    key = "post_layernorm.weight"
    change_weights(clip, lambda state: state.update({key: torch.zeros(32)}))
    refused(f"{key}.*both", "clip", clip)


def test_a_misshapen_tensor_is_named_with_both_shapes(clip, timm_siglip):
    key = "vision_model.embeddings.position_embedding.weight"
    change_weights(clip, lambda state: state.update({key: torch.zeros(17, 32)}))
    refused(rf"{key} has shape \(17, 32\), the clip tower needs \(37, 32\)", "clip", clip)
    key = "blocks.0.attn.qkv.weight"
    change_weights(timm_siglip, lambda state: state.update({key: torch.zeros(64, 32)}))
    refused(rf"{key} has shape \(64, 32\), the siglip tower needs \(96, 32\)", "siglip", timm_siglip)


class RunsCode:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.parametrize("layout", ["hf", "open_clip"])
def test_a_pickle_with_code_is_refused_and_the_code_not_run(layout, tiny_siglip, tmp_path):
    folder, trace = tmp_path / "checkpoint", tmp_path / "trace"
    if layout == "hf":
        save_siglip(folder, whole=False)
        (folder / "model.safetensors").unlink()
        file = folder / "pytorch_model.bin"
    else:
        save_open_clip(folder, tiny_siglip, 52, safe=False)
        file = folder / "open_clip_pytorch_model.bin"
    torch.save({"weight": RunsCode(str(trace))}, file)
    refused(f"{file.name} is a pickle that holds more than tensors", "siglip", folder)
    refused(f"{file.name} is a pickle that holds more than tensors", "siglip", file)
    assert not trace.exists()


def test_a_pickle_of_an_older_torch_is_read_under_the_same_rule(clip, tmp_path):
    file = clip / "pytorch_model.bin"
    whole = read_tower("clip", clip).tensors
    torch.save(load_file(clip / "model.safetensors"), file, _use_new_zipfile_serialization=False)
    (clip / "model.safetensors").unlink()
    tensors = read_tower("clip", clip).tensors
    assert all(torch.equal(tensors[key], value) for key, value in whole.items())
    torch.save({"weight": RunsCode(str(tmp_path / "trace"))}, file, _use_new_zipfile_serialization=False)
    refused("pytorch_model.bin is a pickle that holds more than tensors", "clip", clip)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "content, message", [([torch.zeros(1)], "holds a list"), ({"epoch": 3}, "'epoch' is no tensor")]
)
def test_a_pickle_that_is_no_state_dict_is_refused(content, message, clip):
    (clip / "model.safetensors").unlink()
    torch.save(content, clip / "pytorch_model.bin")
    refused(message, "clip", clip)


def test_a_damaged_file_of_weights_is_named(clip):
    file = clip / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(r"model\.safetensors cannot be read", "clip", clip)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_tower_with_a_fixed_size_refuses_another(name, tmp_path):
    (save_clip if name == "clip" else save_siglip)(tmp_path / name, True)
    refused("were asked for", name, tmp_path / name, image_size=224)
    assert read_tower(name, tmp_path / name, image_size=48 if name == "clip" else 52).name == name


def test_a_dinov2_size_that_cuts_patches_is_refused(tmp_path):
    save_dino(tmp_path / "dino")
    refused("image size 380 is no multiple of the patch size 7", "dino", tmp_path / "dino", image_size=380)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "resnet50"}, "'resnet50', which is no SigLIP"),
        ({"architecture": "vit_enormous_patch8_siglip_52"}, "heads of 'vit_enormous_patch8_siglip_52' is not known"),
        ({"model_args": {"norm_layer": "rmsnorm"}}, "norm_layer 'rmsnorm' in model_args"),
        ({"model_args": {"act_layer": "silu"}}, "act_layer 'silu'"),
        ({"model_args": {"depth": 4}}, "states depth 4, but the tensors show 3"),
        ({"model_args": {"img_size": 60}}, "states 60 pixels.*36 positions"),
        ({"model_args": {"img_size": [52, 60]}}, r"\[52, 60\]; the towers take square"),
    ],
    ids=str,
)
def test_a_timm_siglip_that_would_compute_something_else_is_refused(changes, message, timm_siglip):
    change_config(timm_siglip, **changes)
    refused(message, "siglip", timm_siglip)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "convnextv2_base"}, "'convnextv2_base', which is no plain ConvNeXt"),
        ({"model_args": {"act_layer": "gelu_tanh"}}, "act_layer 'gelu_tanh'.*'gelu' alone"),
        ({"model_args": {"output_stride": 16}}, "output_stride 16.*32 alone"),
        (
            {"model_args": {"depths": [1, 1, 3, 1]}},
            r"states depths \[1, 1, 3, 1\], but the tensors show \[1, 1, 2, 1\]",
        ),
    ],
    ids=str,
)
def test_a_timm_convnext_that_would_compute_something_else_is_refused(changes, message, timm_convnext):
    change_config(timm_convnext, **changes)
    refused(message, "convnext", timm_convnext)


def test_an_open_clip_model_with_a_vision_tower_of_its_own_is_refused(tmp_path):
    vision = {"image_size": 64, "layers": 1, "width": 32, "patch_size": 8}
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file({"visual.conv1.weight": torch.zeros(32, 3, 8, 8)}, tmp_path / "open_clip_model.safetensors")
    refused("not one of timm's", "convnext", tmp_path)
