"""The arithmetic of LLaVA-Med's `run_eval.py`, restated with its errors, so that published figures can be compared.

Two states of that script were public: the first release (commit ad758b6), in which a closed answer that holds "yes" or
"no" but not the reference is left out of the denominator, and the corrected one (commit b9a98a7, pull request 35).
"""

import math
import re
import sys
from collections import Counter

PROTOCOLS = ("llava-med", "llava-med-first-release")
OPEN_SCORES = ("recall", "precision", "f1", "exact_match", "bleu", "bleu_1", "bleu_2", "bleu_3")

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {
    "none": "0",
    **{word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())},
}
# Contractions whose apostrophes the VQA evaluation puts back; their spelling without one is the key.
_APOSTROPHES = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd
it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't somebody'll
somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd they'll
they're they've wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's
who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
""".split()
_DOUBLE = """
couldn't've hadn't've he'd've it'd've mightn't've shouldn't've somebody'd've someone'd've something'd've there'd've
they'd've we'd've who'd've wouldn't've you'd've
"""
_DIGIT_COMMA = re.compile(r"\d,\d")
_LAST_PERIOD = re.compile(r"\.(?!\d)")
# The script passes a flag where `re.sub` takes a number, so only the first 32 periods go.
_PERIODS_REMOVED = 32


def _contractions():
    table = {text.replace("'", ""): text for text in _APOSTROPHES}
    for text in _DOUBLE.split():
        first, second = text.index("'"), text.rindex("'")
        table[text[:first] + text[first + 1 :]] = text
        table[text[:second] + text[second + 1 :]] = text
    # Entries of the script's table that follow no rule.
    table.update({"shed've": "she'd've", "she'dve": "she'd've", "somebody'd": "somebodyd", "twas": "'twas"})
    table.update(dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at"))
    table.update({"y'allll": "y'all'll", "y'all'dve": "y'all'd've", "y'alld've": "y'all'd've"})
    table.update({"yall'd've": "y'all'd've", "yall'll": "y'all'll"})
    return table


_CONTRACTIONS = _contractions()


def normalise(text):
    """Brings a text into the script's form: punctuation, articles, number words and contractions.

    Args:
        text (`str`): any text.

    Returns:
        `str`: lower-case words with one space between them.
    """
    joined = bool(_DIGIT_COMMA.search(text))
    result = text
    for mark in _PUNCTUATION:
        beside_a_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_a_space or joined else " ")
    result = _LAST_PERIOD.sub("", result, count=_PERIODS_REMOVED)
    kept = [_NUMBERS.get(word, word) for word in result.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in kept if word not in _ARTICLES).replace(",", "")


def closed_hit(prediction, reference, protocol):
    """Whether the script counts a closed answer.

    Args:
        prediction (`str`): the answer.
        reference (`str`): the right answer.
        protocol (`str`): one of `PROTOCOLS`.

    Returns:
        `int` or `None`: 1 or 0, or `None` where the first release leaves the row out.
    """
    said, wanted = normalise(prediction.lower()), normalise(reference.lower())
    if "yes" not in said and "no" not in said:
        return 0
    if wanted in said:
        return 1
    return None if protocol == "llava-med-first-release" else 0


def open_scores(prediction, reference):
    """The script's numbers for an open answer.

    Args:
        prediction (`str`): the answer.
        reference (`str`): the right answer.

    Returns:
        `dict[str, float]`: `OPEN_SCORES`, each between 0 and 1. `exact_match` is the share of the answer's words that
        are different words of the reference; `bleu_2` and `bleu_3` are precisions of that order alone.
    """
    said, wanted = normalise(prediction.lower()), normalise(reference.lower())
    bleu = {
        "bleu": (0.25,) * 4,
        "bleu_1": (1, 0, 0, 0),
        "bleu_2": (0, 1, 0, 0),
        "bleu_3": (0, 0, 1, 0),
    }
    precisions = _modified_precisions(said.split(), wanted.split())
    scores = {name: _sentence_bleu(precisions, said.split(), wanted.split(), bleu[name]) for name in bleu}
    # The token scores normalise once more, which matters where punctuation hid an article.
    answer, truth = Counter(normalise(said).split()), Counter(normalise(wanted).split())
    length = sum(answer.values())
    hits = sum(count for word, count in answer.items() if word in truth)
    missed = sum(count for word, count in truth.items() if word not in answer)
    precision = hits / length if length and truth else 0.0
    recall = hits / (hits + missed) if hits else 0.0
    scores["precision"], scores["recall"] = precision, recall
    scores["f1"] = 2 * precision * recall / (precision + recall) if hits else 0.0
    scores["exact_match"] = sum(word in answer for word in truth) / length if length else 0.0
    return scores


def _modified_precisions(said, wanted):
    """Matching n-grams and n-grams, for one to four words, as NLTK counts them."""
    pairs = []
    for order in (1, 2, 3, 4):
        mine = Counter(zip(*(said[i:] for i in range(order))))
        theirs = Counter(zip(*(wanted[i:] for i in range(order))))
        pairs.append((sum((mine & theirs).values()), max(1, sum(mine.values()))))
    return pairs


def _sentence_bleu(precisions, said, wanted, weights):
    """NLTK's `sentence_bleu` of one reference without smoothing: an order without a match is the smallest float."""
    if not precisions[0][0]:
        return 0.0
    brevity = 1.0 if len(said) > len(wanted) else math.exp(1 - len(wanted) / len(said))
    logs = [
        weight * math.log(matches / total if matches else sys.float_info.min)
        for weight, (matches, total) in zip(weights, precisions)
    ]
    return brevity * math.exp(math.fsum(logs))
