"""`load_dataset("semihvision", "<source>")` on releases as downloaded: rows, splits, processes, what is left out."""

import pytest
from small_releases import RADIOPAEDIA_COLUMNS, write_jama, write_pmc_vqa, write_radiopaedia

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.configs import config_of
from semihv_hf.data.sources import ADAPTERS, source_class
from semihv_hf.errors import SemiHVError


def load(*arguments, **options):
    from datasets import load_dataset

    import semihv_hf  # noqa: F401  registers the name

    return load_dataset("semihvision", *arguments, **options)


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_pmc_vqa(tmp_path_factory.mktemp("release") / "pmc_vqa", train=70, test=6)


@pytest.fixture(scope="module")
def expected(release):
    """The rows that the adapter gives by itself, by kind and split."""
    from semihv_hf.data.sources.base import Item

    source = source_class("pmc_vqa")(release)
    rows: dict[tuple[str, str], list[str]] = {}
    for item in source.items():
        assert isinstance(item, Item)
        for case in source.read(item):
            rows.setdefault(("cases", case.split), []).append(case.id)
            for record in source.records(case):
                rows.setdefault(("records", case.split), []).append(record.id)
                rows.setdefault((config_of(record.task), case.split), []).append(record.id)
    return rows


def without_pictures(rows):
    return [row["id"] for row in rows.remove_columns("images")]


@pytest.mark.parametrize("rows", ["cases", "alignment", "instruction", "records"])
def test_rows_are_those_of_the_adapter_in_its_order(rows, release, expected, cache):
    loaded = load("pmc_vqa", data_dir=str(release), cache_dir=cache, rows=rows)
    assert list(loaded) == ["train", "test"]
    for split in loaded:
        assert without_pictures(loaded[split]) == expected[rows, split]
        assert loaded[split][0]["images"][0].size == (32, 24)
    raw = loaded["test"].with_format("arrow")[:]["images"].to_pylist()
    assert all(image["path"] is None for row in raw for image in row)
    validate = validate_case if rows == "cases" else validate_record
    for row in loaded["train"]:
        validate(row)


def test_two_processes_give_the_same_rows(release, expected, cache):
    two = load("pmc_vqa", data_dir=str(release), cache_dir=cache, num_proc=2, rows="records")
    assert without_pictures(two["train"]) == expected["records", "train"]


def test_streaming_gives_the_same_rows(release, expected):
    streamed = load("pmc_vqa", data_dir=str(release), streaming=True, rows="records")
    assert list(streamed) == ["train", "test"] and streamed["train"].num_shards == 16
    for _ in range(2):  # a second pass over the same object starts again
        assert without_pictures(streamed["train"]) == expected["records", "train"]


