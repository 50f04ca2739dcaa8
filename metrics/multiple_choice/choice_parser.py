"""Which option an answer chooses: by its letter, else by its text, else none. Nothing is guessed."""

import re
import unicodedata
from functools import lru_cache

from .text_matching import options_named
from .text_matching import words

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Words that announce the choice, in the languages of the common multilingual question sets.
_CUES = (
    r"answers?|choice|answer\s+choice|correct\s+(?:option|choice)|choose|chose|pick|select|go\s+with|"
    r"antwort|réponse|respuesta|risposta|resposta|ответ|الجواب|الإجابة|答案|回答|答え|正解|选|選|정답"
)
_BETWEEN = (
    r"(?:\s*(?:is|are|be|would\s+be|ist|est|es|è|é|هي|هو|是|为|為|は|은|는))?\s*[:：=]?\s*"
    r"(?:(?:the\s+)?(?:option|choice|letter)\s+)?"
)
_FINAL = r"\bfinal\s+answer|\\boxed\s*\{|<answer>"
_MARK = r"[\s\"'“*_(\[（【{$]*"
_END = r"(?=\s*(?:[.):,;!?\"'”*_/\]}）】、。，$<]|$))"
_JOINED = r"\s*(?:[,/&+、]|\bor\b|\band\b|\bund\b|\bou\b|\boder\b|\bo\b|\by\b)\s*(?:option\s+)?"
# From the clearest statement to the vaguest; the first that names a label decides.
_TIERS = ("final", "stated", "leading", "lines", "bare_line", "instead", "mentioned", "bracketed")
_NOT_BEFORE = re.compile(r"\b(?:not|isn['’]t|never|neither|nor|except|exclude[sd]?|eliminate[sd]?|rule[sd]?\s+out)\b")
_NOT_AFTER = re.compile(
    r"^[\s\"'*)\]]*(?:\([^)]*\)\s*)?(?:(?:is|are|was|can\s+be|could\s+be|would\s+be)\s+)?"
    r"(?:not\b(?!\s+(?:excluded|ruled|wrong|incorrect))|isn['’]t|cannot\s+be(?!\s+(?:excluded|ruled))|"
    r"incorrect|wrong|unlikely|excluded|ruled\s+out|false)"
)
_CLAUSE = re.compile(r"[.;!?\n]|\bbut\b|\binstead\b")
_PANEL = re.compile(r"\b(?:panel|figure|fig\.?|image|part|slide|arrow)s?\s*$", re.IGNORECASE)


@lru_cache(maxsize=256)
def _patterns(labels):
    """The expressions for one set of labels: what the choice follows, what stands at a line's start, and the rest."""
    # "A" and "I" are words, and a number may be a quantity: they need a mark, an end or "is" behind them.
    plain = [label for label in labels if label not in ("A", "I") and not label.isdigit()]
    either = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    small = [re.escape(label.lower()) for label in labels if label.isascii() and label.isalpha()]
    ways = [
        *([rf"(?:{'|'.join(map(re.escape, plain))})(?![\w'’])"] if plain else []),
        *([r"A(?=\s+(?:is|because|since|as)\b)"] if "A" in labels else []),
        rf"(?:{'|'.join([either, *small])}){_END}",
        rf"(?:{either})(?={_JOINED}{_MARK}(?:{either})(?!\w))",
    ]
    body = rf"{_MARK}(?P<a>{'|'.join(ways)})(?P<more>(?:[\s\"'*_)\].]*{_JOINED}{_MARK}(?:{either})(?!\w))*)"
    return {
        "final": re.compile(rf"(?i:(?:{_FINAL}){_BETWEEN}){body}", re.MULTILINE),
        "stated": re.compile(rf"(?<![^\W_])(?i:(?:{_CUES}){_BETWEEN}){body}", re.MULTILINE),
        "leading": re.compile(rf"\A\W*(?i:(?:either|both|option|choice)\s+)?{body}", re.MULTILINE),
        "lines": re.compile(rf"^[ \t*>-]*\(?(?P<a>{either})(?P<more>)[*_]*[.):：、](?!\w)", re.MULTILINE),
        "instead": re.compile(rf"\b(?i:but|rather|instead)\s+(?:option\s+)?{_MARK}(?P<a>{either}){_END}(?P<more>)"),
        "mentioned": re.compile(rf"\b(?i:option|choice)\s+{_MARK}(?P<a>{either})(?![\w'’])(?P<more>)"),
        "bracketed": re.compile(rf"[(\[（【](?P<a>{either})[)\]）】](?P<more>)"),
        "bare_line": re.compile(rf"^[\W_]*(?P<a>{either})(?P<more>)[\W_]*$", re.MULTILINE),
        "each": re.compile(rf"(?<!\w)(?:{either})(?!\w)"),
    }


