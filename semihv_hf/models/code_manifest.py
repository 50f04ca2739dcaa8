"""`code_manifest.json`: the sha256 of every code file that lies beside weights."""

import hashlib
from pathlib import Path

from semihv_hf.files import write_json

MANIFEST = "code_manifest.json"
FORMAT = 1
# What transformers runs from a model's folder: Python files, and chat templates in Jinja's sandbox.
CODE_SUFFIXES = (".py", ".jinja")


def code_files(folder: str | Path) -> list[str]:
    """The code files of a checkpoint folder.

    Args:
        folder (`str` or `Path`): the folder.

    Returns:
        `list[str]`: names relative to it, with forward slashes, sorted.
    """
    folder = Path(folder)
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in CODE_SUFFIXES and (path.is_file() or path.is_symlink())
    )


def code_digests(folder: str | Path) -> dict[str, str]:
    """The sha256 of every code file of a folder.

    Args:
        folder (`str` or `Path`): the folder.

    Returns:
        `dict[str, str]`: by name, sorted.
    """
    return {name: hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() for name in code_files(folder)}


def write_code_manifest(folder: str | Path) -> Path:
    """Writes the manifest of the code that lies in a checkpoint folder.

    Args:
        folder (`str` or `Path`): the folder; its code must be complete.

    Returns:
        `Path`: the manifest.
    """
    from semihv_hf import __version__

    path = Path(folder) / MANIFEST
    write_json(path, {"format": FORMAT, "semihv_hf": __version__, "sha256": code_digests(folder)})
    return path
