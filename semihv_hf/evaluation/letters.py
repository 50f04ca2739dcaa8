"""Which option letter an answer to a multiple-choice case gives: by letter, else by option text, else none."""

import re

_OPTION_LINE = re.compile(r"^[ \t]*\(?([A-H])[.):][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
# A lone "A" or a small letter may be an article ("answer: a cyst"), so those need a mark or an end behind them.
_LETTER = (
    r"[\"'*(\s]*(?:([B-H])(?![\w'])|([A-Ha-h])(?=\s*(?:[.):,\"*/]|$|or [A-H]\b|and [A-H]\b)))"
    r"(?:\W*(?:or|and|/)\W*([A-H])(?!\w))?"
)
_STATED = re.compile(rf"\b(?i:answer\s*(?:is|:)?\s*:?\s*(?:option\s+)?){_LETTER}", re.MULTILINE)
_LEADING = re.compile(rf"^\W*(?i:option\s+)?{_LETTER}", re.MULTILINE)


def options_in(question: str) -> dict[str, str]:
    """Reads the lettered options of a question.

    Args:
        question (`str`): a text with one option a line, such as `"B. a cyst"`.

    Returns:
        `dict[str, str]`: the option text of each letter, in order.
    """
    return dict(_OPTION_LINE.findall(question))


def chosen_letter(answer: str, options: dict[str, str]) -> tuple[str | None, str]:
    """Reads the choice out of an answer. Two letters, two options, or none of either is no choice; nothing is guessed.

    Args:
        answer (`str`): the answer.
        options (`dict[str, str]`): the option text of each letter.

    Returns:
        `tuple[str | None, str]`: the letter or `None`, and the rule: `"letter"`, `"option_text"`, `"several"` or
        `"none"`.
    """
    stated = {letter.upper() for groups in _STATED.findall(answer) for letter in groups} & set(options)
    if not stated and (leading := _LEADING.match(answer)):
        stated = {letter.upper() for letter in leading.groups() if letter} & set(options)
    if stated:
        return (stated.pop(), "letter") if len(stated) == 1 else (None, "several")
    named = _named_options(answer, options)
    if len(named) == 1:
        return named[0], "option_text"
    return None, "several" if named else "none"


def _named_options(answer: str, options: dict[str, str]) -> list[str]:
    text = " ".join(re.findall(r"\w+", answer.casefold()))
    named = []
    # Longest first, and what is found is taken out: "a cyst of the kidney" does not also name "a cyst".
    for letter, option in sorted(options.items(), key=lambda item: -len(item[1])):
        wanted = " ".join(re.findall(r"\w+", option.casefold()))
        pattern = rf"\b{re.escape(wanted)}\b"
        if wanted and re.search(pattern, text):
            named.append(letter)
            text = re.sub(pattern, " | ", text)
    return named
