"""ROUGE, BLEU, METEOR and, with a model that the user names, BERTScore of generated reports."""

import warnings
from collections import defaultdict

import datasets
import evaluate

from .neural import bert_rows
from .overlap import bleu_rows
from .overlap import corpus_bleu
from .overlap import mean
from .overlap import meteor_rows
from .overlap import open_wordnet
from .overlap import rouge_rows
from .wordnet_files import WordNetFiles

# WordNetFiles stands here because evaluate copies only those siblings that this file imports.
__all__ = ["ReportText", "WordNetFiles"]

_DESCRIPTION = """
Compares generated reports with reference reports by overlap of words (ROUGE-1, ROUGE-L, BLEU, METEOR) and, with an
encoder that the user names, of their contextual embeddings (BERTScore). An empty report scores 0 and is counted, a
missing one is a failure, counted, and 0 in the means over all rows.
"""

_CITATION = """
@inproceedings{lin2004rouge,
  title={ROUGE: A Package for Automatic Evaluation of Summaries}, author={Lin, Chin-Yew},
  booktitle={Text Summarization Branches Out}, year={2004}
}
@inproceedings{papineni2002bleu,
  title={BLEU: a Method for Automatic Evaluation of Machine Translation},
  author={Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing}, booktitle={ACL}, year={2002}
}
@inproceedings{banerjee2005meteor,
  title={METEOR: An Automatic Metric for MT Evaluation with Improved Correlation with Human Judgments},
  author={Banerjee, Satanjeev and Lavie, Alon}, booktitle={ACL Workshop}, year={2005}
}
@inproceedings{zhang2020bertscore,
  title={BERTScore: Evaluating Text Generation with BERT},
  author={Zhang, Tianyi and Kishore, Varsha and Wu, Felix and Weinberger, Kilian Q. and Artzi, Yoav},
  booktitle={ICLR}, year={2020}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str | None]`): the generated reports; `None` where there is none because something failed.
    references (`list[str]`): the reference reports.
    metrics (`list[str]`, *optional*): any of `"rouge"`, `"bleu"`, `"meteor"` (all three by default).
    bert_model (`str`, *optional*): a folder or Hub id of an encoder; adds BERTScore.
    bert_layers (`int`, *optional*): the hidden layer that BERTScore compares; the recommended or last one by default.
    wordnet (`str`, *optional*): a folder with WordNet's database files, for METEOR's synonyms; by default NLTK's copy
        where there is one, else METEOR matches equal words and stems only, with a warning.
    groups (`list[str]` or `dict[str, list[str]]`, *optional*): a name for each row, such as its modality, or several
        such lists by their titles; adds `by_group`.
    return_rows (`bool`, *optional*, defaults to `False`): adds `rows`, the scores of every row.

Returns:
    `dict`: means over all rows (empty and failed ones are 0) of `rouge1_f1`, `rougeL_f1`, `meteor`, `bertscore_f1` and
    the `_precision` and `_recall` of those that have them, 0 to 1 (BERTScore: -1 to 1); `bleu`, over the corpus, 0 to
    100; higher is better for all; the same over the rows that have a prediction with `_scored`; `settings`; and
    `counts`: `total`, `scored`, `failed`, `empty`.

Examples:

    >>> metric = evaluate.load("metrics/report_text")
    >>> result = metric.compute(
    ...     predictions=["No acute abnormality.", "", None],
    ...     references=["No acute abnormality.", "Small left effusion.", "Normal heart size."],
    ...     metrics=["rouge"],
    ... )
    >>> round(result["rouge1_f1"], 3), round(result["rouge1_f1_scored"], 3)
    (0.333, 0.5)
    >>> result["counts"]
    {'total': 3, 'scored': 2, 'failed': 1, 'empty': 1}

    The longest common subsequence of ROUGE-L is taken word by word; each row has its own scores.

    >>> result = metric.compute(
    ...     predictions=["effusion on the left"], references=["left effusion"], metrics=["rouge"], return_rows=True
    ... )
    >>> result["rows"][0]["rouge1_recall"], result["rows"][0]["rougeL_recall"]
    (1.0, 0.5)
"""

