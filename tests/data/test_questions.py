"""Questions: the facts decide every answer, wrong options are really wrong, wordings are short."""

import random

import pytest

from semihv_hf.data.questions import Questions, caption, overlap, templates
from semihv_hf.data.schema import Fact


def answer_from_facts(case, template, asked) -> str:
    own = {fact.name: fact.value for fact in case.facts}[template.fact]
    return own if template.form != "yes_no" else ("yes" if own == asked else "no")


def test_every_answer_follows_from_the_fact(cases):
    questions = Questions(cases)
    rng = random.Random(0)
    seen = set()
    for case in cases:
        for template in questions.applicable(case):
            for wording in template.wordings:
                if template.form == "yes_no":
                    value = (
                        questions.other_value(case, template, rng)
                        if rng.random() < 0.5
                        else case.fact(template.fact).value
                    )
                    asked = questions.yes_no(case, template, value, wording)
                elif template.form == "choice":
                    asked = questions.choice(case, template, wording, rng)
                    assert asked.options.count(asked.answer) == 1 and 2 <= len(asked.options) <= 3
                    assert all(option in asked.text for option in asked.options), "the question names its options"
                else:
                    asked = questions.open(case, template, wording)
                    assert asked.options == ()
                assert asked.answer == answer_from_facts(case, template, asked.value)
                assert "{" not in asked.text and asked.text.endswith("?")
                assert asked.fact.source == f"source of {template.fact}"
                seen.add(template.form)
    assert seen == {"yes_no", "choice", "open"}


def test_a_value_that_may_also_be_true_is_never_a_wrong_option(cases):
    """A chest CT shows the heart and stained skin shows nuclei: "no" would be false."""
    questions = Questions(cases)
    for case in cases:
        values = questions.domain(case.fact("body_part"))
        assert not any(overlap(case.fact("body_part").value, value) for value in values)
    chest = next(case for case in cases if case.fact("body_part").value == "chest")
    assert "heart" not in questions.domain(chest.fact("body_part"))
    assert "brain" in questions.domain(chest.fact("body_part"))


def test_questions_are_short():
    for template in templates():
        for wording in template.wordings:
            assert len(wording.replace("{options}", "").split()) <= 14


def test_wrong_values_are_asked_as_often_as_they_occur(cases, make_case):
    mostly_mri = [case for case in cases if case.fact("modality").value != "CT"] + [
        make_case(1000 + number, "train", modality="MRI") for number in range(200)
    ]
    questions = Questions(mostly_mri)
    case = next(case for case in mostly_mri if case.fact("modality").value == "histology")
    template = next(t for t in templates() if t.name == "modality_yes_no")
    rng = random.Random(1)
    drawn = [questions.other_value(case, template, rng) for _ in range(300)]
    assert drawn.count("MRI") > 200 and set(drawn) == {"MRI", "ultrasound", "fluorescence microscopy"}


def test_only_what_the_facts_decide_is_asked(cases):
    questions = Questions(cases)
    ultrasound = next(case for case in cases if case.fact("modality").value == "ultrasound")
    assert {template.fact for template in questions.applicable(ultrasound)} == {"modality", "body_part"}
    plane = next(t for t in templates() if t.name == "plane_choice")
    with pytest.raises(ValueError, match="states no plane"):
        questions.choice(ultrasound, plane, plane.wordings[0], random.Random(0))


def test_a_level_is_asked_among_the_thirds_of_its_own_axis(make_case):
    axial, coronal = "third of the extent along the superior axis", "third of the extent along the anterior axis"
    thirds = [("lower third", axial), ("middle third", axial), ("upper third", axial)]
    thirds += [("posterior third", coronal), ("middle third", coronal), ("anterior third", coronal)]
    made = []
    for number, (value, source) in enumerate(thirds):
        case = make_case(number, "train", modality="MRI")
        case.facts.append(Fact("level", value, source))
        made.append(case)
    questions = Questions(made)
    for case in made:
        level = case.fact("level")
        names = {value for value, source in thirds if source == level.source}
        assert set(questions.domain(level)) == names


def test_caption_states_the_facts_and_nothing_else(make_case):
    case = make_case(
        1, "train", modality="CT", body_part="chest", plane="axial", window="lung window", lesion="visible"
    )
    assert caption(case) == "CT of the chest, axial slice, lung window, with a visible lesion."
    assert caption(make_case(2, "train", modality="photograph", body_part="skin")) == "Photograph of skin."
    assert "lesion" not in caption(make_case(3, "train", modality="MRI", lesion="not visible"))
