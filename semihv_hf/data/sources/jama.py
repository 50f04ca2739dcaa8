"""JAMA Clinical Challenge: the user's own copy of the cases, as the scraper of ChallengeClinicalQA writes it.

The journal's texts and images are copyrighted. This package holds none of them and fetches none; rows that are made
from a copy carry a canary, so that they can be found where they must not be.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SemiHVError
from ..licences import source_licence
from ..messages import message
from ..schema import Case, Fact, Provenance, QuestionTurn, Record, Text, case_id
from ..tables import csv_rows
from .base import Item, Skipped, Source
from .choices import LETTERS, check_options, letter_of, lettered, one_line, options_of, split_letter
from .conversations import record_of
from .places import first_place
from .reading import read_picture

if TYPE_CHECKING:
    from ..benchmarks.question import Question

# Search for it in a training set: it must not be there.
CANARY = "semihv-hf jama clinical challenge canary 5d0b8f5e-6a0c-4f7e-9a43-1c2f6b7e90d4"
OPTION_COLUMNS = ("opa", "opb", "opc", "opd")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
IMAGE_MAP = "jama_images.json"
_RAW = ("jama_raw.json", "jama_raw.csv")
_LINKS = ("jama_links.json", "jama_links_updated.json")
# The question of a challenge is its last sentence; the scraper puts one blank between it and the case.
_LAST_QUESTION = re.compile(r"^(?P<case>.*[.!?)\]\"”])\s+(?P<question>[^.!?]*\?)$", re.DOTALL)


class Jama(Source):
    """The JAMA Clinical Challenge from a copy that the user made.

    Reads `jama_raw.json`, or `jama_raw.csv` where there is no JSON: link, question (the case and, as its last
    sentence, the question), opa, opb, opc, opd, diagnosis, answer_idx, answer, explanation, field, and id, which is
    the place in the table where the column is absent. The scraper saves no pictures. A user who has them puts them
    into `images/`, named by the id (`images/17.jpg`, `images/17_2.png`), or names them in a column `images` or in
    `jama_images.json` (`{id: [name, ...]}`). All rows are test data.

    Args:
        root (`str` or `pathlib.Path`): the folder of the copy.
        require_images (`bool`, *optional*, defaults to `False`): skip cases without a picture; otherwise they are
            cases of text alone.
        held_out (`float`, *optional*, defaults to 0.0): unused, every row is test data.
        seed (`int`, *optional*, defaults to 0): unused.

    Raises:
        `SemiHVError`: the folder holds no copy, or only the list of links.
    """

    name = "jama"
    layout = ((" | ".join(_RAW), "the cases that you fetched with your own subscription"),)

    def __init__(self, root: str | Path, *, require_images: bool = False, held_out: float = 0.0, seed: int = 0):
        folder = Path(root).expanduser()
        links = [name for name in _LINKS if (folder / name).is_file()]
        if links and not any((folder / name).is_file() for name in _RAW):
            raise SemiHVError(
                f"{folder} holds {' and '.join(links)}, which lists where the cases are, not the cases: missing "
                f"{' or '.join(_RAW)}.",
                "Fetch the cases with your own subscription; this package ships and downloads none of them.",
            )
        super().__init__(root, held_out=held_out, seed=seed)
        self.require_images = require_images
        self.table = next(name for name in _RAW if self.release.first(name))

    def metadata(self) -> list[str]:
        """The table that is read, and the map of images where there is one.

        Returns:
            `list[str]`: names relative to the release.
        """
        return sorted({self.table, *self.release.find(IMAGE_MAP)})

    def items(self) -> Iterator[Item | Skipped]:
        """One item a row.

        Yields:
            [`Item`] or [`Skipped`]: a row without case, discussion or options, whose letter and answer disagree, or
            whose id came before.
        """
        pictures = self._pictures()
        seen = set()  # the challenge has about 1,500 cases
        for number, row in enumerate(self._rows()):
            if not isinstance(row, Mapping):
                yield Skipped(str(number), "malformed row", "it is no object")
                continue
            identity = _cell(row, "id").removesuffix(".0") or str(number)
            if identity in seen:
                yield Skipped(f"{identity} (row {number})", "duplicate row", f"id {identity} came before")
                continue
            seen.add(identity)
            read = _read_row(row)
            if isinstance(read, str):
                yield Skipped(identity, "malformed row", read)
                continue
            named = _names(row.get("images")) or pictures.get(identity, [])
            yield Item(identity, "test", {**read, "images": named})

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Makes the case of a row.

        Args:
            item ([`Item`]): a row.

        Yields:
            [`Case`] or [`Skipped`]: one. A case of which one picture cannot be read is left out whole.
        """
        data, pictures = item.data, []
        for name in data["images"]:
            picture = read_picture(self.release, first_place(self.release, name, ("", "images")), item.source_id)
            if isinstance(picture, Skipped):
                yield picture
                return
            pictures.append(picture)
        if self.require_images and not pictures:
            yield Skipped(item.source_id, "missing image", "the copy holds no picture of this case")
            return
        facts = [Fact("canary", CANARY, "added to every row of this source")]
        facts += [Fact(name, data[name], f"{self.table} column {name}") for name in ("field", "link") if data[name]]
        answer = f"{data['answer_idx']}. {data['options'][LETTERS.index(data['answer_idx'])]}"
        texts = [("case", data["case"]), ("question", data["question"]), ("options", lettered(data["options"]))]
        texts += [("answer", answer), ("diagnosis", data["diagnosis"]), ("discussion", data["explanation"])]
        yield Case(
            id=case_id(self.name, item.source_id, pictures or [json.dumps(texts).encode()]),
            source=self.name,
            source_id=item.source_id,
            group=data["link"] or item.source_id,
            split=item.split,
            licence=source_licence(self.name).licence,
            images=pictures,
            facts=facts,
            texts=[Text(role, text, "human") for role, text in texts if text],
        )

    def records(self, case: Case) -> Iterator[Record]:
        """The case with its question and options, answered by the right option and the discussion.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: one, of task `"case"`.
        """
        parts = [case.text(role) for role in ("case", "question", "options")]
        prompt = "\n".join(part.text for part in parts if part)
        answer = f"Answer: {_sentence(case.text('answer').text)} {case.text('discussion').text}"
        messages = [message("user", prompt, len(case.images)), message("assistant", answer)]
        source = f"{self.table} columns answer_idx and answer"
        turn = QuestionTurn(0, "jama_case", "closed", list(LETTERS), "answer", source)
        wrote = [Provenance(f"messages[{index}]", prompt_version="jama", evidence=[CANARY]) for index in (0, 1)]
        yield record_of(case, "case", messages, ["human", "human"], questions=[turn], provenance=wrote)

    def questions(self) -> Iterator["Question | Skipped"]:
        """The challenge as rows of a benchmark.

        Yields:
            [`Question`] or [`Skipped`]: a question a case; the text of the case stands before the question.
        """
        for item in self.items():
            for entry in [item] if isinstance(item, Skipped) else self.read(item):
                yield entry if isinstance(entry, Skipped) else question_of(entry)

    def _rows(self) -> Iterator[Any]:
        if self.table.endswith(".csv"):
            yield from csv_rows(self.release, self.table)
            return
        try:
            with self.release.open_text(self.table) as file:
                # The scraper writes NaN for what it did not find, which is no JSON and stops a strict reader.
                rows = json.load(file, parse_constant=lambda _: None)
        except ValueError as error:
            raise SemiHVError(f"{self.table} is no valid JSON: {error}.", "Fetch the cases again.") from error
        if not isinstance(rows, list):
            raise SemiHVError(f"{self.table} holds no list of cases.", "Give the file as the scraper wrote it.")
        yield from rows

    def _pictures(self) -> dict[str, list[str]]:
        """The pictures of each id: as `jama_images.json` lists them, else by their names in `images/`."""
        if self.release.first(IMAGE_MAP):
            try:
                with self.release.open_text(IMAGE_MAP) as file:
                    listed = json.load(file)
            except ValueError as error:
                raise SemiHVError(f"{IMAGE_MAP} is no valid JSON: {error}.", "It maps an id to names.") from error
            if not isinstance(listed, dict):
                raise SemiHVError(f"{IMAGE_MAP} holds no object.", "It maps an id to a list of names.")
            return {str(identity): _names(names) for identity, names in listed.items()}
        found: dict[str, list[str]] = {}
        for name in self.release.find("images/*"):
            stem, dot, suffix = name.removeprefix("images/").rpartition(".")
            identity = re.match(r"\d+", stem)
            if identity and dot + suffix.lower() in PICTURE_SUFFIXES:
                found.setdefault(str(int(identity[0])), []).append(name)
        return {identity: sorted(names, key=_natural) for identity, names in found.items()}


