"""How a benchmark question is put to a model.

| question | what is asked | reference |
|---|---|---|
| named options | question, a line `A. ...` for each option, a request for the letter alone | the letter |
| yes or no | question, "Answer with yes or no." | yes or no |
| anything else | the question alone | the answer's text |

Lettered options with a request for the letter are the prompt of HuatuoGPT-Vision; the bare open question is that of
LLaVA-Med.
"""

import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from ..messages import IMAGE_PART
from ..sources.choices import LETTER_ONLY
from .question import YES_NO

YES_OR_NO = "Answer with yes or no."
_TAG = re.compile(r"<image (\d+)>")


def is_yes_no(row: Mapping[str, Any]) -> bool:
    """Whether the options of a question are yes and no.

    Args:
        row (`Mapping[str, Any]`): a question's row.

    Returns:
        `bool`: `False` for a question without options.
    """
    return tuple(option.lower() for option in row["options"]) == YES_NO


def prompt_text(row: Mapping[str, Any]) -> str:
    """What is asked, in words; images are named as in the question.

    Args:
        row (`Mapping[str, Any]`): a question's row.

    Returns:
        `str`: see the table above.
    """
    if not row["options"]:
        return row["question"]
    if is_yes_no(row):
        return f"{row['question']}\n{YES_OR_NO}"
    options = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, row["options"], strict=False)]
    return "\n".join([row["question"], *options, LETTER_ONLY])


def expected_answer(row: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What an answer to [`prompt_text`] is compared with.

    Args:
        row (`Mapping[str, Any]`): a question's row.

    Returns:
        `tuple[str, list[str]]`: the right answer, and all that are possible (none for an open question): letters where
        letters are asked for.
    """
    if not row["options"] or is_yes_no(row):
        return row["answer"], list(row["options"])
    return row["answer_letter"], list(ascii_uppercase[: len(row["options"])])


def prompt_message(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """The user message, with each image where the text names it first; images that no text names come first of all.

    Args:
        row (`Mapping[str, Any]`): a question's row.

    Returns:
        `tuple[dict, list[int]]`: the message, and which of the row's images its image parts show, in order. An image
        that is named again is named in words, "image 2".
    """
    text, count = prompt_text(row), len(row["images"])
    named = [int(number) - 1 for number in _TAG.findall(text)]
    order = [index for index in range(count) if index not in named]
    parts: list[dict[str, Any]] = [dict(IMAGE_PART) for _ in order]
    words, end = "", 0
    for tag in _TAG.finditer(text):
        words += text[end : tag.start()]
        end = tag.end()
        index = int(tag[1]) - 1
        if index in order or index >= count:
            words += f"image {tag[1]}"
            continue
        if words.strip():
            parts.append({"type": "text", "text": words.strip()})
        words = ""
        parts.append(dict(IMAGE_PART))
        order.append(index)
    words += text[end:]
    if words.strip():
        parts.append({"type": "text", "text": words.strip()})
    return {"role": "user", "content": parts}, order
