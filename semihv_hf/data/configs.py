"""Which rows of a source stand in which config of a dataset folder; here and nowhere else.

`semihv build` writes by this table and the builder behind `load_dataset("semihvision", ...)` reads by it, so that both
give the same rows.
"""

from ..errors import SemiHVError
from .schema import TASKS

CASES = "cases"
# The training stage that a task belongs to: captions align the connector, questions and reports instruct, whole
# clinical cases with their discussion anneal.
TASK_CONFIGS = {
    "caption": "alignment",
    "report": "instruction",
    "vqa": "instruction",
    "multiple_choice": "instruction",
    "conversation": "instruction",
    "case": "annealing",
}
RECORD_CONFIGS = ("alignment", "instruction", "annealing")
CONFIGS = (CASES, *RECORD_CONFIGS)
PREFERENCES = "preferences"  # what people preferred over what; only `semihv review` writes it
# What a user can ask a source for: one config, or all its records as they come from its cases.
ROWS = (*CONFIGS, "records")


def config_of(task: str) -> str:
    """The config that holds the records of a task.

    Args:
        task (`str`): one of [`semihv_hf.data.schema.TASKS`].

    Returns:
        `str`: one of `RECORD_CONFIGS`.

    Raises:
        `SemiHVError`: there is no such task.
    """
    if task not in TASK_CONFIGS:
        raise SemiHVError(f"Unknown task {task!r}.", f"Known are: {', '.join(TASKS)}.")
    return TASK_CONFIGS[task]


def wants(rows: str, task: str) -> bool:
    """Whether a record belongs to what was asked for.

    Args:
        rows (`str`): one of `ROWS`.
        task (`str`): the record's task.

    Returns:
        `bool`: `False` for `"cases"`, which are no records.
    """
    return rows == "records" or config_of(task) == rows
