"""Long texts as overlapping spans that fit an encoder's window: nothing of a corpus is cut off unseen.

UniIR's encoder reads 77 tokens and drops the rest, which for a guideline is nearly all of it. Here a document is cut
at its headings, a part that is still too long at paragraph, line, sentence or word boundaries, with overlap.
"""

import re
from bisect import bisect_left
from collections.abc import Callable

from semihv_hf.errors import SemiHVError

# Character offsets (begin, end) of the tokens of a text, special tokens left out.
Offsets = Callable[[str], list[tuple[int, int]]]

_HEADING = re.compile(r"^#{1,2}[ \t]+\S.*$", re.MULTILINE)
# Boundaries at which a span may end, the best first.
_BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?;])\s+"), re.compile(r"\s+"))
# A heading with next to nothing below it says little on its own and goes with what follows.
_FEW_TOKENS = 24


def chunk_spans(
    text: str, offsets: Offsets, window: int, overlap: int = 0, *, headings: bool = True
) -> list[tuple[int, int]]:
    """Cuts a text into spans of at most `window` tokens that together hold every word of it.

    Args:
        text (`str`): the text.
        offsets (`Callable`): the tokens' character offsets, of the tokenizer that will read the spans.
        window (`int`): most tokens of a span, without special tokens.
        overlap (`int`, *optional*, defaults to 0): so many tokens of a span are repeated in the next, where a part
            between two headings does not fit one span. Less than half of `window`.
        headings (`bool`, *optional*, defaults to `True`): begin a new span at every Markdown heading of level 1 or 2.

    Returns:
        `list[tuple[int, int]]`: begin and end (exclusive) in characters, in the order of the text.

    Raises:
        `SemiHVError`: the window is too small for this overlap.
    """
    if window < 8 or not 0 <= overlap < window // 2:
        raise SemiHVError(
            f"Spans of {window} tokens cannot overlap by {overlap}.", "The overlap must be less than half the window."
        )
    spans = []
    for begin, end in _sections(text, offsets) if headings else [(0, len(text))]:
        spans.extend(_windows(text, begin, end, offsets, window, overlap))
    return spans


def _sections(text: str, offsets: Offsets) -> list[tuple[int, int]]:
    """The parts between headings; one of a few tokens is joined to the next."""
    starts = [0, *(match.start() for match in _HEADING.finditer(text) if match.start() > 0)]
    parts: list[tuple[int, int]] = []
    held = None
    for begin, end in zip(starts, [*starts[1:], len(text)]):
        begin = begin if held is None else held
        last = end == len(text)
        if not last and len(offsets(text[begin:end])) < _FEW_TOKENS:
            held = begin
        else:
            parts.append((begin, end))
            held = None
    return parts


def _windows(text: str, begin: int, end: int, offsets: Offsets, window: int, overlap: int) -> list[tuple[int, int]]:
    part = text[begin:end]
    tokens = offsets(part)
    spans = []
    first = 0
    while first < len(tokens):
        last = min(first + window, len(tokens))
        if last < len(tokens):
            last = _break_before(part, tokens, first, last)
        # Cut out of its place a text may have a token or two more than within it.
        while last > first + 1 and len(offsets(part[tokens[first][0] : tokens[last - 1][1]])) > window:
            last -= 1
        spans.append((begin + tokens[first][0], begin + tokens[last - 1][1]))
        if last == len(tokens):
            break
        first = _start_after(part, tokens, max(last - overlap, first + 1), last)
    return spans


def _break_before(part: str, tokens: list[tuple[int, int]], first: int, last: int) -> int:
    """The last token before `last` that ends at a boundary, within the second half of the window."""
    middle = first + (last - first) // 2
    begin, end = tokens[middle][0], tokens[last][0]
    for pattern in _BREAKS:
        places = [match.end() for match in pattern.finditer(part, begin, end)]
        if places:
            index = bisect_left(tokens, (places[-1], 0))
            if middle < index <= last:
                return index
    return last


def _start_after(part: str, tokens: list[tuple[int, int]], wanted: int, last: int) -> int:
    """The first token from `wanted` on that begins a line, else a word; at the latest the one after the span."""
    for breaks in ("\n", " \t\n"):
        for index in range(wanted, last):
            place = tokens[index][0]
            if place == 0 or part[place - 1] in breaks:
                return index
    return last
