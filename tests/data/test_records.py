"""Training records: several turns on different facts, balanced, valid, and the same for the same seed."""

from collections import Counter

from semihv_hf.data.checks import validate_record
from semihv_hf.data.messages import count_images, message_text
from semihv_hf.data.questions import Questions
from semihv_hf.data.records import alignment_record, instruction_records


def all_records(cases, seed=0):
    questions = Questions(cases)
    return [record for case in cases for record in instruction_records(case, questions, seed)]


def test_records_are_valid_and_repeat_a_fact_only_as_another_yes_or_no(cases):
    for record in all_records(cases):
        validate_record(record.row())
        texts = [message_text(record.messages[question.turn]) for question in record.questions]
        assert len(set(texts)) == len(texts) <= 6
        asked = Counter(question.fact for question in record.questions)
        assert len(asked) <= 4 and max(asked.values()) <= 2
        for fact, times in asked.items():
            forms = [question.options for question in record.questions if question.fact == fact]
            assert times == 1 or ["yes", "no"] in forms
        for question in record.questions:
            answer = message_text(record.messages[question.turn + 1])
            assert not question.options or answer in question.options


def test_most_questions_are_closed_and_yes_is_as_common_as_no(cases):
    turns, answers, yes_no = Counter(), Counter(), 0
    for seed in range(4):
        for record in all_records(cases, seed):
            for question in record.questions:
                turns[question.answer_type] += 1
                if question.options == ["yes", "no"]:
                    yes_no += 1
                    answers[message_text(record.messages[question.turn + 1])] += 1
    assert 0.85 < turns["closed"] / turns.total() < 0.97
    assert 0.5 < yes_no / turns.total() < 0.85
    assert 0.42 < answers["yes"] / answers.total() < 0.58


def test_conversations_about_an_image_differ_and_do_not_depend_on_other_images(cases):
    questions = Questions(cases)
    one = [record.row() for record in instruction_records(cases[0], questions, 0)]
    again = [record.row() for record in instruction_records(cases[0], questions, 0)]
    other = [record.row() for record in instruction_records(cases[0], questions, 1)]
    assert one == again != other
    assert len({record["id"] for record in one}) == len(one) == 3


def test_no_marker_stands_in_a_message(cases):
    for record in [*all_records(cases), *map(alignment_record, cases)]:
        assert not any("<image" in message_text(message) for message in record.messages)
        assert count_images(record.messages) == count_images(record.messages[:1]) == len(record.images) == 1


def test_alignment_record_gives_its_evidence(cases):
    record = alignment_record(cases[0])
    validate_record(record.row())
    assert message_text(record.messages[0]) == "Describe the image."
    assert record.provenance[1].evidence[0] == "modality: MRI (source of modality)"


def test_a_rare_finding_is_heard_as_often_as_its_absence(make_case):
    cases = [
        make_case(number, "train", modality="MRI", lesion="visible" if number % 10 == 0 else "not visible")
        for number in range(300)
    ]
    answers = Counter()
    for record in all_records(cases):
        for question in record.questions:
            if question.fact == "lesion":
                answers[message_text(record.messages[question.turn + 1])] += 1
    assert 0.35 < answers["yes"] / answers.total() < 0.65 and answers.total() > 60
