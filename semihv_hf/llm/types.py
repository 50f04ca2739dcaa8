"""What goes into a chat-completions server and what comes out of it; a failed call is a value among the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from semihv_hf.errors import SemiHVError

if TYPE_CHECKING:
    from pydantic import BaseModel

# Every way in which a call can end without an answer.
FAILURE_KINDS = (
    "rate_limit",
    "server_error",
    "timeout",
    "connection",
    "bad_request",
    "auth",
    "refusal",
    "content_filter",
    "truncated",
    "schema",
    "empty",
    "licence",
    "budget",
    "cache_miss",
    "image",
    "internal",
)
# What the client itself sets, or what could carry a key: never part of `ServerSettings.extra`.
_NOT_EXTRA = (
    "api_key",
    "base_url",
    "extra_headers",
    "extra_query",
    "max_tokens",
    "messages",
    "model",
    "n",
    "response_format",
    "seed",
    "stream",
    "temperature",
    "timeout",
)


@dataclass(frozen=True)
class ServerSettings:
    """Where and how to ask. It holds the name of the variable with the key, never the key.

    Args:
        base_url (`str`): the server, up to and including `/v1`.
        model (`str`): the model to ask.
        max_concurrency (`int`, *optional*, defaults to 16): most calls at the same time, at least 1.
        timeout (`float`, *optional*, defaults to 120): seconds for one call.
        max_retries (`int`, *optional*, defaults to 6): how often one call is repeated after what may pass: a rate
            limit, a server error, a time-out or a lost connection.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): the environment variable with the key. A
            server on this machine needs none.
        temperature (`float`, *optional*, defaults to 0): of sampling, 0 to 2; `None` leaves it to the server.
        seed (`int`, *optional*, defaults to 0): of sampling; `None` sends none.
        max_tokens (`int`, *optional*): most tokens of a reply; `None` leaves it to the server.
        extra (`Mapping`, *optional*): further fields of the request's body, such as `top_p` or `reasoning_effort`.

    Raises:
        `SemiHVError`: a setting has no sense; the message names it.
    """

    base_url: str
    model: str
    max_concurrency: int = 16
    timeout: float = 120.0
    max_retries: int = 6
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float | None = 0.0
    seed: int | None = 0
    max_tokens: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        parts = _split(self.base_url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise SemiHVError(
                f"The base URL {shown_url(self.base_url)!r} is not an http address.",
                "Give it in full, such as https://api.openai.com/v1.",
            )
        if not isinstance(self.model, str) or not self.model.strip():
            raise SemiHVError(f"The server {self.shown_url} was given without a model.", "Name the model to ask.")
        _at_least("max_concurrency", self.max_concurrency, 1, int)
        _at_least("max_retries", self.max_retries, 0, int)
        if self.max_tokens is not None:
            _at_least("max_tokens", self.max_tokens, 1, int)
        _at_least("timeout", self.timeout, 0.001, (int, float))
        if wrong := sorted(set(self.extra) & set(_NOT_EXTRA)):
            raise SemiHVError(f"`extra` may not hold {wrong[0]!r}.", "It has a setting of its own, or none.")

    @cached_property
    def shown_url(self) -> str:
        """The server without anything that could be a secret: no user, password, query or fragment."""
        return shown_url(self.base_url)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """What is sent for a request, but for its messages and the wanted shape.

        Args:
            request ([`ChatRequest`]): the request. Its repeat is added to the seed: with the same seed, repeated
                answers would be copies of one.

        Returns:
            `dict`: model and sampling.
        """
        seed = None if self.seed is None else self.seed + request.repeat
        sampling = {"temperature": self.temperature, "seed": seed, "max_tokens": self.max_tokens}
        given = {name: value for name, value in sampling.items() if value is not None}
        return {"model": self.model, **self.extra, **given}


def shown_url(url: str) -> str:
    """An address as it may stand in a message, a cache or a manifest.

    Args:
        url (`str`): the address.

    Returns:
        `str`: scheme, host, port and path, without user, password, query and fragment.
    """
    parts = _split(url)
    if parts is None or not parts.hostname:
        return str(url).rpartition("@")[2].partition("?")[0].partition("#")[0]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def _split(url: str):
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- a port that is no number raises only here
    except (ValueError, TypeError, AttributeError):
        return None
    return parts if isinstance(url, str) else None


def _at_least(name: str, value: Any, least: float, kinds: type | tuple[type, ...]) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < float("inf"):
        raise SemiHVError(f"The setting {name} is {value!r}.", f"Give a number of at least {least}.")


@dataclass(frozen=True)
class ChatRequest:
    """One question to the server.

    Args:
        id (`str`): the row that it belongs to; comes back in the result.
        messages (`list[dict]`): the conversation in OpenAI chat form; images are `image_url` parts with data URIs.
        schema (`type[pydantic.BaseModel]`, *optional*): what the reply must be; `None` for free text.
        prompt_version (`str`, *optional*): of the prompt that made the messages; part of the content key.
        repeat (`int`, *optional*, defaults to 0): which of several samples of the same question; part of the content
            key, and added to the seed.
        sources (`tuple[str, ...]`, *optional*): the names in the licence registry whose text or pixels the messages
            hold. The licence gate is asked about each before the call.
    """

    id: str
    messages: list[dict]
    schema: type[BaseModel] | None = None
    prompt_version: str = ""
    repeat: int = 0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a call gave no answer.

    Args:
        kind (`str`): one of `FAILURE_KINDS`.
        detail (`str`): the reason in one line, without any key.
        attempts (`int`): how many calls were made for it; 0 if none.
    """

    kind: str
    detail: str
    attempts: int = 0


@dataclass(frozen=True)
class Usage:
    """What a call used. Failed attempts that the server counted are part of it.

    Args:
        input_tokens (`int`): tokens of the messages, cached ones included.
        cached_tokens (`int`): those of them that the server had in its own cache.
        output_tokens (`int`): tokens of the reply, reasoning included.
        reasoning_tokens (`int`): those of them that are reasoning.
        cost_usd (`float` or `None`): dollars; `None` where no price is known.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_usd + other.cost_usd if known else None,
        )


@dataclass(frozen=True)
class ChatResult:
    """What became of one request: an answer, or a failure with its reason, never both.

    Args:
        id (`str`): the request's id.
        key (`str`): the request's content key.
        text (`str` or `None`): the reply.
        parsed (`pydantic.BaseModel` or `None`): the reply as the request's schema.
        failure ([`Failure`] or `None`): why there is no reply.
        usage ([`Usage`] or `None`): what it used; from the cache, what it used when it was asked.
        cached (`bool`): whether it came from the cache, at no cost.
        model (`str` or `None`): the model that the server says it is.
        system_fingerprint (`str` or `None`): the configuration that the server says it has.
    """

    id: str
    key: str
    text: str | None = None
    parsed: BaseModel | None = None
    failure: Failure | None = None
    usage: Usage | None = None
    cached: bool = False
    model: str | None = None
    system_fingerprint: str | None = None
