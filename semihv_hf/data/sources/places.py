"""Where a picture of a release lies, when archives may have been unpacked in several ways."""

from collections.abc import Sequence

from ..release import Release


def first_place(release: Release, name: str, folders: Sequence[str]) -> str:
    """The first of several folders that holds a file, unpacked or in an archive.

    Args:
        release ([`Release`]): the release.
        name (`str`): the file as a table names it.
        folders (`Sequence[str]`): where it may lie, `""` for the release itself.

    Returns:
        `str`: the file with its folder; `name` itself where no folder holds it, so that reading it says why.
    """
    try:
        for folder in folders:
            place = f"{folder}/{name}" if folder else name
            if release.exists(place):
                return place
    except OSError:  # a damaged archive, which reading the file will name
        return name
    return name
