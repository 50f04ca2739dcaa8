"""PubMedVision (Hub `FreedomIntelligence/PubMedVision`, card; arXiv 2406.19280 section 3 and appendix B).

GPT-4V wrote two conversations for each of 647,031 figures or groups of figures from PubMed Central: a description for
alignment, asked for in one of a few wordings, and a question with its answer in one of ten scenarios. Images are in
twenty archives, `images_0.zip` to `images_19.zip`, from which about nine are missing. The Chinese list is a
translation with both conversations in one row.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...errors import SemiHVError
from ..messages import message
from ..schema import Text
from ..sharegpt import Conversation, Malformed, read_row
from ..tables import DiskTable
from .conversations import DESCRIBE_IMAGE, DESCRIBE_IMAGES, wording
from .modality_words import stated_facts
from .sharegpt_source import Row, ShareGptSource, conversation_text, joined_rows, listed_rows, task_of, writers

_FILES = {
    "alignment": "PubMedVision_Alignment_VQA.json",
    "instruction": "PubMedVision_InstructionTuning_VQA.json",
    "chinese": "PubMedVision_Chinese.json",
    "captions": "PubMedVision_Original_Caption.json",
}
_MODEL = "gpt-4-turbo-2024-04-09"
# The keys of the Chinese list.
_CHINESE = {"alignment": "Alignment_VQA_conversations", "instruction": "Instruction-Tuning_VQA_conversations"}


class PubMedVision(ShareGptSource):
    """Rows {id, image: list, conversations, modality, body_part}, with the captions of the articles joined to them.

    Args:
        root (`str` or `pathlib.Path`): the folder with the lists, and the archives or an unpacked `images/`.
        parts (`Sequence[str]`, *optional*): which lists become cases: `"alignment"`, `"instruction"`, `"chinese"`,
            `"captions"` (a description of each figure in the article's own words). By default those of conversations
            that are there; the captions where there is nothing else.
        held_out (`float`, *optional*, defaults to 0.0): the share of figures that go to the test split, with all
            their conversations.
        seed (`int`, *optional*, defaults to 0): chooses those figures.

    Raises:
        `SemiHVError`: the folder holds none of the lists, or not one that is asked for.
    """

    name: ClassVar[str] = "pubmedvision"
    layout: ClassVar[tuple[tuple[str, str], ...]] = (
        (" | ".join(_FILES.values()), "one list of conversations or several"),
        ("images*", "the archives of images, or a folder with them"),
    )

    def __init__(self, root: str | Path, *, parts: Sequence[str] | None = None, held_out: float = 0.0, seed: int = 0):
        super().__init__(root, held_out=held_out, seed=seed)
        there = [part for part, file in _FILES.items() if self.release.first(file)]
        usual = [part for part in there if part != "captions"] or there
        self.parts = usual if parts is None else [parts] if isinstance(parts, str) else list(parts)
        for part in self.parts:
            if part not in there:
                raise SemiHVError(f"There is no part {part!r} in the folder.", f"Found: {', '.join(there)}.")
        self._captions: DiskTable | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_captions": None}  # an open table does not travel

    def files(self) -> list[str]:
        """The lists of the chosen parts."""
        return [_FILES[part] for part in self.parts]

    def metadata(self) -> list[str]:
        """The lists that are read, with the captions."""
        return sorted({*self.files(), *self.release.find(_FILES["captions"])})

    def rows(self, file: str) -> Iterator[tuple[str, Any]]:
        """The rows of a list; a Chinese row gives two, one for each of its conversations."""
        for place, row in listed_rows(self.release, file):
            kept = {key: value for key, value in row.items() if key not in _CHINESE.values()} if _is(row) else {}
            split = [(part, key) for part, key in _CHINESE.items() if _is(row) and key in row]
            if file != _FILES["chinese"] or not split:
                yield place, row
            for part, key in split if file == _FILES["chinese"] else ():
                yield (
                    f"{place}/{part}",
                    {
                        **kept,
                        "id": f"{self.place_of(place, row)}/{part}",
                        "conversations": row[key],
                        "part": part,
                    },
                )

    def prepare(self) -> None:
        """Reads the articles' captions into a table on disk, by the images that they describe."""
        file = self.release.first(_FILES["captions"])
        rows = joined_rows(self.release, file) if file and self.parts != ["captions"] else ()
        self._captions = DiskTable((_key(row.get("image")), _caption(row)) for row in rows if _caption(row))

    def finish(self) -> None:
        """Deletes the table."""
        if self._captions is not None:
            self._captions.close()
        self._captions = None

    def understand(self, file: str, place: str, row: Any) -> Row | Malformed:
        """One conversation about the images of a figure."""
        caption = _caption(row) if _is(row) else None
        if file == _FILES["captions"]:
            conversation = _describe(row, caption)
        else:
            conversation = read_row(row)
        if isinstance(conversation, Malformed):
            return conversation
        part = row.get("part") or next(part for part, known in _FILES.items() if known == file)
        language = "zh" if file == _FILES["chinese"] else "en"
        task = "caption" if part in ("alignment", "captions") else task_of(conversation)
        asked, answered = {"alignment": ("rule", "machine"), "captions": ("rule", "human")}.get(
            part, ("machine", "machine")
        )
        # The wordings of the alignment questions were chosen by rule; in Chinese a model translated them.
        asked = "machine" if language == "zh" else asked
        wrote = writers(conversation, asked, answered)
        texts = [conversation_text(conversation, task, wrote, model=_MODEL, language=language)]
        caption = caption or self._captions.get(_key(conversation.images))
        texts += [Text("caption", caption, "human")] if caption else []
        facts = stated_facts(row, file)
        images = [[name] for name in conversation.images]
        return Row(images, texts, _figure(conversation.images) or self.place_of(place, row), facts)


def _describe(row: Any, caption: str | None) -> Conversation | Malformed:
    """A caption as an answer to a request for a description."""
    if not _is(row):
        return Malformed("the row is not an object")
    if not caption:
        return Malformed("the row has no caption", "missing text")
    images = _listed(row.get("image"))
    if not images:
        return Malformed("no image is named", "missing image")
    question = wording(_key(images), DESCRIBE_IMAGE if len(images) == 1 else DESCRIBE_IMAGES)
    return Conversation(images, [message("user", question, len(images)), message("assistant", caption)])


def _is(row: Any) -> bool:
    return isinstance(row, dict)


def _caption(row: dict[str, Any]) -> str | None:
    stated = next((row[key] for key in ("Original_Caption", "original_caption", "caption") if key in row), None)
    return stated.strip() or None if isinstance(stated, str) else None


def _listed(image: Any) -> list[str]:
    names = [image] if isinstance(image, str) else image if isinstance(image, list) else []
    return [name for name in names if isinstance(name, str) and name]


def _key(image: Any) -> str:
    return "\n".join(_listed(image))


def _figure(images: Sequence[str]) -> str | None:
    """What is common to the images of a row: images/pmc_<figure>_<number>.jpg."""
    found = re.match(r"(.*?pmc_\d+)_\d+\.\w+$", images[0]) if images else None
    return Path(found[1]).name if found else images[0] if images else None
