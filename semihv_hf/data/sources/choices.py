"""Questions with lettered options: how releases print them, and how records show them."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

LETTERS = ("A", "B", "C", "D")
LETTER_ONLY = "Answer with the letter of the right option only."
LETTER_AND_OPTION = "Answer with the letter and the text of the right option."

_LINE = re.compile(r"^([A-Z])\. (.+)$")


def one_line(text: str) -> str:
    """A text without line breaks and repeated blanks.

    Args:
        text (`str`): any text.

    Returns:
        `str`: the same words, one blank between each.
    """
    return " ".join(text.split())


@lru_cache(maxsize=8)
def _letter_before(marks: str) -> re.Pattern[str]:
    return re.compile(rf"^\(?([A-Da-d])\s?[{re.escape(marks)}]\s?(.*)$")


def split_letter(text: str, marks: str = ":") -> tuple[str, str]:
    """Takes the letter off that a release prints before an option or an answer.

    Args:
        text (`str`): for example `" A: Left lung"`.
        marks (`str`, *optional*, defaults to `":"`): the characters that may follow the letter. A full stop is not
            among them by default: `"C. difficile"` is an answer.

    Returns:
        `tuple[str, str]`: the letter, `""` where there is none, and the text after it.
    """
    line = one_line(text)
    found = _letter_before(marks).match(line)
    return (found[1].upper(), found[2].strip()) if found else ("", line)


def comparable(text: str) -> str:
    """A text for comparing answers: without case, outer punctuation and repeated blanks.

    Args:
        text (`str`): an option or an answer.

    Returns:
        `str`: equal for texts that say the same in the same words.
    """
    return one_line(text).casefold().strip(" .,;:'\"")


def letter_of(answer: str, options: Sequence[str]) -> str:
    """The letter of the option that an answer repeats.

    Args:
        answer (`str`): the text of the answer.
        options (`Sequence[str]`): the options in order.

    Returns:
        `str`: `""` where none, or more than one, says the same.
    """
    wanted = comparable(answer)
    fits = [letter for letter, option in zip(LETTERS, options) if comparable(option) == wanted]
    return fits[0] if len(fits) == 1 else ""


def lettered(options: Sequence[str]) -> str:
    """Options as a question shows them.

    Args:
        options (`Sequence[str]`): texts of one line each.

    Returns:
        `str`: one line each, for example `"A. Left lung"`.
    """
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))


def options_of(text: str) -> dict[str, str]:
    """Reads back what [`lettered`] wrote.

    Args:
        text (`str`): lettered lines.

    Returns:
        `dict[str, str]`: options by letter, in order.
    """
    found = (_LINE.match(line) for line in text.split("\n"))
    return {match[1]: match[2] for match in found if match}


def check_options(options: Mapping[str, str], letter: str) -> str:
    """What is wrong with a question's options.

    Args:
        options (`Mapping[str, str]`): options by letter.
        letter (`str`): the letter of the right one.

    Returns:
        `str`: a problem in one line; `""` where there is none. Two equal options are a problem only if one of them is
        the answer.
    """
    empty = [name for name, option in options.items() if not option]
    if empty:
        return f"option {', '.join(empty)} is empty"
    if letter not in options:
        return f"the answer {letter!r} is not the letter of an option"
    right = comparable(options[letter])
    same = [name for name, option in options.items() if comparable(option) == right]
    return f"options {' and '.join(same)} say the same, and one of them is the answer" if len(same) > 1 else ""
