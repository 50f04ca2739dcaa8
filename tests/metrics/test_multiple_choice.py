"""The multiple-choice metric: its parser, its baselines, its position probe, and the card's table."""

import doctest
import sys

import evaluate
import peer_arithmetic
import pytest
from card_table import read_table, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.evaluation.letters import chosen_letter

CYSTS = {"A": "a cyst", "B": "a cyst of the kidney", "C": "normal", "D": "glioma"}
PLANES = ["axial", "coronal", "sagittal"]
MANY = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", (f"t{number}" for number in range(26))))
CASES = [
    ("Answer: B. a cyst of the kidney. It is not A.", CYSTS, "B", "letter"),
    ("**Answer:** B", CYSTS, "B", "letter"),
    ("the answer is (d).", CYSTS, "D", "letter"),
    ("C", CYSTS, "C", "letter"),
    ("B because of its place", CYSTS, "B", "letter"),
    ("A. a cyst", CYSTS, "A", "letter"),
    ("glioma", CYSTS, "D", "option_text"),
    ("It shows a cyst of the kidney", CYSTS, "B", "option_text"),
    ("answer: a cyst", CYSTS, "A", "option_text"),
    ("A fracture is seen", CYSTS, None, "none"),
    ("abnormal", CYSTS, None, "none"),
    ("Answer: E", CYSTS, None, "none"),
    ("", CYSTS, None, "empty"),
    ("Answer: B. Answer: C.", CYSTS, None, "several"),
    ("A or B", CYSTS, None, "several"),
    ("Answer B or C", CYSTS, None, "several"),
    ("either normal or glioma", CYSTS, None, "several"),
    ("(A)", CYSTS, "A", "letter"),
    ("A.", CYSTS, "A", "letter"),
    ("a", CYSTS, "A", "letter"),
    ("b)", CYSTS, "B", "letter"),
    ("The answer is A: a cyst", CYSTS, "A", "letter"),
    ("A. glioma", CYSTS, None, "several"),
    ("not A", CYSTS, None, "none"),
    ("Not A, but B", CYSTS, "B", "letter"),
    ("It is not glioma", CYSTS, None, "none"),
    ("A is incorrect; the answer is D", CYSTS, "D", "letter"),
    ("A is correct", CYSTS, "A", "letter"),
    ("Option C", CYSTS, "C", "letter"),
    ("I think it is glioma", CYSTS, "D", "option_text"),
    ("I would say (D) here", CYSTS, "D", "letter"),
    ("Panel (A) shows a mass", CYSTS, None, "none"),
    ("\\boxed{C}", CYSTS, "C", "letter"),
    ("Option A is a cyst. Option C is normal. Final answer: C", CYSTS, "C", "letter"),
    ("A. a cyst\nB. a cyst of the kidney\nC. normal\nD. glioma", CYSTS, None, "several"),
    ("B/C", CYSTS, None, "several"),
    ("A and C", CYSTS, None, "several"),
    ("Reasoning here.\nD", CYSTS, "D", "letter"),
    ("答案是B。", CYSTS, "B", "letter"),
    ("答案:C", CYSTS, "C", "letter"),
    ("Ответ: D", CYSTS, "D", "letter"),
    ("Die Antwort ist B.", CYSTS, "B", "letter"),
    ("Réponse : C", CYSTS, "C", "letter"),
    ("Ｂ", CYSTS, "B", "letter"),
    ("O", {"A": "A", "B": "B", "C": "AB", "D": "O"}, "D", "option_text"),
    ("AB", {"A": "A", "B": "B", "C": "AB", "D": "O"}, "C", "option_text"),
    ("B", {"A": "A", "B": "B", "C": "AB", "D": "O"}, "B", "letter"),
    ("A", {"A": "B", "B": "A"}, None, "several"),
    ("A. B", {"A": "B", "B": "A"}, "A", "letter"),
    ("3", {"A": "2", "B": "3", "C": "4"}, "B", "option_text"),
    ("Answer: 3", {"A": "2", "B": "3", "C": "4"}, "B", "option_text"),
    ("2", {"1": "2 mm", "2": "3 mm"}, "2", "letter"),
    ("2 mm", {"1": "2 mm", "2": "3 mm"}, "1", "option_text"),
    ("Answer: 2 mm", {"1": "2 mm", "2": "3 mm"}, "1", "option_text"),
    ("2", {"1": "2", "2": "1"}, None, "several"),
    ("(2)", {"1": "x", "2": "y"}, "2", "letter"),
    ("C. difficile", {"A": "E. coli", "B": "S. aureus", "C": "C. difficile"}, "C", "option_text"),
    ("E. coli", {"A": "C. difficile", "B": "E. coli", "C": "x", "D": "y", "E": "z"}, "B", "option_text"),
    ("hepatitis B", {"A": "hepatitis A", "B": "hepatitis B"}, "B", "option_text"),
    ("The answer is hepatitis B", {"A": "hepatitis B", "B": "hepatitis A"}, "A", "option_text"),
    ("Answer: B cell lymphoma", {"A": "B cell lymphoma", "B": "T cell lymphoma"}, "A", "option_text"),
    ("乙", {"甲": "囊肿", "乙": "正常"}, "乙", "letter"),
    (
        "Z",
        {
            "A": "t0",
            "B": "t1",
            "C": "t2",
            "D": "t3",
            "E": "t4",
            "F": "t5",
            "G": "t6",
            "H": "t7",
            "I": "t8",
            "J": "t9",
            "K": "t10",
            "L": "t11",
            "M": "t12",
            "N": "t13",
            "O": "t14",
            "P": "t15",
            "Q": "t16",
            "R": "t17",
            "S": "t18",
            "T": "t19",
            "U": "t20",
            "V": "t21",
            "W": "t22",
            "X": "t23",
            "Y": "t24",
            "Z": "t25",
        },
        "Z",
        "letter",
    ),
    (
        "I",
        {"A": "t0", "B": "t1", "C": "t2", "D": "t3", "E": "t4", "F": "t5", "G": "t6", "H": "t7", "I": "t8", "J": "t9"},
        "I",
        "letter",
    ),
    (
        "I think so",
        {"A": "t0", "B": "t1", "C": "t2", "D": "t3", "E": "t4", "F": "t5", "G": "t6", "H": "t7", "I": "t8", "J": "t9"},
        None,
        "none",
    ),
    ("A cyst", CYSTS, "A", "option_text"),
    ("I choose B", CYSTS, "B", "letter"),
    ("Between B and C, I pick C", CYSTS, "C", "letter"),
    ("The answer is not A", CYSTS, None, "none"),
    ("The answer is B, not A", CYSTS, "B", "letter"),
    ("B is unlikely", CYSTS, None, "none"),
    ("A, B", CYSTS, None, "several"),
    ("yes", CYSTS, None, "none"),
    ("ABCD", CYSTS, None, "none"),
    ("The answer is a mass", CYSTS, None, "none"),
    ("a mass in the liver", CYSTS, None, "none"),
    ("Answer: b", CYSTS, "B", "letter"),
    ("<answer>D</answer>", CYSTS, "D", "letter"),
    ("Answer: A", CYSTS, "A", "letter"),
    ("The correct option is C.", CYSTS, "C", "letter"),
    ("option (b)", CYSTS, "B", "letter"),
    ("Both A and C", CYSTS, None, "several"),
    ("C, because there is no glioma", CYSTS, "C", "letter"),
    ("Answer: C, normal", CYSTS, "C", "letter"),
    ("The correct answer is: **D. glioma**", CYSTS, "D", "letter"),
]


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "multiple_choice"))


