"""SemiHVision's own training files (Hub `akemiH/Med-Instruction`), whose schema was never published.

What is known is how the authors' scripts write them (github.com/believewhat/MultiViewDx, `code/pre/json_generate_*.py`
at commit ba5f75e): ShareGPT rows with absolute paths of their machine, `from` and `role` mixed, and for Eurorad one
object a case with `conversations`, `imaging_findings` and `discussion`, where the image of a finding stands inside the
conversation and that of the questions is lost. The images of MIMIC-CXR, Radiopaedia and JAMA are not part of it.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ...errors import SemiHVError
from ..messages import message_text
from ..release import Release
from ..schema import Fact, QuestionTurn
from ..sharegpt import Conversation, Malformed, read_row
from .base import Skipped
from .eurorad_permission import read_permission
from .reading import read_picture
from .sharegpt_source import Row, ShareGptSource, conversation_text, listed_rows, task_of

REFUSALS = ("sorry", "keep")
_MODEL = "gpt-4o"
# Which release a row was made from, by a part of its image's path or its file's name.
_UPSTREAM = (
    (r"lld", "lld_mmri"),
    (r"mama[-_ ]?mia", "mama_mia"),
    (r"padchest", "padchest"),
    (r"deep[-_ ]?lesion", "deeplesion"),
    (r"quilt", "quilt"),
    (r"eurorad|^eura", "eurorad"),
    (r"radiopaedia", "radiopaedia"),
    (r"mimic", "mimic_cxr"),
    (r"jama", "jama"),
    (r"pmc[-_ ]?vqa", "pmc_vqa"),
    (r"pmc|pubmed", "pmc_instruct"),
)
# How the authors' scripts ask, with the task; everything else in a question is a model's.
_PROMPTS = (
    ("Please generate the image findings of the following image:", "report"),
    ("Generate the description of the image.", "caption"),
    ("Generate the caption of this figure.", "caption"),
)
_LETTER = "Answer with the option's letter from the given choices directly."
_OPTION = re.compile(r"^([A-Z])\. ?(\S.*)$", re.MULTILINE)
_NO_LISTS = ("dataset_infos.json", "dataset_info.json", "config.json", "state.json", "package.json")
_PART = "eurorad part of semihv"  # our mark on a piece of a Eurorad object


class MedInstruction(ShareGptSource):
    """A folder with any JSON or JSON-lines files of such rows.

    Args:
        root (`str` or `pathlib.Path`): the folder with the files.
        image_roots (`Sequence[str]`, *optional*): folders where images lie, for example those of the upstream
            releases. A path of the authors' machine is looked for by its longest end that exists under one of them, in
            their order, then under `root`.
        permission (`str`, *optional*): a permission file for Eurorad cases, see
            [`semihv_hf.data.sources.eurorad_permission`]. The rows do not say when a case was published, and a case
            of unknown date counts as early, so without a permission those rows are left out.
        refusals (`str`, *optional*, defaults to `"sorry"`): `"sorry"` leaves out rows whose first answer holds that
            word, as the authors did for DeepLesion and PadChest; `"keep"` does not.
        held_out (`float`, *optional*, defaults to 0.0): the share of images, or Eurorad cases, for the test split.
        seed (`int`, *optional*, defaults to 0): chooses those.

    Raises:
        `SemiHVError`: there is no such file, or no such folder of images.
    """

    name: ClassVar[str] = "med_instruction"
    layout: ClassVar[tuple[tuple[str, str], ...]] = (("**/*.json | **/*.jsonl", "lists of conversations"),)
    path_options: ClassVar[tuple[str, ...]] = ("image_roots", "permission")

    def __init__(
        self,
        root: str | Path,
        *,
        image_roots: Sequence[str] = (),
        permission: str | None = None,
        refusals: str = "sorry",
        held_out: float = 0.0,
        seed: int = 0,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        if refusals not in REFUSALS:
            raise SemiHVError(f"refusals is {refusals!r}.", f"Give one of {', '.join(REFUSALS)}.")
        roots = [image_roots] if isinstance(image_roots, str | Path) else list(image_roots)
        self.image_roots = [*map(Release, roots), self.release]
        self.permission = None if permission is None else read_permission(permission)
        self.refusals = refusals

    def files(self) -> list[str]:
        """All JSON and JSON-lines files, without hidden ones and those that only describe a data set."""
        names = sorted({*self.release.find("**/*.json"), *self.release.find("**/*.jsonl")})
        return [
            name
            for name in names
            if PurePosixPath(name).name not in _NO_LISTS
            and not any(part.startswith(".") for part in PurePosixPath(name).parts)
        ]

    def metadata(self) -> list[str]:
        """The files that are read."""
        return self.files()

    def rows(self, file: str) -> Iterator[tuple[str, Any]]:
        """The rows of a file; a Eurorad object gives one for its questions, each finding and its discussion."""
        for place, row in listed_rows(self.release, file):
            if isinstance(row, dict) and ("imaging_findings" in row or "discussion" in row):
                case, title = self.place_of(place, row), _eurorad_title(row)
                for part, piece in _eurorad_pieces(row):
                    whole = dict(piece) if isinstance(piece, dict) else {"conversations": piece}
                    mark = {"case": case, "part": part.rstrip("0123456789"), "title": title}
                    yield f"{place}/{part}", {**whole, "id": f"{case}/{part}", _PART: mark}
            else:
                yield place, row

    def understand(self, file: str, place: str, row: Any) -> Row | Malformed | Skipped:
        """One conversation; what else a row says (constant labels and the like) is not taken for facts."""
        conversation = read_row(row)
        mark = row.get(_PART) if isinstance(row, dict) else None
        case, part = (mark["case"], mark["part"]) if mark else ("", "")
        if isinstance(conversation, Malformed):
            if part == "questions" and "no image is named" in conversation.detail:
                return Skipped(place, "known bad file", "the authors' script lost the image of a case's questions")
            return conversation
        facts = _upstream(conversation.images, file, is_eurorad=bool(mark))
        if facts and facts[0].value == "eurorad":
            title = mark["title"] if mark else _folder(conversation.images[:1])
            permitted = self.permission.fact("", title) if self.permission else None
            if permitted is None:
                return Skipped(place, "date rule", f"Eurorad case {title!r} of unknown date, without a permission")
            facts.append(permitted)
        if self.refusals == "sorry" and _is_refusal(conversation):
            return Skipped(place, "refusal", "the first answer holds the word 'sorry'")
        task, wrote = _written(conversation, part)
        questions = _lettered(conversation, file)
        if questions:
            task = "multiple_choice"
        # PMC-VQA's questions are not the authors' own, so the model that wrote them is another.
        text = conversation_text(conversation, task, wrote, model="" if questions else _MODEL, questions=questions)
        group = f"{file} case {case}" if case else _tail(conversation.images[0]) if conversation.images else ""
        return Row([[name] for name in conversation.images], [text], group or f"{file} {place}", facts)

    def picture(self, names: Sequence[str], source_id: str) -> bytes | Skipped:
        """An image by the longest end of its path that exists under a root."""
        parts = [part for part in PurePosixPath(names[0].replace("\\", "/")).parts if part not in ("/", ".")]
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            for root in self.image_roots:
                if _is_there(root, end, is_last=start == len(parts) - 1):
                    return read_picture(root, end, source_id)
        return Skipped(source_id, "missing image", f"…/{_tail(names[0])} is under none of the image roots")


def _is_there(root: Release, end: str, is_last: bool) -> bool:
    """A bare file name says too little to take any member of an archive that ends so."""
    if not is_last:
        return root.exists(end)
    return (root.root / end).is_file() and root.exists(end)


def _tail(path: str) -> str:
    return "/".join(PurePosixPath(path.replace("\\", "/")).parts[-2:]).lstrip("/")


def _folder(images: Sequence[str]) -> str:
    return PurePosixPath(images[0].replace("\\", "/")).parent.name if images else ""


def _eurorad_title(row: dict[str, Any]) -> str:
    """The title of a case: the authors' script names the folder of its images after it."""
    findings = row.get("imaging_findings")
    read = map(read_row, findings if isinstance(findings, list) else [])
    return next((_folder(one.images) for one in read if isinstance(one, Conversation) and one.images), "")


