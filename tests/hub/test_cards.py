"""Model cards come from the record of a run, and a number that is missing is an error."""

import copy
import json

import pytest
from huggingface_hub import ModelCard

from semihv_hf.errors import SemiHVError
from semihv_hf.hub.cards import run_record, source_counts, write_model_card

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
    "verdict": {
        "n": 407,
        "n_failed": 2,
        "accuracy": 0.715,
        "baselines": {
            "majority": {"which": "majority_train", "accuracy": 0.403, "margin": 0.312},
            "blank": {"which": "blank", "accuracy": 0.337, "margin": 0.378},
            "shuffled": None,
        },
    }
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
    assert "| nilearn | BSD-3-Clause | 780 |" in text
    assert "SigLIP as vision towers" in text and "ConvNeXt" not in text
    assert "carries no scores" in text
    assert "trust_remote_code=True, revision=revision" in text
    assert "clinical decision" in text


def test_scores_become_a_table_and_an_evaluation_result(folder):
    card = ModelCard.load(write_model_card(folder, RECORD, scores=SCORES))
    assert card.data.eval_results[0].metric_value == 0.715
    assert "407 of them, 2 without an answer" in card.text
    assert "| always the commonest answer | 40.3 % | +31.2 points |" in card.text
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


def test_a_baseline_without_accuracy_is_an_error(folder):
    scores = copy.deepcopy(SCORES)
    del scores["verdict"]["baselines"]["blank"]["accuracy"]
    with pytest.raises(SemiHVError, match="accuracy"):
        write_model_card(folder, RECORD, scores=scores)


def test_a_log_without_losses_is_an_error(folder):
    with pytest.raises(SemiHVError, match="no loss"):
        write_model_card(folder, {**RECORD, "log": [{"step": 1, "train_runtime": 1.0}]})


def test_earlier_stages_are_found_beside_the_checkpoint(folder):
    for name, title in (("0_warmup", "Warm-up"), ("2_instruction", "Instruction tuning")):
        other = folder.parent / name
        other.mkdir()
        (other / "stage.json").write_text(json.dumps({**RECORD, "title": title}))
    text = ModelCard.load(write_model_card(folder, RECORD)).text
    assert text.index("| Warm-up |") < text.index("| Alignment |")
    assert "Instruction tuning" not in text


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
    for stage, config in (("1_alignment", "alignment"), ("2_instruction", "instruction")):
        folder = tmp_path / "checkpoints" / stage
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({**RECORD, "dataset_config": config}))
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
