"""What the releases that are made of ShareGPT rows share: listing rows, and storing their conversations in cases."""

import itertools
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import SemiHVError
from ...files import canonical_json
from ..licences import source_licence
from ..release import Release
from ..schema import Case, Fact, Provenance, QuestionTurn, Record, Text, case_id, content_id
from ..sharegpt import CONVERSATION_KEYS, Conversation, Malformed
from ..tables import DiskTable, json_rows, shallow_events
from .base import Item, Skipped, Source
from .conversations import record_of
from .reading import read_picture

CONVERSATION = "conversation"  # the role of a text that holds a conversation
_ROW_KEYS = {*CONVERSATION_KEYS, "id", "image", "images", "imaging_findings", "discussion"}
_LONGEST_LINE = 1 << 22  # a row is far shorter; a file in one line is not held in memory


@dataclass(frozen=True)
class Row:
    """A row of a release, understood.

    Args:
        images (`list[list[str]]`): for each image the names under which it may lie, the likeliest first.
        texts (`list[Text]`): the conversation, see [`conversation_text`], and what else the row says.
        group (`str`): what a split must not cut apart.
        facts (`list[Fact]`, *optional*): what the row states.
        split (`str`, *optional*): the split that the release states.
    """

    images: list[list[str]]
    texts: list[Text]
    group: str
    facts: list[Fact] = field(default_factory=list)
    split: str | None = None


def conversation_text(
    conversation: Conversation,
    task: str,
    annotation: Sequence[str],
    *,
    model: str = "",
    language: str = "en",
    questions: Sequence[QuestionTurn] = (),
) -> Text:
    """A conversation as a text of a case, from which [`stored_records`] makes the record.

    Args:
        conversation ([`Conversation`]): the conversation.
        task (`str`): the task of the record.
        annotation (`Sequence[str]`): who wrote each message.
        model (`str`, *optional*): the model that wrote the messages of annotation `"machine"`.
        language (`str`, *optional*, defaults to `"en"`): its language.
        questions (`Sequence[QuestionTurn]`, *optional*): what is known about questions.

    Returns:
        [`Text`]: of role `"conversation"`, canonical JSON; its own annotation is that of the last answer.
    """
    stored = {"task": task, "messages": conversation.messages, "annotation": list(annotation), "model": model}
    stored["questions"] = [asdict(question) for question in questions]
    return Text(CONVERSATION, canonical_json(stored), annotation[-1], language)


def stored_records(case: Case) -> Iterator[Record]:
    """The records of the conversations that a case holds.

    Args:
        case ([`Case`]): a case whose conversations show all its images.

    Yields:
        [`Record`]: one for each.
    """
    for text in case.texts:
        if text.role == CONVERSATION:
            stored = json.loads(text.text)
            wrote = [
                Provenance(f"messages[{index}]", model=stored["model"])
                for index, writer in enumerate(stored["annotation"])
                if writer == "machine" and stored["model"]
            ]
            questions = [QuestionTurn(**question) for question in stored["questions"]]
            yield record_of(
                case,
                stored["task"],
                stored["messages"],
                stored["annotation"],
                questions=questions,
                provenance=wrote,
            )


def task_of(conversation: Conversation) -> str:
    """The task of a conversation that nothing else is known of.

    Args:
        conversation ([`Conversation`]): the conversation.

    Returns:
        `str`: `"vqa"` for one question with its answer, else `"conversation"`.
    """
    return "vqa" if sum(item["role"] == "user" for item in conversation.messages) == 1 else "conversation"


def writers(conversation: Conversation, asked: str, answered: str) -> list[str]:
    """Who wrote each message where all questions, and all answers, have one kind of writer.

    Args:
        conversation ([`Conversation`]): the conversation.
        asked (`str`): who wrote the questions, and the instruction of the system.
        answered (`str`): who wrote the answers.

    Returns:
        `list[str]`: one of `ANNOTATIONS` for each message.
    """
    return [answered if item["role"] == "assistant" else asked for item in conversation.messages]


