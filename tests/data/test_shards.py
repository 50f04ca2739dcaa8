"""Shards: complete or absent, and the same bytes for the same rows."""

import pyarrow.parquet
import pytest

from semihv_hf.data import shards
from semihv_hf.data.features import case_features
from semihv_hf.data.schema import Case, Fact


def rows(count: int):
    fact = Fact("modality", "CT", "tag")
    return [Case(str(i), "s", f"f{i}", "g", "train", "MIT", [bytes([i % 250])], [fact]).row() for i in range(count)]


def test_shards_are_numbered_and_grouped(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 250)
    written = shards.write_shards(rows(510), tmp_path, "train", case_features())
    assert [shard["file"] for shard in written] == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert [shard["rows"] for shard in written] == [250, 250, 10]
    metadata = pyarrow.parquet.read_metadata(tmp_path / written[0]["file"])
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 100
    table = pyarrow.parquet.read_table(tmp_path / written[2]["file"])
    assert table["id"].to_pylist() == [str(i) for i in range(500, 510)]


def test_same_rows_give_the_same_bytes(tmp_path):
    one = shards.write_shards(rows(120), tmp_path / "a", "test", case_features())
    two = shards.write_shards(iter(rows(120)), tmp_path / "b", "test", case_features())
    assert one == two


def test_a_failure_leaves_no_shard(tmp_path):
    def failing():
        yield from rows(150)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        shards.write_shards(failing(), tmp_path, "train", case_features())
    assert list(tmp_path.iterdir()) == []
