"""Rows to batches, in the workers of the data loader: images decoded once, labels on answers, padded or packed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from semihv_hf.errors import SemiHVError, first_line

from .bad_rows import BadRows
from .lengths import RowFailure, row_id
from .packed_rows import RowPacker
from .row_images import decode_image, row_images

REPORT_KEY = "report"


@dataclass
class BatchReport:
    """What a batch holds, for logs and guards.

    Args:
        row_ids (`list[str]`): the rows in the batch.
        left_out (`list[RowFailure]`): the rows that were to be in it.
        places (`list[int]`): which of the examples, packs laid open, are in the batch.
        real_tokens (`int`): tokens of rows.
        computed_tokens (`int`): tokens that the model computes, padding included.
        images (`int`): images in the batch.
    """

    row_ids: list[str] = field(default_factory=list)
    left_out: list[RowFailure] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    real_tokens: int = 0
    computed_tokens: int = 0
    images: int = 0


@dataclass
class _Prepared:
    """A row whose images are decoded."""

    place: int
    row: dict[str, Any]
    messages: list[dict]
    images: int

    def failure(self, reason: str, too_long: bool = False) -> RowFailure:
        return RowFailure(row_id(self.row), reason, too_long=too_long)


def take_report(batch: dict[str, Any]) -> BatchReport | None:
    """
    Takes the report out of a batch, which a model would not accept.

    Args:
        batch (`dict`): what [`VisionCollator`] returned.

    Returns:
        [`BatchReport`] or `None`: `None` if the collator made none.
    """
    return batch.pop(REPORT_KEY, None)


def token_counts(batch: dict[str, Any]) -> tuple[int, int]:
    """
    Real and computed tokens of a batch.

    Args:
        batch (`dict`): a batch of any collator, padded (with an attention mask) or packed (with a report).

    Returns:
        `tuple[int, int]`: tokens of rows, and tokens that the model computes. Without a mask and a report all are
        taken for real.
    """
    computed = batch["input_ids"].numel()
    report = batch.get(REPORT_KEY)
    if report is not None:
        return report.real_tokens, computed
    mask = batch.get("attention_mask")
    return (computed if mask is None else int(mask.sum())), computed


class VisionCollator:
    """
    Conversations with images to the inputs of an image-text model.

    A row whose images do not decode, that the processor refuses, in which nothing is to be learnt, or that is longer
    than `max_length` is left out, counted with its id, and never replaced by another. If nothing is left, the batch is
    two pad tokens without labels, which add nothing to loss and gradients but keep processes in step. Tokens of images
    carry no label.

    Args:
        processor (`ProcessorMixin`): processor of the model, with a chat template and a pad token.
        max_length (`int`, *optional*): rows with more tokens are left out; nothing is ever cut.
        assistant_only_loss (`bool`, *optional*, defaults to `True`): labels on the assistant's turns only.
        packing (`bool`, *optional*, defaults to `False`): the rows of a batch in one sequence, see [`RowPacker`].
        model_config (`PreTrainedConfig`, *optional*): configuration of the model; needed for packing.
        pad_to_multiple_of (`int`, *optional*): length of the batch is a multiple of it.
        chat_template (`str`, *optional*): template in place of the processor's own.
        max_bad_rows (`int`, *optional*): most rows that one worker may leave out; `None` for no limit.
        report (`bool`, *optional*, defaults to `False`): add a [`BatchReport`] as `report`, see [`take_report`].

    Raises:
        `SemiHVError`: if the template marks no assistant turns, or the model's rows cannot be packed.

    Example:

    ```python
    >>> collator = VisionCollator(processor, packing=True, model_config=model.config)
    >>> batch = collator([dataset[3], dataset[5], dataset[9]])  # input_ids (1, T)
    ```
    """

    def __init__(
        self,
        processor,
        *,
        max_length: int | None = None,
        assistant_only_loss: bool = True,
        packing: bool = False,
        model_config=None,
        pad_to_multiple_of: int | None = None,
        chat_template: str | None = None,
        max_bad_rows: int | None = None,
        report: bool = False,
    ):
        self.processor = processor
        self.max_length = max_length
        self.assistant_only_loss = assistant_only_loss
        self.pad_to_multiple_of = pad_to_multiple_of
        self.chat_template = chat_template
        self.report = report
        self.bad_rows = BadRows(max_bad_rows)
        self.pad_token_id = processor.tokenizer.pad_token_id
        if self.pad_token_id is None:
            raise SemiHVError("The tokenizer has no pad token.", "Set one: it fills the shorter rows of a batch.")
        template = chat_template or getattr(processor, "chat_template", None)
        template = template if isinstance(template, str) else (template or {}).get("default", "")
        if assistant_only_loss and "generation" not in template:
            raise SemiHVError(
                "The chat template does not mark what the assistant says ({% generation %}), so there are no labels "
                "for assistant_only_loss.",
                "Give a training template, or set assistant_only_loss to false.",
            )
        self.packer = None
        if packing:
            if model_config is None:
                raise SemiHVError("Packing needs the model's configuration.", "Pass model_config=model.config.")
            self.packer = RowPacker(model_config, self.pad_token_id, pad_to_multiple_of)
        self.image_token_ids = [number for number in processor.image_token_ids if number is not None]

    def __call__(self, examples: list) -> dict[str, Any]:
        """
        Args:
            examples (`list[dict]` or `list[list[dict]]`): rows with `messages` and `images`, or packs of such rows; a
                [`RowFailure`] in place of a row is counted with the rows that are left out.

        Returns:
            `dict`: inputs of the model and `labels`.

        Raises:
            `SemiHVError`: if there is no column of messages, or too many rows are left out.
        """
        rows = [row for example in examples for row in (example if isinstance(example, list) else [example])]
        prepared, left_out = self._prepared(rows)
        batch, kept, refused = self._encoded(prepared)
        batch, kept, silent = self._spoken(batch, kept)
        left_out += refused + silent
        self.bad_rows.add(left_out)
        report = BatchReport(
            row_ids=[row_id(entry.row) for entry in kept],
            left_out=left_out,
            places=[entry.place for entry in kept],
        )
        images_of_rows = [entry.images for entry in kept]
        if batch is None:
            batch, images_of_rows = self._nothing(), [0]
        else:
            report.real_tokens = int(batch["attention_mask"].sum())
            report.images = sum(images_of_rows)
        if self.packer is not None:
            batch = self.packer(batch, images_of_rows)
        report.computed_tokens = batch["input_ids"].numel()
        if self.report:
            batch[REPORT_KEY] = report
        return batch

    def _prepared(self, rows: list[dict]) -> tuple[list[_Prepared], list[RowFailure]]:
        """The rows whose images decode, which happens here and nowhere else, and those whose images do not."""
        from trl.data_utils import prepare_multimodal_messages

        prepared, left_out = [], []
        for place, row in enumerate(rows):
            if isinstance(row, RowFailure):  # found while a stream was measured
                left_out.append(row)
                continue
            if "messages" not in row:
                raise SemiHVError(
                    f"Row {row_id(row)} has no messages: its columns are {', '.join(row)}.",
                    "Choose a configuration with conversations, such as instruction.",
                )
            # A damaged file can raise anything; whatever it is, the row is counted under its reason.
            try:
                if row["messages"] is None:
                    raise ValueError("it has no messages")
                images = [decode_image(image) for image in row_images(row)]
                messages = prepare_multimodal_messages(row["messages"], images=images)
            except Exception as error:
                left_out.append(RowFailure(row_id(row), first_line(error)))
                continue
            prepared.append(_Prepared(place, row, messages, len(images)))
        return prepared, left_out

    def _encoded(self, prepared: list[_Prepared]) -> tuple[dict | None, list[_Prepared], list[RowFailure]]:
        """The padded batch, the rows in it, and those that the processor refuses or that are too long."""
        refused: list[RowFailure] = []
        if not prepared:
            return None, prepared, refused
        try:
            batch = self._encode(prepared)
        except Exception:
            # The processor speaks of the batch: only row by row can it be told which one is to blame.
            prepared, refused = self._sound(prepared)
            if not refused:
                raise
            return (self._encode(prepared) if prepared else None), prepared, refused
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        if self.max_length is not None and max(lengths) > self.max_length:
            refused, prepared = self._too_long(prepared, lengths)
            batch = self._encode(prepared) if prepared else None
        return batch, prepared, refused

    def _spoken(self, batch: dict | None, kept: list[_Prepared]) -> tuple[dict | None, list[_Prepared], list]:
        """The same without the rows in which no token is trained on, and these."""
        trained = [] if batch is None else (batch["labels"] != -100).any(dim=1).tolist()
        if all(trained):
            return batch, kept, []
        reason = "no token to train on: the assistant says nothing"
        silent = [entry.failure(reason) for entry, trains in zip(kept, trained, strict=True) if not trains]
        kept = [entry for entry, trains in zip(kept, trained, strict=True) if trains]
        return (self._encode(kept) if kept else None), kept, silent

    def _too_long(self, prepared: list[_Prepared], lengths: list[int]) -> tuple[list[RowFailure], list[_Prepared]]:
        refused, kept = [], []
        for entry, length in zip(prepared, lengths, strict=True):
            if self.max_length is not None and length > self.max_length:
                reason = f"{length} tokens, longer than max_length ({self.max_length})"
                refused.append(entry.failure(reason, too_long=True))
            else:
                kept.append(entry)
        return refused, kept

    def _sound(self, prepared: list[_Prepared]) -> tuple[list[_Prepared], list[RowFailure]]:
        """The rows that the processor takes, each tried alone, and those that it refuses or that are too long."""
        sound, lengths, refused = [], [], []
        for entry in prepared:
            try:
                length = self._encode([entry])["input_ids"].shape[1]
            except Exception as error:
                refused.append(entry.failure(first_line(error)))
                continue
            sound.append(entry)
            lengths.append(length)
        too_long, sound = self._too_long(sound, lengths)
        return sound, refused + too_long

    def _encode(self, prepared: list[_Prepared]) -> dict[str, Any]:
        output = self.processor.apply_chat_template(
            [entry.messages for entry in prepared],
            chat_template=self.chat_template,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            return_assistant_tokens_mask=self.assistant_only_loss,
            processor_kwargs={
                "padding": True,
                "padding_side": "right",
                "pad_to_multiple_of": None if self.packer is not None else self.pad_to_multiple_of,
                # The template writes every special token itself.
                "add_special_tokens": False,
            },
        )
        labels = output["input_ids"].clone()
        labels[output["attention_mask"] == 0] = -100
        if self.assistant_only_loss:
            labels[output.pop("assistant_masks") == 0] = -100
        for image_token_id in self.image_token_ids:
            labels[labels == image_token_id] = -100
        output["labels"] = labels
        return dict(output)

    def _nothing(self) -> dict[str, Any]:
        """A batch in which nothing is trained: its two tokens carry no label."""
        ids = torch.full((1, 2), self.pad_token_id)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.full_like(ids, -100)}
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in self.processor.model_input_names:
                batch[name] = torch.zeros_like(ids)
        return batch
