"""One training stage: load, choose parameters, train with TRL, prove what stayed frozen, write the checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.files import write_json

from .arguments import StageArguments
from .mixture import public_name
from .stage_model import OUR_MODEL_TYPE, load_model, save_whole
from .stage_record import stage_record


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
        from .adapters import check_merge
        from .bad_rows import BadRows
        from .checkpoints import make_run_folder
        from .lora import train_in_float32
        from .mixture import load_evaluation, load_mixture
        from .monitoring import check_trackers
        from .parameters import describe_trainable, frozen_digests, select_trainable
        from .row_images import undecoded
        from .strategy import asked_for, check_deepspeed, check_strategy, got

        self.started = time.monotonic()
        self.settings, self.config, self.recipe = settings, config, recipe
        expected = {"name": settings.expect_strategy, "processes": settings.expect_processes}
        asked = asked_for()
        self.got = got(config)
        check_strategy(asked, self.got, **expected)
        check_deepspeed(config)
        check_merge(settings, self.got.name)
        self.packing, config.packing = config.packing, False
        self.max_length, config.max_length = config.max_length, None
        self.pack_length = self._pack_length() if self.packing else None
        config.remove_unused_columns = False  # the collator reads columns that TRL does not know
        config.logging_nan_inf_filter = False  # it would log a mean of earlier losses, or 0, in place of NaN
        if settings.streaming and config.max_steps <= 0:
            raise SemiHVError("A streamed dataset has no known end.", "Set max_steps.")

        named, evaluates = bool(settings.eval_dataset or settings.eval_split), config.eval_strategy != "no"
        if named != evaluates:
            raise SemiHVError(
                "There are rows to evaluate on, but eval_strategy is no."
                if named
                else "eval_strategy is set, but no rows to evaluate on are named.",
                "Set both eval_strategy and eval_split (with eval_dataset, if it is another one), or none.",
            )

        make_run_folder(config.output_dir)
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
        self.bad_rows = BadRows(settings.max_bad_rows, settings.long_rows)
        self.stream = self._stream() if settings.streaming else None
        self.sampler = None if settings.streaming else self._sampler()
        self.trainer = self._trainer()
        if settings.load_in_4bit:
            train_in_float32(self.model)  # TRL makes what trains beside 4-bit weights bfloat16
        self.got = got(config, self.trainer.accelerator)
        check_strategy(asked, self.got, **expected)

    def train(self) -> dict:
        """
        Trains, checks that frozen parameters stayed what they were, and writes the checkpoint.

        Returns:
            `dict`: the stage record, also written as `stage.json` beside the weights, last of all files.

        Raises:
            `SemiHVError`: if a frozen parameter changed, no row could be used, or the run has diverged.
        """
        from .divergence import refuse_diverged
        from .parameters import changed_parameters

        requested = self.config.resume_from_checkpoint or self.settings.resume
        self.trainer.train(resume_from_checkpoint=requested)
        if not self.settings.streaming and len(self.bad_rows) >= len(self.dataset):
            raise SemiHVError(f"None of {len(self.dataset)} rows could be used: {self.bad_rows.by_reason()}.")
        changed = changed_parameters(self.model, self.before)
        if changed:
            raise SemiHVError(f"{len(changed)} frozen parameters changed in {self.settings.stage}, e.g. {changed[0]}.")
        self._say(f"all {len(self.before)} frozen tensors are bit-identical to before")
        record = stage_record(self)
        refuse_diverged(self.trainer, record)
        self._save()
        if self.trainer.is_world_process_zero():
            # Its existence means that the checkpoint is complete.
            write_json(Path(self.config.output_dir) / "stage.json", record)
        return record

    def first_batch(self, colour: bool = True) -> str:
        """The first training batch as text, its rows named, with what is learnt marked; nothing is trained."""
        from .collation import take_report
        from .dry_run import show_first_batch

        batch = next(iter(self.trainer.get_train_dataloader()))
        report = take_report(batch)
        return show_first_batch(batch, self.processor, row_ids=report.row_ids, colour=colour)

    def _add_adapters(self) -> None:
        from peft import get_peft_model

        from .adapters import adapter_config, name_base

        if self.settings.load_in_4bit and self.config.activation_checkpointing:
            # peft's own preparation would also turn every frozen 16-bit weight, towers included, into float32.
            self.model.enable_input_require_grads()
        # ZeRO-3 gathers parameters of one dtype at a time.
        cast = getattr(self.config.deepspeed_plugin, "zero_stage", None) != 3
        self.model = get_peft_model(self.model, adapter_config(self.settings, self.model), autocast_adapter_dtype=cast)
        name_base(self.model, self.settings.model)

    def _stream(self):
        from .streaming import BatchStream

        settings, config = self.settings, self.config
        stream = BatchStream(
            self.dataset,
            config.per_device_train_batch_size,
            pack_length=self.pack_length,
            processor=self.processor,
            chat_template=self._template(),
            seed=self._data_seed(),
            shuffle=settings.stream_buffer,
            world_size=config.world_size,
            rank=config.process_index,
            workers=config.dataloader_num_workers,
        )
        if stream.workers < config.dataloader_num_workers:
            self._say(f"{stream.workers} workers read the stream: there is no file for more.")
        return stream

    def _pack_length(self) -> int:
        length = self.settings.pack_length or self.max_length
        if length is None:
            raise SemiHVError("packing is on, but the length of a pack is unknown.", "Set pack_length.")
        return length

    def _data_seed(self) -> int:
        return self.config.seed if self.config.data_seed is None else self.config.data_seed

    def _sampler(self):
        from .lengths import measure_rows, row_lengths
        from .sampling import LengthGroupedSampler, PackedBatchSampler

        settings, config, dataset = self.settings, self.config, self.dataset
        if not self.packing and settings.sampling == "trainer":
            column = config.length_column_name
            if config.train_sampling_strategy == "group_by_length" and column not in dataset.column_names:
                self.dataset = dataset.add_column(column, row_lengths(dataset, self.processor))
            return None
        measured = measure_rows(dataset, self.processor, chat_template=self._template())
        self.bad_rows.add(measured.failures)
        shared = {
            "seed": self._data_seed(),
            "world_size": config.world_size,
            "rank": config.process_index,
            "accumulation": config.gradient_accumulation_steps,
            "too_long": settings.long_rows,
        }
        size = config.per_device_train_batch_size * config.world_size * config.gradient_accumulation_steps
        if self.packing:
            sampler = PackedBatchSampler(measured.lengths, self.pack_length, size, **shared)
        else:
            sampler = LengthGroupedSampler(measured.lengths, size, max_length=self.max_length, **shared)
        self._say(sampler.split)
        return sampler

    def _trainer(self):
        from .bad_rows import SharedBadRows
        from .compact_head import score_labelled_positions
        from .monitoring import ThroughputCallback
        from .preemption import PreemptionCallback
        from .spike_guard import SpikeGuard
        from .tower_cache import TowerCache, attach_towers
        from .trainer import StageTrainer

        settings, config = self.settings, self.config
        collator, objective = self._collator()
        evaluation = None if self.evaluation is None else self._with_companion(self._vision_collator(packing=False))
        trainer = StageTrainer(
            model=self.model,
            args=config,
            train_dataset=self.dataset,
            eval_dataset=self.evaluation,
            processing_class=self.processor,
            data_collator=collator,
            callbacks=[
                SharedBadRows(self.bad_rows),
                PreemptionCallback(),
                *([SpikeGuard()] if settings.spike_guard else []),
            ],
            sampler=self.sampler,
            stream=self.stream,
            eval_collator=evaluation,
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
        from .text_only import trains_on_text

        collator = self._vision_collator(self.packing)
        objective = None
        if self.settings.alignment_weight:
            collator, objective = self._alignment(collator)
        bare = self.model.get_base_model() if self.settings.lora_r else self.model
        return self._with_companion(collator, trains_on_text(bare)), objective

    def _vision_collator(self, packing: bool):
        from .collation import VisionCollator

        return VisionCollator(
            self.processor,
            max_length=self.max_length,
            assistant_only_loss=self.config.assistant_only_loss,
            packing=packing,
            model_config=self.model.config,
            pad_to_multiple_of=self.config.pad_to_multiple_of,
            chat_template=self._template(),
            report=True,
        )

    def _with_companion(self, collator, text_trains: bool = True):
        from .text_only import TextOnlyCollator, needs_companion

        config = self.config
        # TRL looks for unused parameters in a vision model unless it is told not to, or checkpoints reentrantly.
        reentrant = (config.activation_checkpointing_kwargs or {}).get("use_reentrant")
        find_unused = config.ddp_find_unused_parameters is not False and not reentrant
        has_images = any(share.images for share in self.shares)
        if not has_images and not text_trains:
            raise SemiHVError(
                "What trains looks at images alone, and no row has one.", "Choose other data, or train decoder layers."
            )
        if needs_companion(self.got.name, self.got.processes, find_unused, has_images, text_trains):
            return TextOnlyCollator(collator, self.processor)
        return collator

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
        if settings.streaming:
            raise SemiHVError(
                "The alignment objective reads the facts of all rows before the first step, which a stream forbids.",
                "Set alignment_weight to 0, or streaming to false.",
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
                f"The chat template of {public_name(self.settings.model)} does not mark what the assistant says, and "
                f"none is known that does: {first_line(error)}.",
                "Set assistant_only_loss to false, or give a template by chat_template_path.",
            ) from error

    def _save(self) -> None:
        from .adapters import merged_model

        if self.settings.lora_merge:
            model = self.trainer.accelerator.unwrap_model(self.trainer.model)
            if self.trainer.is_world_process_zero():
                save_whole(merged_model(model, self.settings, self.config), self.processor, self.config.output_dir)
            return
        self.trainer.save_consolidated()

    def _say(self, what) -> None:
        if self.config.process_index == 0:
            print(f"{self.settings.stage}: {what}", flush=True)


def _compact_by_default(model) -> bool:
    """On a CPU TRL scores every position; where logits are the head's output and no more, fewer give the same loss."""
    text = model.config.get_text_config()
    changed = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
    plain = all(getattr(text, name, None) is None for name in changed)
    return model.device.type == "cpu" and plain and not hasattr(text, "output_router_logits")
