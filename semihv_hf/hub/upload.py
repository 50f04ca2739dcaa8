"""Brings a repository to the state of a folder in one commit, so that no revision is ever half of it.

Large files are sent first. The Hub keeps them by their sha256 whether or not a commit names them, and tells which it
has: that is what lets an upload go on where it was killed, without notes of our own. Only then comes the commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from semihv_hf.errors import SemiHVError, first_line

from .repository import Target, branch_head
from .transient import is_transient, persistently, status_of

# What is sent before the next is begun: the Hub confirms a batch as a whole, so this is how exactly we can tell what
# is missing.
BATCH_FILES = 16
BATCH_BYTES = 2_000_000_000
# The Hub's own file: an upload leaves it alone.
KEPT = (".gitattributes",)
_COMMIT_TRIES = 8
_READ = 1 << 20
_CHANGED_MEANWHILE = 412


@dataclass(frozen=True)
class LocalFile:
    """A file as it will be in the repository.

    Args:
        name (`str`): its name there.
        content (`Path` or `bytes`): where it lies, or what it holds.
        size (`int`): its bytes.
        modified (`int`, *optional*, defaults to 0): when a file on disk was last changed, in nanoseconds.
    """

    name: str
    content: Path | bytes
    size: int
    modified: int = 0

    @classmethod
    def of(cls, name: str, content: Path | bytes) -> LocalFile:
        """Notes what a file is now.

        Args:
            name (`str`): its name in the repository.
            content (`Path` or `bytes`): where it lies, or what it holds.

        Returns:
            [`LocalFile`]: the file.
        """
        if isinstance(content, bytes):
            return cls(name, content, len(content))
        found = content.stat()
        return cls(name, content, found.st_size, found.st_mtime_ns)

    def same_as(self, oid: str, sha256: str | None) -> bool:
        """Whether the Hub's file has this content.

        Args:
            oid (`str`): the git hash that the Hub tells.
            sha256 (`str`, *optional*): the hash of a large file's content.

        Returns:
            `bool`: by the hash.
        """
        if sha256 is not None:
            return self._hash(hashlib.sha256()) == sha256
        return self._hash(hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)) == oid

    def _hash(self, digest) -> str:
        if isinstance(self.content, bytes):
            digest.update(self.content)
        else:
            with open(self.content, "rb") as file:
                while piece := file.read(_READ):
                    digest.update(piece)
        return digest.hexdigest()


@dataclass
class Plan:
    """What has to be done.

    Args:
        head (`str`, *optional*): the commit that the plan starts from.
        send (`list[LocalFile]`): files that the revision lacks, or holds with another content.
        same (`list[str]`): files that are there already.
        remove (`list[str]`): files of the revision that the folder does not have.
    """

    head: str | None
    send: list[LocalFile] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether the revision is as it should be."""
        return not self.send and not self.remove

    @property
    def bytes_to_send(self) -> int:
        """The size of all files to send."""
        return sum(file.size for file in self.send)


def make_plan(target: Target, files: Sequence[LocalFile], head: str | None) -> Plan:
    """Compares a folder with a revision by hashes.

    Args:
        target ([`Target`]): the repository.
        files (`Sequence[LocalFile]`): what the revision is to consist of.
        head (`str`, *optional*): the commit to compare with; `None` for nothing.

    Returns:
        [`Plan`]: what has to be done.
    """
    from huggingface_hub.hf_api import RepoFile

    plan = Plan(head)
    there: dict[str, RepoFile] = {}
    if head is not None:
        listed = persistently(
            lambda: list(
                target.api.list_repo_tree(target.repo_id, recursive=True, revision=head, repo_type=target.repo_type)
            )
        )
        there = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
    for file in files:
        found = there.pop(file.name, None)
        if found is not None and found.size == file.size and file.same_as(found.blob_id, _sha256(found)):
            plan.same.append(file.name)
        else:
            plan.send.append(file)
    plan.remove = sorted(name for name in there if name not in KEPT)
    return plan


def _sha256(entry) -> str | None:
    return entry.lfs.sha256 if entry.lfs else None