def test_a_stream_can_be_sharded_and_shuffled(release, expected):
    streamed = load("pmc_vqa", data_dir=str(release), streaming=True)["train"]
    parts = [without_pictures(streamed.shard(3, index)) for index in range(3)]
    assert sum(parts, []) == expected["cases", "train"] and min(map(len, parts)) > 20
    shuffled = without_pictures(streamed.shuffle(seed=1, buffer_size=1))  # reads several blocks at once, in threads
    assert shuffled != expected["cases", "train"] and sorted(shuffled) == sorted(expected["cases", "train"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A release with torn figures, and what a build makes of it."""
    from semihv_hf.data.build import build

    root = tmp_path_factory.mktemp("torn")
    write_pmc_vqa(root / "pmc_vqa", train=30, test=6, torn=(3, 32))
    build("pmc_vqa", root / "built", data_dir=root / "pmc_vqa", workers=1, max_skipped=0.1, progress=False)
    return root


@pytest.mark.parametrize("rows", ["cases", "alignment", "instruction"])
def test_rows_are_byte_for_byte_those_of_a_build(rows, folder, cache):
    raw = load("pmc_vqa", data_dir=str(folder / "pmc_vqa"), cache_dir=cache, rows=rows, max_skipped=0.1)
    built = load(rows, data_dir=str(folder / "built"), cache_dir=cache)
    named = load("pmc_vqa", data_dir=str(folder / "built"), cache_dir=cache, rows=rows)
    assert list(raw) == list(built) == list(named) == ["train", "test"]
    for split, count in (("train", 29), ("test", 5)):
        tables = [loaded[split].with_format("arrow")[:].to_pylist() for loaded in (raw, built, named)]
        assert tables[0] == tables[1] == tables[2] and len(tables[0]) == count
        assert raw[split].features == built[split].features


def test_both_count_the_same_left_out(folder, cache, said):
    import json

    load("pmc_vqa", data_dir=str(folder / "pmc_vqa"), cache_dir=cache, max_skipped=0.1)
    report = json.loads((folder / "built" / "build_report.json").read_text())
    assert (report["listed"], report["kept"], report["skipped"]) == (36, 34, {"unreadable image": 2})
    assert "pmc_vqa: 2 left out of 36: 2 unreadable image" in said()


def test_consecutive_blocks_walk_the_list_once(release):
    """Without this, streaming would walk a list of a million things once for each block."""
    from semihv_hf.data.release_rows import ReleaseRows
    from semihv_hf.data.skips import Tally

    class Counting(source_class("pmc_vqa")):
        walks = 0

        def items(self):
            Counting.walks += 1
            yield from super().items()

    reader = ReleaseRows(Counting(release), "cases")
    blocks = reader.blocks(64)
    assert Counting.walks == 1 and len(blocks["train"]) == 64
    rows = [key for split in blocks for block in blocks[split] for key, _ in reader.read(block, Tally())]
    assert Counting.walks == 3 and len(rows) == len(set(rows)) == 76


def test_no_split_without_rows(tmp_path, cache):
    write_pmc_vqa(tmp_path / "pmc_vqa", train=3, test=0)
    assert list(load("pmc_vqa", data_dir=str(tmp_path / "pmc_vqa"), cache_dir=cache)) == ["train"]
    with pytest.raises(SemiHVError, match="has no annealing"):
        load("pmc_vqa", data_dir=str(tmp_path / "pmc_vqa"), cache_dir=cache, rows="annealing")


@pytest.fixture
def said(caplog, monkeypatch):
    """What `datasets` says, whose logger passes nothing on by itself."""
    import datasets

    monkeypatch.setattr(datasets.utils.logging.get_logger("datasets"), "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("processes", [None, 2])
def test_what_is_left_out_is_counted_and_too_much_of_it_is_an_error(processes, tmp_path, cache, said):
    root = str(write_pmc_vqa(tmp_path / "pmc_vqa", train=16, test=4, torn=(3, 9, 18)))
    with pytest.raises(SemiHVError, match=r"15.0% of pmc_vqa.*3 left out of 20: 3 unreadable image"):
        load("pmc_vqa", data_dir=root, cache_dir=cache, num_proc=processes)
    rows = load("pmc_vqa", data_dir=root, cache_dir=cache, num_proc=processes, max_skipped=0.2)
    assert {split: len(rows[split]) for split in rows} == {"train": 14, "test": 3}
    assert "pmc_vqa: 3 left out of 20: 3 unreadable image" in said()


def test_while_streaming_the_error_comes_when_a_split_has_been_read(tmp_path, said):
    root = str(write_pmc_vqa(tmp_path / "pmc_vqa", train=16, test=4, torn=(3, 9)))
    streamed = load("pmc_vqa", data_dir=root, streaming=True)
    found = []
    with pytest.raises(SemiHVError, match=r"12.5% of pmc_vqa \(train\).*2 left out of 16"):
        found.extend(row["id"] for row in streamed["train"])
    assert len(found) == 14
    allowed = load("pmc_vqa", data_dir=root, streaming=True, max_skipped=0.2)
    assert sum(len(list(allowed[split])) for split in allowed) == 18
    assert "pmc_vqa: 2 left out of 20: 2 unreadable image" in said()


def test_a_changed_table_is_read_again(tmp_path, cache):
    root = write_pmc_vqa(tmp_path / "pmc_vqa", train=4, test=0)
    first = load("pmc_vqa", data_dir=str(root), cache_dir=cache)
    table = root / "train_2.csv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace("Where is bar 1?", "Where is the bar?"))
    again = load("pmc_vqa", data_dir=str(root), cache_dir=cache)
    assert first["train"]["texts"][0] == again["train"]["texts"][0] != again["train"]["texts"][1]
    assert again["train"]["texts"][1][1]["text"] == "Where is the bar?" != first["train"]["texts"][1][1]["text"]


def test_the_options_of_an_adapter_arrive_and_unknown_ones_are_refused(release, cache):
    options = {"answer_form": "letter_and_option"}
    rows = load("pmc_vqa", data_dir=str(release), cache_dir=cache, rows="instruction", options=options, split="test")
    assert rows[0]["messages"][1]["content"][0]["text"].startswith("A. bar at column")
    with pytest.raises(SemiHVError, match="pmc_vqa has no option 'colour'.*version, answer_form"):
        load("pmc_vqa", data_dir=str(release), cache_dir=cache, options={"colour": "red"})
    with pytest.raises(SemiHVError, match="rows is 'poems'.*cases, alignment"):
        load("pmc_vqa", data_dir=str(release), cache_dir=cache, rows="poems")


def test_a_wrong_folder_says_what_was_expected_and_found(tmp_path, cache):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(SemiHVError, match=r"no pmc_vqa release.*train_2.csv.*Found: holiday.jpg"):
        load("pmc_vqa", data_dir=str(tmp_path), cache_dir=cache)


def test_every_adapter_is_a_config(tmp_path, cache):
    assert len(ADAPTERS) == 15
    for name in ADAPTERS:
        with pytest.raises(SemiHVError, match="release|folder|copy"):
            load(name, data_dir=str(tmp_path), cache_dir=cache)


def test_all_reads_every_folder_and_says_which(release, tmp_path, cache, said):
    root = tmp_path / "releases"
    root.mkdir()
    (root / "pmc_vqa").symlink_to(release)
    write_jama(root / "jama", 4)
    rows = load("all", data_dir=str(root), cache_dir=cache)
    assert {split: len(rows[split]) for split in rows} == {"train": 70, "test": 10}
    assert rows["test"]["source"] == ["jama"] * 4 + ["pmc_vqa"] * 6
    assert any("reading jama, pmc_vqa; not there: biomed_vital" in line for line in said())
    records = load("all", data_dir=str(root), rows="annealing", cache_dir=cache)
    assert list(records) == ["test"] and set(records["test"]["source"]) == {"jama"}
    with pytest.raises(SemiHVError, match="options names require_images"):
        load("all", data_dir=str(root), cache_dir=cache, options={"require_images": True})
    only = load("all", data_dir=str(root), cache_dir=cache, options={"jama": {"require_images": True}}, max_skipped=1)
    assert only["test"]["source"].count("jama") == 2


def test_all_of_nothing_names_what_was_looked_for(tmp_path, cache):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SemiHVError, match=r"Looked for sub-folders biomed_vital, deeplesion.*found: notes.txt"):
        load("all", data_dir=str(tmp_path), cache_dir=cache)


STATEMENT = """
statements:
- source: radiopaedia
  gates: [write]
  statement: We have an agreement with the site that covers this collection and this use of it.
signed_by: A. Researcher
organisation: Example University
date: 2026-01-02
"""


def test_a_source_that_needs_a_statement_is_streamed_but_not_cached_without_one(tmp_path, cache):
    release = str(write_radiopaedia(tmp_path / "release"))
    options = {"columns": RADIOPAEDIA_COLUMNS}
    with pytest.raises(SemiHVError, match="radiopaedia.*may not be written.*attestation"):
        load("radiopaedia", data_dir=release, cache_dir=cache, options=options)
    assert len(list(load("radiopaedia", data_dir=release, streaming=True, options=options)["train"])) == 3
    signed = tmp_path / "statement.yaml"
    signed.write_text(STATEMENT)
    rows = load("radiopaedia", data_dir=release, cache_dir=cache, options=options, attestation=str(signed))
    assert rows["train"]["source"] == ["radiopaedia"] * 3


def test_held_out_and_seed_reach_the_adapter(tmp_path, cache):
    release = str(write_radiopaedia(tmp_path / "release", 12))
    options = {"columns": RADIOPAEDIA_COLUMNS}

    def split(**settings):
        rows = load("radiopaedia", data_dir=release, streaming=True, options=options, **settings)
        return {name: [row["source_id"] for row in rows[name]] for name in rows}

    half, other = split(held_out=0.5), split(held_out=0.5, seed=1)
    assert list(split()) == ["train"] and list(half) == list(other) == ["train", "test"]
    assert half["test"] != other["test"] and len(half["train"] + half["test"]) == 12


def test_no_file_of_a_release_is_listed_before_the_adapter_is_asked(release, cache):
    """`datasets` would walk through all of data_dir, which took minutes for a hundred thousand pictures."""
    from datasets import load_dataset_builder

    import semihv_hf  # noqa: F401  registers the name

    builder = load_dataset_builder("semihvision", "pmc_vqa", data_dir=str(release), cache_dir=cache)
    assert dict(builder.config.data_files) == {}


def test_a_folder_that_was_built_of_another_source_is_refused(folder, cache):
    with pytest.raises(SemiHVError, match="was built of pmc_vqa, not of padchest"):
        load("padchest", data_dir=str(folder / "built"), cache_dir=cache)
    with pytest.raises(SemiHVError, match="config alignment has rows of its own"):
        load("alignment", data_dir=str(folder / "built"), cache_dir=cache, rows="instruction")


def test_a_damaged_table_ends_the_reading_with_one_clear_line(tmp_path, cache):
    from semihv_hf.data.sources.jama import Jama

    root = write_jama(tmp_path / "jama")
    (root / "jama_raw.json").write_text((root / "jama_raw.json").read_text()[:-40])
    assert list(Jama(root).metadata()) == ["jama_raw.json"]
    with pytest.raises(SemiHVError, match="jama_raw.json is no valid JSON"):
        load("jama", data_dir=str(root), cache_dir=cache)


def test_a_picture_that_is_added_is_found(tmp_path, cache):
    root = write_jama(tmp_path / "jama", 3)
    before = load("jama", data_dir=str(root), cache_dir=cache, split="test")
    (root / "images" / "1.jpg").write_bytes((root / "images" / "0.jpg").read_bytes())
    after = load("jama", data_dir=str(root), cache_dir=cache, split="test")
    assert [len(row["images"]) for row in before] == [1, 0, 1] and [len(row["images"]) for row in after] == [1, 1, 1]
