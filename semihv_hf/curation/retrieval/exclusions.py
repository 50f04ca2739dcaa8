"""What may never be evidence: the case itself, its patient and study, near-duplicates, and every benchmark item."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semihv_hf.data.schema import content_id

from .corpora import expert_text, group_key, image_key

_COLUMNS = ("case_id", "source", "group", "images", "image")
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Exclusions:
    """Ids and contents that no query gets as evidence.

    Args:
        ids (`frozenset[str]`, *optional*): documents of a corpus.
        groups (`frozenset[str]`, *optional*): patients or studies, see [`group_key`].
        images (`frozenset[str]`, *optional*): [`image_key`]s.
        texts (`frozenset[str]`, *optional*): [`text_key`]s of whole texts.
    """

    ids: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """Changes with what is excluded."""
        digest = hashlib.sha256()
        for part in (self.ids, self.groups, self.images, self.texts):
            digest.update(content_id(*sorted(part)).encode())
        return digest.hexdigest()[:32]

    def __or__(self, other: "Exclusions") -> "Exclusions":
        return Exclusions(
            self.ids | other.ids, self.groups | other.groups, self.images | other.images, self.texts | other.texts
        )

    def forbid(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry may not be shown to anyone.

        Args:
            entry (`Mapping[str, Any]`): an entry of the index, with `document`, `group` and `images`.

        Returns:
            `bool`: `True` when it is excluded. Texts are compared when an index is built, not here.
        """
        return (
            entry["document"] in self.ids
            or (bool(entry["group"]) and entry["group"] in self.groups)
            or not self.images.isdisjoint(entry["images"])
        )

    def forbid_document(self, document: Any) -> bool:
        """Whether a document may not enter an index.

        Args:
            document ([`Document`]): the document.

        Returns:
            `bool`: `True` when its id, group, an image or its text is excluded.
        """
        entry = {"document": document.id, "group": document.group, "images": document.all_images}
        return self.forbid(entry) or (bool(self.texts) and text_key(document.text) in self.texts)


def benchmark_exclusions(folders: Iterable[str | Path]) -> Exclusions:
    """Everything that benchmark folders hold: ids, cases, images and texts.

    What only resembles a benchmark item is found by `semihv_hf.curation.decontaminate`, which gives ids.

    Args:
        folders (`Iterable[str or pathlib.Path]`): folders that `semihv benchmark` or `semihv build` wrote.

    Returns:
        [`Exclusions`]: about 100 bytes of memory an item.
    """
    from semihv_hf.data.dataset_rows import column_batches, row_files
    from semihv_hf.data.overlap_texts import TEXT_COLUMNS

    ids, groups, images, texts = set(), set(), set(), set()
    for folder in folders:
        for file in row_files(folder):
            for batch in column_batches(file, (*_COLUMNS, *TEXT_COLUMNS), _ROWS_AT_ONCE):
                for row in batch:
                    ids.update(value for key in ("id", "case_id") if (value := row.get(key)))
                    groups.add(group_key(row.get("source") or "", row.get("group") or ""))
                    images.update(_images(row))
                    texts.update(_texts(row))
    return Exclusions(frozenset(ids), frozenset(groups - {""}), frozenset(images), frozenset(texts))


def text_key(text: str) -> str:
    """A name for a text, the same whatever its punctuation, spaces and capitals.

    Args:
        text (`str`): the text.

    Returns:
        `str`: 32 hex digits.
    """
    from semihv_hf.data.overlap_texts import words_of

    return content_id(" ".join(words_of(text)))


def _images(row: Mapping[str, Any]) -> Iterable[str]:
    pictures = row.get("images") or ([row["image"]] if row.get("image") else [])
    return (image_key(item["bytes"]) for item in pictures if isinstance(item, Mapping) and item.get("bytes"))


# Short texts such as "Yes" or "No acute findings" are no sign of anything.
_FEW_WORDS = 12


def _texts(row: Mapping[str, Any]) -> Iterable[str]:
    from semihv_hf.data.overlap_texts import texts_of, words_of

    found: Sequence[str] = [*texts_of(row), expert_text(row.get("texts") or [])]
    return (text_key(text) for text in found if len(words_of(text)) >= _FEW_WORDS)
