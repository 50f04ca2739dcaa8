"""The file of a block: every image once, however many rows show it, then an Arrow table for each config and split,
whose image columns say where the pixels lie, then a JSON index.
"""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...files import canonical_json

if TYPE_CHECKING:
    import pyarrow

_TAIL = 8  # bytes at the end that give the length of the index


class BlockFile:
    """A complete block.

    Args:
        path (`pathlib.Path`): its file.
    """

    def __init__(self, path: Path):
        self._file = open(path, "rb")
        end = self._file.seek(-_TAIL, os.SEEK_END)
        length = int.from_bytes(self._file.read(_TAIL), "big")
        self._begin_of_index = self._file.seek(end - length)
        self.index: dict[str, Any] = json.loads(self._file.read(length))

    def __enter__(self) -> "BlockFile":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def table(self, config: str, split: str) -> "pyarrow.Table | None":
        """The rows of a config and split; their images are [`image_places`].

        Args:
            config (`str`): the config.
            split (`str`): the split.

        Returns:
            `pyarrow.Table` or `None`: `None` where the block has none.
        """
        import pyarrow.ipc

        place = self.index["tables"].get(f"{config}/{split}")
        if place is None:
            return None
        return pyarrow.ipc.open_stream(self.bytes(place["offset"], place["bytes"])).read_all()

    def checksum(self) -> int:
        """The CRC-32 of everything before the index."""
        crc, place = 0, 0
        while place < self._begin_of_index:
            piece = self.bytes(place, min(1 << 20, self._begin_of_index - place))
            crc, place = zlib.crc32(piece, crc), place + len(piece)
        return crc

    def bytes(self, offset: int, size: int) -> bytes:
        """A piece of the file, for example an image.

        Args:
            offset (`int`): where it begins.
            size (`int`): its length.

        Returns:
            `bytes`: the piece.
        """
        return os.pread(self._file.fileno(), size, offset)

    def read_into(self, offset: int, target: Any) -> None:
        """Reads a piece of the file to where it is needed.

        Args:
            offset (`int`): where it begins.
            target (`Any`): a writable buffer of its length, such as an array.

        Raises:
            `OSError`: the file ends before.
        """
        view = memoryview(target)
        while view.nbytes:
            read = os.preadv(self._file.fileno(), [view], offset)
            if not read:
                raise OSError(f"{self._file.name} ends before its images do")
            view, offset = view[read:], offset + read


def is_whole(path: Path) -> bool:
    """Whether all of a block has reached the disk.

    To wait for the disk after every block would take as long as reading its images. A process that is killed leaves
    what it wrote to the system all the same; only where the system itself stopped, the checksum is asked.

    Args:
        path (`pathlib.Path`): the file of a block.

    Returns:
        `bool`: `False` where the block must be built again.
    """
    try:
        with BlockFile(path) as block:
            return block.index["boot"] == boot_id() != "" or block.checksum() == block.index["crc"]
    except (OSError, ValueError):  # no readable index at the end
        return False


def boot_id() -> str:
    """What tells one run of this machine's system from another; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@contextmanager
def new_block(path: Path) -> Iterator["BlockWriter"]:
    """A file that appears when it is complete, without waiting for the disk; see [`is_whole`].

    Args:
        path (`pathlib.Path`): the file.

    Yields:
        [`BlockWriter`]: to write it with.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", buffering=1 << 20) as file:
            yield BlockWriter(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class BlockWriter:
    """A file that knows how much was written to it, and the checksum of that.

    Args:
        file (`IO[bytes]`): the open file.
    """

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.size = self.crc = 0

    def write(self, data: bytes) -> None:
        """Appends a piece."""
        self.file.write(data)
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def finish(self, index: dict[str, Any]) -> None:
        """Appends the index, with what tells later whether the file is whole.

        Args:
            index (`dict[str, Any]`): what JSON can hold.
        """
        data = canonical_json({**index, "boot": boot_id(), "crc": self.crc}).encode("utf-8", "surrogatepass")
        self.file.write(data + len(data).to_bytes(_TAIL, "big"))
