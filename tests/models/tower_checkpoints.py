"""Small random vision towers on disk, saved by the libraries that the released ones come from."""

import json

import pytest
import torch
from safetensors.torch import save_file

VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40, "patch_size": 8}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
# As with 384 pixels and patches of 14: a strip of pixels is left over.
SIGLIP_SO400M = {"embed_dim": 32, "depth": 3, "patch_size": 8, "img_size": 52}
CONVNEXT_XXLARGE = {"depths": (1, 1, 2, 1), "dims": (8, 12, 16, 20)}


def read_tower(name, source, **options):
    """A tower's checkpoint with all of its tensors read."""
    from semihv_hf.models.convert_towers import TowerCheckpoint

    tower = TowerCheckpoint(name, source, **options)
    tower.tensors = {key: tower.get(key) for key in tower.shapes}
    return tower


def timm_module():
    return pytest.importorskip("timm", reason="timm is not installed: pip install 'semihv-hf[dev]'")


def open_clip_module():
    return pytest.importorskip("open_clip", reason="open_clip_torch is not installed: pip install 'semihv-hf[dev]'")


def randomise(model, seed=0, std=0.2):
    """No parameter keeps a value that hides a wrong mapping: norms, biases and layer scales are random, too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * std
            parameter.copy_(noise + 1 if parameter.dim() == 1 and parameter.min() == 1 else noise)
    return model.eval()


def save_siglip(folder, whole, **changes):
    """A SigLIP folder with the tanh GELU in its configuration, as the released ones; returns its vision model."""
    from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel

    vision = {**VIT, "image_size": 52, "hidden_act": "gelu", **changes}
    if whole:
        model = SiglipModel(SiglipConfig(vision_config=vision, text_config={**TEXT, "vocab_size": 50}))
    else:
        model = SiglipVisionModel(SiglipVisionConfig(**vision))
    randomise(model).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (config["vision_config"] if whole else config)["hidden_act"] = "gelu_pytorch_tanh"
    (folder / "config.json").write_text(json.dumps(config))
    return model.vision_model if whole else model


def save_clip(folder, whole=True, image_size=48):
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

    vision = {**VIT, "image_size": image_size}
    text = {**TEXT, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    if whole:
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))
    else:
        model = CLIPVisionModel(CLIPVisionConfig(**vision))
    randomise(model).save_pretrained(folder)
    return model.vision_model if whole else model


def save_dino(folder, image_size=42, classifier=False, **changes):
    from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model

    settings = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 2, "patch_size": 7}
    config = Dinov2Config(**{**settings, "image_size": image_size, **changes})
    model = randomise((Dinov2ForImageClassification if classifier else Dinov2Model)(config))
    model.save_pretrained(folder)
    return model.dinov2 if classifier else model


def save_timm(folder, name, safe=True, **changes):
    timm = timm_module()
    model = randomise(timm.create_model(name, num_classes=0, **changes))
    timm.models.save_for_hf(model, folder, safe_serialization=safe)
    return model


def save_open_clip(folder, name, image_size, custom_text=True, safe=True):
    """A whole open_clip model on disk, as open_clip stores it; returns its vision trunk."""
    open_clip = open_clip_module()
    from open_clip.push_to_hf_hub import save_config_for_hf

    vision = {"timm_model_name": name, "timm_pool": "map" if "siglip" in name else "", "image_size": image_size}
    vision["timm_proj"] = "none" if "siglip" in name else "linear"
    config = {
        "embed_dim": 32,
        "vision_cfg": vision,
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
    }
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    # A smaller spread where layers are wide keeps the features, and so their rounding errors, small.
    std = 0.2 if "siglip" in name else 0.06
    model = randomise(kind(**config, **({"init_logit_bias": -10.0} if custom_text else {})), std=std)
    model.visual.image_mean = model.visual.image_std = (0.5, 0.5, 0.5)
    folder.mkdir()
    save_config_for_hf(model, folder / "open_clip_config.json", config)
    if safe:
        save_file(model.state_dict(), folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model.visual.trunk


def register_tiny_siglip():
    """Name of a small SigLIP among timm's models: open_clip takes only registered ones."""
    timm = timm_module()

    def vit_tiny_patch8_siglip_52(num_classes=0, global_pool="map", **library_options):
        settings = {"img_size": 52, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
        return timm.models.VisionTransformer(
            **settings, class_token=False, num_classes=num_classes, global_pool=global_pool
        )

    if not timm.models.is_model("vit_tiny_patch8_siglip_52"):
        timm.models.register_model(vit_tiny_patch8_siglip_52)
    return "vit_tiny_patch8_siglip_52"
