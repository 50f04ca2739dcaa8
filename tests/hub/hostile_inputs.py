"""What hostile inputs are made of: payloads that leave a canary file if they ever run, and how an attempt is told."""

import bz2
import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFUSED, INERT = "refused", "inert"


@dataclass(frozen=True)
class Attempt:
    """One hostile input and what is tried with it.

    Args:
        name (`str`): what it is.
        run (`Callable[[Path], Any]`): makes it in an empty folder and tries it.
        expect (`str`): `REFUSED` if an error must come of it, `INERT` if it may be read as plain data.
    """

    name: str
    run: Callable[[Path], Any]
    expect: str = REFUSED


def canary() -> str:
    """The file that a payload makes."""
    return os.environ["HOSTILE_CANARY"]


class Payload:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {canary()}",)


def python_code() -> str:
    """A module that leaves the canary when it is imported."""
    return f"open({canary()!r}, 'w').close()\n"


def pickles() -> dict[str, bytes]:
    """Pickles that run something, in every dress."""
    made = {f"protocol {number}": pickle.dumps(Payload(), protocol=number) for number in range(6)}
    torch_zip = io.BytesIO()
    with zipfile.ZipFile(torch_zip, "w") as archive:
        archive.writestr("archive/data.pkl", made["protocol 2"])
        archive.writestr("archive/version", "3\n")
    renamed = io.BytesIO()
    with zipfile.ZipFile(renamed, "w") as archive:
        archive.writestr("weights.dat", made["protocol 4"])
    return made | {
        "torch zip": torch_zip.getvalue(),
        "renamed zip": renamed.getvalue(),
        "gzip": gzip.compress(made["protocol 4"]),
        "bzip2": bz2.compress(made["protocol 4"]),
        "numpy objects": numpy_objects(),
        "padded protocol 0": b"S'padding'\n0" * 2000 + made["protocol 0"],
    }


def numpy_objects() -> bytes:
    """An array of Python objects."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.array([Payload()], dtype=object), allow_pickle=True)
    return file.getvalue()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def bad_safetensors() -> dict[str, bytes]:
    """Files that are named safetensors and are none."""
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return {
        "empty file": b"",
        "seven bytes": b"\0" * 7,
        "header of 2**63 bytes": safetensors(b"{}", length=2**63),
        "header of 2**64-1 bytes": safetensors(b"{}", length=2**64 - 1),
        "header of 99 MB that is not there": safetensors(b"{}", length=99_000_000),
        "header is a list": safetensors([1, 2]),
        "header is deep": safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        "header is no UTF-8": safetensors(b"\xff\xfe{}"),
        "offsets behind the end": safetensors({"a": one | {"data_offsets": [0, 2**40]}}, b"\0" * 4),
        "negative offsets": safetensors({"a": one | {"data_offsets": [-4, 0]}}, b"\0" * 4),
        "overlapping tensors": safetensors({"a": one, "b": one}, b"\0" * 4),
        "a gap that hides code": safetensors({"a": one}, b"\0" * 4 + python_code().encode()),
        "absurd shape": safetensors({"a": one | {"shape": [2**40, 2**40]}}, b"\0" * 4),
        "metadata that are no texts": safetensors({"__metadata__": {"a": {"b": 1}}, "a": one}, b"\0" * 4),
        "dtype that does not exist": safetensors({"a": one | {"dtype": "PICKLE"}}, b"\0" * 4),
    }


def yamls() -> dict[str, str]:
    """YAML that runs something, grows, or is nested until a reader gives up."""
    command = f"touch {canary()}"
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefghij", "bcdefghijk")
    )
    merges = "a: &a {x: 1}\n" + "".join(
        f"{new}: &{new} {{{', '.join(f'{new}{number}: *{old}' for number in range(9))}}}\n"
        for old, new in zip("abcdefghij", "bcdefghijk")
    )
    return {
        "object/apply": f'cases: !!python/object/apply:os.system ["{command}"]\n',
        "object/new": f'cases: !!python/object/new:subprocess.Popen [["touch", "{canary()}"]]\n',
        "module": "cases: !!python/module:antigravity\n",
        "name": f"cases: !!python/object/apply:builtins.eval [\"__import__('os').system('{command}')\"]\n",
        "own tag": "cases: !include /etc/passwd\n",
        "billion laughs": laughs,
        "billion laughs of mappings": merges,
        "circle": "cases: &a [*a]\nout: x\n",
        "deep": "cases: " + "[" * 20_000 + "]" * 20_000 + "\n",
        "NUL": "cases: \0x\n",
        "no mapping": "- 1\n- 2\n",
        "huge integer": "limit: " + "9" * 5_000 + "\n",
    }


def small_png() -> bytes:
    """A good picture."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


def deep_json(depth: int = 200_000) -> str:
    """Lists in lists."""
    return "[" * depth + "]" * depth


def write(path: Path, content: bytes | str | dict | list) -> Path:
    """Writes a file, and the folders on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path
