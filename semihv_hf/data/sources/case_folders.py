"""Folders and files that are named after the titles of cases, found although file names cannot hold every title.

The authors of SemiHVision name a case's folder by its title with "/", "?" and blanks replaced by "_". Other programs
drop further characters, file systems change case or the form of accents; so a title is looked up by that rule first,
and then by its letters and digits alone where that leaves no doubt.
"""

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from ..release import Release
from ..zip_index import UnsafeFile

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_REPLACED = str.maketrans({"/": "_", "?": "_", " ": "_"})


def folder_name(title: str) -> str:
    """The name of a case's folder by the rule of the authors of SemiHVision.

    Args:
        title (`str`): the title.

    Returns:
        `str`: the title with "/", "?" and blanks replaced by "_".
    """
    return title.translate(_REPLACED)


def comparable_title(title: Any) -> str:
    """An id or a title for comparison.

    Args:
        title (`Any`): the id or title.

    Returns:
        `str`: without case and superfluous blanks.
    """
    return " ".join(str(title).split()).casefold()


class CaseFolders:
    """The folders, or text files, of a release that are named after cases.

    The names of all of them are held in memory once they are asked for; they are left behind when the object is
    pickled.

    Args:
        release ([`Release`]): the release.
        bases (`Sequence[str]`): where they may lie, relative to the release, `""` for the release itself; the first
            that exists and holds the case counts.
        suffix (`str`, *optional*, defaults to `""`): `".txt"` for text files, `""` for folders.
    """

    def __init__(self, release: Release, bases: Sequence[str], suffix: str = ""):
        self.release, self.bases, self.suffix = release, tuple(bases), suffix
        self._names: tuple[dict[str, str], dict[str, str | None]] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_names": None}

    def find(self, title: str) -> str | None:
        """The folder or file of a case.

        Args:
            title (`str`): the case's title.

        Returns:
            `str` or `None`: its name relative to the release; `None` where there is none, or two that differ from the
            title in what was replaced only.
        """
        if self._names is None:
            self._names = self._listed()
        exact, loose = self._names
        return exact.get(_plain(title)) or loose.get(_letters(title) or "/")  # no name has a slash

    def _listed(self) -> tuple[dict[str, str], dict[str, str | None]]:
        exact: dict[str, str] = {}
        loose: dict[str, str | None] = {}
        for base in self.bases:
            if base and not self.release.exists(base):
                continue
            for entry in sorted(os.scandir(self.release.path(base) if base else self.release.root), key=_by_name):
                if entry.is_dir() == bool(self.suffix) or not entry.name.lower().endswith(self.suffix):
                    continue
                name = f"{base}/{entry.name}" if base else entry.name
                stem = entry.name[: len(entry.name) - len(self.suffix)]
                exact.setdefault(_plain(stem), name)
                letters = _letters(stem)
                same_base = letters in loose and (loose[letters] or "").rpartition("/")[0] == base
                loose[letters] = None if same_base else loose.get(letters, name)
        return exact, loose

    def files(self, folder: str) -> list[str]:
        """The files in a folder.

        Args:
            folder (`str`): the folder, relative to the release.

        Returns:
            `list[str]`: their names in the folder, sorted.

        Raises:
            [`UnsafeFile`]: the folder is a link that leaves the release.
            `OSError`: it cannot be read.
        """
        return sorted(entry.name for entry in os.scandir(self.release.path(folder)) if not entry.is_dir())

    def picture(self, folder: str, stem: str) -> str:
        """The picture of some name in a folder.

        Args:
            folder (`str`): the folder, relative to the release.
            stem (`str`): the picture's name, with or without its ending.

        Returns:
            `str`: its place; the stem's own where there is no such picture, and the folder's where that may not be
            read, so that reading it says why.
        """
        try:
            return f"{folder}/{picture_by_stem(self.files(folder), stem) or stem}"
        except (OSError, UnsafeFile):
            return folder


def picture_by_stem(names: Sequence[str], stem: str) -> str | None:
    """The picture of some name whose ending is not known.

    Args:
        names (`Sequence[str]`): the files of a folder.
        stem (`str`): the name, with or without an ending.

    Returns:
        `str` or `None`: the file; upper and lower case count as equal only where no file has the very name.
    """
    wanted = [stem, *(stem + suffix for suffix in PICTURES)]
    there = set(names)
    for name in wanted:
        if name in there and name.lower().endswith(PICTURES):
            return name
    lower = {name.lower(): name for name in reversed(names)}
    fits = (lower.get(name.lower()) for name in wanted if name.lower().endswith(PICTURES))
    return next((name for name in fits if name), None)


def _by_name(entry: os.DirEntry) -> str:
    return entry.name


def _plain(title: str) -> str:
    return unicodedata.normalize("NFC", folder_name(title.strip())).casefold()


def _letters(title: str) -> str:
    return "".join(mark for mark in unicodedata.normalize("NFKC", title).casefold() if mark.isalnum())
