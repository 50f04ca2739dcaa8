"""The two row types: a [`Case`] is what a source gave, a [`Record`] is what a model is trained on.

Rows are plain dictionaries once they are written; these classes name the fields, and `validate_case` and
`validate_record` say which field of a row is wrong.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import SemiHVError

if TYPE_CHECKING:
    from datasets import Features

SPLITS = ("train", "validation", "test")
AUTHORS = ("human", "rule", "machine", "human_edit")
ROLES = ("system", "user", "assistant")
TASKS = ("caption", "vqa", "case")
ANSWER_TYPES = ("closed", "open")


@dataclass
class Fact:
    """Something that a file itself says about an image.

    Args:
        name (`str`): what is stated, for example `"modality"` or `"plane"`.
        value (`str`): the statement, in lower-case plain words where the field has no own spelling.
        source (`str`): where the file says it, for example `"DICOM (0008,0060) Modality"`.
    """

    name: str
    value: str
    source: str


@dataclass
class Text:
    """A text that came with the images, or was written for them.

    Args:
        role (`str`): what it is, for example `"report"`, `"question"` or `"discussion"`.
        text (`str`): the text.
        author (`str`): `"human"`, `"rule"`, `"machine"` or `"human_edit"`.
    """

    role: str
    text: str
    author: str


@dataclass
class Case:
    """What a source gave: images, facts and texts, with where they came from.

    Args:
        id (`str`): see [`case_id`].
        source (`str`): the release, for example `"pydicom"`.
        source_id (`str`): the place inside that release, for example a path and a slice.
        group (`str`): the patient, volume or film that a split must respect.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        licence (`str`): the licence that the source states.
        images (`list[bytes]`): encoded images, PNG or JPEG.
        facts (`list[Fact]`): what the files say.
        texts (`list[Text]`): what people or programs wrote.
    """

    id: str
    source: str
    source_id: str
    group: str
    split: str
    licence: str
    images: list[bytes]
    facts: list[Fact] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The case as a row for Parquet, with images in the form that `datasets` decodes."""
        row = asdict(self)
        row["images"] = [{"bytes": data, "path": None} for data in self.images]
        return row

    def fact(self, name: str) -> Fact | None:
        """The fact of that name, or `None` when the files do not state it."""
        return next((fact for fact in self.facts if fact.name == name), None)


@dataclass
class Question:
    """What is known about one user turn of a record.

    Args:
        turn (`int`): the index of the user message.
        template (`str`): the name of the template that asked it.
        answer_type (`str`): `"closed"` when the question itself names its possible answers, else `"open"`.
        options (`list[str]`): the possible answers of a closed question.
        fact (`str`): the name of the fact that decides the answer.
        fact_source (`str`): where that fact comes from.
    """

    turn: int
    template: str
    answer_type: str
    options: list[str]
    fact: str
    fact_source: str


@dataclass
class Provenance:
    """Who wrote one field of a record.

    Args:
        field (`str`): the field, for example `"messages[1]"`.
        author (`str`): `"human"`, `"rule"`, `"machine"` or `"human_edit"`.
        model (`str`, *optional*, defaults to `""`): the model that wrote it.
        prompt_version (`str`, *optional*, defaults to `""`): the prompt or rule, with its version.
        evidence (`list[str]`, *optional*): what was retrieved, or the facts that were used.
    """

    field: str
    author: str
    model: str = ""
    prompt_version: str = ""
    evidence: list[str] = field(default_factory=list)


@dataclass
class Record:
    """What a model is trained on: one conversation about one case.

    Args:
        id (`str`): see [`content_id`].
        case_id (`str`): the case that the images come from.
        source (`str`): the release.
        source_id (`str`): the place inside that release.
        licence (`str`): the licence that the source states.
        images (`list[bytes]`): encoded images; they stand at the start of the first user turn.
        messages (`list[dict[str, str]]`): `role` and `content`, plain text without image markers.
        task (`str`): `"caption"`, `"vqa"` or `"case"`.
        modality (`str`): the modality fact, for tables by modality.
        facts (`list[Fact]`): the facts of the case.
        questions (`list[Question]`): one entry per question that is asked.
        provenance (`list[Provenance]`): who wrote which message.
    """

    id: str
    case_id: str
    source: str
    source_id: str
    licence: str
    images: list[bytes]
    messages: list[dict[str, str]]
    task: str
    modality: str
    facts: list[Fact] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    provenance: list[Provenance] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The record as a row for Parquet, with images in the form that `datasets` decodes."""
        row = asdict(self)
        row["images"] = [{"bytes": data, "path": None} for data in self.images]
        return row


def content_id(*parts: str | bytes) -> str:
    """A name that depends on content only.

    Args:
        parts (`str` or `bytes`): what the name stands for; their lengths are part of the digest.

    Returns:
        `str`: the first 32 hex digits of a sha256.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]


def case_id(source: str, source_id: str, images: Sequence[bytes]) -> str:
    """The identity of a case.

    Args:
        source (`str`): the release.
        source_id (`str`): the place inside that release.
        images (`Sequence[bytes]`): the encoded images.

    Returns:
        `str`: 32 hex digits.
    """
    return content_id(source, source_id, *images)


