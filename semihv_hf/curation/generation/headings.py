"""Reads replies with headings, the older form: `**Report:** ...`, `### Question 1: ...`, numbered lists.

It serves servers without structured output, and files that were made with the scripts of SemiHVision's authors. A pair
is kept only where the numbers of question and answer match; nothing is guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

_MARKS = r"[*_#]{0,4}"
_BLANK = r"[ \t]{0,12}"  # bounded, so that a line of blanks costs no time
# One heading at the beginning of a line: marks, a name, perhaps a number before or behind it, a colon, in any of the
# orders that Markdown allows (`**Report:**`, `**Report**:`, `### Report:`, `Question 2 :`, `1. Question:`).
_HEADING = re.compile(
    rf"^{_BLANK}{_MARKS}{_BLANK}{_MARKS}(?:(?P<before>\d{{1,3}})[.)]{_BLANK}{_MARKS})?"
    r"(?P<name>Report|Description|Questions?|Answers?)"
    rf"{_BLANK}{_MARKS}{_BLANK}(?:\(?(?P<behind>\d{{1,3}})\)?)?{_BLANK}{_MARKS}{_BLANK}[:\uff1a]{_BLANK}{_MARKS}{_BLANK}",
    re.IGNORECASE | re.MULTILINE,
)
# A numbered item: `1. `, `**2.** `, `3) `.
_ITEM = re.compile(rf"^{_BLANK}{_MARKS}(?P<number>\d{{1,3}})[.)](?=[\s*_]|$){_MARKS}{_BLANK}", re.MULTILINE)
# The same further in a line, as in `Questions: 1. ... 2. ...`: only where the numbers go on by one.
_INNER = re.compile(r"(?:(?<=\s)|^)(?P<number>\d{1,3})[.)](?=\s)")
_IMAGE_LINE = re.compile(
    rf"^{_BLANK}[-*]?{_BLANK}{_MARKS}(?:image[ \t])?(?P<number>\d{{1,3}}){_MARKS}{_BLANK}"
    rf"[:\uff1a]{_MARKS}{_BLANK}(?P<text>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_OUTER_MARKS = re.compile(r"^(?:[*_#]{1,4}(?=\S))|(?:(?<=\S)[*_#]{1,4})$")
# No question and no answer has this number.
_NOBODY = -(10**6)
# A reply longer than this is no reply; reading it would only cost time.
LONGEST = 200_000


@dataclass(frozen=True)
class Headed:
    """What was found under headings.

    Args:
        report (`str`): the text under Report; `""` if there is none.
        description (`str`): the text under Description.
        pairs (`tuple[tuple[str, str], ...]`): questions and answers whose numbers match, in the order of the
            questions.
        unmatched (`int`): questions and answers that found no partner, or had one number twice.
    """

    report: str = ""
    description: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    unmatched: int = 0


def read_headings(text: str) -> Headed:
    """Reads a reply with headings.

    Args:
        text (`str`): the reply.

    Returns:
        [`Headed`]: what is under the headings; all empty where there are none. What stands before the first heading is
            left out.
    """
    found: dict[str, str] = {}
    blocks: list[tuple[str, int | None, str]] = []
    for name, number, body in _sections(text[:LONGEST].replace("\r\n", "\n").replace("\r", "\n")):
        if name in ("report", "description"):
            found.setdefault(name, _clean(body))
        else:
            blocks.append((name, number, body))
    pairs, unmatched = _pairs(blocks)
    return Headed(found.get("report", ""), found.get("description", ""), tuple(pairs), unmatched)


def read_image_lines(text: str) -> list[tuple[int, str]]:
    """Reads lines of an image number, a colon and a description.

    Args:
        text (`str`): the reply.

    Returns:
        `list[tuple[int, str]]`: numbers and descriptions, in the order of the reply.
    """
    return [(int(found["number"]), _clean(found["text"])) for found in _IMAGE_LINE.finditer(text[:LONGEST])]


def as_reply(text: str, schema: type[BaseModel]) -> BaseModel:
    """Reads a reply with headings as the reply that a schema would have brought.

    Args:
        text (`str`): the reply; one that is JSON after all is read as JSON.
        schema (`type[pydantic.BaseModel]`): one of `schemas`.

    Returns:
        `pydantic.BaseModel`: the reply.

    Raises:
        `ValueError`: a heading that the schema needs is missing.
    """
    from semihv_hf.llm.structured import parse_reply

    if text.lstrip().startswith(("{", "```")):
        try:
            return parse_reply(text, schema, "text")
        except ValueError:
            pass  # not JSON after all: read as headings below
    wanted = set(schema.model_fields)
    values: dict[str, Any] = {}
    if "images" in wanted:
        lines = read_image_lines(text)
        if not lines:
            raise ValueError("it has no line of an image number and a description")
        return schema.model_validate({"images": [{"image": image, "description": line} for image, line in lines]})
    headed = read_headings(text)
    for name in ("report", "description"):
        if name in wanted:
            values[name] = getattr(headed, name)
            if not values[name]:
                raise ValueError(f"it has no heading {name.capitalize()}")
    listed = [{"question": question, "answer": answer} for question, answer in headed.pairs]
    for name in ("pairs", "turns"):
        if name in wanted:
            if not listed:
                raise ValueError("it has no question and answer whose numbers match")
            values[name] = listed
    if "question" in wanted:
        if len(listed) != 1:
            raise ValueError(f"it has {len(listed)} questions with answers, not one")
        values.update(listed[0])
    return schema.model_validate(values)


def _sections(text: str) -> Iterator[tuple[str, int | None, str]]:
    headings = list(_HEADING.finditer(text))
    for place, heading in enumerate(headings):
        end = headings[place + 1].start() if place + 1 < len(headings) else len(text)
        number = heading["behind"] or heading["before"]
        name = heading["name"].lower().removesuffix("s")
        yield name, None if number is None else int(number), text[heading.end() : end]


def _pairs(blocks: list[tuple[str, int | None, str]]) -> tuple[list[tuple[str, str]], int]:
    """Two lists with one numbering each, or blocks with a number in each heading, or questions that are each followed
    by their answer."""
    asked: list[tuple[int, str]] = []
    told: list[tuple[int, str]] = []
    for place, (name, number, body) in enumerate(blocks):
        target = asked if name == "question" else told
        items = _items(body) if number is None else []
        if items:
            target.extend(items)
            continue
        if number is None:
            # Negative, so that no number of a list is met. An answer belongs to the question right before it, but only
            # if it is the only one that could.
            number = -1 - place if name == "question" else _number_before(blocks, place)
        target.append((number, _clean(body)))
    answers = _once(told)
    kept = [(question, answers[number]) for number, question in _once(asked).items() if answers.get(number)]
    kept = [pair for pair in kept if pair[0]]
    return kept, len(asked) + len(told) - 2 * len(kept)


def _number_before(blocks: list[tuple[str, int | None, str]], place: int) -> int:
    nobody = -1 - place  # the place of an answer, which no question has
    if place == 0 or blocks[place - 1][0] != "question":
        return nobody
    if place > 1 and blocks[place - 2][0] == "question":
        return nobody
    if place + 1 < len(blocks) and blocks[place + 1][0] == "answer" and blocks[place + 1][1] is None:
        return nobody
    number = blocks[place - 1][1]
    if number is None:
        listed = _items(blocks[place - 1][2])
        number = -place if not listed else listed[0][0] if len(listed) == 1 else nobody
    return number


def _once(items: list[tuple[int, str]]) -> dict[int, str]:
    """By number; a number that is there twice says nothing about which one is meant, so it is left out."""
    times = Counter(number for number, _ in items)
    return {number: text for number, text in items if times[number] == 1}


def _items(body: str) -> list[tuple[int, str]]:
    starts = list(_ITEM.finditer(body))
    if len(starts) == 1 or (starts and body[: starts[0].start()].strip()):
        counted = _counted(body)
        if counted is None:
            return [(_NOBODY, _clean(body))]
        starts = counted or starts
    if not starts or body[: starts[0].start()].strip():
        return []
    ends = [start.start() for start in starts[1:]] + [len(body)]
    return [(int(start["number"]), _clean(body[start.end() : end])) for start, end in zip(starts, ends)]


def _counted(body: str) -> list[re.Match] | None:
    """Items that stand in one line: numbers that count up by one, so that `5. ` inside a sentence is no item. `None`
    where a number is there twice, as in `1. Grade 2. 2. Left`: either could begin the item."""
    found: list[re.Match] = []
    numbers: Counter[int] = Counter()
    for start in _INNER.finditer(body):
        numbers[int(start["number"])] += 1
        if not found or int(start["number"]) == int(found[-1]["number"]) + 1:
            found.append(start)
    if any(numbers[int(start["number"])] > 1 for start in found):
        return None
    return found if len(found) > 1 else []


def _clean(text: str) -> str:
    """Without marks around the whole, without rules between blocks, each line trimmed."""
    lines = [line.strip() for line in text.strip().splitlines()]
    while lines and re.fullmatch(r"[-*_=#~]*", lines[-1]):
        lines.pop()
    whole = "\n".join(lines).strip()
    return _OUTER_MARKS.sub("", whole).strip() if whole[:1] in "*_#" or whole[-1:] in "*_#" else whole
