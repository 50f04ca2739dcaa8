"""What other tools' arithmetic gives for one row: small restatements, for the tables of the metric cards only.

Read in LLaVA-Med (`run_eval.py`, commit b9a98a7), MedEvalKit (`utils/utils.py`, state of February 2026) and VLMEvalKit
(`vlmeval/utils/matching_util.py`). Only what the tables' rows need is restated.
"""

import difflib
import math
import re
from collections import Counter

_LLAVA_ARTICLES = {"a", "an", "the"}


def _llava_words(text):
    text = re.sub(r"[,.?!;()/-]", " ", text.lower())
    return [word for word in text.split() if word not in _LLAVA_ARTICLES]


def llava_med_closed(prediction, reference):
    """1 or 0: some "yes" or "no" anywhere in the text, even inside a word, and the reference in it too."""
    said, wanted = " ".join(_llava_words(prediction)), " ".join(_llava_words(reference))
    return int(("yes" in said or "no" in said) and wanted in said)


def llava_med_open(prediction, reference):
    """Precision, recall, F1 and "exact match"; a word said twice is two hits, however often the reference has it."""
    said, wanted = Counter(_llava_words(prediction)), Counter(_llava_words(reference))
    hits = sum(count for word, count in said.items() if word in wanted)
    if not hits:
        return 0.0, 0.0, 0.0, 0.0
    precision = hits / sum(said.values())
    recall = hits / (hits + sum(count for word, count in wanted.items() if word not in said))
    exact = len(set(said) & set(wanted)) / sum(said.values())
    return precision, recall, 2 * precision * recall / (precision + recall), exact


def _medevalkit_answer(response):
    response = response.lower()
    for cue in ("answer is", "answer:", "final answer"):
        response = response.split(cue)[-1]
    return response


def medevalkit_closed(prediction, reference):
    """1 or 0: one of "yes" and "no" as a substring, not both, and the reference in it too."""
    said = _medevalkit_answer(prediction).replace("\n", "").replace(".", "")
    return int((("yes" in said) != ("no" in said)) and reference.lower() in said)


def medevalkit_open(prediction, reference):
    """The numbers labelled precision, recall, F1: the function returns F1 first, its caller expects it last."""
    said, wanted = set(_medevalkit_answer(prediction).split()), set(reference.lower().split())
    if not said:
        return "raises"  # one 0 is returned and three values are unpacked
    common = len(said & wanted)
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


def medevalkit_choice(prediction, options):
    """The letter that is scored: a bare letter, else an option's text, else whatever option looks most alike."""
    said = _medevalkit_answer(prediction).strip().replace("\n", "")
    head = said.split(".")[0].split(":")[-1]
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(options)]
    texts = [option.lower() for option in options]
    if head and head in letters and len(head) == 1:
        return head.upper()
    if head in texts:
        return letters[texts.index(head)].upper()
    ratios = [difflib.SequenceMatcher(None, text, said).ratio() for text in texts]
    return letters[ratios.index(max(ratios))].upper()


def vlmevalkit_choice(prediction, options):
    """The letter, or "random": the one letter among the last words, else the one option text, else by lot."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", prediction).split()
    named = [letter for letter in letters if letter in words]
    # The letter must stand near the end.
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    said = prediction.lower()
    texts = [letter for letter, option in zip(letters, options) if option.lower() in said]
    short = len(said) <= 2 * sum(map(len, options))
    return texts[0] if short and len(texts) == 1 else "random"


def medevalkit_report(prediction, reference):
    """ROUGE-1 F1 over sets of words, as its package counts, and BLEU-4 of one text, unsmoothed."""
    if not prediction.strip():
        return "raises"
    said, wanted = (text.lower().replace(".", " .").split(" ") for text in (prediction, reference))
    set_said, set_wanted = (set(text.lower().replace(".", " ").split()) for text in (prediction, reference))
    common = len(set_said & set_wanted)
    rouge = 2 * common / (len(set_said) + len(set_wanted))
    return rouge, _sentence_bleu(said, wanted)


def _sentence_bleu(said, wanted):
    logs = []
    for order in (1, 2, 3, 4):
        mine = Counter(zip(*(said[i:] for i in range(order))))
        theirs = Counter(zip(*(wanted[i:] for i in range(order))))
        matches = sum((mine & theirs).values())
        if not matches:
            return 0.0  # NLTK warns, and gives a number like 1e-231
        logs.append(math.log(matches / sum(mine.values())))
    return min(1.0, math.exp(1 - len(wanted) / len(said))) * math.exp(sum(logs) / 4)
