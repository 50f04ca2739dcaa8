"""Lists inside the cells of a table: as Python prints them, as numpy prints them, or numbers joined by commas.

A numpy array of strings prints without commas. Read as Python, `['C0018802' 'C1999039']` is one string of sixteen
characters: neighbouring literals are joined, and two codes become one wrong one without any error.
"""

import ast
import math
import re

# How pandas and the tools around it write a cell that holds nothing.
_BLANK = ("", "nan", "none", "null", "<na>", "nat")
_TOKEN = re.compile(
    r"""\s*(?:(?P<bracket>[\[\]])|(?P<comma>,)|(?P<word>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<blank>nan|None)\b)""",
    re.DOTALL,
)
# Nearly all lists are flat and hold no quotes or escapes; these need no reading word by word.
_PLAIN = re.compile(r"\s*\[(?:[\s,]*'[^'\\]*')*\s*\]\s*")
_PLAIN_WORD = re.compile(r"'([^']*)'")
_DEPTH = 16  # lists of releases are nested twice; this bounds the recursion in `flat_words`
_CONCEPT = re.compile(r"(?<![A-Za-z0-9])C\d{7}(?!\d)")


def is_blank(cell: str) -> bool:
    """Whether a cell holds nothing, in whichever way that was written.

    Args:
        cell (`str`): the cell.

    Returns:
        `bool`: `True` for `""`, `"nan"`, `"None"` and the like.
    """
    return cell.strip().lower() in _BLANK


def parse_list(cell: str) -> list:
    """Reads a list of strings, which may hold lists.

    Args:
        cell (`str`): what Python's `repr` or numpy's `str` made of it; line breaks may stand in it.

    Returns:
        `list`: strings, lists, and `None` where the list held `nan` or `None`; empty for a blank cell.

    Raises:
        `ValueError`: the cell is no such list, or numpy left out its middle.
    """
    if _PLAIN.fullmatch(cell):
        return _PLAIN_WORD.findall(cell)
    if is_blank(cell):
        return []
    done: list | None = None
    open_lists: list[list] = []
    at, end = 0, len(cell.rstrip())
    while at < end:
        token = _TOKEN.match(cell, at)
        if token is None or done is not None or not (open_lists or token["bracket"] == "["):
            reason = "was shortened by numpy" if cell[at:].lstrip().startswith("...") else "is no list"
            raise ValueError(f"{_shown(cell)} {reason}")
        at = token.end()
        if token["bracket"] == "[":
            if len(open_lists) == _DEPTH:
                raise ValueError(f"{_shown(cell)} is nested more than {_DEPTH} deep")
            open_lists.append([])
        elif token["bracket"] == "]":
            closed = open_lists.pop()
            if open_lists:
                open_lists[-1].append(closed)
            else:
                done = closed
        elif token["word"]:
            open_lists[-1].append(_unquoted(token["word"]))
        elif token["blank"]:
            open_lists[-1].append(None)
    if done is None:
        raise ValueError(f"{_shown(cell)} is no list: it does not end")
    return done


def _unquoted(word: str) -> str:
    if "\\" not in word:
        return word[1:-1]
    try:
        return ast.literal_eval(word)
    except SyntaxError as error:
        raise ValueError(f"{_shown(word)} is no string") from error


def flat_words(items: list) -> list[str]:
    """The strings of a list and of the lists in it, without blanks around them, each once, in their order.

    Args:
        items (`list`): as [`parse_list`] gives it.

    Returns:
        `list[str]`: empty strings and `None` are left out.
    """
    found: dict[str, None] = {}
    for item in items:
        if isinstance(item, list):
            found.update(dict.fromkeys(flat_words(item)))
        elif item is not None and item.strip():
            found[item.strip()] = None
    return list(found)


def concept_codes(cell: str) -> list[str]:
    """The UMLS concepts that a cell names, however it is printed.

    Args:
        cell (`str`): for example `"['C0018802' 'C1999039']"`.

    Returns:
        `list[str]`: `C` and seven digits each, each once, in their order.
    """
    return list(dict.fromkeys(_CONCEPT.findall(cell)))


def parse_numbers(cell: str, count: int | None = None) -> list[float]:
    """Reads numbers joined by commas.

    Args:
        cell (`str`): for example `"226.169, 90.0204, 241.252, 111.977"`.
        count (`int`, *optional*): how many there must be.

    Returns:
        `list[float]`: the numbers.

    Raises:
        `ValueError`: something in it is no finite number, or there are more or fewer than `count`.
    """
    try:
        numbers = [float(part) for part in cell.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{_shown(cell)} is no list of numbers")
    if count is not None and len(numbers) != count:
        raise ValueError(f"{_shown(cell)} holds {len(numbers)} numbers, not {count}")
    return numbers


def _shown(cell: str) -> str:
    text = " ".join(cell.split())
    return repr(text if len(text) <= 80 else text[:77] + "...")