def article_of(pair: str) -> str:
    """The PubMed id in the name of a figure, as LLaVA-Med and BioMed-VITAL name them.

    Args:
        pair (`str`): for example `"28104940_F2"`.

    Returns:
        `str`: `"28104940"`; empty for another name.
    """
    article, _, figure = pair.partition("_")
    return article if article.isdecimal() and figure else ""


def listed_rows(release: Release, file: str, paths: Sequence[str] = ("item",)) -> Iterator[tuple[str, Any]]:
    """The rows of a file: a JSON array, JSON lines, or a JSON object whose values are rows or lists of rows.

    Args:
        release ([`Release`]): the release.
        file (`str`): its file.
        paths (`Sequence[str]`, *optional*): where arrays stand, see [`semihv_hf.data.tables.json_rows`].

    Yields:
        `tuple[str, Any]`: the place of the row (counted from 0, or its key) and the row; [`Malformed`] for a damaged
            line, and once for all that follows the place where an array or object is damaged.
    """
    shape = _shape(release, file) if paths == ("item",) else "array"
    if shape == "lines":
        yield from _lines(release, file)
        return
    rows = _values(release, file) if shape == "object" else _arrays(release, file, paths)
    last = "-1"
    try:
        for last, row in rows:
            yield last, row
    except ValueError as error:  # bytes that are no UTF-8 are among them
        detail = " ".join(str(error).split())[:200]
        yield f"{last}+", Malformed(f"the file is damaged after row {last}; what follows is not read ({detail})")


def joined_rows(release: Release, file: str, paths: Sequence[str] = ("item",)) -> Iterator[dict[str, Any]]:
    """The rows of a file that only adds to others, such as a list of captions.

    Args:
        release ([`Release`]): the release.
        file (`str`): its file.
        paths (`Sequence[str]`, *optional*): as in [`listed_rows`].

    Yields:
        `dict`: the rows that are objects.

    Raises:
        `SemiHVError`: the file is damaged; to go on without it would silently leave texts out.
    """
    for _, row in listed_rows(release, file, paths):
        if isinstance(row, Malformed):
            raise SemiHVError(f"{file}: {row.detail}.", "Download the file again, or take it out of the folder.")
        if isinstance(row, dict):
            yield row


def _shape(release: Release, file: str) -> str:
    try:
        with release.open_text(file) as text:
            line = next((line for line in iter(lambda: text.readline(_LONGEST_LINE), "") if line.strip()), "")
    except UnicodeDecodeError:
        return "array"  # whose reader names the place
    if not line.lstrip().startswith("{"):
        return "array"
    try:
        return "lines" if isinstance(json.loads(line), dict) else "object"
    except ValueError:
        return "object" if len(line) == _LONGEST_LINE or len(line.strip()) < 3 else _shape_of_damaged(line)


def _shape_of_damaged(line: str) -> str:
    """A first line that is no JSON value: the beginning of an object over several lines, or a torn line."""
    return "lines" if line.rstrip().endswith("}") else "object"


def _lines(release: Release, file: str) -> Iterator[tuple[str, Any]]:
    with open(release.path(file), "rb") as lines:
        for place, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                yield str(place), json.loads(line.decode("utf-8-sig" if place == 0 else "utf-8"))
            except ValueError as error:
                yield str(place), Malformed(f"the line is no JSON value: {' '.join(str(error).split())[:200]}")


