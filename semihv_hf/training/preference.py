"""Preference tuning (DPO) on pairs of answers to the same question, images included, with TRL's vision DPO.

A pair is a row with `prompt`, `chosen` and `rejected` (messages, or plain text) and `images`.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.files import write_json

from .arguments import RunArguments

COLUMNS = ("prompt", "chosen", "rejected")
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


@dataclass
class PreferenceArguments(RunArguments):
    """What is tuned on which pairs; everything else is TRL's `DPOConfig`. The start is the reference."""

    stage: str = field(default="4_preference", metadata={"help": "Name of the stage."})
    title: str = field(default="Preference tuning", metadata={"help": "Title of the stage in reports."})

    def __post_init__(self):
        super().__post_init__()
        if not self.dataset:
            raise SemiHVError("No dataset is set.", "Set dataset to the folder or Hub id of the pairs.")
        if bool(self.lora_r) == bool(self.trainable):
            raise SemiHVError(
                "Set either lora_r or trainable: adapters, or parameters that train in full.",
                "With lora_r the reference is the model without adapters, and costs no memory.",
            )

    @property
    def lora_modules_to_save(self) -> list[str]:
        """None: without its adapters the model must be the reference, so nothing else may change."""
        return []


def prepare_pairs(
    dataset, processor, max_length: int | None = None, max_bad_rows: int = 0
) -> tuple[Any, dict[str, int]]:
    """
    Brings pairs to the form that TRL's vision collator takes, and leaves out those that cannot be used.

    Args:
        dataset (`datasets.Dataset`): rows with `prompt`, `chosen`, `rejected`, and `images` unless there are none.
        processor (`ProcessorMixin`): counts tokens, those of images included.
        max_length (`int`, *optional*): longest pair; nothing is ever cut.
        max_bad_rows (`int`, *optional*, defaults to 0): most pairs that cannot be read, such as by their image.

    Returns:
        `tuple`: the rows, and how many were left out by reason: `empty`, `equal answers`, `too long`, `refused`.

    Raises:
        `SemiHVError`: if a column is missing, no row is left, or more than `max_bad_rows` cannot be read.
    """
    from .bad_rows import BadRows
    from .lengths import RowFailure, measure_rows

    missing = [name for name in COLUMNS if name not in dataset.column_names]
    if missing:
        raise SemiHVError(
            f"The pairs have no column {missing[0]}; their columns are {', '.join(dataset.column_names)}.",
            "Preference pairs have prompt, chosen, rejected and images.",
        )
    if "images" not in dataset.column_names:
        dataset = dataset.add_column("images", [[] for _ in range(len(dataset))])
    texts = dataset.select_columns(list(COLUMNS))
    rows = [{name: _messages(row[name], ROLES[name]) for name in COLUMNS} for row in texts]
    left_out = {"empty": 0, "equal answers": 0, "too long": 0, "refused": 0}
    undecoded = _undecoded(dataset)
    names = dataset["id"] if "id" in dataset.column_names else range(len(rows))
    lengths: list[int | None] = [0] * len(rows)
    # TRL's trainer decodes images itself, and one that does not decode would end the run in its middle.
    faults = _image_faults(undecoded)
    if max_length is not None:
        for answer in ("chosen", "rejected"):
            sides = zip(rows, undecoded["images"])
            sides = [{"messages": row["prompt"] + row[answer], "images": images} for row, images in sides]
            measured = measure_rows(sides, processor)
            for failure in measured.failures:
                faults.setdefault(failure.row, failure.reason)
            lengths = [max(pair) if None not in pair else None for pair in zip(lengths, measured.lengths)]
    bad_rows = BadRows(max_bad_rows)
    kept = []
    for number, (row, length) in enumerate(zip(rows, lengths)):
        if not all(_said(row[name]) for name in COLUMNS):
            left_out["empty"] += 1
        elif _said(row["chosen"]) == _said(row["rejected"]):
            left_out["equal answers"] += 1
        elif number in faults:
            left_out["refused"] += 1
            bad_rows.add([RowFailure(str(names[number]), faults[number], number)])
        elif max_length is not None and length > max_length:
            left_out["too long"] += 1
        else:
            kept.append(number)
    if not kept:
        raise SemiHVError(f"None of {len(rows)} pairs can be used: {left_out}.", "Look at the columns of the pairs.")
    images = dataset.select_columns(["images"]).select(kept)
    for name in COLUMNS:
        images = images.add_column(name, [rows[number][name] for number in kept])
    return images, left_out


def _messages(value, role: str) -> list[dict]:
    """Messages with plain text: TRL puts the images before the first question."""
    if value is None or isinstance(value, str):
        return [{"role": role, "content": value or ""}]
    return [{"role": item["role"], "content": _text(item["content"])} for item in value]


def _text(content) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content if part["type"] == "text")


def _said(messages: list[dict]) -> str:
    return "\n".join(item["content"].strip() for item in messages).strip()


def _image_faults(undecoded) -> dict[int, str]:
    """Numbers of the rows with an image that does not decode, and why."""
    from .row_images import decode_image, row_images

    def fault(row: dict) -> str | None:
        try:  # a damaged file can raise anything
            for image in row_images(row):
                decode_image(image)
        except Exception as error:
            return first_line(error)
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = enumerate(pool.map(fault, undecoded.select_columns(["images"])))
        return {number: reason for number, reason in found if reason is not None}


def _undecoded(dataset):
    from .row_images import undecoded

    return undecoded(dataset)


