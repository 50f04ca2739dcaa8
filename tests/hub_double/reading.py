"""Routes that tell and hand out."""

from pathlib import PurePosixPath

from .access import check_read, check_write
from .replies import Refused, Reply, as_json
from .request import Request
from .store import Commit, Entry, Repository, git_hash

# A page of a listing: small, so that clients have to ask for the next one.
PAGE = 50


def whoami(request: Request) -> Reply:
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    return as_json(request.user.record())


def listing(request: Request, kind: str) -> Reply:
    author = request.query.get("author", [None])[0]
    found = [
        info(request, repository, repository.resolve("main"))
        for (of_kind, _), repository in sorted(request.store.repositories.items())
        if of_kind == kind
        and (author is None or repository.namespace == author)
        and (not repository.private or (request.user and request.user.belongs_to(repository.namespace)))
    ]
    return as_json(found)


def repository_info(request: Request, kind: str, repo_id: str, revision: str = "main") -> Reply:
    repository = request.repository(kind, repo_id)
    return as_json(info(request, repository, repository.resolve(revision)))


def info(request: Request, repository: Repository, commit: Commit) -> dict:
    """What is told about a repository; `?blobs=true` asks for sizes and hashes too."""
    siblings = []
    for name, entry in commit.files.items():
        sibling: dict = {"rfilename": name}
        if request.flag("blobs"):
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.sha256:
                sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
        siblings.append(sibling)
    told = {
        "_id": f"{repository.kind}-{repository.id}",
        "id": repository.id,
        "author": repository.namespace,
        "sha": commit.oid,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "createdAt": repository.created,
        "lastModified": commit.date,
        "siblings": siblings,
    }
    if repository.kind == "models":
        told["modelId"] = repository.id
    if repository.kind == "spaces":
        told["sdk"] = repository.sdk
    return told


def refs(request: Request, kind: str, repo_id: str) -> Reply:
    repository = request.repository(kind, repo_id)
    found: dict[str, list] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    for group, prefix in (("branches", "refs/heads/"), ("tags", "refs/tags/"), ("pullRequests", "refs/pr/")):
        for ref, oid in sorted(repository.refs.items()):
            if ref.startswith(prefix):
                found[group].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid})
    return as_json(found)


def commits(request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    repository = request.repository(kind, repo_id)
    return as_json(
        [
            {
                "id": commit.oid,
                "authors": [{"user": commit.author}],
                "date": commit.date,
                "title": commit.title,
                "message": commit.message,
            }
            for commit in repository.history(repository.resolve(revision))
        ]
    )


def tree(request: Request, kind: str, repo_id: str, revision: str, path: str = "") -> Reply:
    repository = request.repository(kind, repo_id)
    commit = repository.resolve(revision)
    below = f"{path}/" if path else ""
    inside = {name: entry for name, entry in commit.files.items() if name.startswith(below)}
    if below and not inside:
        raise Refused(404, f"{path} does not exist on {revision}", "EntryNotFound")
    recursive = request.flag("recursive")
    told: dict[str, dict] = {}
    for name, entry in inside.items():
        parents = [str(parent) for parent in PurePosixPath(name).parents if str(parent).startswith(below)]
        for parent in parents:
            if parent != "." and (recursive or "/" not in parent.removeprefix(below)):
                told[parent] = folder_entry(parent)
        if recursive or "/" not in name.removeprefix(below):
            told[name] = file_entry(request, repository, commit, name, entry)
    rows = [told[name] for name in sorted(told)]
    begin = int(request.query.get("cursor", ["0"])[0])
    headers = {}
    if begin + PAGE < len(rows):
        flags = "&".join(f"{name}={values[0]}" for name, values in request.query.items() if name != "cursor")
        headers["Link"] = f'<{request.url}{request.path}?{flags}&cursor={begin + PAGE}>; rel="next"'
    return as_json(rows[begin : begin + PAGE], headers=headers)


def paths_info(request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    repository = request.repository(kind, repo_id)
    commit = repository.resolve(revision)
    asked = request.fields().get("paths", [])
    rows = []
    for path in [asked] if isinstance(asked, str) else asked:
        if path in commit.files:
            rows.append(file_entry(request, repository, commit, path, commit.files[path]))
        elif any(name.startswith(f"{path}/") for name in commit.files):
            rows.append(folder_entry(path))
    return as_json(rows)


def folder_entry(path: str) -> dict:
    return {"type": "directory", "oid": git_hash(path.encode()), "size": 0, "path": path}


def file_entry(request: Request, repository: Repository, commit: Commit, path: str, entry: Entry) -> dict:
    told = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.sha256:
        told["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    if request.flag("expand"):
        last = repository.last_change(commit, path)
        told["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return told


def auth_check(request: Request, kind: str, repo_id: str) -> Reply:
    check_read(request.user, request.repository(kind, repo_id))
    return as_json({})


def auth_check_write(request: Request, kind: str, repo_id: str) -> Reply:
    check_write(request.user, request.repository(kind, repo_id).namespace)
    return as_json({})


def resolve(request: Request, kind: str, repo_id: str, revision: str, path: str) -> Reply:
    """A file of a revision. A small one lies behind a redirect on this host, a large one in the storage."""
    repository = request.repository(kind, repo_id)
    commit = repository.resolve(revision)
    check_read(request.user, repository)
    entry = commit.files.get(path)
    headers = {"X-Repo-Commit": commit.oid}
    if entry is None:
        raise Refused(404, f"{path} does not exist on {revision}", "EntryNotFound", headers=headers)
    etag = f'"{entry.key}"'
    headers |= {"ETag": etag, "X-Linked-ETag": etag, "X-Linked-Size": str(entry.size), "Accept-Ranges": "bytes"}
    if entry.sha256:
        return Reply(302, b"", {**headers, "Location": f"{request.storage_url}/cdn/{entry.key}"})
    if not request.path.startswith("/api/resolve-cache/"):
        rest = request.path.split("/resolve/", 1)[1].split("/", 1)[1] if "/resolve/" in request.path else None
        if rest is not None:
            where = f"/api/resolve-cache/{kind}/{repo_id}/{commit.oid}/{rest}"
            return Reply(307, b"", {**headers, "Location": where})
    return content(request, request.store.object_path(entry.key), entry.size, headers)


def from_storage(request: Request, key: str) -> Reply:
    """A large file of the storage; its address is all that it asks for."""
    path = request.store.object_path(key)
    if not path.is_file():
        raise Refused(404, "NoSuchKey")
    return content(request, path, path.stat().st_size, {"ETag": f'"{key}"', "Accept-Ranges": "bytes"})


def content(request: Request, path, size: int, headers: dict[str, str]) -> Reply:
    headers = {**headers, "Content-Type": "application/octet-stream"}
    asked = request.headers.get("Range", "")
    if not asked.startswith("bytes="):
        return Reply(200, b"", headers, file=path, end=size)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if first:
        begin, end = int(first), min(int(last) + 1, size) if last else size
    else:
        begin, end = max(size - int(last), 0), size
    if begin >= size:
        raise Refused(416, "Requested range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return Reply(206, b"", headers, file=path, begin=begin, end=end)
