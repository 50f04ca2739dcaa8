"""Rows in the ShareGPT style and its variants, to the messages of this package and back.

The style never had a specification. Keys, speakers, where images are named and how a turn marks them differ between
LLaVA, ms-swift, LLaMA-Factory and the published medical sets; the scripts of SemiHVision alone write both `from` and
`role`, and Eurorad rows whose image stands in a turn of its own. What a row looked like is kept in a [`Variant`], so
that [`semihv_hf.data.sharegpt_export.write_row`] gives it back unchanged.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .messages import IMAGE_PART

CONVERSATION_KEYS = ("conversations", "conversatons", "messages")  # the second as LLaVA-Med spells it
_SPEAKER_KEYS, _TEXT_KEYS, _IMAGE_KEYS = ("from", "role"), ("value", "content"), ("image", "images")
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}
# How a turn says where an image belongs: plain as in LLaVA, or with the number of the image.
MARKER = re.compile(r"<image(?:[ _-]?(\d+))?>", re.IGNORECASE)


@dataclass(frozen=True)
class Variant:
    """How a row spells a conversation.

    Args:
        conversations (`str`, *optional*, defaults to `"conversations"`): the key of the turns.
        speaker (`str`, *optional*, defaults to `"from"`): the key of who speaks.
        text (`str`, *optional*, defaults to `"value"`): the key of what is said.
        user (`str`, *optional*, defaults to `"human"`): who asks.
        assistant (`str`, *optional*, defaults to `"gpt"`): who answers.
        system (`str`, *optional*, defaults to `"system"`): who instructs.
        system_in (`str`, *optional*, defaults to `"turn"`): whether the instruction is a `"turn"` or a key of the
            `"row"`.
        image (`str`, *optional*, defaults to `"image"`): the key of the images' names.
        image_form (`str`, *optional*, defaults to `"text"`): the value there: `"text"` for one name, `"list"`,
            `"null"`, `"empty"` text, `"missing"` where the key is not there, or `"turn"` where the key stands in a
            last turn of its own. Several images are always a list.
        gap (`str`, *optional*, defaults to `"\\n"`): what parts a marker from the text, where `markers` does not say.
        markers (`tuple[str, ...]`, *optional*): the marker of each image with the blanks around it, as one row had it;
            `""` for an image that no marker shows.
    """

    conversations: str = "conversations"
    speaker: str = "from"
    text: str = "value"
    user: str = "human"
    assistant: str = "gpt"
    system: str = "system"
    system_in: str = "turn"
    image: str = "image"
    image_form: str = "text"
    gap: str = "\n"
    markers: tuple[str, ...] | None = None


LLAVA = Variant()
MS_SWIFT = Variant("messages", "role", "content", "user", "assistant", image="images", image_form="list", gap="")


@dataclass(frozen=True)
class Conversation:
    """What a row says.

    Args:
        images (`list[str]`): the names of the images, in the order in which the messages show them.
        messages (`list[dict]`): the conversation, see [`semihv_hf.data.messages.message`]; it ends with an answer.
        variant ([`Variant`], *optional*): how the row spelled it.
        notes (`tuple[str, ...]`, *optional*): what was left out, for example a last question without an answer.
    """

    images: list[str]
    messages: list[dict[str, Any]]
    variant: Variant = LLAVA
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Malformed:
    """Why a row is no conversation.

    Args:
        detail (`str`): what is wrong, in one line.
        reason (`str`, *optional*, defaults to `"malformed row"`): as in [`semihv_hf.data.sources.base.Skipped`]; it is
            `"missing image"` where a turn shows an image and the row names none (`null` or empty).
    """

    detail: str
    reason: str = "malformed row"


class _Wrong(Exception):
    def __init__(self, detail: str, reason: str = "malformed row"):
        self.value = Malformed(detail, reason)


def read_row(row: Any, *, keys: Sequence[str] = CONVERSATION_KEYS) -> Conversation | Malformed:
    """Reads one row.

    Images that no turn marks go to the start of the first question. Numbered markers name images by their number; an
    image that is named again is not shown again. Blanks between a marker at either end of a turn and its text belong
    to the marker. Numbers as answers become text.

    Args:
        row (`Any`): what JSON gave.
        keys (`Sequence[str]`, *optional*): where the turns may stand.

    Returns:
        [`Conversation`] or [`Malformed`]: the second for a row with no turns, an unknown speaker, an empty turn, turns
        that do not alternate, no answer, or markers that do not fit the images. Values are never guessed.
    """
    try:
        return _read(row, keys)
    except _Wrong as wrong:
        return wrong.value


@dataclass
class _Turn:
    role: str
    text: str
    content: list[dict[str, Any]] = field(default_factory=list)


def _read(row: Any, keys: Sequence[str]) -> Conversation:
    if not isinstance(row, Mapping):
        raise _Wrong(f"the row is {_kind(row)}, not an object")
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise _Wrong(f"the row has none of {', '.join(keys)}")
    given = row[key]
    if not isinstance(given, list) or not given:
        raise _Wrong(f"{key} is {_kind(given)}" if given else f"{key} is empty")
    files, image_key, form, given = _named_images(row, given)
    in_parts: list[str] = []
    turns = [_turn(turn, number, in_parts) for number, turn in enumerate(given, 1)]
    if in_parts and not files:
        files = in_parts
    names = {_ROLES[turn.role.lower()]: turn.role for turn in reversed(turns)}
    system_in = "turn"
    if isinstance(row.get("system"), str) and row["system"].strip() and "system" not in names:
        turns.insert(0, _Turn("system", row["system"]))
        system_in = "row"
    for turn in turns:
        turn.role = _ROLES[turn.role.lower()]
    turns, notes = _in_order(turns)
    order, spelled = _place_images(turns, files, form)
    variant = Variant(
        key, _first_key(given[0], _SPEAKER_KEYS), _first_key(given[0], _TEXT_KEYS), names.get("user", "human"),
        names.get("assistant", "gpt"), names.get("system", "system"), system_in, image_key, form, "\n", tuple(spelled),
    )  # fmt: skip
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return Conversation([files[index] for index in order], messages, variant, notes)


def _named_images(row: Mapping[str, Any], turns: list) -> tuple[list[str], str, str, list]:
    """The names, their key, their form, and the turns without those that only name images."""
    own = [turn for turn in turns if isinstance(turn, Mapping) and set(turn) and set(turn) <= set(_IMAGE_KEYS)]
    rest = [turn for turn in turns if not any(turn is other for other in own)]
    if not rest:
        raise _Wrong("no turn says anything")
    found = [(key, *_names(holder[key], key)) for holder in (row, *own) for key in _IMAGE_KEYS if key in holder]
    named = [entry for entry in found if entry[1]]
    if len({tuple(entry[1]) for entry in named}) > 1:
        raise _Wrong("the row names its images twice, and differently")
    if not found:
        return [], "image", "missing", rest
    key, files, form = (named or found)[0]
    return files, key, "turn" if own else form, rest


def _names(value: Any, key: str) -> tuple[list[str], str]:
    if value is None:
        return [], "null"
    if value == "":
        return [], "empty"
    if isinstance(value, str):
        return [value], "text"
    if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        return list(value), "list"
    raise _Wrong(f"{key} is {_kind(value)}" if not isinstance(value, list) else f"{key} lists what is no name")


def _turn(turn: Any, number: int, in_parts: list[str]) -> _Turn:
    if not isinstance(turn, Mapping):
        raise _Wrong(f"turn {number} is {_kind(turn)}, not an object")
    speaker, key = _first_key(turn, _SPEAKER_KEYS), _first_key(turn, _TEXT_KEYS)
    if speaker not in turn or key not in turn:
        raise _Wrong(f"turn {number} has no speaker or no text")
    role = turn[speaker]
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise _Wrong(f"turn {number} is spoken by {str(role)[:40]!r}")
    return _Turn(role, _said(turn[key], number, in_parts))


def _first_key(turn: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if key in turn), keys[0])


def _said(value: Any, number: int, in_parts: list[str]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and value:
        return "".join(_part(part, number, in_parts) for part in value)
    raise _Wrong(f"turn {number} is empty" if value in (None, []) else f"what turn {number} says is {_kind(value)}")


def _part(part: Any, number: int, in_parts: list[str]) -> str:
    """A part of a turn in the style of chat templates, where images are parts of their own."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return part["text"]
    if isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
        name = part.get("image") or part.get("path") or part.get("image_url") or part.get("url")
        name = name.get("url") if isinstance(name, Mapping) else name
        if isinstance(name, str):
            in_parts.append(name)
        return "<image>"
    raise _Wrong(f"turn {number} has a part that is neither text nor image")


