"""How the text and the image of a query or an entry become one vector, or two rankings one.

Late score fusion is that of UniIR's CLIP-SF (Wei et al., ECCV 2024, `TIGER-AI-Lab/UniIR`): the sum of the two
features, with a mask for what is absent, brought to length 1; the score is the inner product. Within one space it
mixes text with text, image with image and both cross terms.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from semihv_hf.errors import SemiHVError

FUSIONS = ("clip_sf", "text", "image", "rrf")
# Which rankings of an index a fusion looks at.
VIEWS_OF = {"clip_sf": ("fused",), "text": ("text",), "image": ("image",), "rrf": ("text", "image")}
RANK_CONSTANT = 60  # Cormack, Clarke and Buettcher, SIGIR 2009


def check_fusion(fusion: str) -> None:
    """Refuses an unknown name.

    Args:
        fusion (`str`): one of `FUSIONS`.

    Raises:
        `SemiHVError`: it is none.
    """
    if fusion not in FUSIONS:
        raise SemiHVError(f"Unknown fusion {fusion!r}.", f"Known are: {', '.join(FUSIONS)}.")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays one, so that it resembles nothing.

    Args:
        vectors (`numpy.ndarray`): shape (n, d).

    Returns:
        `numpy.ndarray`: float32, of the same shape.
    """
    vectors = np.asarray(vectors, np.float32)
    # Summed in float64 row by row: the same row has the same length in whichever batch it comes.
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def fuse(text: np.ndarray, image: np.ndarray, *, shared: bool, normalise: bool) -> np.ndarray:
    """One vector for what is written and what is shown.

    Args:
        text (`numpy.ndarray`): text features, shape (n, d); a row of zeros where there is no text.
        image (`numpy.ndarray`): image features, shape (n, e); a row of zeros where there is no image.
        shared (`bool`): both come from one space (`d == e`) and are added. Otherwise there is nothing that could be
            added: they are put side by side, which leaves out the cross terms.
        normalise (`bool`): bring each of the two to length 1 first. UniIR does not, so the longer feature weighs more.

    Returns:
        `numpy.ndarray`: float32 of length 1, shape (n, d) or (n, d + e).
    """
    if normalise:
        text, image = unit(text), unit(image)
    return unit(text + image if shared else np.concatenate([text, image], axis=1))


def reciprocal_ranks(rankings: Iterable[Sequence[str]], constant: int = RANK_CONSTANT) -> dict[str, float]:
    """Reciprocal rank fusion: what stands high in several rankings stands high.

    Args:
        rankings (`Iterable[Sequence[str]]`): names, the best first.
        constant (`int`, *optional*, defaults to 60): how much the first ranks are levelled.

    Returns:
        `dict[str, float]`: the sum of `1 / (constant + rank)` by name, ranks counted from 1.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1 / (constant + rank)
    return scores
