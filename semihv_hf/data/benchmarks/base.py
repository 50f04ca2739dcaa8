"""What every benchmark is: where it lies, which split and filter the literature uses, and how its rows are read."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...errors import SemiHVError
from ..imaging import UnreadableImage
from ..licences import source_licence
from ..pictures import clean_picture
from ..schema import Fact
from ..sources.base import Skipped
from .question import YES_NO, Question


@dataclass(frozen=True)
class Filtered:
    """A sound row that the chosen subset leaves out.

    Args:
        source_id (`str`): its place in the benchmark's files.
        rule (`str`): which rule leaves it out, for example `"not in English"`.
    """

    source_id: str
    rule: str


@dataclass(frozen=True)
class Expected:
    """How many questions the full set has, where that is known.

    Args:
        total (`int`): questions.
        closed (`int`, *optional*): closed ones among them.
    """

    total: int
    closed: int | None = None


class Benchmark(ABC):
    """One benchmark.

    Args:
        source (`str` or `pathlib.Path`, *optional*): a Hub id, or a local copy in the layout of the repository;
            `hub_id` by default.
        split (`str`, *optional*): one of `splits`; `default_split` by default.
        subset (`str`, *optional*): one of `subsets`, or what the benchmark's own class says; `default_subset` by
            default.
        revision (`str`, *optional*): a branch, tag or commit on the Hub.
        streaming (`bool`, *optional*, defaults to `True`): whether rows are read over the network one by one where
            the repository allows it.

    Raises:
        `SemiHVError`: there is no such split or subset.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    # None: the benchmark may not be passed on, so there is no repository.
    hub_id: ClassVar[str | None]
    # Its name in the licence registry, where that is another.
    source_name: ClassVar[str | None] = None
    splits: ClassVar[tuple[str, ...]]
    default_split: ClassVar[str] = "test"
    subsets: ClassVar[tuple[str, ...]] = ("all",)
    default_subset: ClassVar[str] = "all"
    # By split and subset; what is not listed is not checked.
    expected: ClassVar[Mapping[tuple[str, str], Expected]] = {}
    # Rules that an option, not the subset, decides on: such rows belong to the full set.
    optional_rules: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        source: str | Path | None = None,
        *,
        split: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        streaming: bool = True,
    ):
        self.source = source or self.hub_id
        if self.source is None:
            raise SemiHVError(f"{self.title} is not on the Hub.", "Give the folder of your own copy as `source`.")
        self.split = split or self.default_split
        self.subset = subset or self.default_subset
        self.revision = revision
        self.streaming = streaming
        if self.split not in self.splits:
            raise SemiHVError(f"{self.title} has no split {self.split!r}.", f"It has {', '.join(self.splits)}.")
        if self.subsets and self.subset not in self.subsets:
            raise SemiHVError(f"{self.title} has no subset {self.subset!r}.", f"It has {', '.join(self.subsets)}.")

    @property
    def licence(self) -> str:
        """The licence that the registry has for it."""
        return source_licence(self.source_name or self.name).licence

    @property
    def link(self) -> str:
        """Where that is stated."""
        return source_licence(self.source_name or self.name).link

    @abstractmethod
    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """Reads the split in the order of its files, without holding it in memory.

        Yields:
            [`Question`], [`Skipped`] or [`Filtered`]: exactly one for each row of the files.
        """


