"""One training stage: load, choose parameters, train with TRL, prove what stayed frozen, write the checkpoint."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.files import write_json

from .arguments import StageArguments

OUR_MODEL_TYPE = "pmc_cambrian"


class Stage:
    """
    A stage made ready: everything that can be wrong with model, data or strategy is found here, before the first step.

    Args:
        settings ([`StageArguments`]): model, data and what trains.
        config (`trl.SFTConfig`): settings of TRL's trainer; `output_dir` receives the checkpoint. What TRL cannot do
            with images (packing, cutting at `max_length`) is taken over and switched off there.
        recipe (`str`, *optional*): path of the recipe, kept in the record.

    Attributes:
        trainer ([`StageTrainer`]): ready to train.
        report ([`TrainableReport`]): what trains and what does not.
        shares (`list[Share]`): datasets and their shares.

    Raises:
        `SemiHVError`: if model or data cannot be read or do not fit, or the run got another strategy than asked for.
    """

    def __init__(self, settings: StageArguments, config, recipe: str | None = None):
        from .collation import BadRows
        from .lora import train_in_float32
        from .mixture import load_evaluation, load_mixture
        from .parameters import describe_trainable, frozen_digests, select_trainable
        from .row_images import undecoded
        from .strategy import asked_for, check_strategy, got

        self.started = time.monotonic()
        self.settings, self.config, self.recipe = settings, config, recipe
        expected = {"name": settings.expect_strategy, "processes": settings.expect_processes}
        asked = asked_for()
        self.got = got(config)
        check_strategy(asked, self.got, **expected)
        self.packing, config.packing = config.packing, False
        self.max_length, config.max_length = config.max_length, None
        config.remove_unused_columns = False  # the collator reads columns that TRL does not know
        if settings.streaming and config.max_steps <= 0:
            raise SemiHVError("A streamed dataset has no known end.", "Set max_steps.")

        if settings.streaming and self.packing:
            raise SemiHVError(
                "A streamed dataset cannot be packed: its lengths are not known before it is read.",
                "Set packing or streaming to false.",
            )

        check_trackers(config.report_to)
        dataset, self.shares = load_mixture(settings, config.seed)
        evaluation = load_evaluation(settings)
        self.model, self.processor = load_model(settings, config)
        self.dataset = undecoded(dataset)
        self.evaluation = None if evaluation is None else undecoded(evaluation)
        config.prediction_loss_only = True  # an evaluation is of the loss; answers are judged by `semihv score`
        if settings.lora_r:
            self._add_adapters()
            self.report = describe_trainable(self.model)
        else:
            self.report = select_trainable(self.model, settings.trainable)
        if (config.bf16 or config.fp16) and self.got.name in ("single", "ddp"):
            train_in_float32(self.model)  # DeepSpeed keeps float32 copies; FSDP2 wants one dtype
        self._say(self.report)
        self.before = frozen_digests(self.model)
        self.bad_rows = BadRows(settings.max_bad_rows)
        self.sampler = self._sampler()
        self.trainer = self._trainer()
        self.got = got(config, self.trainer.accelerator)
        check_strategy(asked, self.got, **expected)

    def train(self) -> dict:
        """
        Trains, checks that frozen parameters stayed what they were, and writes the checkpoint.

        Returns:
            `dict`: the stage record, also written as `stage.json` beside the weights, last of all files.

        Raises:
            `SemiHVError`: if a frozen parameter changed.
        """
        from .parameters import changed_parameters

        requested = self.config.resume_from_checkpoint or self.settings.resume
        self.trainer.train(resume_from_checkpoint=requested)
        changed = changed_parameters(self.model, self.before)
        if changed:
            raise SemiHVError(f"{len(changed)} frozen parameters changed in {self.settings.stage}, e.g. {changed[0]}.")
        self._say(f"all {len(self.before)} frozen tensors are bit-identical to before")
        record = self.record()
        self._save()
        if self.trainer.is_world_process_zero():
            # Its existence means that the checkpoint is complete.
            write_json(Path(self.config.output_dir) / "stage.json", record)
        return record

    def first_batch(self) -> str:
        """The first training batch as text, with what is learnt in colour, without training."""
        from .collation import take_report
        from .dry_run import show_first_batch

        batch = next(iter(self.trainer.get_train_dataloader()))
        take_report(batch)
        return show_first_batch(batch, self.processor)

    def record(self) -> dict:
        """What the stage did, for `stage.json` and the model card."""
        settings, report = self.settings, self.report
        first = self.shares[0]
        return {
            "stage": settings.stage,
            "title": settings.title,
            "recipe": None if self.recipe is None else "/".join(Path(self.recipe).parts[-3:]),
            "model": _public_name(settings.model),
            "dataset": first.dataset if len(self.shares) == 1 else [share.dataset for share in self.shares],
            "dataset_config": first.config if len(self.shares) == 1 else None,
            "mixture": [share.record() for share in self.shares],
            "rows": None if settings.streaming else len(self.dataset),
            "sources": self._sources(),
            **({} if (before := _sources_before(settings.model)) is None else {"sources_before": before}),
            "left_out": self._left_out(),
            "strategy": {"name": self.got.name, "processes": self.got.processes},
            "seed": self.config.seed,
            "seconds": round(time.monotonic() - self.started, 1),
            "peak_rss_gib": peak_rss_gib(),
            "log": [entry for entry in self.trainer.state.log_history if "loss" in entry],
            **report.record(bit_identical=True),
        }

    def _sources(self) -> list[dict] | None:
        """Rows by source and licence; `None` where the rows do not say it, or come from a stream."""
        from semihv_hf.data.source_counts import source_counts

        if self.settings.streaming or not {"source", "licence"} <= set(self.dataset.column_names):
            return None
        return source_counts(self.dataset)

    def _left_out(self) -> dict:
        """Rows that are not trained on, by reason: those left out by their length, and those that did not decode."""
        split = None if self.sampler is None else self.sampler.split
        return {
            "too_long": 0 if split is None else len(split.too_long),
            "unmeasured": 0 if split is None else len(split.unmeasured),
            # Of the main process's batches.
            "refused": len(self.bad_rows),
            "reasons": self.bad_rows.by_reason(),
        }

    def _add_adapters(self) -> None:
        from peft import get_peft_model

        from .adapters import adapter_config

        if self.settings.load_in_4bit and self.config.gradient_checkpointing:
            # peft's own preparation would also turn every frozen 16-bit weight, towers included, into float32.
            self.model.enable_input_require_grads()
        # ZeRO-3 gathers parameters of one dtype at a time.
        cast = getattr(self.config.deepspeed_plugin, "zero_stage", None) != 3
        self.model = get_peft_model(self.model, adapter_config(self.settings, self.model), autocast_adapter_dtype=cast)

    def _sampler(self):
        from .lengths import measure_rows, row_lengths
        from .sampling import LengthGroupedSampler, PackedBatchSampler

        settings, config, dataset = self.settings, self.config, self.dataset
        if settings.streaming:
            return None
        if not self.packing and settings.sampling == "trainer":
            column = config.length_column_name
            if config.train_sampling_strategy == "group_by_length" and column not in dataset.column_names:
                self.dataset = dataset.add_column(column, row_lengths(dataset, self.processor))
            return None
        measured = measure_rows(dataset, self.processor, chat_template=self._template())
        self.bad_rows.add(measured.failures)
        shared = {
            "seed": config.seed if config.data_seed is None else config.data_seed,
            "world_size": config.world_size,
            "rank": config.process_index,
            "accumulation": config.gradient_accumulation_steps,
            "too_long": settings.long_rows,
        }
        size = config.per_device_train_batch_size * config.world_size * config.gradient_accumulation_steps
        if self.packing:
            length = settings.pack_length or self.max_length
            if length is None:
                raise SemiHVError("packing is on, but the length of a pack is unknown.", "Set pack_length.")
            sampler = PackedBatchSampler(measured.lengths, length, size, **shared)
        else:
            sampler = LengthGroupedSampler(measured.lengths, size, max_length=self.max_length, **shared)
        self._say(sampler.split)
        return sampler

    def _trainer(self):
        from .compact_head import score_labelled_positions
        from .monitoring import ThroughputCallback
        from .preemption import PreemptionCallback
        from .spike_guard import SpikeGuard
        from .tower_cache import TowerCache, attach_towers
        from .trainer import StageTrainer

        settings, config = self.settings, self.config
        collator, objective = self._collator()
        trainer = StageTrainer(
            model=self.model,
            args=config,
            train_dataset=self.dataset,
            eval_dataset=self.evaluation,
            processing_class=self.processor,
            data_collator=collator,
            callbacks=[PreemptionCallback(), *([SpikeGuard()] if settings.spike_guard else [])],
            sampler=self.sampler,
            learning_rates=settings.learning_rates,
            objective=objective,
            alignment_weight=settings.alignment_weight,
            connector_follows_text=settings.connector_follows_text,
            bad_rows=self.bad_rows,
        )
        if settings.monitoring:
            ThroughputCallback().attach(trainer)
        bare = self.model.get_base_model() if settings.lora_r else self.model
        if settings.tower_cache or settings.tower_micro_batch:
            attach_towers(
                bare, TowerCache(settings.tower_cache) if settings.tower_cache else None, settings.tower_micro_batch
            )
        if settings.score_labelled_only or (settings.score_labelled_only is None and _compact_by_default(bare)):
            score_labelled_positions(bare)
        return trainer

    def _collator(self):
        from .collation import VisionCollator
        from .text_only import TextOnlyCollator, needs_companion

        settings, config = self.settings, self.config
        collator = VisionCollator(
            self.processor,
            max_length=self.max_length,
            assistant_only_loss=config.assistant_only_loss,
            packing=self.packing,
            model_config=self.model.config,
            pad_to_multiple_of=config.pad_to_multiple_of,
            chat_template=self._template(),
            report=True,
        )
        objective = None
        if settings.alignment_weight:
            collator, objective = self._alignment(collator)
        # TRL looks for unused parameters in a vision model unless it is told not to, or checkpoints reentrantly.
        reentrant = (config.gradient_checkpointing_kwargs or {}).get("use_reentrant")
        find_unused = config.ddp_find_unused_parameters is not False and not reentrant
        has_images = any(share.images for share in self.shares)
        if needs_companion(self.got.name, self.got.processes, find_unused, has_images):
            collator = TextOnlyCollator(collator, self.processor)
        return collator, objective

    def _alignment(self, collator):
        from .alignment import AlignmentObjective, FactVocabulary, embed_values
        from .trainer import FactCollator

        settings, model = self.settings, self.model
        if model.config.model_type != OUR_MODEL_TYPE:
            raise SemiHVError(
                f"alignment_weight is {settings.alignment_weight}, but a {model.config.model_type} model has no "
                "connector with cells.",
                "Set alignment_weight to 0.",
            )
        if "facts" not in self.dataset.column_names:
            raise SemiHVError(
                f"alignment_weight is {settings.alignment_weight}, but {self.shares[0].dataset} has no column facts.",
                "Set alignment_weight to 0 for data without facts.",
            )
        vocabulary = FactVocabulary.from_records(settings.alignment_groups, self.dataset["facts"])
        values = embed_values(vocabulary, self.processor.tokenizer, model.get_input_embeddings())
        return FactCollator(collator, vocabulary), AlignmentObjective(values).to(model.device)

    def _template(self) -> str | None:
        """A chat template that marks the assistant's turns, where the processor's own does not."""
        from trl.chat_template_utils import get_training_chat_template, has_generation_markers

        if not self.config.assistant_only_loss or has_generation_markers(self.processor.chat_template):
            return None
        try:
            return get_training_chat_template(self.processor)
        except ValueError as error:
            raise SemiHVError(
                f"The chat template of {_public_name(self.settings.model)} does not mark what the assistant says, and "
                f"none is known that does: {first_line(error)}.",
                "Set assistant_only_loss to false, or give a template by chat_template_path.",
            ) from error

    def _save(self) -> None:
        if self.settings.lora_merge:
            merged = self.trainer.accelerator.unwrap_model(self.trainer.model).merge_and_unload()
            if self.trainer.is_world_process_zero():
                save_whole(merged, self.processor, self.config.output_dir)
            return
        self.trainer.save_consolidated()

    def _say(self, what) -> None:
        if self.config.process_index == 0:
            print(f"{self.settings.stage}: {what}", flush=True)


def load_model(settings: StageArguments, config):
    """
    The model of a stage and its processor; a checkpoint that is an adapter is merged into its base model.

    Args:
        settings ([`StageArguments`]): `model`, `revision` and `load_in_4bit` are read.
        config (`trl.SFTConfig`): `model_init_kwargs` and `trust_remote_code` are read.

    Returns:
        `tuple`: model and processor.

    Raises:
        `SemiHVError`: if there is no such model, or it is no image-text model.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    import semihv_hf  # noqa: F401  registers the model's Auto classes

    from .adapters import four_bit_settings, is_adapter, load_merged

    load = {"revision": settings.revision, "trust_remote_code": config.trust_remote_code}
    extra = {"dtype": "float32", **(config.model_init_kwargs or {})}
    try:
        if is_adapter(settings.model):
            model = load_merged(settings.model, **load, **extra)
        else:
            if settings.load_in_4bit:
                extra["quantization_config"] = four_bit_settings(AutoConfig.from_pretrained(settings.model, **load))
            model = AutoModelForImageTextToText.from_pretrained(settings.model, **load, **extra)
        processor = AutoProcessor.from_pretrained(settings.model, **load)
    except (OSError, ValueError, RuntimeError) as error:
        raise SemiHVError(
            f"{settings.model} is no image-text model that can be trained: {first_line(error)}.",
            "Give the folder or Hub id of a checkpoint with weights and processor.",
        ) from error
    template = config.chat_template_path
    if template is not None and Path(template).is_file():
        processor.chat_template = Path(template).read_text(encoding="utf-8")
    if getattr(processor, "image_processor", None) is None:
        raise SemiHVError(f"{settings.model} has no image processor.", "A text model cannot be trained on images.")
    return model, processor


