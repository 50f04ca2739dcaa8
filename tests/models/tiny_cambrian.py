"""PMC-Cambrian at the geometry of the reference numbers, and the mapping of the released checkpoint's keys."""

import json
import re
from pathlib import Path

from safetensors.torch import load_file

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

IMAGE_TOKEN = 127
KEY_MAPPING = [
    (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
    (r"^model\.image_newline", "model.connector.image_newline"),
    (r"^model\.vision_query", "model.connector.query"),
    (r"^model\.mm_projector\.0\.", "model.connector.projector.fc1."),
    (r"^model\.mm_projector\.2\.", "model.connector.projector.fc2."),
    (r"^model\.mm_projector_aux_(\d)\.0\.", r"model.connector.aux_projectors.\1.fc1."),
    (r"^model\.mm_projector_aux_(\d)\.2\.", r"model.connector.aux_projectors.\1.fc2."),
    (r"^model\.mm_projector_aux_(\d)\.3\.", r"model.connector.aux_projectors.\1.norm."),
    (r"^model\.vision_sampler_0\.layers\.(\d)\.", r"model.connector.layers.\1."),
    (r"^model\.vision_sampler_layers\.(\d+)\.layers\.0\.", r"model.language_model.vision_samplers.\1."),
    (r"cross_attn\.q_proj\.0\.", "cross_attn.q_norm."),
    (r"cross_attn\.q_proj\.1\.", "cross_attn.q_proj."),
    (r"cross_attn\.(k|v)_proj_(\d)\.0\.", r"cross_attn.\1_norms.\2."),
    (r"cross_attn\.(k|v)_proj_(\d)\.1\.", r"cross_attn.\1_projs.\2."),
    (r"pos_embed_(\d)", r"pos_embeds.\1"),
    (r"proj_out\.linear_(\d)", r"mlp.fc\1"),
]


def reference_model(folder: Path) -> PMCCambrianForConditionalGeneration:
    """The model of a reference checkpoint folder, every key of the file consumed."""
    source = json.loads((folder / "config.json").read_text())
    side = int(source["image_token_len"] ** 0.5)
    config = PMCCambrianConfig(
        sva_config={
            "hidden_size": source["vision_hidden_size"],
            "num_layers": source["connector_depth"],
            "query_side": side,
            "tower_dims": source["tower_dims"],
            "aux_sides": [int(length**0.5) for length in source["mm_vision_tower_aux_token_len_list"]],
            "num_samplers": 0 if source["connector_only"] else source["num_of_vision_sampler_layers"],
            "sampler_start": source["start_of_vision_sampler_layers"],
            "sampler_stride": source["stride_of_vision_sampler_layers"],
        },
        text_config={
            "rope_parameters": {"rope_type": "default", "rope_theta": source["rope_theta"]},
            **{
                key: source[key]
                for key in (
                    "hidden_size",
                    "intermediate_size",
                    "num_hidden_layers",
                    "num_attention_heads",
                    "num_key_value_heads",
                    "vocab_size",
                    "rms_norm_eps",
                    "max_position_embeddings",
                )
            },
        },
        image_token_id=IMAGE_TOKEN,
    )
    state = {}
    for key, value in load_file(folder / "model.safetensors").items():
        for pattern, target in KEY_MAPPING:
            key = re.sub(pattern, target, key)
        state[key] = value
    model = PMCCambrianForConditionalGeneration(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def small_towers_config(**changes) -> PMCCambrianConfig:
    """All four towers, three cross-attention layers, two samplers: everything, at the smallest size."""
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    settings = {
        "siglip_config": {**tower, "image_size": 32, "patch_size": 8, "hidden_act": "gelu"},
        "clip_config": {**tower, "image_size": 32, "patch_size": 8, "projection_dim": 16},
        "dino_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        "convnext_config": {"hidden_sizes": [4, 6, 8, 10], "depths": [1, 1, 1, 1], "image_size": 48},
        "sva_config": {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_layers": 3,
            "query_side": 4,
            "tower_dims": [16, 16, 16, 28],
            "aux_sides": [4, 4, 4, 8],
            "num_samplers": 2,
            "sampler_stride": 2,
        },
        "text_config": {
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 400,
            "pad_token_id": 0,
        },
        "image_token_id": 6,
    }
    return PMCCambrianConfig(**(settings | changes))
