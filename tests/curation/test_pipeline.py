"""The whole way over small folders of cases, against a server that answers by HTTP."""

import json
from collections import Counter
from pathlib import Path

import pytest
from case_files import make_case, write_cases
from chat_server import ChatServer
from curated_folders import digests, rows

from semihv_hf.curation.pipeline.config import CurateConfig, DuplicateStage, read_config
from semihv_hf.curation.pipeline.parts import classify_options
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.errors import SemiHVError

CASES = 15
PRICES = {"m": {"input": 2.0, "output": 8.0}}


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    return write_cases(tmp_path_factory.mktemp("curation") / "cases", CASES)


@pytest.fixture
def recipe(cases, tmp_path):
    """Makes a recipe for a server: `recipe(server, generate={})`."""

    def make(server, **options) -> CurateConfig:
        settings = {"base_url": server.base_url, "model": "m", "timeout": 30.0, "max_concurrency": 8}
        settings.update(options.pop("settings", {}))
        given = {"cases": str(cases), "out": str(tmp_path / "out"), "block_rows": 6, "classify": {}, "generate": {}}
        return CurateConfig(server=settings, prices=PRICES, **{**given, **options})

    return make


def test_every_case_becomes_labelled_and_gets_valid_records_with_their_provenance(recipe):
    with ChatServer() as server:
        config = recipe(server)
        report = curate(config, progress=False)
        assert server.calls == report["run"]["calls"] == report["answers"] == 3 * CASES
    cases, records = rows(config.out, "data/cases/*.parquet"), rows(config.out, "data/[ai]*/*.parquet")
    assert len(cases) == CASES and {record["case_id"] for record in records} == {case["id"] for case in cases}
    for case in cases:
        validate_case(case)
        assert {label["name"] for label in case["labels"]} == {"topic", "modality", "body_part"}
    for record in records:
        validate_record(record)
        assert record["annotation"][-1] == "machine"
        written = record["provenance"][-1]
        assert written["model"] == "m-0001" and written["prompt_version"]
    by_rule = [label for case in cases for label in case["labels"] if label["decided_by"] == "rule"]
    assert Counter(label["name"] for label in by_rule)["modality"] == (CASES + 2) // 3


def test_the_folder_loads_without_this_package_and_its_numbers_add_up(recipe):
    from datasets import load_dataset

    with ChatServer() as server:
        config = recipe(server)
        report = curate(config, progress=False)
    loaded = load_dataset(config.out, "instruction", split="train")
    assert len(loaded) == report["rows"]["instruction"]["train"] and loaded[0]["images"][0].size == (24, 24)
    assert sum(report["records"].values()) == sum(
        sum(splits.values()) for name, splits in report["rows"].items() if name != "cases"
    )
    card = (Path(config.out) / "README.md").read_text()
    assert "Not for clinical use" in card and "pydicom" in card
    assert json.loads((Path(config.out) / "curate_report.json").read_text())["answers"] == report["answers"]


def test_output_does_not_depend_on_blocks_concurrency_or_the_order_of_answers(recipe, tmp_path):
    with ChatServer(latency=lambda text: 0.001 * (hash(text) % 20)) as server:
        one = recipe(server, out=str(tmp_path / "one"))
        curate(one, progress=False)
        other = recipe(
            server, out=str(tmp_path / "other"), block_rows=3, rows_under_way=2, settings={"max_concurrency": 2}
        )
        curate(other, progress=False)
    assert digests(one.out) == digests(other.out)


def test_answers_survive_the_folder_and_are_not_paid_for_again(recipe):
    import shutil

    with ChatServer() as server:
        config = recipe(server)
        curate(config, progress=False)
        first, calls = digests(config.out), server.calls
        shutil.rmtree(config.out)
        report = curate(config, cache_only=True, progress=False)
        assert server.calls == calls and report["run"]["calls"] == 0 and digests(config.out) == first


def test_a_finished_curation_with_duplicates_is_not_searched_again_unless_what_it_compares_has_changed(
    recipe, cases, tmp_path, monkeypatch
):
    from semihv_hf.curation import near_duplicates

    searches = []
    search = near_duplicates.find_duplicates
    monkeypatch.setattr(
        near_duplicates, "find_duplicates", lambda *given, **named: searches.append(given) or search(*given, **named)
    )
    benchmark = write_cases(tmp_path / "benchmark", 2, source="pydicom", split="test")
    with ChatServer() as server:
        config = recipe(server, duplicates=DuplicateStage(benchmarks=(str(benchmark),)))
        first = curate(config, progress=False)
        assert first["left_out"] == {"duplicate": 2} and len(searches) == 1
        again = curate(config, progress=False)
        assert again["run"]["rows"] == 0 and len(searches) == 1 and not (Path(config.out) / ".curate").exists()
        assert {**again, "run": None} == {**first, "run": None}
        write_cases(benchmark, 3, source="pydicom", split="test")
        with pytest.raises(SemiHVError, match="another curation"):
            curate(config, progress=False)
        assert curate(config, overwrite=True, progress=False)["left_out"] == {"duplicate": 3} and len(searches) == 2