def upload(
    target: Target, files: Sequence[LocalFile], *, message: str, description: str = "", progress: bool = True
) -> tuple[str, Plan]:
    """Makes a revision consist of exactly these files.

    The repository and the branch must exist. A second call with the same files sends nothing and makes no commit.

    Args:
        target ([`Target`]): the repository.
        files (`Sequence[LocalFile]`): what the revision is to consist of.
        message (`str`): the commit's title.
        description (`str`, *optional*): the commit's text.
        progress (`bool`, *optional*, defaults to `True`): whether the client shows its progress bars.

    Returns:
        `tuple[str, Plan]`: the commit that the branch is at, and what was done.

    Raises:
        SemiHVError: it could not be finished; the message names what is missing. The branch is where it was.
    """
    try:
        head = persistently(lambda: _head(target))
        plan = make_plan(target, files, head)
    except Exception as error:
        raise _gave_up(target, error, [file.name for file in files], len(files)) from error
    if plan.empty:
        return head, plan
    with _bars(progress):
        _send(target, plan.send)
        return _commit(target, files, plan, message, description), plan


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """The Hub's client shows the bytes of every file that it sends; here they can be turned off for a while."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _head(target: Target) -> str:
    head = branch_head(target.api, target.repo_id, target.repo_type, target.revision)
    if head is None:
        raise SemiHVError(f"{target.repo_id} has no branch {target.revision}.", "Run the same command again.")
    return head


def _send(target: Target, files: Sequence[LocalFile]) -> None:
    """Sends the large ones of the files; the small ones travel in the commit."""
    missing = [file.name for file in files]
    for batch in _batches(files):
        additions = _additions(batch)
        try:
            persistently(
                lambda additions=additions: target.api.preupload_lfs_files(
                    target.repo_id,
                    additions,
                    repo_type=target.repo_type,
                    revision=target.revision,
                    free_memory=False,
                )
            )
        except Exception as error:
            raise _gave_up(target, error, missing, len(files)) from error
        missing = missing[len(batch) :]


def _batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    batch: list[LocalFile] = []
    for file in files:
        if batch and (len(batch) == BATCH_FILES or sum(each.size for each in batch) + file.size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _additions(files: Sequence[LocalFile]) -> list:
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(file.name, file.content) for file in files]


def _commit(target: Target, files: Sequence[LocalFile], plan: Plan, message: str, description: str) -> str:
    """The commit that makes the revision. An answer that got lost is asked for again before anything is repeated."""
    from huggingface_hub import CommitOperationDelete

    changed = [file.name for file in plan.send if not _unchanged(file)]
    if changed:
        raise SemiHVError(
            f"{', '.join(changed[:3])} changed during the upload. {target.repo_id} is as it was.", "Run again."
        )

    def once() -> str:
        head = _head(target)
        if head != plan.head:
            # Our own commit whose answer was lost, or somebody else's.
            if make_plan(target, files, head).empty:
                return head
            raise SemiHVError(
                f"{target.repo_id} was changed by somebody else during the upload. Nothing of this one is visible.",
                "Run the same command again.",
            )
        done = target.api.create_commit(
            target.repo_id,
            [*_additions(plan.send), *(CommitOperationDelete(name) for name in plan.remove)],
            commit_message=message,
            commit_description=description,
            repo_type=target.repo_type,
            revision=target.revision,
            parent_commit=plan.head,
        )
        return done.oid

    for number in range(_COMMIT_TRIES):
        try:
            return persistently(once)
        except SemiHVError:
            raise
        except Exception as error:
            # Somebody's commit came between our look and ours, perhaps our own, repeated: look again.
            if status_of(error) != _CHANGED_MEANWHILE or number == _COMMIT_TRIES - 1:
                raise _gave_up(target, error, ["the commit"], len(plan.send)) from error
    raise AssertionError("the last try returns or raises")


def _unchanged(file: LocalFile) -> bool:
    if isinstance(file.content, bytes):
        return True
    try:
        found = file.content.stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (file.size, file.modified)


def _gave_up(target: Target, error: Exception, missing: Sequence[str], total: int) -> SemiHVError:
    if isinstance(error, SemiHVError):
        return error
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    reason = first_line(next((cause for cause in _chain(error) if status_of(cause)), error))
    again = (
        "Run the same command again: what has arrived is kept." if is_transient(error) else "Mend that and run again."
    )
    return SemiHVError(
        f"The upload to {target.repo_id} is not complete: {reason}. Missing of {total} files: {named}. "
        f"The branch {target.revision} is as it was.",
        again,
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
