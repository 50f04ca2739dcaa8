"""Tables of a release: a wrong or torn file is one clear error."""

import gzip

import pytest

from semihv_hf.data.release import Release
from semihv_hf.data.sources.release_tables import numbered_rows, require_columns
from semihv_hf.errors import SemiHVError


def test_rows_are_numbered_from_one(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf,a\n0,x\n\n1,y\n")
    require_columns(Release(tmp_path), "some", "t.csv", ["a"])
    assert list(numbered_rows(Release(tmp_path), "t.csv")) == [
        (1, {"Unnamed: 0": "0", "a": "x"}), (2, {"Unnamed: 0": "1", "a": "y"}),
    ]  # fmt: skip


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    (tmp_path / "t.csv").write_text(",a,b\n")
    with pytest.raises(SemiHVError, match=r"t.csv is no some table: missing columns c\. Found: \(unnamed\), a, b\."):
        require_columns(Release(tmp_path), "some", "t.csv", ["a", "c"])


def test_a_torn_table_is_one_error_after_the_rows_before_it(tmp_path):
    packed = gzip.compress(b"a\n" + b"".join(b"%d\n" % number for number in range(50_000)))
    (tmp_path / "t.csv.gz").write_bytes(packed[: len(packed) // 2])
    read = []
    with pytest.raises(SemiHVError, match="t.csv.gz is damaged after row") as error:
        for number, _ in numbered_rows(Release(tmp_path), "t.csv.gz"):
            read.append(number)
    assert read and f"after row {read[-1]}:" in str(error.value) and str(tmp_path) not in str(error.value)


def test_a_table_that_is_no_text_is_one_error(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(SemiHVError, match="t.csv is damaged"):
        list(numbered_rows(Release(tmp_path), "t.csv"))
    (tmp_path / "t.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(SemiHVError, match="t.csv.gz is damaged after row 0"):
        require_columns(Release(tmp_path), "some", "t.csv.gz", ["a"])
