"""What can be retrieved: documents with their source, licence and, for cases, images."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from semihv_hf.curation.stated import SEEN, stated_lines
from semihv_hf.data.schema import content_id
from semihv_hf.errors import SemiHVError

# A person wrote or corrected it; what a rule or a model wrote is no expert's finding.
EXPERT = ("human", "human_edit")
_COLUMNS = ("id", "source", "source_id", "group", "licence", "images", "texts", "facts")
# Which texts of a case are searched: what people wrote, or, where they wrote nothing, also what its source states.
CASE_TEXTS = ("expert", "stated")
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Document:
    """One text of a corpus, with the images that belong to it.

    Args:
        id (`str`): its name within the corpus.
        source (`str`): its name in the licence registry.
        licence (`str`): the licence that its source states.
        title (`str`): its name for people.
        text (`str`): the text.
        group (`str`, *optional*, defaults to `""`): see [`group_key`]; documents of one group are siblings.
        images (`tuple[bytes, ...]`, *optional*): encoded images that are searched.
        all_images (`tuple[str, ...]`, *optional*): the [`image_key`]s of all its images.
        file (`str`, *optional*, defaults to `""`): the file that holds it, relative to the corpus's folder.
        row (`int`, *optional*, defaults to -1): its row there.
    """

    id: str
    source: str
    licence: str
    title: str
    text: str
    group: str = ""
    images: tuple[bytes, ...] = ()
    all_images: tuple[str, ...] = ()
    file: str = ""
    row: int = -1

    @property
    def content(self) -> str:
        """A name that changes with everything that is searched or shown."""
        return content_id(self.id, self.source, self.licence, self.title, self.text, self.group, *self.all_images)


class Corpus(Protocol):
    """Something to retrieve from.

    Args:
        name (`str`): what evidence says it comes from, for example `"guidelines"`.
        folder (`pathlib.Path`, *optional*): where the images of its documents lie.
        headings (`bool`): its texts are long documents with a title and Markdown headings; the title is then read with
            every part of the text.
    """

    name: str
    folder: Path | None
    headings: bool

    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order."""
        ...


@dataclass(frozen=True)
class CasesFolder:
    """The cases of a folder that `semihv build` or `semihv curate` wrote, searched by findings and images.

    A case without such a text is left out: it would give a writer nothing to learn from.

    Args:
        folder (`pathlib.Path`): the folder.
        name (`str`, *optional*, defaults to `"cases"`): the corpus.
        images (`str`, *optional*, defaults to `"first"`): `"first"`, or `"all"` to make an entry of every image.
        splits (`tuple[str, ...]`, *optional*, defaults to `("train",)`): the splits; evidence from a test split would
            leak what is tested.
        texts (`str`, *optional*, defaults to `"expert"`): `"expert"` for what people wrote, or `"stated"` to take, of
            cases about which nobody wrote, the facts that their source states, such as `modality: MRI`.
    """

    folder: Path
    name: str = "cases"
    images: str = "first"
    splits: tuple[str, ...] = ("train",)
    texts: str = "expert"
    headings: bool = False

    def documents(self) -> Iterator[Document]:
        """The cases, in the order of the files."""
        from semihv_hf.data.dataset_rows import column_batches, row_files

        if self.images not in ("first", "all"):
            raise SemiHVError(f"Unknown choice of images {self.images!r}.", 'Use "first" or "all".')
        if self.texts not in CASE_TEXTS:
            raise SemiHVError(f"Unknown choice of texts {self.texts!r}.", 'Use "expert" or "stated".')
        folder = Path(self.folder)
        if not folder.is_dir():
            raise SemiHVError(f"There is no cases folder {folder}.", "Build one with `semihv build`.")
        files = [file for file in row_files(folder) if "texts" in file.columns and "source_id" in file.columns]
        if not files:
            raise SemiHVError(f"{folder} holds no cases.", "Give a folder that `semihv build` wrote.")
        for file in files:
            split = file.path.stem.partition("-")[0]
            if split not in self.splits:
                continue
            row = 0
            for batch in column_batches(file, _COLUMNS, _ROWS_AT_ONCE):
                for item in batch:
                    document = self._document(item, file.path.relative_to(folder).as_posix(), row)
                    row += 1
                    if document.text:
                        yield document

    def _document(self, row: Mapping[str, Any], file: str, number: int) -> Document:
        pictures = [image["bytes"] for image in row["images"] or []]
        text = expert_text(row["texts"] or [])
        if not text and self.texts == "stated":
            text = stated_text(row["facts"] or [])
        return Document(
            id=row["id"],
            source=row["source"],
            licence=row["licence"],
            title=f"{row['source']} {row['source_id']}",
            text=text,
            group=group_key(row["source"], row["group"]),
            images=tuple(pictures if self.images == "all" else pictures[:1]),
            all_images=tuple(image_key(data) for data in pictures),
            file=file,
            row=number,
        )


def expert_text(texts: Sequence[Mapping[str, Any]]) -> str:
    """What people wrote about a case: the document that the spans of evidence count in.

    Args:
        texts (`Sequence[Mapping]`): texts as rows, see [`semihv_hf.data.schema.Text`].

    Returns:
        `str`: the experts' texts in their order, apart by a blank line.
    """
    return "\n\n".join(text["text"].strip() for text in texts if text["annotation"] in EXPERT and text["text"].strip())


def stated_text(facts: Sequence[Mapping[str, Any]]) -> str:
    """What the source of a case states about what is seen.

    Args:
        facts (`Sequence[Mapping]`): facts as rows, see [`semihv_hf.data.schema.Fact`].

    Returns:
        `str`: lines such as `"body part: abdomen"`, in the order of the case.
    """
    return "\n".join(stated_lines(((fact["name"], fact["value"]) for fact in facts), SEEN))


def group_key(source: str, group: str) -> str:
    """A patient or study across all sources: two sources may use the same number for two patients.

    Args:
        source (`str`): the release.
        group (`str`): its patient, study or film.

    Returns:
        `str`: the name, `""` where the source names no group.
    """
    return f"{source}\n{group}" if group else ""


def image_key(data: bytes) -> str:
    """A name for an image file.

    Args:
        data (`bytes`): an encoded image.

    Returns:
        `str`: the first 32 hex digits of its sha256.
    """
    return hashlib.sha256(data).hexdigest()[:32]
