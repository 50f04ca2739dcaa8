"""Small folders to publish: datasets of drawn noise, and a metric."""

import json
import random
from pathlib import Path

from semihv_hf.data.columns import case_schema, record_schema
from semihv_hf.data.schema import Case, Evidence, Fact, Text, case_id
from semihv_hf.data.shards import write_shards
from semihv_hf.files import write_json

CARD = """---
license: mit
configs:
- config_name: cases
  default: true
  data_files:
  - split: train
    path: data/cases/train-*.parquet
---
# Drawn noise

`load_dataset("your-name/drawn-noise")`
"""


def drawn_case(number: int, source: str = "pydicom", published: str | None = None, side: int = 16) -> Case:
    """A case with one image of noise."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("L", (side, side), random.Random(f"{source} {number}").randbytes(side * side)).save(buffer, "PNG")
    image = buffer.getvalue()
    facts = [] if published is None else [Fact("published", published, "field date")]
    return Case(
        id=case_id(source, str(number), [image]),
        source=source,
        source_id=f"item {number}",
        group=f"patient {number}",
        split="train",
        licence="as stated",
        images=[image],
        facts=facts,
        texts=[Text("caption", f"Noise, number {number}.", "human", "en", 0)],
    )


def write_dataset(folder: Path, cases: list[Case], *, parts: int = 1, manifest: bool = True) -> Path:
    """A finished dataset folder in so many shards."""
    shards = []
    for index in range(parts):
        (shard,) = write_shards(
            [case.row() for case in cases[index::parts]], folder / "data" / "cases", f"part{index}", case_schema()
        )
        name = f"train-{index:05d}-of-{parts:05d}.parquet"
        (folder / "data" / "cases" / shard["file"]).rename(folder / "data" / "cases" / name)
        shards.append({**shard, "file": name})
    (folder / "README.md").write_text(CARD)
    if manifest:
        write_json(folder / "build_manifest.json", {"source": cases[0].source, "shards": {"cases": {"train": shards}}})
    return folder


def add_record_with_evidence(folder: Path, source: str) -> None:
    """Adds a record in which a text of another source was used."""
    from semihv_hf.data.records import alignment_record

    record = alignment_record(drawn_case(0))
    record.evidence = [Evidence("guidelines", "1", source, "as stated", "A guideline", 0.5, "text", 0, 4)]
    (shard,) = write_shards([record.row()], folder / "data" / "alignment", "train", record_schema())
    path = folder / "build_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"]["alignment"] = {"train": [shard]}
    write_json(path, manifest)


def write_metric(folder: Path, name: str) -> Path:
    """A metric that needs nothing but evaluate."""
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(
        "import datasets\nimport evaluate\n\nfrom .counting import count\n\n\n"
        "class Metric(evaluate.Metric):\n"
        "    def _info(self):\n"
        '        features = datasets.Features({"predictions": datasets.Value("int64"),'
        ' "references": datasets.Value("int64")})\n'
        '        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)\n\n'
        "    def _compute(self, predictions, references):\n"
        '        return {"agree": count(predictions, references)}\n'
    )
    (folder / "counting.py").write_text("def count(a, b):\n    return sum(x == y for x, y in zip(a, b))\n")
    (folder / "app.py").write_text('print("an app")\n')
    (folder / "requirements.txt").write_text("evaluate\n")
    front = "title: Agree\nsdk: gradio\nsdk_version: '6.31.0'\napp_file: app.py\nlicense: mit\n"
    body = "# Agree\n## What it measures\n## How to use it\n## Limits\n"
    (folder / "README.md").write_text(f"---\n{front}---\n{body}")
    return folder
