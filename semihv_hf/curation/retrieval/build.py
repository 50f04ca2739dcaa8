"""Builds an index, or adds to one: what is encoded once is not encoded again, and a killed build goes on where it
stopped."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json
from semihv_hf.packages import file_sha256

from .corpora import Corpus, Document
from .encoders import DEFAULT_ENCODER, Encoder, load_encoder
from .exclusions import Exclusions
from .index_files import FORMAT, MANIFEST, CorpusFiles, document_key, read_manifest
from .segments import documents_digest, encode_documents, segment_header, write_segment
from .views import build_views, write_documents

DOCUMENTS_PER_SEGMENT = 256
OVERLAP = 32
_TASKS_PER_WORKER = 4


@dataclass(frozen=True)
class _Work:
    """What every process needs to know to encode a segment."""

    folder: Path
    encoder: str
    options: tuple[tuple[str, Any], ...]
    fingerprint: str
    overlap: int
    corpus: str
    headings: bool
    images_in: str


def build_index(
    out_dir: str | Path,
    corpora: Sequence[Corpus],
    encoder: str = DEFAULT_ENCODER,
    *,
    overlap: int = OVERLAP,
    normalise: bool | None = None,
    exclude: Exclusions | None = None,
    device: str = "cpu",
    batch_size: int = 1,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    engine: str = "local",
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Makes an index of corpora, or adds what is new in them to the index that is there.

    Killed at any point and called again with the same arguments it writes the same bytes as an undisturbed run.

    Args:
        out_dir (`str` or `pathlib.Path`): the index.
        corpora (`Sequence[Corpus]`): what to put into it. A document that it holds already is not read again; one
            whose id it holds with another content is refused.
        encoder (`str`, *optional*, defaults to `"minilm+thumbnail"`): see [`load_encoder`].
        overlap (`int`, *optional*, defaults to 32): tokens that the spans of a long text share, at most a quarter of
            the encoder's window.
        normalise (`bool`, *optional*): bring the text and the image feature to length 1 before they are fused. By
            default only where they come from two spaces; UniIR does not.
        exclude ([`Exclusions`], *optional*): documents that must not get into the index, such as benchmark items.
        device (`str`, *optional*, defaults to `"cpu"`): where torch computes.
        batch_size (`int`, *optional*, defaults to 1): items at a time; more than 1 makes the last bits of a vector
            depend on its neighbours.
        revision (`str`, *optional*): a branch, tag or commit of an encoder on the Hub.
        cache_dir (`str` or `pathlib.Path`, *optional*): where fetched packages are kept.
        engine (`str`, *optional*, defaults to `"local"`): or `"ray"`; see `semihv_hf.data.engines`.
        workers (`int`, *optional*, defaults to 1): processes that encode.
        overwrite (`bool`, *optional*, defaults to `False`): build anew what is there.
        progress (`Callable[[str, int], None]`, *optional*): called with the corpus and the number of documents done.

    Returns:
        `dict`: for every corpus `documents`, `entries`, `new` (documents), `excluded` and `views`.

    Raises:
        `SemiHVError`: a corpus is empty or unreadable, or the index was built with another encoder or other settings.
    """
    folder = Path(out_dir).resolve()  # processes elsewhere may have another working folder
    names = [corpus.name for corpus in corpora]
    if not names or any(not name.isidentifier() for name in names):
        raise SemiHVError("An index needs corpora with plain names.", "Give guidelines, cases or both.")
    loaded = load_encoder(encoder, device=device, batch_size=batch_size, revision=revision, cache_dir=cache_dir)
    loaded.need("text")
    if overwrite:
        _remove(folder)
    settings = _settings(loaded, overlap, normalise)
    old = _old_manifest(folder, settings)
    options = {"device": device, "batch_size": batch_size, "revision": revision, "cache_dir": cache_dir}
    written = dict(old["corpora"]) if old else {}
    report = {}
    # Corpora of one name (two cases folders) are one corpus, in the order given.
    for name in dict.fromkeys(names):
        added = _Added(name, written.get(name), folder, exclude or Exclusions())
        for corpus in (item for item in corpora if item.name == name):
            work = _Work(
                folder, encoder, tuple(options.items()), loaded.fingerprint, overlap, name, corpus.headings,
                _relative(corpus.folder, folder),
            )  # fmt: skip
            added.encode(corpus, work, engine, workers, progress)
        written[name] = added.finish(loaded.shared, settings["normalise"])
        report[name] = added.report(written[name])
    write_json(folder / MANIFEST, {**settings, "corpora": {name: written[name] for name in sorted(written)}})
    _clean(folder, written)
    return report


