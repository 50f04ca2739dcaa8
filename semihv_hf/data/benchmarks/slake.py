"""SLAKE: bilingual questions about CT, MRI and X-ray images, with their types (Liu et al., 2021)."""

from collections.abc import Iterator
from typing import Any

from ..sources.base import Skipped
from ..sources.modality_words import modality_of
from ..sources.reading import read_picture
from ..tables import DiskTable, json_rows
from .base import Benchmark, Expected, Filtered, answer_form, stated_facts, subset_filter
from .question import UNKNOWN_MODALITY, Question, question_id
from .snapshot import Snapshot, open_snapshot

_LANGUAGES = {"en": "en", "zh": "zh"}
_FACTS = {
    "location": "body_part",
    "content_type": "content_type",
    "base_type": "base_type",
}


class Slake(Benchmark):
    """SLAKE as `BoKelvin/SLAKE`: `<split>.json` and `imgs.zip` (or the folder `imgs` unpacked from it).

    The literature uses the English questions, 1,061 in the test split (645 open, 416 closed), which is the subset
    `"all"` here. The answer type is the column answer_type. HuatuoGPT-Vision evaluates the English closed questions
    only, subset `"closed"`: a SLAKE number must name its subset. Subset `"zh"` holds the Chinese questions.

    A closed question has options where its answer is yes or no. Of the others ("Is this a CT or an MRI?") SLAKE does
    not list the choices, so they are closed without options. Questions about one image form a group.
    """

    name = "slake"
    title = "SLAKE"
    hub_id = "BoKelvin/SLAKE"
    splits = ("train", "validation", "test")
    subsets = ("all", "closed", "open", "zh")
    expected = {
        ("test", "all"): Expected(1061, closed=416),
        ("test", "closed"): Expected(416),
        ("test", "open"): Expected(645),
    }

    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """See [`Benchmark.rows`]."""
        snapshot = open_snapshot(self.source, ("*.json", "imgs.zip"), self.revision)
        # The site's own archive names the file validate.json, the Hub renamed it.
        table = f"{self.split}.json" + (" | validate.json" if self.split == "validation" else "")
        snapshot.require(self.title, ((table, f"split {self.split}"), ("imgs.zip | imgs", "images")))
        name = next(filter(None, map(snapshot.first, table.split(" | "))))
        with DiskTable() as seen:
            for index, row in enumerate(json_rows(snapshot, name)):
                yield self._question(snapshot, row, f"{self.split}/{row.get('qid', f'row {index}')}", seen)

    def _question(
        self, snapshot: Snapshot, row: dict[str, Any], source_id: str, seen: DiskTable
    ) -> Question | Skipped | Filtered:
        if not seen.add(source_id):
            return Skipped(source_id, "duplicate row", "the qid was there before")
        language = _LANGUAGES.get(row.get("q_lang") or "")
        if language is None:
            return Skipped(source_id, "unknown label", f"q_lang {row.get('q_lang')!r}")
        if language != ("zh" if self.subset == "zh" else "en"):
            return Filtered(source_id, f"language {language}")
        answer_type = (row.get("answer_type") or "").strip().lower()
        if answer_type not in ("open", "closed"):
            return Skipped(source_id, "unknown label", f"answer_type {row.get('answer_type')!r}")
        rule = subset_filter(self.subset, answer_type)
        if rule:
            return Filtered(source_id, rule)
        question, answer = (row.get("question") or "").strip(), (row.get("answer") or "").strip()
        if not question or not answer:
            return Skipped(source_id, "missing text", "the row has no question or no answer")
        picture = read_picture(snapshot, f"imgs/{row.get('img_name')}", source_id)
        if isinstance(picture, Skipped):
            return picture
        form = answer_form(answer)
        if answer_type == "open":  # "yes" as the answer to an open question stays a text to be compared
            form.update(answer=answer, options=[], answer_letter="")
        form["answer_type"] = answer_type
        return Question(
            id=question_id(self.name, self.split, source_id, question, [picture]),
            benchmark=self.name,
            source_id=source_id,
            group=str(row.get("img_id", row.get("img_name"))),
            split=self.split,
            licence=self.licence,
            images=[picture],
            question=question,
            **form,
            modality=modality_of(str(row.get("modality") or "")) or UNKNOWN_MODALITY,
            category=str(row.get("content_type") or "").strip(),
            language=language,
            facts=stated_facts(row, _FACTS),
        )
