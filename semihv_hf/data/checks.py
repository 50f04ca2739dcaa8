"""Checks of rows: which field of a case or a record is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SemiHVError
from .schema import ANNOTATIONS, ANSWER_TYPES, DECIDED_BY, LABELS, ROLES, SPLITS, TASKS


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
    # A case may be text alone (a challenge whose pictures are not at hand), but it is not nothing.
    _need_images(row, optional=bool(row.get("texts")))
    _need_facts(row)
    for index, text in enumerate(_need_list(row, "texts")):
        _need_text(text, "role", f"texts[{index}].")
        _need_text(text, "text", f"texts[{index}].")
        _need_one_of(text, "annotation", ANNOTATIONS, f"texts[{index}].")
        _need_image_index(text, row, f"texts[{index}].", optional=True)
    for index, region in enumerate(_need_list(row, "regions")):
        where = f"regions[{index}]."
        _need_text(region, "label", where)
        _need_text(region, "source", where)
        _need_image_index(region, row, where)
        box = _need_list(region, "box", where)
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise _wrong(f"{where}box", f"is {box!r}, not left < right and top < bottom")
    for index, label in enumerate(_need_list(row, "labels")):
        where = f"labels[{index}]."
        _need_one_of(label, "name", LABELS, where)
        _need_one_of(label, "decided_by", DECIDED_BY, where)
        for name in ("value", "source"):
            _need_text(label, name, where)
        agreement = label.get("agreement")
        if agreement is not None and not 0 <= agreement <= 1:
            raise _wrong(f"{where}agreement", f"is {agreement!r}, not a share from 0 to 1")


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
    _need_images(row, optional=True)
    _need_facts(row)
    messages = _need_list(row, "messages")
    if not messages:
        raise _wrong("messages", "is empty")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}].")
    shown = sum(part["type"] == "image" for message in messages for part in message["content"])
    if shown != len(row["images"]):
        raise _wrong("messages", f"show {shown} images, but the row has {len(row['images'])}")
    annotation = _need_list(row, "annotation")
    if len(annotation) != len(messages) or not set(annotation) <= set(ANNOTATIONS):
        raise _wrong("annotation", f"is {annotation!r}, not one of {', '.join(ANNOTATIONS)} for each message")
    if messages[-1]["role"] != "assistant":
        raise _wrong(f"messages[{len(messages) - 1}].role", "is not 'assistant': a record ends with an answer")
    for index, question in enumerate(_need_list(row, "questions")):
        _check_question(question, messages, f"questions[{index}].")
    for index, entry in enumerate(_need_list(row, "provenance")):
        _need_text(entry, "field", f"provenance[{index}].")
    for index, entry in enumerate(_need_list(row, "evidence")):
        where = f"evidence[{index}]."
        for name in ("corpus", "id", "source", "licence", "text"):
            _need_text(entry, name, where)
        if not 0 <= entry["begin"] < entry["end"]:
            raise _wrong(f"{where}end", f"is {entry['end']!r}, which is not behind begin {entry['begin']!r}")


def _check_message(message: Mapping[str, Any], where: str) -> None:
    _need_one_of(message, "role", ROLES, where)
    content = _need_list(message, "content", where)
    if not content:
        raise _wrong(f"{where}content", "is empty")
    for index, part in enumerate(content):
        _need_one_of(part, "type", ("image", "text"), f"{where}content[{index}].")
        if part["type"] == "text":
            _need_text(part, "text", f"{where}content[{index}].")
        elif part.get("text") is not None:
            raise _wrong(f"{where}content[{index}].text", "must be null in an image part")


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


def _need_images(row: Mapping[str, Any], *, optional: bool = False) -> None:
    images = _need_list(row, "images")
    if not images and not optional:
        raise _wrong("images", "is empty")
    for index, image in enumerate(images):
        if isinstance(image, Mapping) and not image.get("bytes"):
            raise _wrong(f"images[{index}]", "has no bytes")


def _need_facts(row: Mapping[str, Any]) -> None:
    for index, fact in enumerate(_need_list(row, "facts")):
        for name in ("name", "value", "source"):
            _need_text(fact, name, f"facts[{index}].")


def _need_image_index(item: Mapping[str, Any], row: Mapping[str, Any], where: str, *, optional: bool = False) -> None:
    index = item.get("image")
    if optional and index is None:
        return
    if not isinstance(index, int) or not 0 <= index < len(row["images"]):
        raise _wrong(f"{where}image", f"is {index!r}, which is not the index of an image")
