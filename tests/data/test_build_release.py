"""The build of a release: what it writes, what damage does to it, and which folders it refuses."""

import datetime
import io
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from tiny_source import TinySource, write_release

from semihv_hf.data import shards
from semihv_hf.data.attestations import Attestation
from semihv_hf.data.build import build
from semihv_hf.data.building import block_file, listing
from semihv_hf.data.building.blocks import Job, build_block
from semihv_hf.data.building.listing import list_release
from semihv_hf.data.building.workspace import code_fingerprint, workspace
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.features import case_features, record_features
from semihv_hf.data.messages import message
from semihv_hf.data.schema import Case, case_id
from semihv_hf.data.sources.base import Item
from semihv_hf.data.sources.conversations import record_of
from semihv_hf.errors import SemiHVError

ROWS = 300
CONFIGS = ("cases", "alignment", "instruction")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("upstream") / "tiny", ROWS, damaged=2)


@pytest.fixture(scope="module")
def undisturbed(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "data"
    return out, make(release, out)


def make(release, out, source=TinySource, **options):
    return build(source, out, **{"data_dir": release, "workers": 1, "progress": False, "held_out": 0.3, **options})


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def rows_of(out: Path, config: str, split: str = "*") -> list[dict]:
    paths = sorted((out / "data" / config).glob(f"{split}-*.parquet"))
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


def skipped_of(out: Path) -> list[dict]:
    return pyarrow.parquet.read_table(out / "skipped.parquet").to_pylist()


def test_every_listed_row_is_either_kept_or_skipped_with_a_reason(undisturbed):
    out, report = undisturbed
    cases, skipped = rows_of(out, "cases"), skipped_of(out)
    assert len(cases) == report["kept"] == ROWS - 2 and report["listed"] == ROWS
    assert {row["source_id"] for row in cases} | {row["source_id"] for row in skipped} == {
        f"row{number}" for number in range(ROWS)
    }
    assert [(row["source_id"], row["reason"]) for row in skipped] == [
        ("row298", "unreadable image"),
        ("row299", "unreadable image"),
    ]
    assert report["skipped"] == {"unreadable image": 2} and report["skipped_share"] == round(2 / ROWS, 6)


def test_rows_are_valid_in_order_and_split_by_group(undisturbed):
    out, report = undisturbed
    for config in CONFIGS:
        for split in ("train", "test"):
            found = rows_of(out, config, split)
            assert len(found) == report["rows"][config][split] > 50
            numbers = [int(row["source_id"].removeprefix("row")) for row in found]
            assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
            for row in found:
                validate_case(row) if config == "cases" else validate_record(row)
    groups = {split: {row["group"] for row in rows_of(out, "cases", split)} for split in ("train", "test")}
    assert not groups["train"] & groups["test"]


def test_images_of_cases_and_records_are_the_files_of_the_release(release, undisturbed):
    out, _ = undisturbed
    for config in CONFIGS:
        for row in rows_of(out, config):
            number = int(row["source_id"].removeprefix("row")) % 50
            (image,) = row["images"]
            assert image["path"] is None
            with Image.open(io.BytesIO(image["bytes"])) as stored:
                with Image.open(release / "images" / f"{number}.jpg") as drawn:
                    assert np.array_equal(np.asarray(stored), np.asarray(drawn))


def test_the_report_counts_by_modality_and_writer_and_adds_up(undisturbed):
    out, report = undisturbed
    by_config = Counter()
    for entry in report["composition"]:
        by_config[entry["config"], entry["split"]] += entry["rows"]
        assert entry["modality"] in ("CT", "MRI", "X-ray") and entry["body_part"] == "not stated"
        assert entry["annotation"] == "human"
    assert by_config == {(c, s): n for c, splits in report["rows"].items() for s, n in splits.items()}
    assert report["tasks"] == {"alignment": {"caption": 298}, "instruction": {"vqa": 298}}
    assert report["sources"] == [{"source": "pmc_vqa", "licence": "CC-BY-SA-4.0", "cases": 298}]
    assert json.loads((out / "build_report.json").read_text()) == {k: v for k, v in report.items() if k != "seconds"}


def test_nothing_that_is_written_names_a_folder_of_this_machine_or_is_left_over(release, undisturbed):
    out, _ = undisturbed
    files = content(out)
    assert sorted(name for name in files if "/" not in name) == [
        "README.md",
        "build_manifest.json",
        "build_report.json",
        "skipped.parquet",
    ]
    assert len(files) == 4 + 2 * len(CONFIGS)
    for name, data in files.items():
        assert str(release).encode() not in data and str(out).encode() not in data, name


def test_the_folder_streams_without_this_package(undisturbed, run_python, tmp_path):
    out, report = undisturbed
    code = """
import sys
sys.modules["semihv_hf"] = None  # any import of it fails
from datasets import load_dataset
rows = list(load_dataset(sys.argv[1], "instruction", split="train", streaming=True))
print(len(rows), rows[0]["images"][0].size)
"""
    done = run_python(code, out, cwd=tmp_path, PYTHONPATH="")
    assert done.stdout.split("\n")[0] == f"{report['rows']['instruction']['train']} (16, 16)"


def test_two_workers_write_the_same_bytes_as_one(release, undisturbed, tmp_path):
    make(release, tmp_path / "data", workers=2)
    assert content(tmp_path / "data") == content(undisturbed[0])


def test_shards_and_row_groups_follow_the_rows_and_not_the_blocks(release, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 60_000)
    make(release, tmp_path / "small")
    assert len(list((tmp_path / "small" / "data" / "cases").glob("train-*"))) > 2
    for config in CONFIGS:
        assert rows_of(tmp_path / "small", config) == rows_of(undisturbed[0], config)
    (path,) = (undisturbed[0] / "data" / "cases").glob("train-*")
    found = pyarrow.parquet.read_metadata(path)
    sizes = [found.row_group(index).num_rows for index in range(found.num_row_groups)]
    assert sizes[:-1] == [100] * (len(sizes) - 1) and sizes[-1] <= 100


def test_another_size_of_blocks_gives_the_same_rows(release, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "LEAST", 7)
    make(release, tmp_path / "data")
    for config in CONFIGS:
        assert rows_of(tmp_path / "data", config) == rows_of(undisturbed[0], config)


def test_limit_takes_the_first_items(release, tmp_path):
    report = make(release, tmp_path / "data", limit=10)
    assert report["listed"] == report["kept"] == 10
    assert {row["source_id"] for row in rows_of(tmp_path / "data", "cases")} == {f"row{n}" for n in range(10)}


@pytest.mark.parametrize(
    ("fault", "reason", "detail", "records"),
    [
        ("raise", "malformed row", "KeyError: 'images/x", 0),
        ("invalid", "malformed row", "Field facts[0].value is '', not a non-empty string.", 0),
        ("surrogate", "malformed row", "a column cannot hold it: UnicodeEncodeError: 'utf-8' codec can't encode", 0),
        ("number", "malformed row", "a column cannot hold it: ArrowTypeError: Expected bytes, got a 'int' object", 0),
        ("record", "malformed row", "RuntimeError: no record", 0),
        ("twice", "duplicate row", "the same content was read before", 2),
        ("excluded", "refusal", "on demand", 0),
    ],
)
def test_a_row_that_fails_is_skipped_and_the_others_are_kept(release, tmp_path, fault, reason, detail, records):
    out = tmp_path / "data"
    report = make(release, out, options={"faults": {"row5": fault}}, limit=150)
    found = skipped_of(out)
    assert [(row["source"], row["source_id"], row["reason"]) for row in found] == [("pmc_vqa", "row5", reason)]
    assert found[0]["detail"].startswith(detail) and "\n" not in found[0]["detail"]
    assert str(release) not in found[0]["detail"]
    kept = 150 if fault in ("record", "twice") else 149
    assert len(rows_of(out, "cases")) == report["kept"] == kept
    mine = [
        row for config in ("alignment", "instruction") for row in rows_of(out, config) if row["source_id"] == "row5"
    ]
    assert len(mine) == records
    assert len(rows_of(out, "alignment")) == 149 + records // 2


@pytest.mark.parametrize(
    ("fault", "error"), [("memory", MemoryError), ("disk", OSError), ("interrupt", KeyboardInterrupt)]
)
def test_what_concerns_the_machine_ends_the_build_and_the_same_call_goes_on(
    release, undisturbed, tmp_path, monkeypatch, fault, error
):
    out = tmp_path / "data"
    read, failing = [], [True]
    fail, begin = TinySource._fail, TinySource.read

    def reading(self, item):
        read.append(item.source_id)
        if item.source_id == "row200" and failing:
            fail(self, fault)
        return begin(self, item)

    monkeypatch.setattr(TinySource, "read", reading)
    with pytest.raises(error):
        make(release, out)
    assert not (out / "build_manifest.json").exists() and len(read) == 201
    failing.clear()
    read.clear()
    make(release, out)
    assert read[0] == "row200" and len(read) == ROWS - 200, "the blocks before are kept"
    assert content(out) == content(undisturbed[0])


def test_a_worker_that_is_killed_ends_the_build_with_one_line(release, tmp_path):
    with pytest.raises(SemiHVError, match="A worker process was ended before its work was done"):
        make(release, tmp_path / "data", workers=2, options={"faults": {"row5": "kill"}})
    assert not (tmp_path / "data" / "build_manifest.json").exists()


def test_a_repeated_name_in_the_list_is_a_duplicate_row(tmp_path):
    root = write_release(tmp_path / "tiny", 20)
    table = (root / "rows.csv").read_text().splitlines()
    (root / "rows.csv").write_text("\n".join([*table, table[3]]) + "\n")
    report = make(root, tmp_path / "data", max_skipped=0.1)
    assert report["kept"] == 20 and report["skipped"] == {"duplicate row": 1}
    assert skipped_of(tmp_path / "data")[0]["source_id"] == "row2"


def test_too_much_damage_is_an_error_that_keeps_what_was_read(release, tmp_path, monkeypatch):
    root = write_release(tmp_path / "tiny", 150, damaged=30)
    out = tmp_path / "data"
    with pytest.raises(SemiHVError) as error:
        make(root, out)
    assert "20.00% of pmc_vqa is damaged, more than the 1.00%" in error.value.what
    assert "30 unreadable image" in error.value.what and "skipped.parquet" in error.value.what
    assert len(skipped_of(out)) == 30 and not (out / "build_manifest.json").exists()
    read = []
    begin = TinySource.read
    monkeypatch.setattr(TinySource, "read", lambda self, item: read.append(item.source_id) or begin(self, item))
    make(root, out, max_skipped=0.2)
    assert read == [f"row{number}" for number in range(120, 150)], "only what was damaged is tried again"
    make(root, tmp_path / "other", max_skipped=0.5)
    assert content(out) == content(tmp_path / "other")


def test_a_release_that_was_mended_is_read_again_where_it_was_damaged(tmp_path):
    root = write_release(tmp_path / "tiny", 150, damaged=30)
    with pytest.raises(SemiHVError):
        make(root, tmp_path / "data")
    (root / "images" / "torn.jpg").write_bytes((root / "images" / "7.jpg").read_bytes())
    report = make(root, tmp_path / "data")
    assert report["kept"] == 150 and report["skipped"] == {} and skipped_of(tmp_path / "data") == []
    make(root, tmp_path / "other")
    assert content(tmp_path / "data") == content(tmp_path / "other")


def test_exclusions_by_rule_do_not_count_as_damage(release, tmp_path):
    faults = {f"row{number}": "excluded" for number in range(50)}
    report = make(release, tmp_path / "data", options={"faults": faults}, limit=100, max_skipped=0)
    assert report["kept"] == 50 and report["skipped"] == {"refusal": 50} and report["skipped_share"] == 0
    with pytest.raises(SemiHVError, match="Nothing of pmc_vqa was kept: 50 left out"):
        make(release, tmp_path / "none", options={"faults": faults}, limit=None, source=only(50))


def only(count):
    class Only(TinySource):
        def items(self):
            yield from list(super().items())[:count]

    return Only


def test_a_list_that_breaks_off_is_an_error_and_does_not_count_as_complete(release, tmp_path):
    with pytest.raises(SemiHVError) as error:
        make(release, tmp_path / "data", options={"list_fails_at": 200})
    assert "breaks off after 200 items: ValueError: rows.csv is torn" in error.value.what
    assert not (tmp_path / "data" / ".build" / "listing.json").exists()


def test_another_build_in_the_same_folder_is_refused_and_says_what_differs(release, undisturbed, tmp_path):
    out = tmp_path / "data"
    make(release, out, limit=10)
    before = content(out)
    for difference, options in (
        ("seed 0 -> 1", {"limit": 10, "seed": 1}),
        ("limit 10 -> None", {}),
        ("options: pause None -> 0.001", {"limit": 10, "options": {"pause": 0.001}}),
        ("held_out 0.3 -> 0.0", {"limit": 10, "held_out": 0.0}),
    ):
        with pytest.raises(SemiHVError) as error:
            make(release, out, **options)
        assert difference in error.value.what and "--overwrite" in error.value.do
        assert content(out) == before
    make(release, out, overwrite=True)
    assert content(out) == content(undisturbed[0]), "nothing of the smaller build is left"


def test_a_changed_table_or_an_unfinished_build_of_another_seed_is_refused(tmp_path):
    root = write_release(tmp_path / "tiny", 150, damaged=30)
    with pytest.raises(SemiHVError, match="is damaged"):
        make(root, tmp_path / "data")
    with pytest.raises(SemiHVError, match="holds another build: seed 0 -> 3"):
        make(root, tmp_path / "data", seed=3)
    with open(root / "rows.csv", "a") as table:
        table.write("row900,1.jpg,g,,CT,A caption.,What is it?,CT\n")
    with pytest.raises(SemiHVError, match=r"files of the release have changed \(rows.csv\)"):
        make(root, tmp_path / "data", max_skipped=0.5)


def test_a_finished_build_is_not_done_again(release, undisturbed):
    out, report = undisturbed
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = make(release, out)
    assert again == {name: value for name, value in report.items() if name != "seconds"}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path != out} == {
        path: time for path, time in before.items() if path != out
    }


