"""The shipped metric folder, loaded as a user loads it."""

import doctest
import sys
import time

import evaluate
import pytest

YES_NO = ["yes", "no"]
PLANES = ["axial", "coronal", "sagittal"]


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "medical_vqa"))


def decide(metric, prediction, reference, options):
    """The one decision on one closed row."""
    result = metric.compute(
        predictions=[prediction], references=[reference], options=[options], answer_types=["closed"], return_rows=True
    )
    return result["rows"][0]["outcome"], result["rows"][0]["rule"]


@pytest.mark.parametrize(
    "prediction,reference,options,outcome,rule",
    [
        ("No.", "no", YES_NO, "right", "equal"),
        ("YES", "yes", YES_NO, "right", "equal"),
        ("no", "yes", YES_NO, "wrong", "equals_other_option"),
        ("The heart looks normal", "no", YES_NO, "unparsed", "no_option"),
        ("normal", "no", [], "unparsed", "no_option"),
        ("nothing abnormal is known", "no", YES_NO, "unparsed", "no_option"),
        ("There is no lesion", "no", YES_NO, "right", "one_option"),
        ("No, it does not.", "no", YES_NO, "right", "one_option"),
        ("Yes, an MRI.", "no", YES_NO, "wrong", "one_option"),
        ("yes and no", "yes", YES_NO, "unparsed", "several_options"),
        ("It is axial", "axial", PLANES, "right", "one_option"),
        ("axial or coronal", "axial", PLANES, "unparsed", "several_options"),
        ("not axial, but coronal", "coronal", PLANES, "right", "one_option"),
        ("It is not axial", "axial", PLANES, "unparsed", "no_option"),
        ("oblique", "axial", PLANES, "unparsed", "no_option"),
        ("paraaxial", "axial", PLANES, "unparsed", "no_option"),
        ("not visible", "visible", ["visible", "not visible"], "wrong", "equals_other_option"),
        ("the lesion is not visible here", "not visible", ["visible", "not visible"], "right", "one_option"),
        ("the lesion is visible here", "not visible", ["visible", "not visible"], "wrong", "one_option"),
        ("an x ray", "X-ray", ["X-ray", "CT"], "right", "one_option"),
        ("lung", "lung window", ["lung window", "bone window"], "unparsed", "no_option"),
        ("at 1.5 T", "1.5 T", ["1.5 T", "3 T"], "right", "one_option"),
        ("5 T", "1.5 T", ["1.5 T", "3 T"], "unparsed", "no_option"),
        ("ＭＲＩ", "MRI", ["MRI", "CT"], "right", "equal"),
        ("", "no", YES_NO, "unparsed", "empty"),
        (" ?! ", "no", YES_NO, "unparsed", "empty"),
        (None, "no", YES_NO, "failed", "no_prediction"),
        ("chest", "thorax", [], "wrong", "not_equal"),
    ],
)
def test_closed_rules(metric, prediction, reference, options, outcome, rule):
    assert decide(metric, prediction, reference, options) == (outcome, rule)


def test_failures_are_counted_and_never_scored(metric):
    result = metric.compute(
        predictions=["yes", None, "", "chest CT", None],
        references=["yes", "yes", "no", "chest CT", "brain MRI"],
        answer_types=["closed", "closed", "closed", "open", "open"],
    )
    assert (result["closed_accuracy"], result["closed_accuracy_scored"]) == (1 / 3, 1 / 2)
    assert (result["open_recall"], result["open_recall_scored"]) == (0.5, 1.0)
    closed, opened = result["counts"]["closed"], result["counts"]["open"]
    assert (closed["total"], closed["scored"], closed["failed"], closed["unparsed"], closed["empty"]) == (
        3,
        2,
        1,
        1,
        1,
    )
    assert (opened["total"], opened["scored"], opened["failed"], opened["empty"]) == (2, 1, 1, 0)
    assert closed["decided_by"] == {"empty": 1, "equal": 1, "no_prediction": 1}


def test_precision_and_recall_are_not_swapped(metric):
    result = metric.compute(
        predictions=["an axial CT of the chest"], references=["chest CT"], answer_types=["open"], return_rows=True
    )
    row = result["rows"][0]
    assert row["recall"] == 1.0 and row["precision"] == pytest.approx(2 / 6)
    assert row["f1"] == pytest.approx(2 * 1 * (1 / 3) / (1 + 1 / 3)) and row["exact_match"] == 0.0