@pytest.mark.parametrize("answer,options,label,rule", CASES)
def test_letter_then_text_then_nothing(answer, options, label, rule):
    assert chosen_letter(answer, options) == (label, rule)


@settings(max_examples=150)
@given(st.text(max_size=60), st.sampled_from([CYSTS, MANY, {"1": "2 mm", "2": "3 mm"}, {"甲": "囊肿", "乙": "正常"}]))
def test_any_text_ends_in_a_label_or_a_reason(answer, options):
    label, rule = chosen_letter(answer, options)
    assert (label in options and rule in ("letter", "option_text")) or (
        label is None and rule in ("several", "none", "empty")
    )


@pytest.mark.parametrize(
    "form", ["{}", "({})", "{}.", "Answer: {}", "The answer is {}: {text}", "{}) {text}", "{text}"]
)
def test_every_option_of_2_to_26_is_read_in_every_form(form):
    for size in (2, 5, 26):
        options = dict(list(MANY.items())[:size])
        read = [chosen_letter(form.format(label, text=text), options)[0] for label, text in options.items()]
        assert read == list(options)


def test_the_cards_cases_are_what_each_arithmetic_gives(root, metric):
    table = read_table(root / "metrics" / "multiple_choice" / "README.md", "| prediction | options A, B, C")
    assert len(table) >= 15
    options = [row[1].split("; ") for row in table]
    rows = metric.compute(
        predictions=[text_of(row[0]) for row in table],
        references=["A"] * len(table),
        options=options,
        return_rows=True,
    )["rows"]
    for cells, texts, row in zip(table, options, rows):
        answer = text_of(cells[0])
        expected = [peer_arithmetic.vlmevalkit_choice(answer, texts), peer_arithmetic.medevalkit_choice(answer, texts)]
        assert cells[2:] == [*expected, row["label"] or "none", row["rule"]], answer


