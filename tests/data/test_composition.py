"""Composition: every image and every answer is counted once, where it belongs."""

import io
import json

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semihv_hf.data.composition import CLASSES, PUBLISHED, composition, figure_class, table_of
from semihv_hf.data.features import case_features, record_features
from semihv_hf.data.messages import message
from semihv_hf.data.schema import Case, Fact, Record, Text
from semihv_hf.errors import SemiHVError


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def case(number: int, source="quilt", split="train", images=1, texts=(), **facts) -> dict:
    stated = [Fact(name, value, "the table") for name, value in facts.items()]
    written = [Text("caption", "x", annotation) for annotation in texts]
    return Case(str(number), source, str(number), "g", split, "MIT", [png()] * images, stated, written).row()


def record(number: int, *authors: str, source="quilt", task="vqa") -> dict:
    messages, annotation = [], []
    for author in authors:
        messages += [message("user", "What?", 0 if messages else 1), message("assistant", "That.")]
        annotation += ["rule", author]
    return Record(
        str(number), "c", source, "s", "MIT", [png()], messages, annotation, task, "CT"
    ).row()  # fmt: skip


def write(folder, tables: dict[str, list[dict]]):
    for place, rows in tables.items():
        path = folder / "data" / f"{place}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        features = case_features() if place.startswith("cases") else record_features()
        Dataset.from_list(rows, features=features).to_parquet(path)
    (folder / "build_manifest.json").write_text("{}")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(
        tmp_path / "set",
        {
            "cases/train": [
                case(1, images=2, modality="CT", body_part="chest", texts=["machine", "human"]),
                case(2, images=1, modality="CT", body_part="chest", texts=["human"]),
                case(3, images=3, modality="histology"),
            ],
            "cases/test": [case(4, split="test", modality="CT", body_part="chest", texts=["machine"])],
            "instruction/train": [record(1, "human", "machine"), record(2, "machine")],
            "alignment/train": [record(3, "human", task="caption", source="eurorad")],
        },
    )


def test_cells_count_cases_and_their_images(folder):
    counted = composition([folder])
    cells = {
        tuple(cell[k] for k in ("modality", "body_part", "annotation", "split")): cell for cell in counted["cells"]
    }
    assert len(cells) == 3
    chest = cells["CT", "chest", "human", "train"]
    assert (chest["source"], chest["cases"], chest["images"]) == ("quilt", 2, 3)
    assert cells["CT", "chest", "machine", "test"]["images"] == 1
    assert cells["histology", "unknown", "none", "train"]["images"] == 3
    assert counted["classes"] == {"CT": 4, "pathology": 3}
    assert counted["totals"] == {"cases": 4, "images": 7, "answers": 4}


def test_answers_count_by_who_wrote_them(folder):
    rows = {
        (row["source"], row["config"], row["task"], row["annotation"]): row["answers"]
        for row in composition([folder])["messages"]
    }
    assert rows == {
        ("quilt", "instruction", "vqa", "machine"): 2,
        ("quilt", "instruction", "vqa", "human"): 1,
        ("eurorad", "alignment", "caption", "human"): 1,
    }


def test_folders_add_up(folder, tmp_path):
    other = write(tmp_path / "other", {"cases/train": [case(9, source="eurorad", modality="MRI", texts=["human"])]})
    both = composition([folder, other])
    assert both["totals"]["images"] == 8 and {cell["source"] for cell in both["cells"]} == {"quilt", "eurorad"}
    assert both == composition([other, folder])


def test_pixels_are_not_read(folder, tmp_path):
    """The same counts come from rows whose images cannot be decoded."""
    rows = [{**case(1, modality="CT"), "images": [{"bytes": b"no image", "path": None}] * 5}]
    assert composition([write(tmp_path / "broken", {"cases/train": rows})])["totals"]["images"] == 5


def test_an_unfinished_folder_is_refused(folder):
    (folder / "build_manifest.json").unlink()
    with pytest.raises(SemiHVError, match="set is not a finished dataset folder"):
        composition([folder])


def test_every_published_class_exists_and_shares_do_not_exceed_the_whole():
    for name, shares in PUBLISHED.items():
        assert set(shares) <= set(CLASSES), name
        assert 90 < sum(shares.values()) <= 100.01, name
    assert figure_class("Histology") == "pathology" and figure_class("voice") == "not classified"


@settings(max_examples=30)
@given(
    st.lists(
        st.fixed_dictionaries({"a": st.sampled_from("xyz"), "b": st.sampled_from("pq"), "images": st.integers(0, 50)}),
        max_size=20,
    )
)
def test_a_folded_table_keeps_the_sum(cells):
    table = table_of(cells, "a", "b")
    total = sum(cell["images"] for cell in cells)
    assert sum(table["sums"]) == sum(row["total"] for row in table["rows"]) == total
    assert all(sum(row["counts"]) == row["total"] for row in table["rows"])
    assert table == table_of(reversed(cells), "a", "b")
    json.dumps(table)
