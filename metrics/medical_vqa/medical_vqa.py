"""Closed accuracy and open token scores for medical visual question answering, with every row accounted for."""

from collections import Counter

import datasets
import evaluate

from .answer_rules import judge_closed
from .answer_rules import judge_open
from .answer_rules import words

_DESCRIPTION = """
Scores answers to questions about medical images. A closed question names its possible answers; it is right when the
answer equals the reference or names exactly one of the options, and that is the reference. An open question gets exact
match and token recall, precision and F1. A missing prediction is a failure: it is counted, kept out of the scores over
answered rows, and wrong in the scores over all rows.
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
    groups (`list[str]`, *optional*): a name for each row, such as its modality; adds `by_group`.
    return_rows (`bool`, *optional*, defaults to `False`): adds `rows`, the decision on every row.

Returns:
    `dict`: `closed_accuracy` (over all closed rows, failures wrong) and `closed_accuracy_scored` (over the closed rows
    that have a prediction); `open_recall`, `open_precision`, `open_f1`, `open_exact_match` likewise, each also with
    `_scored`; `None` where there is no row to divide by; and `counts`, with `total`, `scored`, `failed`, `empty`, and
    for closed rows `correct`, `unparsed` and `decided_by`.

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
"""

_OPEN_SCORES = ("exact_match", "recall", "precision", "f1")
_ANSWER_TYPES = ("closed", "open")


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
            ValueError: a prediction is neither text nor `None`.
        """
        for index, prediction in enumerate(predictions or []):
            if prediction is not None and not isinstance(prediction, str):
                raise ValueError(f"Row {index}: the prediction {prediction!r} is not text.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions, references, answer_types=None, options=None, groups=None, return_rows=False):
        rows = _decide(predictions, references, answer_types, options)
        result = _summarise(rows)
        if groups is not None:
            _check_length("groups", groups, rows)
            result["by_group"] = {
                name: _summarise([row for row, group in zip(rows, groups, strict=True) if group == name])
                for name in sorted(set(groups))
            }
        if return_rows:
            result["rows"] = rows
        return result


def _check_length(name, values, rows):
    if len(values) != len(rows):
        raise ValueError(f"`{name}` has {len(values)} entries for {len(rows)} predictions.")


def _decide(predictions, references, answer_types, options):
    """Decides every row, in order."""
    for name, values in (("answer_types", answer_types), ("options", options)):
        if values is not None:
            _check_length(name, values, predictions)
    rows = []
    for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        if reference is None or not words(reference):
            raise ValueError(f"Row {index} has no reference answer: {reference!r}.")
        choices = list(options[index] or []) if options is not None else []
        kind = answer_types[index] if answer_types is not None else None
        if kind is None:
            kind = "closed" if choices or words(reference) in (["yes"], ["no"]) else "open"
        if kind not in _ANSWER_TYPES:
            raise ValueError(f"Row {index} has the answer type {kind!r}; it must be one of {_ANSWER_TYPES}.")
        if kind == "closed" and choices and words(reference) not in [words(choice) for choice in choices]:
            raise ValueError(f"Row {index}: the reference {reference!r} is not among its options {choices!r}.")
        decision = (
            judge_closed(prediction, reference, choices) if kind == "closed" else judge_open(prediction, reference)
        )
        rows.append({"answer_type": kind, **decision})
    return rows


def _mean(total, count):
    return total / count if count else None


def _summarise(rows):
    closed = [row for row in rows if row["answer_type"] == "closed"]
    opened = [row for row in rows if row["answer_type"] == "open"]
    outcomes = Counter(row["outcome"] for row in closed)
    counts = {
        "closed": {
            "total": len(closed),
            "scored": len(closed) - outcomes["failed"],
            "failed": outcomes["failed"],
            "correct": outcomes["right"],
            "unparsed": outcomes["unparsed"],
            "empty": sum(row["empty"] for row in closed),
            "decided_by": dict(sorted(Counter(row["rule"] for row in closed).items())),
        },
        "open": {
            "total": len(opened),
            "scored": sum(row["outcome"] == "scored" for row in opened),
            "failed": sum(row["outcome"] == "failed" for row in opened),
            "empty": sum(row["empty"] for row in opened),
        },
    }
    result = {
        "closed_accuracy": _mean(outcomes["right"], counts["closed"]["total"]),
        "closed_accuracy_scored": _mean(outcomes["right"], counts["closed"]["scored"]),
    }
    for name in _OPEN_SCORES:
        total = sum(row[name] for row in opened if row[name] is not None)
        result[f"open_{name}"] = _mean(total, counts["open"]["total"])
        result[f"open_{name}_scored"] = _mean(total, counts["open"]["scored"])
    result["counts"] = counts
    return result
