"""Finds the phrases of a vocabulary in text: whole words, longest match, blind to case, hyphens and plurals."""

import re
import unicodedata
from functools import lru_cache

# A possessive belongs to its word; a hyphen, a slash or an underscore ends one.
_WORD = re.compile(r"([^\W_]+)(?:['’]s\b)?|([.;!?]+(?=\s|$)|\n\s*\n)|(:)")
SENTENCE_END = "."
BARRIER = ":"
# Not "a", which is a name in "vitamin A deficiency".
_ARTICLES = frozenset(("the",))


@lru_cache(maxsize=200_000)
def normal_form(word):
    """Brings one word to the form in which words are compared.

    The plural rules are those of Harman's S-stemmer (1991, "How effective is suffixing?"), with the Greek and Latin
    plurals of medicine added; a form need not be a word, it only has to be the same for both numbers.

    Args:
        word (`str`): one word without punctuation.

    Returns:
        `str`: lower case, without accents, singular, US spelling ("Oedemas" and "edema" are both "edema").
    """
    form = unicodedata.normalize("NFKD", word).casefold()
    form = "".join(letter for letter in form if not unicodedata.combining(letter))
    if len(form) > 3 and form.endswith("ae"):
        form = form[:-1]
    if len(form) > 4:
        form = form.replace("ae", "e").replace("oe", "e")
    if len(form) > 5 and form.endswith("our"):
        form = form[:-3] + "or"
    if len(form) <= 3:
        return form
    if form.endswith("ies"):
        return form[:-3] + "y"
    if form.endswith(("sses", "xes", "ches", "shes")):
        return form[:-2]
    if form.endswith("sis") and len(form) > 4:
        return form[:-3] + "se"  # metastasis, metastases
    if form.endswith("s") and not form.endswith(("us", "ss", "is")):
        return form[:-1]
    return form


def split_words(text):
    """Splits text into compared words.

    Args:
        text (`str`): any text.

    Returns:
        `tuple[list[str], list[tuple[int, int]]]`: the forms, with [`SENTENCE_END`] and [`BARRIER`] standing for full
        stops and colons, which no phrase crosses; and where each stands in the text (start, end).
    """
    forms, spans = [], []
    for match in _WORD.finditer(text):
        word, stop, _ = match.groups()
        if word and word.lower() in _ARTICLES:
            continue
        forms.append(normal_form(word) if word else SENTENCE_END if stop else BARRIER)
        spans.append(match.span(1) if word else match.span())
    return forms, spans


class PhraseMatcher:
    """An Aho-Corasick automaton over whole words that prefers the leftmost, then the longest phrase.

    Args:
        phrases (`Iterable[tuple[str, Any]]`): a phrase, as it is written, and what it means. Phrases that become the
            same words share one entry, a list of their meanings.
    """

    def __init__(self, phrases):
        import ahocorasick_rs

        self.meanings = {}
        for phrase, meaning in phrases:
            forms = [form for form in split_words(phrase)[0] if form not in (SENTENCE_END, BARRIER)]
            if forms:
                self.meanings.setdefault(_padded(forms), []).append(meaning)
        self._values = list(self.meanings.values())
        self._automaton = ahocorasick_rs.AhoCorasick(
            list(self.meanings), matchkind=ahocorasick_rs.MatchKind.LeftmostLongest
        )

    def find(self, forms):
        """Finds phrases that do not overlap.

        Args:
            forms (`list[str]`): the words, from [`split_words`].

        Returns:
            `list[tuple[int, int, list]]`: first word, word after the last, and the meanings, in the order of the text.
        """
        starts, ends, position = {}, {}, 0
        for index, form in enumerate(forms):
            starts[position] = index
            position += len(form) + 2
            ends[position] = index + 1
        found = self._automaton.find_matches_as_indexes(_padded(forms))
        return [(starts[start], ends[end], self._values[number]) for number, start, end in found]


def _padded(forms):
    """Every word in blanks of its own, so that neighbouring phrases do not compete for one blank."""
    return "".join(f" {form} " for form in forms)
