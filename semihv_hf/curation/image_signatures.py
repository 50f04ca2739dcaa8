"""What is kept of an image to compare it: a digest of its pixels, two perceptual hashes and a thumbnail, 300 bytes.

The hashes, the thumbnail's side and the thresholds are those of [`semihv_hf.data.overlap_images`], so that a pair is
near here when it is near there. The image is decoded once and in full: equal pixels have equal signatures, whatever
file format holds them.
"""

import hashlib
import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..data.overlap_images import _FLAT, _SIDE, image_hashes
from ..errors import SemiHVError

# Only a usable image is compared: one of all but one colour resembles any other such.
USABLE, FLAT, UNREADABLE = range(3)
IMAGE = np.dtype(
    [
        ("row", "<i4"), ("state", "u1"), ("area", "<i8"), ("pixels", "<u8", (2,)), ("hashes", "<u8", (2,)),
        ("thumbnail", "u1", (_SIDE * _SIDE,)),
    ]
)  # fmt: skip
_UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
CONFIRM, EITHER = "confirm", "either"


def sign_image(data: bytes | None, row: int) -> np.ndarray:
    """The signature of an image.

    Args:
        data (`bytes` or `None`): the encoded image.
        row (`int`): the row that shows it.

    Returns:
        `numpy.ndarray`: one element of type `IMAGE`.
    """
    signature = np.zeros((), IMAGE)
    signature["row"] = row
    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            image.load()
            # A palette or greyscale file may show what an RGB file shows; 16-bit values would be clipped.
            shown = image if image.mode[0] in "IF" or image.mode == "RGBA" else image.convert("RGB")
            grey = image.convert("L")
    except _UNDECODABLE:
        signature["state"] = UNREADABLE
        return signature
    digest = hashlib.sha256(f"{shown.mode} {shown.size}".encode())
    digest.update(shown.tobytes())
    signature["pixels"] = np.frombuffer(digest.digest()[:16], "<u8")
    signature["area"] = shown.width * shown.height
    thumbnail = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    if thumbnail.std() < _FLAT:
        signature["state"] = FLAT
        return signature
    signature["thumbnail"] = thumbnail.ravel()
    signature["hashes"] = image_hashes(grey)
    return signature


@dataclass(frozen=True)
class EmbeddingCheck:
    """A second opinion on images: the cosine of two vectors.

    Args:
        vectors (`Callable` or `Mapping[str, numpy.ndarray]`): a function from a list of encoded images to an array of
            shape (images, dimensions), or the arrays by row id, with one vector for each image of the row. Vectors
            need no unit length: they are normalised here. With several workers a function must be one that can be
            pickled.
        threshold (`float`): the least cosine, above 0 and at most 1. A threshold for dot products of vectors of other
            lengths, such as the 480 of HuatuoGPT-Vision's appendix B, means nothing here and is refused.
        name (`str`): the encoder with its version; cached vectors are found again by it.
        use (`str`, *optional*, defaults to `"confirm"`): `"confirm"`: images are near only if hashes and vectors say
            so. `"either"`: also if the vectors alone do, which finds mirrored and cropped images and compares all
            vectors with all.

    Raises:
        `SemiHVError`: the threshold is no cosine, or `use` is unknown.
    """

    vectors: Callable[[list[bytes]], Any] | Mapping[str, Any]
    threshold: float
    name: str
    use: str = CONFIRM

    def __post_init__(self):
        if not 0 < self.threshold <= 1:
            raise SemiHVError(
                f"The embedding threshold {self.threshold:g} is not a cosine above 0 and at most 1.",
                "Vectors are brought to length 1 before they are compared; 0.95 is a place to start.",
            )
        if self.use not in (CONFIRM, EITHER):
            raise SemiHVError(f"Unknown use {self.use!r} of embeddings.", f"Known are: {CONFIRM}, {EITHER}.")

    def embed(
        self, ids: Sequence[str], images: Sequence[Sequence[bytes]], usable: Sequence[Sequence[bool]]
    ) -> np.ndarray:
        """The vectors of the usable images of some rows.

        Args:
            ids (`Sequence[str]`): the rows.
            images (`Sequence[Sequence[bytes]]`): the encoded images of each row.
            usable (`Sequence[Sequence[bool]]`): which of them can be compared; only these are sent to a function.

        Returns:
            `numpy.ndarray`: unit vectors in half precision, shape (usable images of all rows, dimensions).

        Raises:
            `SemiHVError`: the number of vectors is wrong, one is missing, or one is zero or not finite.
        """
        count = sum(map(sum, usable))
        if callable(self.vectors):
            found = self.vectors(
                [data for row, good in zip(images, usable) for data, is_good in zip(row, good) if is_good]
            )
        else:
            missing = next((name for name in ids if name not in self.vectors), None)
            if missing is not None:
                raise SemiHVError(f"The vectors {self.name} hold none of row {missing}.", "Give vectors of all rows.")
            found = [np.atleast_2d(np.asarray(self.vectors[name])) for name in ids]
            wrong = next((name for name, given, good in zip(ids, found, usable) if len(given) != len(good)), None)
            if wrong is not None:
                raise SemiHVError(
                    f"The vectors {self.name} of row {wrong} are not one for each of its images.", "Embed it again."
                )
            found = np.concatenate([given[np.array(good, bool)] for given, good in zip(found, usable)])
        vectors = np.asarray(found, np.float32)
        if vectors.ndim != 2 or len(vectors) != count:
            raise SemiHVError(
                f"{self.name} gave vectors of shape {vectors.shape} for {count} images.", "One row an image is needed."
            )
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(length).all() or not length.all():
            raise SemiHVError(f"{self.name} gave a vector that is zero or not finite.", "Check the encoder.")
        return (vectors / length).astype(np.float16)
