"""TRL's `SFTTrainer` with learning rates for groups of parameters and the optional alignment objective."""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from semihv_hf.models.pmc_cambrian.sva_pmc_cambrian import VisionContext

from .alignment import AlignmentObjective, FactVocabulary
from .parameters import optimizer_groups


class FactCollator:
    """
    Adds the alignment targets of a batch's images to what TRL's collator returns.

    Args:
        collator (`DataCollatorForVisionLanguageModeling`): collator of messages and images.
        vocabulary ([`FactVocabulary`]): values of each group of facts.
    """

    def __init__(self, collator: DataCollatorForVisionLanguageModeling, vocabulary: FactVocabulary):
        self.collator = collator
        self.vocabulary = vocabulary

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        targets = [self.vocabulary.targets(row["facts"]) for row in examples for _ in row["images"]]
        batch = self.collator(examples)
        batch["alignment_targets"] = torch.tensor(targets).reshape(-1, len(self.vocabulary.groups))
        return batch


class StageTrainer(SFTTrainer):
    """
    Args:
        learning_rates (`dict[str, float]`, *optional*): see [`optimizer_groups`].
        objective ([`AlignmentObjective`], *optional*): auxiliary objective on the connector's image tokens.
        alignment_weight (`float`, *optional*, defaults to 0.0): its weight beside the language modelling loss.
        connector_follows_text (`bool`, *optional*, defaults to `True`):
            whether the language modelling loss reaches the connector. If not, the alignment objective alone trains it,
            and nothing is computed backwards below the lowest trained decoder layer.
    """

    def __init__(
        self,
        *args,
        learning_rates: dict[str, float] | None = None,
        objective: AlignmentObjective | None = None,
        alignment_weight: float = 0.0,
        connector_follows_text: bool = True,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.learning_rates = learning_rates or {}
        self.objective = objective
        self.alignment_weight = alignment_weight
        self.connector_follows_text = connector_follows_text

    def create_optimizer(self, model=None):
        if self.optimizer is None and self.learning_rates:
            groups = optimizer_groups(
                model or self.model, self.args.learning_rate, self.learning_rates, self.args.weight_decay
            )
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model or self.model)
            self.optimizer = optimizer_class(groups, **kwargs)
        return super().create_optimizer(model)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        targets = inputs.pop("alignment_targets", None)
        if self.objective is None or targets is None or not len(targets) or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        image_sizes = inputs["image_sizes"]
        captured: list[list[torch.Tensor]] = []
        connector = self.accelerator.unwrap_model(model).model.connector

        # TRL's loss does not hand the image tokens out, so they are read where they are made.
        def capture(module, args, output):
            tokens, contexts = output
            captured.append(tokens)
            if self.connector_follows_text:
                return None
            return (
                [image.detach() for image in tokens],
                [VisionContext(*(field.detach() for field in context)) for context in contexts],
            )

        handle = connector.register_forward_hook(capture)
        try:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            handle.remove()
        auxiliary, accuracies = self.objective(captured[0], self._regions(connector, image_sizes), targets)
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
