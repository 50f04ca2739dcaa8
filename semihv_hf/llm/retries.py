"""Which failed calls are worth repeating, and when."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from semihv_hf.llm.redaction import redact

# A server that asks for more than this is treated as closed for now: the row fails, and a later run asks again.
LONGEST_WAIT = 300.0
_TRANSIENT = {408: "timeout", 409: "server_error", 425: "server_error", 429: "rate_limit"}
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_FILTERED = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")


@dataclass(frozen=True)
class Fault:
    """A call that came back without a reply.

    Args:
        kind (`str`): one of `types.FAILURE_KINDS`.
        detail (`str`): what the server or the client said, in one line without keys.
        transient (`bool`): whether the same call may succeed later.
        wait (`float` or `None`): seconds that the server asked to wait.
        overload (`bool`): whether it says that the server has too much to do.
        status (`int` or `None`): the HTTP status, if there was a response.
        code (`str` or `None`): the server's own name of the error.
        param (`str` or `None`): the field of the request that the server complains about.
        unreachable (`bool`): whether there was not even a connection.
    """

    kind: str
    detail: str
    transient: bool = False
    wait: float | None = None
    overload: bool = False
    status: int | None = None
    code: str | None = None
    param: str | None = None
    unreachable: bool = False


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter (Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015).

    Args:
        base (`float`, *optional*, defaults to 0.5): most seconds before the first repetition.
        cap (`float`, *optional*, defaults to 30): most seconds before any.
    """

    base: float = 0.5
    cap: float = 30.0

    def seconds(self, repetition: int, rng: random.Random) -> float:
        """How long to wait.

        Args:
            repetition (`int`): 0 for the first.
            rng (`random.Random`): where the jitter comes from.

        Returns:
            `float`: seconds, evenly from 0 to `base * 2 ** repetition`, at most `cap`.
        """
        return rng.uniform(0.0, min(self.cap, self.base * 2.0 ** min(repetition, 60)))


def read_fault(error: Exception, secrets: Iterable[str | None], clock: Callable[[], float]) -> Fault:
    """Tells what an exception of the client means.

    Args:
        error (`Exception`): what `openai` raised.
        secrets (`Iterable[str]`): texts that must not be in the detail.
        clock (`Callable`): seconds since 1970, for a Retry-After that is a date.

    Returns:
        [`Fault`]: the meaning.
    """
    import openai

    detail = redact(f"{type(error).__name__}: {error}", secrets)
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        return Fault("timeout", detail, transient=True, overload=True)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        told = f"{detail} {redact(f'{type(cause).__name__}: {cause}', secrets)}" if cause else detail
        return Fault("connection", told, transient=True, unreachable=type(cause).__name__ == "ConnectError")
    if isinstance(error, openai.APIStatusError):
        return _status_fault(error, detail, clock)
    if isinstance(error, ValueError):  # a body that is no JSON comes as the decoder's own exception
        return Fault("server_error", f"the response is not JSON ({detail})", transient=True, status=200)
    if isinstance(error, (OSError, RuntimeError)):  # a socket that went away below the HTTP library
        return Fault("connection", detail, transient=True)
    return Fault("internal", detail)


def _status_fault(error, detail: str, clock: Callable[[], float]) -> Fault:
    status = error.status_code
    said = {"status": status, "code": error.code, "param": error.param}
    code = str(error.code or "").lower()
    if code in _FILTERED or (status in (400, 403) and "moderation" in str(error).lower()):
        return Fault("content_filter", detail, **said)
    if status == 429 and code in _NO_CREDIT:
        return Fault("rate_limit", detail, **said)
    if status in _TRANSIENT or status >= 500:
        wait = retry_after_seconds(error.response.headers, clock())
        patient = wait is None or wait <= LONGEST_WAIT
        if not patient:
            detail = f"the server asks to wait {wait:.0f} s, which is more than {LONGEST_WAIT:.0f} s ({detail})"
        kind = _TRANSIENT.get(status, "server_error")
        overload = kind in ("rate_limit", "timeout")
        return Fault(kind, detail, transient=patient, wait=wait if patient else None, overload=overload, **said)
    if status in (401, 403):
        return Fault("auth", detail, **said)
    return Fault("bad_request", detail, **said)


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Reads how long a server asks to wait.

    Args:
        headers (`Mapping[str, str]`): of the response. `retry-after-ms` goes before `retry-after`, which is a number
            of seconds or an HTTP date (RFC 9110, 10.2.3).
        now (`float`): seconds since 1970.

    Returns:
        `float | None`: seconds, never negative; `None` where the server says nothing that can be read.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = (headers.get(name) or "").strip()
        if not value:
            continue
        seconds = _number(value)
        if seconds is not None:
            return max(0.0, seconds * unit)
        if name == "retry-after":
            return _seconds_to(value, now)
    return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _seconds_to(date: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
