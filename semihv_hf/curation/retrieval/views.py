"""Views: what ranks the entries of a corpus by text, by image, or by both, and the table that finds a document."""

from pathlib import Path
from typing import Any

import numpy as np

from . import vector_index
from .index_files import VIEWS, CorpusFiles, document_key, save_array, view_vectors


def build_views(
    files: CorpusFiles, old: dict[str, Any] | None, *, shared: bool, normalise: bool
) -> dict[str, dict[str, Any]]:
    """Makes the views of a corpus, or adds its new entries to those that are there.

    Args:
        files ([`CorpusFiles`]): all segments of the corpus, new ones last.
        old (`dict`, *optional*): what the manifest said about the corpus before.
        shared (`bool`): see [`fusion.fuse`].
        normalise (`bool`): see [`fusion.fuse`].

    Returns:
        `dict`: `kind`, `vectors`, `file` and `rows` by view; a view of nothing is left out.
    """
    made = {}
    for view in VIEWS:
        ours = {"shared": shared, "normalise": normalise}
        count = sum(
            len(view_vectors(files.segment(n), view, **ours)[0]) for n in range(len(files.written["segments"]))
        )
        if count:
            made[view] = _build_view(files, view, count, (old or {}).get("views", {}).get(view), old, ours)
    return made


def _build_view(files: CorpusFiles, view: str, count: int, before: dict | None, old: dict | None, ours: dict) -> dict:
    kind = vector_index.kind_for(count)
    folder = files.folder / "views"
    index, rows, first = None, [], 0
    if before and before["kind"] == kind:
        index = vector_index.read(folder / before["file"], mapped=False)
        rows.append(np.load(folder / before["rows"]))
        first = len(old["segments"])
    start = sum(segment["entries"] for segment in files.written["segments"][:first])
    for number in range(first, len(files.written["segments"])):
        segment = files.segment(number)
        inside, vectors = view_vectors(segment, view, **ours)
        if index is None:
            index = vector_index.new_index(kind, vectors.shape[1])
        vector_index.add(index, vectors)
        rows.append(start + inside)
        start += len(segment)
    name = f"{files.name}-{view}-{kind}-{len(files)}"
    vector_index.write(index, folder / f"{name}.faiss")
    save_array(folder / f"{name}.rows.npy", np.concatenate(rows).astype(np.int64))
    return {"kind": kind, "vectors": count, "file": f"{name}.faiss", "rows": f"{name}.rows.npy"}


def write_documents(files: CorpusFiles) -> dict[str, Any]:
    """Writes where each document's first entry stands.

    Args:
        files ([`CorpusFiles`]): all segments of the corpus.

    Returns:
        `dict`: `documents` (how many) and `file` (what their names begin with).
    """
    keys, rows, start = [], [], 0
    for number in range(len(files.written["segments"])):
        names = files.segment(number).column("document")
        firsts = [row for row, name in enumerate(names) if row == 0 or name != names[row - 1]]
        keys.append(np.array([document_key(names[row]) for row in firsts], "S16"))
        rows.append(start + np.array(firsts, np.int64))
        start += len(names)
    all_keys, all_rows = np.concatenate(keys), np.concatenate(rows)
    order = np.argsort(all_keys, kind="stable")
    name = f"{files.name}-documents-{len(files)}"
    folder: Path = files.folder / "views"
    save_array(folder / f"{name}.keys.npy", all_keys[order])
    save_array(folder / f"{name}.rows.npy", all_rows[order])
    return {"documents": len(order), "file": name}
