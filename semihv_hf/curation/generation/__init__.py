"""Writing training conversations with a model: which texts a case gets, how they are asked for, and what is kept.

The names below are imported on first use, and with them `jinja2` and `pydantic`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semihv_hf.curation.generation.demonstrations import Demonstration, choose_demonstrations, load_demonstrations
    from semihv_hf.curation.generation.filters import RULES, Rejected
    from semihv_hf.curation.generation.options import GenerationOptions
    from semihv_hf.curation.generation.prompts import Prompts
    from semihv_hf.curation.generation.records import records_from_reply
    from semihv_hf.curation.generation.requests import generation_request
    from semihv_hf.curation.generation.tasks import TASKS, GenerationTask, plan

_HOME = {
    "Demonstration": "demonstrations",
    "GenerationOptions": "options",
    "GenerationTask": "tasks",
    "Prompts": "prompts",
    "RULES": "filters",
    "Rejected": "filters",
    "TASKS": "tasks",
    "choose_demonstrations": "demonstrations",
    "generation_request": "requests",
    "load_demonstrations": "demonstrations",
    "plan": "tasks",
    "records_from_reply": "records",
}

__all__ = [
    "RULES",
    "TASKS",
    "Demonstration",
    "GenerationOptions",
    "GenerationTask",
    "Prompts",
    "Rejected",
    "choose_demonstrations",
    "generation_request",
    "load_demonstrations",
    "plan",
    "records_from_reply",
]


def __getattr__(name: str):
    if name in _HOME:
        found = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
