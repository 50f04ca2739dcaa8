"""Preference tuning (DPO) on pairs of answers to the same question, images included, with TRL's vision DPO.

A pair is a row with `prompt`, `chosen` and `rejected` (messages, or plain text) and `images`.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.files import write_json

COLUMNS = ("prompt", "chosen", "rejected")
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


@dataclass
class PreferenceArguments:
    """What is tuned on which pairs; everything else is TRL's `DPOConfig`."""

    model: str = field(metadata={"help": "Folder or Hub id of the checkpoint to start from: the reference."})
    dataset: str = field(metadata={"help": "Folder or Hub id of the pairs."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    stage: str = field(default="4_preference", metadata={"help": "Name of the stage."})
    title: str = field(default="Preference tuning", metadata={"help": "Title of the stage in reports."})
    revision: str | None = field(default=None, metadata={"help": "Revision of the model on the Hub."})
    trainable: list[str] = field(
        default_factory=list, metadata={"help": "Regular expressions on whole names of parameters that train."}
    )
    lora_r: int = field(default=0, metadata={"help": "Rank of the LoRA adapters, 0 for none."})
    lora_alpha: int = field(default=16, metadata={"help": "Scale of the adapters, divided by their rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapters."})
    lora_target_modules: str | None = field(
        default=None,
        metadata={"help": "Regular expression on whole module names; by default the text decoder's linear layers."},
    )
    load_in_4bit: bool = field(default=False, metadata={"help": "QLoRA: the text model's weights in 4 bit."})
    plan: dict | str | None = field(default=None, metadata={"help": "What the estimate assumes."})

    def __post_init__(self):
        if bool(self.lora_r) == bool(self.trainable):
            raise SemiHVError(
                "Set either lora_r or trainable: adapters, or parameters that train in full.",
                "With lora_r the reference is the model without adapters, and costs no memory.",
            )

    @property
    def lora_modules_to_save(self) -> list[str]:
        """None: without its adapters the model must be the reference, so nothing else may change."""
        return []


def prepare_pairs(dataset, processor, max_length: int | None = None) -> tuple[Any, dict[str, int]]:
    """
    Brings pairs to the form that TRL's vision collator takes, and leaves out those that cannot be used.

    Args:
        dataset (`datasets.Dataset`): rows with `prompt`, `chosen`, `rejected`, and `images` unless there are none.
        processor (`ProcessorMixin`): counts tokens, those of images included.
        max_length (`int`, *optional*): longest pair; nothing is ever cut.

    Returns:
        `tuple`: the rows, and how many were left out by reason: `empty`, `equal answers`, `too long`.

    Raises:
        `SemiHVError`: if a column is missing or no row is left.
    """
    from .lengths import measure_rows

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
    left_out = {"empty": 0, "equal answers": 0, "too long": 0}
    lengths: list[int | None] = [0] * len(rows)
    if max_length is not None:
        undecoded = _undecoded(dataset)
        measured = [
            measure_rows(
                [
                    {"messages": row["prompt"] + row[answer], "images": images}
                    for row, images in zip(rows, undecoded["images"])
                ],
                processor,
            ).lengths
            for answer in ("chosen", "rejected")
        ]
        lengths = [None if None in pair else max(pair) for pair in zip(*measured)]
    kept = []
    for number, (row, length) in enumerate(zip(rows, lengths)):
        if not all(_said(row[name]) for name in COLUMNS):
            left_out["empty"] += 1
        elif _said(row["chosen"]) == _said(row["rejected"]):
            left_out["equal answers"] += 1
        elif length is None or (max_length is not None and length > max_length):
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


def _undecoded(dataset):
    from .row_images import undecoded

    return undecoded(dataset)


def train_preference(settings: PreferenceArguments, config, recipe: str | None = None) -> dict:
    """
    Tunes a model on preference pairs.

    Args:
        settings ([`PreferenceArguments`]): model, pairs and what trains.
        config (`trl.DPOConfig`): settings of TRL's trainer; `output_dir` receives the checkpoint or the adapter.
        recipe (`str`, *optional*): path of the recipe, kept in the record.

    Returns:
        `dict`: the record, also written as `stage.json`, last of all files.

    Raises:
        `SemiHVError`: if model or pairs cannot be read, or if a frozen parameter changed.
    """
    from datasets import load_dataset
    from trl import DPOTrainer

    from .adapters import adapter_config
    from .monitoring import ThroughputCallback
    from .parameters import changed_parameters, describe_trainable, frozen_digests, select_trainable
    from .stage import load_model, peak_rss_gib, save_whole

    started = time.monotonic()
    try:
        pairs = load_dataset(settings.dataset, settings.dataset_config, split=settings.dataset_split)
    except (OSError, ValueError, KeyError) as error:
        raise SemiHVError(f"The pairs {settings.dataset} cannot be read: {first_line(error)}.") from error
    config.chat_template_path = None  # a setting of SFTConfig that loading reads; the processor's own template counts
    model, processor = load_model(settings, config)
    # Nothing is cut: TRL would cut image tokens, too. Longer pairs are left out and counted.
    pairs, left_out = prepare_pairs(pairs, processor, config.max_length)
    config.max_length = None
    config.remove_unused_columns = False
    adapters, reference = None, None
    if settings.lora_r:
        adapters = adapter_config(settings, model)
        adapters.modules_to_save = None  # the reference is the model without adapters, see PreferenceArguments
    else:
        reference = copy.deepcopy(model).requires_grad_(False)
        select_trainable(model, settings.trainable)
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=config,
        train_dataset=pairs,
        processing_class=processor,
        peft_config=adapters,
    )
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
        "rows": len(pairs),
        "left_out": left_out,
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_gib": peak_rss_gib(),
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        "trainable": {"parameters": report.parameters, "tensors": len(report.names)},
        "frozen": {
            "parameters": report.frozen_parameters,
            "tensors": report.frozen_tensors,
            "bit_identical": not changed,
        },
    }
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    whole = not settings.lora_r and trainer.accelerator.num_processes == 1
    if whole:
        save_whole(unwrapped, processor, config.output_dir)
    else:
        trainer.save_model(config.output_dir)
    if trainer.is_world_process_zero():
        write_json(Path(config.output_dir) / "stage.json", record)
    return record
