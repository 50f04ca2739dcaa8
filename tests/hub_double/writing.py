"""Routes that change repositories."""

import base64
import hashlib
import json

from . import card_rules
from .access import check_name, check_see, check_write
from .replies import Refused, Reply, as_json
from .request import Request
from .store import MAIN, Commit, Entry, Repository

# What the Hub keeps as large files: by name, by size, or because it is not text.
LARGE_SUFFIXES = (".safetensors", ".parquet", ".bin", ".npz", ".gguf", ".arrow", ".zip", ".model", ".h5")
LARGE_BYTES = 10_000_000
LONGEST_COMMIT = 25_000


def create(request: Request) -> Reply:
    fields = request.json()
    kind = f"{fields.get('type') or 'model'}s"
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    repo_id = f"{fields.get('organization') or request.user.name}/{fields['name']}"
    check_name(repo_id)
    check_write(request.user, repo_id.partition("/")[0])
    if kind == "spaces" and fields.get("sdk") not in ("gradio", "docker", "static"):
        raise Refused(400, "A Space needs an sdk.")
    with request.store.lock:
        if (kind, repo_id) in request.store.repositories:
            there = request.store.repositories[kind, repo_id]
            raise Refused(
                409, "You already created this repo", body={"url": f"{request.url}/{there.url_path}", "name": repo_id}
            )
        private = fields.get("visibility") == "private" or fields.get("private") is True
        repository = request.store.create(kind, repo_id, private=private, sdk=fields.get("sdk"))
    return as_json({"url": f"{request.url}/{repository.url_path}", "name": repo_id, "id": repo_id})


def delete(request: Request) -> Reply:
    fields = request.json()
    kind = f"{fields.get('type') or 'model'}s"
    user = check_write(request.user, fields.get("organization") or (request.user.name if request.user else ""))
    repo_id = f"{fields.get('organization') or user.name}/{fields['name']}"
    with request.store.lock:
        request.store.delete(request.repository(kind, repo_id))
    return as_json({})


def validate_yaml(request: Request) -> Reply:
    fields = request.json()
    errors, warnings = card_rules.check(fields.get("content", ""), fields.get("repoType", "model"))
    return as_json({"errors": errors, "warnings": warnings}, 400 if errors else 200)


def settings(request: Request, kind: str, repo_id: str) -> Reply:
    repository = _writable(request, kind, repo_id)
    fields = request.json()
    with request.store.lock:
        if "visibility" in fields:
            repository.private = fields["visibility"] == "private"
        if "private" in fields:
            repository.private = bool(fields["private"])
        if "gated" in fields:
            repository.gated = fields["gated"]
        request.store.save(repository)
    return as_json({"private": repository.private, "gated": repository.gated})


def create_branch(request: Request, kind: str, repo_id: str, name: str) -> Reply:
    repository = _writable(request, kind, repo_id)
    start = (request.json() or {}).get("startingPoint", "main")
    return _add_ref(request, repository, f"refs/heads/{name}", repository.resolve(start))


