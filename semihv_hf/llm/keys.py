"""What a request is known by: the sha256 of everything that can change its answer, and of nothing else."""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from semihv_hf.files import canonical_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from semihv_hf.llm.types import ChatRequest, ServerSettings

# Part of every key: a change of what a key is made of, or of what an entry holds, makes old entries unknown.
KEY_FORMAT = 1


def content_key(settings: ServerSettings, request: ChatRequest, hashed: list[dict[str, Any]] | None = None) -> str:
    """The name under which the answer to a request is kept.

    Two requests have the same key exactly if they ask the same model at the same address for the same thing: equal
    messages (images by the sha256 of their bytes), schema, sampling, prompt version and number of the repeat. The
    key does not depend on the request's id, on time-outs, retries or concurrency, or on a user name, password or
    query in the address.

    Args:
        settings ([`ServerSettings`]): the server, the model and the sampling.
        request ([`ChatRequest`]): the request.
        hashed (`list[dict]`, *optional*): its messages by [`hashed_message`], where they are at hand.

    Returns:
        `str`: 64 hex digits.
    """
    content = {
        "format": KEY_FORMAT,
        "base_url": settings.shown_url,
        "model": settings.model,
        "messages": hashed_messages(request) if hashed is None else hashed,
        "schema": schema_json(request.schema),
        "sampling": sampling(settings),
        "prompt_version": request.prompt_version,
        "repeat": request.repeat,
    }
    return hashlib.sha256(canonical_json(content).encode("utf-8", "surrogatepass")).hexdigest()


def request_summary(
    settings: ServerSettings, request: ChatRequest, hashed: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """What an entry of the cache says about its request: enough to tell what it was, none of its texts and pixels.

    Args:
        settings ([`ServerSettings`]): the server, the model and the sampling.
        request ([`ChatRequest`]): the request.
        hashed (`list[dict]`, *optional*): its messages by [`hashed_message`], where they are at hand.

    Returns:
        `dict`: names, sampling, the sources, and hashes of the messages and the images.
    """
    hashed = hashed_messages(request) if hashed is None else hashed
    return {
        "base_url": settings.shown_url,
        "model": settings.model,
        "sampling": sampling(settings),
        "prompt_version": request.prompt_version,
        "repeat": request.repeat,
        "schema": None if request.schema is None else request.schema.__name__,
        "messages_sha256": hashlib.sha256(canonical_json(hashed).encode("utf-8", "surrogatepass")).hexdigest(),
        "images_sha256": [
            part["image_sha256"]
            for message in hashed
            if isinstance(message.get("content"), list)
            for part in message["content"]
            if isinstance(part, dict) and "image_sha256" in part
        ],
        "sources": list(request.sources),
    }


def sampling(settings: ServerSettings) -> dict[str, Any]:
    """The settings that can change what the model says.

    Args:
        settings ([`ServerSettings`]): the settings.

    Returns:
        `dict`: temperature, seed, the limit of tokens and what `extra` holds.
    """
    return {
        "temperature": settings.temperature,
        "seed": settings.seed,
        "max_tokens": settings.max_tokens,
        "extra": dict(settings.extra),
    }


@lru_cache(maxsize=256)
def schema_json(schema: type[BaseModel] | None) -> str | None:
    """A schema as text. Kept, since pydantic works it out anew at each call.

    Args:
        schema (`type[pydantic.BaseModel]` or `None`): what a reply must be.

    Returns:
        `str` or `None`: canonical JSON.
    """
    return None if schema is None else canonical_json(schema.model_json_schema())


def hashed_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """All messages of a request by [`hashed_message`].

    Args:
        request ([`ChatRequest`]): the request.

    Returns:
        `list[dict]`: the messages without pixels.
    """
    return [hashed_message(message) for message in request.messages]


def hashed_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message with the sha256 of each image's bytes in the place of the image.

    Args:
        message (`dict`): a message in OpenAI chat form; it is not changed.

    Returns:
        `dict`: the same without pixels.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_hashed_part(part) for part in content]}


def _hashed_part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return part
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url.startswith("data:"):
        return part
    rest = {name: value for name, value in image.items() if name != "url"} if isinstance(image, dict) else {}
    return {"type": "image_url", "image_sha256": image_sha256(url), "image_url": rest}


def image_sha256(url: str) -> str:
    """The sha256 of the bytes in a data URI.

    Args:
        url (`str`): `data:image/…;base64,…`. What is no valid base64 is hashed as it stands.

    Returns:
        `str`: 64 hex digits.
    """
    data = image_bytes(url)
    return hashlib.sha256(url.encode("utf-8", "surrogatepass") if data is None else data).hexdigest()


def image_bytes(url: str) -> bytes | None:
    """The bytes in a data URI.

    Args:
        url (`str`): `data:image/…;base64,…`.

    Returns:
        `bytes` or `None`: `None` if it holds no valid base64.
    """
    head, comma, encoded = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
