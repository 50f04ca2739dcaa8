"""Model cards come from the record of a run, and a number that is missing is an error."""

import copy
import json

import pytest
from huggingface_hub import ModelCard

from semihv_hf.data.source_counts import source_counts
from semihv_hf.errors import SemiHVError
from semihv_hf.hub.card_rules import check_card
from semihv_hf.hub.cards import run_record, write_model_card

RECORD = {
    "stage": "1_alignment",
    "title": "Alignment",
    "rows": 780,
    "seed": 3,
    "seconds": 81.25,
    "log": [{"step": 1, "loss": 3.25}, {"step": 20, "loss": 1.125}, {"step": 20, "train_runtime": 80.0}],
    "trainable": {"parameters": 1840000, "tensors": 55},
    "frozen": {"parameters": 135700000, "tensors": 700, "bit_identical": True},
    "sources": [{"source": "nilearn", "licence": "BSD-3-Clause", "rows": 780}],
    "text_model": "smollm2-135m",
}
SCORES = {
    "model": "1_alignment@255ad639",  # the content of the folder below
    "dataset": {"name": "drawn shapes", "hub_id": None, "config": "benchmark", "split": "test"},
    "verdict": {
        "n": 407,
        "n_cases": 220,
        "n_failed": 2,
        "n_unparsed": 3,
        "accuracy": 0.715,
        "ci95": [0.67, 0.76],
        "baselines": {
            "majority": {"which": "majority_train", "accuracy": 0.403, "margin": 0.312, "ci95": [0.25, 0.37]},
            "blank": {"which": "blank", "accuracy": 0.337, "margin": 0.378, "ci95": [0.31, 0.44]},
            "shuffled": None,
        },
    },
    "conditions": {"image": {"open": {"recall": 0.5, "total": 98, "failed": 1, "ci95": [0.4, 0.6]}}},
}


@pytest.fixture()
def folder(tmp_path):
    checkpoint = tmp_path / "checkpoints" / "1_alignment"
    checkpoint.mkdir(parents=True)
    config = {"model_type": "pmc_cambrian", "siglip_config": {"hidden_size": 96}, "clip_config": None}
    (checkpoint / "config.json").write_text(json.dumps(config))
    return checkpoint


def test_card_of_a_training_stage_parses_and_holds_the_numbers_of_the_record(folder):
    card = ModelCard.load(write_model_card(folder, RECORD))
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert card.data.pipeline_tag == "image-text-to-text"
    assert card.data.library_name == "transformers"
    assert card.data.eval_results is None
    text = card.text
    assert "| Alignment | 780 | 20 | 3.250 | 1.125 | 81.2 | 1,840,000 | 135,700,000 |" in text
    assert "(https://" in text and "| BSD-3-Clause | 780 |" in text
    assert "All stages together took 81 seconds" in text and "Energy was not measured" in text
    assert "semihv verify" in text and "code_manifest.json" in text
    assert "SigLIP as vision towers" in text and "ConvNeXt" not in text
    assert "carries no scores" in text
    assert "trust_remote_code=True, revision=revision" in text
    assert "clinical decision" in text


def test_scores_of_another_checkpoint_are_not_stated(folder):
    (folder / "scores.json").write_text(json.dumps(SCORES))
    assert "71.5 %" in write_model_card(folder, RECORD).read_text()
    (folder / "README.md").unlink()
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(SemiHVError, match="scores are about 1_alignment@.*, not about the checkpoint in .* which is"):
        write_model_card(folder, RECORD)
    nobodys = {**SCORES, "model": "gpt-4o"}
    with pytest.raises(SemiHVError, match="scores are about gpt-4o, not"):
        write_model_card(folder, RECORD, scores=nobodys)
    assert not (folder / "README.md").exists()


def test_scores_become_a_table_and_an_evaluation_result(folder):
    card = ModelCard.load(write_model_card(folder, RECORD, scores=SCORES))
    assert card.data.eval_results[0].metric_value == 0.715
    assert card.data.eval_results[0].metric_args == {"questions": 407, "failed": 2, "ci95": [0.67, 0.76]}
    result = card.data.eval_results[0]
    assert (result.dataset_name, result.dataset_type) == ("drawn shapes, benchmark, test", "drawn-shapes")
    assert "held-out images (drawn shapes, benchmark, test): 407 questions" in card.text
    assert "407 questions about 220 cases, of them 2 without an answer and 3 with" in card.text
    assert "| the image | 71.5 % (67.0 to 76.0) | |" in card.text
    assert "| always the commonest answer | 40.3 % | +31.2 points (+25.0 to +37.0) |" in card.text
    assert "Open questions: 98, of them 1 without an answer" in card.text and "50.0 % (40.0 to 60.0)" in card.text
    assert "another case's image" not in card.text


