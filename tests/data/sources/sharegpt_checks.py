"""What the tests of all adapters of ShareGPT rows need: drawn pictures, and what must hold for every such release."""

import io
import json
import pickle

import numpy as np
from PIL import Image

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.schema import Case, Record
from semihv_hf.data.sources.base import Item, Skipped


def picture(number: int, kind: str = "JPEG") -> bytes:
    """A noisy picture that differs by its number, with metadata that must not survive."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 20, 3), np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "Name of a patient"
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def write_json(path, rows, *, bom: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(rows, ensure_ascii=False).encode()
    path.write_bytes(b"\xef\xbb\xbf" + data if bom else data)


def pairs(*texts: str, speaker: str = "from", said: str = "value", names=("human", "gpt")) -> list[dict]:
    return [{speaker: names[index % 2], said: text} for index, text in enumerate(texts)]


def read_all(source) -> tuple[dict[str, Case], dict[str, Skipped], dict[str, Record]]:
    """Reads a whole release by way of what must hold for any: cases, skips and records by source id."""
    listed = list(source.items())
    assert listed == list(source.items()), "the list differs when it is made again"
    ids = [entry.source_id for entry in listed]
    assert len(set(ids)) == len(ids), "an id repeats"
    copy = pickle.loads(pickle.dumps(source))
    cases, skipped, records = {}, {}, {}
    for entry in listed:
        if isinstance(entry, Skipped):
            skipped[entry.source_id] = entry
            continue
        assert isinstance(entry, Item) and json.loads(json.dumps(entry.data)) == entry.data
        (found,) = source.read(entry)
        (again,) = copy.read(entry)
        assert found == again
        if isinstance(found, Skipped):
            assert found.source_id == entry.source_id
            skipped[entry.source_id] = found
            continue
        assert found.source == source.name and found.source_id == entry.source_id and found.split == entry.split
        validate_case(found.row())
        assert b"Name of a patient" not in b"".join(found.images)
        cases[entry.source_id] = found
        (record,) = source.records(found)
        assert [record] == list(copy.records(found))
        validate_record(record.row())
        assert record.case_id == found.id and record.images == found.images
        records[entry.source_id] = record
    assert len(cases) + len(skipped) == len(listed)
    return cases, skipped, records


def facts(case: Case) -> dict[str, str]:
    return {fact.name: fact.value for fact in case.facts}


def texts(case: Case) -> dict[str, tuple[str, str]]:
    """Texts other than conversations by role, with who wrote them."""
    return {text.role: (text.text, text.annotation) for text in case.texts if text.role != "conversation"}
