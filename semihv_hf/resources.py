"""Finds the publishable folders (metrics, recipes, ...) in a checkout and in an installed wheel alike."""

from pathlib import Path

from semihv_hf.errors import SemiHVError

RESOURCE_FOLDERS = ("dataset_scripts", "metrics", "model_cards", "recipes")


def resource_dir(name: str) -> Path:
    """Returns one of the folders that are shipped with the package.

    Args:
        name (`str`): one of `"dataset_scripts"`, `"metrics"`, `"model_cards"`, `"recipes"`.

    Returns:
        `Path`: the folder. In a checkout (or an editable installation of one) it is the folder at the repository's
        root; in an installed wheel it lies inside the package.

    Raises:
        SemiHVError: the name is unknown, or the installation lacks the folder.

    Example:

    ```python
    >>> from semihv_hf.resources import resource_dir
    >>> resource_dir("model_cards").name
    'model_cards'
    ```
    """
    if name not in RESOURCE_FOLDERS:
        raise SemiHVError(f"There is no resource folder {name!r}.", f"Choose one of {', '.join(RESOURCE_FOLDERS)}.")
    folder = _find(name)
    if not folder.is_dir():
        raise SemiHVError(f"The folder {name} is missing: {folder}.", "Install semihv-hf again from its wheel.")
    return folder


def constraints_file() -> Path:
    """Returns `constraints.txt`, the list of the versions this release was tested with.

    Returns:
        `Path`: the file.

    Raises:
        SemiHVError: the installation lacks it.
    """
    file = _find("constraints.txt")
    if not file.is_file():
        raise SemiHVError(f"The file {file} is missing.", "Install semihv-hf again from its wheel.")
    return file


def _find(name: str) -> Path:
    """Where a resource is, or should be: at the root of a checkout, or inside an installed package."""
    package = Path(__file__).resolve().parent
    # A folder `recipes` that merely stands beside an installed package is not ours: the build file marks a checkout.
    if (package.parent / "hatch_build.py").is_file():
        return package.parent / name
    return package / "_resources" / name
