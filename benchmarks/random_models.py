"""Models of random weights and prompts of random tokens for the generation benchmarks: nothing is downloaded."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import LlamaConfig, PreTrainedTokenizerFast

from semihv_hf.models.assemble import NEEDED_TOKENS, build_processor
from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig, num_image_tokens
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


def byte_tokenizer(folder: Path) -> None:
    """Saves a tokenizer of single bytes with the special tokens of the ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|endoftext|>", *NEEDED_TOKENS["chatml"], "<filename>"]
    words = {word: number for number, word in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>"
    ).save_pretrained(folder)


def model_of_8b_proportions(seed: int, tokenizer_folder: Path):
    """
    The 8B model with every width divided by 16 and about a quarter of the layers, and its processor.

    Images have their full size, so one image is 576 + 576 + 576 + 9,216 tower tokens and up to 600 image tokens, and
    towers, connector and text model have nearly the shares of the 8B model in the work.
    """
    processor = build_processor(tokenizer_folder, query_side=24, chat_template="chatml")
    config = PMCCambrianConfig(
        siglip_config={
            "hidden_size": 72,
            "intermediate_size": 269,
            "num_hidden_layers": 7,
            "num_attention_heads": 4,
            "image_size": 384,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
        clip_config={
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 64,
        },
        dino_config={
            "hidden_size": 96,
            "num_hidden_layers": 10,
            "num_attention_heads": 6,
            "image_size": 378,
            "patch_size": 14,
            "use_swiglu_ffn": True,
        },
        convnext_config={"hidden_sizes": [24, 48, 96, 192], "depths": [1, 1, 8, 1]},
        sva_config={
            "hidden_size": 64,
            "num_attention_heads": 4,
            "tower_dims": [72, 64, 96, 360],
            "num_samplers": 3,
        },
        text_config={
            "vocab_size": 8016,
            "hidden_size": 256,
            "intermediate_size": 896,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "initializer_range": 0.0625,  # 1 / sqrt(width): with less the question hardly changes the answer
            "pad_token_id": processor.tokenizer.pad_token_id,
            "bos_token_id": processor.tokenizer.bos_token_id,
            "eos_token_id": processor.tokenizer.eos_token_id,
        },
        image_token_id=processor.image_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PMCCambrianForConditionalGeneration(config).eval()
    return model, processor
