"""Small folders of cases for the tests of the pipeline: real PNG images of noise, captions of real words."""

import io
import random
from pathlib import Path

from semihv_hf.data.columns import case_schema
from semihv_hf.data.schema import Case, Fact, Text, case_id
from semihv_hf.data.shards import write_shards

FINDINGS = (
    "consolidation", "effusion", "nodule", "fracture", "haemorrhage", "infarct", "oedema", "pneumothorax", "mass",
    "calcification", "atelectasis", "stenosis", "aneurysm", "abscess", "cyst", "haematoma", "thrombus", "fibrosis",
)  # fmt: skip
PLACES = (
    "left lower lobe", "right upper lobe", "liver", "spleen", "left kidney", "right kidney", "frontal lobe",
    "temporal lobe", "cerebellum", "femur", "tibia", "humerus", "mediastinum", "pancreas", "aorta", "bladder",
)  # fmt: skip


def picture(seed: int, side: int = 24) -> bytes:
    """A PNG that no other seed gives."""
    from PIL import Image

    pixels = random.Random(seed).randbytes(side * side)
    buffer = io.BytesIO()
    Image.frombytes("L", (side, side), pixels).save(buffer, "PNG")
    return buffer.getvalue()


def caption(seed: int) -> str:
    """Three sentences about findings."""
    rng = random.Random(f"caption {seed}")
    sentences = []
    for _ in range(3):
        finding, place, size = rng.choice(FINDINGS), rng.choice(PLACES), rng.randint(3, 90)
        sentences.append(f"There is a {size} mm {finding} in the {place}.")
    return " ".join(sentences)


def make_case(number: int, *, source: str = "pydicom", side: int = 24, split: str = "train", images: int = 1) -> Case:
    """A case with images, a caption each, and a modality that the file states for every third."""
    shown = [picture(1000 * number + index, side) for index in range(images)]
    texts = [Text("caption", caption(100 * number + index), "human", "en", index) for index in range(images)]
    facts = [Fact("modality", "CT", "DICOM (0008,0060) Modality")] if number % 3 == 0 else []
    source_id = f"scans/{number:05d}.dcm"
    return Case(
        id=case_id(source, source_id, shown),
        source=source,
        source_id=source_id,
        group=f"patient {number}",
        split=split,
        licence="MIT",
        images=shown,
        facts=facts,
        texts=texts,
    )


def write_cases(folder: Path, count: int, **options) -> Path:
    """A dataset folder with so many cases."""
    rows = (make_case(number, **options).row() for number in range(count))
    write_shards(rows, folder / "data" / "cases", options.get("split", "train"), case_schema())
    return folder
