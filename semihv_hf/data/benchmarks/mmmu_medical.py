"""MMMU Health & Medicine: college questions of five subjects, with one to seven images (Yue et al., 2024)."""

import ast
import re
from collections.abc import Iterator
from string import ascii_uppercase
from typing import Any

from ..schema import Fact
from ..sources.base import Skipped
from .base import Benchmark, Expected, Filtered, read_images, stated_facts
from .question import Question, question_id
from .snapshot import parquet_rows

SUBJECTS = (
    "Basic_Medical_Science",
    "Clinical_Medicine",
    "Diagnostics_and_Laboratory_Medicine",
    "Pharmacy",
    "Public_Health",
)
_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
_TAG = re.compile(r"<image (\d)>")
_SPLITS = {"train": "dev", "validation": "validation", "test": "test"}
_FACTS = {"subfield": "subfield", "topic_difficulty": "topic_difficulty", "img_type": "image_type"}


class MmmuMedical(Benchmark):
    """The discipline Health & Medicine of `MMMU/MMMU`: five configs of 30 validation questions each.

    The validation split is what is usually reported, as the answers of the test split are not public (its rows are
    skipped for that reason). MMMU's five `dev` examples of a subject are the split `"train"` here. Subset `"all"`, or
    the name of one config.

    Open questions are left out and counted unless `open_questions` is set, as in HuatuoGPT-Vision. A text names its
    images as `<image 1>`, in the question and in options; an image that no text names is kept as well. Each question
    is its own group.

    Args:
        open_questions (`bool`, *optional*, defaults to `False`): whether open questions are questions here.
        source, split, subset, revision, streaming: see [`Benchmark`].
    """

    name = "mmmu_medical"
    title = "MMMU Health & Medicine"
    hub_id = "MMMU/MMMU"
    splits = ("train", "validation", "test")
    default_split = "validation"
    subsets = ("all", *SUBJECTS)
    optional_rules = ("open question",)
    expected = {("validation", "all"): Expected(150), **{("validation", name): Expected(30) for name in SUBJECTS}}

    def __init__(self, source=None, *, open_questions: bool = False, **options: Any):
        super().__init__(source, **options)
        self.open_questions = open_questions

    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """See [`Benchmark.rows`]."""
        for subject in SUBJECTS if self.subset == "all" else (self.subset,):
            rows = parquet_rows(
                self.source,
                _SPLITS[self.split],
                config=subject,
                image_columns=_IMAGES,
                revision=self.revision,
                streaming=self.streaming,
            )
            for index, row in enumerate(rows):
                yield self._question(row, row.get("id") or f"{_SPLITS[self.split]}_{subject}_row_{index}", subject)

    def _question(self, row: dict[str, Any], source_id: str, subject: str) -> Question | Skipped | Filtered:
        kind = row.get("question_type")
        if kind not in ("multiple-choice", "open"):
            return Skipped(source_id, "unknown label", f"question_type {kind!r}")
        if kind == "open" and not self.open_questions:
            return Filtered(source_id, "open question")
        options = _listed(row.get("options"))
        if options is None:
            return Skipped(source_id, "malformed row", f"options {row.get('options')!r} are no list")
        form = _open_form(row) if kind == "open" else _choice_form(row, options)
        if isinstance(form, str):
            return Skipped(source_id, "missing text" if form.startswith("the answer") else "unknown label", form)
        shown = _shown_images(row, [row.get("question") or "", *form["options"]])
        images = read_images([(row.get(column) or {}).get("bytes") for column in shown], source_id)
        if isinstance(images, Skipped):
            return images
        # Images are counted without gaps, so that <image 2> is the second of the row in any case.
        place = {column.rpartition("_")[2]: str(index + 1) for index, column in enumerate(shown)}

        def renumber(text: str) -> str:
            return _TAG.sub(lambda tag: f"<image {place[tag[1]]}>", text).strip()

        question = renumber(row.get("question") or "")
        if not question:
            return Skipped(source_id, "missing text", "the row has no question")
        alternatives = form.pop("alternatives", [])
        form.update(answer=renumber(form["answer"]), options=[renumber(option) for option in form["options"]])
        return Question(
            id=question_id(self.name, self.split, source_id, question, images),
            benchmark=self.name,
            source_id=source_id,
            group=source_id,
            split=self.split,
            licence=self.licence,
            images=images,
            question=question,
            **form,
            category=subject,
            facts=[
                *stated_facts(row, _FACTS),
                *(Fact("also_accepted", text, "column answer") for text in alternatives),
            ],
        )


def _listed(value: Any) -> list[str] | None:
    """A list that the file holds as its Python text, such as `"['a', 'b']"`."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return None
    if not isinstance(value, (list, tuple)):
        return None
    return [str(entry).strip() for entry in value]


def _choice_form(row: dict[str, Any], options: list[str]) -> dict[str, Any] | str:
    """The answer fields of a multiple-choice row, or what is wrong with them."""
    letter = str(row.get("answer") or "").strip()
    if letter in ("", "?"):
        return "the answer is not public"
    if len(options) < 2 or not all(options) or letter not in ascii_uppercase[: len(options)]:
        return f"answer {letter!r} is none of {len(options)} options"
    answer = options[ascii_uppercase.index(letter)]
    return {"answer": answer, "answer_type": "closed", "options": options, "answer_letter": letter}


def _open_form(row: dict[str, Any]) -> dict[str, Any] | str:
    text = str(row.get("answer") or "").strip()
    if text in ("", "?"):
        return "the answer is not public"
    accepted = [entry for entry in (_listed(text) if text.startswith("[") else None) or [text] if entry]
    if not accepted:
        return "the answer is empty"
    return {
        "answer": accepted[0], "answer_type": "open", "options": [], "answer_letter": "", "alternatives": accepted[1:],
    }  # fmt: skip


def _shown_images(row: dict[str, Any], texts: list[str]) -> list[str]:
    """The columns of the images that the texts name or that the row holds, in the order of their numbers."""
    named = {f"image_{number}" for text in texts for number in _TAG.findall(text)}
    return [column for column in _IMAGES if column in named or row.get(column)]