def _arrays(release: Release, file: str, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
    count = itertools.count()
    for path in paths:
        for row in json_rows(release, file, path=path):
            yield str(next(count)), row


def _values(release: Release, file: str) -> Iterator[tuple[str, Any]]:
    import ijson

    with open(release.path(file), "rb") as data:
        start = 3 if data.read(3) == b"\xef\xbb\xbf" else 0
        data.seek(start)
        try:
            for key, value in ijson.kvitems(shallow_events(data), ""):
                if key in _ROW_KEYS:  # the object is itself a row
                    data.seek(start)
                    yield "0", json.loads(data.read())
                    return
                if isinstance(value, list):
                    yield from ((f"{key}/{index}", row) for index, row in enumerate(value))
                else:
                    yield key, value
        except ijson.JSONError as error:
            raise ValueError(f"no valid JSON: {error}") from error


class ShareGptSource(Source):
    """An adapter of a release whose files list ShareGPT rows. Each row becomes one case with one conversation."""

    @abstractmethod
    def files(self) -> list[str]:
        """The files of rows to read, in order."""

    def rows(self, file: str) -> Iterator[tuple[str, Any]]:
        """The rows of a file with their places; see [`listed_rows`]."""
        return listed_rows(self.release, file)

    @abstractmethod
    def understand(self, file: str, place: str, row: Any) -> Row | Malformed | Skipped:
        """What a row says; a function of row and options alone, or of what [`prepare`] has opened."""

    def prepare(self) -> None:
        """Opens what [`understand`] joins rows with, before the first row; [`finish`] closes it."""

    def finish(self) -> None:
        """Closes what [`prepare`] has opened."""

    def place_of(self, place: str, row: Any) -> str:
        """What a row is called inside its file: its id, or its place where it has none."""
        stated = row.get("id") if isinstance(row, Mapping) else None
        is_name = isinstance(stated, str | int) and not isinstance(stated, bool) and str(stated).strip()
        return str(stated).strip() if is_name else f"#{place}"

    def items(self) -> Iterator[Item | Skipped]:
        """Lists the rows of all files. Within a file, a row that says what an earlier one said is a duplicate; one
        that only has the id of an earlier one keeps its place as part of its own.

        Yields:
            [`Item`] or [`Skipped`]: in the order of files and rows.
        """
        try:
            self.prepare()
            with DiskTable() as seen:
                for file in self.files():
                    for place, row in self.rows(file):
                        yield self._item(file, place, row, seen)
        finally:
            self.finish()

    def _item(self, file: str, place: str, row: Any, seen: DiskTable) -> Item | Skipped:
        source_id = f"{file}:{self.place_of(place, row)}"
        if not seen.add(f"id {source_id}"):
            source_id = f"{source_id}#{place}"
            seen.add(f"id {source_id}")
        understood = row if isinstance(row, Malformed) else self.understand(file, place, row)
        if isinstance(understood, Malformed):
            return Skipped(source_id, understood.reason, understood.detail)
        if isinstance(understood, Skipped):
            return Skipped(source_id, understood.reason, understood.detail)
        images, texts = understood.images, understood.texts
        if not seen.add(f"row {content_id(file, *(name for names in images for name in names), *map(repr, texts))}"):
            return Skipped(source_id, "duplicate row", "says what an earlier row of the file says")
        data = {
            "images": images,
            "texts": [dict(vars(text)) for text in texts],
            "facts": [dict(vars(fact)) for fact in understood.facts],
            "group": understood.group,
        }
        return Item(source_id, self.split_of(understood.split, understood.group), data)

    def picture(self, names: Sequence[str], source_id: str) -> bytes | Skipped:
        """An image under the first of several names that there is."""
        found: bytes | Skipped = Skipped(source_id, "missing image", "no name")
        for number, name in enumerate(names):
            tried = read_picture(self.release, name, source_id)
            if number == 0 or not (isinstance(tried, Skipped) and tried.reason == "missing image"):
                found = tried
            if not (isinstance(tried, Skipped) and tried.reason == "missing image"):
                break
        return found

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads the images of a row.

        Args:
            item ([`Item`]): the row.

        Yields:
            [`Case`] or [`Skipped`]: one; a row of which one image cannot be read is left out.
        """
        images = []
        for names in item.data["images"]:
            picture = self.picture(names, item.source_id)
            if isinstance(picture, Skipped):
                yield picture
                return
            images.append(picture)
        facts = [Fact(**fact) for fact in item.data["facts"]]
        texts = [Text(**text) for text in item.data["texts"]]
        licence = source_licence(self.name).licence
        identity = case_id(self.name, item.source_id, images)
        group = item.data["group"]
        yield Case(identity, self.name, item.source_id, group, item.split, licence, images, facts, texts)

    def records(self, case: Case) -> Iterator[Record | Skipped]:
        """The conversations of the case.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: usually one.
        """
        return stored_records(case)
