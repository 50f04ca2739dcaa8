"""How well a judge agrees with people, how well people agree with each other, and what moves the judge."""

import datasets
import evaluate
import numpy as np

from .coefficients import MOST_DISTINCT
from .compare import against_panel
from .compare import human_ceiling
from .compare import judge_beside_people
from .probes import length_probe
from .probes import order_probe
from .probes import self_preference_probe
from .probes import stability_probe
from .ratings import as_text
from .ratings import checked
from .ratings import further_scores
from .ratings import read_ratings
from .resampling import LEVEL
from .resampling import SAMPLES
from .resampling import CaseDraws

_DESCRIPTION = """
Compares a judge's scores with people's: raw agreement, Cohen's kappa (plain and quadratic), Krippendorff's alpha with
gaps, F1 against each rater and rank correlations, beside the same statistics between people on the same rows, for each
model that wrote the answers, with bootstrap intervals that draw whole cases. Probes ask whether order, length,
repeats, other words or the judge's own family move its scores. A missing verdict is a gap: counted, never a score.
"""

_CITATION = """
@article{cohen1968weighted,
  title={Weighted kappa: Nominal scale agreement provision for scaled disagreement or partial credit},
  author={Cohen, Jacob},
  journal={Psychological Bulletin},
  volume={70},
  number={4},
  pages={213--220},
  year={1968}
}
@techreport{krippendorff2011computing,
  title={Computing Krippendorff's Alpha-Reliability},
  author={Krippendorff, Klaus},
  institution={University of Pennsylvania},
  year={2011}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[float | str | None]`): the judge's score or label of each row; `None` where it gave no verdict.
    references (`list`): what people gave each row: one number or label, or a list with one entry for each person,
        always in the same order, `None` where a person gave none.
    raters (`list[str]`, *optional*): a name for each person.
    level (`str`, *optional*): `"nominal"`, `"ordinal"` or `"interval"`. Without it labels are nominal and numbers
        ordinal.
    scale (`list[float]`, *optional*): lowest and highest possible score; a score outside is an error.
    case_ids (`list[str]`, *optional*): the case of each row, drawn as a whole. Without it every row is a case.
    models (`list[str]`, *optional*): which model wrote the answer of each row; adds `by_model`.
    families (`dict[str, str]`, *optional*): the family of each model; a model not named is its own family.
    judge_family (`str`, *optional*): the judge's own family; with `models`, adds the probe `self_preference`.
    lengths (`list[int]`, *optional*): length of each answer in words or tokens; adds the probe `length`.
    repeats (`list[list]`, *optional*): further scores of the same rows by the same judge; adds the probe `repeats`.
    paraphrases (`list[list]`, *optional*): its scores of the same answers in other words; adds the probe `paraphrase`.
    orders (`list[list]`, *optional*): verdicts on the same answer standing first and standing second (`"win"`,
        `"tie"`, `"loss"`, or numbers); adds the probe `order`.
    seed (`int`, *optional*, defaults to 0): the seed of the bootstrap.
    samples (`int`, *optional*, defaults to 2000): the number of bootstrap draws; 0 for no intervals.

Returns:
    `counts`; `judge`, the mean of its statistics against each person; `by_rater`; `alpha`; `ceiling`, the statistics
    between people and the judge's on the same rows, or `None`; `panel`; `by_model` and `probes` where asked for. Every
    statistic is a pair of `value` and `ci95`, `None` where undefined.

Examples:

    A judge that agrees with two people, a third of the verdicts missing.

    >>> metric = evaluate.load("metrics/agreement")
    >>> result = metric.compute(
    ...     predictions=[1, 2, 3, 4, None, None], references=[[1, 1], [2, 2], [3, 3], [4, 3], [5, None], [1, 1]]
    ... )
    >>> result["counts"]["n_total"], result["counts"]["n_scored"], result["counts"]["n_failed"]
    (6, 4, 2)
    >>> round(result["judge"]["agreement"]["value"], 3), round(result["ceiling"]["people"]["agreement"]["value"], 3)
    (0.875, 0.75)

    A judge that prefers whichever answer stands first.

    >>> result = metric.compute(
    ...     predictions=["tie"] * 8, references=["win", "loss"] * 4, orders=[["win", "loss"]] * 8, samples=200
    ... )
    >>> result["probes"]["order"]["first_share"], result["probes"]["order"]["flagged"]
    (1.0, True)
    >>> round(result["probes"]["order"]["p_value"], 4)
    0.0078
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Agreement(evaluate.Metric):
    """The `evaluate` module; see `_KWARGS_DESCRIPTION` for its arguments."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            # Scores travel as JSON text: numbers, labels and gaps stay what they are, and None may come first.
            features=datasets.Features(
                {"predictions": datasets.Value("large_string"), "references": datasets.Value("large_string")}
            ),
        )

    def add(self, *, prediction=None, reference=None):
        """Takes one row.

        Args:
            prediction (`float`, `str` or `None`): the judge's score.
            reference (`float`, `str` or `list`): the people's.
        """
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions=None, references=None):
        """Takes rows as they are: no label becomes a number, no gap a text.

        Args:
            predictions (`list[float | str | None]`): the judge's scores.
            references (`list`): the people's.

        Raises:
            ValueError: there are more of one than of the other, or an entry is neither number, label nor `None`.
        """
        if predictions is None or references is None:
            raise ValueError("Both `predictions` and `references` are needed.")
        if len(predictions) != len(references):
            raise ValueError(f"`predictions` has {len(predictions)} entries, `references` {len(references)}.")
        if not len(predictions):
            raise ValueError("There are no rows to compare.")
        super().add_batch(
            predictions=[as_text(one, f"Row {n}: the judge's score") for n, one in enumerate(predictions)],
            references=[as_text(one, f"Row {n}: the people's score") for n, one in enumerate(references)],
        )

    def _compute(
        self,
        predictions,
        references,
        raters=None,
        level=None,
        scale=None,
        case_ids=None,
        models=None,
        families=None,
        judge_family=None,
        lengths=None,
        repeats=None,
        paraphrases=None,
        orders=None,
        seed=0,
        samples=SAMPLES,
    ):
        count = len(predictions)
        if not isinstance(samples, int) or samples < 0:
            raise ValueError(f"`samples` is {samples!r}; it must be a whole number from 0.")
        if judge_family is not None and models is None:
            raise ValueError("`judge_family` needs `models`, which name the writer of each answer.")
        models, lengths = checked("models", models, count), checked("lengths", lengths, count)
        ratings = read_ratings(predictions, references, raters, level, scale)
        cases = checked("case_ids", case_ids, count)
        # Numbered with leading zeros: the draws take cases in the order of their names.
        cases = [f"row {n:09d}" for n in range(count)] if cases is None else _named("case_ids", cases)
        draws = CaseDraws(cases, seed, samples)
        rows = np.ones(count, dtype=bool)
        result = {"level": ratings.level, "raters": ratings.raters, **_compare(ratings, rows, draws)}
        if models is not None:
            models = np.array(_named("models", models))
            result["by_model"] = {
                str(name): _compare(ratings, models == name, draws) for name in sorted(set(models.tolist()))
            }
        columns = {"orders": checked("orders", orders, count), "lengths": lengths}
        for name, values in (("repeats", repeats), ("paraphrases", paraphrases)):
            checked_values = checked(name, values, count)
            columns[name] = None if values is None else further_scores(name, checked_values, ratings)
        own = None
        if judge_family is not None:
            own = [(families or {}).get(name, name) == judge_family for name in models.tolist()]
        result["probes"] = _probe(columns, own, ratings, draws)
        result["bootstrap"] = {
            "samples": samples,
            "seed": seed,
            "level": LEVEL,
            "drawn": "cases",
            "kendall_up_to_distinct_rows": MOST_DISTINCT,
        }
        return result


def _named(name, values):
    for index, value in enumerate(values):
        if value is None or not str(value).strip():
            raise ValueError(f"Row {index}: `{name}` holds {value!r}, which is no name.")
    return [str(value) for value in values]


def _compare(ratings, rows, draws):
    return {
        **judge_beside_people(ratings, rows, draws),
        "ceiling": human_ceiling(ratings, rows, draws),
        "panel": against_panel(ratings, rows, draws),
    }


def _probe(columns, own, ratings, draws):
    """Runs the probes for which there is something to run them on."""
    probes = {}
    if columns["orders"] is not None:
        probes["order"] = order_probe(columns["orders"], draws)
    if columns["lengths"] is not None:
        probes["length"] = length_probe(columns["lengths"], ratings, draws)
    for name, column in (("repeats", "repeats"), ("paraphrase", "paraphrases")):
        if columns[column] is not None:
            probes[name] = stability_probe(columns[column], ratings.level, draws)
    if own is not None:
        probes["self_preference"] = self_preference_probe(own, ratings, draws)
    return probes
