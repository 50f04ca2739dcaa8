"""Copies of Hub repositories on this disk, with one clear error for all the ways in which there may be none."""

import errno
from collections.abc import Sequence
from pathlib import Path

from .errors import SemiHVError, first_line


def hub_snapshot(
    repo_id: str, *, what: str, do: str, patterns: Sequence[str], repo_type: str = "model", revision: str | None = None
) -> Path:
    """Fetches the files of a repository that are needed, or finds them in the Hub's cache.

    Args:
        repo_id (`str`): the Hub id.
        what (`str`): what it is wanted as, for the message: `"text model"`.
        do (`str`): what to do where it cannot be had, for the message.
        patterns (`Sequence[str]`): the files; no pattern means all of them.
        repo_type (`str`, *optional*, defaults to `"model"`): or `"dataset"`.
        revision (`str`, *optional*): a branch, tag or commit.

    Returns:
        `pathlib.Path`: the folder of the snapshot.

    Raises:
        `SemiHVError`: there is no such repository or name, access is not granted, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo_id, repo_type=repo_type, revision=revision, allow_patterns=list(patterns) or None
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise SemiHVError(
            f"The {what} {repo_id!r} is neither on this disk nor to be had from the Hub ({first_line(error)}).", do
        ) from error
    return Path(folder)
