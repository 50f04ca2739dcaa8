"""The questions of a dataset folder, one object a question, with the image still as bytes.

A folder holds either records, whose user turns are the questions, or rows of a benchmark, see
[`semihv_hf.data.benchmarks.question.Question`]. Both become the [`Question`] of this module, which is a question as a
model is asked it: with the prompt's wording and the answer that the wording asks for. Of a benchmark's row,
`case_id` is its group, `template` its category, and `messages`, `question`, `reference` and `options` come from
[`semihv_hf.data.benchmarks.prompt`].
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

from semihv_hf.data.benchmarks.prompt import expected_answer, prompt_message, prompt_text
from semihv_hf.data.messages import message_text
from semihv_hf.errors import SemiHVError, first_line


@dataclass
class Question:
    """One question about one image, as it is put to a model.

    Args:
        id (`str`): the record's id; with the turn behind it where a record asks several questions.
        case_id (`str`): the case that the image belongs to.
        source_id (`str`): the case's name in its source.
        licence (`str`): the licence that the row carries.
        messages (`list[dict]`): the conversation up to and including the question, its images as parts.
        question (`str`): the text of the last user turn.
        reference (`str`): the reference answer.
        answer_type (`str`): `"closed"`, `"open"`, or `"case"` for a case with a discussion.
        options (`list[str]`): the answers that the question names; empty when it names none.
        template (`str`): the kind of question.
        fact (`str`): the name of the fact that the question asks for.
        modality (`str`): the image's modality.
        images (`list[dict]`): undecoded images, `{"bytes": ..., "path": ...}`.
        source (`str`): the source registry's name for where the case came from.
    """

    id: str
    case_id: str
    source_id: str
    licence: str
    messages: list[dict]
    question: str
    reference: str
    answer_type: str
    options: list[str]
    template: str
    fact: str
    modality: str
    images: list[dict] = field(repr=False)
    source: str = ""

    def image_bytes(self) -> list[bytes]:
        """Reads the stored bytes of every image.

        Returns:
            `list[bytes]`: one entry an image; empty bytes where the row holds none.
        """
        contents = []
        for image in self.images:
            data = image.get("bytes")
            if data is None and image.get("path"):
                data = Path(image["path"]).read_bytes()
            contents.append(data or b"")
        return contents

    def open_images(self) -> list:
        """Decodes the images to 8-bit RGB.

        Returns:
            `list[PIL.Image.Image]`: the images.

        Raises:
            OSError: an image cannot be decoded; nothing stands in for it.
        """
        from PIL import Image

        opened = []
        for data in self.image_bytes():
            with Image.open(io.BytesIO(data)) as image:
                opened.append(image.convert("RGB"))
        return opened

    def image_key(self) -> str:
        """Names the pixels shown, by content.

        Returns:
            `str`: sha256 over the images' bytes.
        """
        digest = hashlib.sha256()
        for data in self.image_bytes():
            digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()


def load_questions(data: str | Path, config: str, split: str, *, limit: int | None = None) -> list[Question]:
    """Reads every question of one config and split of a dataset folder (or a dataset on the Hub).

    Args:
        data (`str` or `Path`): the dataset folder that `semihv build` or
            [`semihv_hf.data.benchmarks.write_benchmark`] wrote, or a Hub id.
        config (`str`): the config, such as `"benchmark"`, `"jama_style"` or `"questions"`.
        split (`str`): the split.
        limit (`int`, *optional*): only the first questions, for trials and tests.

    Returns:
        `list[Question]`: in the order of the dataset.

    Raises:
        SemiHVError: the dataset, config or split does not exist, or a record is not of the expected shape.
    """
    questions: list[Question] = []
    rows = load_rows(data, config, split)
    of_benchmark = "messages" not in rows.column_names and "answer_letter" in rows.column_names
    for row in rows:
        questions.extend([_benchmark_question(row)] if of_benchmark else _questions_of(row))
        if limit is not None and len(questions) >= limit:
            return questions[:limit]
    if not questions:
        raise SemiHVError(f"{data}: config {config!r}, split {split!r} holds no question.", "Build the dataset again.")
    return questions


def load_rows(data: str | Path, config: str, split: str, *, columns: list[str] | None = None):
    """Opens one config and split without decoding its images.

    Args:
        data (`str` or `Path`): the dataset folder or a Hub id.
        config (`str`): the config.
        split (`str`): the split.
        columns (`list[str]`, *optional*): only these columns.

    Returns:
        `datasets.Dataset`: the rows.

    Raises:
        SemiHVError: the dataset, config or split does not exist.
    """
    from datasets import Image, List, load_dataset

    try:
        rows = load_dataset(str(data), config, split=split)
    except FileNotFoundError as error:  # DatasetNotFoundError, too
        raise SemiHVError(f"{data} is not a dataset folder ({error}).", "Build one with `semihv build`.") from error
    except OSError as error:  # what is no folder is looked for on the Hub
        raise SemiHVError(
            f"There is no dataset folder {data}, and the Hub gives none ({first_line(error)}).",
            "Build one with `semihv build`.",
        ) from error
    except ValueError as error:
        raise SemiHVError(
            f"{data}: config {config!r}, split {split!r} cannot be read ({first_line(error)})."
        ) from error
    if "images" in rows.column_names:
        rows = rows.cast_column("images", List(Image(decode=False)))
    if columns is not None:
        rows = rows.select_columns([name for name in columns if name in rows.column_names])
    return rows


def _questions_of(record: dict) -> list[Question]:
    messages = record["messages"]
    asked = record.get("questions") or [_case_question(record, messages)]
    found = []
    for entry in asked:
        turn = entry["turn"]
        if turn + 1 >= len(messages) or messages[turn]["role"] != "user" or messages[turn + 1]["role"] != "assistant":
            raise SemiHVError(f"Record {record['id']}: turn {turn} is not a question with an answer.")
        found.append(
            Question(
                id=record["id"] if len(asked) == 1 else f"{record['id']}:{turn}",
                case_id=record["case_id"],
                source_id=record["source_id"],
                licence=record.get("licence") or "",
                messages=messages[: turn + 1],
                question=message_text(messages[turn]),
                reference=message_text(messages[turn + 1]),
                answer_type=entry["answer_type"],
                options=list(entry.get("options") or []),
                template=entry["template"],
                fact=entry.get("fact") or "",
                modality=record.get("modality") or "",
                images=list(record["images"]),
                source=record.get("source") or "",
            )
        )
    return found


def _benchmark_question(row: dict) -> Question:
    message, shown = prompt_message(row)
    reference, options = expected_answer(row)
    return Question(
        id=row["id"],
        case_id=f"{row['benchmark']}:{row['group']}",
        source_id=row["source_id"],
        licence=row["licence"],
        messages=[message],
        question=prompt_text(row),
        reference=reference,
        answer_type=row["answer_type"],
        options=options,
        template=row["category"] or row["benchmark"],
        fact="",
        modality=row["modality"],
        images=[row["images"][index] for index in shown],
        source=row["benchmark"],
    )


def _case_question(record: dict, messages: list[dict]) -> dict:
    """A case without question entries is asked once, at its first user turn."""
    turn = next((i for i, m in enumerate(messages) if m["role"] == "user"), None)
    if turn is None:
        raise SemiHVError(f"Record {record['id']} has no user message.")
    return {"turn": turn, "template": record.get("task") or "case", "answer_type": "case", "options": [], "fact": ""}
