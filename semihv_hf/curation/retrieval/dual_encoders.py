"""CLIP-family models: a text and an image tower that end in one space (CLIP, SigLIP, BiomedCLIP's port, ...)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semihv_hf.errors import SemiHVError, first_line

from .image_encoders import read_image
from .text_encoders import TokenReader, load_quietly


class DualEncoder:
    """Both sides of a CLIP-family model.

    Args:
        folder (`pathlib.Path`): a transformers model with `get_text_features` and `get_image_features`.
        name (`str`): the encoder, for messages.
        device (`str`): where torch computes.
        batch_size (`int`): items at a time.
    """

    def __init__(self, folder: Path, name: str, device: str, batch_size: int):
        from transformers import AutoModel, AutoProcessor

        self.model = load_quietly(AutoModel, folder, name).to(device)
        if not hasattr(self.model, "get_text_features") or not hasattr(self.model, "get_image_features"):
            raise SemiHVError(f"{name} is no dual encoder of texts and images.", "Choose a CLIP-family model.")
        try:
            processor = AutoProcessor.from_pretrained(folder)
            tokenizer, self.image_processor = processor.tokenizer, processor.image_processor
        except (OSError, ValueError, AttributeError) as error:
            raise SemiHVError(
                f"The encoder {name} has no processor for texts and images ({first_line(error)}).", "Check its files."
            ) from error
        self.folder, self.device, self.batch_size = folder, device, batch_size
        text_config = self.model.config.text_config
        self.reader = TokenReader(tokenizer, text_config.max_position_embeddings, name)
        self.offsets = self.reader.offsets
        self.window = self.reader.window
        # SigLIP's text tower looks at the last position and was trained on padded texts only.
        self.padding = "max_length" if self.model.config.model_type.startswith("siglip") else True
        self.dim = self.encode_texts(["a"]).shape[1]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See [`TextSide`]."""
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                batch = texts[start : start + self.batch_size]
                inputs = self.reader.inputs(batch, padding=self.padding, device=self.device)
                inputs.pop("token_type_ids", None)
                rows.append(_features(self.model.get_text_features(**inputs)))
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_images(self, images: Sequence[bytes]) -> np.ndarray:
        """See [`ImageSide`]."""
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                batch = [read_image(data) for data in images[start : start + self.batch_size]]
                pixels = self.image_processor(images=batch, return_tensors="pt")["pixel_values"].to(self.device)
                rows.append(_features(self.model.get_image_features(pixel_values=pixels)))
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)


def _features(found) -> np.ndarray:
    """The projected features, which newer versions of transformers wrap."""
    return getattr(found, "pooler_output", found).float().cpu().numpy()
