"""Every release, with the defects of its own test, goes all the way: built, counted, loaded, the same as streamed."""

import json
from datetime import date
from pathlib import Path

import pyarrow.parquet
import pytest
import test_biomed_vital
import test_deeplesion
import test_eurorad
import test_jama
import test_llava_med
import test_lld_mmri
import test_mama_mia
import test_med_instruction
import test_mimic_cxr
import test_padchest
import test_pmc_vqa
import test_pubmedvision
import test_quilt
import test_radiopaedia
from datasets import load_dataset
from drawn_articles import article, fig, picture, write

import semihv_hf  # noqa: F401  (makes the name semihvision known)
from semihv_hf.data.attestations import read_attestation
from semihv_hf.data.build import build
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.sources import ADAPTERS
from semihv_hf.errors import SemiHVError
from semihv_hf.hub.publish import publish

# Of these what a build makes may be passed on; the others are refused without a statement, or whatever is stated.
MAY_BE_PUBLISHED = ("eurorad", "llava_med", "mama_mia", "pmc_vqa")
# The fixtures of the adapters' own tests, under names of their own.
biomed_vital = test_biomed_vital.release
deeplesion = test_deeplesion.release
eurorad = test_eurorad.release
jama = test_jama.copy
llava_med = test_llava_med.release
lld_mmri = test_lld_mmri.full
mama_mia = test_mama_mia.release
med_instruction = test_med_instruction.release
mimic_cxr = test_mimic_cxr.release
padchest = test_padchest.release
pmc_vqa = test_pmc_vqa.version_2
pubmedvision = test_pubmedvision.release
quilt = test_quilt.release
radiopaedia = test_radiopaedia.release


@pytest.fixture
def pmc_instruct(tmp_path):
    for number in range(3):
        write(tmp_path, f"PMC1390{number}", article(fig("f1"), pmcid=f"1390{number}"), {"f1.jpg": picture(number)})
    return tmp_path


STATEMENT = """
statements:
- source: radiopaedia
  gates: [write]
  statement: These invented cases were written for a test, and their author agrees with their use.
signed_by: The author of this test
organisation: semihv-hf
date: 2026-01-01
"""


@pytest.fixture
def prepared(request, tmp_path_factory, monkeypatch):
    """The release of a source, its options, and the statement that it needs."""
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path_factory.mktemp("cache")))

    def _prepared(name: str) -> tuple[Path, dict, Path | None]:
        release = request.getfixturevalue(name)
        root = Path(release[0] if isinstance(release, tuple) else release)
        options = {}
        if name == "radiopaedia":
            options["columns"] = test_radiopaedia.COLUMNS
        if name == "med_instruction":
            roots = [root.parent / part for part in ("slices", "others")]
            for number, place in enumerate(("slices/a/1.png", "others/PMC-VQA/figures/PMC1_F1.jpg")):
                (root.parent / place).parent.mkdir(parents=True, exist_ok=True)
                (root.parent / place).write_bytes(picture(number, "PNG" if place.endswith("png") else "JPEG"))
            options["image_roots"] = list(map(str, roots))
        statement = None
        if name == "radiopaedia":
            statement = tmp_path_factory.mktemp("signed") / "statement.yaml"
            statement.write_text(STATEMENT)
        return root, options, statement

    return _prepared


def rows_of(out: Path, config: str, split: str) -> list[dict]:
    return [
        row
        for path in sorted((out / "data" / config).glob(f"{split}-*.parquet"))
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_release_becomes_a_dataset(name, prepared, tmp_path_factory):
    root, options, statement = prepared(name)
    out = tmp_path_factory.mktemp("built") / name
    attestation = None if statement is None else read_attestation(statement, today=date(2026, 11, 22))
    report = build(
        name, out, data_dir=root, options=options, attestation=attestation, max_skipped=1.0, workers=1, progress=False
    )
    assert report["kept"] >= 2 and sum(report["rows"]["cases"].values()) == report["kept"]
    skipped = pyarrow.parquet.read_table(out / "skipped.parquet").to_pylist()
    assert len(skipped) == sum(report["skipped"].values())

    ids = set()
    for config, splits in report["rows"].items():
        for split, count in splits.items():
            rows = rows_of(out, config, split)
            assert len(rows) == count > 0
            for row in rows:
                (validate_case if config == "cases" else validate_record)(row)
                assert (config, row["id"]) not in ids
                ids.add((config, row["id"]))
                assert all(image["path"] is None for image in row["images"])
                told = json.dumps({**row, "images": None}, ensure_ascii=False)
                assert str(root) not in told and str(root.parent) not in told, "a place of this machine is told"
            loaded = load_dataset(str(out), config, split=split)
            assert len(loaded) == count and loaded[0]["images"] is not None

    manifest = json.loads((out / "build_manifest.json").read_text())
    assert ("The author of this test" in json.dumps(manifest)) == (statement is not None)
    told = (out / "README.md").read_text()
    assert str(root) not in told and report["sources"][0]["licence"] in told

    if name in MAY_BE_PUBLISHED:
        shown = publish("dataset", out, "clinic/rows", dry_run=True)
        shards = {path.relative_to(out).as_posix() for path in (out / "data").glob("*/*.parquet")}
        others = {"README.md", "build_report.json", "build_manifest.json"}
        assert {file.name for file in shown.files} == shards | others
        # Nor does another file tell what was left out; the card names the rule, not the cases.
        names = [row["source_id"] for row in skipped if len(row["source_id"]) > 8]
        for other in others:
            assert not [one for one in names if one in (out / other).read_text()]
    else:
        with pytest.raises(SemiHVError, match="Nothing was uploaded: Source"):
            publish("dataset", out, "clinic/rows", dry_run=True)


@pytest.mark.parametrize("name", ADAPTERS)
def test_streaming_a_release_gives_the_rows_of_its_build(name, prepared, tmp_path_factory):
    root, options, statement = prepared(name)
    out = tmp_path_factory.mktemp("built") / name
    attestation = None if statement is None else read_attestation(statement, today=date(2026, 11, 22))
    report = build(
        name, out, data_dir=root, options=options, attestation=attestation, max_skipped=1.0, workers=1, progress=False
    )
    for rows in ("cases", *(config for config in report["rows"] if config != "cases")):
        streamed = load_dataset(
            "semihvision", name, data_dir=str(root), streaming=True, rows=rows, options=options, max_skipped=1.0,
            attestation=None if statement is None else str(statement),
        )  # fmt: skip
        # A stream cannot know beforehand that a split of the release will give no such row.
        ids = {split: [row["id"] for row in stream] for split, stream in streamed.items()}
        assert {split: found for split, found in ids.items() if found} == {
            split: [row["id"] for row in rows_of(out, rows, split)] for split in report["rows"][rows]
        }


def test_radiopaedia_is_not_built_without_a_statement(prepared, tmp_path_factory):
    root, options, _ = prepared("radiopaedia")
    with pytest.raises(semihv_hf.SemiHVError, match="may not be written.*agreement"):
        build("radiopaedia", tmp_path_factory.mktemp("refused") / "out", data_dir=root, options=options)
