"""Blank and shuffled images."""

import pytest
from drawn import drawn_cases, records_of
from PIL import Image

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.benchmarks import Question
from semihv_hf.evaluation.conditions import blank_like, check_condition, pad_colour, shuffled_donors


def question(case: str, modality: str, template: str = "plane", reference: str = "axial", number: int = 0) -> Question:
    return Question(
        id=f"{case}-{number}",
        case_id=case,
        source_id=case,
        licence="CC0-1.0",
        messages=[],
        question="?",
        reference=reference,
        answer_type="closed",
        options=[],
        template=template,
        fact="plane",
        modality=modality,
        images=[],
    )


def many() -> list[Question]:
    """Modalities of uneven size, one to three questions a case."""
    sizes = {"CT": 14, "MRI": 9, "X-ray": 5, "ultrasound": 2}
    cases = [(f"{modality} {number}", modality) for modality, size in sizes.items() for number in range(size)]
    return [question(c, m, number=n) for i, (c, m) in enumerate(cases) for n in range(1 + i % 3)]


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_shown_their_own_case_and_images_are_only_permuted(seed):
    questions = many()
    donors = shuffled_donors(questions, seed)
    assert sorted(donors) == list(range(len(questions)))
    assert all(questions[donor].case_id != q.case_id for q, donor in zip(questions, donors, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_another_modality_is_shown_where_no_modality_holds_half_of_the_questions(seed):
    questions = many()
    donors = shuffled_donors(questions, seed)
    assert all(questions[donor].modality != q.modality for q, donor in zip(questions, donors, strict=True))


def test_a_modality_that_holds_most_questions_still_never_sees_its_own_case():
    questions = [question(f"CT {n // 3}", "CT", number=n) for n in range(30)] + [question("MRI 1", "MRI")]
    donors = shuffled_donors(questions, seed=0)
    assert sorted(donors) == list(range(31))
    assert all(questions[donor].case_id != q.case_id for q, donor in zip(questions, donors, strict=True))


def test_a_donor_shows_as_many_images_as_it_stands_in_for():
    questions = [question(f"case {n}", "CT") for n in range(12)] + [question("alone", "CT")]
    for n, entry in enumerate(questions):
        entry.images = [{}] * (3 if entry.case_id == "alone" else 1 + n % 2)
    donors = shuffled_donors(questions, seed=0)
    assert donors[12] is None, "nobody else shows three images"
    for entry, donor in zip(questions[:12], donors[:12], strict=True):
        assert len(questions[donor].images) == len(entry.images) and questions[donor].case_id != entry.case_id


def test_with_one_modality_another_answer_is_preferred():
    questions = [question(f"case {n}", "CT", reference="axial" if n % 2 else "coronal") for n in range(20)]
    donors = shuffled_donors(questions, seed=3)
    same = sum(questions[donor].reference == q.reference for q, donor in zip(questions, donors, strict=True))
    assert same == 0


def test_seeds_decide():
    questions = many()
    assert shuffled_donors(questions, 0) == shuffled_donors(questions, 0)
    assert shuffled_donors(questions, 0) != shuffled_donors(questions, 1)


def test_a_single_case_has_no_other_image():
    assert shuffled_donors([question("a", "CT", number=0), question("a", "CT", number=1)], seed=0) == [None, None]
    assert shuffled_donors([], seed=0) == []


def test_a_blank_has_the_size_and_nothing_else():
    blank = blank_like(Image.new("RGB", (31, 17), (9, 200, 3)), (120, 121, 122))
    assert blank.size == (31, 17)
    assert blank.getcolors() == [(31 * 17, (120, 121, 122))]


def test_the_pad_colour_is_the_processors_own():
    class WithMean:
        image_mean = [0.5, 0.25, 0.0]

    class WithBackground(WithMean):
        background_color = (1, 2, 3)

    class Wrapped:
        image_processor = WithBackground()

    assert pad_colour(WithMean()) == (127, 63, 0)
    assert pad_colour(WithBackground()) == (1, 2, 3)
    assert pad_colour(Wrapped()) == (1, 2, 3)
    assert pad_colour(object()) == (127, 127, 127)


def test_an_unknown_condition_is_named_with_the_known_ones():
    with pytest.raises(SemiHVError, match="'blnk'.*image, blank, shuffled"):
        check_condition("blnk")


def test_drawn_images_differ_between_modalities():
    cases = drawn_cases(6, seed=2)
    assert len({case["image"] for case in cases}) == 6
    assert len(records_of(cases[0])) == 4
