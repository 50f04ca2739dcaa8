"""Set F1 over the medical concepts that a text and its reference mention."""

from collections import Counter

import datasets
import evaluate

from .hpo_vocabulary import RELEASE
from .linkers import LINKERS
from .linkers import make_linker
from .negation import denied
from .phrase_matching import split_words

_DESCRIPTION = f"""
Finds the medical concepts in a text and in its reference and compares the two sets: precision, recall and F1 for each
row, then their means; micro scores beside them. Concepts are UMLS identifiers (CUIs) where the linker knows one. The
linker "hpo" needs no UMLS licence: it finds the terms of the Human Phenotype Ontology (release {RELEASE}). "quickumls"
and "scispacy" use what the user has installed. Concepts that a text denies are left out, kept,
or compared as concepts of their own.
"""

_CITATION = """
@article{bodenreider2004umls,
  title={The Unified Medical Language System (UMLS): integrating biomedical terminology},
  author={Bodenreider, Olivier},
  journal={Nucleic Acids Research},
  volume={32},
  number={suppl\\_1},
  pages={D267--D270},
  year={2004}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str | None]`): the texts; `None` where there is none because something failed.
    references (`list[str]`): the reference texts.
    linker (`str`, *optional*, defaults to `"hpo"`): `"hpo"`, `"quickumls"` or `"scispacy"`.
    negation (`str`, *optional*, defaults to `"drop"`): what becomes of a concept that a text denies. `"drop"` leaves
        it out; `"keep"` treats it like any other; `"separate"` makes it a concept of its own, so that "no effusion"
        agrees with "no effusion" and with nothing else.
    both_empty (`str`, *optional*, defaults to `"skip"`): what a row counts where neither text has a concept. `"skip"`
        leaves it out of the means, `"one"` gives it 1.
    groups (`list[str]`, *optional*): a name for each row, such as its modality; adds `by_group`.
    vocabulary (`str`, *optional*): for `"hpo"`, the path of an `hp.obo` other than the pinned release.
    quickumls (`str`, *optional*): for `"quickumls"`, the folder of its index, or `host:port` of its server.
    scispacy_model (`str`, *optional*, defaults to `"en_core_sci_sm"`): for `"scispacy"`, the installed model.
    return_rows (`bool`, *optional*, defaults to `False`): adds `rows`: the concepts and scores of every row.

Returns:
    `dict`: `precision`, `recall`, `f1`: means over the rows in which a concept occurs, a failed row counting 0;
    with `_scored`, the means over those that have a prediction; `micro_precision`, `micro_recall`, `micro_f1`: over
    all concepts of all rows together. 0 to 1, higher is better, `None` where there is nothing to divide by. Also
    `counts` and `linker`.

Examples:

    Two words for one finding are one concept, and a denied finding is not a finding.

    >>> metric = evaluate.load("metrics/umls_f1")
    >>> result = metric.compute(
    ...     predictions=["Cardiomegaly. No pneumothorax.", "Lungs are clear."],
    ...     references=["Enlarged heart and pleural effusion.", "Pleural effusions."],
    ...     return_rows=True,
    ... )
    >>> [row["f1"] for row in result["rows"]]
    [0.6666666666666666, 0.0]
    >>> result["rows"][0]["matched"]
    ['C0018800']

    Where denied findings count, an answer that denies the right ones is rewarded.

    >>> texts = {"predictions": ["No pneumothorax or pulmonary edema."], "references": ["There is no pneumothorax."]}
    >>> metric.compute(**texts, negation="separate")["precision"], metric.compute(**texts)["f1"]
    (0.5, None)
    >>> metric.compute(**texts)["counts"]["both_empty"]
    1
"""