def test_overwriting_the_same_build_goes_on_where_it_was_interrupted(release, tmp_path, monkeypatch):
    out = tmp_path / "data"
    make(release, out)
    expected = content(out)
    begin, read, failing = TinySource.read, [], [True]

    def reading(self, item):
        read.append(item.source_id)
        if failing and item.source_id == "row200":
            raise KeyboardInterrupt
        return begin(self, item)

    monkeypatch.setattr(TinySource, "read", reading)
    with pytest.raises(KeyboardInterrupt):
        make(release, out, overwrite=True)
    assert not (out / "build_manifest.json").exists(), "what is there is no finished build any more"
    failing.clear()
    read.clear()
    make(release, out, overwrite=True)
    assert len(read) == ROWS - 200 and content(out) == expected


def test_a_folder_with_other_data_is_refused_and_left_as_it_is(release, tmp_path):
    (tmp_path / "data" / "cases").mkdir(parents=True)
    (tmp_path / "data" / "cases" / "train-00000-of-00001.parquet").write_bytes(b"someone's")
    with pytest.raises(SemiHVError, match="holds data that is not of this build"):
        make(release, tmp_path)
    assert list(content(tmp_path)) == ["data/cases/train-00000-of-00001.parquet"] and len(os.listdir(tmp_path)) == 1


