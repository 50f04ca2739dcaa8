"""A PMC-Cambrian model of a few thousand weights with its processor, and rows of a dataset to train it on."""

import sys
from pathlib import Path

import torch

MODELS = Path(__file__).parents[1] / "models"
if str(MODELS) not in sys.path:
    sys.path.insert(0, str(MODELS))  # tiny_cambrian

TOWERS = {"siglip": {"size": 32}, "clip": {"size": 32}, "dino": {"size": 28}, "convnext": {"size": 48}}


def small_processor(text_model):
    """Processor of [`small_model`]: four small towers, a 4x4 query grid, ChatML."""
    from semihv_hf.models.assemble import build_processor

    return build_processor(text_model, TOWERS, 4, chat_template="chatml")


def small_model(processor, seed=0, **changes):
    """All four towers, two samplers, three decoder layers; always the same weights for the same seed."""
    from tiny_cambrian import small_towers_config

    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    config = small_towers_config(**changes)
    config.image_token_id = processor.image_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PMCCambrianForConditionalGeneration(config)


def small_batch(processor, images, texts, answer="Yes."):
    """A padded batch with labels on the answers, as TRL's collator makes it."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    rows = [
        {
            "images": [image] if image is not None else [],
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}],
        }
        for image, text in zip(images, texts)
    ]
    return DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)(rows)
