"""Records from a case's texts, and questions that are chosen by content."""

from collections import Counter

import pytest

from semihv_hf.data.checks import validate_record
from semihv_hf.data.messages import message
from semihv_hf.data.schema import Case, Fact, Provenance, QuestionTurn
from semihv_hf.data.sources.conversations import (
    DESCRIBE_IMAGE,
    DESCRIBE_IMAGES,
    REPORT_FINDINGS,
    record_of,
    wording,
)


@pytest.fixture
def case() -> Case:
    return Case("c1", "pydicom", "a", "g", "train", "MIT", [b"one", b"two"], [Fact("modality", "CT", "a tag")])


def dialogue(images: int = 2, answer: str = "Two livers.") -> list[dict]:
    return [message("user", "What are they?", images), message("assistant", answer)]


def test_a_record_takes_over_what_the_case_states(case):
    questions = [QuestionTurn(0, "t", "open", [], "label", "a column")]
    wrote = [Provenance("messages[1]", model="m")]
    record = record_of(case, "vqa", dialogue(), ["rule", "human"], questions=questions, provenance=wrote)
    validate_record(record.row())
    assert (record.case_id, record.source, record.licence, record.modality) == ("c1", "pydicom", "MIT", "CT")
    assert record.images == case.images and record.questions == questions and record.provenance == wrote
    case.facts.clear()
    assert record.facts and record_of(case, "vqa", dialogue(), ["rule", "human"]).modality == "unknown"


def test_the_id_depends_on_case_task_texts_and_chosen_images(case):
    def made(task="caption", answer="Two livers.", **given):
        shown = len(given.get("images", case.images))
        return record_of(case, task, dialogue(shown, answer), ["rule", "human"], **given).id

    ids = [made(), made("report"), made(answer="Other."), made(images=[b"one"]), made(images=[b"two"])]
    assert len(set(ids)) == 5 and ids[0] == made()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"task": "chat"}, "task 'chat'"),
        ({"annotation": ["rule"]}, "2 messages need as many"),
        ({"annotation": ["rule", "robot"]}, "robot"),
        ({"messages": dialogue(1)}, "show 1 images, but there are 2"),
        ({"images": [b"one"]}, "show 2 images, but there are 1"),
    ],
)
def test_a_mistake_of_the_caller_is_an_error(case, given, problem):
    given = {"task": "vqa", "messages": dialogue(), "annotation": ["rule", "human"], **given}
    with pytest.raises(ValueError, match=problem):
        record_of(case, given.pop("task"), given.pop("messages"), given.pop("annotation"), **given)


@pytest.mark.parametrize("pool", [DESCRIBE_IMAGE, DESCRIBE_IMAGES, REPORT_FINDINGS])
def test_wordings_are_chosen_by_content_and_equally_often(pool):
    assert len(set(pool)) == len(pool) and not any("<image" in asked for asked in pool)
    chosen = [wording(f"case {number}", pool) for number in range(2000)]
    assert chosen == [wording(f"case {number}", pool) for number in range(2000)]
    counts = Counter(chosen)
    assert set(counts) == set(pool)
    expected = 2000 / len(pool)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_no_wordings_are_an_error():
    with pytest.raises(ValueError, match="no wording"):
        wording("case", ())
