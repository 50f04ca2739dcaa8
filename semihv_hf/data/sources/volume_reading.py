"""A volume of a release, or the reason why there is none."""

from ..imaging import UnreadableImage
from ..release import Release
from ..volume_slices import StoredVolume, read_volume
from ..zip_index import UnsafeFile
from .base import Skipped


def volume_or_skipped(release: Release, name: str, source_id: str) -> StoredVolume | Skipped:
    """Reads a NIfTI volume as its file stores it.

    Args:
        release ([`Release`]): the release.
        name (`str`): the file; `.nii` stands for `.nii.gz`, too, and the reverse.
        source_id (`str`): what a skipped row is to be called.

    Returns:
        [`semihv_hf.data.volume_slices.StoredVolume`] or [`Skipped`]: "missing image", "unreadable image" or
        "unsafe file".
    """
    other = name[: -len(".gz")] if name.lower().endswith(".gz") else name + ".gz"
    try:
        try:
            return read_volume(release, name)
        except FileNotFoundError:
            return read_volume(release, other)
    except FileNotFoundError:
        return Skipped(source_id, "missing image", name)
    except UnsafeFile as error:
        return Skipped(source_id, "unsafe file", one_line(f"{name} {error.reason}"))
    except UnreadableImage as error:
        return Skipped(source_id, "unreadable image", one_line(f"{name}: {error.reason}"))
    except OSError as error:
        # An error of the operating system names the file with its path on this machine; its own words do not.
        return Skipped(source_id, "unreadable image", one_line(f"{name}: {error.strerror or error}"))


def one_line(text: str) -> str:
    """A detail of a skipped row: one line of bounded length.

    Args:
        text (`str`): what is to be said.

    Returns:
        `str`: at most 300 characters.
    """
    return " ".join(text.split())[:300]