def question_of(case: Case) -> "Question":
    """The question that a case asks.

    Args:
        case ([`Case`]): a case of this source.

    Returns:
        [`Question`]: one row of a benchmark.
    """
    from ..benchmarks.question import Question, question_id

    options = options_of(case.text("options").text)
    letter = case.text("answer").text[0]
    text = "\n".join(part.text for part in (case.text("case"), case.text("question")) if part)
    field = case.fact("field")
    return Question(
        id=question_id(case.source, case.split, case.source_id, text, case.images),
        benchmark="jama_clinical_challenge",
        source_id=case.source_id,
        group=case.group,
        split=case.split,
        licence=case.licence,
        images=list(case.images),
        question=text,
        answer=options[letter],
        answer_type="closed",
        options=list(options.values()),
        answer_letter=letter,
        category=field.value if field else "",
        facts=list(case.facts),
    )


def _read_row(row: Mapping[str, Any]) -> dict[str, Any] | str:
    """The texts of a row; a text says what is wrong instead."""
    question, explanation = _cell(row, "question"), _cell(row, "explanation")
    if not question or not explanation:
        return f"column {'explanation' if question else 'question'} is empty"
    printed = [split_letter(_cell(row, name), ":.)") for name in OPTION_COLUMNS]
    # Letters are taken off only where all four options have theirs: "C. difficile" alone is an option.
    with_letters = [letter for letter, _ in printed] == list(LETTERS)
    options = [
        text if with_letters else one_line(_cell(row, name)) for name, (_, text) in zip(OPTION_COLUMNS, printed)
    ]
    letter = _cell(row, "answer_idx").upper()
    problem = check_options(dict(zip(LETTERS, options)), letter)
    if problem:
        return problem
    answer = one_line(_cell(row, "answer"))
    if with_letters:
        answer = split_letter(answer, ":.)")[1]
    said = letter_of(answer, options)
    if answer and said != letter:
        other = f"option {said}" if said else f"no option: {answer[:80]!r}"
        return f"answer_idx is {letter}, but the answer is {other}"
    found = _LAST_QUESTION.match(question)
    return {
        "case": found["case"].strip() if found else "",
        "question": found["question"].strip() if found else question,
        "options": options,
        "answer_idx": letter,
        "explanation": explanation,
        **{name: one_line(_cell(row, name)) for name in ("diagnosis", "field", "link")},
    }


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _names(value: Any) -> list[str]:
    """Names of pictures: a list, a list printed as JSON, or names parted by semicolons."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip().startswith("[") else value.split(";")
        except ValueError:
            return [value.strip()]  # no such file will be found, and the row says so
    return [str(name).strip() for name in value if str(name).strip()] if isinstance(value, list) else []


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `17_2` before `17_10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
