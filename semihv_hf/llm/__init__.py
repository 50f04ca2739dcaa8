"""A chat-completions server as a reliable function: typed failures, a cache, a budget, and the licence gate.

The names below are imported on first use, and with them `openai` and `pydantic`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semihv_hf.llm.budget import Budget
    from semihv_hf.llm.cache import ResponseCache, content_key
    from semihv_hf.llm.client import ChatClient
    from semihv_hf.llm.types import ChatRequest, ChatResult, Failure, ServerSettings, Usage

_HOME = {
    "Budget": "semihv_hf.llm.budget",
    "ChatClient": "semihv_hf.llm.client",
    "ChatRequest": "semihv_hf.llm.types",
    "ChatResult": "semihv_hf.llm.types",
    "Failure": "semihv_hf.llm.types",
    "ResponseCache": "semihv_hf.llm.cache",
    "ServerSettings": "semihv_hf.llm.types",
    "Usage": "semihv_hf.llm.types",
    "content_key": "semihv_hf.llm.cache",
}

__all__ = [
    "Budget",
    "ChatClient",
    "ChatRequest",
    "ChatResult",
    "Failure",
    "ResponseCache",
    "ServerSettings",
    "Usage",
    "content_key",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
