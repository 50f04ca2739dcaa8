"""What a file holds, told from its bytes: a name proves nothing."""

import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

# Of the safetensors format: the library refuses larger headers, too.
MAX_HEADER_BYTES = 100_000_000
# A JSON file that is read as a whole; the index of a model with a million tensors takes less.
MAX_JSON_BYTES = 256 << 20
MAX_JSON_DEPTH = 200
_HEAD = 8192
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_STREAMS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_OBJECTS = re.compile(rb"""['"][|<>=]?O\d*['"]""")
_PICKLES_IN_ZIPS = (".pkl", ".pickle")
# Of a possible pickle, what is looked at.
LOOK = 1 << 20


def pickle_in(path: Path) -> str | None:
    """Whether a file is, or holds, a pickle, whatever its name is.

    Args:
        path (`pathlib.Path`): the file.

    Returns:
        `str` or `None`: in words what was found.
    """
    with open(path, "rb") as file:
        head = file.read(LOOK)
    if head.startswith(_ZIP):
        return _pickle_in_zip(path)
    for compressed, name in _STREAMS.items():
        if head.startswith(compressed):
            return _pickle_in_stream(path, name)
    return pickle_in_bytes(head)


def _pickle_inside(head: bytes) -> str | None:
    """The same for what lies in an archive or a stream."""
    if head.startswith((*_ZIP, *_STREAMS)):
        return "an archive in an archive, which is not looked into"
    return pickle_in_bytes(head)


def pickle_in_bytes(head: bytes) -> str | None:
    """Whether bytes are a pickle, or a NumPy array of objects, or a tar archive, which may hold one.

    Reads opcodes, which runs nothing, until the pickle calls something, ends, or turns out to be none.

    Ordinary texts can begin with valid opcodes ("0. Introduction"), so one of protocol 0 or 1 counts only where it
    calls a function; one of a later protocol begins with its number.

    Args:
        head (`bytes`): the first `LOOK` bytes, or all there are.

    Returns:
        `str` or `None`: in words what was found.
    """
    if head.startswith(b"\x93NUMPY"):
        # The header, a Python literal, tells the kinds of the values; also of the fields of a structure.
        return "a NumPy file of Python objects, which is a pickle" if _OBJECTS.search(head[:_HEAD]) else None
    if head[257:262] == b"ustar":
        return "a tar archive, which is not looked into"
    protocol = head[1] if head[:1] == b"\x80" and len(head) > 1 else 0
    seen: set[str] = set()
    file = io.BytesIO(head)
    try:
        for opcode, _, _ in pickletools.genops(file):
            seen.add(opcode.name)
            made = opcode.name in ("REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX") and seen & {"GLOBAL", "STACK_GLOBAL"}
            if made or (opcode.name in ("INST", "OBJ") and "MARK" in seen):
                return f"a pickle of protocol {protocol} that calls a function"
    except (ValueError, UnicodeDecodeError, IndexError):
        if len(head) < LOOK or file.tell() < LOOK:
            return None  # no such opcode: no pickle, or one that no reader takes
        return "what may be a large pickle"
    return f"a pickle of protocol {protocol}" if protocol else None


def _pickle_in_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.lower().endswith(_PICKLES_IN_ZIPS):
                    return f"a zip archive with the pickle {member.filename!r}, as torch.save writes"
                with archive.open(member) as file:
                    if found := _pickle_inside(file.read(LOOK)):
                        return f"a zip archive whose member {member.filename!r} is {found}"
    except (zipfile.BadZipFile, RuntimeError, OSError, NotImplementedError) as error:
        return f"a zip archive that cannot be looked into ({error})"
    return None


def _pickle_in_stream(path: Path, name: str) -> str | None:
    import bz2
    import gzip
    import lzma

    opened = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[name]
    try:
        with opened(path, "rb") as file:
            found = _pickle_inside(file.read(LOOK))
    except (OSError, EOFError, lzma.LZMAError) as error:
        return f"a {name} file that cannot be looked into ({error})"
    return f"{found}, packed by {name}" if found else None


def safetensors_header(path: Path) -> dict:
    """Reads the header of a safetensors file and checks that it describes the file.

    The format: 8 bytes with the header's length, little endian; the header, a JSON object; the tensors without a gap.

    Args:
        path (`pathlib.Path`): the file.

    Returns:
        `dict`: the header.

    Raises:
        `ValueError`: it is no safetensors file; the message says what is wrong, as the end of a sentence.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError("is too short for a safetensors file")
        (length,) = struct.unpack("<Q", prefix)
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(f"states a header of {length:,} bytes, which does not fit into its {size:,} bytes")
        header = read_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("has a header that is no JSON object")
    spans = []
    for name, tensor in header.items():
        if name == "__metadata__":
            if not isinstance(tensor, dict) or not all(isinstance(value, str) for value in tensor.values()):
                raise ValueError("has metadata that are no texts")
            continue
        offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(one) is int for one in offsets)):
            raise ValueError(f"has no place for the tensor {name[:80]!r}")
        spans.append(tuple(offsets))
    end = 0
    for start, stop in sorted(spans):
        if start != end or stop < start:
            raise ValueError("has tensors that overlap or leave gaps, in which anything could lie")
        end = stop
    if 8 + length + end != size:
        raise ValueError(f"describes {8 + length + end:,} of its {size:,} bytes")
    return header


def read_json(data: bytes | str):
    """Parses JSON that may be hostile.

    Args:
        data (`bytes` or `str`): UTF-8 text.

    Returns:
        `Any`: the value.

    Raises:
        `ValueError`: it is no JSON, is nested too deeply, or too large.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"holds {len(data):,} bytes of JSON; {MAX_JSON_BYTES:,} are read")
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("holds JSON that is nested too deeply to be read") from error
    except UnicodeDecodeError as error:
        raise ValueError("holds JSON that is no UTF-8") from error
    except ValueError as error:  # JSONDecodeError, and a number of too many digits
        raise ValueError(f"holds no readable JSON ({error})") from error
    layer = [value]
    for _ in range(MAX_JSON_DEPTH):
        layer = [one for item in layer if isinstance(item, dict | list) for one in _inside(item)]
        if not layer:
            return value
    raise ValueError(f"holds JSON that is nested more than {MAX_JSON_DEPTH} deep")


def _inside(item: dict | list) -> Iterator:
    return iter(item.values() if isinstance(item, dict) else item)


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM file (PS3.10: `DICM` after a preamble of 128 bytes).

    Args:
        path (`pathlib.Path`): the file.

    Returns:
        `bool`: by its bytes.
    """
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_text(path: Path) -> bool:
    """Whether a file is UTF-8 text without zero bytes, from its first bytes.

    Args:
        path (`pathlib.Path`): the file.

    Returns:
        `bool`: by its bytes.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(head) == _HEAD and error.start >= _HEAD - 3  # a letter that the end cuts
    return True