class _Added:
    """A corpus while documents are added to it."""

    def __init__(self, name: str, written: dict | None, folder: Path, exclude: Exclusions):
        self.name, self.folder, self.exclude = name, folder, exclude
        self.old = written
        self.segments = list(written["segments"]) if written else []
        self.known = CorpusFiles(folder, name, written) if written else None
        self.seen: dict[bytes, str] = {}
        self.new = self.repeated = self.excluded = 0

    def encode(self, corpus: Corpus, work: _Work, engine: str, workers: int, progress) -> None:
        """Writes a segment for every few new documents."""
        from semihv_hf.data.engines import engine as open_engine

        documents = self._new_documents(corpus)
        with open_engine(engine, workers) as engines:
            while True:
                tasks = []
                for batch in islice(_batches(documents, DOCUMENTS_PER_SEGMENT), _TASKS_PER_WORKER * workers):
                    tasks.append((len(self.segments) + len(tasks), batch))
                if not tasks:
                    return
                done = {task[0]: result for task, result in engines.run(partial(_encode_segment, work), tasks)}
                for number, batch in tasks:
                    self.segments.append(done[number])
                    self.new += len(batch)
                if progress:
                    progress(self.name, self.new)

    def _new_documents(self, corpus: Corpus) -> Iterator[Document]:
        for document in corpus.documents():
            content = self._content_of(document.id)
            if content is not None:
                if content != document.content:
                    raise SemiHVError(
                        f"{document.id} is in the corpus {self.name} already, with another content.",
                        "Build the index anew with --overwrite.",
                    )
                self.repeated += 1
            elif self.exclude.forbid_document(document):
                self.excluded += 1
            else:
                self.seen[document_key(document.id)] = document.content
                yield document

    def _content_of(self, document: str) -> str | None:
        if (content := self.seen.get(document_key(document))) is not None or self.known is None:
            return content
        row = self.known.row_of(document)
        return None if row is None else self.known.entries([row], ["content"])[0]["content"]

    def finish(self, shared: bool, normalise: bool) -> dict[str, Any]:
        """Makes the views and returns what the manifest says about the corpus."""
        if not self.segments:
            left_out = f" ({self.excluded} were excluded)" if self.excluded else ""
            raise SemiHVError(
                f"The corpus {self.name} holds no documents{left_out}.",
                "Check its folder or file; cases count if a person wrote about them (--case-texts stated: all cases).",
            )
        if self.old and not self.new:
            return self.old
        files = CorpusFiles(self.folder, self.name, {"segments": self.segments})
        views = build_views(files, self.old, shared=shared, normalise=normalise)
        return {"segments": self.segments, "views": views, "documents": write_documents(files)}

    def report(self, written: dict[str, Any]) -> dict[str, Any]:
        return {
            "documents": written["documents"]["documents"],
            "entries": sum(segment["entries"] for segment in written["segments"]),
            "new": self.new,
            "known": self.repeated,
            "excluded": self.excluded,
            "views": {name: f"{view['kind']} {view['vectors']}" for name, view in written["views"].items()},
        }


def _encode_segment(work: _Work, task: tuple[int, list[Document]]) -> dict[str, Any]:
    number, documents = task
    path = work.folder / "segments" / f"{work.corpus}-{number:05d}.arrow"
    header = {
        "documents": documents_digest(documents),
        "encoder": work.fingerprint,
        "folder": work.images_in,
        "headings": str(work.headings),
        "overlap": str(work.overlap),
    }
    if segment_header(path) != header:
        encoder = _encoder(work.encoder, work.options)
        entries, text, image = encode_documents(encoder, documents, overlap=work.overlap, headings=work.headings)
        write_segment(path, entries, text, image, header)
    from .segments import Segment

    size = path.stat().st_size
    return {"file": path.name, "entries": len(Segment(path)), "bytes": size, "sha256": file_sha256(path)}


@lru_cache(maxsize=1)
def _encoder(name: str, options: tuple[tuple[str, Any], ...]) -> Encoder:
    """Loaded once a process."""
    return load_encoder(name, **dict(options))


def _settings(encoder: Encoder, overlap: int, normalise: bool | None) -> dict[str, Any]:
    sides = {side: getattr(encoder, side).dim if getattr(encoder, side) else 0 for side in ("text", "image")}
    return {
        "format": FORMAT,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "shared": encoder.shared, **sides},
        "normalise": (not encoder.shared) if normalise is None else normalise,
        "overlap": overlap,
    }


def _old_manifest(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    old = read_manifest(folder)
    if old is None:
        _refuse_strange(folder)
        return None
    was, now = old["encoder"], settings["encoder"]
    if was["fingerprint"] != now["fingerprint"]:
        raise SemiHVError(
            f"The index {folder} was built with the encoder {was['name']} ({was['fingerprint'][:8]}), "
            f"not {now['name']} ({now['fingerprint'][:8]}).",
            "Name that encoder, another folder, or --overwrite.",
        )
    for name in ("normalise", "overlap"):
        if old[name] != settings[name]:
            raise SemiHVError(
                f"The index {folder} was built with {name} {old[name]}, not {settings[name]}.",
                "Give the same settings, another folder, or --overwrite.",
            )
    return old


def _batches(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while batch := list(islice(documents, size)):
        yield batch


def _relative(images_in: Path | None, folder: Path) -> str:
    """Relative to the index, so that both may be moved together and the bytes name no machine's paths."""
    return "" if images_in is None else os.path.relpath(Path(images_in).resolve(), folder.resolve())


def _refuse_strange(folder: Path) -> None:
    """Only an index, or what a killed build of one left, may be changed."""
    ours = ("segments", "views")
    strange = (
        [p.name for p in folder.iterdir() if p.name not in ours and MANIFEST not in p.name] if folder.is_dir() else []
    )
    if strange:
        raise SemiHVError(f"{folder} holds {min(strange)} and is no index.", "Choose an empty folder.")


def _remove(folder: Path) -> None:
    """The manifest first: whoever is stopped here leaves no index, not half of one."""
    if not (folder / MANIFEST).is_file():
        _refuse_strange(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in ("segments", "views"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _clean(folder: Path, written: dict[str, Any]) -> None:
    """Removes what the new manifest does not name."""
    kept = {segment["file"] for corpus in written.values() for segment in corpus["segments"]}
    for corpus in written.values():
        kept.update(name for view in corpus["views"].values() for name in (view["file"], view["rows"]))
        kept.update(f"{corpus['documents']['file']}.{part}.npy" for part in ("keys", "rows"))
    for name in ("segments", "views"):
        for path in (folder / name).iterdir():
            if path.name not in kept:
                path.unlink()
    for path in folder.glob(f".{MANIFEST}.*.tmp"):  # of a build that was killed
        path.unlink()
