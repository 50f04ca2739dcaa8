"""The JAMA Clinical Challenge from the user's own copy; nothing of it may be passed on, so there is no repository."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..sources.base import Skipped
from .base import Benchmark, Filtered
from .question import Question


class JamaClinicalChallenge(Benchmark):
    """The cases that [`semihv_hf.data.sources.jama.Jama`] reads: a case, a question and four options each.

    How many cases a copy holds depends on when it was made (the list of links names 1,524), so no count is checked.
    The right letter is C in 38 % of the listed cases: read an accuracy beside that of always saying C.

    Args:
        require_images (`bool`, *optional*, defaults to `False`): leave out cases without a picture in the copy.
        source, split, subset, revision, streaming: see [`Benchmark`]; a local folder is needed.
    """

    name = "jama_clinical_challenge"
    source_name = "jama"
    title = "JAMA Clinical Challenge"
    hub_id = None
    splits = ("test",)

    def __init__(self, source: str | Path | None = None, *, require_images: bool = False, **options: Any):
        super().__init__(source, **options)
        self.require_images = require_images

    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """See [`Benchmark.rows`]."""
        from ..sources.jama import Jama

        yield from Jama(self.source, require_images=self.require_images).questions()