def test_two_builds_in_one_folder_at_once_are_refused(release, tmp_path):
    with workspace(tmp_path / "data", {"seed": 0}, overwrite=False):
        with pytest.raises(SemiHVError, match="A build is running in"):
            make(release, tmp_path / "data", overwrite=True)


def test_a_source_that_may_not_be_used_needs_a_signed_statement_which_is_kept(release, tmp_path):
    class Forbidden(TinySource):
        name = "radiopaedia"

    with pytest.raises(SemiHVError, match="'radiopaedia'.*may not be written"):
        make(release, tmp_path / "data", source=Forbidden, limit=5)
    assert not (tmp_path / "data").exists()
    grants = (("radiopaedia", "use", None),)
    signed = Attestation("A. Researcher", "Example University", datetime.date(2026, 1, 2), grants, "the full text")
    make(release, tmp_path / "data", source=Forbidden, limit=5, attestation=signed)
    manifest = json.loads((tmp_path / "data" / "build_manifest.json").read_text())
    assert manifest["attestation"]["text"] == "the full text"
    make(release, tmp_path / "free", limit=5, attestation=signed)
    assert json.loads((tmp_path / "free" / "build_manifest.json").read_text())["attestation"] is None


def test_wrong_settings_are_refused_before_anything_is_written(release, tmp_path):
    out = tmp_path / "data"
    for message_, options in (
        ("has no option 'pauze'", {"options": {"pauze": 1}}),
        ("Unknown engine 'spark'", {"engine": "spark"}),
        ("0 workers can do nothing", {"workers": 0}),
        ("max_skipped is 2", {"max_skipped": 2}),
        ("limit is 0", {"limit": 0}),
        ("held_out is 1", {"held_out": 1}),
    ):
        with pytest.raises(SemiHVError, match=message_):
            make(release, out, **options)
    with pytest.raises(SemiHVError, match="pmc_vqa needs the folder of its release"):
        build("pmc_vqa", out)
    with pytest.raises(SemiHVError, match="no pmc_vqa release: missing rows.csv .*Found: nothing"):
        (tmp_path / "empty").mkdir()
        make(tmp_path / "empty", out)
    assert not out.exists()


