"""Vision towers out of their own checkpoints give the features of the libraries that the checkpoints come from."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_cambrian import small_towers_config
from tower_checkpoints import (
    CONVNEXT_XXLARGE,
    SIGLIP_SO400M,
    VIT,
    read_tower,
    register_tiny_siglip,
    save_clip,
    save_dino,
    save_open_clip,
    save_siglip,
    save_timm,
    timm_module,
)

from semihv_hf.errors import SemiHVError
from semihv_hf.models.convert_towers import bake_positions
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration
from semihv_hf.models.tower_keys import TimmSettings, convnext_settings, siglip_settings


def random_pixels(size, channels=3):
    return torch.randn((2, channels, size, size), generator=torch.Generator().manual_seed(7))


def bilinear(tokens, side):
    """Tokens `(images, n, channels)` on a grid of `side`, as the specification words it."""
    images, count, channels = tokens.shape
    grid = int(count**0.5)
    maps = tokens.transpose(1, 2).reshape(images, channels, grid, grid)
    maps = torch.nn.functional.interpolate(maps.float(), size=(side, side), mode="bilinear", align_corners=False)
    return maps.flatten(2).transpose(1, 2)


def attached(tower, side, folder):
    """A saved model whose tower weights were replaced on disk by the converted ones, loaded again."""
    others = {f"{name}_config": None for name in ("siglip", "clip", "dino", "convnext") if name != tower.name}
    sizes = tower.config.hidden_sizes if tower.name == "convnext" else [tower.config.hidden_size]
    sva = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_layers": 1,
        "query_side": side,
        "tower_names": [tower.name],
        "tower_dims": [sum(sizes)],
        "aux_sides": [side],
        "num_samplers": 0,
    }
    config = small_towers_config(**others, **{f"{tower.name}_config": tower.config, "sva_config": sva})
    PMCCambrianForConditionalGeneration(config).save_pretrained(folder)
    file, prefix = folder / "model.safetensors", f"model.vision_towers.{tower.name}."
    weights = load_file(file)
    assert {key for key in weights if key.startswith("model.vision_towers.")} == {
        prefix + key for key in tower.tensors
    }
    save_file(weights | {prefix + key: value for key, value in tower.tensors.items()}, file, metadata={"format": "pt"})
    model, report = PMCCambrianForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def features(tower, pixels, side, folder):
    with torch.no_grad():
        return attached(tower, side, folder).model.vision_towers(tower.name, pixels, side)


def assert_equal_features(tower, expected, pixels, side, folder):
    found = features(tower, pixels, side, folder)
    assert found.shape == expected.shape
    assert expected.abs().mean() > 0.1  # else the tolerance would mean little
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# Hugging Face folders


@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize("whole", [True, False])
def test_siglip_equals_transformers_with_the_exact_gelu(whole, side, tmp_path):
    pixels = random_pixels(52)
    reference = save_siglip(tmp_path / "siglip", whole)
    with torch.no_grad():
        expected = bilinear(reference(pixels).last_hidden_state, side)
    tower = read_tower("siglip", tmp_path / "siglip")
    assert (tower.config.hidden_act, tower.config.vision_use_head) == ("gelu", False)
    assert tower.source == str(tmp_path / "siglip")
    assert_equal_features(tower, expected, pixels, side, tmp_path / "model")


@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize("whole", [True, False])
def test_clip_equals_the_last_but_one_hidden_state_of_transformers(whole, side, tmp_path):
    pixels = random_pixels(48)
    reference = save_clip(tmp_path / "clip", whole)
    with torch.no_grad():
        expected = bilinear(reference(pixels, output_hidden_states=True).hidden_states[-2][:, 1:], side)
    tower = read_tower("clip", tmp_path / "clip")
    assert tower.config.hidden_act == "quick_gelu"
    assert_equal_features(tower, expected, pixels, side, tmp_path / "model")


def test_an_old_clip_pickle_with_position_ids_and_library_settings_is_read(tmp_path):
    """openai/clip-vit-large-patch14-336 is such a folder."""
    folder, pixels = tmp_path / "clip", random_pixels(48)
    reference = save_clip(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    buffers = {"vision_model.embeddings.position_ids": torch.arange(37)[None]}
    torch.save({**state, **buffers}, folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config_dict"] = {**VIT, "image_size": 48}
    config["vision_config"] |= {"torch_dtype": None, "temperature": 0.7, "num_beams": 4, "id2label": {"0": "A"}}
    (folder / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        expected = reference(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    tower = read_tower("clip", folder)
    assert not hasattr(tower.config, "temperature") and not hasattr(tower.config, "num_beams")
    assert_equal_features(tower, expected, pixels, 6, tmp_path / "model")


@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize(
    "changes", [{}, {"use_swiglu_ffn": True}, {"classifier": True, "use_mask_token": False}], ids=str
)
def test_dinov2_equals_transformers_at_its_own_size(changes, side, tmp_path):
    pixels = random_pixels(42)
    reference = save_dino(tmp_path / "dino", **changes)
    with torch.no_grad():
        expected = bilinear(reference(pixels).last_hidden_state[:, 1:], side)
    tower = read_tower("dino", tmp_path / "dino", image_size=42)
    stored = load_file(tmp_path / "dino" / "model.safetensors")
    prefix = "dinov2." if "classifier" in changes else ""
    key = "embeddings.position_embeddings"
    assert torch.equal(tower.tensors[key], stored[prefix + key])
    assert_equal_features(tower, expected, pixels, side, tmp_path / "model")


def position_embedding_of_4_37(embedding, height, width, patch):
    """What transformers 4.37 computed at run time, by its words: bicubic by scale factor, 0.1 added to each size."""
    dim = embedding.shape[-1]
    trained = (embedding.shape[1] - 1) ** 0.5
    class_row, patch_rows = embedding[:, 0], embedding[:, 1:]
    height, width = height // patch + 0.1, width // patch + 0.1
    patch_rows = patch_rows.reshape(1, int(trained), int(trained), dim).permute(0, 3, 1, 2)
    patch_rows = torch.nn.functional.interpolate(
        patch_rows, scale_factor=(height / trained, width / trained), mode="bicubic", align_corners=False
    )
    assert (int(height), int(width)) == tuple(patch_rows.shape[-2:])
    patch_rows = patch_rows.permute(0, 2, 3, 1).view(1, -1, dim)
    return torch.cat((class_row.unsqueeze(0), patch_rows), dim=1)


@pytest.mark.parametrize("trained, patch, size", [(518, 14, 378), (56, 7, 42), (28, 7, 49)])
def test_dinov2_positions_are_those_of_the_library_that_trained_with_them(trained, patch, size):
    side, grid = trained // patch, size // patch
    embedding = torch.randn((1, side**2 + 1, 24), generator=torch.Generator().manual_seed(3))
    baked = bake_positions(embedding, grid)
    assert baked.shape == (1, grid**2 + 1, 24)
    assert torch.equal(baked[:, 0], embedding[:, 0])
    expected = position_embedding_of_4_37(embedding, size, size, patch)
    torch.testing.assert_close(baked, expected, atol=1e-5, rtol=0)
    half = bake_positions(embedding.bfloat16(), grid)
    assert half.dtype == torch.bfloat16
    expected = position_embedding_of_4_37(embedding.bfloat16().float(), size, size, patch).bfloat16()
    torch.testing.assert_close(half, expected, atol=0.0, rtol=0.01)


def test_dinov2_is_baked_to_378_pixels_by_default(tmp_path):
    save_dino(tmp_path / "dino", image_size=518, patch_size=14, num_hidden_layers=1)
    tower = read_tower("dino", tmp_path / "dino")
    assert tower.config.image_size == 378
    assert tower.tensors["embeddings.position_embeddings"].shape == (1, 27 * 27 + 1, 32)


def test_a_baked_dinov2_interpolates_nothing_at_run_time(tmp_path, monkeypatch):
    pixels = random_pixels(42)
    reference = save_dino(tmp_path / "dino", image_size=56)
    with torch.no_grad():
        embedding = reference.embeddings.position_embeddings
        baked = position_embedding_of_4_37(embedding, 42, 42, 7)
        own = reference(pixels).last_hidden_state[:, 1:]  # interpolated to a size, by the installed library
        reference.embeddings.position_embeddings = torch.nn.Parameter(baked)
        expected = reference(pixels).last_hidden_state[:, 1:]
    assert (own - expected).abs().max() > 1e-3  # the two forms do differ
    tower = read_tower("dino", tmp_path / "dino", image_size=42)
    assert tower.config.image_size == 42
    model = attached(tower, 6, tmp_path / "model")
    calls, interpolate = [], torch.nn.functional.interpolate
    monkeypatch.setattr(
        torch.nn.functional, "interpolate", lambda *args, **kw: calls.append(args[0].shape) or interpolate(*args, **kw)
    )
    with torch.no_grad():
        found = model.model.vision_towers("dino", pixels, 6)
        assert calls == []
        model.model.vision_towers("dino", pixels, 4)
    assert calls == [(2, 32, 6, 6)]  # the features' own way to the grid, which shows that calls are seen
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# timm and open_clip


@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize(
    "name, act", [("vit_so400m_patch14_siglip_384", "gelu"), ("vit_so400m_patch16_siglip_384", "gelu_pytorch_tanh")]
)
def test_siglip_equals_timm(name, act, side, tmp_path):
    pixels = random_pixels(52)
    reference = save_timm(tmp_path / "timm", name, **SIGLIP_SO400M)
    with torch.no_grad():
        expected = bilinear(reference.forward_features(pixels), side)
    tower = read_tower("siglip", tmp_path / "timm")
    config = tower.config
    assert (config.num_attention_heads, config.image_size, config.patch_size, config.num_hidden_layers) == (
        16,
        52,
        8,
        3,
    )
    assert (config.hidden_size, config.intermediate_size, config.hidden_act) == (32, int(32 * 3.7362), act)
    assert_equal_features(tower, expected, pixels, side, tmp_path / "model")


def convnext_features(trunk, pixels, side):
    maps = trunk.forward_intermediates(pixels, intermediates_only=True)
    assert len(maps) == 4
    return torch.cat([bilinear(map_.flatten(2).transpose(1, 2), side) for map_ in maps], dim=-1)


@pytest.mark.parametrize("side", [4, 16])
@pytest.mark.parametrize(
    "name, eps, changes",
    [("convnext_xxlarge", 1e-5, {}), ("convnext_base", 1e-6, {}), ("convnext_base", 1e-3, {"norm_eps": 1e-3})],
)
def test_convnext_equals_the_stages_of_timm(name, eps, changes, side, tmp_path):
    pixels = random_pixels(64)
    reference = save_timm(tmp_path / "timm", name, **CONVNEXT_XXLARGE, **changes)
    with torch.no_grad():
        expected = convnext_features(reference, pixels, side)
    tower = read_tower("convnext", tmp_path / "timm")
    assert (tower.config.layer_norm_eps, tower.config.image_size) == (eps, 1024)
    assert list(tower.config.hidden_sizes) == [8, 12, 16, 20] and list(tower.config.depths) == [1, 1, 2, 1]
    assert_equal_features(tower, expected, pixels, side, tmp_path / "model")


def test_stochastic_depth_of_a_convnext_is_left_behind(tmp_path):
    """B1: the original runs this tower with DropPath active."""
    pixels = random_pixels(64)
    reference = save_timm(tmp_path / "timm", "convnext_xxlarge", **CONVNEXT_XXLARGE, drop_path_rate=0.1)
    with torch.no_grad():
        expected = convnext_features(reference, pixels, 4)
    model = attached(read_tower("convnext", tmp_path / "timm"), 4, tmp_path / "model").train()
    with torch.no_grad():
        first, second = (model.model.vision_towers("convnext", pixels, 4) for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def tiny_siglip():
    """Name of a small SigLIP among timm's models."""
    return register_tiny_siglip()


