"""One training stage: load, choose parameters, train with TRL, prove what stayed frozen, write the checkpoint."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json

from .arguments import StageArguments
from .parameters import changed_parameters, frozen_digests, select_trainable


def train_stage(stage: StageArguments, config, recipe: str | None = None) -> dict:
    """
    Runs a stage.

    Args:
        stage ([`StageArguments`]): model, data and what trains.
        config (`trl.SFTConfig`): settings of TRL's trainer; `output_dir` receives the checkpoint.
        recipe (`str`, *optional*): path of the recipe, kept in the record.

    Returns:
        `dict`: the stage record, also written as `stage.json` beside the weights, last of all files.

    Raises:
        `SemiHVError`: if model or data cannot be read, or if a frozen parameter changed.
    """
    from datasets import load_dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    import semihv_hf  # noqa: F401  registers the model's Auto classes
    from semihv_hf.models.export import save_checkpoint

    from .compact_head import score_labelled_positions
    from .lengths import conversation_lengths
    from .trainer import FactCollator, StageTrainer

    started = time.monotonic()
    load = {"revision": stage.revision, "trust_remote_code": config.trust_remote_code}
    dtype = (config.model_init_kwargs or {}).get("dtype", "float32")
    model = AutoModelForImageTextToText.from_pretrained(stage.model, dtype=dtype, **load)
    processor = AutoProcessor.from_pretrained(stage.model, **load)
    dataset = load_dataset(stage.dataset, stage.dataset_config, split=stage.dataset_split)

    if config.train_sampling_strategy == "group_by_length" and config.length_column_name not in dataset.column_names:
        dataset = dataset.add_column(config.length_column_name, conversation_lengths(dataset, processor))

    report = select_trainable(model, stage.trainable)
    print(f"{stage.stage}: {report}", flush=True)
    before = frozen_digests(model)
    collator = DataCollatorForVisionLanguageModeling(
        processor, max_length=config.max_length, assistant_only_loss=config.assistant_only_loss
    )
    objective = None
    if stage.alignment_weight:
        collator, objective = _alignment(stage, model, processor, dataset, collator, FactCollator)
    trainer = StageTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        processing_class=processor,
        data_collator=collator,
        learning_rates=stage.learning_rates,
        objective=objective,
        alignment_weight=stage.alignment_weight,
        connector_follows_text=stage.connector_follows_text,
    )
    if model.device.type == "cpu":
        score_labelled_positions(model)
    trainer.train()

    changed = changed_parameters(model, before)
    if changed:
        raise SemiHVError(f"{len(changed)} frozen parameters changed in {stage.stage}, e.g. {changed[0]}.")
    print(f"{stage.stage}: all {len(before)} frozen tensors are bit-identical to before", flush=True)
    record = {
        "stage": stage.stage,
        "title": stage.title,
        "recipe": None if recipe is None else "/".join(Path(recipe).parts[-3:]),
        "model": _public_name(stage.model),
        "dataset": _public_name(stage.dataset),
        "dataset_config": stage.dataset_config,
        "rows": len(dataset),
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_gib": peak_rss_gib(),
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        "trainable": {
            "patterns": report.patterns,
            "names": report.names,
            "parameters": report.parameters,
            "tensors": len(report.names),
        },
        "frozen": {
            "parameters": report.frozen_parameters,
            "tensors": report.frozen_tensors,
            "bit_identical": not changed,
        },
    }
    if trainer.is_world_process_zero():
        folder = save_checkpoint(trainer.accelerator.unwrap_model(model), processor, config.output_dir)
        write_json(folder / "stage.json", record)  # its existence means that the checkpoint is complete
    return record


def _public_name(source: str) -> str:
    """A Hub id as it is; of a local folder only its name, since the record is published beside the weights."""
    return Path(source).name if Path(source).exists() else source


def _alignment(stage, model, processor, dataset, collator, collator_class):
    from .alignment import AlignmentObjective, FactVocabulary, embed_values

    if "facts" not in dataset.column_names:
        raise SemiHVError(
            f"alignment_weight is {stage.alignment_weight}, but {stage.dataset} has no column facts.",
            "Set alignment_weight to 0 for data without facts.",
        )
    vocabulary = FactVocabulary.from_records(stage.alignment_groups, dataset["facts"])
    objective = AlignmentObjective(embed_values(vocabulary, processor.tokenizer, model.get_input_embeddings()))
    return collator_class(collator, vocabulary), objective.to(model.device)


def peak_rss_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)
