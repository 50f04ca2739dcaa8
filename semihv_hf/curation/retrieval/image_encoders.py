"""Image encoders that read no text: a thumbnail, and vision models such as DINOv2 or a ViT."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semihv_hf.errors import SemiHVError, first_line


class Thumbnail:
    """Grey 32 x 32 thumbnails of mean 0 and length 1: the product of two is their correlation. No model, no
    download."""

    dim = 1024

    def encode_images(self, images: Sequence[bytes]) -> np.ndarray:
        """See [`ImageSide`]; a picture of one colour gives zeros, which resemble nothing."""
        from semihv_hf.data.deduplicate import thumbnail_vector

        rows = np.zeros((len(images), self.dim), np.float32)
        for index, data in enumerate(images):
            try:
                rows[index] = thumbnail_vector(data)
            except (OSError, ValueError) as error:
                raise _unreadable(error) from error
        return rows


class VisionModel:
    """A vision transformer or another model with one vector per image.

    Args:
        folder (`pathlib.Path`): a transformers model with its image processor.
        name (`str`): the encoder, for messages.
        device (`str`): where torch computes.
        batch_size (`int`): images at a time.
    """

    def __init__(self, folder: Path, name: str, device: str, batch_size: int):
        from transformers import AutoImageProcessor, AutoModel

        from .text_encoders import load_quietly

        self.model = load_quietly(AutoModel, folder, name).to(device)
        self.processor = AutoImageProcessor.from_pretrained(folder)
        self.device, self.batch_size = device, batch_size
        self.dim = getattr(self.model.config, "hidden_size", None) or self.model.config.hidden_sizes[-1]

    def encode_images(self, images: Sequence[bytes]) -> np.ndarray:
        """See [`ImageSide`]: the first token's vector, of a convolutional model the mean over positions."""
        import torch

        rows = np.zeros((len(images), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                batch = [read_image(data) for data in images[start : start + self.batch_size]]
                inputs = self.processor(images=batch, return_tensors="pt").to(self.device)
                states = self.model(**inputs).last_hidden_state
                pooled = states.flatten(2).mean(2) if states.ndim == 4 else states[:, 0]
                rows[start : start + len(batch)] = pooled.float().cpu().numpy()
        return rows


def read_image(data: bytes):
    """An encoded image as RGB.

    Args:
        data (`bytes`): PNG or JPEG.

    Returns:
        `PIL.Image.Image`: the picture.

    Raises:
        `SemiHVError`: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> SemiHVError:
    return SemiHVError(f"An image cannot be read ({first_line(error)}).", "Build the cases folder again.")
