"""ROUGE, BLEU and METEOR of texts and their references, by the packages that keep them."""

import math
from importlib import import_module

from .wordnet_files import WordNetFiles

ROUGE_TYPES = ("rouge1", "rougeL")


def require(module, package):
    """Imports an optional module.

    Args:
        module (`str`): its name.
        package (`str`): what to install for it.

    Returns:
        the module.

    Raises:
        ImportError: it is not installed; the message names the package.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"report_text needs {module} here. Install it: pip install {package}") from error


def rouge_rows(pairs):
    """ROUGE-1 and ROUGE-L of each pair, by `rouge-score` with its stemmer.

    Args:
        pairs (`list[tuple[str, str]]`): prediction and reference.

    Returns:
        `list[dict[str, float]]`: `rouge1_precision`, `rouge1_recall`, `rouge1_f1` and the same for `rougeL`, 0 to 1.
    """
    scorer = require("rouge_score.rouge_scorer", "rouge-score").RougeScorer(list(ROUGE_TYPES), use_stemmer=True)
    rows = []
    for prediction, reference in pairs:
        scores = scorer.score(reference, prediction)
        row = {}
        for name in ROUGE_TYPES:
            score = scores[name]
            row.update(
                {f"{name}_precision": score.precision, f"{name}_recall": score.recall, f"{name}_f1": score.fmeasure}
            )
        rows.append(row)
    return rows


def bleu_rows(pairs):
    """Sentence BLEU of each pair, by `sacrebleu` (13a tokens, effective order, exponential smoothing).

    Args:
        pairs (`list[tuple[str, str]]`): prediction and reference.

    Returns:
        `list[dict[str, float]]`: `bleu`, 0 to 100.
    """
    bleu = require("sacrebleu.metrics", "sacrebleu").BLEU(effective_order=True)
    return [{"bleu": bleu.sentence_score(prediction, [reference]).score} for prediction, reference in pairs]


def corpus_bleu(pairs):
    """BLEU over all pairs at once, by `sacrebleu`; this is the BLEU that papers report.

    Args:
        pairs (`list[tuple[str, str]]`): prediction and reference.

    Returns:
        `tuple[float | None, str | None]`: 0 to 100 and sacrebleu's signature; `None` without a pair.
    """
    if not pairs:
        return None, None
    bleu = require("sacrebleu.metrics", "sacrebleu").BLEU()
    score = bleu.corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    return score, str(bleu.get_signature())


def meteor_rows(pairs, wordnet):
    """METEOR of each pair, by NLTK, on the words that `rouge-score` style tokenisation gives (letters and digits).

    Args:
        pairs (`list[tuple[str, str]]`): prediction and reference.
        wordnet: what `open_wordnet` returned; without a database the stage that matches synonyms finds none.

    Returns:
        `list[dict[str, float]]`: `meteor`, 0 to 1.
    """
    meteor = require("nltk.translate.meteor_score", "nltk").single_meteor_score
    return [{"meteor": meteor(_words(reference), _words(said), wordnet=wordnet)} for said, reference in pairs]


def _words(text):
    tokenize = require("rouge_score.tokenize", "rouge-score").tokenize
    return tokenize(text, None)


class _NoSynonyms:
    """Stands in for WordNet where there is none: METEOR then matches equal words and equal stems."""

    def synsets(self, word):
        return []


def open_wordnet(folder):
    """Opens WordNet's database files.

    Args:
        folder (`str` or `None`): a folder with `data.noun`, `index.noun`, ... (of `nltk.download("wordnet")`, of
            Debian's package wordnet-base, or of Princeton's archive); `None` looks where NLTK keeps its data.

    Returns:
        `tuple[object, bool]`: what METEOR asks for synonyms, and whether it knows any.

    Raises:
        ValueError: the given folder lacks a file.
    """
    if folder is not None:
        return WordNetFiles(str(folder)), True
    try:
        require("nltk.data", "nltk").find("corpora/wordnet.zip")
        wordnet = require("nltk.corpus", "nltk").wordnet
        wordnet.ensure_loaded()
    except LookupError:
        return _NoSynonyms(), False
    return wordnet, True


def mean(values):
    """The mean, or `None` without values."""
    return math.fsum(values) / len(values) if values else None
