"""Reading a chat completion: a whole, freely given reply, or the name of what it is instead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from semihv_hf.llm.redaction import redact
from semihv_hf.llm.retries import Fault
from semihv_hf.llm.structured import parse_reply
from semihv_hf.llm.types import Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

_CUT_OFF = ("length", "max_tokens", "model_length")


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Args:
        text (`str`): the reply.
        mode (`str`): how its shape was asked for, one of `structured.MODES`; it says how to read the text.
        model (`str` or `None`): the model that the server says it is.
        system_fingerprint (`str` or `None`): the configuration that the server says it has.
        usage ([`Usage`] or `None`): the tokens that it counted.
        parsed (`pydantic.BaseModel` or `None`): the reply as the request's schema.
    """

    text: str
    mode: str
    model: str | None = None
    system_fingerprint: str | None = None
    usage: Usage | None = None
    parsed: BaseModel | None = None

    def kept(self) -> dict[str, Any]:
        """What a cache keeps of it; [`from_kept`] reads it again."""
        return {
            "text": self.text,
            "mode": self.mode,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "usage": None if self.usage is None else dict(vars(self.usage)),
        }

    @classmethod
    def from_kept(cls, kept: dict[str, Any], schema: type[BaseModel] | None) -> Reply:
        """Reads what [`kept`] made.

        Args:
            kept (`dict`): the entry of the cache.
            schema (`type[pydantic.BaseModel]`, *optional*): the wanted shape.

        Returns:
            [`Reply`]: the reply.

        Raises:
            `ValueError`: the entry is none, or does not have the shape.
        """
        text, usage = kept.get("text"), kept.get("usage")
        if not isinstance(text, str) or not text.strip():
            raise ValueError("the entry holds no text")
        mode = kept.get("mode") or "json_schema"
        return cls(
            text,
            mode,
            kept.get("model"),
            kept.get("system_fingerprint"),
            Usage(**usage) if usage else None,
            None if schema is None else parse_reply(text, schema, mode),
        )

    def as_shape(self, schema: type[BaseModel] | None) -> Reply:
        """The same, read as a shape.

        Args:
            schema (`type[pydantic.BaseModel]`, *optional*): the wanted shape.

        Returns:
            [`Reply`]: with `parsed` set.

        Raises:
            `ValueError`: the text does not have the shape.
        """
        return self if schema is None else replace(self, parsed=parse_reply(self.text, schema, self.mode))


def read_completion(body: Any, mode: str) -> Reply | Fault:
    """Reads the body of a chat-completions response.

    Args:
        body (`Any`): the decoded JSON.
        mode (`str`): how the shape was asked for.

    Returns:
        [`Reply`] or [`Fault`]: a refusal, a filtered, cut-off or empty reply is a fault that a repetition does not
        mend; a body that is no completion is a server's error.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        said = body.get("error") if isinstance(body, dict) else body
        return Fault("server_error", f"the response is no completion: {redact(said, most=120)}", transient=True)
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    message = message if isinstance(message, dict) else {}
    if message.get("refusal"):
        return Fault("refusal", f"the model refused: {redact(message['refusal'], most=200)}")
    if reason == "content_filter":
        return Fault("content_filter", "the server's filter stopped the reply (finish_reason content_filter)")
    if reason in _CUT_OFF:
        return Fault("truncated", f"the reply was cut off by the limit of tokens (finish_reason {reason})")
    if not reason:
        return Fault("truncated", "the reply broke off (it has no finish_reason)")
    text = _text_of(message.get("content"))
    if not text.strip():
        return Fault("empty", f"the reply is empty (finish_reason {redact(reason, most=40)})")
    model, fingerprint = body.get("model"), body.get("system_fingerprint")
    return Reply(
        text,
        mode,
        model if isinstance(model, str) else None,
        fingerprint if isinstance(fingerprint, str) else None,
        read_usage(body),
    )


def _text_of(content: Any) -> str:
    """Some servers give the content as a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def read_usage(body: Any) -> Usage | None:
    """Reads how many tokens a server counted.

    Args:
        body (`Any`): the decoded JSON of a response.

    Returns:
        [`Usage`] or `None`: without a price; `None` where the server counts none.
    """
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return None
    return Usage(
        _count(usage, "prompt_tokens"),
        _count(usage.get("prompt_tokens_details"), "cached_tokens"),
        _count(usage, "completion_tokens"),
        _count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
