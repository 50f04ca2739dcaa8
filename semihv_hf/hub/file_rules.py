"""What a file that is to be published may hold: each kind of file is looked into."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .contents import LOOK, is_dicom, is_text, pickle_in, pickle_in_bytes, read_json, safetensors_header

# Each begins with plain letters, which are looked for at the speed of memory. Written so that no line of this file is
# itself a hit.
_SECRETS = {
    b"hf" + b"_": rb"[A-Za-z0-9]{20,}",
    b"sk" + b"-": rb"[A-Za-z0-9_-]{20,}",
    b"gh" + b"p_": rb"[A-Za-z0-9]{30,}",
    b"github" + b"_pat_": rb"[A-Za-z0-9_]{30,}",
    b"glp" + b"at-": rb"[A-Za-z0-9_-]{20,}",
    b"AI" + b"za": rb"[A-Za-z0-9_-]{35}",
    b"AK" + b"IA": rb"[0-9A-Z]{16}",
    b"xox" + b"b-": rb"[A-Za-z0-9-]{10,}",
    b"-----BEGIN ": rb"[A-Z ]*PRIVATE " + rb"KEY-----",
}
# Folders of one machine or one person.
_PLACES = (
    "home", "Users", "ro" + "ot", "mnt", "media", "scratch", "private", "work", "workspace", "gpfs", "lustre", "nfs",
    "tmp", "var/tmp", "var/folders",
)  # fmt: skip
_PRIVATE = {
    **{b"/" + place.encode() + b"/": rb"[\w.@-]+" for place in _PLACES},
    b":\\": rb"\\?Users\\{1,2}[\w.@-]+",
    b"file:/": rb"/{1,2}[\w.@/-]+",
}
# What may not stand before a hit: a longer word, or an address or longer path that it is a part of.
_IN_A_WORD, _IN_A_PATH = re.compile(rb"[A-Za-z0-9_-]"), re.compile(rb"[\w.~/:-]")
# A text is read in pieces; what is looked for is shorter than what two pieces share.
_PIECE, _SHARED = 8 << 20, 512
_TEXTS_WITHOUT_SUFFIX = ("LICENSE", "NOTICE", ".gitattributes")
_PICTURES = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff"}
# Its header can tell who the patient is, and nothing in it tells from which source it is.
_DICOM = "is, or holds, a DICOM file: publish the pictures that `semihv build` makes of it"
# How the pictures of rows begin. What else lies in a column of bytes is read as text.
_PICTURE_HEADS = (*_PICTURES.values(), b"GIF8", b"RIFF", b"II*\0", b"MM\0*")


def content_refusal(path: Path, name: PurePosixPath) -> str | None:
    """Why a file may not be published, judged by what it holds.

    Args:
        path (`pathlib.Path`): the file.
        name (`pathlib.PurePosixPath`): its name in the repository.

    Returns:
        `str` or `None`: the rule, as the rest of a sentence that begins with the file's name.

    Raises:
        `OSError`: the file cannot be read.
    """
    suffix = name.suffix.lower()
    if suffix == ".safetensors":
        return _safetensors(path)
    if found := pickle_in(path):
        return f"holds {found}"
    if is_dicom(path):
        return _DICOM
    if suffix == ".parquet":
        return _parquet(path)
    if suffix in _PICTURES:
        return _picture(path, _PICTURES[suffix]) or _texts(path)  # what it tells beside its pixels
    if suffix == ".model":  # a sentencepiece model: bytes that run nothing
        return _texts(path)
    if not is_text(path):
        return "is no UTF-8 text, as its name says it is"
    if rule := _texts(path):
        return rule
    return _structure(path, suffix)


def _structure(path: Path, suffix: str) -> str | None:
    """Whether a text is what its name says."""
    try:
        if suffix == ".json":
            read_json(path.read_bytes())
        elif suffix == ".jsonl":
            with open(path, "rb") as file:
                for line in file:
                    read_json(line)
        elif suffix == ".py":
            compile(path.read_bytes(), "code", "exec", dont_inherit=True)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return f"holds no readable {suffix[1:]} ({' '.join(str(error).split())[:200]})"
    return None


def _texts(path: Path) -> str | None:
    for piece in _pieces(path):
        if rule := text_refusal(piece):
            return rule
    return None


def text_refusal(text: bytes) -> str | None:
    """Why a text may not be published.

    Args:
        text (`bytes`): UTF-8.

    Returns:
        `str` or `None`: the rule; a secret is not repeated in it.
    """
    for prefix, rest in _SECRETS.items():
        if _first(text, prefix, rest, _IN_A_WORD) is not None:
            return f"holds what looks like an access token or key ({prefix.decode().strip('-')}…)"
    for prefix, rest in _PRIVATE.items():
        found = _first(text, prefix, rest, None if prefix.startswith((b":", b"file")) else _IN_A_PATH)
        if found is not None:
            return f"names a folder of one machine or person ({found.decode('utf-8', 'replace')[:80]})"
    return None


def _first(text: bytes, prefix: bytes, rest: bytes, before: re.Pattern | None) -> bytes | None:
    """The first place with a prefix and what must follow it, if nothing that excuses it stands before."""
    if prefix not in text:
        return None
    for found in re.finditer(re.escape(prefix) + rest, text):
        at = found.start()
        if before is None or at == 0 or not before.match(text, at - 1):
            return found.group()
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        before = b""
        while piece := file.read(_PIECE):
            yield before + piece
            before = piece[-_SHARED:]


def _safetensors(path: Path) -> str | None:
    try:
        header = safetensors_header(path)
    except ValueError as error:
        return str(error)
    metadata = header.pop("__metadata__", {})
    if any(name.startswith(("optimizer.", "exp_avg")) or ".exp_avg" in name for name in header):
        return "holds the state of an optimizer"
    return text_refusal("\n".join(f"{key} {value}" for key, value in metadata.items()).encode("utf-8", "replace"))


def _parquet(path: Path) -> str | None:
    """Reads the schema and every column that can hold a text."""
    import pyarrow
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for key, value in (file.schema_arrow.metadata or {}).items():
                if key != b"ARROW:schema" and (rule := text_refusal(value)):
                    return f"{rule}, in its schema"
            leaves = [file.schema.column(number) for number in range(len(file.schema.names))]
            columns = [leaf.path for leaf in leaves if leaf.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")]
            for batch in file.iter_batches(batch_size=256, columns=columns) if columns else ():
                for name, column in zip(batch.schema.names, batch.columns):
                    if rule := _column(column):
                        return f"{rule}, in its column {name}"
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        return f"is no readable Parquet file ({' '.join(str(error).split())[:200]})"
    return None


def _column(array) -> str | None:
    """Looks at the texts and bytes of a column, in lists and structures, too."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_struct(kind):
        inner = [array.field(number) for number in range(kind.num_fields)]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = [array.flatten()]
    elif pa.types.is_dictionary(kind):
        inner = [array.dictionary]
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Joined by a line end, so that the end of one text and the start of the next are not read as one.
        return text_refusal("\n".join(text for text in array.to_pylist() if text).encode("utf-8", "replace"))
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return next(filter(None, map(_bytes, array)), None)
    else:
        return f"holds values of the kind {kind}, which are not looked into"
    return next(filter(None, map(_column, inner)), None)


def _bytes(value) -> str | None:
    """Looks at one value of a column of bytes, which is a picture as a rule."""
    if not value.is_valid:
        return None
    data = memoryview(value.as_buffer())
    if data[128:132] == b"DICM":
        return _DICOM
    if bytes(data[:8]).startswith(_PICTURE_HEADS):
        return None
    if found := pickle_in_bytes(bytes(data[:LOOK])):
        return f"holds {found}"
    return text_refusal(bytes(data))


def _picture(path: Path, magic: bytes) -> str | None:
    with open(path, "rb") as file:
        return None if file.read(len(magic)) == magic else "is not the picture that its name says it is"
