"""TRL's `SFTTrainer` with own batches, rates for groups of parameters, exact checkpoints, the alignment objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import SFTTrainer

from semihv_hf.errors import SemiHVError
from semihv_hf.models.pmc_cambrian.sva_pmc_cambrian import VisionContext

from .alignment import AlignmentObjective, FactVocabulary
from .bad_rows import BadRows
from .checkpoint_trainer import CheckpointMixin
from .collation import REPORT_KEY, take_report
from .evaluation_loss import TokenWeightedEvaluation
from .monitoring import ThroughputCallback
from .parameters import OptimizerGroups
from .sampling import GlobalBatchSampler, said_by_worker, train_dataloader
from .spike_guard import ROW_IDS, SpikeGuard
from .streaming import BatchStream, stream_dataloader


class FactCollator:
    """
    Adds the alignment targets of a batch's images to what another collator returns.

    Args:
        collator (`Callable`): collator of messages and images; with a report it may leave rows out.
        vocabulary ([`FactVocabulary`]): values of each group of facts.
    """

    def __init__(self, collator, vocabulary: FactVocabulary):
        self.collator = collator
        self.vocabulary = vocabulary

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        report = batch.get(REPORT_KEY)
        rows = [row for example in examples for row in (example if isinstance(example, list) else [example])]
        kept = rows if report is None else [rows[place] for place in report.places]
        targets = [self.vocabulary.targets(row["facts"]) for row in kept for _ in row["images"] or []]
        batch["alignment_targets"] = torch.tensor(targets).reshape(-1, len(self.vocabulary.groups))
        return batch


class StageTrainer(CheckpointMixin, TokenWeightedEvaluation, OptimizerGroups, SFTTrainer):
    """
    Args:
        sampler ([`GlobalBatchSampler`], *optional*): chooses the rows of batches; by default the trainer does.
        stream ([`BatchStream`], *optional*): gives the rows of batches where the training data is streamed.
        eval_collator (`Callable`, *optional*): makes the batches of an evaluation; `data_collator` if not given.
        learning_rates (`dict[str, float]`, *optional*): see [`optimizer_groups`].
        objective ([`AlignmentObjective`], *optional*): auxiliary objective on the connector's image tokens.
        alignment_weight (`float`, *optional*, defaults to 0.0): its weight beside the language modelling loss.
        connector_follows_text (`bool`, *optional*, defaults to `True`):
            whether the language modelling loss reaches the connector. If not, the alignment objective alone trains it,
            and nothing is computed backwards below the lowest trained decoder layer.
        bad_rows ([`BadRows`], *optional*): counts rows that batches leave out, and stops at its limit.

    Attributes:
        bad_rows ([`BadRows`]): rows left out so far, with reasons; those of other processes since the last step aside.
    """

    def __init__(
        self,
        *args,
        sampler: GlobalBatchSampler | None = None,
        stream: BatchStream | None = None,
        eval_collator=None,
        learning_rates: dict[str, float] | None = None,
        objective: AlignmentObjective | None = None,
        alignment_weight: float = 0.0,
        connector_follows_text: bool = True,
        bad_rows: BadRows | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.sampler = sampler
        self.stream = stream
        self.eval_collator = eval_collator or self.data_collator
        self.learning_rates = learning_rates or {}
        self.objective = objective
        self.alignment_weight = alignment_weight
        self.connector_follows_text = connector_follows_text
        self.bad_rows = BadRows() if bad_rows is None else bad_rows  # an empty one counts as false

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        except SemiHVError as error:
            raise said_by_worker(error) from error

    def get_train_dataloader(self):
        if self.stream is not None:
            return stream_dataloader(self, self.stream, self.data_collator)
        if self.sampler is None:
            return super().get_train_dataloader()
        return train_dataloader(self, self.train_dataset, self.sampler, self.data_collator)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            # transformers begins the next window with this minus itself, which for NaN is no zero.
            self._tr_loss.zero_()
        # TRL counts the padding of packs in (and one token for a pack of a model with three-dimensional positions):
        # `num_tokens` is the monitoring's, which counts what tokens_per_second counts, or absent.
        for metrics in self._metrics.values():
            metrics.pop("num_tokens", None)
        super().log(logs, start_time)

    def _run_epoch(self, *args, **kwargs):
        if self.stream is not None:
            resumes = kwargs["resume_from_checkpoint"] is not None and kwargs["epoch"] == kwargs["epochs_trained"]
            skips = resumes and not self.args.ignore_data_skip
            self.stream.skipped = kwargs["steps_trained_in_current_epoch"] if skips else 0
        return super()._run_epoch(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        report = take_report(inputs)
        if report is not None and self.model.training:
            self.bad_rows.add(report.left_out)
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, SpikeGuard):
                    inputs[ROW_IDS] = report.row_ids
                elif isinstance(callback, ThroughputCallback):
                    callback.tell(report)
        targets = inputs.pop("alignment_targets", None)
        # Without a single known fact there is nothing to align, such as in a batch of text.
        idle = self.objective is None or targets is None or not (targets != -100).any()
        if idle or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        image_sizes = inputs["image_sizes"]
        captured: list[torch.Tensor] = []
        connector = self.accelerator.unwrap_model(model).base_model.connector

        # TRL's loss does not hand the image tokens out, so they are read where they are made.
        def capture(module, args, output):
            tokens, vision = output
            captured.extend(connector.per_image(tokens, vision, image_sizes.tolist())[0])
            if self.connector_follows_text:
                return None
            return tokens.detach(), VisionContext(*(field.detach() for field in vision))

        handle = connector.register_forward_hook(capture)
        try:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            handle.remove()
        auxiliary, accuracies = self.objective(captured, self._regions(connector, image_sizes), targets)
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["alignment_loss"].append(float(auxiliary.detach()))
        self._metrics[mode]["alignment_accuracy"].append(float(accuracies.nanmean()))
        steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
        return loss + self.alignment_weight * auxiliary / steps

    @staticmethod
    def _regions(connector, image_sizes: torch.Tensor) -> list[tuple[int, int, int, int]]:
        from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import kept_region

        side = connector.config.query_side
        return [kept_region(height, width, side) for height, width in image_sizes.tolist()]

    def run_facts(self) -> dict[str, Any]:
        order = self.sampler if self.stream is None else self.stream
        return super().run_facts() | ({} if order is None else {"order": order.state_dict()})

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        if self.args.should_save and folder.resolve() == Path(self.args.output_dir).resolve():
            # A pickle of this machine's settings has no place among files that may be published.
            (folder / "training_args.bin").unlink(missing_ok=True)
