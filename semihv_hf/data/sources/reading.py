"""A picture of a release, or the reason why there is none."""

from ..imaging import UnreadableImage
from ..pictures import clean_picture
from ..release import Release
from ..zip_index import UnsafeFile
from .base import Skipped


def read_picture(release: Release, name: str, source_id: str) -> bytes | Skipped:
    """Reads a ready-made picture, checks it by a full decode and frees it of metadata.

    Args:
        release ([`Release`]): the release.
        name (`str`): the picture, relative to the release, or the end of an archive member's path.
        source_id (`str`): what a skipped row is to be called.

    Returns:
        `bytes` or [`Skipped`]: a JPEG or PNG file as [`semihv_hf.data.pictures.clean_picture`] gives it, or a
        "missing image", "unreadable image" or "unsafe file".
    """
    try:
        return clean_picture(release.read_bytes(name), name=name)
    except FileNotFoundError:
        return Skipped(source_id, "missing image", name)
    except UnsafeFile as error:
        return Skipped(source_id, "unsafe file", _one_line(f"{name} {error.reason}"))
    except UnreadableImage as error:
        return Skipped(source_id, "unreadable image", _one_line(f"{name}: {error.reason}"))
    except OSError as error:
        # An error of the operating system names the file with its path on this machine; its own words do not.
        return Skipped(source_id, "unreadable image", _one_line(f"{name}: {error.strerror or error}"))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
