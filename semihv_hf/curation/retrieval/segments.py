"""Segments: the encoded entries of some documents in one Arrow file, memory-mapped, there as a whole or not at all.

An entry is a span of a document's text, an image, or both. A segment is a pure function of its documents, the encoder
and the overlap, so whoever was killed finds the finished ones again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semihv_hf.data.schema import content_id
from semihv_hf.errors import SemiHVError
from semihv_hf.files import atomic_file

from .chunking import chunk_spans
from .corpora import Document
from .encoders import Encoder

# Of the encoder's window, so much may be taken by a document's title.
_TITLE_SHARE = 4
# In a small window, so much may be overlap.
_OVERLAP_SHARE = 4
_KEY = b"semihv"
META_COLUMNS = ("document", "group", "images", "begin", "has_text", "has_image")


def encode_documents(
    encoder: Encoder, documents: Sequence[Document], *, overlap: int, headings: bool
) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Cuts documents into entries and encodes them.

    Args:
        encoder ([`Encoder`]): what encodes them; it has a text side.
        documents (`Sequence[Document]`): the documents.
        overlap (`int`): tokens that neighbouring spans share.
        headings (`bool`): cut at headings and read the title with every span.

    Returns:
        `tuple`: the entries without their vectors, their text features and their image features, of which rows of
            zeros
        stand for what an entry has not.
    """
    entries, texts, images = [], [], []
    for document in documents:
        spans, read = _spans(encoder, document, overlap, headings)
        count = len(images)
        if encoder.image:
            images.extend(document.images)
        # Every image stands with the first span; further spans stand with the first image, as UniIR's pairs do.
        shown = list(range(count, len(images))) or [-1]
        pairs = [(0, image) for image in shown] + [(span, shown[0]) for span in range(1, len(spans))]
        for span, image in pairs:
            begin, end = spans[span]
            entries.append(
                {
                    "document": document.id,
                    "content": document.content,
                    "group": document.group,
                    "source": document.source,
                    "licence": document.licence,
                    "title": document.title,
                    "text": document.text[begin:end],
                    "begin": begin,
                    "end": end,
                    "images": list(document.all_images),
                    "file": document.file,
                    "row": document.row,
                    "has_text": True,
                    "has_image": image >= 0,
                    "_text": len(texts) + span,
                    "_image": image,
                }
            )
        texts.extend(read)
    text_rows = _gathered(encoder.text, "encode_texts", texts, [entry.pop("_text") for entry in entries])
    image_rows = _gathered(encoder.image, "encode_images", images, [entry.pop("_image") for entry in entries])
    return entries, text_rows, image_rows


