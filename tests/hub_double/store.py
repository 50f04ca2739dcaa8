"""Repositories in a folder: contents by their hash, commits with history, branches, tags and pull requests."""

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from .replies import Refused

KINDS = ("models", "datasets", "spaces")
MAIN = "refs/heads/main"


@dataclass(frozen=True)
class Entry:
    """A file of a commit.

    Args:
        oid (`str`): the git hash of the blob; of a large file, that of its pointer.
        size (`int`): its bytes.
        sha256 (`str`, *optional*): the hash of a large file's content, `None` for a regular file.
    """

    oid: str
    size: int
    sha256: str | None = None

    @property
    def key(self) -> str:
        """The name of its content in the store."""
        return self.sha256 or self.oid


@dataclass
class Commit:
    """A state of a repository."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Entry]


@dataclass
class Repository:
    """What the server knows about a repository; `refs` are full names such as `refs/heads/main`."""

    kind: str
    id: str
    private: bool = False
    gated: str | bool = False
    granted: list[str] = field(default_factory=list)
    sdk: str | None = None
    created: str = ""
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def url_path(self) -> str:
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, tag, reference or hash (also a short one) means."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return self.commits[self.refs[name]]
        if len(revision) >= 7 and all(letter in "0123456789abcdef" for letter in revision):
            found = [oid for oid in self.commits if oid.startswith(revision)]
            if len(found) == 1:
                return self.commits[found[0]]
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, commit: Commit) -> list[Commit]:
        """A commit and those before it, the newest first."""
        found = [commit]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The commit that gave a file its content."""
        newest = commit
        for older in self.history(commit)[1:]:
            if older.files.get(path) != commit.files[path]:
                break
            newest = older
        return newest


class Store:
    """All repositories of a server, kept in a folder so that another server can go on with them.

    Args:
        folder (`Path`): where everything lies.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.repositories: dict[tuple[str, str], Repository] = {}
        (folder / "objects").mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / "repositories").glob("*.json")):
            fields = json.loads(path.read_text())
            commits = {
                oid: Commit(**{**commit, "files": {name: Entry(**entry) for name, entry in commit["files"].items()}})
                for oid, commit in fields.pop("commits").items()
            }
            repository = Repository(**fields, commits=commits)
            self.repositories[repository.kind, repository.id] = repository

    def save(self, repository: Repository) -> None:
        path = self._record(repository)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(repository)))
        part.replace(path)

    def _record(self, repository: Repository) -> Path:
        return self.folder / "repositories" / f"{repository.kind}--{repository.id.replace('/', '--')}.json"

    def create(self, kind: str, repo_id: str, **fields) -> Repository:
        repository = Repository(kind, repo_id, created=now(), **fields)
        self.repositories[kind, repo_id] = repository
        attributes = (
            "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
        )
        entry = self.put_regular(attributes.encode())
        self.commit(repository, MAIN, {".gitattributes": entry}, title="initial commit", author=repository.namespace)
        return repository

    def delete(self, repository: Repository) -> None:
        del self.repositories[repository.kind, repository.id]
        (self.folder / "repositories" / f"{repository.kind}--{repository.id.replace('/', '--')}.json").unlink(
            missing_ok=True
        )

    def commit(
        self, repository: Repository, ref: str, files: dict[str, Entry], *, title: str, author: str, message: str = ""
    ) -> Commit:
        """Adds a state behind the one that a reference names, and moves the reference there."""
        parent = repository.refs.get(ref)
        date = now()
        content = json.dumps([parent, title, message, author, date, sorted((k, v.key) for k, v in files.items())])
        oid = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, dict(sorted(files.items())))
        repository.commits[oid] = commit
        repository.refs[ref] = oid
        self.save(repository)
        return commit

    def object_path(self, key: str) -> Path:
        return self.folder / "objects" / key

    def has(self, sha256: str) -> bool:
        return self.object_path(sha256).is_file()

    def put_regular(self, content: bytes) -> Entry:
        oid = git_hash(content)
        self.object_path(oid).write_bytes(content)
        return Entry(oid, len(content))

    def large_entry(self, sha256: str) -> Entry:
        """The entry of a large file whose content was sent before."""
        if not self.has(sha256):
            raise Refused(400, f"LFS object {sha256} was not uploaded.")
        size = self.object_path(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(git_hash(pointer.encode()), size, sha256)


def git_hash(content: bytes) -> str:
    """The hash that git gives a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
