"""Folders of cases, records and questions with drawn pictures, for the tests of duplicates and decontamination."""

import io
import random

from PIL import Image, ImageDraw, ImageFilter

from semihv_hf.data.benchmarks.question import Question
from semihv_hf.data.features import case_features, question_features, record_features
from semihv_hf.data.messages import message
from semihv_hf.data.schema import Case, Record, Text

REPORT = (
    "There is a rounded opacity of about three centimetres in the right upper lobe with a spiculated margin and a "
    "thickened pleura beside it; the mediastinal lymph nodes are not enlarged and the left lung is clear throughout."
)


def draw(seed: int, size: tuple[int, int] = (120, 96)) -> Image.Image:
    """A drawn body-like picture: a dark ground and random organs."""
    generator = random.Random(seed)
    image = Image.new("L", size, 8)
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = generator.randrange(size[0]), generator.randrange(size[1])
        w, h = generator.randrange(6, 36), generator.randrange(6, 36)
        pen.ellipse((x - w, y - h, x + w, y + h), fill=generator.randrange(20, 255))
    return image.filter(ImageFilter.GaussianBlur(1)).convert("RGB")


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int, quality: int = 80) -> bytes:
    return encode(draw(seed), "JPEG", quality=quality)


def png(seed: int) -> bytes:
    return encode(draw(seed))


def case(
    identity: str, *pictures: bytes, text: str = "", annotation="human", group="", source="drawn", role="report"
) -> dict:
    texts = [Text(role, text, annotation)] if text else []
    return Case(identity, source, identity, group, "train", "CC0-1.0", list(pictures), texts=texts).row()


def record(identity: str, question: str, answer: str) -> dict:
    return Record(
        identity, f"case {identity}", "drawn", identity, "CC0-1.0", [],
        [message("user", question), message("assistant", answer)], ["machine", "machine"], "vqa", "CT",
    ).row()  # fmt: skip


def question(identity: str, text: str, *pictures: bytes, split: str = "test", answer: str = "no") -> dict:
    return Question(
        id=identity, benchmark="drawn", source_id=identity, group=identity, split=split, licence="CC0-1.0",
        images=list(pictures), question=text, answer=answer, answer_type="open",
    ).row()  # fmt: skip


def write(folder, rows: list[dict], *, config: str = "cases", split: str = "train", shards: int = 1):
    import pyarrow.parquet

    features = {"cases": case_features, "questions": question_features}.get(config, record_features)()
    (folder / "data" / config).mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        path = folder / "data" / config / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
        table = pyarrow.Table.from_pylist(rows[shard::shards], schema=features.arrow_schema)
        pyarrow.parquet.write_table(table, path)
    return folder


def rows_of(path) -> list[dict]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()
