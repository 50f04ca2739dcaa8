"""Reading the choice out of an answer."""

import pytest

from semihv_hf.evaluation.letters import chosen_letter, options_in

QUESTION = "A reader sees a film. What is it?\nA. a cyst\nB. a cyst of the kidney\nC) normal\n(D) glioma"


def test_options_are_read_line_by_line():
    assert options_in(QUESTION) == {"A": "a cyst", "B": "a cyst of the kidney", "C": "normal", "D": "glioma"}
    assert options_in("No options here.") == {}


@pytest.mark.parametrize(
    "answer,letter,rule",
    [
        ("Answer: B. a cyst of the kidney. It is not A.", "B", "letter"),
        ("**Answer:** B", "B", "letter"),
        ("the answer is (d).", "D", "letter"),
        ("C", "C", "letter"),
        ("B because of its place", "B", "letter"),
        ("A. a cyst", "A", "letter"),
        ("glioma", "D", "option_text"),
        ("It shows a cyst of the kidney", "B", "option_text"),
        ("answer: a cyst", "A", "option_text"),
        ("A fracture is seen", None, "none"),
        ("abnormal", None, "none"),
        ("Answer: E", None, "none"),
        ("", None, "empty"),
        ("Answer: B. Answer: C.", None, "several"),
        ("A or B", None, "several"),
        ("Answer B or C", None, "several"),
        ("either normal or glioma", None, "several"),
    ],
)
def test_letter_then_text_then_nothing(answer, letter, rule):
    assert chosen_letter(answer, options_in(QUESTION)) == (letter, rule)
