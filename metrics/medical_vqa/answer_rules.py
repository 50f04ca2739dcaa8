"""How one answer is compared with one reference. No model, no network: only rules, each with a name."""

from collections import Counter

from .ngrams import ngram_statistics
from .text_matching import options_named
from .text_matching import words

YES_NO = ("yes", "no")


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
        `dict`: `outcome` (`"scored"` or `"failed"`), `empty`; `exact_match`, `recall`, `precision`, `f1` between 0 and
        1, or `None` for a failed row; and `ngrams`, the counts of which BLEU is made.
    """
    if prediction is None:
        scores = dict.fromkeys(("exact_match", "recall", "precision", "f1"))
        ngrams = ngram_statistics([], words(reference))
        return {"outcome": "failed", "rule": "no_prediction", "empty": False, **scores, "ngrams": ngrams}
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
        "ngrams": ngram_statistics(said, wanted),
    }
