"""PMC-VQA: four-option questions that a model wrote from figure captions of PubMed Central (Zhang et al., 2023)."""

import re
from collections.abc import Iterator
from typing import Any

from ...errors import SemiHVError
from ..release import Release
from ..sources.base import Skipped
from ..sources.choices import split_letter
from ..sources.places import first_place
from ..sources.reading import read_picture
from ..tables import csv_rows
from .base import Benchmark, Expected, Filtered, stated_facts
from .question import Question, question_id
from .snapshot import open_snapshot

_LETTERS = "ABCD"
# (table, archive, folder inside it or unpacked from it) of each split and subset
_FILES = {
    ("test", "clean"): ("test_clean.csv", "images.zip", "images"),
    ("test", "v1"): ("test.csv", "images.zip", "images"),
    ("test", "v2"): ("test_2.csv", "images_2.zip", "figures"),
    ("train", "v1"): ("train.csv", "images.zip", "images"),
    ("train", "v2"): ("train_2.csv", "images_2.zip", "figures"),
}
_ARTICLE = re.compile(r"PMC\d+")


class PmcVqa(Benchmark):
    """PMC-VQA as `RadGenome/PMC-VQA` (formerly `xmcmic/PMC-VQA`).

    The test subset that is usually reported is `"clean"`, test_clean.csv: 2,000 questions of version 1 that people
    checked. Subset `"v1"` is the whole of test.csv, `"v2"` test_2.csv of version 2, whose images are single panels.
    Training questions exist for `"v1"` and `"v2"`, without a checked subset. The column Answer holds the answer's
    text in version 1 (once misspelt Anwser) and its letter in version 2; choices carry a letter ("A:…"), which is
    taken off. Questions on figures of one article form a group.
    """

    name = "pmc_vqa"
    title = "PMC-VQA"
    hub_id = "RadGenome/PMC-VQA"
    splits = ("train", "test")
    subsets = ("clean", "v1", "v2")
    default_subset = "clean"
    expected = {("test", "clean"): Expected(2000, closed=2000)}

    def __init__(self, source=None, *, split=None, subset=None, revision=None, streaming=True):
        if split == "train" and subset is None:
            subset = "v2"
        super().__init__(source, split=split, subset=subset, revision=revision, streaming=streaming)
        if (self.split, self.subset) not in _FILES:
            raise SemiHVError(f"{self.title} has no {self.subset} questions in split train.", "Take v1 or v2.")

    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """See [`Benchmark.rows`]."""
        table, archive, folder = _FILES[self.split, self.subset]
        snapshot = open_snapshot(self.source, (table, archive), self.revision)
        snapshot.require(self.title, ((table, f"subset {self.subset}"), (f"{archive} | {folder}", "images")))
        for index, row in enumerate(csv_rows(snapshot, table)):
            yield self._question(snapshot, folder, row, f"{table.removesuffix('.csv')}/{index}")

    def _question(self, release: Release, folder: str, row: dict[str, str], source_id: str) -> Question | Skipped:
        if "" in row:
            return Skipped(source_id, "malformed row", "more cells than columns")
        figure, question = row.get("Figure_path", "").strip(), row.get("Question", "").strip()
        options = [_choice(letter, row.get(f"Choice {letter}", "")) for letter in _LETTERS]
        if not figure or not question or not all(options):
            return Skipped(source_id, "malformed row", "figure, question or one of four choices is empty")
        letter = _answer_letter(row)
        if letter is None:
            return Skipped(
                source_id, "unknown label", f"Answer_label {row.get('Answer_label') or row.get('Answer')!r}"
            )
        picture = read_picture(release, first_place(release, figure, (folder, "")), source_id)
        if isinstance(picture, Skipped):
            return picture
        article = _ARTICLE.match(figure)
        return Question(
            id=question_id(self.name, self.split, source_id, question, [picture]),
            benchmark=self.name,
            source_id=source_id,
            group=article.group() if article else figure,
            split=self.split,
            licence=self.licence,
            images=[picture],
            question=question,
            answer=options[_LETTERS.index(letter)],
            answer_type="closed",
            options=options,
            answer_letter=letter,
            category=self.subset,
            facts=stated_facts(row, {"Figure_path": "figure", "Caption": "caption"}),
        )


def _choice(letter: str, text: str) -> str:
    """A choice without its letter, which occurs as " A:" and "A: "; another letter belongs to the text."""
    printed, choice = split_letter(text)
    return choice if printed in ("", letter) else text.strip()


def _answer_letter(row: dict[str, Any]) -> str | None:
    for column in ("Answer_label", "Anwser_label", "Answer", "Anwser"):
        value = (row.get(column) or "").strip().rstrip(".:")
        if value in tuple(_LETTERS):
            return value
        if value and column.endswith("_label"):
            return None
    return None
