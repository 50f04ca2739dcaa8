"""Who asks, and what they may see and change."""

import re
from dataclasses import dataclass

from .replies import Refused
from .store import Repository

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class User:
    """The owner of a token.

    Args:
        name (`str`): the user's name.
        organisations (`tuple[str, ...]`): where the user may write too.
        role (`str`, *optional*, defaults to `"write"`): what the token is for, `"read"` or `"write"`.
    """

    name: str
    organisations: tuple[str, ...] = ()
    role: str = "write"

    def record(self) -> dict:
        """What `/api/whoami-v2` says."""
        organisations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in self.organisations]
        return {
            "type": "user",
            "id": f"id-{self.name}",
            "name": self.name,
            "fullname": self.name,
            "orgs": organisations,
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": self.role}},
        }

    def belongs_to(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.organisations


def check_name(repo_id: str) -> None:
    """The Hub's rules of names."""
    namespace, _, name = repo_id.partition("/")
    for part in (namespace, name):
        if not NAME.fullmatch(part) or len(part) > 96 or "--" in part or ".." in part or part.endswith(".git"):
            raise Refused(400, f"Invalid repository name: {repo_id}")


def check_see(user: User | None, repository: Repository | None) -> Repository:
    """A private repository looks missing to those who may not see it."""
    if repository is not None and not repository.private:
        return repository
    if repository is not None and user is not None and user.belongs_to(repository.namespace):
        return repository
    # Without a token the Hub does not say whether there is one.
    raise Refused(401 if user is None else 404, "Repository not found", "RepoNotFound")


def check_read(user: User | None, repository: Repository) -> None:
    """The files of a gated repository are for those who were let in."""
    if not repository.gated or (user is not None and user.belongs_to(repository.namespace)):
        return
    if user is None:
        raise Refused(401, f"Access to {repository.id} is restricted. You must be authenticated.", "GatedRepo")
    if user.name not in repository.granted:
        raise Refused(403, f"Access to {repository.id} is restricted and you are not in the list.", "GatedRepo")


def check_write(user: User | None, namespace: str) -> User:
    """Who may change what lies below a name."""
    if user is None:
        raise Refused(401, "Invalid username or password.")
    if user.role == "read":
        raise Refused(403, "Your token can only read: a write token is required.")
    if not user.belongs_to(namespace):
        raise Refused(403, f"You don't have the rights to write to the namespace {namespace!r}.")
    return user