_METRICS = ("rouge", "bleu", "meteor")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ReportText(evaluate.Metric):
    """The `evaluate` module; see `_KWARGS_DESCRIPTION` for its arguments."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            # Not "string": for that type evaluate refuses a first prediction that is None.
            features=datasets.Features(
                {"predictions": datasets.Value("large_string"), "references": datasets.Value("large_string")}
            ),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Takes rows as the base class does, but casts no number and no list to text.

        Args:
            predictions (`list[str | None]`): the generated reports.
            references (`list[str]`): the reference reports.
            kwargs: passed on.

        Raises:
            ValueError: a prediction or reference is neither text nor `None`, or their numbers differ.
        """
        for name, values in (("prediction", predictions), ("reference", references)):
            for index, value in enumerate(values or []):
                if value is not None and not isinstance(value, str):
                    raise ValueError(f"Row {index}: the {name} {value!r} is not text.")
        if predictions is not None and references is not None and len(predictions) != len(references):
            raise ValueError(f"There are {len(predictions)} predictions for {len(references)} references.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        predictions,
        references,
        metrics=_METRICS,
        bert_model=None,
        bert_layers=None,
        wordnet=None,
        groups=None,
        return_rows=False,
    ):
        _check(references, metrics)
        columns = _columns(groups, len(predictions))
        rows, settings = _score(predictions, references, metrics, bert_model, bert_layers, wordnet)
        result = {**_summarise(rows, metrics), "settings": settings}
        if columns:
            parts = {title: _by_group(names, rows, metrics) for title, names in columns.items()}
            result["by_group"] = parts if isinstance(groups, dict) else parts[None]
        if return_rows:
            result["rows"] = [{"outcome": row["outcome"], "empty": row["empty"], **row["scores"]} for row in rows]
        return result


def _check(references, metrics):
    unknown = [name for name in metrics if name not in _METRICS]
    if unknown or isinstance(metrics, str):
        raise ValueError(f"Unknown metrics {metrics!r}; choose a list of {_METRICS}.")
    for index, reference in enumerate(references):
        if reference is None or not reference.strip():
            raise ValueError(f"Row {index} has no reference report: {reference!r}.")


def _columns(groups, count):
    """The group names of the rows by their titles."""
    if groups is None:
        return {}
    columns = groups if isinstance(groups, dict) else {None: groups}
    for title, names in columns.items():
        shown = "groups" if title is None else f"groups[{title!r}]"
        if len(names) != count:
            raise ValueError(f"`{shown}` has {len(names)} entries for {count} predictions.")
        for index, name in enumerate(names):
            if name is None or name == "":
                raise ValueError(f"Row {index} has no name in `{shown}`.")
    return columns


def _score(predictions, references, metrics, bert_model, bert_layers, wordnet):
    """Scores every row that has a text; the others get zeros."""
    rows = []
    for prediction, reference in zip(predictions, references):
        empty = prediction is not None and not prediction.strip()
        outcome = "failed" if prediction is None else "scored"
        pair = (prediction or "", reference)
        rows.append({"outcome": outcome, "empty": empty, "pair": ("", reference) if empty else pair, "scores": {}})
    pairs = [row["pair"] for row in rows if row["pair"][0]]
    settings, parts = {}, []
    if "rouge" in metrics:
        parts.append(rouge_rows(pairs or [("", "")]))
    if "bleu" in metrics:
        parts.append(bleu_rows(pairs or [("", "")]))
        settings["bleu"] = corpus_bleu(pairs or [("", "")])[1]
    if "meteor" in metrics:
        synonyms, known = open_wordnet(wordnet)
        if not known:
            warnings.warn(
                "METEOR runs without WordNet, so synonyms do not match: give `wordnet`, a folder with its files.",
                stacklevel=2,
            )
        parts.append(meteor_rows(pairs or [("", "")], synonyms))
        settings["meteor_stages"] = ["exact", "stem", *(["synonym"] if known else [])]
    if bert_model is not None:
        parts.append(bert_rows(pairs or [("none", "none")], bert_model, bert_layers))
        settings["bert_model"], settings["bert_layers"] = bert_model, bert_layers
    merged = [{name: value for part in scores for name, value in part.items()} for scores in zip(*parts)]
    zeros = dict.fromkeys(merged[0], 0.0) if merged else {}
    remaining = iter(merged)
    for row in rows:
        row["scores"] = next(remaining) if row["pair"][0] else dict(zeros)
        if row["outcome"] == "failed":
            row["scores"] = dict.fromkeys(zeros)
    return rows, settings


def _summarise(rows, metrics):
    answered = [row for row in rows if row["outcome"] == "scored"]
    result = {}
    for name in rows[0]["scores"] if rows else ():
        if name != "bleu":
            result[name] = mean([row["scores"][name] or 0.0 for row in rows])
            result[f"{name}_scored"] = mean([row["scores"][name] for row in answered])
    if "bleu" in metrics:
        result["bleu"] = corpus_bleu([row["pair"] for row in rows])[0]
        result["bleu_scored"] = corpus_bleu([row["pair"] for row in answered])[0]
    result["counts"] = {
        "total": len(rows),
        "scored": len(answered),
        "failed": len(rows) - len(answered),
        "empty": sum(row["empty"] for row in rows),
    }
    return result


def _by_group(names, rows, metrics):
    parts = defaultdict(list)
    for row, name in zip(rows, names):
        parts[name].append(row)
    return {name: _summarise(parts[name], metrics) for name in sorted(parts, key=str)}
