"""The two row types: a [`Case`] is what a source gave, a [`Record`] is what a model is trained on.

Rows are plain dictionaries once they are written; these classes name the fields. Their column types are in
`features.py`, the checks that name a wrong field in `checks.py`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SPLITS = ("train", "validation", "test")
# Who wrote a text: a person, a rule of this package, a model, or a person who changed what a model wrote.
ANNOTATIONS = ("human", "rule", "machine", "human_edit")
ROLES = ("system", "user", "assistant")
# caption: one image or figure and its description; report: findings of a study; vqa: questions and answers;
# multiple_choice: a question whose options are named; conversation: a dialogue that fits none of these;
# case: a clinical case with its discussion.
TASKS = ("caption", "report", "vqa", "multiple_choice", "conversation", "case")
ANSWER_TYPES = ("closed", "open")
LABELS = ("topic", "modality", "body_part")
DECIDED_BY = ("rule", "model")
_JOINED_BYTES = 1 << 14


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
        role (`str`): what it is, for example `"report"`, `"caption"` or `"discussion"`.
        text (`str`): the text.
        annotation (`str`): who wrote it, one of `ANNOTATIONS`.
        language (`str`, *optional*, defaults to `"en"`): its ISO 639-1 code.
        image (`int`, *optional*): the index of the image that it is about; `None` when it is about the case.
    """

    role: str
    text: str
    annotation: str
    language: str = "en"
    image: int | None = None


@dataclass
class Region:
    """A marked box in an image.

    Args:
        image (`int`): the index of the image.
        label (`str`): what is marked.
        box (`list[float]`): left, top, right, bottom in pixels of the stored image, counted from 0; right and bottom
            are exclusive.
        source (`str`): where the release states it.
    """

    image: int
    label: str
    box: list[float]
    source: str


@dataclass
class Label:
    """What a case was classified as; a judgement, while a [`Fact`] is what a file states.

    Args:
        name (`str`): one of `LABELS`.
        value (`str`): the class, one of `semihv_hf.curation.vocabulary`; for a topic free words.
        decided_by (`str`): one of `DECIDED_BY`.
        source (`str`): the fact or rule that decided, or the prompt with its version.
        model (`str`, *optional*, defaults to `""`): the model that the server says it is.
        agreement (`float`, *optional*): the share of the repeated answers that gave this value, 0 to 1; `None` when it
            was asked once, or not at all.
    """

    name: str
    value: str
    decided_by: str
    source: str
    model: str = ""
    agreement: float | None = None


@dataclass
class Evidence:
    """A text that was retrieved for a record.

    Args:
        corpus (`str`): the corpus in the index, for example `"guidelines"` or `"cases"`.
        id (`str`): the entry of the corpus.
        source (`str`): its name in the licence registry; the gates are asked about it as about the record's own.
        licence (`str`): the licence that its source states.
        title (`str`): its name for people.
        score (`float`): what the retriever ranked it by; higher is nearer.
        text (`str`): the text that was used.
        begin (`int`): where that text begins in the document, in characters.
        end (`int`): where it ends, exclusive.
    """

    corpus: str
    id: str
    source: str
    licence: str
    title: str
    score: float
    text: str
    begin: int
    end: int


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
        regions (`list[Region]`): what is marked in the images.
        labels (`list[Label]`): what the case was classified as; empty until it is.
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
    regions: list[Region] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The case as a row for Parquet, with images in the form that `datasets` decodes."""
        row = asdict(self)
        row["images"] = [{"bytes": data, "path": None} for data in self.images]
        return row

    def fact(self, name: str) -> Fact | None:
        """The fact of that name, or `None` when the files do not state it."""
        return next((fact for fact in self.facts if fact.name == name), None)

    def text(self, role: str) -> Text | None:
        """The first text of that role, or `None`."""
        return next((text for text in self.texts if text.role == role), None)

    def label(self, name: str) -> Label | None:
        """The label of that name, or `None` when the case was not classified by it."""
        return next((label for label in self.labels if label.name == name), None)


@dataclass
class QuestionTurn:
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
    """How one field of a record was made.

    Args:
        field (`str`): the field, for example `"messages[1]"`.
        model (`str`, *optional*, defaults to `""`): the model that wrote it.
        prompt_version (`str`, *optional*, defaults to `""`): the prompt or rule, with its version.
        evidence (`list[str]`, *optional*): what was retrieved, or the facts that were used.
    """

    field: str
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
        images (`list[bytes]`): encoded images, in the order of the image parts of the messages.
        messages (`list[dict]`): the conversation, see [`semihv_hf.data.messages.message`]; TRL's vision trainer takes
            it as it is.
        annotation (`list[str]`): who wrote each message, one of `ANNOTATIONS` each.
        task (`str`): one of `TASKS`.
        modality (`str`): the modality fact, for tables by modality.
        facts (`list[Fact]`): the facts of the case.
        questions (`list[QuestionTurn]`): one entry per question that is asked.
        provenance (`list[Provenance]`): how messages were made, where there is more to say than who wrote them.
        evidence (`list[Evidence]`): what was retrieved for it and given to the model that wrote it.
    """

    id: str
    case_id: str
    source: str
    source_id: str
    licence: str
    images: list[bytes]
    messages: list[dict[str, Any]]
    annotation: list[str]
    task: str
    modality: str
    facts: list[Fact] = field(default_factory=list)
    questions: list[QuestionTurn] = field(default_factory=list)
    provenance: list[Provenance] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

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
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    if sum(map(len, encoded)) < _JOINED_BYTES:  # one call on a copy takes less than two calls a part
        joined = b"".join(piece for data in encoded for piece in (len(data).to_bytes(8, "big"), data))
        return hashlib.sha256(joined).hexdigest()[:32]
    digest = hashlib.sha256()
    for data in encoded:
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