def case_features() -> "Features":
    """The columns of a file of cases.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            **dict.fromkeys(("id", "source", "source_id", "group", "split", "licence"), text),
            "images": List(Image()),
            "facts": List({"name": text, "value": text, "source": text}),
            "texts": List({"role": text, "text": text, "author": text}),
        }
    )


def record_features() -> "Features":
    """The columns of a file of records.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            **dict.fromkeys(("id", "case_id", "source", "source_id", "licence"), text),
            "images": List(Image()),
            "messages": List({"role": text, "content": text}),
            "task": text,
            "modality": text,
            "facts": List({"name": text, "value": text, "source": text}),
            "questions": List(
                {
                    "turn": Value("int32"),
                    "template": text,
                    "answer_type": text,
                    "options": List(text),
                    "fact": text,
                    "fact_source": text,
                }
            ),
            "provenance": List(
                {"field": text, "author": text, "model": text, "prompt_version": text, "evidence": List(text)}
            ),
        }
    )


def validate_case(row: Mapping[str, Any]) -> None:
    """Checks one case.

    Args:
        row (`Mapping[str, Any]`): a row as [`Case.row`] gives it, or as `datasets` reads it.

    Raises:
        `SemiHVError`: a field is missing or wrong; the message names it.
    """
    for name in ("id", "source", "source_id", "group", "licence"):
        _need_text(row, name)
    _need_one_of(row, "split", SPLITS)
    _need_images(row)
    _need_facts(row)
    for index, text in enumerate(_need_list(row, "texts")):
        _need_text(text, "role", f"texts[{index}].")
        _need_text(text, "text", f"texts[{index}].")
        _need_one_of(text, "author", AUTHORS, f"texts[{index}].")


def validate_record(row: Mapping[str, Any]) -> None:
    """Checks one record.

    Args:
        row (`Mapping[str, Any]`): a row as [`Record.row`] gives it, or as `datasets` reads it.

    Raises:
        `SemiHVError`: a field is missing or wrong; the message names it.
    """
    for name in ("id", "case_id", "source", "source_id", "licence", "modality"):
        _need_text(row, name)
    _need_one_of(row, "task", TASKS)
    _need_images(row)
    _need_facts(row)
    messages = _need_list(row, "messages")
    if not messages:
        raise _wrong("messages", "is empty")
    for index, message in enumerate(messages):
        _need_one_of(message, "role", ROLES, f"messages[{index}].")
        _need_text(message, "content", f"messages[{index}].")
    if messages[-1]["role"] != "assistant":
        raise _wrong(f"messages[{len(messages) - 1}].role", "is not 'assistant': a record ends with an answer")
    for index, question in enumerate(_need_list(row, "questions")):
        _check_question(question, messages, f"questions[{index}].")
    for index, entry in enumerate(_need_list(row, "provenance")):
        _need_text(entry, "field", f"provenance[{index}].")
        _need_one_of(entry, "author", AUTHORS, f"provenance[{index}].")


def _check_question(question: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], where: str) -> None:
    for name in ("template", "fact", "fact_source"):
        _need_text(question, name, where)
    _need_one_of(question, "answer_type", ANSWER_TYPES, where)
    turn = question.get("turn")
    if not isinstance(turn, int) or not 0 <= turn < len(messages) - 1 or messages[turn]["role"] != "user":
        raise _wrong(f"{where}turn", f"is {turn!r}, which is not the index of a user message")
    options = _need_list(question, "options", where)
    if question["answer_type"] == "open" and options:
        raise _wrong(f"{where}options", "must be empty for an open question")
    if question["answer_type"] == "closed" and len(set(options)) < 2:
        raise _wrong(f"{where}options", "needs at least two different options for a closed question")


def _wrong(name: str, problem: str) -> SemiHVError:
    return SemiHVError(f"Field {name} {problem}.", "See semihv_hf.data.schema for what a row must hold.")


def _need_text(row: Mapping[str, Any], name: str, where: str = "") -> None:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where + name, "is missing" if value is None else f"is {value!r}, not a non-empty string")


def _need_one_of(row: Mapping[str, Any], name: str, allowed: Sequence[str], where: str = "") -> None:
    value = row.get(name)
    if value not in allowed:
        raise _wrong(where + name, f"is {value!r}, not one of {', '.join(allowed)}")


def _need_list(row: Mapping[str, Any], name: str, where: str = "") -> list:
    value = row.get(name)
    if not isinstance(value, list):
        raise _wrong(where + name, "is missing" if value is None else f"is {value!r}, not a list")
    return value


def _need_images(row: Mapping[str, Any]) -> None:
    images = _need_list(row, "images")
    if not images:
        raise _wrong("images", "is empty")
    for index, image in enumerate(images):
        if isinstance(image, Mapping) and not image.get("bytes"):
            raise _wrong(f"images[{index}]", "has no bytes")


def _need_facts(row: Mapping[str, Any]) -> None:
    for index, fact in enumerate(_need_list(row, "facts")):
        for name in ("name", "value", "source"):
            _need_text(fact, name, f"facts[{index}].")
