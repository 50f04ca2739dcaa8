"""Signatures of the shards of dataset folders, each kept under the sha256 of the shard: what has not changed is read
again without decoding an image.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset_rows import RowFile, column_batches, row_files
from ..data.engines import engine
from ..data.overlap_texts import texts_of
from ..errors import SemiHVError
from ..files import atomic_file, canonical_json
from .image_signatures import IMAGE, USABLE, EmbeddingCheck, sign_image
from .text_signatures import PERMUTATIONS, SEED, SHINGLE, TEXT, TextSigner

_VERSION = 1
_COLUMNS = ("id", "source", "group", "images", "texts", "messages", "question", "options", "answer", "answer_type")
_ROWS_AT_ONCE = 32
_EXPERT = ("human", "human_edit")
_CASE = frozenset(("id", "source", "group", "images", "texts"))


@dataclass(frozen=True)
class Shard:
    """A file of rows and what it belongs to.

    Args:
        file ([`RowFile`]): the file.
        owner (`int`): 0 for the cases, from 1 on for the benchmarks.
        sha (`str`): the sha256 of its bytes.
    """

    file: RowFile
    owner: int
    sha: str


def case_files(folder: str | Path) -> list[RowFile]:
    """The files of a folder that hold cases.

    Args:
        folder (`str` or `pathlib.Path`): a folder that `semihv build` wrote.

    Returns:
        `list[RowFile]`: sorted by path.

    Raises:
        `SemiHVError`: there are none.
    """
    _need_folder(folder)
    files = [file for file in row_files(folder) if file.columns >= _CASE]
    return _need_rows(folder, files, "cases", "Give a folder with a config `cases`, as `semihv build` writes it.")


def record_files(folder: str | Path) -> list[RowFile]:
    """The files of a folder that hold records.

    Args:
        folder (`str` or `pathlib.Path`): a folder that `semihv build` or `semihv curate` wrote.

    Returns:
        `list[RowFile]`: sorted by path.

    Raises:
        `SemiHVError`: there are none.
    """
    _need_folder(folder)
    files = [file for file in row_files(folder) if "messages" in file.columns]
    return _need_rows(folder, files, "records", "Give a folder that `semihv curate` wrote.")


def benchmark_files(folder: str | Path) -> list[RowFile]:
    """The files of a benchmark's folder.

    Args:
        folder (`str` or `pathlib.Path`): a folder that `semihv benchmark` wrote, or another of held-out rows.

    Returns:
        `list[RowFile]`: sorted by path.

    Raises:
        `SemiHVError`: there are none, or they hold no rows.
    """
    _need_folder(folder)
    return _need_rows(folder, row_files(folder), "questions", "Write it again with `semihv benchmark`.")


def _need_folder(folder: str | Path) -> None:
    if not Path(folder).is_dir():
        raise SemiHVError(f"There is no folder {folder}.", "Check the path.")


def _need_rows(folder: str | Path, files: list[RowFile], what: str, hint: str) -> list[RowFile]:
    import pyarrow.parquet

    if not any(pyarrow.parquet.read_metadata(file.path).num_rows for file in files):
        raise SemiHVError(f"{folder} holds no {what}.", hint)
    return files


@dataclass
class Signer:
    """Makes the signatures of a shard, unless they are there. It can be sent to another process.

    Args:
        cache (`pathlib.Path`): the folder of signatures.
        min_words (`int`): see [`TextSigner`].
        embedding ([`EmbeddingCheck`], *optional*): gives vectors of images.
        tick (`Callable[[int], None]`, *optional*): is told how many rows were done; not sent to other processes.
    """

    cache: Path
    min_words: int
    embedding: EmbeddingCheck | None = None
    tick: Callable[[int], None] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "tick": None}

    def path(self, sha: str, what: str) -> Path:
        """Where signatures of a shard are kept.

        Args:
            sha (`str`): the shard.
            what (`str`): `"images.npy"`, `"texts.npy"`, `"vectors.npy"` or `"rows.parquet"`.

        Returns:
            `pathlib.Path`: depends on everything that the signatures depend on.
        """
        made_by = {"version": _VERSION, "packages": _versions()}
        if what == "texts.npy" or what == "rows.parquet":
            made_by |= {"min_words": self.min_words, "shingle": SHINGLE, "seed": SEED, "permutations": PERMUTATIONS}
        if what == "vectors.npy":
            made_by |= {"encoder": self.embedding.name}
        settings = hashlib.sha256(canonical_json(made_by).encode()).hexdigest()
        return self.cache / f"{sha[:40]}-{settings[:8]}.{what}"

    def is_done(self, shard: Shard) -> bool:
        """Whether the signatures of a shard are complete."""
        vectors = self.embedding is None or self.path(shard.sha, "vectors.npy").exists()
        return vectors and all(
            self.path(shard.sha, name).exists() for name in ("images.npy", "texts.npy", "rows.parquet")
        )

    def __call__(self, shard: Shard) -> int:
        """Makes them.

        Args:
            shard ([`Shard`]): the shard.

        Returns:
            `int`: its rows.
        """
        signer = TextSigner(self.min_words)
        columns: dict[str, list] = {name: [] for name in ("id", "source", "group", "images", "expert")}
        images, texts, vectors = [], [], []
        for rows in column_batches(shard.file, _COLUMNS, _ROWS_AT_ONCE):
            seen: list[tuple[str, list[bytes], list[bool]]] = []
            for row in rows:
                number = len(columns["id"])
                pictures = [image["bytes"] for image in row.get("images") or ()]
                signed = [sign_image(data, number) for data in pictures]
                images += signed
                usable = [bool(made["state"] == USABLE) for made in signed]
                if any(usable):
                    seen.append((row["id"], pictures, usable))
                written = list(_texts(row))
                texts += [
                    made for text, expert in written if (made := signer.sign(text, number, expert=expert)) is not None
                ]
                columns["id"].append(row["id"])
                columns["source"].append(row.get("source") or "")
                columns["group"].append(row.get("group") or "")
                columns["images"].append(len(pictures))
                columns["expert"].append(any(expert and text.strip() for text, expert in written))
            if self.embedding is not None and seen:
                vectors.append(self.embedding.embed(*zip(*seen)))
            if self.tick is not None:
                self.tick(len(rows))
        self._save(shard.sha, "images.npy", np.array(images, IMAGE) if images else np.zeros(0, IMAGE))
        self._save(shard.sha, "texts.npy", np.array(texts, TEXT) if texts else np.zeros(0, TEXT))
        if self.embedding is not None:
            self._save(shard.sha, "vectors.npy", np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float16))
        self._save_rows(shard.sha, columns)
        return len(columns["id"])

    def _save(self, sha: str, what: str, values: np.ndarray) -> None:
        with atomic_file(self.path(sha, what), "wb") as file:
            np.save(file, values)

    def _save_rows(self, sha: str, columns: dict[str, list]) -> None:
        import pyarrow
        import pyarrow.parquet

        text = pyarrow.string()
        types = {"id": text, "source": text, "group": text, "images": pyarrow.int32(), "expert": pyarrow.bool_()}
        with atomic_file(self.path(sha, "rows.parquet"), "wb") as file:
            pyarrow.parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(list(types.items()))), file)


def _texts(row: dict[str, Any]):
    """The texts of a row, and whether a person wrote them."""
    if row.get("texts") is not None:
        for text in row["texts"]:
            yield text["text"], text["annotation"] in _EXPERT
    else:
        for text in texts_of(row):
            yield text, False


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("pillow", "imagehash", "datasketch", "numpy")}


def sign_folders(
    folders: Sequence[Sequence[RowFile]], signer: Signer, *, engine_name: str, workers: int | None, bar: "Bar"
) -> list[Shard]:
    """Makes the signatures that are missing.

    Args:
        folders (`Sequence[Sequence[RowFile]]`): the files of the cases, then of each benchmark.
        signer ([`Signer`]): makes them.
        engine_name (`str`): see [`semihv_hf.data.engines.engine`].
        workers (`int`, *optional*): how many processes.
        bar ([`Bar`]): is told how far it is.

    Returns:
        `list[Shard]`: all shards, in the order of their owners and contents.
    """
    import pyarrow.parquet

    files = [(file, owner) for owner, group in enumerate(folders) for file in group]
    bar.start("checksums", len(files))
    shards = []
    for file, owner in files:
        shards.append(Shard(file, owner, _sha256(file.path)))
        bar.advance(1)
    shards.sort(key=lambda shard: (shard.owner, shard.sha, shard.file.split))
    missing = list({shard.sha: shard for shard in shards if not signer.is_done(shard)}.values())
    if missing:
        rows = {shard.sha: pyarrow.parquet.read_metadata(shard.file.path).num_rows for shard in missing}
        bar.start("signatures", sum(rows.values()))
        with engine(engine_name, workers) as made:
            here = getattr(made, "workers", None) == 1 or len(missing) == 1
            signer.tick = bar.advance if here and engine_name == "local" else None
            for _, done in made.run(signer, missing):
                if signer.tick is None:
                    bar.advance(done)
    return shards


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


class Bar:
    """What a terminal shows of a run of several steps."""

    def __init__(self, progress: Any | None):
        self._progress = progress
        self._task: Any = None

    def start(self, title: str, total: float) -> None:
        """Begins a step.

        Args:
            title (`str`): what is done.
            total (`float`): how much of it.
        """
        if self._progress is not None:
            self._task = self._progress.add_task(title, total=total)

    def advance(self, amount: float) -> None:
        """Adds to the step.

        Args:
            amount (`float`): what was done.
        """
        if self._progress is not None:
            self._progress.update(self._task, advance=amount)

    def set(self, share: float) -> None:
        """Says how far a step of total 1 is.

        Args:
            share (`float`): 0 to 1.
        """
        if self._progress is not None:
            self._progress.update(self._task, completed=share)


@contextmanager
def progress_bar(*, shown: bool):
    """A [`Bar`] on standard error for the length of a `with` block.

    Args:
        shown (`bool`): whether there is anything to see.

    Yields:
        [`Bar`]: what the steps report to.
    """
    if not shown:
        yield Bar(None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress)
