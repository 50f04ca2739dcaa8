"""Shards: complete or absent, and the same bytes for the same rows."""

import pyarrow.parquet
import pytest

from semihv_hf.data import shards
from semihv_hf.data.columns import case_schema
from semihv_hf.data.schema import Case, Fact


def rows(count: int):
    fact = Fact("modality", "CT", "tag")
    return [Case(str(i), "s", f"f{i}", "g", "train", "MIT", [bytes([i % 250])], [fact]).row() for i in range(count)]


def test_shards_are_numbered_and_end_before_they_grow_too_large(tmp_path, monkeypatch):
    size = shards.row_bytes(rows(1)[0])
    monkeypatch.setattr(shards, "SHARD_BYTES", 250 * size)
    written = shards.write_shards(rows(510), tmp_path, "train", case_schema())
    assert [shard["file"] for shard in written] == [f"train-0000{i}-of-0000{len(written)}.parquet" for i in range(3)]
    assert sum(shard["rows"] for shard in written) == 510
    assert all(240 <= shard["rows"] <= 250 for shard in written[:2]), "numbers of more digits make rows longer"
    metadata = pyarrow.parquet.read_metadata(tmp_path / written[0]["file"])
    assert [metadata.row_group(i).num_rows for i in range(2)] == [100, 100] and metadata.num_row_groups == 3
    ids = [
        name for shard in written for name in pyarrow.parquet.read_table(tmp_path / shard["file"])["id"].to_pylist()
    ]
    assert ids == [str(i) for i in range(510)]


def test_row_groups_of_large_rows_are_smaller_and_one_larger_row_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 10 * shards.row_bytes(rows(1)[0]))
    few = rows(25)
    few[12]["texts"] = [{"role": "report", "text": "x" * 5000, "annotation": "human", "language": "en", "image": None}]
    (written,) = shards.write_shards(few, tmp_path, "train", case_schema())
    metadata = pyarrow.parquet.read_metadata(tmp_path / written["file"])
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(sizes) == 25 and max(sizes) <= 10 and 1 in sizes


def test_row_bytes_is_at_least_what_texts_and_images_take():
    row = Case("i", "s", "f", "g", "train", "MIT", [b"x" * 1000], [Fact("modality", "é" * 100, "tag")]).row()
    assert 1200 <= shards.row_bytes(row) < 1500


def test_images_are_stored_as_they_are(tmp_path):
    (written,) = shards.write_shards(rows(120), tmp_path, "train", case_schema())
    group = pyarrow.parquet.read_metadata(tmp_path / written["file"]).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    images, facts = columns["images.list.element.bytes"], columns["facts.list.element.value"]
    assert images.compression == "UNCOMPRESSED" and facts.compression == "SNAPPY"
    assert images.statistics is None and facts.statistics is not None
    assert images.has_offset_index, "viewers need it to read single rows"


def test_same_rows_give_the_same_bytes(tmp_path):
    one = shards.write_shards(rows(120), tmp_path / "a", "test", case_schema())
    two = shards.write_shards(iter(rows(120)), tmp_path / "b", "test", case_schema())
    assert one == two


def test_a_failure_leaves_no_shard(tmp_path):
    def failing():
        yield from rows(150)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        shards.write_shards(failing(), tmp_path, "train", case_schema())
    assert list(tmp_path.iterdir()) == []
