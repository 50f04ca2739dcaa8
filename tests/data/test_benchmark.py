"""Held-out questions: one a row, balanced, capped, and not answerable from the wording."""

from collections import Counter

import pytest

from semihv_hf.data import benchmark
from semihv_hf.data.benchmark import benchmark_records
from semihv_hf.data.checks import validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.questions import Questions, templates


@pytest.fixture
def records(cases, kinds):
    train = [case for case in cases if case.split == "train"]
    held = [case for case in cases if case.split == "test"]
    return benchmark_records(held, kinds, Questions(train), seed=0)


def test_rows_are_single_questions_in_the_fixed_wording(records):
    starts = {template.name: template.wordings[0].split("{")[0] for template in templates()}
    for record in records:
        validate_record(record.row())
        assert len(record.messages) == 2 and len(record.questions) == 1
        assert message_text(record.messages[0]).startswith(starts[record.questions[0].template])


def test_yes_and_no_are_equal_for_each_wording(records):
    by_text: dict[str, Counter] = {}
    for record in records:
        if record.questions[0].options == ["yes", "no"]:
            by_text.setdefault(message_text(record.messages[0]), Counter())[message_text(record.messages[1])] += 1
    assert len(by_text) >= 8
    for text, answers in by_text.items():
        assert answers["yes"] == answers["no"], text


def test_caps(records, kinds):
    cells, images, answers = Counter(), Counter(), Counter()
    for record in records:
        template, answer = record.questions[0].template, message_text(record.messages[1])
        cells[template, answer, kinds[record.case_id]] += 1
        images[record.case_id] += 1
        answers[template, answer] += template.endswith("choice") or template.endswith("open")
    assert max(cells.values()) <= benchmark.ROWS_PER_CELL
    assert max(images.values()) <= benchmark.QUESTIONS_PER_IMAGE
    assert max(answers.values()) <= benchmark.ROWS_PER_ANSWER


def test_same_seed_same_rows(cases, kinds, records):
    train = [case for case in cases if case.split == "train"]
    held = [case for case in cases if case.split == "test"]
    again = benchmark_records(held[::-1], kinds, Questions(train), seed=0)
    assert [record.id for record in again] == [record.id for record in records], (
        "the order of the cases must not matter"
    )
    other = benchmark_records(held, kinds, Questions(train), seed=1)
    assert [record.id for record in other] != [record.id for record in records]
