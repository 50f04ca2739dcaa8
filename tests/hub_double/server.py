"""HTTP: from a socket to a route and back, with faults on the way and a log of everything."""

import re
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from . import reading, writing
from .access import User
from .faults import Faults
from .replies import Refused, Reply
from .request import Request
from .store import Store

_REPO = r"(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_PAGE = r"(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)"
_REV, _PATH = r"(?P<revision>[^/]+)", r"(?P<path>.+)"
ROUTES = [
    (method, re.compile(pattern), answer)
    for methods, pattern, answer in (
        ("GET", "/api/whoami-v2", reading.whoami),
        ("POST", "/api/repos/create", writing.create),
        ("DELETE", "/api/repos/delete", writing.delete),
        ("POST", "/api/validate-yaml", writing.validate_yaml),
        ("GET", "/api/(?P<kind>models|datasets|spaces)", reading.listing),
        ("GET", f"/api/{_REPO}", reading.repository_info),
        ("GET", f"/api/{_REPO}/revision/{_REV}", reading.repository_info),
        ("GET", f"/api/{_REPO}/refs", reading.refs),
        ("GET", f"/api/{_REPO}/commits/{_REV}", reading.commits),
        ("GET", f"/api/{_REPO}/tree/{_REV}(?:/{_PATH})?", reading.tree),
        ("POST", f"/api/{_REPO}/paths-info/{_REV}", reading.paths_info),
        ("GET", f"/api/{_REPO}/auth-check", reading.auth_check),
        ("GET", f"/api/{_REPO}/auth-check/write", reading.auth_check_write),
        ("PUT", f"/api/{_REPO}/settings", writing.settings),
        ("POST", f"/api/{_REPO}/branch/(?P<name>[^/]+)", writing.create_branch),
        ("DELETE", f"/api/{_REPO}/branch/(?P<name>[^/]+)", writing.delete_branch),
        ("POST", f"/api/{_REPO}/tag/{_REV}", writing.create_tag),
        ("DELETE", f"/api/{_REPO}/tag/(?P<name>[^/]+)", writing.delete_tag),
        ("POST", f"/api/{_REPO}/preupload/{_REV}", writing.preupload),
        ("POST", f"/api/{_REPO}/commit/{_REV}", writing.commit),
        ("POST", "/api/complete-multipart/(?P<key>[0-9a-f]{64})", writing.complete),
        ("GET HEAD", f"/api/resolve-cache/{_REPO}/{_REV}/{_PATH}", reading.resolve),
        ("POST", rf"/{_PAGE}\.git/info/lfs/objects/batch", writing.lfs_batch),
        ("POST", rf"/{_PAGE}\.git/info/lfs/objects/verify", writing.lfs_verify),
        ("GET HEAD", f"/{_PAGE}/(?:resolve|raw)/{_REV}/{_PATH}", reading.resolve),
    )
    for method in methods.split()
]
# Another port, and so another host to the clients: no token must come here.
STORAGE_ROUTES = [
    ("PUT", re.compile("/lfs/(?P<key>[0-9a-f]{64})"), writing.put_object),
    ("PUT", re.compile(r"/lfs/(?P<key>[0-9a-f]{64})/(?P<number>\d+)"), writing.put_part),
    ("GET", re.compile("/cdn/(?P<key>[0-9a-f]{64})"), reading.from_storage),
    ("HEAD", re.compile("/cdn/(?P<key>[0-9a-f]{64})"), reading.from_storage),
]
_CHUNK = 1 << 16


@dataclass
class Settings:
    """How a server is set up.

    Args:
        part_bytes (`int`, *optional*): larger files come in parts of so many bytes.
        upload_delay (`float`, *optional*, defaults to 0.0): seconds that every upload to the storage takes at least.
    """

    part_bytes: int | None = None
    upload_delay: float = 0.0


@dataclass
class Seen:
    """A request that came.

    Args:
        method (`str`): its method.
        path (`str`): its path.
        status (`int`): what it was answered with; 0 for nothing.
        received (`int`): the bytes of its body.
        fault (`str`, *optional*): what was made to go wrong.
        token (`bool`): whether a token came along.
        storage (`bool`): whether it came to the storage.
    """

    method: str
    path: str
    status: int
    received: int
    fault: str | None
    token: bool
    storage: bool