@pytest.mark.parametrize("key", ["title", "rows", "seed", "seconds", "log", "trainable", "frozen", "sources"])
@pytest.mark.parametrize("gone", ["missing", "null"])
def test_a_record_without_a_number_the_card_states_is_an_error(key, gone, folder):
    record = copy.deepcopy(RECORD)
    if gone == "missing":
        del record[key]
    else:
        record[key] = None
    with pytest.raises(SemiHVError, match=key):
        write_model_card(folder, record)
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("key", ["n", "n_cases", "n_failed", "n_unparsed", "accuracy", "ci95"])
def test_scores_without_a_number_or_its_interval_or_denominator_are_an_error(key, folder):
    scores = copy.deepcopy(SCORES)
    scores["verdict"].pop(key)
    with pytest.raises(SemiHVError, match=key):
        write_model_card(folder, RECORD, scores=scores)


def test_the_card_names_what_was_asked_by_the_record_of_the_scores(folder):
    elsewhere = {"name": "someone/vqa", "hub_id": "someone/vqa", "config": None, "split": None}
    card = ModelCard.load(write_model_card(folder, RECORD, scores={**SCORES, "dataset": elsewhere}))
    assert (card.data.eval_results[0].dataset_name, card.data.eval_results[0].dataset_type) == ("someone/vqa",) * 2
    for dataset in (None, "drawn shapes", {"config": "benchmark"}):
        with pytest.raises(SemiHVError, match="dataset|name"):
            write_model_card(folder, RECORD, scores={**SCORES, "dataset": dataset})


@pytest.mark.parametrize("key", ["accuracy", "margin", "ci95"])
def test_a_baseline_without_a_number_is_an_error(key, folder):
    scores = copy.deepcopy(SCORES)
    del scores["verdict"]["baselines"]["blank"][key]
    with pytest.raises(SemiHVError, match=key):
        write_model_card(folder, RECORD, scores=scores)


@pytest.mark.parametrize("value", ["780", float("nan"), float("inf"), True, [780]])
def test_what_is_no_number_is_not_rendered_as_one(value, folder):
    with pytest.raises(SemiHVError, match="rows"):
        write_model_card(folder, {**RECORD, "rows": value})


def test_a_stream_has_no_number_of_rows(folder):
    sources = [{"source": "a", "licence": "CC0-1.0", "rows": None, "streamed": True}]
    text = write_model_card(folder, {**RECORD, "rows": None, "streamed": True, "sources": sources}).read_text()
    assert f"| {RECORD['title']} | streamed |" in text and "| a | CC0-1.0 | streamed |" in text


def test_energy_is_stated_where_every_stage_measured_it(folder):
    text = write_model_card(folder, {**RECORD, "energy_kwh": 0.25, "peak_rss_gib": 2.5}).read_text()
    assert "Measured energy: 0.250 kWh." in text and "2.50 GiB" in text


def test_a_text_of_the_record_can_break_neither_table_nor_page(folder):
    text = write_model_card(folder, {**RECORD, "title": "a | b\n# c <script>"}).read_text()
    assert "| a \\| b # c &lt;script> |" in text and "<script" not in text


@pytest.mark.parametrize("repo_id", ["a/b/c", 'x")\nimport os', "a/../b", "-a/b", "a" * 200])
def test_an_id_that_no_repository_has_is_an_error(repo_id, folder):
    with pytest.raises(SemiHVError, match="no id of a repository"):
        write_model_card(folder, RECORD, repo_id=repo_id)


@pytest.mark.parametrize(
    ("name", "shown"), [("my first run (2)", "my-first-run-2"), ("3_annealing", "3-annealing"), ("ä…", "stage")]
)
def test_a_folder_may_be_called_anything(name, shown, folder, tmp_path):
    other = tmp_path / name
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    assert f"your-name/pmc-cambrian-{shown}" in write_model_card(other, RECORD).read_text()


def test_a_log_without_losses_is_an_error(folder):
    with pytest.raises(SemiHVError, match="no loss"):
        write_model_card(folder, {**RECORD, "log": [{"step": 1, "train_runtime": 1.0}]})


def test_earlier_stages_are_found_beside_the_checkpoint(folder):
    """What the card says of the training is of the stages that led here, not of what else lies there."""
    for name, title in (("0_warmup", "Warm-up"), ("0_other", "Another run"), ("2_instruction", "Instruction tuning")):
        other = folder.parent / name
        other.mkdir()
        (other / "stage.json").write_text(json.dumps({**RECORD, "title": title}))
    text = ModelCard.load(write_model_card(folder, {**RECORD, "model": "0_warmup"})).text
    assert text.index("| Warm-up |") < text.index("| Alignment |")
    assert "Instruction tuning" not in text and "Another run" not in text
    assert "All stages together took 162 seconds" in text


@pytest.mark.parametrize(
    "text_model, base_model",
    [("org/llama", "org/llama"), ("./models/llama", None), ("/models/llama", None), ("llama", None), (None, None)],
)
def test_only_a_hub_id_is_named_as_base_model(text_model, base_model, folder):
    card = ModelCard.load(write_model_card(folder, {**RECORD, "text_model": text_model}))
    assert card.data.base_model == base_model


def test_sources_are_counted_by_licence():
    from datasets import Dataset

    dataset = Dataset.from_dict(
        {"source": ["b", "a", "b"], "licence": ["MIT", "BSD", "MIT"], "text": ["never", "read", "here"]}
    )
    expected = [{"source": "a", "licence": "BSD", "rows": 1}, {"source": "b", "licence": "MIT", "rows": 2}]
    assert source_counts(dataset) == source_counts(list(dataset)) == expected
    assert source_counts([]) == []


