"""Nearest neighbours by inner product, with faiss: exact for small sets, a graph or lists of clusters for large ones.

`benchmarks/retrieval_index.py` measures the kinds against each other; the settings here are those that it chose.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from semihv_hf.errors import SemiHVError
from semihv_hf.files import sync_folder

FLAT_LIMIT = 50_000
KINDS = ("flat", "hnsw", "ivf")
# HNSW: links per vector, and how many candidates are kept while building and searching.
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 16, 128, 32
# IVF: lists per square root of the number of vectors, and lists looked at.
LISTS_PER_ROOT, PROBES = 4, 16
_TRAINING_ROWS_PER_LIST = 48


def import_faiss():
    """faiss, or an error that says how to get it.

    Returns:
        `module`: faiss.

    Raises:
        `SemiHVError`: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise SemiHVError("Retrieval needs faiss.", "Install it: pip install 'semihv-hf[curate]'") from error
    return faiss


def kind_for(rows: int) -> str:
    """The kind of index for a number of vectors.

    Args:
        rows (`int`): the number of vectors.

    Returns:
        `str`: `"flat"` below `FLAT_LIMIT`, else `"hnsw"`.
    """
    return "flat" if rows < FLAT_LIMIT else "hnsw"


def new_index(kind: str, dim: int, sample: np.ndarray | None = None, rows: int = 0):
    """An empty index.

    Args:
        kind (`str`): one of `KINDS`.
        dim (`int`): the length of a vector.
        sample (`numpy.ndarray`, *optional*): vectors to find clusters in, for `"ivf"`.
        rows (`int`, *optional*, defaults to 0): how many vectors there will be, for `"ivf"`.

    Returns:
        `faiss.Index`: it ranks by inner product.
    """
    faiss = import_faiss()
    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
        index.hnsw.efSearch = SEARCH_WIDTH
        return index
    if kind != "ivf":
        raise SemiHVError(f"Unknown kind of index {kind!r}.", f"Known are: {', '.join(KINDS)}.")
    lists = list_count(rows)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.max_points_per_centroid = 1234, _TRAINING_ROWS_PER_LIST
    index.nprobe = PROBES
    with one_thread():
        index.train(np.ascontiguousarray(sample, np.float32))
    return index


def list_count(rows: int) -> int:
    """How many lists of clusters a number of vectors is put into."""
    return max(1, int(LISTS_PER_ROOT * rows**0.5))


def add(index, vectors: np.ndarray) -> None:
    """Adds vectors on one thread, so that the same vectors in the same order make the same bytes.

    Args:
        index (`faiss.Index`): changed in place.
        vectors (`numpy.ndarray`): float32 of length 1, shape (n, d).
    """
    with one_thread():
        index.add(np.ascontiguousarray(vectors, np.float32))


def search(index, vectors: np.ndarray, count: int) -> np.ndarray:
    """The nearest vectors.

    Args:
        index (`faiss.Index`): the index.
        vectors (`numpy.ndarray`): float32 of length 1, shape (n, d).
        count (`int`): how many to look for.

    Returns:
        `numpy.ndarray`: their numbers, the nearest first, shape (n, count); -1 where nothing more was found.
    """
    faiss = import_faiss()
    vectors = np.ascontiguousarray(vectors, np.float32)
    parameters = None
    found = faiss.downcast_index(index)
    if isinstance(found, faiss.IndexHNSW) and count > found.hnsw.efSearch:
        # A graph finds no more than it keeps in view.
        parameters = faiss.SearchParametersHNSW(efSearch=int(count))
    elif isinstance(found, faiss.IndexIVF) and count > SEARCH_WIDTH:
        probes = min(found.nlist, found.nprobe * -(-count // SEARCH_WIDTH))
        parameters = faiss.SearchParametersIVF(nprobe=int(probes))
    return index.search(vectors, int(count), params=parameters)[1]


def write(index, path: Path) -> None:
    """Writes an index, all at once.

    Args:
        index (`faiss.Index`): the index.
        path (`pathlib.Path`): the file; its folder is made.
    """
    faiss = import_faiss()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        faiss.write_index(index, str(temporary))
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def read(path: Path, *, mapped: bool = True):
    """Opens an index.

    Args:
        path (`pathlib.Path`): the file.
        mapped (`bool`, *optional*, defaults to `True`): map its vectors instead of reading them; it cannot be added
            to.

    Returns:
        `faiss.Index`: the index.

    Raises:
        `SemiHVError`: it is missing or damaged.
    """
    faiss = import_faiss()
    # Lists of clusters have a way of their own to be mapped.
    flags = (faiss.IO_FLAG_MMAP if "ivf" in path.name else faiss.IO_FLAG_MMAP_IFC) if mapped else 0
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise SemiHVError(f"The index file {path.name} is damaged or missing.", "Build the index again.") from error


@contextmanager
def one_thread() -> Iterator[None]:
    """faiss on one thread within the block."""
    faiss = import_faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