def test_a_word_said_twice_counts_twice_only_if_the_reference_does(metric):
    result = metric.compute(predictions=["chest chest"], references=["chest CT"], answer_types=["open"])
    assert (result["open_recall"], result["open_precision"]) == (0.5, 0.5)


def test_an_empty_group_has_no_score(metric):
    result = metric.compute(predictions=["yes"], references=["yes"], groups=["CT"])
    assert result["open_recall"] is None and result["by_group"]["CT"]["open_f1"] is None
    result = metric.compute(predictions=[None], references=["yes"])
    assert result["closed_accuracy"] == 0.0 and result["closed_accuracy_scored"] is None


def test_groups_add_up_to_the_whole(metric):
    predictions = ["yes", "no", None, "axial or coronal", "axial", ""]
    references = ["yes", "yes", "no", "axial", "axial", "coronal"]
    result = metric.compute(
        predictions=predictions,
        references=references,
        options=[YES_NO] * 3 + [PLANES] * 3,
        groups=["CT", "MRI", "CT", "MRI", "CT", "MRI"],
    )
    assert sorted(result["by_group"]) == ["CT", "MRI"]
    for name in ("total", "scored", "failed", "correct", "unparsed", "empty"):
        parts = [group["counts"]["closed"][name] for group in result["by_group"].values()]
        assert sum(parts) == result["counts"]["closed"][name]


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"references": [None]}, "Row 0 has no reference"),
        ({"references": ["..."]}, "Row 0 has no reference"),
        ({"references": ["axial"], "options": [["coronal"]]}, "Row 0.*'axial' is not among"),
        ({"references": ["axial"], "options": []}, "`options` has 0 entries for 1"),
        ({"references": ["axial"], "answer_types": ["both"]}, "Row 0.*'both'"),
        ({"references": ["axial"], "groups": ["a", "b"]}, "`groups` has 2 entries"),
    ],
)
def test_bad_input_names_the_row(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=["axial"], **arguments)


def test_a_failure_may_come_first_and_other_types_are_refused(metric):
    result = metric.compute(predictions=[None, "yes"], references=["yes", "yes"])
    assert (result["closed_accuracy"], result["closed_accuracy_scored"]) == (0.5, 1.0)
    for wrong in (1, ["yes"]):
        with pytest.raises(ValueError, match="Row 1: the prediction .* is not text"):
            metric.compute(predictions=["yes", wrong], references=["yes", "yes"])
    assert metric.compute(predictions=["yes"], references=["yes"])["counts"]["closed"]["total"] == 1


def test_at_least_two_examples_run_in_the_docstring(root, metric, monkeypatch):
    monkeypatch.chdir(root)
    module = sys.modules[type(metric).__module__]
    found = doctest.testmod(module)
    assert found.attempted >= 4 and found.failed == 0


def test_it_loads_offline_in_a_fresh_interpreter_from_elsewhere(root, run_python, tmp_path):
    code = (
        "import sys, evaluate; sys.modules['semihv_hf'] = None; m = evaluate.load(sys.argv[1]); "
        "print(m.compute(predictions=['normal'], references=['no'])['closed_accuracy'])"
    )
    done = run_python(
        code, root / "metrics" / "medical_vqa", cwd=tmp_path, HF_HUB_OFFLINE="1", HF_MODULES_CACHE=str(tmp_path / "m")
    )
    assert done.stdout.split() == ["0.0"]


def test_ten_thousand_rows_take_less_than_three_seconds(metric):
    count = 10_000
    started = time.process_time()
    result = metric.compute(
        predictions=["the answer is an axial slice of it"] * count,
        references=["axial"] * count,
        options=[PLANES] * count,
        groups=[str(n % 7) for n in range(count)],
    )
    assert result["counts"]["closed"]["correct"] == count
    assert time.process_time() - started < 3


def test_the_card_has_front_matter_and_the_folder_is_whole(root):
    from huggingface_hub import RepoCard

    folder = root / "metrics" / "medical_vqa"
    names = {"README.md", "answer_rules.py", "app.py", "medical_vqa.py", "requirements.txt"}
    assert names <= {path.name for path in folder.iterdir()}
    card = RepoCard.load(folder / "README.md")
    assert card.data.sdk == "gradio" and "metric" in card.data.tags
    for path in folder.glob("*.py"):
        imports = [line for line in path.read_text().splitlines() if line.startswith("import ")]
        assert all("," not in line for line in imports), path
