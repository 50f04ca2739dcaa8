"""The repository on the Hub to which something is published, and all that can be wrong with it beforehand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError, first_line

from .transient import is_transient, persistently, status_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# A metric is run by a Space, and `evaluate` looks for it there.
REPO_TYPES = {"model": "model", "dataset": "dataset", "metric": "space", "space": "space"}
_FIRST_TRIES = 3


@dataclass
class Target:
    """Where something is published.

    Args:
        api (`HfApi`): the client, with its token.
        repo_type (`str`): `"model"`, `"dataset"` or `"space"`.
        repo_id (`str`): the full id, with its namespace.
        revision (`str`): the branch.
        exists (`bool`): whether the repository is there.
        private (`bool`): whether it is private; `False` when it is not there.
        gated (`bool`): whether others must ask for access.
        untouched (`bool`): whether it holds nothing yet, as after an upload that did not come to its end.
    """

    api: HfApi
    repo_type: str
    repo_id: str
    revision: str
    exists: bool
    private: bool = False
    gated: bool = False
    untouched: bool = True

    @property
    def url(self) -> str:
        """Its page."""
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{self.api.endpoint}/{prefix}{self.repo_id}"


def hub_client(token_from_env: str | None = None) -> HfApi:
    """A client of the Hub with the user's token.

    Args:
        token_from_env (`str`, *optional*):
            the environment variable that holds it. By default `HF_TOKEN`, or what `hf auth login` saved.

    Returns:
        `HfApi`: the client.

    Raises:
        SemiHVError: there is no token.
    """
    from huggingface_hub import HfApi, get_token

    import semihv_hf

    token = os.environ.get(token_from_env, "").strip() if token_from_env else get_token()
    if not token:
        where = f"The environment variable {token_from_env} is empty." if token_from_env else "No token was found."
        raise SemiHVError(
            f"{where} Nothing was uploaded.",
            "Log in with `hf auth login`, set HF_TOKEN, or name a variable with --token-from-env.",
        )
    return HfApi(token=token, library_name="semihv-hf", library_version=semihv_hf.__version__)


def find_target(api: HfApi, kind: str, repo_id: str, revision: str = "main") -> Target:
    """Asks the Hub all that can stand against an upload, before there is one.

    Args:
        api (`HfApi`): the client.
        kind (`str`): `"model"`, `"dataset"`, `"metric"` or `"space"`.
        repo_id (`str`): the repository's id; without a namespace it is the user's own.
        revision (`str`, *optional*, defaults to `"main"`): the branch.

    Returns:
        [`Target`]: the repository.

    Raises:
        SemiHVError: the id breaks the rules, the Hub cannot be reached or does not know the token, the user may not
            write there, or the id belongs to a repository of another type.
    """
    check_repo_id(repo_id)
    with_errors = _Explained(api, repo_id)
    user = with_errors(lambda: api.whoami())
    if "/" not in repo_id:
        repo_id = with_errors.repo_id = f"{user['name']}/{repo_id}"
    _check_token(user, repo_id)
    repo_type = REPO_TYPES[kind]
    found = with_errors(lambda: _types(api, repo_id, repo_type))
    if repo_type not in found:
        if found:
            other = next(iter(found))
            raise SemiHVError(
                f"{repo_id} is a {other} repository, not a {repo_type} repository. Nothing was uploaded.",
                "Choose another --repo-id.",
            )
        namespaces = [user["name"], *(organisation["name"] for organisation in user.get("orgs", []))]
        if repo_id.partition("/")[0] not in namespaces:
            raise SemiHVError(
                f"{user['name']} may not create {repo_id}. Nothing was uploaded.",
                f"Choose an id below {', '.join(f'{name}/' for name in namespaces)}.",
            )
        return Target(api, repo_type, repo_id, revision, exists=False)
    with_errors(lambda: api.auth_check(repo_id, repo_type=repo_type, write=True))
    with_errors(lambda: branch_head(api, repo_id, repo_type, revision))
    info = found[repo_type]
    untouched = {file.rfilename for file in info.siblings or []} <= {".gitattributes"}
    gated = bool(getattr(info, "gated", False))
    return Target(api, repo_type, repo_id, revision, True, bool(info.private), gated, untouched)


def prepare(target: Target, *, private: bool, gated: bool, space_sdk: str | None = None) -> None:
    """Makes the repository and the branch ready; a new repository is private until its content is complete.

    Args:
        target ([`Target`]): the repository.
        private (`bool`): whether it is to be private in the end.
        gated (`bool`): whether others must ask for access.
        space_sdk (`str`, *optional*): what runs a Space.

    Raises:
        SemiHVError: the Hub refuses; nothing was uploaded.
    """
    api, named = target.api, {"repo_id": target.repo_id, "repo_type": target.repo_type}
    with_errors = _Explained(api, target.repo_id)
    if not target.exists:
        with_errors(lambda: api.create_repo(**named, private=True, exist_ok=True, space_sdk=space_sdk))
        target.exists = target.private = True
    if gated and not target.gated:
        with_errors(lambda: api.update_repo_settings(**named, gated="manual"))
        target.gated = True
    if private and not target.private:
        with_errors(lambda: api.update_repo_settings(**named, private=True))
        target.private = True
    if with_errors(lambda: branch_head(api, target.repo_id, target.repo_type, target.revision)) is None:
        with_errors(lambda: api.create_branch(**named, branch=target.revision, exist_ok=True))


def show(target: Target) -> None:
    """Makes a private repository public, now that its content is complete.

    Args:
        target ([`Target`]): the repository.

    Raises:
        SemiHVError: the Hub refuses.
    """
    if target.private:
        try:
            persistently(
                lambda: target.api.update_repo_settings(target.repo_id, repo_type=target.repo_type, private=False)
            )
        except Exception as error:
            raise SemiHVError(
                f"{target.repo_id} is complete, but still private: {first_line(error)}.", "Run again with --public."
            ) from error
        target.private = False


def check_repo_id(repo_id: str) -> None:
    """Checks an id by the Hub's rules.

    Args:
        repo_id (`str`): `name` or `namespace/name`.

    Raises:
        SemiHVError: it breaks one.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise SemiHVError(
            f"{repo_id!r} is no id of a repository: {str(error).rstrip('.')}. Nothing was uploaded.",
            "Give --repo-id as namespace/name.",
        ) from error