@pytest.mark.parametrize("safe", [True, False])
def test_siglip_equals_open_clip(safe, tiny_siglip, tmp_path):
    pixels = random_pixels(52)
    trunk = save_open_clip(tmp_path / "open_clip", tiny_siglip, 52, safe=safe)
    with torch.no_grad():
        expected = bilinear(trunk.forward_features(pixels), 4)
    tower = read_tower("siglip", tmp_path / "open_clip")
    assert (tower.config.num_attention_heads, tower.config.image_size) == (3, 52)
    assert_equal_features(tower, expected, pixels, 4, tmp_path / "model")


@pytest.mark.parametrize("custom_text", [True, False])
def test_convnext_equals_open_clip(custom_text, tmp_path):
    """convnext_atto stores its pointwise layers as 1x1 convolutions, the large ones do not."""
    pixels = random_pixels(64)
    trunk = save_open_clip(tmp_path / "open_clip", "convnext_atto", 64, custom_text)
    with torch.no_grad():
        expected = convnext_features(trunk, pixels, 8)
    tower = read_tower("convnext", tmp_path / "open_clip", image_size=64)
    assert (tower.config.layer_norm_eps, tower.config.image_size) == (1e-6, 64)
    assert_equal_features(tower, expected, pixels, 8, tmp_path / "model")