def _in_order(turns: list[_Turn]) -> tuple[list[_Turn], tuple[str, ...]]:
    """Checks that questions and answers alternate; a last question without an answer is left out."""
    body = turns[1:] if turns[0].role == "system" else turns
    for index, turn in enumerate(body):
        expected = ("user", "assistant")[index % 2]
        if turn.role != expected:
            raise _Wrong(f"turn {index + 1 + len(turns) - len(body)} is by the {turn.role}, not by the {expected}")
    notes: tuple[str, ...] = ()
    if body and body[-1].role == "user":
        if MARKER.search(body[-1].text):
            raise _Wrong("the last question shows an image and has no answer")
        turns, body, notes = turns[:-1], body[:-1], ("the last question has no answer and is left out",)
    if not body:
        raise _Wrong("nothing is answered")
    return turns, notes


def _place_images(turns: list[_Turn], files: list[str], form: str) -> tuple[list[int], list[str]]:
    """Fills the content of the turns.

    Returns:
        The indices of the files in the order in which they are shown, and the markers as they were spelled.
    """
    found = [match for turn in turns for match in MARKER.finditer(turn.text)]
    if found and not files:
        reason = "malformed row" if form in ("missing", "list") else "missing image"
        raise _Wrong(f"{len(found)} image markers, and no image is named", reason)
    numbers = [marker_number(match[0]) for match in found]
    order = _shown_order(numbers, len(files))
    first_user = next(turn for turn in turns if turn.role == "user")
    spelled: list[str] = []
    seen: set[int] = set()
    for number, turn in enumerate(turns, 1):
        if not found and turn is first_user and files:
            turn.content = [dict(IMAGE_PART) for _ in files]
            turn.content += [{"type": "text", "text": turn.text}] if turn.text.strip() else []
            spelled += [""] * len(files)
        else:
            turn.content, markers = _split(turn.text, seen)
            spelled += markers
        if not turn.content:
            raise _Wrong(f"turn {number} is empty")
    return order, spelled