def test_files_outside_the_release_are_named_without_their_folder(release, tmp_path):
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "map.csv").write_text("a,b\n")
    folder = {"tables": [str(tmp_path / "extra" / "map.csv")], "root": str(tmp_path / "extra")}
    make(release, tmp_path / "data", limit=5, options={"folder": folder})
    option = json.loads((tmp_path / "data" / "build_manifest.json").read_text())["fingerprint"]["options"]["folder"]
    assert option["root"] == {"name": "extra", "files": 1}
    assert option["tables"][0]["name"] == "map.csv" and option["tables"][0]["bytes"] == 4
    assert all(str(tmp_path).encode() not in data for data in content(tmp_path / "data").values())
    (tmp_path / "extra" / "map.csv").write_text("a,c\n")
    with pytest.raises(SemiHVError, match="holds another build: options: folder"):
        make(release, tmp_path / "data", limit=5, options={"folder": folder})


class SharedImages(TinySource):
    """Cases with several images, one of them twice, none at all, and records that show others."""

    def read(self, item):
        number = int(item.source_id.removeprefix("row"))
        (case,) = super().read(item)
        pictures = [self.release.read_bytes(f"images/{(number + shift) % 50}.jpg") for shift in (0, 1)]
        case.images = [[], [*pictures, pictures[0]], pictures][number % 3]
        case.id = case_id(case.source, case.source_id, case.images)
        yield case

    def records(self, case):
        number = int(case.source_id.removeprefix("row"))
        shown = [self.release.read_bytes("images/30.jpg"), *case.images[1:]] if number % 2 else case.images[:1]
        messages = [message("user", "What?", images=len(shown)), message("assistant", "A picture.")]
        yield record_of(case, "conversation", messages, ["rule", "machine"], images=shown)


