"""Accuracy of multiple-choice answers: letter, then option text, then nothing; with baselines and a position probe."""

from collections import Counter
from collections import defaultdict

import datasets
import evaluate

from .choice_parser import LETTERS
from .choice_parser import parse_choice
from .rotations import circular_scores
from .rotations import position_rates
from .rotations import rotate_options
from .text_matching import words

_DESCRIPTION = """
Scores answers to multiple-choice questions. The choice is read from the letter, else from the text of the option, else
there is none: an answer that names two options, or none, is unparsed and wrong, never a guess. Majority and
fixed-letter baselines stand beside the accuracy, and a probe with rotated options measures position bias.
"""

_CITATION = """
@inproceedings{liu2024mmbench,
  title={MMBench: Is Your Multi-modal Model an All-around Player?},
  author={Liu, Yuan and Duan, Haodong and Zhang, Yuanhan and Li, Bo and Zhang, Songyang and Zhao, Wangbo and Yuan, Yike
          and Wang, Jiaqi and He, Conghui and Liu, Ziwei and Chen, Kai and Lin, Dahua},
  booktitle={European Conference on Computer Vision},
  year={2024}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str | None]`): the answers; `None` where there is none because something failed.
    references (`list[str]`): the right options, each by its label or by its full text.
    options (`list[list[str]]`): the option texts of each row, 2 to 26.
    labels (`list[str]`, *optional*): the labels of the options, in order; the letters from A on by default.
    groups (`list[str]` or `dict[str, list[str]]`, *optional*): a name for each row, such as its modality, or several
        such lists by their titles; adds `by_group`.
    question_ids (`list[str]`, *optional*): which question each row is a rotation of; adds `circular`.
    return_rows (`bool`, *optional*, defaults to `False`): adds `rows`, the decision on every row.

Returns:
    `dict`: `accuracy` (over all rows; unparsed and failed ones are wrong), `accuracy_scored` (over rows that have a
    prediction) and `accuracy_parsed` (over rows with a choice), 0 to 1, higher is better; `baselines`: `chance`,
    `majority` (its label and accuracy) and `always` (the accuracy of each label); `positions`: how often each position
    was chosen, with a chi-square test; `counts`: `total`, `scored`, `failed`, `empty`, `unparsed`, `correct` and
    `decided_by`.

Examples:

    Two options, or none, is no choice.

    >>> metric = evaluate.load("metrics/multiple_choice")
    >>> planes = ["axial", "coronal", "sagittal"]
    >>> result = metric.compute(
    ...     predictions=["Answer: (B)", "an axial slice", "A or B", None],
    ...     references=["B", "axial", "A", "C"],
    ...     options=[planes] * 4,
    ... )
    >>> result["accuracy"], result["counts"]["unparsed"], result["counts"]["failed"]
    (0.5, 1, 1)
    >>> result["baselines"]["majority"]
    {'label': 'A', 'accuracy': 0.5}

    A model that always says B is right in one rotation of three, and in all three never.

    >>> rotations = metric.rotations(planes, "axial")
    >>> [rotation["reference"] for rotation in rotations]
    ['A', 'C', 'B']
    >>> result = metric.compute(
    ...     predictions=["B"] * 3,
    ...     references=[rotation["reference"] for rotation in rotations],
    ...     options=[rotation["options"] for rotation in rotations],
    ...     question_ids=["q1"] * 3,
    ... )
    >>> result["circular"]["all_rotations_right"], round(result["circular"]["mean_accuracy"], 3)
    (0.0, 0.333)
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MultipleChoice(evaluate.Metric):
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

    @staticmethod
    def rotations(options, reference, labels=None):
        """Makes the rotations of a question for the position probe; see `rotations.py`.

        Args:
            options (`list[str]`): the option texts.
            reference (`str`): the right one, by its label or its text.
            labels (`list[str]`, *optional*): the labels; the letters from A on by default.

        Returns:
            `list[dict]`: for each rotation its `options`, its `reference` (a label) and its `shift`.
        """
        lettered = _lettered(0, options, labels)
        position = list(lettered).index(_reference_label(0, reference, lettered))
        rotated = rotate_options(list(options), position)
        return [{**rotation, "reference": list(lettered)[rotation["reference"]]} for rotation in rotated]

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Takes rows as the base class does, but casts no number and no list to text.

        Args:
            predictions (`list[str | None]`): the answers.
            references (`list[str]`): the right options.
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
        self, predictions, references, options=None, labels=None, groups=None, question_ids=None, return_rows=False
    ):
        if options is None:
            raise ValueError("`options` is missing: the option texts of each row.")
        _check_length("options", options, predictions)
        lettered = [_lettered(index, texts, labels) for index, texts in enumerate(options)]
        wanted = [_reference_label(index, *pair) for index, pair in enumerate(zip(references, lettered))]
        if question_ids is not None:
            _check_length("question_ids", question_ids, predictions)
        rows = [_decide(*row) for row in zip(predictions, wanted, lettered)]
        result = _summarise(rows)
        if groups is not None:
            columns = groups if isinstance(groups, dict) else {None: groups}
            parts = {title: _by_group(title, names, rows) for title, names in columns.items()}
            result["by_group"] = parts if isinstance(groups, dict) else parts[None]
        if question_ids is not None:
            result["circular"] = circular_scores(rows, question_ids)
        if return_rows:
            kept = ("label", "reference_label", "outcome", "rule", "empty")
            result["rows"] = [{name: row[name] for name in kept} for row in rows]
        return result


def _check_length(name, values, predictions):
    if len(values) != len(predictions):
        raise ValueError(f"`{name}` has {len(values)} entries for {len(predictions)} predictions.")


def _lettered(index, texts, labels):
    """The options of a row by their labels."""
    labels = list(LETTERS) if labels is None else list(labels)
    if texts is None or not 2 <= len(texts) <= min(len(labels), len(LETTERS)):
        raise ValueError(f"Row {index} needs 2 to {min(len(labels), len(LETTERS))} options: {texts!r}.")
    if any(not isinstance(label, str) or not words(label) for label in labels) or len(set(labels)) < len(labels):
        raise ValueError(f"`labels` must be different texts, each with a letter or number: {labels!r}.")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"Row {index}: the option {text!r} is not a text.")
    if len(set(texts)) < len(texts):
        raise ValueError(f"Row {index} has an option twice: {list(texts)!r}.")
    return dict(zip(labels, texts))


def _reference_label(index, reference, lettered):
    """The label of the right option. A label goes before a text, as in the answers."""
    if reference in lettered:
        return reference
    for label, text in lettered.items():
        if reference == text:
            return label
    raise ValueError(f"Row {index}: the reference {reference!r} is neither a label nor a text of {lettered!r}.")


def _decide(prediction, wanted, lettered):
    label, rule = (None, "no_prediction") if prediction is None else parse_choice(prediction, lettered)
    outcome = "failed" if prediction is None else "unparsed" if label is None else None
    order = list(lettered)
    return {
        "label": label,
        "reference_label": wanted,
        "outcome": outcome or ("right" if label == wanted else "wrong"),
        "rule": rule,
        "empty": rule == "empty",
        "choice": None if label is None else order.index(label),
        "reference": order.index(wanted),
        "texts": list(lettered.values()),
    }


def _by_group(title, names, rows):
    shown = "groups" if title is None else f"groups[{title!r}]"
    _check_length(shown, names, rows)
    parts = defaultdict(list)
    for index, (row, name) in enumerate(zip(rows, names)):
        if name is None or name == "":
            raise ValueError(f"Row {index} has no name in `{shown}`.")
        parts[name].append(row)
    return {name: _summarise(parts[name]) for name in sorted(parts, key=str)}


def _summarise(rows):
    outcomes = Counter(row["outcome"] for row in rows)
    references = Counter(row["reference_label"] for row in rows)
    right, total = outcomes["right"], len(rows)
    scored = total - outcomes["failed"]
    # Ties go to the label that stands first, so that the order of the rows does not matter.
    majority = min(references, key=lambda label: (-references[label], label), default=None)
    return {
        "accuracy": _mean(right, total),
        "accuracy_scored": _mean(right, scored),
        "accuracy_parsed": _mean(right, scored - outcomes["unparsed"]),
        "baselines": {
            "chance": _mean(sum(1 / len(row["texts"]) for row in rows), total),
            "majority": {"label": majority, "accuracy": _mean(references[majority], total)},
            "always": {label: references[label] / total for label in sorted(references)},
        },
        "positions": position_rates(rows),
        "counts": {
            "total": total,
            "scored": scored,
            "failed": outcomes["failed"],
            "empty": sum(row["empty"] for row in rows),
            "unparsed": outcomes["unparsed"],
            "correct": right,
            "decided_by": dict(sorted(Counter(row["rule"] for row in rows).items())),
        },
    }


def _mean(value, count):
    return value / count if count else None
