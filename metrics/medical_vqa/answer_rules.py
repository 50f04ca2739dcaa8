"""How one answer is compared with one reference. No model, no network: only rules, each with a name."""

import re
import unicodedata
from collections import Counter

YES_NO = ("yes", "no")
_NEGATIONS = frozenset(
    {"not", "no", "never", "without", "cannot", "isn", "aren", "wasn", "doesn", "don", "neither", "nor"}
)
# A negation reaches this many words further: "not an axial slice" denies axial.
_NEGATION_REACH = 3
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")
_WORD_OR_CLAUSE_END = re.compile(rf"(?P<word>{_WORD.pattern})|[.,;:!?\n]")
_CLAUSE_STARTS = frozenset({"but", "instead", "rather"})


def words(text):
    """Splits a text into comparable words: one Unicode form, no case, no punctuation.

    Args:
        text (`str`): any text.

    Returns:
        `list[str]`: the words; a decimal number is one word.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def options_named(answer, options):
    """Finds the options that an answer names as whole words and does not deny.

    The longest option is looked for first and its words are used up, so "not visible" does not also name "visible".

    Args:
        answer (`str`): the answer.
        options (`list[str]`): the possible answers.

    Returns:
        `list[str]`: the options named, in the order of `options`.
    """
    tokens, clauses = _clauses(answer)
    used = [False] * len(tokens)
    found = set()
    by_length = sorted(((words(option), option) for option in options), key=lambda pair: -len(pair[0]))
    for wanted, option in by_length:
        size = len(wanted)
        for start in range(len(tokens) - size + 1 if size else 0):
            if tokens[start : start + size] != wanted or any(used[start : start + size]):
                continue
            used[start : start + size] = [True] * size
            if wanted in (["yes"], ["no"]) or not _denied(tokens, clauses, used, start):
                found.add(option)
    return [option for option in options if option in found]


def _clauses(text):
    """The words of a text, and for each the number of the clause it stands in."""
    tokens, clauses, clause = [], [], 0
    for match in _WORD_OR_CLAUSE_END.finditer(unicodedata.normalize("NFKC", text).casefold()):
        word = match.group("word")
        if word is None or word in _CLAUSE_STARTS:
            clause += 1
        if word is not None:
            tokens.append(word)
            clauses.append(clause)
    return tokens, clauses


def _denied(tokens, clauses, used, start):
    """Whether a negation that is not itself part of an option stands shortly before, in the same clause."""
    before = range(max(0, start - _NEGATION_REACH), start)
    return any(tokens[i] in _NEGATIONS and not used[i] and clauses[i] == clauses[start] for i in before)


def judge_closed(prediction, reference, options):
    """Decides a closed question.

    Args:
        prediction (`str` or `None`): the answer; `None` when there is none because something failed.
        reference (`str`): the right answer.
        options (`list[str]`): the possible answers; yes and no are known when the reference is one of them.

    Returns:
        `dict`: `outcome` (`"right"`, `"wrong"`, `"unparsed"` or `"failed"`), `rule` (which rule decided) and `empty`.
    """
    if prediction is None:
        return {"outcome": "failed", "rule": "no_prediction", "empty": False}
    said, wanted = words(prediction), words(reference)
    if not said:
        return {"outcome": "unparsed", "rule": "empty", "empty": True}
    if said == wanted:
        return {"outcome": "right", "rule": "equal", "empty": False}
    if not options and wanted in (["yes"], ["no"]):
        options = YES_NO
    if not options:
        return {"outcome": "wrong", "rule": "not_equal", "empty": False}
    if any(said == words(option) for option in options):
        return {"outcome": "wrong", "rule": "equals_other_option", "empty": False}
    named = options_named(prediction, options)
    if len(named) != 1:
        return {"outcome": "unparsed", "rule": "several_options" if named else "no_option", "empty": False}
    return {"outcome": "right" if words(named[0]) == wanted else "wrong", "rule": "one_option", "empty": False}


def judge_open(prediction, reference):
    """Compares an open answer with its reference word by word, counting repeated words once for each repetition.

    Args:
        prediction (`str` or `None`): the answer; `None` when there is none because something failed.
        reference (`str`): the reference answer.

    Returns:
        `dict`: `outcome` (`"scored"` or `"failed"`), `empty`, and `exact_match`, `recall`, `precision`, `f1` between 0
        and 1, or `None` for a failed row.
    """
    if prediction is None:
        scores = dict.fromkeys(("exact_match", "recall", "precision", "f1"))
        return {"outcome": "failed", "rule": "no_prediction", "empty": False, **scores}
    said, wanted = words(prediction), words(reference)
    shared = sum((Counter(said) & Counter(wanted)).values())
    precision = shared / len(said) if said else 0.0
    recall = shared / len(wanted) if wanted else 0.0
    return {
        "outcome": "scored",
        "rule": "tokens" if said else "empty",
        "empty": not said,
        "exact_match": float(said == wanted),
        "recall": recall,
        "precision": precision,
        "f1": 2 * precision * recall / (precision + recall) if shared else 0.0,
    }