def test_the_limit_of_spending_leaves_named_failures_that_a_later_run_completes(recipe):
    with ChatServer() as server:
        config = recipe(server)
        report = curate(config, max_cost_usd=0.02, progress=False)
        assert {kind for _, kind, _ in report["failures"]} == {"budget"}
        assert 0 < report["run"]["spending"]["cost_usd"] <= 0.02
        assert 0 < server.calls < 3 * CASES
        assert not curate(config, progress=False)["failures"] and server.calls == 3 * CASES


def test_a_preview_shows_image_evidence_prompt_and_answer_and_asks_nobody(recipe):
    with ChatServer() as server:
        config = recipe(server)
        told = curate(config, sample=4, progress=False)
        page = Path(told["page"]).read_text()
        assert server.calls == 0 and told["from_cases"] == 4 and told["cases"] == CASES
        assert told["calls"] == 12 and told["projected"]["calls"] == 3 * CASES and told["projected"]["cost_usd"] > 0
        assert page.count("<article") == 4 and "not asked yet" in page and "data:image/jpeg" in page
        assert "mm" in page and "caption_reformat 1." in page

        asked = curate(config, sample=4, ask=True, progress=False)
        page = Path(asked["page"]).read_text()
        assert server.calls == 12 and "The image shows" in page and "not asked yet" not in page
        assert curate(config, dry_run=True, progress=False)["cached"] == 12 and server.calls == 12


def test_a_damaged_image_and_a_malformed_case_are_named_and_stop_nothing(recipe, tmp_path):
    from semihv_hf.data.columns import case_schema
    from semihv_hf.data.shards import write_shards

    damaged, malformed = make_case(1), make_case(2)
    damaged.images = [damaged.images[0][:40]]
    malformed.texts[0].image = 7
    write_shards(
        (case.row() for case in (make_case(0), damaged, malformed)),
        tmp_path / "cases" / "data" / "cases",
        "train",
        case_schema(),
    )
    with ChatServer() as server:
        config = recipe(server, cases=str(tmp_path / "cases"))
        report = curate(config, progress=False)
    [failure] = rows(config.out, "failures.parquet")
    assert (failure["case_id"], failure["kind"], failure["stage"]) == (damaged.id, "image", "classify")
    [left_out] = rows(config.out, "skipped.parquet")
    assert left_out["reason"] == "malformed case" and "texts[0].image" in left_out["detail"]
    assert report["records"] == {"caption": 1, "vqa": 1}


def test_a_recipe_with_an_unknown_key_names_the_nearest(tmp_path):
    for text, near in (
        ("clasify: {}", "'classify'"),
        ("classify: {repeat: 2}", "'repeats'"),
        ("generate: {}\nserver: {base_url: http://127.0.0.1:1/v1, modle: m}", "'model'"),
        ("generate: {}\nretrieve: {indx: a}", "'index'"),
    ):
        (tmp_path / "recipe.yaml").write_text(f"{text}\ncases: {tmp_path}\nout: {tmp_path / 'out'}\n")
        with pytest.raises(SemiHVError, match=f"Did you mean {near}"):
            config = read_config(tmp_path / "recipe.yaml")
            classify_options(config)
            config.settings()


def test_values_of_the_wrong_kind_are_named(tmp_path):
    for text, told in (("block_rows: many", "whole number"), ("splits: train", "list"), ("limit: 0", "at least 1")):
        (tmp_path / "recipe.yaml").write_text(f"{text}\ngenerate: {{}}\ncases: a\nout: b\n")
        with pytest.raises(SemiHVError, match=told):
            read_config(tmp_path / "recipe.yaml")


def test_the_shipped_recipes_can_be_read(root):
    names = sorted(path.stem for path in (root / "recipes" / "curate").glob("*.yaml"))
    assert len(names) >= 3
    for name in names:
        config = read_config(name, cases="cases", out="out")
        assert config.settings().base_url.startswith("http") and config.generate is not None


def test_another_recipe_does_not_silently_replace_what_is_in_the_folder(recipe):
    with ChatServer() as server:
        config = recipe(server)
        curate(config, progress=False)
        other = config.changed(generate={"tasks": ["qa"]})
        with pytest.raises(SemiHVError, match="another curation.*--overwrite"):
            curate(other, progress=False)
        calls = server.calls
        assert curate(other, overwrite=True, progress=False)["records"] == {"vqa": CASES} and server.calls == calls
