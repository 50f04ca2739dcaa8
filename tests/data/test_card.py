"""The folder of a built release stands on its own: its card, its columns, and what `load_dataset` makes of them."""

import json

import pyarrow.parquet
import pytest
import yaml
from small_releases import write_jama, write_pmc_vqa

from semihv_hf.data.build import build
from semihv_hf.data.card import dataset_card, source_notes
from semihv_hf.data.card_metadata import front_matter, is_gated, licence_fields, size_category
from semihv_hf.data.features import case_features, record_features
from semihv_hf.data.licences import source_licence
from semihv_hf.data.sources import ADAPTERS
from semihv_hf.data.sources.jama import CANARY
from semihv_hf.errors import SemiHVError


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_pmc_vqa(tmp_path_factory.mktemp("release") / "pmc_vqa", train=230, test=6, torn=(3,))


@pytest.fixture(scope="module")
def folder(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "folder"
    build("pmc_vqa", out, data_dir=release, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def report(folder):
    return json.loads((folder / "build_report.json").read_text())


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_says_what_the_hub_asks_for(folder):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "cc-by-sa-4.0" and data["language"] == ["en"] and data["size_categories"] == ["n<1K"]
    assert data["task_categories"] == ["visual-question-answering", "image-text-to-text"]
    assert data["annotations_creators"] == ["expert-generated", "machine-generated"]
    assert data["source_datasets"] == ["extended|other-pmc_vqa"] and "PMC-VQA" in data["pretty_name"]
    assert "extra_gated_prompt" not in data  # attribution and share-alike need no gate
    assert [config["config_name"] for config in data["configs"]] == ["cases", "alignment", "instruction"]
    assert [config["config_name"] for config in data["configs"] if config.get("default")] == ["instruction"]
    for heading in ("How to load it", "Composition", "Licence", "What was left out", "Known defects", "Removal"):
        assert f"\n## {heading}" in card.text
    for statement in (
        "| pmc_vqa | `instruction` | not stated | not stated | machine | 235 |",
        "| unreadable image | 1 |",
        "236 things are listed in the release; 235 cases were kept",
        "Damaged are 1 of these (0.42 % of what no rule excludes)",
        "Zhang et al., PMC-VQA (2023)",
    ):
        assert statement in card.text


def test_its_numbers_and_columns_are_those_of_the_files(folder):
    from datasets import Features, load_dataset_builder

    for info in metadata((folder / "README.md").read_text())["dataset_info"]:
        config = info["config_name"]
        expected = case_features() if config == "cases" else record_features()
        assert Features._from_yaml_list(info["features"]) == expected
        assert load_dataset_builder(str(folder), config).info.features == expected
        assert [split["name"] for split in info["splits"]] == ["train", "test"]
        for split in info["splits"]:
            files = list((folder / "data" / config).glob(f"{split['name']}-*.parquet"))
            assert split["num_bytes"] == sum(file.stat().st_size for file in files) > 0
            assert split["num_examples"] == sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)


def test_files_are_fit_for_a_viewer(folder):
    files = sorted((folder / "data").glob("*/*.parquet"))
    assert len(files) == 6
    for file in files:
        parquet = pyarrow.parquet.ParquetFile(file)
        groups = [parquet.metadata.row_group(index).num_rows for index in range(parquet.num_row_groups)]
        assert max(groups) <= 100 and sum(groups) == parquet.metadata.num_rows
        told = json.loads(parquet.schema_arrow.metadata[b"huggingface"])["info"]["features"]
        assert "Image" in json.dumps(told["images"])
    (train,) = (folder / "data" / "cases").glob("train-*.parquet")
    assert pyarrow.parquet.ParquetFile(train).num_row_groups == 3


def strings(value):
    """All texts of a row, wherever they stand; pixels are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def test_no_column_and_no_file_names_a_place_on_this_machine(folder, release):
    seen = 0
    for file in [*(folder / "data").glob("*/*.parquet"), folder / "skipped.parquet"]:
        for row in pyarrow.parquet.read_table(file).to_pylist():
            assert all(image["path"] is None for image in row.get("images", ()))
            for text in strings(row):
                seen += 1
                assert not text.startswith("/") and str(release) not in text and str(release.parent) not in text
    assert seen > 5000
    for name in ("README.md", "build_report.json", "build_manifest.json"):
        text = (folder / name).read_text()
        assert str(release.parent) not in text and str(folder.parent) not in text


ALONE = """
import json, sys
sys.modules["semihv_hf"] = None  # importing it fails from here on
from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset
folder, cache = sys.argv[1:]
found = {"configs": get_dataset_config_names(folder), "default": get_dataset_default_config_name(folder)}
for config in found["configs"]:
    rows = load_dataset(folder, config, cache_dir=cache)
    streamed = load_dataset(folder, config, streaming=True)
    # To the end: pyarrow aborts an interpreter that leaves within moments of a stream that it has not read out.
    read = {split: list(rows) for split, rows in streamed.items()}
    found[config] = {
        split: [
            len(rows[split]),
            rows[split]["id"] == [row["id"] for row in read[split]],
            str(rows[split].features) == str(streamed[split].features),
            sorted({image.size for row in rows[split].select(range(5)) for image in row["images"]}),
            read[split][0]["images"][0].convert("RGB").getpixel((0, 0))
            == rows[split][0]["images"][0].convert("RGB").getpixel((0, 0)),
        ]
        for split in rows
    }
print(json.dumps(found))
"""


def test_it_loads_and_streams_where_this_package_is_not_installed(folder, tmp_path, run_python):
    found = json.loads(run_python(ALONE, folder, tmp_path).stdout)
    assert found.pop("configs") == ["cases", "alignment", "instruction"] and found.pop("default") == "instruction"
    assert len(found) == 3
    for splits in found.values():
        assert splits == {
            "train": [229, True, True, [[32, 24]], True],
            "test": [6, True, True, [[32, 24]], True],
        }


@pytest.mark.parametrize(
    "missing", ["rows", "bytes", "composition", "kept", "content", "languages", "skipped", "tasks"]
)
def test_a_report_that_lacks_something_gives_no_card(missing, report):
    assert dataset_card(report).startswith("---\npretty_name")
    with pytest.raises(SemiHVError, match=f"report lacks.*{missing}"):
        dataset_card({name: value for name, value in report.items() if name != missing})


def test_what_a_release_states_cannot_break_the_card(report):
    hostile = "chest | <img src=x>\n## Heading \\"
    entry = {**report["composition"][0], "body_part": hostile}
    text = dataset_card({**report, "composition": [entry, *report["composition"][1:]]})
    assert "| chest \\| &lt;img src=x> ## Heading \\\\ |" in text and "\n## Heading" not in text
    assert metadata(text) == metadata(dataset_card(report))


def test_a_long_composition_is_cut_and_says_so(report):
    entries = [{**report["composition"][0], "body_part": f"part {number}", "rows": 2} for number in range(70)]
    text = dataset_card({**report, "composition": entries})
    assert text.count("| pmc_vqa | `") == 60
    assert "10 further combinations with 20 rows are in `build_report.json`" in text


GATED = {
    "biomed_vital", "deeplesion", "jama", "llava_med", "lld_mmri", "mama_mia", "med_instruction", "mimic_cxr",
    "padchest", "pmc_instruct", "pubmedvision", "quilt", "radiopaedia",
}  # fmt: skip


@pytest.mark.parametrize("source", ADAPTERS)
def test_every_source_has_notes_a_licence_and_a_gate_where_its_terms_demand_one(source, report):
    entry = source_licence(source)
    told = {**report, "source": source, "sources": [{"source": source, "licence": entry.licence, "cases": 235}]}
    text = dataset_card(told)
    data = metadata(text)
    assert is_gated(source) == (source in GATED) == ("extra_gated_prompt" in data) == ("Do not publish" in text)
    if source in GATED:
        assert entry.licence in data["extra_gated_prompt"] and entry.link in data["extra_gated_prompt"]
        assert data["extra_gated_fields"]["I will not pass the data on"] == "checkbox"
        wants = "I will use the data for non-commercial purposes only" in data["extra_gated_fields"]
        assert wants == ("non-commercial" in entry.conditions)
    notes = source_notes()[source]
    assert (
        notes["what"] in text and len(notes["defects"]) >= 2 and all(f"* {line}" in text for line in notes["defects"])
    )
    assert entry.attribution in text
    if data["license"] == "other":
        assert data["license_link"] == entry.link and " " not in data["license_name"]


def test_a_mixture_is_under_its_most_restrictive_licence():
    assert licence_fields(["eurorad"]) == {"license": "cc-by-4.0"}
    assert licence_fields(["eurorad", "mama_mia"]) == {"license": "cc-by-nc-sa-4.0"}
    two = licence_fields(["pubmedvision", "biomed_vital"])
    assert two == {"license": "other", "license_name": "not-established", "license_link": "README.md"}


def test_sizes_have_the_names_of_the_hub():
    names = [size_category(rows) for rows in (0, 999, 1000, 99_999, 100_000, 12_000_000)]
    assert names == ["n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "10M<n<100M"]


def test_the_card_of_the_challenge_names_its_canary(tmp_path):
    out = tmp_path / "jama"
    build("jama", out, data_dir=write_jama(tmp_path / "copy"), workers=1, progress=False)
    text = (out / "README.md").read_text()
    assert CANARY in text and metadata(text)["license_name"] == "copyright-of-the-publisher"
    assert [config["config_name"] for config in metadata(text)["configs"]] == ["cases", "annealing"]


def test_a_release_without_texts_has_cases_only(report):
    cases = [entry for entry in report["composition"] if entry["config"] == "cases"]
    told = {
        **report,
        "rows": {"cases": report["rows"]["cases"]},
        "bytes": {"cases": report["bytes"]["cases"]},
        "composition": [{**entry, "annotation": "none"} for entry in cases],
        "tasks": {},
        "languages": {},
        "skipped": {},
    }
    data = yaml.safe_load(front_matter(told))
    assert data["annotations_creators"] == ["no-annotation"] and data["configs"][0]["default"] is True
    text = dataset_card(told)
    assert "No case has a text." in text and "nothing was left out" in text and "training conversations" not in text
