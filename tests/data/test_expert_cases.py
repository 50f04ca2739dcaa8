"""The JAMA-style cases: well formed, evenly keyed, marked as what they are."""

from collections import Counter

from semihv_hf.data.checks import validate_record
from semihv_hf.data.expert_cases import LETTERS, NOTE, expert_cases_without_image, expert_records, load_expert_cases
from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Fact


def test_cases_are_well_formed_and_the_letters_are_spread():
    cases = load_expert_cases()
    assert 14 <= len(cases) <= 18
    assert len({case["title"] for case in cases}) == len(cases)
    assert Counter(case["split"] for case in cases) == {"train": 10, "test": 6}
    letters = Counter(case["answer"] for case in cases)
    assert set(letters) == set(LETTERS) and max(letters.values()) <= 5
    for case in cases:
        assert 2 <= case["discussion"].count(".") <= 8
        assert "invented" in case["vignette"].lower(), "nobody may take a vignette for a patient"


def test_record_of_a_case(make_case):
    image = make_case(1, "test", modality="ultrasound", body_part="heart")
    (record,) = expert_records([image], {image.id: "ultrasound"})
    validate_record(record.row())
    assert record.task == "case" and message_text(record.messages[1]).startswith("Answer: A. Echocardiography")
    assert message_text(record.messages[0]).count("\n") >= 5
    assert record.annotation == ["human", "human"]
    assert all(NOTE in item.evidence for item in record.provenance)
    missing = expert_cases_without_image([record])
    assert len(missing) == len(load_expert_cases()) - 1 and "moving picture of the heart" not in missing


def test_a_case_waits_for_an_image_that_fits(make_case):
    wrong_split = make_case(1, "train", modality="ultrasound", body_part="heart")
    wrong_fact = make_case(2, "test", modality="ultrasound")
    wrong_fact.facts.append(Fact("body_part", "liver", "tag"))
    kinds = {wrong_split.id: "ultrasound", wrong_fact.id: "ultrasound"}
    assert expert_records([wrong_split, wrong_fact], kinds) == []
