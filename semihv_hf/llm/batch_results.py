"""Reading what a batch brought: replies, and requests that failed for now or for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.files import write_jsonl
from semihv_hf.llm.cache_log import parse_line
from semihv_hf.llm.redaction import redact
from semihv_hf.llm.types import Failure, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

# What the server says of a request that it never got to.
_NOT_DONE = ("batch_expired", "batch_cancelled")
# Another try may bring an answer; what is not here is as it is.
PASSING = ("rate_limit", "server_error", "timeout")
_STATUS_KINDS = {401: "auth", 403: "auth", 408: "timeout", 409: "server_error", 425: "server_error", 429: "rate_limit"}


@dataclass(frozen=True)
class BatchResult:
    """What became of one request.

    Args:
        reply (`dict` or `None`): what the cache keeps.
        failure ([`Failure`] or `None`): why there is no reply.
        usage ([`Usage`] or `None`): what the server counted, with its dollars.
    """

    reply: dict[str, Any] | None = None
    failure: Failure | None = None
    usage: Usage | None = None


def read_line(
    line: dict[str, Any],
    schema: type[BaseModel] | None,
    price: Callable[[Usage], Usage],
    secrets: Iterable[str | None],
) -> BatchResult:
    """Reads one line of a file of results or errors.

    Args:
        line (`dict`): the line.
        schema (`type[pydantic.BaseModel]`, *optional*): what the reply must be.
        price (`Callable`): gives a usage its dollars.
        secrets (`Iterable[str]`): texts that must not appear in a reason.

    Returns:
        [`BatchResult`]: a reply that is whole and has the shape, or a failure.
    """
    from semihv_hf.llm.replies import Reply, read_completion, read_usage

    response, error = line.get("response"), line.get("error")
    response = response if isinstance(response, dict) else {}
    if error or response.get("status_code") != 200:
        return BatchResult(failure=_fault(error if isinstance(error, dict) else {}, response, secrets))
    usage = read_usage(response.get("body"))
    usage = None if usage is None else price(usage)
    reply = read_completion(response.get("body"), "json_schema")
    if not isinstance(reply, Reply):
        return BatchResult(failure=Failure(reply.kind, redact(reply.detail, secrets), 1), usage=usage)
    try:
        reply.as_shape(schema)
    except ValueError as problem:
        why = f"the reply does not fit the schema ({redact(problem, secrets, most=200)})"
        return BatchResult(failure=Failure("schema", why, 1), usage=usage)
    return BatchResult({**reply.kept(), "usage": None if usage is None else asdict(usage)}, usage=usage)


def missing(status: str | None, reason: str | None) -> BatchResult:
    """The result of a request that a batch ended without.

    Args:
        status (`str`, *optional*): of the batch.
        reason (`str`, *optional*): why the server failed the whole batch.

    Returns:
        [`BatchResult`]: a failure that another batch may mend.
    """
    why = f"the batch ended as {status} without it" + (f" ({reason})" if reason else "")
    return BatchResult(failure=Failure("timeout" if status == "expired" else "server_error", why, 1))


def _fault(error: dict[str, Any], response: dict[str, Any], secrets: Iterable[str | None]) -> Failure:
    status, code, body = response.get("status_code"), error.get("code"), response.get("body")
    inner = body.get("error") if isinstance(body, dict) else body
    inner = inner.get("message") or inner if isinstance(inner, dict) else inner
    detail = redact(error.get("message") or inner or code or f"status {status}", secrets)
    if code in _NOT_DONE:
        return Failure("timeout" if code == "batch_expired" else "server_error", detail, 1)
    if not isinstance(status, int) or status >= 500:
        return Failure("server_error", detail, 1)
    return Failure(_STATUS_KINDS.get(status, "bad_request"), detail, 1)


class Unanswered:
    """Which requests of a job have failed, so that a resumed run asks none of them again that failed for good."""

    def __init__(self):
        self._kinds: dict[bytes, str] = {}

    def add(self, key: str, kind: str) -> None:
        """Notes a failure; a later one of the same request takes its place."""
        self._kinds[bytes.fromhex(key)] = kind

    def for_good(self, key: str) -> bool:
        """Whether asking again is of no use."""
        kind = self._kinds.get(bytes.fromhex(key))
        return kind is not None and kind not in PASSING

    def kind(self, key: str) -> str | None:
        """How a request failed last; `None` if it did not."""
        return self._kinds.get(bytes.fromhex(key))

    def load(self, path: Path) -> None:
        """Takes over what [`write_failures`] wrote."""
        if path.exists():
            with open(path, "rb") as file:
                for line in file:
                    row = parse_line(line)
                    if row is not None:
                        self.add(row["key"], row["kind"])


def write_failures(path: Path, kinds: dict[str, str]) -> None:
    """Writes which requests of a part failed, all at once.

    Args:
        path (`pathlib.Path`): the file.
        kinds (`dict[str, str]`): kind of failure by content key.
    """
    write_jsonl(path, ({"key": key, "kind": kind} for key, kind in kinds.items()))
