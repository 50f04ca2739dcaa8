"""The `openai` client behind a [`ChatClient`], and what must be right before it is made."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.redaction import redact
from semihv_hf.llm.types import ServerSettings, shown_url

if TYPE_CHECKING:
    from openai import AsyncOpenAI


def check_connection(settings: ServerSettings, injected: AsyncOpenAI | None = None) -> None:
    """Looks for what would fail at the first call.

    Args:
        settings ([`ServerSettings`]): the server.
        injected (`openai.AsyncOpenAI`, *optional*): the client that is to be used.

    Raises:
        `SemiHVError`: the package or the key is missing, or the client is one of another server.
    """
    from importlib.util import find_spec

    from semihv_hf.data.licences import is_local_url

    if injected is not None:
        asked = shown_url(str(injected.base_url))
        if asked != settings.shown_url:
            raise SemiHVError(
                f"The injected client asks {asked}, the settings name {settings.shown_url}.",
                "Make them equal: the licence gate and the cache go by the settings.",
            )
        return
    if find_spec("openai") is None:
        raise SemiHVError("A chat server needs the package openai.", "Run `pip install 'semihv-hf[judge]'`.")
    name = settings.api_key_env
    if not is_local_url(settings.base_url) and not os.environ.get(name):
        raise SemiHVError(
            f"There is no key for {settings.shown_url}: the environment variable {name} is not set.",
            "Set it, or name another variable in `api_key_env`.",
        )


@asynccontextmanager
async def open_client(settings: ServerSettings) -> AsyncIterator[AsyncOpenAI]:
    """An `openai.AsyncOpenAI` for the settings, closed at the end. It follows no redirects and repeats nothing.

    Args:
        settings ([`ServerSettings`]): the server; the key is read from the environment now.

    Yields:
        `openai.AsyncOpenAI`: the client.
    """
    import openai

    from semihv_hf.data.licences import is_local_url

    local = is_local_url(settings.base_url)
    http = openai.DefaultAsyncHttpxClient(
        follow_redirects=False,
        timeout=settings.timeout,
        # A proxy from the environment would carry what is meant for this machine to another one.
        trust_env=not local,
        # Plain HTTP has no certificates; to read the system's takes longer than a hundred calls.
        verify=not settings.base_url.lower().startswith("http://"),
    )
    try:
        api = openai.AsyncOpenAI(
            base_url=settings.base_url,
            # Servers on one's own machine want no key, but the client insists on one.
            api_key=os.environ.get(settings.api_key_env) or "none",
            max_retries=0,
            timeout=settings.timeout,
            http_client=http,
        )
    except openai.OpenAIError as error:
        raise SemiHVError(f"The client of {settings.shown_url} cannot be made ({redact(error)}).") from None
    async with api:
        yield api
