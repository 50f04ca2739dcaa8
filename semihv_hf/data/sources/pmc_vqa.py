"""PMC-VQA, both versions: multiple-choice questions about figures of open-access articles.

Version 1 asks about whole figures, version 2 about figures that are not made of several pictures. The questions, the
options and the answers were written by a language model from the captions; the captions are the articles' own.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ..licences import source_licence
from ..messages import message
from ..schema import Case, Fact, Provenance, QuestionTurn, Record, Text, case_id, content_id
from ..tables import DiskTable, csv_rows
from .base import Item, Skipped, Source
from .choices import (
    LETTER_AND_OPTION,
    LETTER_ONLY,
    LETTERS,
    check_options,
    comparable,
    letter_of,
    lettered,
    one_line,
    options_of,
    split_letter,
)
from .conversations import DESCRIBE_IMAGE, PROMPT_VERSION, record_of, wording
from .grouping import grouped
from .places import first_place
from .reading import read_picture

CHECKED = "test_clean.csv"
# Version: its tables with the split that each is. The checked questions come before those that they were drawn from.
TABLES = {
    "1": (("train.csv", "train"), (CHECKED, "test"), ("test.csv", "test")),
    "2": (("train_2.csv", "train"), ("test_2.csv", "test")),
}
# Where the archives unpack to; tried in this order.
FOLDERS = {
    "1": ("images", "", "figures", "images/images", "images/figures"),
    "2": ("figures", "images_2/figures", "images_2", "", "images"),
}
VERSIONS = ("auto", "1", "2", "both")
ANSWER_FORMS = ("letter", "letter_and_option")
_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_ARTICLE = re.compile(r"(PMC\d+)")


class PmcVqa(Source):
    """PMC-VQA as `xmcmic/PMC-VQA` and `RadGenome/PMC-VQA` distribute it.

    One case a figure, with all questions about it. Splits are the release's own: `train.csv` and `train_2.csv` are
    training data; `test.csv`, `test_2.csv` and `test_clean.csv` are test data. The rows of `test_clean.csv`, which
    people checked, were drawn from `test.csv`: a question that stands in both is kept once, and its fact `row` names
    both places, so that the checked ones can be told by the name of their table. The two versions were split apart
    from one another, so an article may be training data in one and test data in the other: use one version where a
    test split is to be reported. `group` is the article.

    Args:
        root (`str` or `pathlib.Path`): the folder with the tables and the images, unpacked or not.
        version (`str`, *optional*, defaults to `"auto"`): `"1"`, `"2"`, `"both"`, or `"auto"` for what is there.
        answer_form (`str`, *optional*, defaults to `"letter"`): what records ask for and answer, `"letter"` as in the
            SemiHVision training data, or `"letter_and_option"`.
        held_out (`float`, *optional*, defaults to 0.0): unused, the release states its splits.
        seed (`int`, *optional*, defaults to 0): unused.

    Raises:
        `SemiHVError`: the folder does not hold the release or the wanted version, or an option is unknown.
    """

    name = "pmc_vqa"
    layout = (
        ("train_2.csv | test_2.csv | train.csv | test.csv | test_clean.csv", "questions"),
        ("images_2.zip | images.zip | figures | images_2 | images", "figures"),
    )

    def __init__(
        self,
        root: str | Path,
        *,
        version: str = "auto",
        answer_form: str = "letter",
        held_out: float = 0.0,
        seed: int = 0,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        self.version, self.answer_form = str(version), answer_form
        if self.version not in VERSIONS:
            raise SemiHVError(f"PMC-VQA has no version {version!r}.", f"Known are: {', '.join(VERSIONS)}.")
        if answer_form not in ANSWER_FORMS:
            raise SemiHVError(f"Unknown answer_form {answer_form!r}.", f"Known are: {', '.join(ANSWER_FORMS)}.")
        there = [version for version in TABLES if self._tables(version)]
        self.versions = {"auto": there, "both": ["1", "2"]}.get(self.version, [self.version])
        for wanted in self.versions:
            if wanted not in there:
                names = ", ".join(name for name, _ in TABLES[wanted])
                raise SemiHVError(
                    f"The folder holds no table of PMC-VQA version {wanted}: expected one of {names}.",
                    f"Found are tables of version {' and '.join(there)}.",
                )

    def items(self) -> Iterator[Item | Skipped]:
        """One item a figure, version and split. Rows that cannot be used come first.

        Yields:
            [`Item`] or [`Skipped`]: a row without a question, with an empty option, a letter that no option has, or
            an answer that is another option than its letter says; a row that repeats an earlier one.
        """
        for entry in grouped(self._rows()):
            if isinstance(entry, Skipped):
                yield entry
                continue
            key, rows = entry
            version, split, figure = key.split("\t")
            questions: dict[str, dict] = {}
            for row in rows:
                if row["key"] in questions:  # a checked question at the place that it was drawn from
                    questions[row["key"]]["rows"].append(row["row"])
                else:
                    questions[row["key"]] = {**row, "rows": [row["row"]]}
            caption = next((row["caption"] for row in rows if row["caption"]), "")
            kept = [
                {name: row[name] for name in ("rows", "question", "options", "letter")} for row in questions.values()
            ]
            data = {"version": version, "figure": figure, "caption": caption, "questions": kept}
            yield Item(f"v{version}/{split}/{figure}", split, data)

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads a figure.

        Args:
            item ([`Item`]): a figure with its questions.

        Yields:
            [`Case`] or [`Skipped`]: where the figure cannot be read, every row that asks about it is skipped.
        """
        version, figure = item.data["version"], item.data["figure"]
        picture = read_picture(self.release, first_place(self.release, figure, FOLDERS[version]), item.source_id)
        if isinstance(picture, Skipped):
            for question in item.data["questions"]:
                for row in question["rows"]:
                    yield Skipped(f"v{version}/{row.replace(' ', '/')}", picture.reason, picture.detail)
            return
        article = _ARTICLE.search(figure)
        facts = [Fact("release_version", version, "names of the tables")]
        if article:
            facts.append(Fact("pmcid", article[1], "column Figure_path"))
        texts = [Text("caption", item.data["caption"], "human")] if item.data["caption"] else []
        for question in item.data["questions"]:
            checked = any(row.startswith(CHECKED) for row in question["rows"])
            note = "tables and rows counted from 1" + (f"; {CHECKED} was checked by people" if checked else "")
            facts.append(Fact("row", ", ".join(question["rows"]), note))
            answer = question["options"][LETTERS.index(question["letter"])]
            texts += [
                Text("question", question["question"], "machine"),
                Text("options", lettered(question["options"]), "machine"),
                Text("answer", f"{question['letter']}. {answer}", "machine"),
            ]
        yield Case(
            id=case_id(self.name, item.source_id, [picture]),
            source=self.name,
            source_id=item.source_id,
            group=article[1] if article else figure,
            split=item.split,
            licence=source_licence(self.name).licence,
            images=[picture],
            facts=facts,
            texts=texts,
        )

    def records(self, case: Case) -> Iterator[Record]:
        """A record a question, and one for the caption where the version has captions.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: of task `"caption"` and `"multiple_choice"`.
        """
        caption = case.text("caption")
        if caption:
            messages = [message("user", wording(case.id, DESCRIBE_IMAGE), 1), message("assistant", caption.text)]
            wrote = [Provenance("messages[0]", prompt_version=PROMPT_VERSION)]
            yield record_of(case, "caption", messages, ["rule", caption.annotation], provenance=wrote)
        rows = [fact for fact in case.facts if fact.name == "row"]
        parts = [[text for text in case.texts if text.role == role] for role in ("question", "options", "answer")]
        for row, question, options, answer in zip(rows, *parts, strict=True):
            yield self._choice(case, row, question, options, answer)

    def _choice(self, case: Case, row: Fact, question: Text, options: Text, answer: Text) -> Record:
        with_option = self.answer_form == "letter_and_option"
        request = LETTER_AND_OPTION if with_option else LETTER_ONLY
        named = options_of(options.text)
        possible = [f"{letter}. {option}" for letter, option in named.items()] if with_option else list(named)
        said = answer.text if with_option else answer.text[0]
        asked = message("user", f"{question.text}\n{options.text}\n{request}", 1)
        turn = QuestionTurn(0, "pmc_vqa_choice", "closed", possible, "answer", f"answer column, {row.value}")
        evidence = [f"row: {row.value} ({row.source})"]
        wrote = [Provenance(f"messages[{index}]", prompt_version=self.name, evidence=evidence) for index in (0, 1)]
        messages, annotation = [asked, message("assistant", said)], [question.annotation, answer.annotation]
        return record_of(case, "multiple_choice", messages, annotation, questions=[turn], provenance=wrote)

    def _tables(self, version: str) -> list[tuple[str, str]]:
        return [(name, split) for name, split in TABLES[version] if self.release.first(name)]

    def _rows(self) -> Iterator[tuple[str, dict] | Skipped]:
        with DiskTable() as seen:
            for version in self.versions:
                for table, split in self._tables(version):
                    for number, row in enumerate(csv_rows(self.release, table), start=1):
                        yield _checked_row(version, table, split, number, row, seen)


