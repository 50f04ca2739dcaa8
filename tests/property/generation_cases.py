"""What the generation tests share: conversations of every mix, a model that tells them apart, and one-by-one runs."""

import numpy as np
import torch
from PIL import Image

from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

VISION_KEYS = ("pixel_values", "pixel_values_clip", "pixel_values_dino", "pixel_values_convnext", "image_sizes")
TOWERS = {"siglip": {"size": 32}, "clip": {"size": 32}, "dino": {"size": 28}, "convnext": {"size": 48}}
NEW_TOKENS = 6
PAD = 0


def with_large_weights(config, std: float = 0.15, seed: int = 1) -> PMCCambrianForConditionalGeneration:
    """A model whose parameters are all drawn anew, N(0, std), around 1 where they scale a norm."""
    model = PMCCambrianForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = parameter.ndim == 1 and "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_scale else std * noise)
    return model


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def user(*parts) -> list[dict]:
    """A conversation of one user turn: texts and images in their order."""
    content = [{"type": "text" if isinstance(part, str) else "image"} for part in parts]
    for entry, part in zip(content, parts):
        entry[entry["type"]] = part
    return [{"role": "user", "content": content}]


def mixed_conversations() -> list[list[dict]]:
    """One image, two images of different sizes at different positions, text only, and an image of 25:1."""
    return [
        user(picture(60, 40, 1), "What modality is this image?"),
        user("It is", picture(40, 60, 2), "an axial MRI", picture(50, 50, 3), "What?"),
        user("What plane is shown? Describe the image."),
        user(picture(2500, 100, 4), "Is this an axial MRI?"),
    ]


class Cases:
    """
    Args:
        model (`PMCCambrianForConditionalGeneration`): the model.
        processor (`PMCCambrianProcessor`): its processor.
    """

    def __init__(self, model, processor):
        self.model = model
        self.processor = processor

    def encode(self, conversations, **processor_kwargs):
        """Inputs of a left-padded batch."""
        return self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, **processor_kwargs},
        )

    def generate(self, inputs, **settings):
        """`generate`, greedy and without an end unless `settings` says otherwise; scores and logits are returned."""
        defaults = {
            "max_new_tokens": NEW_TOKENS,
            "do_sample": False,
            "pad_token_id": PAD,
            "eos_token_id": None,
            "return_dict_in_generate": True,
            "output_logits": True,
            "output_scores": True,
        }
        return self.model.generate(**inputs, **{**defaults, **settings})

    def answers(self, inputs, **settings) -> list[list[int]]:
        """The new tokens of every returned sequence, up to its end token."""
        new = self.generate(inputs, **settings).sequences[:, inputs["input_ids"].shape[1] :]
        ends = settings.get("eos_token_id") or []
        return [row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))] for row in new.tolist()]

    def one_by_one(self, conversations, **settings) -> list[list[int]]:
        """The answers of runs that see one conversation each."""
        return [answer for one in conversations for answer in self.answers(self.encode([one]), **settings)]
