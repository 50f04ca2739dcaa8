"""From a reply to training records: what passes the filters, in the form that trainers take, with who wrote what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from semihv_hf.curation.fencing import inert
from semihv_hf.curation.generation import schemas
from semihv_hf.curation.generation.filters import Filter, Known, Rejected
from semihv_hf.curation.generation.headings import as_reply
from semihv_hf.curation.generation.material import modality_of_case, title_of
from semihv_hf.curation.generation.requests import SIMILAR_CASES, Shown, shown_material
from semihv_hf.curation.generation.scenarios import (
    ASK_REPORT,
    ONE_IMAGE,
    SEVERAL_IMAGES,
    WORDING_VERSION,
    scenario_of,
)
from semihv_hf.curation.generation.tasks import TASKS, pair_range
from semihv_hf.data.messages import message, message_text
from semihv_hf.data.schema import Case, Evidence, Provenance, QuestionTurn, Record, content_id
from semihv_hf.errors import SemiHVError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from semihv_hf.curation.generation.options import GenerationOptions
    from semihv_hf.llm.types import ChatResult

_YES_NO_QUESTION = ("is", "are", "was", "were", "does", "do", "did", "has", "have", "can", "could", "will", "should")


def records_from_reply(
    task: str,
    case: Case,
    evidence: Sequence[Evidence],
    result: ChatResult,
    options: GenerationOptions,
) -> tuple[list[Record], list[Rejected]]:
    """Makes the records of a reply.

    Args:
        task (`str`): the task.
        case ([`Case`]): the case.
        evidence (`Sequence[Evidence]`): what was given to [`generation_request`].
        result ([`ChatResult`]): what came back, with an answer.
        options ([`GenerationOptions`]): the options of the request.

    Returns:
        `tuple[list[Record], list[Rejected]]`: what is kept, and each text that is not with its rule. Both depend on
        the arguments only. Each record passes [`semihv_hf.data.checks.validate_record`].

    Raises:
        `SemiHVError`: there is no such task, or the result is a failure, which is no reply.
    """
    if task not in TASKS:
        raise SemiHVError(f"There is no generation task {task!r}.", f"Known are {', '.join(TASKS)}.")
    if result.failure is not None:
        raise SemiHVError(
            f"The request {result.id} has no reply: {result.failure.kind}.", "Keep the failure as the row's."
        )
    schema = TASKS[task].schema
    reply = result.parsed
    if not isinstance(reply, schema):
        try:
            reply = as_reply(result.text or "", schema)
        except ValueError as error:
            detail = inert(str(error)).partition("\n")[0][:200]
            return [], [Rejected("unreadable", detail, "reply", inert(result.text or "")[:2000])]
    made = _Making(task, case, shown_material(task, case, evidence, options), result.model or "", options)
    return made.records(reply), made.rejected


@dataclass
class _Turn:
    """A question with its answer, who asked it with which version of what, and what a record keeps about it."""

    question: str
    answer: str
    asked_by: str
    question_version: str = ""
    kept: QuestionTurn | None = None


@dataclass
class _Making:
    task: str
    case: Case
    shown: Shown
    model: str
    options: GenerationOptions
    rejected: list[Rejected] = field(default_factory=list)

    def __post_init__(self):
        self.version = self.options.prompts.version(self.task)
        self.filter = Filter(self._known(), self.options.limits)

    def records(self, reply: BaseModel) -> list[Record]:
        if isinstance(reply, schemas.ReformattedCaptions):
            return self._captions(reply)
        if isinstance(reply, schemas.DescribedDialogue):
            return self._dialogue(reply)
        if isinstance(reply, schemas.Conversation):
            return self._record("conversation", self._asked(reply.turns, "turns"))
        first, task = [], "vqa"
        if isinstance(reply, schemas.Report | schemas.ReportAndPairs):
            first, task = self._first(reply.report, "report", ASK_REPORT), "report"
        elif isinstance(reply, schemas.DescriptionAndPairs):
            first, task = self._first(reply.description, "description", self._requests()), "caption"
        pairs = [] if isinstance(reply, schemas.Report) else self._asked(reply.pairs, "pairs")
        return self._record(task if first else "vqa", first + pairs)

    def _captions(self, reply: schemas.ReformattedCaptions) -> list[Record]:
        records, seen = [], set()
        for place, entry in enumerate(reply.images):
            where = f"images[{place}]"
            if entry.image > len(self.shown.images) or entry.image in seen:
                detail = f"image {entry.image} of {len(self.shown.images)}"
                self.rejected.append(Rejected("wrong_image", detail, where, inert(entry.description)))
                continue
            seen.add(entry.image)
            index = self.shown.images[entry.image - 1]
            one = _Making(self.task, self.case, self._about(index), self.model, self.options, self.rejected)
            turns = one._first(entry.description, "description", ONE_IMAGE, where, str(index))
            records += one._record("caption", turns)
        return records

    def _about(self, index: int) -> Shown:
        """What is known about one image: a description may not take its finding from another image's caption."""
        texts = tuple(text for text in self.shown.texts if text.image in (index, None))
        return Shown((index,), texts, self.shown.facts, self.shown.title)

    def _dialogue(self, reply: schemas.DescribedDialogue) -> list[Record]:
        """The description trains alignment, the exchange trains instruction: two records, as in PubMedVision."""
        records = self._record("caption", self._first(reply.description, "description", self._requests()))
        plain = scenario_of(self.case.id, self.options.seed).name == "question_answer"
        pair = schemas.Pair(question=reply.question, answer=reply.answer)
        return records + self._record("vqa" if plain else "conversation", self._asked([pair], "dialogue"))

    def _requests(self) -> tuple[str, ...]:
        return ONE_IMAGE if len(self.shown.images) == 1 else SEVERAL_IMAGES

    def _first(
        self, text: str, kind: str, wordings: Sequence[str], place: str = "", drawn_by: str = ""
    ) -> list[_Turn]:
        """The report or description, asked for in one of several wordings that the case's id draws."""
        text = inert(text)
        if (found := self.filter.text(text, kind, place or kind)) is not None:
            self.rejected.append(found)
            return []
        number = int(content_id("wording", str(self.options.seed), self.task, self.case.id, drawn_by), 16)
        return [_Turn(wordings[number % len(wordings)], text, "rule", WORDING_VERSION)]

    def _asked(self, pairs: Sequence[schemas.Pair], name: str) -> list[_Turn]:
        turns, broken = [], ""
        most = pair_range(self.task, self.case, self.options)[1]
        if not pairs:
            self.rejected.append(Rejected("no_pairs", "the reply has no question", name))
        for place, pair in enumerate(pairs):
            question, answer, where = inert(pair.question), inert(pair.answer), f"{name}[{place}]"
            if len(turns) == most:
                self.rejected.append(Rejected("surplus", f"{most} are kept", where, f"{question}\n{answer}"))
                continue
            if broken:
                self.rejected.append(
                    Rejected("after_rejected", f"{broken} was left out", where, f"{question}\n{answer}")
                )
                continue
            if (found := self.filter.pair(question, answer, where)) is not None:
                self.rejected.append(found)
                # The turns of a conversation build on each other; the questions of a list do not.
                broken = where if self.task == "conversation" else ""
                continue
            turns.append(_Turn(question, answer, "machine", self.version, self._question(question, answer)))
        return turns

    def _question(self, question: str, answer: str) -> QuestionTurn:
        """Closed is what asks for yes or no and is answered so; which other options a model had in mind is unknown."""
        first = question.split(maxsplit=1)[0].lower()
        told = answer.split(maxsplit=1)[0].strip(".,;:!").lower()
        closed = first in _YES_NO_QUESTION and told in ("yes", "no") and " or " not in question.lower()
        if self.shown.texts:
            roles = dict.fromkeys(text.role for text in self.shown.texts)
            fact, source = "source text", f"{', '.join(roles)} of {self.case.source} {self.case.source_id}"
        else:
            fact, source = "image", f"what {self.model or 'the model'} saw"
        kind, choices = ("closed", ["yes", "no"]) if closed else ("open", [])
        return QuestionTurn(0, self.version, kind, choices, fact, source)

    def _record(self, task: str, turns: Sequence[_Turn]) -> list[Record]:
        if not turns:
            return []
        case, messages, annotation, questions, wrote = self.case, [], [], [], []
        # All images stand in the first turn, before its text, as TRL's vision trainer takes them.
        for place, turn in enumerate(turns):
            messages.append(message("user", turn.question, len(self.shown.images) if place == 0 else 0))
            messages.append(message("assistant", turn.answer))
            annotation += [turn.asked_by, "machine"]
            if turn.kept is not None:
                turn.kept.turn = 2 * place
                questions.append(turn.kept)
            by_rule = turn.asked_by == "rule"
            wrote.append(
                Provenance(f"messages[{2 * place}]", prompt_version=turn.question_version)
                if by_rule
                else Provenance(f"messages[{2 * place}]", self.model, self.version, self._sources())
            )
            wrote.append(Provenance(f"messages[{2 * place + 1}]", self.model, self.version, self._sources()))
        images = [case.images[index] for index in self.shown.images]
        texts = [f"{item['role']}\n{message_text(item)}" for item in messages]
        return [
            Record(
                # The images that are shown are told by their places: the case's id is made of all its images.
                id=content_id(case.id, self.task, task, self.version, *texts, *map(str, self.shown.images)),
                case_id=case.id,
                source=case.source,
                source_id=case.source_id,
                licence=case.licence,
                images=images,
                messages=messages,
                annotation=annotation,
                task=task,
                modality=modality_of_case(case),
                facts=list(case.facts),
                questions=questions,
                provenance=wrote,
                evidence=list(self.shown.evidence),
            )
        ]

    def _sources(self) -> list[str]:
        """What the model had before it: texts with who wrote them, facts, evidence and examples by their ids."""
        case = self.case
        found = [
            f"{title_of(text).lower()} of {case.source} {case.source_id}, written by {text.annotation}"
            for text in self.shown.texts
        ]
        found += [f"fact {line}" for line in self.shown.facts]
        found += [f"{item.corpus}: {item.id}" for item in self.shown.evidence]
        found += [f"demonstration: {item.id}" for item in self.shown.demonstrations]
        if self.task == "unblinded":
            found.append(f"scenario: {scenario_of(case.id, self.options.seed).name}")
        return found

    def _known(self) -> Known:
        shown, language = self.shown, self.options.language
        title = (shown.title,) if shown.title else ()
        examples: list[Any] = [f"{item.context}\n{item.conversation()}" for item in shown.demonstrations]
        return Known(
            texts=tuple(text.text for text in shown.texts) + title,
            facts=shown.facts,
            evidence=tuple(item.text for item in shown.evidence) + tuple(examples),
            guidelines=tuple(item.text for item in shown.evidence if item.corpus != SIMILAR_CASES),
            language=language,
            closed=self.task == "caption_reformat",
            foreign=any(text.language != language for text in shown.texts),
        )
