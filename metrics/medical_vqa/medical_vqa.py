"""Closed accuracy and open token scores for medical visual question answering, with every row accounted for."""

import datasets
import evaluate

from .answer_rules import judge_closed
from .answer_rules import judge_open
from .llava_med import PROTOCOLS as PUBLISHED_PROTOCOLS
from .llava_med import closed_hit
from .llava_med import open_scores
from .ngrams import ORDERS
from .summaries import by_group
from .summaries import summarise
from .summaries import summarise_published
from .text_matching import words

# ORDERS stands here because evaluate copies only those siblings that this file imports, without a comment behind.
__all__ = ["ORDERS", "MedicalVQA"]

_DESCRIPTION = """
Scores answers to questions about medical images. A closed question names its possible answers; it is right when the
answer equals the reference or names exactly one of the options, and that is the reference. An open question gets exact
match, token recall, precision and F1, and BLEU-1 to BLEU-4. A missing prediction is a failure: it is counted, kept out
of the scores over answered rows, and wrong in the scores over all rows.
"""

_CITATION = """
@inproceedings{li2023llavamed,
  title={LLaVA-Med: Training a Large Language-and-Vision Assistant for Biomedicine in One Day},
  author={Li, Chunyuan and Wong, Cliff and Zhang, Sheng and Usuyama, Naoto and Liu, Haotian and Yang, Jianwei and
          Naumann, Tristan and Poon, Hoifung and Gao, Jianfeng},
  booktitle={Advances in Neural Information Processing Systems},
  year={2023}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str | None]`): the answers; `None` where there is none because something failed.
    references (`list[str]`): the reference answers.
    answer_types (`list[str]`, *optional*): `"closed"` or `"open"`, one a row. Without it a row is closed when it has
        options or when its reference is yes or no.
    options (`list[list[str]]`, *optional*): the possible answers of each closed row; empty for open rows.
    groups (`list[str]` or `dict[str, list[str]]`, *optional*): a name for each row, such as its modality, or several
        such lists by their titles; adds `by_group`.
    protocol (`str`, *optional*, defaults to `"rules"`): `"rules"`, this module's own; `"llava-med"` or
        `"llava-med-first-release"`, the arithmetic of LLaVA-Med's script, errors included, for comparison with
        published figures only.
    return_rows (`bool`, *optional*, defaults to `False`): adds `rows`, the decision on every row.

Returns:
    `dict`: `closed_accuracy` (over all closed rows, failures wrong) and `closed_accuracy_scored` (over the closed rows
    that have a prediction); `open_recall`, `open_precision`, `open_f1`, `open_exact_match` and `open_bleu_1` to
    `open_bleu_4` likewise, each also with `_scored`, all from 0 to 1, higher is better; `None` where there is no row
    to divide by; `protocol`; and `counts`, with `total`, `scored`, `failed`, `empty`, and for closed rows `correct`,
    `unparsed` and `decided_by`.

Examples:

    "no" inside "normal" is not a no, and an answer that names two options, or none, is unparsed.

    >>> metric = evaluate.load("metrics/medical_vqa")
    >>> result = metric.compute(
    ...     predictions=["The heart looks normal", "No, it does not.", "axial or coronal", "An axial slice", None],
    ...     references=["no", "no", "axial", "axial", "yes"],
    ...     options=[["yes", "no"], ["yes", "no"], ["axial", "coronal"], ["axial", "coronal"], ["yes", "no"]],
    ... )
    >>> result["closed_accuracy"], result["closed_accuracy_scored"]
    (0.4, 0.5)
    >>> result["counts"]["closed"]["unparsed"], result["counts"]["closed"]["failed"]
    (2, 1)

    Open answers are compared word by word.

    >>> result = metric.compute(
    ...     predictions=["CT of the chest"], references=["chest CT"], answer_types=["open"], groups=["CT"]
    ... )
    >>> result["open_recall"], result["open_precision"], result["open_exact_match"]
    (1.0, 0.5, 0.0)
    >>> result["by_group"]["CT"]["counts"]["open"]["total"]
    1

    The published arithmetic finds "no" inside "normal", and misses every closed answer but yes and no.

    >>> rows = dict(predictions=["The heart looks normal"], references=["no"], options=[["yes", "no"]])
    >>> metric.compute(**rows, protocol="llava-med")["closed_accuracy"], metric.compute(**rows)["closed_accuracy"]
    (1.0, 0.0)
"""

_ANSWER_TYPES = ("closed", "open")
_PROTOCOLS = ("rules", *PUBLISHED_PROTOCOLS)


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MedicalVQA(evaluate.Metric):
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
            predictions (`list[str | None]`): the answers.
            references (`list[str]`): the reference answers.
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
        answer_types=None,
        options=None,
        groups=None,
        protocol="rules",
        return_rows=False,
    ):
        if protocol not in _PROTOCOLS:
            raise ValueError(f"Unknown protocol {protocol!r}; choose one of {_PROTOCOLS}.")
        published = protocol != "rules"
        summary = summarise_published if published else summarise
        rows = _decide(predictions, references, answer_types, options, protocol if published else None)
        result = {"protocol": protocol, **summary(rows)}
        if groups is not None:
            result["by_group"] = by_group(rows, groups, summary)
        if return_rows:
            result["rows"] = [{name: value for name, value in row.items() if name != "ngrams"} for row in rows]
        return result


def _decide(predictions, references, answer_types, options, published):
    """Decides every row, in order."""
    for name, values in (("answer_types", answer_types), ("options", options)):
        if values is not None and len(values) != len(predictions):
            raise ValueError(f"`{name}` has {len(values)} entries for {len(predictions)} predictions.")
    rows = []
    for index, (prediction, reference) in enumerate(zip(predictions, references)):
        choices = _choices(index, options[index]) if options is not None else []
        kind = _answer_type(index, reference, choices, answer_types)
        if published:
            decision = _published_decision(prediction, reference, kind, published)
        elif kind == "closed":
            decision = judge_closed(prediction, reference, choices)
        else:
            decision = judge_open(prediction, reference)
        rows.append({"answer_type": kind, **decision})
    return rows


def _choices(index, options):
    choices = list(options or [])
    for choice in choices:
        if not isinstance(choice, str) or not words(choice):
            raise ValueError(f"Row {index}: the option {choice!r} is not a text with a word.")
    return choices


def _answer_type(index, reference, choices, answer_types):
    """Whether a row is closed or open; its reference is checked on the way."""
    wanted = words(reference) if reference is not None else []
    if not wanted:
        raise ValueError(f"Row {index} has no reference answer: {reference!r}.")
    kind = answer_types[index] if answer_types is not None else None
    if kind is None:
        kind = "closed" if choices or wanted in (["yes"], ["no"]) else "open"
    if kind not in _ANSWER_TYPES:
        raise ValueError(f"Row {index} has the answer type {kind!r}; it must be one of {_ANSWER_TYPES}.")
    if kind == "closed" and choices and wanted not in [words(choice) for choice in choices]:
        raise ValueError(f"Row {index}: the reference {reference!r} is not among its options {choices!r}.")
    return kind


def _published_decision(prediction, reference, kind, protocol):
    """One row by the published arithmetic, which knows no failure: a missing answer is an empty text there."""
    text = prediction or ""
    counted = {"failed": prediction is None, "empty": prediction is not None and not words(text)}
    if kind == "closed":
        return {"hit": closed_hit(text, reference, protocol), **counted}
    return {**open_scores(text, reference), **counted}
