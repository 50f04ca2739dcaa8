"""Words of a text, and the options that a text names. The same file in each metric folder that needs it."""

import re
import unicodedata

_NEGATIONS = frozenset(
    {"not", "no", "never", "without", "cannot", "isn", "aren", "wasn", "doesn", "don", "neither", "nor"}
)
# A negation reaches this many words further: "not an axial slice" denies axial.
_NEGATION_REACH = 3
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")
_WORD_OR_CLAUSE_END = re.compile(rf"(?P<word>{_WORD.pattern})|[.,;:!?\n]")
_CLAUSE_STARTS = frozenset({"but", "instead", "rather"})
_VERBS = frozenset({"is", "are", "was", "were", "can", "could", "would", "seems", "isn", "aren", "wasn", "cannot"})
_EXCLUSIONS = frozenset({"excluded", "unlikely", "incorrect", "wrong", "false", "ruled", "absent"})


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
            if wanted in (["yes"], ["no"]) or not _denied(tokens, clauses, used, start, start + size):
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


def _denied(tokens, clauses, used, start, end):
    """Whether an option is negated, before it ("not an axial slice") or after it ("axial is unlikely")."""

    def here(index):
        """A word of the same clause that is not itself part of an option."""
        return not used[index] and clauses[index] == clauses[start]

    if any(tokens[i] in _NEGATIONS and here(i) for i in range(max(0, start - _NEGATION_REACH), start)):
        return True
    after = [tokens[i] for i in range(end, min(end + 3, len(tokens))) if here(i)]
    if not after or after[0] not in _VERBS:
        return False
    # "is excluded" and "is not seen" deny, "is not excluded" does not.
    return any(word in _NEGATIONS for word in after) != any(word in _EXCLUSIONS for word in after)
