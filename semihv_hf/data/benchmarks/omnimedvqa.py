"""OmniMedVQA: multiple-choice questions made from the labels of 73 image sets (Hu et al., 2024)."""

import io
import re
from collections.abc import Iterator
from typing import Any

from ...errors import SemiHVError
from ..sources.base import Skipped
from ..sources.modality_words import modality_of
from ..sources.reading import read_picture
from ..tables import DiskTable, shallow_events
from .base import Benchmark, Expected, Filtered, stated_facts
from .question import UNKNOWN_MODALITY, Question, question_id
from .snapshot import Snapshot, open_snapshot

_FOLDER = "QA_information/Open-access"


class OmniMedVqa(Benchmark):
    """The open-access part of OmniMedVQA as `foreverbeliever/OmniMedVQA`: 88,996 questions of 42 image sets.

    The repository is one archive, `OmniMedVQA.zip`, with `Images/` and `QA_information/Open-access/<set>.json`; the
    copy may be packed or unpacked. The files under Restricted-access are not read: their images are not shipped.

    Two to four options are given (option_A to option_D); the answer is a text, gt_answer, which is looked for among
    them. One row says `modality` for `modality_type`. The usual number is the accuracy for each modality. Subset
    `"all"`, or the name of one image set. Questions about one image form a group.
    """

    name = "omnimedvqa"
    title = "OmniMedVQA"
    hub_id = "foreverbeliever/OmniMedVQA"
    # The repository states none for the whole: each image set has its own.
    splits = ("test",)
    subsets = ()  # any image set's name
    expected = {("test", "all"): Expected(88996, closed=88996)}

    def rows(self) -> Iterator[Question | Skipped | Filtered]:
        """See [`Benchmark.rows`]."""
        snapshot = open_snapshot(self.source, (), self.revision)
        tables = list(_tables(snapshot))
        if self.subset != "all":
            tables = [entry for entry in tables if entry[0] == self.subset]
        if not tables:
            raise SemiHVError(
                f"{self.title}: no table {_FOLDER}/{'*' if self.subset == 'all' else self.subset}.json is there.",
                "Give the folder with OmniMedVQA.zip, or the one that was unpacked from it.",
            )
        with DiskTable() as seen:
            for image_set, name in tables:
                root = name.removesuffix(f"{_FOLDER}/{image_set}.json")
                for index, row in enumerate(_json_rows(snapshot, name)):
                    source_id = f"{image_set}/{row.get('question_id') or f'row {index}'}"
                    if not seen.add(source_id):
                        yield Skipped(source_id, "duplicate row", "the question_id was there before")
                        continue
                    yield self._question(snapshot, root, row, source_id)

    def _question(self, snapshot: Snapshot, root: str, row: dict[str, Any], source_id: str) -> Question | Skipped:
        question = str(row.get("question") or "").strip()
        stated = (row.get(f"option_{letter}") for letter in "ABCD")
        options = [str(option).strip() for option in stated if option is not None and str(option).strip()]
        path = str(row.get("image_path") or "").strip()
        if not question or len(options) < 2 or not path:
            return Skipped(source_id, "malformed row", "no question, no image, or fewer than two options")
        right = _right_option(str(row.get("gt_answer") or ""), options)
        if right is None:
            return Skipped(source_id, "unknown label", f"gt_answer {row.get('gt_answer')!r} is none of {options}")
        picture = read_picture(snapshot, f"{root}{path}", source_id)
        if isinstance(picture, Skipped):
            return picture
        modality = str(row.get("modality_type") or row.get("modality") or "").strip()
        return Question(
            id=question_id(self.name, self.split, source_id, question, [picture]),
            benchmark=self.name,
            source_id=source_id,
            group=path,
            split=self.split,
            licence=self.licence,
            images=[picture],
            question=question,
            answer=options[right],
            answer_type="closed",
            options=options,
            answer_letter="ABCD"[right],
            modality=modality_of(modality) or modality or UNKNOWN_MODALITY,
            category=str(row.get("question_type") or "").strip(),
            facts=stated_facts(row, {"dataset": "dataset", "modality_type": "modality_type"}),
        )


def _right_option(answer: str, options: list[str]) -> int | None:
    """The index of the option that the answer names: the same text, else the same words."""
    for same in (str.strip, lambda text: " ".join(re.findall(r"\w+", text.lower()))):
        found = [index for index, option in enumerate(options) if same(option) == same(answer)]
        if found and same(answer):
            return found[0]
    return None


def _tables(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """The question files as (image set, name), unpacked or in the archive."""
    for pattern in (f"{_FOLDER}/*.json", f"*/{_FOLDER}/*.json"):
        found = list(snapshot.find(pattern))
        if found:
            yield from ((name.rpartition("/")[2].removesuffix(".json"), name) for name in found)
            return
    import zipfile

    for archive in snapshot.find("*.zip"):
        with zipfile.ZipFile(snapshot.path(archive)) as opened:
            names = sorted(name for name in opened.namelist() if name.endswith(".json") and f"{_FOLDER}/" in name)
        yield from ((name.rpartition("/")[2].removesuffix(".json"), name) for name in names)


def _json_rows(snapshot: Snapshot, name: str) -> Iterator[dict[str, Any]]:
    import ijson

    # The largest file is some tens of megabytes of text; it is parsed row by row.
    data = snapshot.read_bytes(name).removeprefix(b"\xef\xbb\xbf")
    try:
        yield from ijson.items(shallow_events(io.BytesIO(data)), "item")
    except ijson.JSONError as error:
        raise SemiHVError(f"{name} is no valid JSON ({error}).", "Get the file again.") from error