def branch_head(api: HfApi, repo_id: str, repo_type: str, revision: str) -> str | None:
    """The commit that a branch is at.

    Args:
        api (`HfApi`): the client.
        repo_id (`str`): the repository.
        repo_type (`str`): its type.
        revision (`str`): the branch.

    Returns:
        `str` or `None`: the commit; `None` where there is no such branch.

    Raises:
        SemiHVError: the revision is a tag or a commit, which no upload can move.
    """
    refs = api.list_repo_refs(repo_id, repo_type=repo_type, include_pull_requests=True)
    for branch in [*refs.branches, *(refs.pull_requests or [])]:
        if revision in (branch.name, branch.ref) and (branch in refs.branches or revision == branch.ref):
            return branch.target_commit
    if revision in [tag.name for tag in refs.tags]:
        raise SemiHVError(f"{revision} is a tag of {repo_id}. Nothing was uploaded.", "Give a branch as --revision.")
    return None


def _check_token(user: dict, repo_id: str) -> None:
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise SemiHVError(
            f"The token of {user['name']} can only read, so {repo_id} cannot be written. Nothing was uploaded.",
            "Make a token with the right to write in the settings of the Hub.",
        )


def _types(api: HfApi, repo_id: str, wanted: str) -> dict[str, Any]:
    """Of which types there is a repository of that id, and what the Hub tells of it; the wanted one first."""
    from huggingface_hub.errors import RepositoryNotFoundError

    found = {}
    for repo_type in sorted(set(REPO_TYPES.values()), key=lambda name: name != wanted):
        try:
            found[repo_type] = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError:
            continue
        if repo_type == wanted:
            break
    return found


class _Explained:
    """Calls the Hub and turns what goes wrong into one clear error.

    Args:
        api (`HfApi`): the client.
        repo_id (`str`): the repository in question.
    """

    def __init__(self, api: HfApi, repo_id: str):
        self.api = api
        self.repo_id = repo_id

    def __call__(self, call):
        try:
            return persistently(call, tries=_FIRST_TRIES)
        except SemiHVError:
            raise
        except Exception as error:
            raise explain(error, self.api, self.repo_id) from error


def explain(error: Exception, api: HfApi, repo_id: str) -> SemiHVError:
    """One clear error for what a call of the Hub raised before anything was uploaded.

    Args:
        error (`Exception`): what was raised.
        api (`HfApi`): the client.
        repo_id (`str`): the repository in question.

    Returns:
        [`SemiHVError`]: what is wrong and what to do.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return SemiHVError("HF_HUB_OFFLINE is set. Nothing was uploaded.", "Unset it, and run again.")
    status = status_of(error)
    if status == 401:
        return SemiHVError(
            f"{api.endpoint} does not know the token. Nothing was uploaded.", "Log in: `hf auth login`."
        )
    if status in (403, 404) and isinstance(error, HfHubHTTPError):
        return SemiHVError(
            f"The token gives no right to write to {repo_id}. Nothing was uploaded.",
            "Take a token with that right, or another --repo-id.",
        )
    if is_transient(error):
        what = f"answers with the error {status}" if status else "cannot be reached"
        return SemiHVError(f"{api.endpoint} {what}. Nothing was uploaded.", "Check the network, and run again.")
    return SemiHVError(f"The Hub refused: {first_line(error)} Nothing was uploaded.", "Mend that, and run again.")