@dataclass
class Log:
    """Everything that came, in the order in which it was answered."""

    requests: list[Seen] = field(default_factory=list)

    def clear(self) -> None:
        self.requests.clear()

    @property
    def uploaded_bytes(self) -> int:
        """Bytes of file contents that came: to the storage, and in commits."""
        return sum(seen.received for seen in self.requests if seen.method == "PUT" and seen.storage) + sum(
            seen.received for seen in self.requests if seen.method == "POST" and "/commit/" in seen.path
        )

    def of(self, method: str, text: str = "") -> list[Seen]:
        return [seen for seen in self.requests if seen.method == method and text in seen.path]


class Server:
    """A Hub on this machine, for the length of a `with` block.

    Args:
        folder (`str` or `Path`): where repositories are kept; another server may go on with them.
        users (`Mapping[str, User]`, *optional*): who owns which token.
        faults ([`Faults`], *optional*): what goes wrong.
        settings: see [`Settings`].
    """

    def __init__(self, folder, users: dict[str, User] | None = None, faults: Faults | None = None, **settings):
        self.store = Store(Path(folder))
        self.users = dict(users or {"writer": User("alice", ("clinic",)), "reader": User("alice", role="read")})
        self.faults = faults or Faults()
        self.settings = Settings(**settings)
        self.log = Log()
        self._servers = [
            _Listener(("127.0.0.1", 0), partial(_Handler, self, routes, storage))
            for routes, storage in ((ROUTES, False), (STORAGE_ROUTES, True))
        ]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> "Server":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def repository(self, kind: str, repo_id: str):
        return self.store.repositories[kind, repo_id]

    def read(self, kind: str, repo_id: str, path: str, revision: str = "main") -> bytes:
        """The content of a file, past all rules."""
        entry = self.repository(kind, repo_id).resolve(revision).files[path]
        return self.store.object_path(entry.key).read_bytes()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """A client that was killed is no error of the server's; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def __init__(self, hub: Server, routes: list, storage: bool, *arguments):
        self.hub, self.routes, self.storage = hub, routes, storage
        super().__init__(*arguments)

    def log_message(self, *_) -> None:
        """Nothing: `Server.log` holds what came."""

    def _serve(self) -> None:
        body = self._body()
        if body is None:  # the client hung up in the middle
            self.close_connection = True
            return
        fault = self.hub.faults.draw(self.path)
        reply = self._faulty(fault) if fault and fault != "lost reply" else self._answer(body)
        if fault in ("disconnect", "lost reply"):
            reply = None
        address = urlsplit(self.path).path
        self.hub.log.requests.append(
            Seen(
                self.command,
                address,
                reply.status if reply else 0,
                len(body),
                fault,
                "Authorization" in self.headers,
                self.storage,
            )
        )
        if reply is None:
            self.close_connection = True
        else:
            self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _faulty(self, fault: str) -> Reply:
        if fault == "disconnect":
            return Reply(0)
        headers = {"Retry-After": str(self.hub.faults.retry_after)} if fault == "429" else {}
        return Refused(int(fault), "made to fail", headers=headers).reply()

    def _answer(self, body: bytes) -> Reply:
        try:
            split = urlsplit(self.path)
            for method, pattern, answer in self.routes:
                found = pattern.fullmatch(split.path)
                if method == self.command and found:
                    named = {name: unquote(value) for name, value in found.groupdict().items() if value is not None}
                    if "kind" in pattern.groupindex:
                        named.setdefault("kind", "models")
                    return answer(self._request(split, body), **named)
            raise Refused(404, f"No route for {self.command} {split.path}")
        except Refused as refused:
            return refused.reply()

    def _request(self, split, body: bytes) -> Request:
        if self.storage and self.command == "PUT" and self.hub.settings.upload_delay:
            time.sleep(self.hub.settings.upload_delay)
        return Request(
            self.command,
            split.path,
            parse_qs(split.query),
            self.headers,
            body,
            self._user(),
            self.hub.store,
            self.hub.url,
            self.hub.storage_url,
            self.hub.settings,
        )

    def _user(self) -> User | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not token:
            return None
        if self.storage:
            raise Refused(400, "A token was sent to the storage.")
        if token not in self.hub.users:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.hub.users[token]

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while True:
                size = int(self.rfile.readline().split(b";")[0] or b"-1", 16)
                if size <= 0:
                    self.rfile.readline()
                    return b"".join(pieces) if size == 0 else None
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _send(self, reply: Reply) -> None:
        length = reply.end - reply.begin if reply.file else len(reply.body)
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                return
            if reply.file is None:
                self.wfile.write(reply.body)
                return
            with open(reply.file, "rb") as file:
                file.seek(reply.begin)
                while length:
                    piece = file.read(min(_CHUNK, length))
                    self.wfile.write(piece)
                    length -= len(piece)
        except ConnectionError:  # the client has gone: nobody is left to be answered
            self.close_connection = True