def check_trackers(report_to: list[str]) -> None:
    """Refuses to report to a tracker that is not installed, before anything is loaded."""
    from importlib.util import find_spec

    for name in ("trackio", "wandb", "mlflow", "swanlab"):
        if name in report_to and find_spec(name) is None:
            raise SemiHVError(f"report_to names {name}, which is not installed.", f"Run `pip install {name}`.")
    if "tensorboard" in report_to and find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise SemiHVError("report_to names tensorboard, which is not installed.", "Run `pip install tensorboard`.")


def save_whole(model, processor, folder: str | Path) -> None:
    """Writes a model that no trainer holds, such as a merged one, with its processor; ours also with its code."""
    from semihv_hf.models.export import save_checkpoint

    if model.config.model_type == OUR_MODEL_TYPE:
        save_checkpoint(model, processor, folder)
        return
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _sources_before(model: str) -> list[dict] | None:
    """What the start of a stage was trained on, by its own record; `None` where that does not say it of all stages."""
    path = Path(model) / "stage.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    own, before = record.get("sources"), record.get("sources_before")
    return None if own is None or before is None else [*before, *own]


def _compact_by_default(model) -> bool:
    """On a CPU TRL scores every position; where logits are the head's output and no more, fewer give the same loss."""
    text = model.config.get_text_config()
    changed = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
    plain = all(getattr(text, name, None) is None for name in changed)
    return model.device.type == "cpu" and plain and not hasattr(text, "output_router_logits")


def _public_name(source: str) -> str:
    from .mixture import public_name

    return public_name(source)


def peak_rss_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)
