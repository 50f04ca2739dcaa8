"""What can be chosen about generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from semihv_hf.curation.generation.demonstrations import Demonstration
from semihv_hf.curation.generation.filters import Limits
from semihv_hf.curation.generation.languages import LANGUAGES
from semihv_hf.curation.generation.prompts import Prompts
from semihv_hf.errors import SemiHVError

OUTPUTS = ("schema", "headings")


@dataclass(frozen=True)
class GenerationOptions:
    """How cases are planned, asked about, and how replies are read.

    Args:
        tasks (`tuple[str, ...]`, *optional*): only these of `TASKS`; by default what suits each source.
        prompts ([`Prompts`], `str` or `Path`, *optional*): the templates, or a folder whose templates take the place
            of single ones of this package.
        output (`str`, *optional*, defaults to `"schema"`): `"schema"`, or `"headings"` to ask for lines such as
            `Question 1:` where a server has neither strict schemas nor a JSON mode.
        pairs (`Mapping[str, tuple[int, int]]`, *optional*): fewest and most questions by source, instead of the
            package's own numbers.
        shares (`Mapping[str, float]`, *optional*): share of the cases that get a task, 0 to 1, by task; drawn by the
            case's id.
        seed (`int`, *optional*, defaults to 0): of everything that is drawn.
        language (`str`, *optional*, defaults to `"en"`): ISO 639-1 code of what is written.
        demonstrations (`tuple[Demonstration, ...]`, *optional*): what clinicians chose, for the task `conversation`.
        shots (`int`, *optional*, defaults to 2): how many of them a request shows, at least 1.
        most_images (`int`, *optional*, defaults to 16): images of a case in a request, at least 1; of more, some that
            are spread evenly.
        most_evidence_images (`int`, *optional*, defaults to 4): images of each similar case, at least 0.
        most_words (`int`, *optional*, defaults to 12000): words of each source text, at least 1.
        detail (`str`, *optional*, defaults to `"high"`): see [`semihv_hf.llm.images.image_part`].
        longest (`int`, *optional*): most pixels of the longer side of an image that is sent.
        provider (`str`, *optional*): `"openai"` or `"local"`, for the size of images; by default told from
            the address.
        limits ([`Limits`] or `Mapping`, *optional*): of the filters; a mapping holds fields of [`Limits`].

    Raises:
        `SemiHVError`: a choice has no sense; the message names it.
    """

    tasks: tuple[str, ...] | None = None
    prompts: Prompts | str | Path | None = None
    output: str = "schema"
    pairs: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    shares: Mapping[str, float] = field(default_factory=dict, hash=False)
    seed: int = 0
    language: str = "en"
    demonstrations: tuple[Demonstration, ...] = ()
    shots: int = 2
    most_images: int = 16
    most_evidence_images: int = 4
    most_words: int = 12_000
    detail: str = "high"
    longest: int | None = None
    provider: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        from semihv_hf.curation.generation.tasks import TASKS

        if not isinstance(self.prompts, Prompts):
            object.__setattr__(self, "prompts", Prompts.load(self.prompts))
        if isinstance(self.limits, Mapping):
            object.__setattr__(self, "limits", _limits(self.limits))
        if self.tasks is not None:
            object.__setattr__(self, "tasks", tuple(self.tasks))
        object.__setattr__(self, "demonstrations", tuple(self.demonstrations))
        for name in (*(self.tasks or ()), *self.shares):
            if name not in TASKS:
                raise SemiHVError(f"There is no generation task {name!r}.", f"Known are {', '.join(TASKS)}.")
        if self.output not in OUTPUTS:
            raise SemiHVError(f"The output {self.output!r} is unknown.", f"Known are {', '.join(OUTPUTS)}.")
        if self.language not in LANGUAGES:
            raise SemiHVError(f"The language {self.language!r} is unknown.", f"Known are {', '.join(LANGUAGES)}.")
        if self.provider not in (None, "openai", "local"):
            raise SemiHVError(f"The provider {self.provider!r} is unknown.", "Known are openai and local.")
        if self.tasks and "conversation" in self.tasks and not self.demonstrations:
            raise SemiHVError("The task 'conversation' has no demonstrations.", "Name a file of demonstrations.")
        for name, least in (("shots", 1), ("most_images", 1), ("most_evidence_images", 0), ("most_words", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SemiHVError(f"The setting {name} is {value!r}.", f"Give a whole number of at least {least}.")
        for task, share in self.shares.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SemiHVError(f"The share of the task {task!r} is {share!r}.", "Give a number from 0 to 1.")
        for source, bounds in self.pairs.items():
            if not _is_range(bounds):
                raise SemiHVError(
                    f"The numbers of questions of the source {source!r} are {bounds!r}.",
                    "Give the fewest and the most, from 1 to 10.",
                )


def _limits(given: Mapping) -> Limits:
    known = [item.name for item in fields(Limits)]
    if unknown := [name for name in given if name not in known]:
        raise SemiHVError(f"There is no limit {unknown[0]!r}.", f"Known are {', '.join(known)}.")
    return Limits(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _is_range(bounds: object) -> bool:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        return False
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in bounds)
    return whole and 1 <= bounds[0] <= bounds[1] <= 10
