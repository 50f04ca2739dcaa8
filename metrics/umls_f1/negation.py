"""Which mentions a text denies: trigger phrases with a scope, after NegEx (Chapman et al., 2001)."""

from functools import lru_cache

from .phrase_matching import SENTENCE_END
from .phrase_matching import PhraseMatcher

# They look like a denial of the finding and are none; the longest trigger wins, so each also hides the one inside it.
_NO_DENIAL = """cannot exclude; cannot be excluded; can not be excluded; cannot entirely exclude; not excluded; not
be excluded; cannot rule out; cannot be ruled out; not ruled out; not been ruled out; not only; not necessarily; not
certain whether; not clear whether; no change; no changes; no significant change; no interval change; no relevant
change; no significant interval change; no increase; no interval increase; no significant increase; no decrease; no
improvement; no worsening; not significantly changed; not changed; not substantially changed; without change; without
significant change; without difficulty; without interval change; no doubt; not improved; not worsened; not increased;
not resolved; not yet resolved"""

_BEFORE = """no; not; without; denies; denied; denying; negative for; free of; free from; clear of; absence of; lack
of; lacks; lacking; no evidence of; no signs of; no sign of; nor; neither; never; rules out; ruled out for; excludes;
fails to reveal; failed to reveal; fails to show; resolution of; interval resolution of; instead of; rather than"""

_AFTER = """absent; is absent; are absent; none; negative; not seen; not present; not identified; not evident; not
visible; not visualized; not visualised; not demonstrated; not detected; not appreciated; not found; not noted; not
observed; not apparent; not suspected; ruled out; is excluded; are excluded; was excluded; has been excluded; have
been excluded; no longer seen; no longer present; no longer visible; no longer identified; no longer evident; has
resolved; have resolved; resolved; completely resolved"""

_STOP = """but; however; although; though; yet; except; except for; aside from; apart from; other than; besides;
nevertheless; still; whereas; while; which; because; secondary to; due to; there is; there are; shows; showing;
reveals; revealing; demonstrates; demonstrating; consistent with; compatible with; suggestive of; suggesting;
concerning for; suspicious for; likely; probable; possible; in favor of; in favour of; as a cause of; as the cause
of"""

# A finding is at most this many words before the trigger that denies it from behind, and a verb on the way must lead
# into that trigger: in "cardiomegaly is present, effusion is not seen" only the effusion is denied.
_AFTER_REACH = 12
_VERBS = frozenset(("is", "are", "was", "were", "has", "have", "remain", "persist", "appear"))
_VERB_REACH = 2


@lru_cache(maxsize=1)
def _triggers():
    phrases = {}
    for kind, text in (("none", _NO_DENIAL), ("before", _BEFORE), ("after", _AFTER), ("stop", _STOP)):
        for phrase in text.replace("\n", " ").split(";"):
            phrases.setdefault(phrase.strip(), kind)
    return PhraseMatcher(phrases.items())


def denied(forms, mentions):
    """Decides for every mention whether the text denies it.

    A trigger before a mention reaches to the end of the sentence, since reports deny whole lists ("no effusion,
    pneumothorax or fracture"), or to a word that ends its scope ("but", "there is"). A trigger behind a mention
    reaches back likewise, at most twelve words; so does one that closes its sentence ("Effusion: no."). A trigger
    inside a mention ("absent thumb") is part of the finding's name.

    Args:
        forms (`list[str]`): the words of the text, from `split_words`.
        mentions (`list[tuple[int, int]]`): first word and word after the last, of each mention.

    Returns:
        `list[bool]`: one a mention; a doubtful mention ("cannot exclude") is not denied.
    """
    if not mentions:
        return []
    taken = {index for first, last in mentions for index in range(first, last)}
    marks = {}
    for first, last, kinds in _triggers().find(forms):
        if not any(index in taken for index in range(first, last)):
            kind = kinds[0]
            if kind == "before" and (last == len(forms) or forms[last] == SENTENCE_END):
                kind = "after"
            marks[first] = (last, kind)
    return [_denied_before(forms, marks, first) or _denied_after(forms, marks, last) for first, last in mentions]


def _denied_before(forms, marks, first):
    for index in range(first - 1, -1, -1):
        if forms[index] == SENTENCE_END:
            return False
        if index in marks:
            kind = marks[index][1]
            if kind in ("stop", "none"):
                return False
            if kind == "before":
                return True
    return False


def _denied_after(forms, marks, last):
    index = last
    while index < min(len(forms), last + _AFTER_REACH):
        if forms[index] == SENTENCE_END:
            return False
        end, kind = marks.get(index, (index + 1, None))
        if kind in ("stop", "none", "before"):
            return False
        if kind == "after":
            return True
        if forms[index] in _VERBS and not any(
            marks.get(near, (0, None))[1] == "after" for near in range(index + 1, index + 1 + _VERB_REACH)
        ):
            return False
        index = end
    return False