def test_scores_baselines_and_counts(metric):
    result = metric.compute(
        predictions=["C", "B", "A or B", None, "", "sagittal"],
        references=["C", "C", "A", "B", "C", "sagittal"],
        options=[PLANES] * 6,
        groups={"modality": ["CT", "CT", "CT", "MRI", "MRI", "MRI"]},
    )
    assert (result["accuracy"], result["accuracy_scored"], result["accuracy_parsed"]) == (2 / 6, 2 / 5, 2 / 3)
    assert result["baselines"]["majority"] == {"label": "C", "accuracy": 4 / 6}
    assert result["baselines"]["always"] == {"A": 1 / 6, "B": 1 / 6, "C": 4 / 6}
    assert result["baselines"]["chance"] == pytest.approx(1 / 3)
    assert result["counts"] == {
        "total": 6,
        "scored": 5,
        "failed": 1,
        "empty": 1,
        "unparsed": 2,
        "correct": 2,
        "decided_by": {"empty": 1, "letter": 2, "no_prediction": 1, "option_text": 1, "several": 1},
    }
    parts = result["by_group"]["modality"]
    assert [parts[name]["counts"]["total"] for name in ("CT", "MRI")] == [3, 3]
    assert parts["CT"]["accuracy"] == 1 / 3 and parts["MRI"]["counts"]["failed"] == 1


def ask(metric, questions, model):
    """Puts every rotation to a model and scores the answers."""
    asked = [(name, r) for name, right in questions.items() for r in metric.rotations(PLANES, right)]
    return metric.compute(
        predictions=[model(rotation["options"], name) for name, rotation in asked],
        references=[rotation["reference"] for _, rotation in asked],
        options=[rotation["options"] for _, rotation in asked],
        question_ids=[name for name, _ in asked],
    )["circular"]