def test_every_siglip_of_timm_gets_its_heads_activation_and_size():
    timm = timm_module()
    names = [
        name
        for name in timm.list_models("vit_*_siglip_*")
        if timm.model_entrypoint(name).__module__ == "timm.models.vision_transformer"
    ]
    assert len(names) >= 34
    acts = {"GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh"}
    for name in names:
        model = timm.create_model(name, depth=1, embed_dim=48, num_classes=0)
        found = siglip_settings(TimmSettings(name), {key: tuple(v.shape) for key, v in model.state_dict().items()})
        block = model.blocks[0]
        assert found["num_attention_heads"] == block.attn.num_heads, name
        assert found["hidden_act"] == acts[type(block.mlp.act).__name__], name
        assert found["layer_norm_eps"] == model.norm.eps == block.norm1.eps, name
        assert (found["image_size"],) * 2 == model.patch_embed.img_size, name


def test_every_plain_convnext_of_timm_gets_its_epsilon_and_the_others_are_refused():
    timm = timm_module()
    plain, refused = [], []
    for name in timm.list_models("*convnext*"):
        if timm.model_entrypoint(name).__module__ != "timm.models.convnext":
            continue
        model = timm.create_model(name, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=0)
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        block, stem = model.stages[0].blocks[0], model.stem
        layer_norms = isinstance(block.norm, torch.nn.LayerNorm) and len(stem) == 2
        plain_block = block.gamma is not None and not hasattr(block.mlp, "grn")
        if layer_norms and plain_block and type(block.mlp.act).__name__ == "GELU":
            found = convnext_settings(TimmSettings(name), shapes)
            assert found["layer_norm_eps"] == block.norm.eps == stem[1].eps, name
            plain.append(name)
            continue
        with pytest.raises(SemiHVError, match=name):
            convnext_settings(TimmSettings(name), shapes)
        refused.append(name)
    assert len(plain) >= 12 and "convnext_xxlarge" in plain
    assert len(refused) >= 14 and "convnextv2_base" in refused
