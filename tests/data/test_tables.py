"""Tables row by row: damaged rows can be told, and memory stays the same however long the table is."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.data.release import Release
from semihv_hf.data.tables import DiskTable, csv_rows, json_rows
from semihv_hf.errors import SemiHVError


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path)


def test_csv_rows_carry_the_names_of_the_header(release):
    text = '\ufeffImageID , Report\na,"one, two\nthree"\n\nb\nc,d,e,f\n'
    (release.root / "t.csv").write_bytes(text.encode())
    assert list(csv_rows(release, "t.csv")) == [
        {"ImageID": "a", "Report": "one, two\nthree"},
        {"ImageID": "b", "Report": ""},
        {"ImageID": "c", "Report": "d", "": "e,f"},
    ]


def test_a_table_without_even_a_header_is_an_error_and_one_without_rows_is_not(release):
    (release.root / "t.csv").write_text("a,b\n")
    assert list(csv_rows(release, "t.csv")) == []
    (release.root / "t.csv").write_text("")
    with pytest.raises(SemiHVError, match="t.csv in .* is empty"):
        list(csv_rows(release, "t.csv"))


def test_a_cell_may_be_long(release):
    (release.root / "t.csv").write_text("a\n" + "x" * 500_000 + "\n")
    assert len(next(csv_rows(release, "t.csv"))["a"]) == 500_000


def test_json_rows_reads_arrays_and_lines_whatever_the_suffix(release):
    rows = [{"a": 1, "b": 1.5}, {"a": "é", "b": None}]
    (release.root / "array.jsonl").write_text("\ufeff\n" + json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (release.root / "lines.json").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (release.root / "inside.json").write_text(json.dumps({"info": {"p1": rows}}))
    assert list(json_rows(release, "array.jsonl")) == rows == list(json_rows(release, "lines.json"))
    assert type(next(json_rows(release, "array.jsonl"))["b"]) is float
    assert list(json_rows(release, "inside.json", path="info.p1.item")) == rows


def test_damaged_json_yields_what_came_before_and_names_the_file(release):
    (release.root / "torn.json").write_text('[{"a": 1}, {"a": ')
    rows = json_rows(release, "torn.json")
    assert next(rows) == {"a": 1}
    with pytest.raises(ValueError, match="torn.json is no valid JSON"):
        next(rows)


@pytest.mark.parametrize(("name", "read"), [("t.csv", csv_rows), ("t.json", json_rows)])
def test_memory_does_not_grow_with_the_table(release, name, read):
    def peak(count: int) -> int:
        rows = [{"a": str(number), "b": "x" * 100} for number in range(count)]
        lines = "a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in rows)
        (release.root / name).write_text(lines if read is csv_rows else json.dumps(rows))
        del rows, lines
        tracemalloc.start()
        assert sum(1 for _ in read(release, name)) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(20_000) < 1.2 * peak(2_000)


def test_a_disk_table_joins_and_remembers():
    with DiskTable([("a", 1), ("b", [2]), ("a", {"c": 3})]) as table:
        assert table.all("a") == [1, {"c": 3}] and table.get("b") == [2] and table.get("x") is None
        assert not table.add("a") and table.add("c", 5) and not table.add("c", 6)
        assert table.get("c") == 5 and list(table.keys()) == ["a", "b", "c"]


def test_a_killed_process_leaves_no_table_behind(tmp_path, run_python):
    """Twenty megabytes against a cache of four: the file of SQLite was really there."""
    code = (
        "import os, signal\n"
        "from semihv_hf.data.tables import DiskTable\n"
        "table = DiskTable((str(i), 'x' * 1000) for i in range(20_000))\n"
        "links = [os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd')"
        " if os.path.islink(f'/proc/self/fd/{name}')]\n"
        "print(*(link for link in links if link.startswith(os.environ['TMPDIR'])), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = run_python(code, check=False, TMPDIR=str(tmp_path))
    assert done.returncode == -9 and str(tmp_path) in done.stdout
    assert not list(tmp_path.iterdir())


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers()), max_size=30))
def test_a_disk_table_is_a_dictionary_of_lists(entries):
    expected = {}
    for key, value in entries:
        expected.setdefault(key, []).append(value)
    with DiskTable(entries) as table:
        assert {key: table.all(key) for key in table.keys()} == expected
        assert list(table.keys()) == list(expected)


def test_groups_are_the_keys_in_their_first_order_with_all_their_values():
    rows = [("b", 1), ("a", [2]), ("b", 3), ("c", None), ("a", {"x": 4})]
    with DiskTable(iter(rows)) as table:
        assert list(table.groups()) == [("b", [1, 3]), ("a", [[2], {"x": 4}]), ("c", [None])]
        assert list(table.groups()) == [(key, table.all(key)) for key in table.keys()]
    with DiskTable() as empty:
        assert list(empty.groups()) == []


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_json_nested_deeper_than_any_release_is_refused_at_once(tmp_path, opening):
    (tmp_path / "deep.json").write_text("[1, " + opening * 100_000)
    rows = json_rows(Release(tmp_path), "deep.json")
    assert next(rows) == 1
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        list(rows)
