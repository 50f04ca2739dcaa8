"""Models of random weights and prompts of random tokens for the generation benchmarks: nothing is downloaded."""

import numpy as np
import torch
from PIL import Image
from transformers import LlamaConfig

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import num_image_tokens
from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration
from semihv_hf.quickstart.model import CONVNEXT_SIZE, TOWER_SIZES, small_config

IMAGE_TOKEN, PAD_TOKEN, FIRST_WORD = 6, 0, 100
# The shape of SmolLM2-135M.
TEXT_MODEL = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "pad_token_id": PAD_TOKEN,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def random_model(seed: int, layers: int):
    """The quickstart's towers and connector on `layers` of SmolLM2-135M's layers, and the image processor to it."""
    config = small_config(LlamaConfig(**{**TEXT_MODEL, "num_hidden_layers": layers}), IMAGE_TOKEN)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PMCCambrianForConditionalGeneration(config).eval()
    sizes = {name: {"size": size} for name, (size, _) in TOWER_SIZES.items()} | {"convnext": {"size": CONVNEXT_SIZE}}
    return model, PMCCambrianImageProcessorPil(towers=sizes)


def random_image(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def random_words(count: int, generator: np.random.Generator) -> list[int]:
    return generator.integers(FIRST_WORD, TEXT_MODEL["vocab_size"], count).tolist()


def image_tokens(image_size, config) -> list[int]:
    height, width = (int(side) for side in image_size)
    return [IMAGE_TOKEN] * num_image_tokens(height, width, config.sva_config.query_side)


def left_padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of prompts of different lengths."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[PAD_TOKEN] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def generate(model, new_tokens: int, **inputs) -> torch.Tensor:
    """Greedy generation of exactly `new_tokens` tokens; returns only these."""
    sequences = model.generate(
        **inputs, do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=PAD_TOKEN
    )
    return sequences[:, inputs["input_ids"].shape[1] :]