def _checked_row(
    version: str, table: str, split: str, number: int, row: dict[str, str], seen: DiskTable
) -> tuple[str, dict] | Skipped:
    """A row that can be used, under the key of its figure, or the reason against it."""
    place = f"v{version}/{table}/{number}"
    read = _read_row(row)
    if isinstance(read, str):
        return Skipped(place, "malformed row", read)
    figure, options, letter = row["Figure_path"].strip(), read["options"], read["letter"]
    problem = check_options(dict(zip(LETTERS, options)), letter)
    if problem:
        return Skipped(place, "malformed row", problem)
    stated = row.get("split", "").strip().lower()
    if stated and _SPLITS.get(stated) != split:
        return Skipped(place, "malformed row", f"column split says {stated!r} in {table}")
    key = content_id(version, split, figure, *map(comparable, [read["question"], *options]))
    if not seen.add(key, [table, letter]):
        first_table, first_letter = seen.get(key)
        if first_table == table or first_table != CHECKED:
            detail = "repeats an earlier row" + ("" if first_letter == letter else ", with another answer")
            return Skipped(place, "duplicate row", detail)
    return f"{version}\t{split}\t{figure}", {**read, "key": key, "row": f"{table} {number}"}


def _read_row(row: dict[str, str]) -> dict[str, Any] | str:
    """Question, options without their letters, and the answer's letter; a text says what is wrong instead."""
    if "" in row:
        return "it has more cells than the table has columns"
    missing = [name for name in ("Figure_path", "Question") if not row.get(name, "").strip()]
    if missing:
        return f"column {' and '.join(missing)} is empty"
    options = []
    for name in LETTERS:
        letter, option = split_letter(row.get(f"Choice {name}", ""))
        if letter not in ("", name):
            return f"the text of choice {name} calls itself {letter}"
        options.append(option)
    said = row.get("Answer", "") or row.get("Anwser", "")  # the misspelling is in the first tables of version 1
    letter = row.get("Answer_label", "").strip().upper()
    if not letter and len(said.strip()) == 1:
        letter, said = said.strip().upper(), ""
    own_letter, text = split_letter(said)
    letter = letter or own_letter or letter_of(text, options)
    if not letter:
        return f"the answer {text[:80]!r} is none of the options" if text else "it has no answer"
    repeated = letter_of(text, options) if text else ""
    if repeated and repeated != letter:
        return f"the answer's letter is {letter}, but its text is option {repeated}"
    caption, question = one_line(row.get("Caption", "")), one_line(row["Question"])
    return {"question": question, "options": options, "letter": letter, "caption": caption}
