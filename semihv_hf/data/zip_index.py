"""Random access to the members of a release's zip archives, without holding their directories in memory.

A release of a million images in twenty archives has directories of hundreds of megabytes once they are Python objects.
They are read once into an SQLite file in the user's cache; a member is then read through its offset alone.
"""

import hashlib
import os
import sqlite3
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..files import canonical_json
from ..packages import default_cache_dir

MAX_MEMBER_BYTES = 1 << 30
MAX_RATIO = 1000  # deflate reaches about 1,030; a clinical image does not come near
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE 4.3.7


class UnsafeFile(Exception):
    """A file of a release that may not be read.

    Args:
        name (`str`): its name.
        reason (`str`): why.
    """

    def __init__(self, name: str, reason: str):
        self.name = name
        self.reason = reason
        super().__init__(f"{name} {reason}")


class ZipIndex:
    """The members of several archives by name.

    Args:
        root (`pathlib.Path`): the folder of the release.
        archives (`Sequence[str]`): the archives, relative to it.
    """

    def __init__(self, root: Path, archives: Sequence[str]):
        self.root = root
        self.archives = list(archives)
        self._database: sqlite3.Connection | None = None

    def find(self, name: str) -> tuple | None:
        """Looks a member up.

        Args:
            name (`str`): its path in the archive, or the end of it.

        Returns:
            `tuple` or `None`: its place; `None` where no archive holds it.
        """
        if not self.archives:
            return None
        if self._database is None:
            self._database = self._open()
        wanted = PurePosixPath(name.replace("\\", "/")).as_posix().lower()
        rows = self._database.execute(
            "SELECT member, archive, offset, method, packed, size, crc, refused FROM members WHERE base = ?",
            (wanted.rpartition("/")[2],),
        )
        fits = [row for row in rows if row[0].lower() == wanted or row[0].lower().endswith("/" + wanted)]
        return min(fits) if fits else None

    def read(self, name: str) -> bytes:
        """Unpacks one member.

        Args:
            name (`str`): its path in the archive, or the end of it.

        Returns:
            `bytes`: its content.

        Raises:
            `FileNotFoundError`: no archive holds it.
            [`UnsafeFile`]: the member climbs out of the folder, is a link, is encrypted, or would be absurdly large.
            `OSError`: the archive is damaged there.
        """
        found = self.find(name)
        if found is None:
            raise FileNotFoundError(name)
        member, archive, offset, method, packed, size, crc, refused = found
        if refused:
            raise UnsafeFile(f"{archive}:{member}", refused)
        with open(self.root / archive, "rb") as file:
            file.seek(offset)
            header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            if header[0] != b"PK\x03\x04":
                raise OSError(f"{archive}: no member begins where the directory says that {member} does")
            file.seek(header[-2] + header[-1], os.SEEK_CUR)
            data = file.read(packed)
        if method == zipfile.ZIP_DEFLATED:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = unpacker.decompress(data, size + 1)  # never more than the directory promised
            except zlib.error as error:
                raise OSError(f"{archive}: {member} is damaged ({error})") from error
        if len(data) != size or zlib.crc32(data) != crc:
            raise OSError(f"{archive}: {member} is damaged")
        return data

    def _open(self) -> sqlite3.Connection:
        stamps = [(name, (self.root / name).stat()) for name in self.archives]
        key = canonical_json([str(self.root.resolve()), [(n, s.st_size, s.st_mtime_ns) for n, s in stamps]])
        folder = default_cache_dir() / "zip_indexes"
        path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.sqlite"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                self._write(part)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
        return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)

    def _write(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE members (base, member, archive, offset, method, packed, size, crc, refused)")
        for archive in self.archives:
            try:
                with zipfile.ZipFile(self.root / archive) as opened:
                    rows = [
                        (
                            info.filename.rpartition("/")[2].lower(), info.filename, archive, info.header_offset,
                            info.compress_type, info.compress_size, info.file_size, info.CRC, _refusal(info),
                        )
                        for info in opened.infolist()
                        if not info.is_dir()
                    ]  # fmt: skip
            except zipfile.BadZipFile as error:
                raise OSError(f"{archive} is no readable zip archive: {error}") from error
            database.executemany("INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        database.execute("CREATE INDEX by_base ON members (base)")
        database.commit()
        database.close()


def _refusal(info: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts:
        return "climbs out of the folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {info.compress_type}, which is not read"
    if info.file_size > MAX_MEMBER_BYTES or info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"would unpack from {info.compress_size} to {info.file_size} bytes"
    return None