def create_tag(request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    repository = _writable(request, kind, repo_id)
    return _add_ref(request, repository, f"refs/tags/{request.json()['tag']}", repository.resolve(revision))


def _add_ref(request: Request, repository: Repository, ref: str, commit: Commit) -> Reply:
    with request.store.lock:
        if ref in repository.refs:
            raise Refused(409, f"Reference {ref} already exists")
        repository.refs[ref] = commit.oid
        request.store.save(repository)
    return as_json({})


def delete_branch(request: Request, kind: str, repo_id: str, name: str) -> Reply:
    return _remove_ref(request, kind, repo_id, f"refs/heads/{name}")


def delete_tag(request: Request, kind: str, repo_id: str, name: str) -> Reply:
    return _remove_ref(request, kind, repo_id, f"refs/tags/{name}")


def _remove_ref(request: Request, kind: str, repo_id: str, ref: str) -> Reply:
    repository = _writable(request, kind, repo_id)
    with request.store.lock:
        if ref == MAIN or ref not in repository.refs:
            raise Refused(404, f"Reference {ref} cannot be deleted", "RevisionNotFound")
        del repository.refs[ref]
        request.store.save(repository)
    return as_json({})


def preupload(request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    """How each file is to come, and what the revision holds under its name."""
    repository = request.repository(kind, repo_id)
    if not request.flag("create_pr"):
        check_write(request.user, repository.namespace)
    commit = repository.resolve(revision)
    files = []
    for file in request.json()["files"]:
        path, size = file["path"], file["size"]
        sample = base64.b64decode(file.get("sample", ""))
        large = path.endswith(LARGE_SUFFIXES) or size > LARGE_BYTES or b"\0" in sample
        there = commit.files.get(path)
        told = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        files.append({**told, **({"oid": there.key} if there else {})})
    return as_json({"files": files, "commitOid": commit.oid})


def commit(request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    """One commit of all that the lines of the body ask for; nothing of it when one line is wrong."""
    repository = request.repository(kind, repo_id)
    as_pull_request = request.flag("create_pr")
    user = request.user if as_pull_request else check_write(request.user, repository.namespace)
    if user is None:
        raise Refused(401, "Invalid username or password.")
    with request.store.lock:
        base = repository.resolve(revision)
        ref = _reference(repository, revision, as_pull_request)
        header, files = _apply(request, base)
        if header.get("parentCommit") and not base.oid.startswith(header["parentCommit"]):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        if as_pull_request:
            repository.refs[ref] = base.oid
        made = request.store.commit(
            repository,
            ref,
            files,
            title=header.get("summary", ""),
            message=header.get("description", ""),
            author=user.name,
        )
    told = {
        "success": True,
        "commitOid": made.oid,
        "commitUrl": f"{request.url}/{repository.url_path}/commit/{made.oid}",
    }
    if as_pull_request:
        told["pullRequestUrl"] = f"{request.url}/{repository.url_path}/discussions/{ref.rpartition('/')[2]}"
    return as_json(told)


def _reference(repository: Repository, revision: str, as_pull_request: bool) -> str:
    if as_pull_request:
        return f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in repository.refs)}"
    for name in (revision, f"refs/heads/{revision}"):
        if name in repository.refs and not name.startswith("refs/tags/"):
            return name
    raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def _apply(request: Request, base: Commit) -> tuple[dict, dict[str, Entry]]:
    files, header = dict(base.files), {}
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    if len(lines) > LONGEST_COMMIT:
        raise Refused(413, "Too many files in a commit.")
    for line in lines:
        value = line["value"]
        path = value.get("path", "")
        if line["key"] != "header" and (path.startswith(("/", "../")) or "/../" in path or not path):
            raise Refused(400, f"Invalid path: {path!r}")
        match line["key"]:
            case "header":
                header = value
            case "file":
                files[path] = request.store.put_regular(base64.b64decode(value["content"]))
            case "lfsFile":
                files[path] = request.store.large_entry(value["oid"])
            case "deletedFile":
                if path not in files:
                    raise Refused(404, f"{path} does not exist", "EntryNotFound")
                del files[path]
            case "deletedFolder":
                files = {name: entry for name, entry in files.items() if not name.startswith(f"{path.rstrip('/')}/")}
            case other:
                raise Refused(400, f"Unknown operation {other!r}")
    return header, files


def _writable(request: Request, kind: str, repo_id: str) -> Repository:
    repository = check_see(request.user, request.store.repositories.get((kind, repo_id)))
    check_write(request.user, repository.namespace)
    return repository


def lfs_batch(request: Request, kind: str, repo_id: str) -> Reply:
    """Where each large file is to be put; nothing is said of one that is there."""
    repository = request.repository(kind, repo_id)
    check_write(request.user, repository.namespace)
    objects = []
    for asked in request.json()["objects"]:
        oid, size = asked["oid"], asked["size"]
        told: dict = {"oid": oid, "size": size}
        if not request.store.has(oid):
            upload: dict = {"href": f"{request.storage_url}/lfs/{oid}"}
            most = request.settings.part_bytes
            if most is not None and size > most:
                parts = -(-size // most)
                upload["href"] = f"{request.url}/api/complete-multipart/{oid}"
                upload["header"] = {
                    "chunk_size": str(most),
                    **{f"{n:05d}": f"{request.storage_url}/lfs/{oid}/{n}" for n in range(1, parts + 1)},
                }
            verify = {"href": f"{request.url}/{repository.url_path}.git/info/lfs/objects/verify"}
            told["actions"] = {"upload": upload, "verify": verify}
        objects.append(told)
    reply = as_json({"transfer": "basic", "objects": objects})
    reply.headers["Content-Type"] = "application/vnd.git-lfs+json"
    return reply


def lfs_verify(request: Request, kind: str, repo_id: str) -> Reply:
    check_write(request.user, request.repository(kind, repo_id).namespace)
    asked = request.json()
    path = request.store.object_path(asked["oid"])
    if not path.is_file() or path.stat().st_size != asked["size"]:
        raise Refused(404, "The object is not there.")
    return as_json({})


def put_object(request: Request, key: str) -> Reply:
    """The content of a large file; it counts only when it hashes to its name."""
    if hashlib.sha256(request.body).hexdigest() != key:
        raise Refused(400, "The content does not have the hash that was announced.")
    _write(request, key, request.body)
    return Reply(200, b"", {"ETag": f'"{key}"'})


def put_part(request: Request, key: str, number: str) -> Reply:
    most = request.settings.part_bytes
    if most is None or len(request.body) > most:
        raise Refused(413, "The part is too large.")
    _write(request, f"{key}.part{int(number)}", request.body)
    return Reply(200, b"", {"ETag": f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'})


def complete(request: Request, key: str) -> Reply:
    """Puts the parts of a large file together."""
    names = [f"{key}.part{part['partNumber']}" for part in request.json()["parts"]]
    if not all(request.store.has(name) for name in names):
        raise Refused(400, "A part is missing.")
    whole = b"".join(request.store.object_path(name).read_bytes() for name in names)
    if hashlib.sha256(whole).hexdigest() != key:
        raise Refused(400, "The parts do not have the hash that was announced.")
    _write(request, key, whole)
    return as_json({})


def _write(request: Request, name: str, content: bytes) -> None:
    path = request.store.object_path(name)
    with request.store.lock:
        part = path.with_name(f"{name}.new")
        part.write_bytes(content)
        part.replace(path)