def test_retrieved_texts_and_days_are_counted_too():
    from datasets import Dataset

    def row(source, published=None, *evidence):
        facts = [{"name": "title", "value": "x"}, *([{"name": "published", "value": published}] if published else [])]
        retrieved = [{"source": name, "licence": "?", "text": "a long text"} for name in evidence]
        return {"source": source, "licence": "?", "facts": facts, "evidence": retrieved}

    rows = [
        row("eurorad", "2015-07-06", "a", "a"), row("eurorad", "2015-07-05"), row("eurorad"), row("eurorad", "soon"),
        row("b", "2020-01-01", "eurorad", "b"),
    ]  # fmt: skip
    expected = [
        {"source": "a", "licence": "?", "rows": 1},
        {"source": "b", "licence": "?", "rows": 1},
        {"source": "eurorad", "licence": "?", "rows": 5, "early": 4},
    ]
    dataset = Dataset.from_list(rows)
    assert source_counts(rows) == source_counts(dataset) == expected
    assert source_counts(dataset.select([4, 0])) == source_counts([rows[4], rows[0]])
    plain = dataset.remove_columns(["facts", "evidence"])
    assert source_counts(plain)[1] == {"source": "eurorad", "licence": "?", "rows": 4, "early": 4}


def test_the_record_of_a_run_sums_the_data_of_its_stages(tmp_path):
    from datasets import Dataset

    for config, sources in (("alignment", ["a", "b"]), ("instruction", ["b"])):
        rows = Dataset.from_dict({"source": sources, "licence": ["MIT"] * len(sources)})
        path = tmp_path / "data" / "data" / config / "train-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        rows.to_parquet(path)
    front_matter = "".join(
        f"- config_name: {config}\n  data_files:\n  - split: train\n    path: data/{config}/train-*\n"
        for config in ("alignment", "instruction")
    )
    (tmp_path / "data" / "README.md").write_text(f"---\nconfigs:\n{front_matter}---\n")
    before = None
    for stage, config in (("1_alignment", "alignment"), ("2_instruction", "instruction")):
        folder = tmp_path / "checkpoints" / stage
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({**RECORD, "dataset_config": config, "model": before}))
        before = stage
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    record = run_record(tmp_path, "2_instruction")
    assert record["sources"] == [
        {"source": "a", "licence": "MIT", "rows": 1},
        {"source": "b", "licence": "MIT", "rows": 2},
    ]
    assert record["scores"] == SCORES
    assert run_record(tmp_path, "1_alignment")["scores"] is None, "only the last checkpoint answered"
    with pytest.raises(SemiHVError, match="3_annealing"):
        run_record(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "model_cards/dataset_card.md.jinja",
        "model_cards/source_dataset_card.md.jinja",
        "semihv_hf/curation/pipeline/templates/curated_dataset_card.md.jinja",
        "semihv_hf/curation/review/templates/reviewed_dataset_card.md.jinja",
    ],
)
def test_dataset_cards_say_how_to_load_what_is_wrong_and_whom_to_ask(name, root):
    text = (root / name).read_text(encoding="utf-8")
    for heading in ("## How to load it", "## Known defects", "## Removal"):
        assert heading in text


@pytest.mark.parametrize(
    "text, said",
    [
        ("no front matter", "no front matter"),
        ("---\n!!python/object/apply:os.system ['x']\n---\n", "no YAML"),
        ("---\n- 1\n---\n", "no fields"),
        ("---\nlicense: mit\n---\n# x\n", "no library_name"),
        ("---\nlicense: other\nlibrary_name: x\npipeline_tag: y\n---\n# x\n", "no license_name"),
        (
            "---\nlicense: {a: b}\nlibrary_name: 2020-01-01\npipeline_tag: y\n---\n# x\n",
            "license is .*library_name is",
        ),
        ("---\na: " + "[" * 5000 + "\n---\n", "nested"),
    ],
)
def test_a_card_that_cannot_be_published_says_why(text, said, tmp_path):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(SemiHVError, match=said):
        check_card(tmp_path / "README.md", "model")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"sdk": "shiny"}, "sdk is"),
        ({"app_file": "../app.py"}, "no file beside"),
        ({"sdk_version": 6.31}, "write it in quotes"),
        ({"colorFrom": "mauve"}, "colours"),
        ({"short_description": "x" * 61}, "61 letters"),
        ({"license": None}, "no license"),
    ],
)
def test_a_space_card_is_checked(change, said, tmp_path):
    import yaml

    (tmp_path / "app.py").write_text("")
    fields = {"title": "x", "sdk": "gradio", "sdk_version": "6.31.0", "app_file": "app.py", "license": "mit"}
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(fields)}---\n# x\n")
    assert check_card(tmp_path / "README.md", "space")["sdk"] == "gradio"
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(fields | change)}---\n# x\n")
    with pytest.raises(SemiHVError, match=said):
        check_card(tmp_path / "README.md", "space")
