"""Which failures of the Hub pass by themselves, and trying again until they have."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from semihv_hf.llm.retries import Backoff

T = TypeVar("T")
_STATUSES = {408, 425, 429, 500, 502, 503, 504}
TRIES = 8


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: a lost connection, a rate limit, a server in trouble.

    Args:
        error (`BaseException`): what the Hub's client raised.

    Returns:
        `bool`: also for an error that another one caused.
    """
    for each in _causes(error):
        status = status_of(each)
        if status is not None:
            return status in _STATUSES
        # A gateway in trouble answers with a page where JSON was expected.
        if isinstance(each, (transport_error(), ConnectionError, TimeoutError, json.JSONDecodeError)):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer that was an error; `None` where there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def transport_error() -> type[Exception]:
    """What the Hub's client raises when there is no answer: it moved from one library to the next."""
    try:
        import httpx2 as http
    except ImportError:
        import httpx as http
    return http.TransportError


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def persistently(
    call: Callable[[], T],
    *,
    tries: int = TRIES,
    backoff: Backoff = Backoff(base=0.5, cap=20.0),  # noqa: B008  (a frozen value)
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Calls again after a failure that passes, with growing waits; any other failure is raised at once.

    Args:
        call (`Callable`): what to do; doing it twice must do no harm.
        tries (`int`, *optional*, defaults to 8): how often at most.
        backoff ([`Backoff`], *optional*): how long to wait.
        sleep (`Callable`, *optional*): what waits.

    Returns:
        what the call returned.

    Raises:
        `Exception`: the last failure.
    """
    rng = random.Random()
    for number in range(tries):
        try:
            return call()
        except Exception as error:
            if number == tries - 1 or not is_transient(error):
                raise
            wait = backoff.seconds(number, rng)
            asked = _retry_after(error)
            sleep(wait if asked is None else min(asked + wait, 300.0))
    raise AssertionError("tries is at least 1")


def _retry_after(error: BaseException) -> float | None:
    for each in _causes(error):
        value = getattr(getattr(each, "response", None), "headers", {}).get("Retry-After", "")
        if value.isdigit():
            return float(value)
    return None