def _eurorad_pieces(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if row.get("conversations"):
        piece = {key: row[key] for key in ("conversations", "image", "images") if key in row}
        findings = row.get("imaging_findings")
        if len(piece) == 1 and isinstance(findings, list) and len(findings) == 1:
            only = read_row(findings[0])  # the one image of the case is the one that is asked about
            if isinstance(only, Conversation) and only.images:
                piece["image"] = only.images[0]
        yield "questions", piece
    findings = row.get("imaging_findings") or []
    for index, finding in enumerate(findings if isinstance(findings, list) else [findings]):
        yield f"findings{index}", finding
    if row.get("discussion"):
        yield "discussion", row["discussion"]


def _is_refusal(conversation: Conversation) -> bool:
    first = next(item for item in conversation.messages if item["role"] == "assistant")
    return "sorry" in message_text(first).lower()


def _written(conversation: Conversation, part: str) -> tuple[str, list[str]]:
    """The task, and who wrote each message: GPT-4o all but fixed prompts and a Eurorad case's discussion."""
    texts = [message_text(item).strip() for item in conversation.messages]
    wrote = ["machine"] * len(texts)
    task = task_of(conversation)
    first = next(index for index, item in enumerate(conversation.messages) if item["role"] == "user")
    asked = next((kind for prompt, kind in _PROMPTS if texts[first].startswith(prompt)), None)
    if asked or part in ("findings", "discussion"):
        wrote[: first + 1] = ["rule"] * (first + 1)
        task = {"findings": "caption", "discussion": "case"}.get(part, asked) if len(texts) <= first + 2 else task
    # The two answers that were copied, not written: an article's caption and a case's discussion.
    if part == "discussion" or texts[first].startswith("Generate the caption of this figure."):
        wrote[first + 1] = "human"
    return task, wrote


def _lettered(conversation: Conversation, file: str) -> list[QuestionTurn]:
    """The question of a PMC-VQA row, whose options are lettered lines and whose answer is a letter."""
    if len(conversation.messages) != 2:
        return []
    asked, answered = map(message_text, conversation.messages)
    options = dict(_OPTION.findall(asked))
    if _LETTER not in asked or len(set(options)) < 2 or answered.strip() not in options:
        return []
    return [QuestionTurn(0, "pmc_vqa letters", "closed", list(options), "answer", f"{file} conversations[1]")]


def _upstream(images: list[str], file: str, is_eurorad: bool) -> list[Fact]:
    """A guess at the release that a row was made from; a fact with its evidence, never the source of the case."""
    if is_eurorad:
        return [Fact("upstream_source", "eurorad", f"{file}: the keys imaging_findings and discussion")]
    parts = [part for image in images[:1] for part in PurePosixPath(image.replace("\\", "/")).parts]
    for place, words in (("image path part", parts), ("file name", [PurePosixPath(file).name])):
        for word in words:
            for pattern, source in _UPSTREAM:
                if re.search(pattern, word.lower()):
                    return [Fact("upstream_source", source, f"{place} {word!r}")]
    return []
