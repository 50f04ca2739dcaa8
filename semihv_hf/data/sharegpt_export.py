"""Conversations as rows in the ShareGPT style, for other trainers and for writing a row back as it was."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .messages import count_images
from .schema import Record
from .sharegpt import LLAVA, MARKER, Conversation, Variant, marker_number


def write_row(conversation: Conversation) -> dict[str, Any]:
    """Writes a conversation as a row; the inverse of [`semihv_hf.data.sharegpt.read_row`].

    Args:
        conversation ([`Conversation`]): what to write, and how.

    Returns:
        `dict`: the keys for turns and images, and for the system's words where the variant says so.

    Raises:
        `ValueError`: images and image parts are not equally many, or a text holds what reads as a marker.
    """
    variant, images = conversation.variant, list(conversation.images)
    if count_images(conversation.messages) != len(images):
        raise ValueError(f"{len(images)} images for {count_images(conversation.messages)} image parts")
    spelled = variant.markers if variant.markers is not None and len(variant.markers) == len(images) else None
    numbers = [marker_number(marker) for marker in spelled or ()]
    if numbers and None not in numbers:  # the row's list is in the order of numbers, not of first mention
        images = [image for _, image in sorted(zip(numbers, images))]
    names = {"user": variant.user, "assistant": variant.assistant, "system": variant.system}
    row: dict[str, Any] = {}
    turns, left = [], iter(spelled) if spelled is not None else None
    for item in conversation.messages:
        text = _joined(item["content"], left, variant.gap, numbered=bool(numbers) and None not in numbers)
        if item["role"] == "system" and variant.system_in == "row":
            row["system"] = text
        else:
            turns.append({variant.speaker: names[item["role"]], variant.text: text})
    row[variant.conversations] = turns
    _add_images(row, turns, images, variant)
    return row


def sharegpt_rows(
    records: Iterable[Record], image_name: Callable[[Record, int], str], variant: Variant = LLAVA
) -> Iterator[dict[str, Any]]:
    """Records as rows that other trainers read.

    Args:
        records (`Iterable[Record]`): the records.
        image_name (`Callable`): gives the file name of a record's image by its index; the caller writes the files.
        variant ([`Variant`], *optional*): `LLAVA` or `MS_SWIFT`, or any other.

    Yields:
        `dict`: a row with the record's id.
    """
    for record in records:
        images = [image_name(record, index) for index in range(len(record.images))]
        yield {"id": record.id, **write_row(Conversation(images, record.messages, replace(variant, markers=None)))}


def _joined(content: Sequence[Mapping[str, Any]], spelled: Iterator[str] | None, gap: str, numbered: bool) -> str:
    texts = [index for index, part in enumerate(content) if part["type"] == "text"]
    said = []
    for index, part in enumerate(content):
        if part["type"] == "text":
            if any(not numbered or match[1] is None for match in MARKER.finditer(part["text"])):
                raise ValueError(f"a text holds an image marker: {part['text'][:80]!r}")
            said.append(part["text"])
        elif spelled is not None:
            said.append(next(spelled))
        elif not texts or texts[0] < index < texts[-1]:
            said.append("<image>")
        else:
            said.append(f"<image>{gap}" if index < texts[0] else f"{gap}<image>")
    return "".join(said)


def _add_images(row: dict[str, Any], turns: list, images: list[str], variant: Variant) -> None:
    value: Any = images
    if variant.image_form != "list" and len(images) < 2:
        value = images[0] if images else ("" if variant.image_form == "empty" else None)
    if variant.image_form == "turn":
        turns.append({variant.image: value})
    elif images or variant.image_form not in ("missing", "text"):
        row[variant.image] = value
