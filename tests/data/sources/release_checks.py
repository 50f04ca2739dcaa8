"""What every adapter must do, whatever its release: read all of it and check what comes out."""

import io
import json
import pickle

import numpy as np
from PIL import Image

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Item, Skipped


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened)


def read_all(source, root):
    """Cases, skipped rows and records of a release, each by its id in the release, after the checks that all share."""
    listed = list(source.items())
    assert listed == list(source.items()), "listing twice gives two lists"
    again = pickle.loads(pickle.dumps(source))
    found = [entry for entry in listed if isinstance(entry, Skipped)]
    for item in listed:
        if isinstance(item, Item):
            item = Item(item.source_id, item.split, json.loads(json.dumps(item.data)))
            read = list(source.read(item))
            assert read and read == list(again.read(item)), item.source_id
            found += read
    cases, skipped, records = {}, {}, []
    for entry in found:
        assert entry.source_id not in (skipped if isinstance(entry, Skipped) else cases), entry.source_id
        if isinstance(entry, Skipped):
            skipped[entry.source_id] = entry
            assert str(root) not in entry.detail and "\n" not in entry.detail
            continue
        assert isinstance(entry, Case)
        cases[entry.source_id] = entry
        validate_case(entry.row())
        made = list(source.records(entry))
        assert made == list(again.records(entry))
        for record in made:
            validate_record(record.row())
        records += made
        assert str(root) not in repr((entry.facts, entry.texts, entry.regions, made))
    assert len({record.id for record in records}) == len(records)
    return cases, skipped, records


def facts_of(case: Case, name: str) -> list[str]:
    return [fact.value for fact in case.facts if fact.name == name]


def reasons(skipped) -> dict[str, str]:
    return {source_id: entry.reason for source_id, entry in skipped.items()}