def train_preference(
    settings: PreferenceArguments,
    config,
    recipe: str | None = None,
    *,
    check: Callable[[dict], object] | None = None,
) -> tuple[Any, dict | None]:
    """
    Tunes a model on preference pairs.

    Args:
        settings ([`PreferenceArguments`]): model, pairs and what trains.
        config (`trl.DPOConfig`): settings of TRL's trainer; `output_dir` receives the checkpoint or the adapter.
        recipe (`str`, *optional*): path of the recipe, kept in the record.
        check (`Callable[[dict], object]`, *optional*): told before the first step what the record will say of the
            sources; raises if the run may not be.

    Returns:
        `tuple`: the `DPOTrainer`, and the record, also written as `stage.json`, last of all files. After a dry run
        there is no record.

    Raises:
        `SemiHVError`: if model or pairs cannot be read, the run got another strategy than asked for, or a frozen
            parameter changed, or the run diverged.
    """
    from datasets import load_dataset
    from trl import DPOTrainer

    from .adapters import adapter_config, check_merge, merged_model, name_base
    from .checkpoints import make_run_folder
    from .divergence import refuse_diverged
    from .monitoring import ThroughputCallback, check_trackers
    from .parameters import (
        OptimizerGroups,
        changed_parameters,
        describe_trainable,
        frozen_digests,
        select_trainable,
    )
    from .stage_model import load_model, save_whole
    from .stage_record import log_record, peak_rss_gib
    from .strategy import asked_for, check_deepspeed, check_strategy, got

    started = time.monotonic()
    run = got(config)
    check_strategy(asked_for(), run, name=settings.expect_strategy, processes=settings.expect_processes)
    check_deepspeed(config)
    check_merge(settings, run.name)
    make_run_folder(config.output_dir)
    check_trackers(config.report_to)
    try:
        pairs = load_dataset(settings.dataset, settings.dataset_config, split=settings.dataset_split)
    except (OSError, ValueError, KeyError) as error:
        raise SemiHVError(f"The pairs {settings.dataset} cannot be read: {first_line(error)}.") from error
    sources = _sources(settings, pairs)
    if check is not None:
        check(sources)
    config.chat_template_path = None  # a setting of SFTConfig that loading reads; the processor's own template counts
    model, processor = load_model(settings, config)
    # Nothing is cut: TRL would cut image tokens, too. Longer pairs are left out and counted.
    pairs, left_out = prepare_pairs(pairs, processor, config.max_length, settings.max_bad_rows)
    config.max_length = None
    config.remove_unused_columns = False
    config.logging_nan_inf_filter = False  # it would log a mean of earlier losses, or 0, in place of NaN
    adapters, reference = None, None
    if settings.lora_r:
        adapters = adapter_config(settings, model)
        adapters.modules_to_save = None  # the reference is the model without adapters, see PreferenceArguments
    else:
        reference = copy.deepcopy(model).requires_grad_(False)
        select_trainable(model, settings.trainable)

    class PreferenceTrainer(OptimizerGroups, DPOTrainer):
        """TRL's, its optimizer's groups named."""

    trainer = PreferenceTrainer(
        model=model,
        ref_model=reference,
        args=config,
        train_dataset=pairs,
        processing_class=processor,
        peft_config=adapters,
    )
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    if settings.lora_r:
        name_base(unwrapped, settings.model)
    if settings.dry_run:
        return trainer, None
    if settings.monitoring:
        ThroughputCallback().attach(trainer)
    report = describe_trainable(trainer.model)
    before = frozen_digests(trainer.model)
    if trainer.is_world_process_zero():
        print(f"{settings.stage}: {report}; {len(pairs)} pairs, left out: {left_out}", flush=True)
    trainer.train()
    changed = changed_parameters(trainer.model, before)
    if changed:
        raise SemiHVError(f"{len(changed)} frozen parameters changed in {settings.stage}, e.g. {changed[0]}.")
    record = {
        "stage": settings.stage,
        "title": settings.title,
        "recipe": None if recipe is None else "/".join(Path(recipe).parts[-3:]),
        **sources,
        "rows": len(pairs),
        "left_out": left_out,
        "strategy": {"name": run.name, "processes": run.processes},
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_gib": peak_rss_gib(),
        **log_record(trainer.state.log_history),
        **report.record(bit_identical=True),
    }
    refuse_diverged(trainer, record)
    if settings.lora_merge:
        if trainer.is_world_process_zero():
            save_whole(merged_model(unwrapped, settings, config), processor, config.output_dir)
    elif not settings.lora_r and trainer.accelerator.num_processes == 1:
        save_whole(unwrapped, processor, config.output_dir)
    else:
        trainer.save_model(config.output_dir)
    if trainer.is_world_process_zero():
        # A pickle of this machine's settings.
        (Path(config.output_dir) / "training_args.bin").unlink(missing_ok=True)
        write_json(Path(config.output_dir) / "stage.json", record)
    return trainer, record


def _sources(settings: PreferenceArguments, pairs) -> dict:
    """What the run starts from and which pairs it is made with, for the record."""
    from semihv_hf.data.source_counts import source_counts

    from .mixture import public_name
    from .stage_record import sources_before

    return {
        "model": public_name(settings.model),
        "dataset": public_name(settings.dataset),
        "dataset_config": settings.dataset_config,
        "sources": source_counts(pairs) if {"source", "licence"} <= set(pairs.column_names) else None,
        **sources_before(settings.model, settings.revision),
    }
