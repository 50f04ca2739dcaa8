"""VQA-RAD: questions that clinicians asked about radiology images of MedPix (Lau et al., 2018)."""

from collections.abc import Iterator

from ..schema import content_id
from ..sources.base import Skipped
from .base import Benchmark, Expected, Filtered, answer_form, read_images, subset_filter
from .question import Question, question_id
from .snapshot import parquet_rows


class ImageQuestionAnswer(Benchmark):
    """A repository of Parquet files with the columns image, question and answer, and nothing else.

    The answer type is not stated. As is usual, a question is closed when its answer is yes or no. Questions about the
    same image bytes form a group.
    """

    subsets = ("all", "closed", "open")

    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """See [`Benchmark.rows`]."""
        rows = parquet_rows(
            self.source,
            self.split,
            config=None,
            image_columns=("image",),
            revision=self.revision,
            streaming=self.streaming,
        )
        for index, row in enumerate(rows):
            yield self._question(row, f"{self.split}/{index}")

    def _question(self, row: dict, source_id: str) -> Question | Skipped | Filtered:
        if not (row.get("question") or "").strip() or not (row.get("answer") or "").strip():
            return Skipped(source_id, "missing text", "the row has no question or no answer")
        form = answer_form(row["answer"])
        rule = subset_filter(self.subset, form["answer_type"])
        if rule:
            return Filtered(source_id, rule)
        stored = (row.get("image") or {}).get("bytes")
        images = read_images([stored], source_id)
        if isinstance(images, Skipped):
            return images
        question = row["question"].strip()
        return Question(
            id=question_id(self.name, self.split, source_id, question, images),
            benchmark=self.name,
            source_id=source_id,
            group=content_id("image", stored),
            split=self.split,
            licence=self.licence,
            images=images,
            question=question,
            **form,
        )


class VqaRad(ImageQuestionAnswer):
    """VQA-RAD as `flaviagiammarino/vqa-rad`: 1,793 training and 451 test questions on 314 images.

    The rule "closed is yes or no" gives 251 closed and 200 open test questions, the division that MedEvalKit uses.
    LLaVA-Med reports 272 and 179: its files keep the answer type that VQA-RAD itself states, which also calls
    questions closed that name other choices. The two closed accuracies are not of the same questions. Training and
    test questions share images.
    """

    name = "vqa_rad"
    title = "VQA-RAD"
    hub_id = "flaviagiammarino/vqa-rad"
    splits = ("train", "test")
    expected = {
        ("test", "all"): Expected(451, closed=251),
        ("test", "closed"): Expected(251),
        ("test", "open"): Expected(200),
        ("train", "all"): Expected(1793),
    }
