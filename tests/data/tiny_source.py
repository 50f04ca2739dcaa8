"""A release of the smallest kind, and its adapter: a table and drawn pictures, some of them damaged.

Beside what a release does, its adapter can fail on demand, as an adapter with a mistake in it would.
"""

import csv
import io
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from semihv_hf.data.messages import message
from semihv_hf.data.schema import Case, Fact, Provenance, QuestionTurn, Record, Text, case_id, content_id
from semihv_hf.data.sources.base import Item, Skipped, Source
from semihv_hf.data.sources.reading import read_picture
from semihv_hf.data.tables import csv_rows

COLUMNS = ("name", "image", "group", "split", "modality", "caption", "question", "answer")
MODALITIES = ("CT", "MRI", "X-ray")


def write_release(root: Path, rows: int, *, size: int = 16, damaged: int = 0, different: int = 50) -> Path:
    """Writes a release of so many rows; rows share `different` pictures, and the last `damaged` of them are torn."""
    (root / "images").mkdir(parents=True)
    for number in range(min(rows, different) + 1):
        pixels = np.random.default_rng(number).integers(0, 255, (size, size), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        data = buffer.getvalue()
        torn = number == min(rows, different)
        (root / "images" / ("torn.jpg" if torn else f"{number}.jpg")).write_bytes(data[:100] if torn else data)
    with open(root / "rows.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(rows):
            image = "torn.jpg" if number >= rows - damaged else f"{number % min(rows, different)}.jpg"
            modality = MODALITIES[number % 3]
            caption = f"Drawn picture {number}, café."
            table.writerow([f"row{number}", image, f"g{number % 7}", "", modality, caption, "What is it?", modality])
    return root


class TinySource(Source):
    """The adapter. It goes by a registered name, because the gates let no other through.

    Args:
        root (`str` or `pathlib.Path`): the folder that [`write_release`] wrote.
        held_out (`float`, *optional*, defaults to 0.0): the share of groups for the test split.
        seed (`int`, *optional*, defaults to 0): chooses them.
        pause (`float`, *optional*, defaults to 0.0): seconds that every row takes longer.
        faults (`dict`, *optional*): what goes wrong, by row name: "raise", "memory", "surrogate", "number",
            "interrupt", "invalid", "record", "kill", "twice", "excluded", "disk".
        list_fails_at (`int`, *optional*): the row at which the list breaks off.
        folder (`str`, *optional*): a folder outside the release, which is ignored.
    """

    name = "pmc_vqa"
    layout = (("rows.csv", "the table"), ("images", "the pictures"))
    path_options = ("folder",)

    def __init__(self, root, *, held_out=0.0, seed=0, pause=0.0, faults=None, list_fails_at=None, folder=None):
        super().__init__(root, held_out=held_out, seed=seed)
        self.pause = pause
        self.faults = faults or {}
        self.list_fails_at = list_fails_at

    def items(self):
        for number, row in enumerate(csv_rows(self.release, "rows.csv")):
            if number == self.list_fails_at:
                raise ValueError(f"{self.release.root}/rows.csv is torn")
            if not row["caption"]:
                yield Skipped(row["name"], "missing text", "no caption")
                continue
            yield Item(row["name"], self.split_of(row["split"] or None, row["group"]), row)

    def read(self, item):
        time.sleep(self.pause)
        row, fault = item.data, self.faults.get(item.source_id)
        self._fail(fault)
        if fault == "excluded":
            yield Skipped(item.source_id, "refusal", "on demand")
            return
        image = read_picture(self.release, f"images/{row['image']}", item.source_id)
        if isinstance(image, Skipped):
            yield image
            return
        caption = "\ud800" if fault == "surrogate" else row["caption"]
        facts = [Fact("modality", "" if fault == "invalid" else row["modality"], "rows.csv column modality")]
        texts = [Text("caption", caption, "human", 5 if fault == "number" else "en")]
        identity = case_id(self.name, item.source_id, [image])
        case = Case(
            identity, self.name, item.source_id, row["group"], item.split, "CC-BY-SA-4.0", [image], facts, texts
        )
        yield case
        if fault == "twice":
            yield case

    def _fail(self, fault):
        if fault == "raise":
            raise KeyError(f"{self.release.root}/images/x\nsecond line")
        if fault == "memory":
            raise MemoryError
        if fault == "disk":
            raise OSError(28, "No space left on device")
        if fault == "interrupt":
            raise KeyboardInterrupt
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def records(self, case):
        if self.faults.get(case.source_id) == "record":
            raise RuntimeError("no record")
        modality = case.facts[0]
        for task, question, answer in (
            ("caption", "Describe this image.", case.texts[0].text),
            ("vqa", "What is it?", modality.value),
        ):
            turns = [] if task == "caption" else [QuestionTurn(0, "modality", "open", [], "modality", modality.source)]
            yield Record(
                content_id(case.id, task),
                case.id,
                case.source,
                case.source_id,
                case.licence,
                list(case.images),
                [message("user", question, images=1), message("assistant", answer)],
                ["rule", "human"],
                task,
                modality.value,
                list(case.facts),
                turns,
                [Provenance("messages[0]", "", "tiny 1", [])],
            )
