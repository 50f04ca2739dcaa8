"""The row type of a benchmark: one [`Question`] about one or several images, with its answer.

It names what all benchmarks have in common, so that one file of rows, one prompt and one set of metrics serve them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from string import ascii_uppercase
from typing import Any

from ...errors import SemiHVError
from ..schema import ANSWER_TYPES, SPLITS, Fact, content_id

YES_NO = ("yes", "no")
UNKNOWN_MODALITY = "unknown"


@dataclass
class Question:
    """One question of a benchmark.

    Args:
        id (`str`): see [`question_id`].
        benchmark (`str`): the benchmark, for example `"vqa_rad"`.
        source_id (`str`): the question's place in the benchmark's own files; no path of a user's machine.
        group (`str`): the image, case or article that the question shares with others; statistics resample groups.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        licence (`str`): the licence that the benchmark states.
        images (`list[bytes]`): encoded PNG or JPEG images; `<image 1>` in a text means the first.
        question (`str`): the question, without its options.
        answer (`str`): the right answer as a text.
        answer_type (`str`): `"closed"` where the answer is one of few that are known beforehand, else `"open"`.
        options (`list[str]`): the possible answers, without letters, in the benchmark's order; empty where it names
            none.
        answer_letter (`str`): the letter of the right option, `"A"` for the first; empty without options.
        modality (`str`): the imaging modality where the benchmark states it, else `"unknown"`.
        category (`str`): the benchmark's own division: question type, subject or subset; empty without one.
        language (`str`, *optional*, defaults to `"en"`): the ISO 639-1 code of the texts.
        facts (`list[Fact]`, *optional*): what else the benchmark states, with the column that states it.
    """

    id: str
    benchmark: str
    source_id: str
    group: str
    split: str
    licence: str
    images: list[bytes] = field(repr=False)
    question: str
    answer: str
    answer_type: str
    options: list[str] = field(default_factory=list)
    answer_letter: str = ""
    modality: str = UNKNOWN_MODALITY
    category: str = ""
    language: str = "en"
    facts: list[Fact] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The question as a row for Parquet, with images in the form that `datasets` decodes."""
        row = asdict(self)
        row["images"] = [{"bytes": data, "path": None} for data in self.images]
        return row

    def lettered_options(self) -> dict[str, str]:
        """The options by their letters.

        Returns:
            `dict[str, str]`: `{"A": first option, ...}`, in order.
        """
        return dict(zip(ascii_uppercase, self.options, strict=False))


def question_id(benchmark: str, split: str, source_id: str, question: str, images: Sequence[bytes]) -> str:
    """The identity of a question: its place in the benchmark and what is asked about which pixels.

    Args:
        benchmark (`str`): the benchmark.
        split (`str`): the split.
        source_id (`str`): the place in its files.
        question (`str`): the text.
        images (`Sequence[bytes]`): the encoded images.

    Returns:
        `str`: 32 hex digits.
    """
    return content_id("question", benchmark, split, source_id, question, *images)


def validate_question(row: Mapping[str, Any]) -> None:
    """Checks one question.

    Args:
        row (`Mapping[str, Any]`): a row as [`Question.row`] gives it, or as `datasets` reads it.

    Raises:
        `SemiHVError`: a field is missing or wrong; the message names it.
    """
    for name in ("id", "benchmark", "source_id", "group", "licence", "question", "answer", "modality", "language"):
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            raise _wrong(name, "is missing" if value is None else f"is {value!r}, not a non-empty string")
    for name, allowed in (("split", SPLITS), ("answer_type", ANSWER_TYPES)):
        if row.get(name) not in allowed:
            raise _wrong(name, f"is {row.get(name)!r}, not one of {', '.join(allowed)}")
    for name in ("answer_letter", "category"):
        if not isinstance(row.get(name), str):
            raise _wrong(name, f"is {row.get(name)!r}, not a string")
    for name in ("images", "options", "facts"):
        if not isinstance(row.get(name), list):
            raise _wrong(name, f"is {row.get(name)!r}, not a list")
    for index, image in enumerate(row["images"]):
        if isinstance(image, Mapping) and not image.get("bytes"):
            raise _wrong(f"images[{index}]", "has no bytes")
    for index, fact in enumerate(row["facts"]):
        for name in ("name", "value", "source"):
            if not isinstance(fact.get(name), str) or not fact[name].strip():
                raise _wrong(f"facts[{index}].{name}", f"is {fact.get(name)!r}, not a non-empty string")
    _check_options(row)


def _check_options(row: Mapping[str, Any]) -> None:
    options, letter = row["options"], row["answer_letter"]
    if not options:
        if letter:
            raise _wrong("answer_letter", f"is {letter!r}, but there are no options")
        return
    if row["answer_type"] == "open":
        raise _wrong("options", "must be empty for an open question")
    if not 2 <= len(options) <= len(ascii_uppercase) or not all(isinstance(o, str) and o.strip() for o in options):
        raise _wrong("options", f"are {options!r}, not from 2 to {len(ascii_uppercase)} non-empty strings")
    lettered = dict(zip(ascii_uppercase, options, strict=False))
    if letter not in lettered:
        raise _wrong("answer_letter", f"is {letter!r}, not one of {', '.join(lettered)}")
    if lettered[letter] != row["answer"]:
        raise _wrong("answer", f"is {row['answer']!r}, but option {letter} is {lettered[letter]!r}")


def _wrong(name: str, problem: str) -> SemiHVError:
    return SemiHVError(f"Field {name} {problem}.", "See semihv_hf.data.benchmarks.question for what a row must hold.")
