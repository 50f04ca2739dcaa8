"""The folder of an upstream release, read so that nothing outside it is ever touched.

Files may lie unpacked or inside zip archives. A name that climbs out of the folder, a symbolic link that leaves it,
and an archive member that would unpack to an absurd size are refused.
"""

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import SemiHVError
from .zip_index import UnsafeFile, ZipIndex

TABLE_SUFFIXES = (".csv", ".csv.gz", ".json", ".jsonl", ".xlsx", ".txt", ".tsv")
# A list of a release that is a link out of it, or no file, must not be passed over as if it were not there.
_NEVER_PASSED_OVER = (".csv", ".csv.gz", ".json", ".jsonl", ".xlsx", ".tsv", ".parquet")
_LISTED = 12  # how many names of a wrong folder an error shows


class Release:
    """A release on disk.

    Args:
        root (`str` or `pathlib.Path`): its folder.

    Raises:
        `SemiHVError`: there is no such folder.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise SemiHVError(f"There is no folder {self.root}.", "Give the folder of the downloaded release.")
        self.real_root = self.root.resolve()
        self._root = os.fspath(self.root)
        self._zips: ZipIndex | None = None
        self._found: tuple[str | None, Path] = (None, self.root)
        self._listing = lru_cache(maxsize=64)(_names_by_lower_case)

    def __getstate__(self) -> dict:
        return {"root": str(self.root)}  # open archives and caches do not travel to other processes

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["root"])

    def require(self, name: str, layout: Sequence[tuple[str, str]]) -> None:
        """Checks that the folder holds a release.

        Args:
            name (`str`): the source, for the message.
            layout (`Sequence[tuple[str, str]]`): patterns and what they are; alternatives are parted by `" | "`.

        Raises:
            `SemiHVError`: something is missing; the message lists what was expected and what is there.
        """
        missing = [
            f"{pattern} ({what})"
            for pattern, what in layout
            if not any(self.first(alternative) for alternative in pattern.split(" | "))
        ]
        if missing:
            found = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(self.root))
            shown = ", ".join(found[:_LISTED]) + (f", … ({len(found)} in all)" if len(found) > _LISTED else "")
            raise SemiHVError(
                f"{self.root} is no {name} release: missing {'; '.join(missing)}. Found: {shown or 'nothing'}.",
                "Point at the folder that holds these files.",
            )

    def first(self, pattern: str) -> str | None:
        """The first file or folder that a pattern matches, in the order of names.

        Args:
            pattern (`str`): a glob relative to the release; `"**"` goes through sub-folders.

        Returns:
            `str` or `None`: its name relative to the release.
        """
        return next(self.find(pattern), None)

    def find(self, pattern: str) -> Iterator[str]:
        """The files and folders that a pattern matches, in a fixed order; links that lead outside are left out.

        Args:
            pattern (`str`): a glob relative to the release; a plain name is only looked up.

        Yields:
            `str`: names relative to the release, with forward slashes.

        Raises:
            `SemiHVError`: the pattern is one of tables or lists, and matches what may not be read.
        """
        if not any(mark in pattern for mark in "*?["):
            plain = pattern.rstrip("/")
            if os.path.lexists(self.root / plain):
                if self._is_inside(self.root / plain) and (self.root / plain).exists():
                    self._check_table(plain)
                    yield plain
                else:
                    self._check_table(plain, "is a symbolic link that leads out of the release, or nowhere")
            return
        yield from self._walk("", PurePosixPath(pattern).parts)

    def _check_table(self, name: str, problem: str | None = None) -> None:
        if not name.endswith(_NEVER_PASSED_OVER):
            return
        if problem is None and not ((self.root / name).is_file() or (self.root / name).is_dir()):
            problem = "is neither a file nor a folder"
        if problem is not None:
            raise SemiHVError(f"{name} in {self.root} {problem}.", "Put the file itself there, or take it away.")

    def _walk(self, folder: str, parts: tuple[str, ...]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        for entry in sorted(os.scandir(self.root / folder), key=lambda entry: entry.name):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink() and not (self._is_inside(Path(entry.path)) and os.path.exists(entry.path)):
                if fnmatch.fnmatchcase(entry.name, parts[-1]) and (part == "**" or not rest):
                    self._check_table(name, "is a symbolic link that leads out of the release, or nowhere")
                continue
            if part == "**":
                if rest and fnmatch.fnmatchcase(entry.name, rest[0]):
                    if len(rest) == 1:
                        self._check_table(name)
                        yield name
                    elif entry.is_dir():
                        yield from self._walk(name, rest[1:])
                if entry.is_dir() and not entry.is_symlink():
                    yield from self._walk(name, parts)
            elif fnmatch.fnmatchcase(entry.name, part):
                if not rest:
                    self._check_table(name)
                    yield name
                elif entry.is_dir():
                    yield from self._walk(name, rest)

    def tables(self, layout: Sequence[tuple[str, str]]) -> list[str]:
        """The files of a layout that hold tables or lists, not pixels.

        Args:
            layout (`Sequence[tuple[str, str]]`): as in [`require`].

        Returns:
            `list[str]`: names relative to the release, sorted.
        """
        patterns = [part for pattern, _ in layout for part in pattern.split(" | ") if part.endswith(TABLE_SUFFIXES)]
        return sorted({name for pattern in patterns for name in self.find(pattern)})

    def path(self, name: str) -> Path:
        """Where an unpacked file lies. Upper and lower case may differ from what a table says.

        Args:
            name (`str`): the name relative to the release.

        Returns:
            `pathlib.Path`: an existing file or folder inside the release.

        Raises:
            `FileNotFoundError`: there is none.
            [`UnsafeFile`]: the name, or a link on the way, leaves the release.
        """
        asked, found = self._found
        if name == asked:  # it was looked up a moment ago, and is looked up anew the next time
            self._found = (None, self.root)
            return found
        parts = _safe_parts(name)
        if _holds(self._root, parts):
            return Path(self._root, *parts)
        path = self.root.joinpath(*parts)
        if not os.path.exists(path):
            path = self.root
            for part in parts:
                if not (path / part).exists():
                    part = self._listing(path).get(part.lower(), "")
                    if not part:
                        raise FileNotFoundError(name)
                path = path / part
        if not self._is_inside(path):
            raise UnsafeFile(name, "is a link that leads out of the release")
        if stat.S_IFMT(path.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeFile(name, "is neither a file nor a folder")  # whoever opens a pipe waits for ever
        return path

    def exists(self, name: str) -> bool:
        """Whether a file can be read, unpacked or from an archive.

        Args:
            name (`str`): the name relative to the release.

        Returns:
            `bool`: also `False` for a name that leaves the release.
        """
        try:
            # Whoever asks whether a file is there mostly reads it next.
            self._found = (name, self.path(name))
        except FileNotFoundError:
            return self.zips.find(name) is not None
        except UnsafeFile:
            return False
        return True

    def read_bytes(self, name: str) -> bytes:
        """The content of a file, unpacked or from whichever zip archive of the release holds it.

        Args:
            name (`str`): the name relative to the release, or the end of an archive member's path.

        Returns:
            `bytes`: the content.

        Raises:
            `FileNotFoundError`: there is no such file.
            [`UnsafeFile`]: the file may not be read, with the reason.
        """
        try:
            with open(self.path(name), "rb", buffering=0) as file:
                return file.readall()
        except FileNotFoundError:
            return self.zips.read(name)

    def open_text(self, name: str) -> IO[str]:
        """Opens a table for reading: UTF-8 with or without a byte order mark, plain or gzip.

        Args:
            name (`str`): the name relative to the release.

        Returns:
            `IO[str]`: the open file; line ends are left to the reader, as the `csv` module wants it.
        """
        import gzip

        path = self.path(name)
        if path.suffix.lower() == ".gz":
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        return open(path, encoding="utf-8-sig", newline="")

    @property
    def zips(self) -> ZipIndex:
        """The members of all zip archives of the release; indexed on first use."""
        if self._zips is None:
            self._zips = ZipIndex(self.root, list(self.find("**/*.zip")))
        return self._zips

    def _is_inside(self, path: Path) -> bool:
        return _holds(self._root, path.relative_to(self.root).parts) or path.resolve().is_relative_to(self.real_root)


def _safe_parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if name[:1] in ("/", "\\") or ".." in parts or "\0" in name or not parts or parts[0][1:2] == ":":
        raise UnsafeFile(name, "leaves the release")
    return parts


def _holds(root: str, parts: Sequence[str]) -> bool:
    """Whether a file or folder is there, and no part of the way to it is a link.

    Resolving a path asks about every folder from the top of the disk on, as slowly as a small image is decoded. Where
    nothing below the release is a link, nothing leads out of it.
    """
    place = root
    try:
        for part in parts:
            place = f"{place}/{part}"
            if part == ".." or stat.S_IFMT(os.lstat(place).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                return False
    except (OSError, ValueError):  # the longer way says what is wrong
        return False
    return True


def _names_by_lower_case(folder: Path) -> dict[str, str]:
    return {name.lower(): name for name in sorted(os.listdir(folder), reverse=True)}