def test_the_probe_tells_knowing_from_preferring_a_position(metric):
    questions = {f"q{number}": PLANES[number % 3] for number in range(12)}
    knowing = ask(metric, questions, lambda options, name: questions[name])
    assert (knowing["all_rotations_right"], knowing["same_option"], knowing["mean_accuracy"]) == (1.0, 1.0, 1.0)
    assert knowing["positions"]["3"]["chi_square"] == 0 and knowing["positions"]["3"]["p_value"] == 1
    biased = ask(metric, questions, lambda options, name: "A")
    assert (biased["all_rotations_right"], biased["same_option"]) == (0.0, 0.0)
    assert biased["mean_accuracy"] == pytest.approx(1 / 3)
    # 36 answers, all at the first position: (36 - 12)^2 / 12 + 2 * 12.
    assert biased["positions"]["3"]["chi_square"] == pytest.approx(72) and biased["positions"]["3"]["p_value"] < 1e-9
    stubborn = ask(metric, questions, lambda options, name: "coronal")
    assert stubborn["same_option"] == 1.0 and stubborn["all_rotations_right"] == pytest.approx(4 / 12)


def test_a_question_without_all_its_rotations_is_counted_and_not_scored(metric):
    rotations = metric.rotations(PLANES, "A")[:2]
    result = metric.compute(
        predictions=["axial", "axial"],
        references=[rotation["reference"] for rotation in rotations],
        options=[rotation["options"] for rotation in rotations],
        question_ids=["q", "q"],
    )["circular"]
    assert (result["questions"], result["incomplete"], result["all_rotations_right"]) == (1, 1, None)
    with pytest.raises(ValueError, match="question 'q' have different options"):
        metric.compute(
            predictions=["A", "A"], references=["A", "A"], options=[PLANES, ["x", "y"]], question_ids=["q", "q"]
        )


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"options": None}, "`options` is missing"),
        ({"options": [["axial"]]}, "Row 0 needs 2 to 26 options"),
        ({"options": [["axial", "axial"]]}, "Row 0 has an option twice"),
        ({"options": [["axial", ""]]}, "Row 0: the option ''"),
        ({"options": []}, "`options` has 0 entries for 1"),
        ({"references": ["E"]}, "Row 0: the reference 'E' is neither"),
        ({"references": [None]}, "Row 0: the reference None"),
        ({"predictions": [3]}, "Row 0: the prediction 3"),
        ({"labels": ["A", "A", "B"]}, "`labels` must be different"),
        ({"groups": [""]}, "Row 0 has no name in `groups`"),
        ({"question_ids": []}, "`question_ids` has 0 entries"),
    ],
)
def test_bad_input_names_the_row_or_the_setting(metric, arguments, message):
    good = {"predictions": ["A"], "references": ["A"], "options": [PLANES]}
    with pytest.raises(ValueError, match=message):
        metric.compute(**{**good, **arguments})


def test_at_least_two_examples_run_in_the_docstring(root, metric, monkeypatch):
    monkeypatch.chdir(root)
    found = doctest.testmod(sys.modules[type(metric).__module__])
    assert found.attempted >= 6 and found.failed == 0


def test_it_loads_offline_in_a_fresh_interpreter_from_elsewhere(root, run_python, tmp_path):
    code = (
        "import sys, evaluate; sys.modules['semihv_hf'] = None; m = evaluate.load(sys.argv[1]); "
        "print(m.compute(predictions=['B'], references=['B'], options=[['x', 'y']])['accuracy'])"
    )
    folder = root / "metrics" / "multiple_choice"
    done = run_python(code, folder, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_MODULES_CACHE=str(tmp_path / "m"))
    assert done.stdout.split() == ["1.0"]


def test_the_folder_is_whole_and_the_word_matching_is_that_of_medical_vqa(root):
    from huggingface_hub import RepoCard

    folder = root / "metrics" / "multiple_choice"
    names = {"README.md", "app.py", "choice_parser.py", "multiple_choice.py", "requirements.txt", "rotations.py"}
    assert names <= {path.name for path in folder.iterdir()}
    assert RepoCard.load(folder / "README.md").data.sdk == "gradio"
    same = (folder / "text_matching.py").read_bytes()
    assert same == (root / "metrics" / "medical_vqa" / "text_matching.py").read_bytes()
