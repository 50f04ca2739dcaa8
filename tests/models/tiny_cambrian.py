"""PMC-Cambrian with everything it can have, at the smallest size, and the token counts of the specification."""

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig

# Width and height of an image in pixels, and its image tokens on a 24x24 query grid.
TOKEN_COUNTS = [
    (640, 480, 450),
    (480, 640, 456),
    (512, 512, 600),
    (1024, 512, 300),
    (1920, 1080, 350),
    (1000, 170, 100),
    (333, 1000, 216),
    (2048, 2500, 504),
    (2400, 100, 50),
    (2401, 100, 50),  # beyond 24:1 the original crashes
    (2500, 100, 50),
    (100, 3000, 72),
    (88, 55, 350),  # the integer formula would keep another region
]


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
