"""What a request is answered with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Reply:
    """An answer: a status, headers, and bytes or a piece of a file."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    begin: int = 0
    end: int | None = None


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status (`int`): the HTTP status.
        message (`str`): what is wrong.
        code (`str`, *optional*): the word that clients tell errors apart by (`X-Error-Code`).
        body (`Mapping`, *optional*): further fields of the answer.
        headers (`Mapping`, *optional*): further headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = {"error": message, **(body or {})}
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return as_json(self.body, self.status, headers)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})
