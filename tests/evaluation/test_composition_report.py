"""The composition page: the numbers of the rows, nothing from elsewhere, and what repeats is told."""

import io
import json
import random
import re

import pyarrow.parquet
import pytest
from datasets import Dataset
from PIL import Image

from semihv_hf.data.composition import PUBLISHED
from semihv_hf.data.features import case_features
from semihv_hf.data.schema import Case, Fact, Text
from semihv_hf.evaluation.composition import figure_rows, write_composition


def picture(seed: int, quality: int = 95) -> bytes:
    """Noise of few large patches: different seeds are different pictures, different qualities the same one."""
    generator = random.Random(seed)
    small = Image.frombytes("L", (6, 6), generator.randbytes(36))
    buffer = io.BytesIO()
    small.resize((96, 96), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("composition")
    splits = {"train": range(6), "test": (10, 11)}
    for split, numbers in splits.items():
        rows = [
            Case(
                f"{split}{number}", "eurorad", f"{number}", f"g{number}", split, "CC-BY-4.0",
                [picture(number), picture(100 + number)],
                [Fact("modality", ("MRI", "CT")[number % 2], "the case"), Fact("body_part", "chest <b>", "the case")],
                [Text("findings", "Seen.", "human" if number % 3 else "machine")],
            ).row()
            for number in numbers
        ]  # fmt: skip
        if split == "test":  # the picture of a training case, stored anew
            rows[0]["images"][0]["bytes"] = picture(3, quality=70)
        path = root / "small" / "data" / "cases" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows, features=case_features()).to_parquet(path)
    (root / "small" / "build_manifest.json").write_text("{}")
    report = write_composition([root / "small"], root / "page.html")
    return root, report, (root / "page.html").read_text()


def test_the_page_shows_the_counts_of_the_rows(page):
    root, report, html = page
    assert report["totals"] == {"cases": 8, "images": 16, "answers": 0}
    assert json.loads((root / "page.json").read_text())["totals"] == report["totals"]
    assert "16 images in 8 cases" in html
    row = re.search(r'<th scope="row">CT</th>(.*?)</tr>', html, re.S).group(1)
    assert re.findall(r">(\d+)<", row) == ["8", "8"]
    assert "These folders hold no training conversations" in html


def test_the_picture_that_is_in_two_splits_is_found(page):
    root, report, html = page
    [pair] = report["overlap"]["pairs"]
    assert (pair["kind"], pair["split"], pair["other_split"], pair["pairs"]) == ("image", "train", "test", 1)
    [row] = pyarrow.parquet.read_table(root / "page_overlap" / "overlap.parquet").to_pylist()
    assert {row["id"], row["other_id"]} == {"train3", "test10"}
    assert "small/train3" in html and "small/test10" in html


def test_the_page_needs_nothing_but_itself_and_escapes_what_rows_say(page):
    root, _, html = page
    assert "default-src 'none'" in html and not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert "chest &lt;b&gt;" in html and "chest <b>" not in html
    assert str(root) not in html


def test_the_figure_sets_the_data_beside_the_published_shares():
    rows = figure_rows({"CT": 3, "ultrasound": 1})
    assert rows[0] == {"name": "CT", "images": 3, "shares": [75.0, 9.09, 31.15]}
    by_name = {row["name"]: row["shares"] for row in rows}
    assert by_name["ultrasound"] == [25.0, None, None]
    assert by_name["optical image"] == [0.0, 4.83, None]
    assert set(by_name) == {"CT", "ultrasound"}.union(*PUBLISHED.values())
    assert figure_rows({})[0]["shares"][0] is None