def _shown_order(numbers: list[int | None], files: int) -> list[int]:
    if not numbers:
        return list(range(files))
    if None not in numbers:
        mentioned = list(dict.fromkeys(numbers))
        first = 0 if 0 in mentioned else 1
        if sorted(mentioned) != list(range(first, first + files)):
            raise _Wrong(f"markers number the images {sorted(mentioned)}, but {files} are named")
        return [number - first for number in mentioned]
    if any(number is not None for number in numbers):
        raise _Wrong("some image markers are numbered and some are not")
    if len(numbers) != files:
        raise _Wrong(f"{len(numbers)} image markers for {files} images")
    return list(range(files))


def _split(text: str, seen: set[int]) -> tuple[list[dict[str, Any]], list[str]]:
    """A turn as parts, and its markers with the blanks that belong to them."""
    pieces, spelled, start = [], [], 0
    for match in MARKER.finditer(text):
        number = marker_number(match[0])
        if number in seen:  # named again, not shown again: it stays in the text
            continue
        if number is not None:
            seen.add(number)
        pieces.append(text[start : match.start()])
        spelled.append(match[0])
        start = match.end()
    pieces.append(text[start:])
    filled = [index for index, piece in enumerate(pieces) if piece.strip()]
    if not spelled:
        return ([{"type": "text", "text": text}] if filled else []), []
    for index, piece in enumerate(pieces):
        if index not in filled:
            left, pieces[index] = piece, ""
            spelled[max(index - 1, 0)] = spelled[index - 1] + left if index else left + spelled[0]
            continue
        if index and index == filled[0]:
            spelled[index - 1] += piece[: len(piece) - len(piece.lstrip())]
            pieces[index] = piece = piece.lstrip()
        if index < len(spelled) and index == filled[-1]:
            spelled[index] = piece[len(piece.rstrip()) :] + spelled[index]
            pieces[index] = piece.rstrip()
    content: list[dict[str, Any]] = []
    for index, piece in enumerate(pieces):
        content += [{"type": "text", "text": piece}] if piece else []
        content += [dict(IMAGE_PART)] if index < len(spelled) else []
    return content, spelled


def marker_number(marker: str) -> int | None:
    """The number of an image marker.

    Args:
        marker (`str`): a marker, with or without blanks around it.

    Returns:
        `int` or `None`: `None` for one without a number.
    """
    match = MARKER.search(marker)
    return int(match[1]) if match and match[1] else None


def _kind(value: Any) -> str:
    return {type(None): "null", dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(
        type(value), "a number"
    )
