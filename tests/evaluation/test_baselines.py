"""Majority answers."""

from semihv_hf.evaluation.baselines import AnswerCounts, majority_rows, reference_answers, train_answers


def test_the_most_frequent_answer_among_the_options():
    counts = AnswerCounts([("plane", "Axial")] * 3 + [("plane", "coronal")] * 2 + [("plane", "sagittal")])
    assert counts.majority("plane", ["coronal", "axial"]) == "axial"
    assert counts.majority("plane", ["sagittal", "coronal"]) == "coronal"
    assert counts.majority("plane", []) == "Axial"


def test_a_tie_goes_to_the_option_named_first():
    counts = AnswerCounts([("plane", "axial"), ("plane", "coronal")])
    assert counts.majority("plane", ["coronal", "axial"]) == "coronal"


def test_a_kind_never_asked_falls_back_to_all_answers():
    counts = AnswerCounts([("plane", "axial"), ("plane", "axial"), ("body", "chest")])
    assert counts.majority("level", ["chest", "axial"]) == "axial"
    assert counts.majority("level", ["upper", "lower"]) == "upper"
    assert counts.majority("level", []) == "axial"


def test_nothing_counted_is_a_failure_and_no_answer():
    [row] = majority_rows([{"template": "plane", "options": [], "reference": "axial"}], AnswerCounts([]))
    assert row["prediction"] is None and row["error"]


def test_the_training_answers_come_from_the_training_questions(dataset):
    counts = train_answers(dataset)
    assert counts.by_template["modality_yes_no"] == {"no": 8, "yes": 4}
    assert counts.by_template["plane"] == {"axial": 6, "coronal": 6}


def test_the_oracle_knows_the_test_frequencies():
    rows = [{"template": "plane", "options": ["axial", "coronal"], "reference": "coronal"}] * 2
    rows.append({"template": "plane", "options": ["axial", "coronal"], "reference": "axial"})
    assert [row["prediction"] for row in majority_rows(rows, reference_answers(rows))] == ["coronal"] * 3
