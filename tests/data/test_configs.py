"""One table says in which config the records of a task stand."""

import pytest

from semihv_hf.data.configs import CONFIGS, RECORD_CONFIGS, ROWS, config_of, wants
from semihv_hf.data.schema import TASKS
from semihv_hf.errors import SemiHVError


def test_every_task_has_a_config_and_every_config_of_records_a_task():
    assert {task: config_of(task) for task in TASKS} == {
        "caption": "alignment",
        "report": "instruction",
        "vqa": "instruction",
        "multiple_choice": "instruction",
        "conversation": "instruction",
        "case": "annealing",
    }
    assert {config_of(task) for task in TASKS} == set(RECORD_CONFIGS)
    assert CONFIGS == ("cases", "alignment", "instruction", "annealing") and ROWS == (*CONFIGS, "records")


def test_records_are_all_of_them_and_cases_none():
    assert all(wants("records", task) for task in TASKS)
    assert not any(wants("cases", task) for task in TASKS)
    assert [task for task in TASKS if wants("alignment", task)] == ["caption"]


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(SemiHVError, match="Unknown task 'poem'.*caption, report, vqa"):
        config_of("poem")
