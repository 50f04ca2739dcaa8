"""What counts as the same, for duplicates and for benchmarks alike."""

from dataclasses import dataclass, field
from typing import Any

from ..data.overlap_images import CORRELATION, DISTANCE
from ..data.overlap_texts import MAX_SHARING, MIN_WORDS, WORDS
from ..data.schema import SPLITS
from ..errors import SemiHVError
from .image_signatures import EmbeddingCheck

JACCARD = 0.8


@dataclass(frozen=True)
class DuplicateOptions:
    """What counts as the same.

    Args:
        distance (`int`, *optional*, defaults to 10): how many of 64 bits of two perceptual hashes may differ.
        correlation (`float`, *optional*, defaults to 0.97): how well thumbnails must agree, above 0 and at most 1.
        jaccard (`float`, *optional*, defaults to 0.8): the least share of common runs of five words, above 0 and at
            most 1, estimated to about 0.04.
        embedding ([`EmbeddingCheck`], *optional*): vectors of images as a second opinion.
        drop_same_texts (`bool`, *optional*, defaults to `False`): whether the same texts make duplicates of cases with
            different pictures, as HuatuoGPT-Vision's filter does. Then of all normal reports one stays.
        keep_expert_texts (`bool`, *optional*, defaults to `False`): whether cases with the same pictures both stay if
            people wrote different texts of `min_words` words or more for them.
        held_out (`tuple[str, ...]`, *optional*, defaults to `("validation", "test")`): splits of benchmarks for which
            a case is left out; matches with others are reported only.
        min_share (`float`, *optional*, defaults to 0.0): a case that repeats a smaller share of the runs of words of a
            benchmark's item is reported only.
        words (`int`, *optional*, defaults to 13): see [`semihv_hf.data.overlap.find_overlap`].
        min_words (`int`, *optional*, defaults to 8): the shortest text that is compared.
        max_sharing (`int`, *optional*, defaults to 10): see [`semihv_hf.data.overlap.find_overlap`].

    Raises:
        `SemiHVError`: a number is out of its range.
    """

    distance: int = DISTANCE
    correlation: float = CORRELATION
    jaccard: float = JACCARD
    embedding: EmbeddingCheck | None = field(default=None, repr=False)
    drop_same_texts: bool = False
    keep_expert_texts: bool = False
    held_out: tuple[str, ...] = ("validation", "test")
    min_share: float = 0.0
    words: int = WORDS
    min_words: int = MIN_WORDS
    max_sharing: int = MAX_SHARING

    def __post_init__(self):
        ranges = {"distance": (0, 20), "correlation": (0.5, 1), "jaccard": (0.5, 1), "min_share": (0, 1)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SemiHVError(f"{name} {value:g} is not from {least} to {most}.", "Change the option.")
        if not 1 <= self.min_words <= self.words <= 64:
            raise SemiHVError(f"min_words {self.min_words} and words {self.words} do not fit.", "Use 8 and 13.")
        unknown = sorted(set(self.held_out) - set(SPLITS))
        if unknown:
            raise SemiHVError(f"Unknown split {unknown[0]!r} in held_out.", f"Known are: {', '.join(SPLITS)}.")

    def settings(self) -> dict[str, Any]:
        """The options as JSON can hold them; of an embedding its name, threshold and use."""
        embedding = self.embedding
        named = (
            None if embedding is None else {name: getattr(embedding, name) for name in ("name", "threshold", "use")}
        )
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "embedding"}
        return {**values, "held_out": list(self.held_out), "embedding": named}
