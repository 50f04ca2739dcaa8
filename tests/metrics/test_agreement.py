"""The shipped folder, against textbook loops, published examples and judges whose faults are known."""

import math
import random

import agreement_textbook as textbook
import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

K = textbook.KRIPPENDORFF_2011


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "agreement"))


def table_of(root):
    """The hand-made cases of the card."""
    text = (root / "metrics" / "agreement" / "README.md").read_text(encoding="utf-8")
    lines = text.split("| others do | they get | ours |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def scores(text):
    return [None if cell == "–" else float(cell) if cell.isdigit() else cell for cell in text.split()]


def theirs(rule, statistic, judge, people):
    """What the named arithmetic makes of a case, by textbook loops."""
    first = people[0]
    formula = getattr(textbook, statistic, None)
    if rule.startswith("failure is"):
        stand_in = {"0": 0, "−1": -1, "tie": "tie"}[rule.split()[-1]]
        return formula([stand_in if value is None else value for value in judge], first)
    if rule == "rows with a gap dropped":
        rows = [row for row in zip(judge, *people) if None not in row]
        return textbook.alpha(rows, statistic.removeprefix("alpha_"))
    if rule == "person in the panel":
        mean = [sum(row) / len(row) for row in zip(*people)]
        return sum(textbook.kappa_quadratic(person, mean) for person in people) / len(people)
    return {
        "the same": lambda: formula(judge, first),
        "nan": lambda: None,
        "by place": lambda: textbook.kappa_by_place(judge, first),
        "Spearman": lambda: textbook.spearman(judge, first),
        "raw agreement": lambda: textbook.agreement(judge, first),
        "micro F1": lambda: textbook.agreement(judge, first),
        "tau-a": lambda: textbook.kendall(judge, first, ties=False),
    }[rule]()


def as_printed(value):
    return "none" if value is None else f"{value + 0.0:.3f}".replace("-", "−")


def test_every_case_of_the_card_gives_what_the_card_says_on_both_sides(root, metric):
    table = table_of(root)
    assert len(table) >= 15 and len({row[4] for row in table}) >= 8
    for judge, people, level, statistic, rule, they_get, ours in table:
        judge, people = scores(judge), [scores(one) for one in people.split("/")]
        result = metric.compute(predictions=judge, references=list(zip(*people)), level=level, samples=0)
        if statistic.startswith("alpha"):
            found = result["alpha"]["judge_and_people"][statistic]
        elif statistic.startswith("ceiling"):
            found = result["ceiling"]["people"][statistic.split()[1]]
        else:
            found = result["judge"][statistic]
        assert as_printed(found["value"]) == ours, (judge, people, statistic)
        assert as_printed(theirs(rule, statistic, judge, people)).replace("none", "nan") == they_get


def test_krippendorffs_examples_give_his_numbers(metric):
    result = metric.compute(predictions=[row[0] for row in K], references=[row[1:] for row in K], samples=0)
    alphas = result["alpha"]["judge_and_people"]
    for name, printed in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert round(alphas[f"alpha_{name}"]["value"], 3) == printed
        assert alphas[f"alpha_{name}"]["value"] == pytest.approx(textbook.alpha(K, name), abs=1e-12)
    # The same paper, section A: two observers, ten units, two values.
    one, other = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    result = metric.compute(predictions=one, references=other, samples=0)
    assert round(result["alpha"]["judge_and_people"]["alpha_nominal"]["value"], 3) == 0.095


@pytest.mark.parametrize(
    "cells,kappa", [((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)]
)
def test_kappa_of_a_two_by_two_table(metric, cells, kappa):
    one = ["yes"] * (cells[0] + cells[1]) + ["no"] * (cells[2] + cells[3])
    other = ["yes"] * cells[0] + ["no"] * cells[1] + ["yes"] * cells[2] + ["no"] * cells[3]
    result = metric.compute(predictions=one, references=other, samples=0)
    assert result["judge"]["kappa"]["value"] == pytest.approx(kappa, abs=5e-5)


def test_quadratic_kappa_of_equal_margins_is_the_correlation(metric):
    judge = [1, 2, 2, 3, 4, 5, 5, 3]
    people = [2, 1, 2, 3, 5, 5, 4, 3]
    result = metric.compute(predictions=judge, references=people, samples=0)
    assert result["judge"]["kappa_quadratic"]["value"] == pytest.approx(np.corrcoef(judge, people)[0, 1], abs=1e-12)


value = st.one_of(st.none(), st.integers(0, 4).map(lambda n: n / 2))


@settings(max_examples=60)
@given(rows=st.lists(st.lists(value, min_size=3, max_size=3), min_size=2, max_size=14), seed=st.integers(0, 99))
def test_all_statistics_are_those_of_the_textbook_in_any_order_of_rows_and_people(metric, rows, seed):
    from scipy.stats import kendalltau, spearmanr

    result = metric.compute(predictions=[r[0] for r in rows], references=[r[1:] for r in rows], samples=0)
    both = [(row[0], row[1]) for row in rows if row[0] is not None and row[1] is not None]
    found = {name: entry["value"] for name, entry in result["by_rater"]["person 1"].items() if name != "n"}
    if both:
        one, other = [list(column) for column in zip(*both)]
        wanted = {
            name: getattr(textbook, name)(one, other)
            for name in ("agreement", "kappa", "kappa_quadratic", "f1_macro", "mean_difference")
        }
        if len(set(one)) > 1 and len(set(other)) > 1:
            wanted["spearman"] = float(spearmanr(one, other)[0])
            wanted["kendall"] = float(kendalltau(one, other)[0])
        for name, number in wanted.items():
            assert found[name] == pytest.approx(number, abs=1e-9), name
    else:
        assert set(found.values()) == {None}
    for level in ("nominal", "ordinal", "interval"):
        number = (
            textbook.alpha(rows, level) if any(len([v for v in row if v is not None]) > 1 for row in rows) else None
        )
        alpha = result["alpha"]["judge_and_people"][f"alpha_{level}"]["value"]
        assert alpha == (None if number is None else pytest.approx(number, abs=1e-9))
    generator = random.Random(seed)
    shuffled = generator.sample(rows, len(rows))
    again = metric.compute(
        predictions=[row[0] for row in shuffled], references=[row[:0:-1] for row in shuffled], samples=0
    )
    for name, entry in result["alpha"]["judge_and_people"].items():
        assert again["alpha"]["judge_and_people"][name]["value"] == pytest.approx(entry["value"], abs=1e-9)
    for name, entry in result["judge"].items():
        assert again["judge"][name]["value"] == pytest.approx(entry["value"], abs=1e-9)


def rated(n=150, seed=0, noise=0.6, people=3):
    """True scores, and people who see them through noise."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 11, n) / 2
    return generator, truth, to_scale(truth[:, None] + generator.normal(0, noise, (n, people)))


def to_scale(numbers):
    return np.clip(np.round(np.asarray(numbers) * 2) / 2, 0, 5)


def test_a_judge_that_copies_a_person_is_that_person(metric):
    _, _, people = rated(60)
    result = metric.compute(predictions=list(people[:, 0]), references=people.tolist(), samples=100)
    copied = result["by_rater"]["person 1"]
    assert copied["kappa"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert copied["kappa_quadratic"]["value"] == copied["f1_macro"]["value"] == 1.0
    without_one = result["ceiling"]["by_rater"]["person 1"]["difference"]["kappa_quadratic"]
    assert without_one["value"] == 0 and without_one["ci95"] == [0, 0]


def test_a_random_judge_is_near_zero_and_below_the_ceiling(metric):
    generator, _, people = rated(400)
    result = metric.compute(
        predictions=list(generator.integers(0, 11, 400) / 2), references=people.tolist(), samples=200
    )
    for name in ("kappa", "kappa_quadratic", "spearman", "kendall"):
        assert abs(result["judge"][name]["value"]) < 0.12
        assert result["ceiling"]["difference"][name]["ci95"][1] < 0


def test_a_judge_like_the_people_reaches_the_ceiling_and_a_noisy_one_does_not(metric):
    generator, truth, people = rated(200)
    differences = {}
    for noise in (0.6, 2.0):
        judge = to_scale(truth + generator.normal(0, noise, 200))
        result = metric.compute(predictions=list(judge), references=people.tolist(), samples=200)
        differences[noise] = result["ceiling"]["difference"]["kappa_quadratic"]["ci95"]
        loo = result["panel"]["leave_one_out"]["difference"]["kappa_quadratic"]["ci95"]
        assert (loo[1] < 0) == (differences[noise][1] < 0)
    assert differences[0.6][0] < 0 < differences[0.6][1] and differences[2.0][1] < 0


def test_missing_verdicts_are_counted_and_change_no_statistic(metric):
    _, _, people = rated(40)
    judge = [float(row[0]) for row in people]
    whole = metric.compute(predictions=judge[:30], references=people[:30].tolist(), samples=0)
    gaps = metric.compute(predictions=judge[:30] + [None] * 10, references=people.tolist(), samples=0)
    assert (gaps["counts"]["n_total"], gaps["counts"]["n_scored"], gaps["counts"]["n_failed"]) == (40, 30, 10)
    assert (gaps["counts"]["n_rated"], gaps["counts"]["n_compared"]) == (40, 30)
    assert gaps["judge"] == whole["judge"] and gaps["ceiling"] == whole["ceiling"]
    none = metric.compute(predictions=[None, None], references=[1, 2])
    assert none["counts"]["n_failed"] == 2 and none["ceiling"] is None
    assert {entry["value"] for entry in none["judge"].values()} == {None}


def test_intervals_hold_the_point_are_wider_for_fewer_cases_and_follow_the_seed_alone(metric):
    generator, truth, people = rated(90, people=2)
    judge = list(to_scale(truth + generator.normal(0, 1, 90)))

    def compute(cases, seed=0):
        return metric.compute(
            predictions=judge,
            references=people.tolist(),
            case_ids=[n % cases for n in range(90)],
            seed=seed,
            samples=300,
        )

    many, few = compute(90), compute(6)
    for name, entry in {**many["judge"], **few["ceiling"]["people"]}.items():
        assert entry["ci95"][0] <= entry["value"] <= entry["ci95"][1], name
    assert many["judge"]["kappa"]["value"] == few["judge"]["kappa"]["value"]
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    assert compute(6) == few and compute(6, seed=1) != few
    assert (np.random.get_state()[1] == state).all()
    assert compute(1)["judge"]["kappa"]["ci95"] is None


def test_cases_are_drawn_whole(metric):
    judge, people = [1, 1, 2, 5] * 10, [1, 2, 2, 4] * 10
    once = metric.compute(predictions=judge, references=people, case_ids=range(40), samples=500)
    five = metric.compute(
        predictions=judge * 5, references=people * 5, case_ids=[n % 40 for n in range(200)], samples=500
    )
    for name, entry in once["judge"].items():
        assert five["judge"][name]["value"] == pytest.approx(entry["value"])
        assert five["judge"][name]["ci95"] == pytest.approx(entry["ci95"]), name


def test_models_are_counted_apart(metric):
    result = metric.compute(
        predictions=[1, 2, None, 5], references=[1, 2, 3, 1], models=["a", "a", "b", "b"], samples=0
    )
    assert list(result["by_model"]) == ["a", "b"]
    assert result["by_model"]["a"]["judge"]["agreement"]["value"] == 1
    assert result["by_model"]["b"]["judge"]["agreement"]["value"] == 0
    assert [result["by_model"][name]["counts"]["n_failed"] for name in "ab"] == [0, 1]


def probe(metric, name, **columns):
    return metric.compute(samples=300, **columns)["probes"][name]


def test_a_judge_that_prefers_a_place_is_flagged_and_a_steady_one_is_not(metric):
    base = {"predictions": ["tie"] * 10, "references": ["tie"] * 10}
    # Nine of ten to the first: two-sided binomial p = 2 * (1 + 10) / 1024.
    found = probe(metric, "order", orders=[["win", "loss"]] * 9 + [["loss", "win"]], **base)
    assert (found["favours_first"], found["favours_second"], found["first_share"]) == (9, 1, 0.9)
    assert found["p_value"] == pytest.approx(22 / 1024) and found["flagged"] is True
    assert found["consistency"]["value"] == 0
    found = probe(metric, "order", orders=[["win", "win"]] * 7 + [["win", None], None, ["tie", "loss"]], **base)
    assert (found["n"], found["n_failed"], found["consistency"]["value"]) == (8, 1, 7 / 8)
    assert found["flagged"] is False and found["p_value"] == 1.0
    assert probe(metric, "order", orders=[None] * 10, **base)["flagged"] is None


def test_a_judge_that_likes_length_is_flagged_and_two_honest_ones_are_not(metric):
    generator, truth, people = rated(300)
    # Good answers are longer: a length that goes with quality is no bias.
    lengths = np.exp(3.5 + 0.25 * truth + generator.normal(0, 0.5, 300)).round()
    doublings = np.log2(1 + lengths)
    noise = generator.normal(0, 0.6, 300)
    judges = {
        "likes length": to_scale(truth + noise + 0.6 * (doublings - doublings.mean())),
        "noisy": to_scale(truth + noise),
        "timid": np.round(2.5 + 0.4 * (truth - 2.5) + noise / 3, 1),
    }
    found = {
        name: probe(metric, "length", predictions=list(judge), references=people.tolist(), lengths=list(lengths))
        for name, judge in judges.items()
    }
    assert {name: entry["flagged"] for name, entry in found.items()} == {
        "likes length": True,
        "noisy": False,
        "timid": False,
    }
    assert found["noisy"]["correlation_judge"]["ci95"][0] > 0.2
    assert found["likes length"]["slope_controlled"]["value"] == pytest.approx(0.6, abs=0.2)


def test_the_slopes_are_those_of_least_squares(metric):
    generator, truth, people = rated(50, people=1)
    judge, lengths = to_scale(truth + generator.normal(0, 1, 50)), generator.integers(0, 300, 50)
    found = probe(metric, "length", predictions=list(judge), references=people.tolist(), lengths=list(lengths))
    x = np.log2(1 + lengths)
    columns = np.column_stack([np.ones(50), x, people[:, 0]])
    assert found["slope_controlled"]["value"] == pytest.approx(np.linalg.lstsq(columns, judge, rcond=None)[0][1])
    assert found["slope"]["value"] == pytest.approx(np.polyfit(x, judge, 1)[0])
    assert found["slope_difference"]["value"] == pytest.approx(np.polyfit(x, judge - people[:, 0], 1)[0])
    flat = probe(metric, "length", predictions=list(judge), references=people.tolist(), lengths=[9] * 50)
    assert flat["slope"]["value"] is None and flat["flagged"] is None


def test_repeats_give_the_spread_within_a_row(metric):
    found = probe(
        metric, "repeats", predictions=[1, 2, 3, None], references=[1, 2, 3, 4], repeats=[[1], [4, None], [3], [2]]
    )
    assert (found["n"], found["n_verdicts"]) == (3, 6)
    assert found["identical"]["value"] == pytest.approx(2 / 3)
    assert found["within_row_sd"]["value"] == pytest.approx(math.sqrt(2 / 3))
    assert found["kappa_quadratic"]["value"] == pytest.approx(textbook.kappa_quadratic([1, 2, 3], [1, 4, 3]))
    assert found["alpha"]["value"] == pytest.approx(textbook.alpha([[1, 1], [2, 4], [3, 3]], "ordinal"))
    assert found["shift"]["value"] == pytest.approx(2 / 3)
    labels = probe(metric, "repeats", predictions=["a", "b"], references=["a", "b"], repeats=[["a"], ["c"]])
    assert labels["identical"]["value"] == 0.5 and "within_row_sd" not in labels


def test_other_words_that_lower_the_score_show_as_a_shift(metric):
    _, _, people = rated(40)
    judge = people[:, 0]
    found = probe(
        metric, "paraphrase", predictions=list(judge), references=people.tolist(), paraphrases=[[x - 1] for x in judge]
    )
    assert found["shift"] == {"value": -1.0, "ci95": [-1.0, -1.0]} and found["identical"]["value"] == 0


def test_a_judge_kinder_to_its_family_is_flagged_and_one_kind_to_all_is_not(metric):
    generator, truth, people = rated(200)
    models = ["gpt-x", "llava"] * 100
    own = np.array([1, 0] * 100)
    flags = []
    for kindness in (0.8 * own, 0.4):
        judge = np.clip(truth + generator.normal(0, 0.4, 200) + kindness, 0, 6)
        found = probe(
            metric, "self_preference", predictions=list(judge), references=people.tolist(), models=models,
            judge_family="openai", families={"gpt-x": "openai"},
        )  # fmt: skip
        flags.append(found["flagged"])
        assert (found["n_own"], found["n_other"]) == (100, 100)
        assert found["difference"]["value"] == pytest.approx(found["own"]["value"] - found["other"]["value"])
    assert flags == [True, False]


@pytest.mark.parametrize(
    "columns,message",
    [
        ({"predictions": [1], "references": [1, 2]}, "`predictions` has 1 entries, `references` 2"),
        ({"predictions": [], "references": []}, "no rows"),
        ({"predictions": [1, float("nan")], "references": [1, 1]}, "Row 1: the judge's score is nan"),
        ({"predictions": [1, {}], "references": [1, 1]}, "Row 1: the judge's score is {}"),
        ({"predictions": [1, [2]], "references": [1, 1]}, "Row 1: the judge's score .* list"),
        ({"predictions": [1, 1], "references": [1, ""]}, "Row 1: the people's score is an empty text"),
        ({"predictions": [1, 1], "references": [[1, 2], [1]]}, "Row 1 has 1 people's scores and row 0 2"),
        ({"predictions": [1, "good"], "references": [1, 1]}, "Row 0: the judge gave 1, a number among text labels"),
        ({"predictions": ["a"], "references": ["a"], "level": "ordinal"}, "Row 0: the judge gave the label 'a'"),
        ({"predictions": [1], "references": [1], "level": "ratio"}, "`level` is 'ratio'"),
        ({"predictions": [1, 7], "references": [1, 1], "scale": [0, 5]}, "Row 1: the judge gave 7, outside the scale"),
        ({"predictions": [1], "references": [1], "scale": [5, 0]}, "`scale`"),
        ({"predictions": [1], "references": [[1, 2]], "raters": ["a", "a"]}, "`raters` must name each of the 2"),
        ({"predictions": [1], "references": [1], "models": []}, "`models` has 0 entries for 1"),
        ({"predictions": [1], "references": [1], "models": [None]}, "Row 0: `models` holds None"),
        ({"predictions": [1], "references": [1], "judge_family": "x"}, "`judge_family` needs `models`"),
        ({"predictions": [1], "references": [1], "lengths": [-1]}, "Row 0: the length -1"),
        ({"predictions": [1], "references": [1], "repeats": [3]}, "Row 0: `repeats` must be a list"),
        ({"predictions": [1], "references": [1], "repeats": [["x"]]}, "Row 0: `repeats` holds 'x'"),
        ({"predictions": [1], "references": [1], "orders": [["win"]]}, "Row 0: `orders` must hold two"),
        ({"predictions": [1], "references": [1], "orders": [["win", "won"]]}, "Row 0: `orders` holds 'won'"),
        ({"predictions": [1], "references": [1], "samples": -1}, "`samples` is -1"),
    ],
)  # fmt: skip
def test_bad_input_names_the_row_or_the_argument(metric, columns, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(**columns)
    assert metric.compute(predictions=[1], references=[1], samples=0)["counts"]["n_total"] == 1


def test_rows_may_be_added_one_by_one(metric):
    metric.add(prediction=None, reference=[1, 2])
    metric.add(prediction=2, reference=[2, None])
    assert metric.compute(samples=0)["counts"] == {
        "n_total": 2, "n_scored": 1, "n_failed": 1, "n_rated": 2, "n_compared": 1, "n_cases": 2,
        "n_by_rater": {"person 1": 2, "person 2": 1},
    }  # fmt: skip