def _spans(
    encoder: Encoder, document: Document, overlap: int, headings: bool
) -> tuple[list[tuple[int, int]], list[str]]:
    title = ""
    window = encoder.text.window
    if headings and document.title:
        places = encoder.text.offsets(document.title)[: window // _TITLE_SHARE]
        title = document.title[: places[-1][1]] + "\n" if places else ""
    room = window - len(encoder.text.offsets(title)) - (2 if title else 0)
    spans = chunk_spans(
        document.text, encoder.text.offsets, room, min(overlap, room // _OVERLAP_SHARE), headings=headings
    )
    if not spans:
        raise SemiHVError(f"The document {document.id} holds no word that can be read.", "Leave it out.")
    return spans, [title + document.text[begin:end] for begin, end in spans]


def _gathered(side: Any, method: str, items: list, index: list[int]) -> np.ndarray:
    """The features of each entry's item; zeros where it has none."""
    rows = np.zeros((len(index), side.dim if side else 0), np.float32)
    if side and items:
        features = getattr(side, method)(items)
        chosen = np.asarray(index)
        rows[chosen >= 0] = features[chosen[chosen >= 0]]
    return rows


def write_segment(
    path: Path, entries: Sequence[dict], text: np.ndarray, image: np.ndarray, header: dict[str, str]
) -> None:
    """Writes a segment, all at once.

    Args:
        path (`pathlib.Path`): the file.
        entries (`Sequence[dict]`): from [`encode_documents`].
        text (`numpy.ndarray`): their text features.
        image (`numpy.ndarray`): their image features.
        header (`dict[str, str]`): what tells it apart, see [`segment_header`].
    """
    import pyarrow

    fixed = [("text_features", text), ("image_features", image)]
    fields = [*_fields(), *(pyarrow.field(n, pyarrow.list_(pyarrow.float32(), m.shape[1])) for n, m in fixed)]
    schema = pyarrow.schema(fields, metadata={_KEY + b"." + key.encode(): header[key] for key in sorted(header)})
    columns = [pyarrow.array([entry[field.name] for entry in entries], field.type) for field in _fields()]
    for name, matrix in fixed:
        values = pyarrow.array(np.ascontiguousarray(matrix).ravel(), pyarrow.float32())
        kind = schema.field(name).type
        columns.append(
            pyarrow.FixedSizeListArray.from_arrays(values, type=kind)
            if matrix.shape[1]
            else pyarrow.nulls(len(entries), kind)
        )
    with atomic_file(path, "wb") as file, pyarrow.ipc.new_file(file, schema) as writer:
        writer.write_batch(pyarrow.record_batch(columns, schema=schema))


def _fields() -> list:
    import pyarrow

    string, whole, yes = pyarrow.string(), pyarrow.int32(), pyarrow.bool_()
    kinds = {"begin": whole, "end": whole, "row": whole, "has_text": yes, "has_image": yes}
    names = "document content group source licence title text begin end images file row has_text has_image".split()
    return [pyarrow.field(n, pyarrow.list_(string) if n == "images" else kinds.get(n, string)) for n in names]


def segment_header(path: Path) -> dict[str, str] | None:
    """What a segment says of itself.

    Args:
        path (`pathlib.Path`): the file.

    Returns:
        `dict[str, str]`: its header; `None` where there is no such file.
    """
    if not path.is_file():
        return None
    return Segment(path).header


def documents_digest(documents: Sequence[Document]) -> str:
    """A name for a list of documents.

    Args:
        documents (`Sequence[Document]`): in their order.

    Returns:
        `str`: 32 hex digits.
    """
    return content_id(*(f"{item.content} {item.file} {item.row} {len(item.images)}" for item in documents))


class Segment:
    """A segment on the disk, of which only what is looked at is read.

    Args:
        path (`pathlib.Path`): the file.

    Raises:
        `SemiHVError`: it is missing or damaged.
    """

    def __init__(self, path: Path):
        import pyarrow

        try:
            source = pyarrow.memory_map(str(path))
            self.batch = pyarrow.ipc.open_file(source).get_batch(0)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise SemiHVError(
                f"The index file {path.name} is damaged or missing.", "Build the index again."
            ) from error
        start = _KEY + b"."
        metadata = self.batch.schema.metadata or {}
        self.header = {k[len(start) :].decode(): v.decode() for k, v in metadata.items() if k.startswith(start)}

    def __len__(self) -> int:
        return self.batch.num_rows

    def column(self, name: str) -> list:
        """The values of a column."""
        return self.batch.column(name).to_pylist()

    def rows(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Some columns of some rows."""
        picked = self.batch.select(list(columns)).take(np.asarray(rows, np.int64))
        return iter(picked.to_pylist())

    def features(self, side: str) -> np.ndarray:
        """The features of all entries, not copied: shape (n, d), d = 0 where the encoder lacks the side."""
        column = self.batch.column(f"{side}_features")
        width = column.type.list_size
        if not width:
            return np.zeros((len(self), 0), np.float32)
        return column.values.to_numpy(zero_copy_only=True).reshape(-1, width)[
            column.offset : column.offset + len(self)
        ]

    def mask(self, name: str) -> np.ndarray:
        """A column of truth values."""
        return self.batch.column(name).to_numpy(zero_copy_only=False)
