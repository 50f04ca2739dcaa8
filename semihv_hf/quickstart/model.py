"""The model of the quickstart: the code path of the 8B model, at a size that trains on a laptop."""

from __future__ import annotations

from pathlib import Path

# (side of the input in pixels, patch size): every transformer tower gives a 6 x 6 grid of its own.
TOWER_SIZES = {"siglip": (72, 12), "clip": (72, 12), "dino": (84, 14)}
CONVNEXT_SIZE = 96
TOWER_WIDTH = 96
TOWER_LAYERS = 3
CONVNEXT_WIDTHS = (32, 64, 96, 128)
CONVNEXT_DEPTHS = (1, 1, 2, 1)
QUERY_SIDE = 3
SVA_WIDTH = 128
# About 1 / sqrt(width): with the usual 0.02 so narrow a model hardly moves in its first hundreds of steps.
INITIALIZER_RANGE = 0.08


def small_config(text_config, image_token_id: int):
    """
    Configuration of the quickstart model: four towers of about 0.4 million parameters each on a given text model.

    Args:
        text_config (`LlamaConfig`): configuration of the text model.
        image_token_id (`int`): id of the image placeholder in its vocabulary.

    Returns:
        [`PMCCambrianConfig`]
    """
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig

    def transformer_tower(name: str, **extra) -> dict:
        size, patch = TOWER_SIZES[name]
        return {
            "hidden_size": TOWER_WIDTH,
            "num_hidden_layers": TOWER_LAYERS,
            "num_attention_heads": 4,
            "image_size": size,
            "patch_size": patch,
            **extra,
        }

    last_layer = text_config.num_hidden_layers - 1
    num_samplers = min(3, text_config.num_hidden_layers)
    return PMCCambrianConfig(
        siglip_config=transformer_tower(
            "siglip", intermediate_size=2 * TOWER_WIDTH, hidden_act="gelu", vision_use_head=False
        ),
        clip_config=transformer_tower("clip", intermediate_size=2 * TOWER_WIDTH, projection_dim=TOWER_WIDTH),
        dino_config=transformer_tower("dino", mlp_ratio=2, layerscale_value=1.0, initializer_range=INITIALIZER_RANGE),
        convnext_config={
            "hidden_sizes": list(CONVNEXT_WIDTHS),
            "depths": list(CONVNEXT_DEPTHS),
            "image_size": CONVNEXT_SIZE,
            "layer_scale_init_value": 0.5,
            "initializer_range": INITIALIZER_RANGE,
        },
        sva_config={
            "hidden_size": SVA_WIDTH,
            "num_attention_heads": 4,
            "num_layers": 2,
            "initializer_range": INITIALIZER_RANGE,
            "query_side": QUERY_SIDE,
            "tower_dims": [TOWER_WIDTH, TOWER_WIDTH, TOWER_WIDTH, sum(CONVNEXT_WIDTHS)],
            "aux_sides": [6, 6, 6, 6],
            "num_samplers": num_samplers,
            "sampler_start": 0,
            "sampler_stride": max(1, last_layer // max(1, num_samplers)),
        },
        text_config=text_config.to_dict(),
        image_token_id=image_token_id,
        tie_word_embeddings=bool(text_config.tie_word_embeddings),
    )


def build_small_model(text_model: Path, seed: int):
    """
    The quickstart model before any training: a real text model, towers and connector with random weights.

    Args:
        text_model (`Path`): folder of a Llama-architecture model with its tokenizer.
        seed (`int`): seed of the random weights.

    Returns:
        `tuple`: the model in float32 and its processor.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from semihv_hf.models.assemble import build_processor
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    sizes = {name: {"size": size} for name, (size, _) in TOWER_SIZES.items()} | {"convnext": {"size": CONVNEXT_SIZE}}
    template = "llama3" if _has_token(text_model, "<|start_header_id|>") else "chatml"
    processor = build_processor(text_model, sizes, QUERY_SIDE, chat_template=template)
    text = AutoModelForCausalLM.from_pretrained(text_model, dtype=torch.float32)
    config = small_config(text.config, processor.image_token_id)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PMCCambrianForConditionalGeneration(config)
    missing, unexpected = model.model.language_model.load_state_dict(text.model.state_dict(), strict=False)
    foreign = [name for name in missing if not name.startswith("vision_samplers.")]
    if foreign or unexpected:
        raise RuntimeError(f"The text model does not fit: missing {foreign[:3]}, unexpected {unexpected[:3]}.")
    if not config.tie_word_embeddings:
        model.lm_head.load_state_dict(text.lm_head.state_dict())
    model.generation_config = text.generation_config
    model.generation_config.do_sample = False
    model.generation_config.temperature = model.generation_config.top_p = model.generation_config.top_k = None
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    _match_scale(model)
    return model, processor


def _has_token(folder: Path, token: str) -> bool:
    from transformers import AutoTokenizer

    return token in AutoTokenizer.from_pretrained(folder).get_vocab()


def _match_scale(model) -> None:
    """Image tokens start at the length of words, so that decoder layers see and change them like words."""
    import torch

    with torch.no_grad():
        words = model.get_input_embeddings().weight.float().norm(dim=-1).mean()
        connector = model.model.connector
        hidden = torch.randn(256, connector.query.shape[-1], generator=torch.Generator().manual_seed(0))
        tokens = connector.projector(hidden).norm(dim=-1).mean()
        connector.projector.fc2.weight.mul_(words / tokens)
        connector.image_newline.mul_(words / connector.image_newline.norm())
