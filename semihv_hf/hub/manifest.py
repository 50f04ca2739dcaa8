"""Reading `code_manifest.json`, which may come from a stranger; saving a checkpoint writes it."""

from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.models.pmc_cambrian.saving_pmc_cambrian import (
    CODE_SUFFIXES,
    FORMAT,
    MANIFEST,
    code_digests,
    code_files,
    is_checkpoint,
    write_code_manifest,
)

from .contents import read_json

__all__ = [
    "CODE_SUFFIXES", "MANIFEST", "code_digests", "code_files", "is_checkpoint", "read_code_manifest",
    "write_code_manifest",
]  # fmt: skip


def read_code_manifest(folder: str | Path) -> dict[str, str]:
    """Reads the manifest of a folder.

    Args:
        folder (`str` or `Path`): the folder.

    Returns:
        `dict[str, str]`: the sha256 of every code file, by name.

    Raises:
        SemiHVError: there is none, or it is malformed.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise SemiHVError(
            f"{folder} has no {MANIFEST}, so its code cannot be checked.",
            "Save the checkpoint again with semihv_hf, or ask its publisher for one.",
        )
    try:
        content = read_json(path.read_bytes())
    except ValueError as error:
        raise SemiHVError(f"{path} {error}.", "Fetch the file again.") from error
    digests = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(digests, dict) or content.get("format") != FORMAT:
        raise SemiHVError(f"{path} is no manifest of format {FORMAT}.", "Fetch the file again.")
    if not all(isinstance(digest, str) and len(digest) == 64 for digest in digests.values()):
        raise SemiHVError(f"{path} holds something else than sha256 sums.", "Fetch the file again.")
    return digests