class QuestionStream(Iterator[Question]):
    """The questions of a benchmark, one at a time, with a count of what became none.

    Args:
        benchmark ([`Benchmark`]): what is read.
        check_counts (`bool`): whether the last step compares what was read with what the full set has.
    """

    def __init__(self, benchmark: Benchmark, check_counts: bool):
        self.benchmark = benchmark
        self.check_counts = check_counts
        self.questions: Counter[str] = Counter()
        """Questions by answer type."""
        self.skipped: list[Skipped] = []
        """Rows that cannot be used, with the reason."""
        self.filtered: Counter[str] = Counter()
        """Sound rows that the subset leaves out, by rule."""
        self._rows = benchmark.rows()

    def __next__(self) -> Question:
        for row in self._rows:
            if isinstance(row, Question):
                self.questions[row.answer_type] += 1
                return row
            if isinstance(row, Skipped):
                self.skipped.append(row)
            else:
                self.filtered[row.rule] += 1
        if self.check_counts:
            self.check_counts = False
            self.compare()
        raise StopIteration

    def compare(self) -> None:
        """Compares what was read so far with what the full set has, skipped rows included.

        Raises:
            `SemiHVError`: the numbers differ; the message names both.
        """
        known = self.benchmark.expected.get((self.benchmark.split, self.benchmark.subset))
        if known is None:
            return
        place = f"{self.benchmark.title}, split {self.benchmark.split}, subset {self.benchmark.subset}"
        optional = sum(self.filtered[rule] for rule in self.benchmark.optional_rules)
        found = self.questions.total() + len(self.skipped) + optional
        if found != known.total:
            raise _different(place, "rows", found, known.total)
        if known.closed is not None and not self.skipped and self.questions["closed"] != known.closed:
            raise _different(place, "closed questions", self.questions["closed"], known.closed)

    def summary(self) -> dict[str, Any]:
        """The counts.

        Returns:
            `dict`: `questions` by answer type, `skipped` by reason, `filtered` by rule.
        """
        return {
            "questions": dict(sorted(self.questions.items())),
            "skipped": dict(sorted(Counter(entry.reason for entry in self.skipped).items())),
            "filtered": dict(sorted(self.filtered.items())),
        }


def _different(place: str, what: str, found: int, known: int) -> SemiHVError:
    return SemiHVError(
        f"{place}: {found} {what}, but the full set has {known}.",
        "Complete the copy, or read it without the check of counts.",
    )


def read_images(images: Sequence[bytes | None], source_id: str) -> list[bytes] | Skipped:
    """Checks the pictures of a row by decoding them, and frees them of metadata.

    Args:
        images (`Sequence[bytes or None]`): the encoded pictures; `None` where a row lacks one.
        source_id (`str`): the row.

    Returns:
        `list[bytes]` or [`Skipped`]: JPEG or PNG files.
    """
    cleaned = []
    for index, data in enumerate(images):
        if not data:
            return Skipped(source_id, "missing image", f"image {index + 1} of the row is empty")
        try:
            cleaned.append(clean_picture(data, name=f"image {index + 1}"))
        except UnreadableImage as error:
            return Skipped(source_id, "unreadable image", f"image {index + 1}: {error.reason}")
    return cleaned


def answer_form(answer: str) -> dict[str, Any]:
    """The form of an answer where a benchmark does not state it: closed when it is yes or no, as is usual.

    Args:
        answer (`str`): the answer.

    Returns:
        `dict`: the fields `answer`, `answer_type`, `options` and `answer_letter` of a [`Question`].
    """
    plain = answer.strip().lower()
    if plain in YES_NO:
        letter = "AB"[YES_NO.index(plain)]
        return {"answer": plain, "answer_type": "closed", "options": list(YES_NO), "answer_letter": letter}
    return {"answer": answer.strip(), "answer_type": "open", "options": [], "answer_letter": ""}


def subset_filter(subset: str, answer_type: str) -> str | None:
    """Which rule of the subsets `"all"`, `"closed"` and `"open"` leaves a row out.

    Args:
        subset (`str`): the subset.
        answer_type (`str`): `"closed"` or `"open"`.

    Returns:
        `str` or `None`: the rule; `None` for a row that belongs to the subset.
    """
    return f"{answer_type} question" if subset in ("closed", "open") and subset != answer_type else None


def stated_facts(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[Fact]:
    """What a row states beside question and answer.

    Args:
        row (`Mapping[str, Any]`): the row.
        columns (`Mapping[str, str]`): the fact that each column states.

    Returns:
        `list[Fact]`: one for each column that is not empty.
    """
    found = ((name, str(row.get(column) or "").strip(), f"column {column}") for column, name in columns.items())
    return [Fact(name, value, source) for name, value, source in found if value]
