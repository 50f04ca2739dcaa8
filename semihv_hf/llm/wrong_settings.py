"""Telling a wrong setting from a failed call: the one stops the run before anything is paid for, the other is a row's.

Only asked while no call has succeeded yet; after that the settings have proved right.
"""

import re

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.retries import Fault
from semihv_hf.llm.types import ChatRequest, ServerSettings

_UNKNOWN = re.compile(r"(?i)does not exist|not found|no such|unknown|not a valid|invalid model|not available")
_NO_IMAGES = re.compile(r"(?i)image|vision|multi-?modal")
_PARAMETERS = ("temperature", "seed", "max_tokens")


def wrong_setting(fault: Fault, request: ChatRequest, settings: ServerSettings) -> SemiHVError | None:
    """Finds out whether a fault is due to a setting, so that every further call would end like this one.

    Args:
        fault ([`Fault`]): what came back.
        request ([`ChatRequest`]): what was asked.
        settings ([`ServerSettings`]): the settings.

    Returns:
        `SemiHVError | None`: the error that names the setting.
    """
    server, status, detail = settings.shown_url, fault.status, fault.detail
    if fault.unreachable:
        return SemiHVError(
            f"There is no server at {server} ({detail}).", "Check the base URL, and that the server runs."
        )
    if status is None:
        return None
    if 300 <= status < 400:
        return SemiHVError(
            f"The server {server} redirects (HTTP {status}); nothing was sent on.",
            "Give the base URL of the server itself.",
        )
    if fault.kind == "auth":
        return SemiHVError(
            f"The server {server} refuses the key (HTTP {status}: {detail}).",
            f"Set the environment variable {settings.api_key_env} to a key that may use {settings.model}.",
        )
    if status in (400, 404, 422) and fault.kind == "bad_request":
        return _wrong_request(fault, request, settings)
    return None


def _wrong_request(fault: Fault, request: ChatRequest, settings: ServerSettings) -> SemiHVError | None:
    server, detail = settings.shown_url, fault.detail
    about_model = settings.model in detail and _UNKNOWN.search(detail)
    if fault.code == "model_not_found" or fault.param == "model" or about_model:
        return SemiHVError(
            f"The server {server} does not know the model {settings.model!r} ({detail}).", "Name one that it has."
        )
    if fault.status == 404:
        return SemiHVError(
            f"The server {server} has no chat completions for the model {settings.model!r} ({detail}).",
            "Check the model, and the base URL up to and including /v1.",
        )
    named = fault.param or next((name for name in (*_PARAMETERS, *settings.extra) if f"'{name}'" in detail), None)
    if named in _PARAMETERS or named in settings.extra:
        return SemiHVError(f"The server {server} refuses the setting {named} ({detail}).", "Change or unset it.")
    if has_images(request) and _NO_IMAGES.search(detail):
        return SemiHVError(
            f"The model {settings.model!r} at {server} takes no images ({detail}).", "Name a model with vision."
        )
    return None


def has_images(request: ChatRequest) -> bool:
    """Whether a request holds an image.

    Args:
        request ([`ChatRequest`]): the request.

    Returns:
        `bool`: whether one of its parts is an `image_url`.
    """
    return any(
        isinstance(part, dict) and part.get("type") == "image_url"
        for message in request.messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def check_request(request: ChatRequest) -> str | None:
    """Looks for what no server could answer.

    Args:
        request ([`ChatRequest`]): the request.

    Returns:
        `str | None`: what is wrong with it; `None` if nothing is.
    """
    if not isinstance(request, ChatRequest):
        return f"it is a {type(request).__name__}, not a ChatRequest"
    if not isinstance(request.messages, (list, tuple)) or not request.messages:
        return "it has no messages"
    for number, message in enumerate(request.messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return f"message {number} has no role"
        if not isinstance(message.get("content"), (str, list)):
            return f"message {number} has a content of type {type(message.get('content')).__name__}"
    if isinstance(request.sources, str):
        return "its sources are one text instead of a tuple of names"
    return None
