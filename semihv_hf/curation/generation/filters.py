"""Which texts of a reply are kept: rules with names, so that each text that is left out has a reason that is counted.

The words that the rules look for are English ([`filter_words`]); for another language only the rules that know no
words apply. How far `ungrounded` reaches is said in [`grounding`].
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from semihv_hf.curation.generation.filter_words import CAUTION, EMPTY_WORDS, LEAK, REFUSAL, UNANSWERABLE
from semihv_hf.curation.generation.grounding import made_up_measurement, other_diagnosis, wrong_side
from semihv_hf.curation.generation.languages import language_problem
from semihv_hf.errors import SemiHVError

# Every rule, in the order in which they are asked: a text that breaks several is counted under the first.
RULES: Mapping[str, str] = {
    "unreadable": "the reply has not the headings that were asked for",
    "no_pairs": "the model found nothing to ask about",
    "surplus": "more questions than were asked for; the first ones are kept",
    "wrong_image": "a description of an image that the request does not show, or a second one of the same",
    "too_short": "an empty text, or one with fewer words than its kind has at least",
    "too_long": "more words than its kind has at most",
    "refusal": "the model declines, or speaks of itself as a language model",
    "wrong_language": "not in the language that was asked for",
    "leak": "it speaks of the caption, text, guideline or case that was given",
    "unanswerable": "the answer is that it cannot be told",
    "answer_in_question": "the question contains its answer",
    "copied_source": "every sentence stands in the source, word for word",
    "evidence_echo": "a long run of words is copied from a guideline, another patient's case or an example",
    "ungrounded": "a measurement that nothing supports, or a side or diagnosis that contradicts the source",
    "duplicate_question": "the record asks the same already",
    "after_rejected": "a turn behind one that was left out, to which it may refer",
}
KINDS = ("question", "answer", "report", "description")
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*(?:['’][^\W\d_]+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_CHOICE = re.compile(r"\bor\b|:\s", re.IGNORECASE)
_YES_NO = re.compile(r"^\W*(?:yes|no|both|neither|none)\b", re.IGNORECASE)
_CHINESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
# Copied sentences shorter than this are what everybody would write.
_LEAST_COPIED = 6
_NEW_WORDS = 8


@dataclass(frozen=True)
class Limits:
    """Bounds of the filters, in words.

    Args:
        report (`tuple[int, int]`, *optional*, defaults to `(6, 800)`): fewest and most words of a report.
        description (`tuple[int, int]`, *optional*, defaults to `(6, 800)`): of a description.
        question (`tuple[int, int]`, *optional*, defaults to `(3, 120)`): of a question.
        answer (`tuple[int, int]`, *optional*, defaults to `(1, 400)`): of an answer.
        echo (`int`, *optional*, defaults to 10): words in a row that may not come from evidence, at least 4.

    Raises:
        `SemiHVError`: a bound has no sense.
    """

    report: tuple[int, int] = (6, 800)
    description: tuple[int, int] = (6, 800)
    question: tuple[int, int] = (3, 120)
    answer: tuple[int, int] = (1, 400)
    echo: int = 10

    def __post_init__(self):
        for kind in KINDS:
            bounds = getattr(self, kind)
            whole = isinstance(bounds, tuple) and len(bounds) == 2 and all(type(bound) is int for bound in bounds)
            if not whole or not 1 <= bounds[0] <= bounds[1]:
                raise SemiHVError(f"The limits of a {kind} are {bounds!r}.", "Give fewest and most words, from 1 on.")
        if type(self.echo) is not int or self.echo < 4:
            raise SemiHVError(f"The limit of the echo is {self.echo}.", "Give at least 4 words.")


@dataclass(frozen=True)
class Rejected:
    """A text of a reply that was left out.

    Args:
        rule (`str`): one of `RULES`.
        detail (`str`): what gave it away, in one line.
        place (`str`, *optional*, defaults to `""`): where it stood in the reply, for example `"pairs[2].answer"`.
        text (`str`, *optional*, defaults to `""`): the text; of a pair both.
    """

    rule: str
    detail: str
    place: str = ""
    text: str = ""


@dataclass(frozen=True)
class Known:
    """What a reply is held against.

    Args:
        texts (`tuple[str, ...]`, *optional*): what is written about the case itself.
        facts (`tuple[str, ...]`, *optional*): what its files state.
        evidence (`tuple[str, ...]`, *optional*): what is written about others: guidelines, similar cases, examples.
        guidelines (`tuple[str, ...]`, *optional*): those of `evidence` that are general knowledge.
        language (`str`, *optional*, defaults to `"en"`): the language that was asked for.
        foreign (`bool`, *optional*, defaults to `False`): whether `texts` are in another language, so that sides and
            diagnoses cannot be compared.
        closed (`bool`, *optional*, defaults to `False`): whether nothing may be said that `texts` do not say, as when
            an expert's caption is only reworded.
    """

    texts: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    guidelines: tuple[str, ...] = ()
    language: str = "en"
    foreign: bool = False
    closed: bool = False


class Filter:
    """Applies the rules to the texts of one reply.

    Args:
        known ([`Known`]): what they are held against.
        limits ([`Limits`], *optional*): the bounds.
    """

    def __init__(self, known: Known, limits: Limits | None = None):
        self.known = known
        self.limits = limits or Limits()
        self._sentences = {words(sentence) for text in known.texts for sentence in _SENTENCE.split(text)}
        self._echoes = _grams(known.evidence, self.limits.echo)
        if self._echoes:
            self._echoes -= _grams(known.texts, self.limits.echo)
        self._asked: list[frozenset[str]] = []

    def text(self, text: str, kind: str, place: str = "") -> Rejected | None:
        """Judges a report or a description.

        Args:
            text (`str`): the text.
            kind (`str`): one of `KINDS`.
            place (`str`, *optional*): where it stood.

        Returns:
            [`Rejected`] or `None`: the first rule that it breaks.
        """
        found = self._form(text, kind) or self._copied(text) or self._echo(text) or self._ungrounded(text)
        return found and Rejected(*found, place, text)

    def pair(self, question: str, answer: str, place: str = "") -> Rejected | None:
        """Judges a question with its answer. A pair that is kept is remembered: it cannot be asked again.

        Args:
            question (`str`): the question.
            answer (`str`): the answer.
            place (`str`, *optional*): where the pair stood.

        Returns:
            [`Rejected`] or `None`: the first rule that it breaks; the place says whether question or answer does.
        """
        both = f"{question}\n{answer}"
        if found := self._form(question, "question"):
            return Rejected(*found, f"{place}.question", both)
        found = self._form(answer, "answer") or self._given_away(question, answer) or self._copied(answer)
        found = found or self._echo(answer) or self._ungrounded(answer, question)
        if found:
            return Rejected(*found, f"{place}.answer", both)
        if found := self._echo(question) or self._ungrounded(question):
            return Rejected(*found, f"{place}.question", both)
        asked = frozenset(word for word in words(question) if word not in EMPTY_WORDS) or frozenset(words(question))
        if asked in self._asked:
            return Rejected("duplicate_question", "an earlier question has the same words", f"{place}.question", both)
        self._asked.append(asked)
        return None

    def _form(self, text: str, kind: str) -> tuple[str, str] | None:
        count = len(_WORD.findall(text)) + len(_CHINESE.findall(text))
        least, most = getattr(self.limits, kind)
        if count < least:
            return "too_short", f"{count} words, at least {least} of a {kind}"
        if count > most:
            return "too_long", f"{count} words, at most {most} of a {kind}"
        if self.known.language == "en" and (found := REFUSAL.search(text)):
            return "refusal", _quoted(found)
        if problem := language_problem(text, self.known.language):
            return "wrong_language", problem
        if self.known.language != "en":
            return None
        if found := LEAK.search(text):
            return "leak", _quoted(found)
        return self._untold(text) if kind != "question" else None

    def _untold(self, text: str) -> tuple[str, str] | None:
        """A longer text may say in one of its sentences what an image cannot settle."""
        sentences = [sentence for sentence in _SENTENCE.split(text) if sentence.strip()]
        for sentence in sentences:
            if found := UNANSWERABLE.search(sentence):
                if len(sentences) < 3 or not CAUTION.search(sentence):
                    return "unanswerable", _quoted(found)
        return None

    def _given_away(self, question: str, answer: str) -> tuple[str, str] | None:
        if _YES_NO.match(answer) or _CHOICE.search(question):
            return None
        told = [word for word in words(answer) if word not in EMPTY_WORDS]
        asked = set(words(question))
        if told and all(word in asked for word in told):
            return "answer_in_question", f"the question has {' '.join(told)[:80]!r}"
        return None

    def _copied(self, text: str) -> tuple[str, str] | None:
        sentences = [words(sentence) for sentence in _SENTENCE.split(text)]
        sentences = [sentence for sentence in sentences if sentence]
        if sum(map(len, sentences)) >= _LEAST_COPIED and all(sentence in self._sentences for sentence in sentences):
            return "copied_source", f"{' '.join(sentences[0])[:80]!r} stands in the source"
        return None

    def _echo(self, text: str) -> tuple[str, str] | None:
        for gram in _in_order(text, self.limits.echo) if self._echoes else ():
            if gram in self._echoes:
                return "evidence_echo", f"{' '.join(gram)[:120]!r} stands in the evidence"
        return None

    def _ungrounded(self, text: str, question: str = "") -> tuple[str, str] | None:
        if self.known.language != "en":
            return None
        own = (*self.known.texts, *self.known.facts)
        if found := made_up_measurement(text, own, self.known.guidelines):
            return "ungrounded", f"measurement {found!r} comes from nowhere"
        if self.known.foreign:
            return None
        if found := wrong_side(text, own, self.known.closed):
            return "ungrounded", f"side {found!r} contradicts the source"
        if found := other_diagnosis(text, (*own, question), self.known.closed):
            return "ungrounded", f"diagnosis {found!r} contradicts the source"
        return self._added(text) if self.known.closed else None

    def _added(self, text: str) -> tuple[str, str] | None:
        """Rewording brings some words of its own; more than as many again as the source has are no rewording."""
        given = {word for item in self.known.texts for word in words(item)} - EMPTY_WORDS
        new = set(words(text)) - EMPTY_WORDS - given
        if len(new) > _NEW_WORDS + 1.5 * len(given):
            return "ungrounded", f"{len(new)} words of content are not in the source, which has {len(given)}"
        return None


# A rule after the other asks for the words of the same question, answer and source.
@lru_cache(maxsize=512)
def words(text: str) -> tuple[str, ...]:
    """The words of a text, for comparing.

    Args:
        text (`str`): any text.

    Returns:
        `tuple[str, ...]`: in lower case, without punctuation; numbers keep their decimals.
    """
    return tuple(_WORD.findall(text.casefold().replace("’", "'")))


def _in_order(text: str, size: int) -> Iterable[tuple[str, ...]]:
    found = words(text)
    return (found[place : place + size] for place in range(len(found) - size + 1))


def _grams(texts: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {gram for text in texts for gram in _in_order(text, size)}


def _quoted(found: re.Match) -> str:
    return repr(" ".join(found[0].split())[:120])
