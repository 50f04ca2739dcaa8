"""What tests of the pipeline look at: the rows, the bytes and the answers of a curated folder."""

import hashlib
from pathlib import Path

import pyarrow.parquet

from semihv_hf.files import canonical_json
from semihv_hf.llm import ResponseCache
from semihv_hf.llm.keys import hashed_message


def rows(folder, pattern: str) -> list[dict]:
    """The rows of some tables of a dataset folder."""
    return [row for path in sorted(Path(folder).glob(pattern)) for row in pyarrow.parquet.read_table(path).to_pylist()]


def digests(folder) -> dict[str, str]:
    """Every file of a dataset folder, unfinished work aside."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and ".curate" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def answered(config) -> set[str]:
    """The requests whose answers are on the disk, by the hash of their messages."""
    if not config.answers_folder.exists():
        return set()
    with ResponseCache(config.answers_folder, read_only=True) as cache:
        return {cache.entry(key)["request"]["messages_sha256"] for key in cache.keys()}


def asked(body: dict) -> str:
    """The hash that the cache notes of the messages of a request."""
    hashed = [hashed_message(message) for message in body["messages"]]
    return hashlib.sha256(canonical_json(hashed).encode("utf-8", "surrogatepass")).hexdigest()