def parse_choice(answer, options):
    """Reads the choice out of an answer.

    Args:
        answer (`str`): the answer.
        options (`dict[str, str]`): the text of each option by its label ("A", "B", ...), in order.

    Returns:
        `tuple[str | None, str]`: the label or `None`, and the rule that decided: `"letter"`, `"option_text"`,
        `"several"` (two options, or a letter with another option's text), `"none"` or `"empty"`.
    """
    answer = unicodedata.normalize("NFKC", answer).strip()
    if not words(answer):
        return None, "empty"
    same = [label for label, text in options.items() if text and words(text) == words(answer)]
    by_letter = _by_letter(answer, options)
    if by_letter is None or (same and len(words(answer)) > 1):
        if same:
            return (same[0], "option_text") if len(same) == 1 else (None, "several")
        return _by_text(answer, options)
    chosen = set(by_letter) | (set(same) if len(words(answer)) == 1 else set())
    return (chosen.pop(), "letter") if len(chosen) == 1 else (None, "several")


def _by_text(answer, options):
    texts = list(dict.fromkeys(text for text in options.values() if words(text)))
    named = options_named(answer, texts)
    chosen = [label for label, text in options.items() if text in named]
    if len(chosen) == 1:
        return chosen[0], "option_text"
    return None, "several" if chosen else "none"


def _by_letter(answer, options):
    """The labels that the clearest statement in the answer chooses, or `None` where no letter is given."""
    patterns = _patterns(tuple(options))
    hidden = _option_texts_with_labels(answer, options)
    for name in _TIERS:
        chosen = set()
        for match in patterns[name].finditer(answer):
            chosen |= _chosen_here(match, answer, options, patterns, hidden, name)
        if name == "leading" and chosen:
            # An answer that lists the options chooses none of them.
            for match in patterns["lines"].finditer(answer):
                chosen |= _chosen_here(match, answer, options, patterns, hidden, "lines")
        if chosen:
            return chosen
    return None


def _chosen_here(match, answer, options, patterns, hidden, name):
    """The labels of one statement that are not denied, with any option whose text stands behind the label."""
    start, end = match.span("a")
    if any(low <= start < high for low, high in hidden):
        return set()
    if name == "bracketed" and _PANEL.search(answer[:start].rstrip("([ ")):
        return set()
    clause = _CLAUSE.split(answer[max(0, match.start() - 40) : start])[-1].casefold()
    if _NOT_BEFORE.search(clause) or _NOT_AFTER.match(answer[end:].casefold()):
        return set()
    label = match.group("a")
    chosen = {label if label in options else label.upper()}
    chosen |= set(patterns["each"].findall(match.group("more")))
    if len(chosen) == 1 and not match.group("more"):
        behind = words(answer[end:].split("\n", 1)[0])
        starts = [(len(words(text)), other) for other, text in options.items() if _starts(behind, words(text))]
        if starts:
            longest = max(starts)[0]
            best = {other for size, other in starts if size == longest}
            chosen |= best if not chosen & best else set()
    return chosen


def _starts(behind, wanted):
    return bool(wanted) and behind[: len(wanted)] == wanted


def _option_texts_with_labels(answer, options):
    """Where option texts stand that contain a label themselves, such as "hepatitis B" or "C. difficile"."""
    spans = []
    labels = {label.casefold() for label in options}
    for text in options.values():
        parts = words(text)
        if len(parts) < 2 or not labels & set(parts):
            continue
        pattern = r"(?<![^\W_])" + r"[\W_]+".join(re.escape(part) for part in parts) + r"(?![^\W_])"
        spans += [match.span() for match in re.finditer(pattern, answer, re.IGNORECASE)]
    return spans