def test_images_shared_within_a_case_are_stored_once_and_come_back_in_order(release, tmp_path):
    make(release, tmp_path / "data", source=SharedImages, limit=200, workers=1)
    source = SharedImages(release, held_out=0.3)
    items = [item for item in source.items() if isinstance(item, Item)][:200]
    cases: list[Case] = [case for item in items for case in source.read(item)]
    expected = {case.source_id: case.images for case in cases}
    found = {
        row["source_id"]: [image["bytes"] for image in row["images"]] for row in rows_of(tmp_path / "data", "cases")
    }
    assert found == expected and [] in found.values()
    records = {record.id: record.images for case in cases for record in source.records(case)}
    rows = rows_of(tmp_path / "data", "instruction")
    assert {row["id"]: [image["bytes"] for image in row["images"]] for row in rows} == records and len(records) == 200


def test_a_block_file_holds_each_image_of_a_case_once_and_knows_when_it_is_torn(release, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "LEAST", 60)
    source = TinySource(release)
    found = list_release(tmp_path, source, 60, lambda entries: None)
    schemas = (case_features().arrow_schema, record_features().arrow_schema)
    job = Job(source, found, tmp_path, *schemas, dict(code_fingerprint(TinySource)))
    assert build_block(job, 0) == {"entries": 60, "rows": 180, "skipped": 0}
    path = job.block_path(0)
    (case,) = source.read(next(source.items()))
    assert path.read_bytes().count(case.images[0]) == 2, "rows 0 and 50 show it, each in three configs"
    with block_file.BlockFile(path) as block:
        assert block.table("cases", "train").num_rows == 60 and block.table("cases", "test") is None
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\0" + whole[101:])
    assert block_file.is_whole(path), "the same run of the system: what was written is there"
    monkeypatch.setattr(block_file, "boot_id", lambda: "another")
    assert not block_file.is_whole(path), "after a power cut the checksum tells"
    build_block(job, 0)
    assert block_file.is_whole(path) and path.read_bytes()[:1000] == whole[:1000]
    path.write_bytes(whole[:-20])
    assert not block_file.is_whole(path)
