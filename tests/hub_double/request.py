"""One request, as the routes see it."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .access import User, check_see
from .replies import Refused
from .store import Repository, Store


@dataclass
class Request:
    """What was asked, by whom.

    Args:
        method (`str`): the HTTP method.
        path (`str`): the path as it came, still quoted.
        query (`dict[str, list[str]]`): what stands behind the question mark.
        headers (`Mapping`): the headers.
        body (`bytes`): the body; of an upload to the storage it was put into a file already.
        user ([`User`], *optional*): whose token came along.
        store ([`Store`]): the repositories.
        url (`str`): the address of this server.
        storage_url (`str`): the address of its storage, another host for the clients.
        settings ([`Settings`]): how the server was set up.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    user: User | None
    store: Store
    url: str
    storage_url: str
    settings: Any

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"null")
        except ValueError as error:
            raise Refused(400, "The body is not JSON.") from error

    def fields(self) -> dict[str, Any]:
        """JSON or form data; clients send either."""
        if "json" in self.headers.get("Content-Type", ""):
            return self.json()
        return parse_qs(self.body.decode())

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")

    def repository(self, kind: str, repo_id: str) -> Repository:
        """The repository, if it is there and the user may know that."""
        return check_see(self.user, self.store.repositories.get((kind, repo_id)))
