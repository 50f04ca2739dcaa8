"""The files of one article of the PMC open-access subset: a folder, or a `.tar.gz` that is never unpacked to disk."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO

from ..imaging import UnreadableImage
from ..pictures import clean_picture
from ..release import Release
from ..zip_index import UnsafeFile
from .base import Skipped
from .jats import UnusableArticle
from .reading import read_picture

# What the SemiHVision authors take for a picture. A GIF comes last: beside a JPEG it is the thumbnail.
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif")
# Formats that PMC replaces by a JPEG or a PNG of the same name.
_REPLACED = (".eps", ".pdf", ".svg", ".ps", ".ai", ".ppt", ".pptx")
# An article with all its supplements is seldom above a few hundred megabytes.
MAX_PACKAGE_BYTES = 4 << 30
MAX_MEMBER_BYTES = 256 << 20


def picture_names(link: str) -> list[str]:
    """The files that a graphic's link may mean, the likeliest first.

    Args:
        link (`str`): as the article has it, often without an extension, or with that of the manuscript's file.

    Returns:
        `list[str]`: names with extensions.
    """
    suffix = PurePosixPath(link).suffix.lower()
    exact = [link] if suffix in PICTURE_SUFFIXES else []
    stems = [link.removesuffix(PurePosixPath(link).suffix)] if suffix in (*PICTURE_SUFFIXES, *_REPLACED) else []
    names = [stem + ending for stem in [*stems, link] for ending in PICTURE_SUFFIXES]
    return list(dict.fromkeys([*exact, *names]))


class ArticleFolder:
    """An article whose files lie beside each other.

    Args:
        release ([`Release`]): the release.
        name (`str`): the `.nxml` file.
    """

    def __init__(self, release: Release, name: str):
        self.release = release
        self.name = name
        self.folder = name.rpartition("/")[0]

    def article(self) -> bytes:
        """The `.nxml` file.

        Returns:
            `bytes`: its content.

        Raises:
            [`UnusableArticle`]: it cannot be read.
        """
        try:
            return self.release.read_bytes(self.name)
        except UnsafeFile as error:
            raise UnusableArticle("unsafe file", f"{self.name} {error.reason}") from error

    def want(self, links: Sequence[str]) -> None:
        """Nothing has to be prepared: each file can be read by itself.

        Args:
            links (`Sequence[str]`): the graphics that will be asked for.
        """

    def picture(self, link: str, source_id: str) -> bytes | Skipped:
        """A graphic of the article.

        Args:
            link (`str`): as the article has it.
            source_id (`str`): what a skipped row is to be called.

        Returns:
            `bytes` or [`Skipped`]: a JPEG or PNG file.
        """
        for name in picture_names(link):
            place = f"{self.folder}/{name}" if self.folder else name
            if is_there(self.release, place):
                return read_picture(self.release, place, source_id)
        return _no_picture(link, source_id)


class ArticlePackage:
    """An article in a `.tar.gz`, read from front to end: once for the text, once for the pictures that it names.

    Args:
        release ([`Release`]): the release.
        name (`str`): the archive.
    """

    def __init__(self, release: Release, name: str):
        self.release = release
        self.name = name
        self.pictures: dict[str, bytes | str] = {}

    def article(self) -> bytes:
        """The `.nxml` file.

        Returns:
            `bytes`: its content.

        Raises:
            [`UnusableArticle`]: the archive is damaged or unsafe, or holds no article, or several.
        """
        found = [data for name, data in self._files() if name.endswith(".nxml")]
        if len(found) != 1:
            raise UnusableArticle("malformed row", f"{self.name} holds {len(found) or 'no'} articles, not one")
        return found[0]

    def want(self, links: Sequence[str]) -> None:
        """Reads the pictures that will be asked for.

        Args:
            links (`Sequence[str]`): the graphics as the article has them.

        Raises:
            [`UnusableArticle`]: the archive is damaged or unsafe.
        """
        names = {PurePosixPath(name).name.lower() for link in links for name in picture_names(link)}
        self.pictures = dict(self._files(names))

    def picture(self, link: str, source_id: str) -> bytes | Skipped:
        """A graphic of the article.

        Args:
            link (`str`): as the article has it, and as [`want`] was told.
            source_id (`str`): what a skipped row is to be called.

        Returns:
            `bytes` or [`Skipped`]: a JPEG or PNG file.
        """
        if _climbs(link):
            return Skipped(source_id, "unsafe file", f"{link} leaves the release")
        for name in picture_names(link):
            data = self.pictures.get(PurePosixPath(name).name.lower())
            if data is not None:
                try:
                    return clean_picture(data, name=name)
                except UnreadableImage as error:
                    return Skipped(source_id, "unreadable image", f"{name}: {error.reason}")
        return _no_picture(link, source_id)

    def _files(self, names: set[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Ordinary files by their names in lower case: those that are wanted, or the articles."""
        try:
            with gzip.open(self.release.path(self.name)) as unpacked:
                with tarfile.open(fileobj=_Bounded(unpacked), mode="r|") as archive:
                    for member in archive:
                        name = PurePosixPath(member.name).name.lower()
                        wanted = name.endswith(".nxml") if names is None else name in names
                        if not member.isreg() or not wanted:  # links and devices are left alone
                            continue
                        if member.size > MAX_MEMBER_BYTES:
                            raise UnsafeFile(self.name, f"has a member of {member.size} bytes")
                        yield name, archive.extractfile(member).read()
        except UnsafeFile as error:
            raise UnusableArticle("unsafe file", f"{self.name} {error.reason}") from error
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            # An error of the operating system names the file with its path on this machine; its own words do not.
            detail = getattr(error, "strerror", None) or str(error)
            raise UnusableArticle("malformed row", f"{self.name} is damaged: {detail}") from error


class _Bounded:
    """A stream that refuses to unpack to an absurd size."""

    def __init__(self, stream: IO[bytes]):
        self.stream = stream
        self.left = MAX_PACKAGE_BYTES

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise UnsafeFile("", f"unpacks to more than {MAX_PACKAGE_BYTES} bytes")
        return data


def is_there(release: Release, name: str) -> bool:
    """Whether an unpacked file is there. Archives are not asked: indexing them would walk through all articles.

    Args:
        release ([`Release`]): the release.
        name (`str`): the file, relative to it.

    Returns:
        `bool`: also `True` for one that may not be read; reading it says why.
    """
    try:
        release.path(name)
    except FileNotFoundError:
        return False
    except UnsafeFile:
        return True
    return True


def _climbs(link: str) -> bool:
    path = PurePosixPath(link.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def _no_picture(link: str, source_id: str) -> Skipped:
    return Skipped(source_id, "missing image", f"no {link} with any of {' '.join(PICTURE_SUFFIXES)}")
