"""Messages of a record: a role and a list of image and text parts, as chat templates and TRL's vision trainer take it.

Image parts hold no pixels; the record's images belong to them in the order in which they appear.
"""

from collections.abc import Mapping, Sequence
from typing import Any

IMAGE_PART = {"type": "image", "text": None}


def message(role: str, text: str, images: int = 0) -> dict[str, Any]:
    """A message with its images, if any, before the text.

    Args:
        role (`str`): `"system"`, `"user"` or `"assistant"`.
        text (`str`): what is said.
        images (`int`, *optional*, defaults to 0): how many images the message shows.

    Returns:
        `dict`: `role` and `content`, a list of parts with `type` and `text`.
    """
    return {"role": role, "content": [*(dict(IMAGE_PART) for _ in range(images)), {"type": "text", "text": text}]}


def message_text(item: Mapping[str, Any]) -> str:
    """What a message says, without its images.

    Args:
        item (`Mapping[str, Any]`): a message.

    Returns:
        `str`: its text parts, joined by line breaks where there are several.
    """
    return "\n".join(part["text"] for part in item["content"] if part["type"] == "text")


def count_images(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many images a conversation shows.

    Args:
        messages (`Sequence[Mapping[str, Any]]`): the messages.

    Returns:
        `int`: the number of image parts.
    """
    return sum(part["type"] == "image" for item in messages for part in item["content"])