_SCORES = ("precision", "recall", "f1")
_NEGATIONS = ("drop", "keep", "separate")
_BOTH_EMPTY = ("skip", "one")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class UMLSF1(evaluate.Metric):
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
            predictions (`list[str | None]`): the texts.
            references (`list[str]`): the reference texts.
            kwargs: passed on.

        Raises:
            ValueError: the lists differ in length, or a text is not one.
        """
        predictions, references = list(predictions or []), list(references or [])
        if len(predictions) != len(references):
            raise ValueError(f"There are {len(predictions)} predictions and {len(references)} references.")
        for index, (prediction, reference) in enumerate(zip(predictions, references)):
            if prediction is not None and not isinstance(prediction, str):
                raise ValueError(f"Row {index}: the prediction {prediction!r} is not text.")
            if not isinstance(reference, str) or not reference.strip():
                raise ValueError(f"Row {index} has no reference text: {reference!r}.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        predictions,
        references,
        linker="hpo",
        negation="drop",
        both_empty="skip",
        groups=None,
        vocabulary=None,
        quickumls=None,
        scispacy_model="en_core_sci_sm",
        return_rows=False,
    ):
        _check_setting("linker", linker, LINKERS)
        _check_setting("negation", negation, _NEGATIONS)
        _check_setting("both_empty", both_empty, _BOTH_EMPTY)
        if groups is not None and len(groups) != len(predictions):
            raise ValueError(f"`groups` has {len(groups)} entries for {len(predictions)} predictions.")
        link, facts = make_linker(linker, vocabulary, quickumls, scispacy_model)
        rows = [
            _compare(prediction, reference, link, negation, both_empty)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        result = {**_summarise(rows), "linker": facts, "negation": negation}
        if groups is not None:
            result["by_group"] = {
                name: _summarise([row for row, group in zip(rows, groups, strict=True) if group == name])
                for name in sorted(set(groups))
            }
        if return_rows:
            result["rows"] = rows
        return result


def _check_setting(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"`{name}` is {value!r}; it must be one of {allowed}.")


def _concepts(text, link, negation):
    """The concepts of a text.

    Args:
        text (`str`): the text.
        link (`Callable`): the linker.
        negation (`str`): what becomes of denied mentions.

    Returns:
        `tuple[dict[str, str], int]`: identifier to name, in the order of the text, and the number of denied mentions.
    """
    words = split_words(text)
    mentions = link(text, words)
    flags = denied(words[0], [mention[:2] for mention in mentions])
    concepts = {}
    for (_, _, concept, name), is_denied in zip(mentions, flags, strict=True):
        if is_denied and negation == "drop":
            continue
        if is_denied and negation == "separate":
            concept, name = f"not:{concept}", f"not: {name}"
        concepts.setdefault(concept, name)
    return concepts, sum(flags)


def _compare(prediction, reference, link, negation, both_empty):
    """Scores one row; a row that counts for nothing has scores of `None`."""
    expected, expected_denied = _concepts(reference, link, negation)
    found, found_denied = _concepts(prediction or "", link, negation)
    matched = [concept for concept in found if concept in expected]
    scores = dict.fromkeys(_SCORES, 0.0)
    empty = prediction is not None and not prediction.strip()
    if prediction is None:
        rule, scores = "no_prediction", dict.fromkeys(_SCORES, 0.0 if expected else None)
    elif empty:
        rule = "empty"
    elif not expected and not found:
        rule, scores = "both_empty", dict.fromkeys(_SCORES, None if both_empty == "skip" else 1.0)
    elif not expected or not found:
        rule = "no_concept_in_prediction" if expected else "no_concept_in_reference"
    else:
        rule = "compared"
        scores["precision"], scores["recall"] = len(matched) / len(found), len(matched) / len(expected)
        scores["f1"] = 2 * len(matched) / (len(found) + len(expected))
    return {
        **scores,
        "rule": rule,
        "failed": prediction is None,
        "empty": empty,
        "prediction_concepts": found,
        "reference_concepts": expected,
        "matched": matched,
        "denied": {"prediction": found_denied, "reference": expected_denied},
    }


def _mean(total, count):
    return total / count if count else None


def _summarise(rows):
    """Adds the rows up."""
    counted = [row for row in rows if row["f1"] is not None]
    scored = [row for row in counted if not row["failed"]]
    result = {name: _mean(sum(row[name] for row in counted), len(counted)) for name in _SCORES}
    result.update({f"{name}_scored": _mean(sum(row[name] for row in scored), len(scored)) for name in _SCORES})
    matched = sum(len(row["matched"]) for row in rows)
    found = sum(len(row["prediction_concepts"]) for row in rows)
    expected = sum(len(row["reference_concepts"]) for row in rows)
    result["micro_precision"] = _mean(matched, found)
    result["micro_recall"] = _mean(matched, expected)
    result["micro_f1"] = _mean(2 * matched, found + expected)
    rules = Counter(row["rule"] for row in rows)
    sides = [row[side] for row in rows for side in ("prediction_concepts", "reference_concepts")]
    result["counts"] = {
        "total": len(rows),
        "scored": len(scored),
        "failed": sum(row["failed"] for row in rows),
        "empty": sum(row["empty"] for row in rows),
        "skipped": len(rows) - len(counted),
        "both_empty": rules["both_empty"],
        "decided_by": dict(sorted(rules.items())),
        "concepts": {"prediction": found, "reference": expected, "matched": matched},
        "without_cui": sum(concept.removeprefix("not:").startswith("HP:") for side in sides for concept in side),
        "denied_mentions": {side: sum(row["denied"][side] for row in rows) for side in ("prediction", "reference")},
    }
    return result
