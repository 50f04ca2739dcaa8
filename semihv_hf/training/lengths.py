"""Lengths of conversations in tokens, image tokens included, without decoding any pixel.

The text is rendered and tokenised; what an image adds follows from its size, by the processor's own rule. Any
processor of an image-text model does that offers `_get_num_multimodal_tokens`; each is tried once on two real images,
and one whose answer differs is refused rather than trusted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from semihv_hf.errors import SemiHVError, first_line

from .row_images import image_size, row_images, undecoded

BATCH = 256


@dataclass
class RowFailure:
    """A row that is left out, and why.

    Args:
        id (`str`): the row's `id`, or its number where it has none.
        reason (`str`): one line.
        row (`int`, *optional*): number of the row, where it is known.
        too_long (`bool`, *optional*, defaults to `False`): whether its length is all that is wrong with it.
    """

    id: str
    reason: str
    row: int | None = None
    too_long: bool = False

    def __str__(self) -> str:
        return f"row {self.id}: {self.reason}"


@dataclass
class Measured:
    """Lengths of rows.

    Args:
        lengths (`list[int | None]`): tokens of each row, `None` where it could not be measured.
        failures (`list[RowFailure]`): the rows without a length.
    """

    lengths: list[int | None] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)


def row_id(row: dict[str, Any], number: int | None = None) -> str:
    """The `id` of a row, else its number, else a digest of its messages: two rows have two names."""
    identity = row.get("id")
    if identity is None:
        identity = number
    if identity is None:
        identity = "sha256 " + hashlib.sha256(repr(row.get("messages")).encode()).hexdigest()[:12]
    return str(identity)


class RowMeter:
    """
    Measures rows of one processor.

    Args:
        processor (`ProcessorMixin`): processor of an image-text model.
        chat_template (`str`, *optional*): template in place of the processor's own.

    Raises:
        `SemiHVError`: if the processor's lengths cannot be computed from the sizes of images.
    """

    def __init__(self, processor, chat_template: str | None = None):
        self.processor = processor
        self.chat_template = chat_template
        name = type(processor).__name__
        self.placeholder = getattr(processor, "image_token", None)
        if self.placeholder is None or not hasattr(processor, "_get_num_multimodal_tokens"):
            raise SemiHVError(
                f"{name} does not say how many tokens an image takes, so rows cannot be measured.",
                "Train without packing and with train_sampling_strategy: random.",
            )
        if getattr(processor.image_processor, "do_pan_and_scan", False):
            raise SemiHVError(
                "With do_pan_and_scan the number of image tokens does not follow from the image's size.",
                "Set do_pan_and_scan to false in the image processor.",
            )
        # Gemma 3 puts words around the tokens of an image, and these may join with the text beside them.
        self.inserted = self.placeholder
        whole = getattr(processor, "full_image_sequence", None)
        if whole is not None:
            soft = processor.tokenizer.image_token
            self.inserted = re.sub(f"(?:{re.escape(soft)})+", lambda match: soft, whole)
        self._try()

    def _try(self) -> None:
        from PIL import Image

        sizes = [(40, 64), (72, 48)]
        text = f"a {self.placeholder}b\n{self.placeholder}\nc"
        images = [Image.new("RGB", (width, height)) for height, width in sizes]
        real = self.processor(images=[images], text=[text], add_special_tokens=False)["input_ids"][0]
        counted = self._tokens([text], [sizes])[0]
        if len(real) != counted:
            raise SemiHVError(
                f"{type(self.processor).__name__} makes {len(real)} tokens of a text with two images, but "
                f"{counted} follow from their sizes: rows cannot be measured.",
                "Train without packing and with train_sampling_strategy: random.",
            )

    def _tokens(self, texts: list[str], sizes: list[list[tuple[int, int]]]) -> list[int]:
        inserted = [text.replace(self.placeholder, self.inserted) for text in texts]
        ids = self.processor.tokenizer(inserted, add_special_tokens=False)["input_ids"]
        return [len(row) + self._extra(of_row) for row, of_row in zip(ids, sizes, strict=True)]

    def _extra(self, sizes: list[tuple[int, int]]) -> int:
        if not sizes:
            return 0
        tokens = self.processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
        return sum(int(count) - 1 for count in tokens)  # the text holds one already

    def _prepare(self, row: dict[str, Any]) -> tuple[str, list[tuple[int, int]]]:
        from trl.data_utils import prepare_multimodal_messages

        if row.get("messages") is None:
            raise ValueError("it has no messages")
        sizes = [image_size(image) for image in row_images(row)]
        self._extra(sizes)  # some processors refuse some shapes
        messages = prepare_multimodal_messages(row["messages"], images=[None] * len(sizes))
        text = self.processor.apply_chat_template(messages, chat_template=self.chat_template, tokenize=False)
        if text.count(self.placeholder) != len(sizes):
            raise ValueError(
                f"its text holds {self.placeholder} {text.count(self.placeholder)} times for {len(sizes)} images"
            )
        return text, sizes

    def measure(self, rows: list[dict[str, Any]], first: int | None = None) -> list[int | RowFailure]:
        """
        Measures a batch of rows.

        Args:
            rows (`list[dict]`): rows with `messages` and `images`.
            first (`int`, *optional*): number of the first row, for the names of failures.

        Returns:
            `list[int | RowFailure]`: tokens of each row as the processor would return them, or why there are none.
        """
        results: list[int | RowFailure] = [0] * len(rows)
        texts, sizes, places = [], [], []
        for place, row in enumerate(rows):
            number = None if first is None else first + place
            # Anything can be wrong with a row of data; whatever it is, the row is counted under its reason.
            try:
                text, of_row = self._prepare(row)
            except Exception as error:
                results[place] = RowFailure(row_id(row, number), first_line(error), number)
                continue
            texts.append(text)
            sizes.append(of_row)
            places.append(place)
        if texts:
            for place, count in zip(places, self._tokens(texts, sizes), strict=True):
                results[place] = count
        return results


def require_messages(dataset) -> None:
    """
    Refuses a dataset without conversations.

    Args:
        dataset (`Dataset`, `IterableDataset` or `list`): rows.

    Raises:
        `SemiHVError`: if it is known to have no column `messages`.
    """
    names = getattr(dataset, "column_names", None)
    if names and "messages" not in names:
        raise SemiHVError(
            f"The dataset has no column messages: its columns are {', '.join(names)}.",
            "Choose a configuration with conversations, such as instruction.",
        )


def _raw(rows):
    """Rows with only what is measured, images undecoded."""
    require_messages(rows)
    names = getattr(rows, "column_names", None)
    if names and hasattr(rows, "select_columns"):
        rows = rows.select_columns([name for name in ("id", "messages", "images", "image") if name in names])
    return undecoded(rows)


def measure_rows(
    rows: Iterable[dict[str, Any]],
    processor,
    *,
    chat_template: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """
    Counts the tokens that each row will have.

    Args:
        rows (`Dataset` or `Iterable[dict]`): rows with `messages` and `images` (or `image`).
        processor (`ProcessorMixin`): processor of an image-text model.
        chat_template (`str`, *optional*): template in place of the processor's own.
        progress (`Callable[[int], None]`, *optional*): called with the number of rows done.

    Returns:
        [`Measured`]: a length for every row, and a failure for every row without.

    Raises:
        `SemiHVError`: if there is no column `messages`, or the processor's lengths cannot be computed.
    """
    meter = RowMeter(processor, chat_template)
    measured = Measured()
    source = iter(_raw(rows))
    while batch := list(islice(source, BATCH)):
        for result in meter.measure(batch, len(measured.lengths)):
            failed = isinstance(result, RowFailure)
            measured.lengths.append(None if failed else result)
            if failed:
                measured.failures.append(result)
        if progress is not None:
            progress(len(measured.lengths))
    return measured


def row_lengths(rows: Iterable[dict[str, Any]], processor, *, chat_template: str | None = None) -> list[int]:
    """
    Tokens of each row, where every row can be measured; see [`measure_rows`].

    Raises:
        `SemiHVError`: naming the first row that cannot be measured.
    """
    measured = measure_rows(rows, processor, chat_template=chat_template)
    if measured.failures:
        raise SemiHVError(
            f"{len(measured.failures)} of {len(measured.lengths)} rows cannot be measured, first "
            f"{measured.failures[0]}.",
            "Leave them out, or mend the data.",
        )
    return measured.lengths


def with_length(
    rows: Iterable[dict[str, Any]],
    processor,
    *,
    column: str = "length",
    max_length: int | None = None,
    chat_template: str | None = None,
    on_failure: Callable[[RowFailure], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """
    A stream of rows, each with its length; images stay undecoded.

    Args:
        rows (`IterableDataset` or `Iterable[dict]`): rows with `messages` and `images`.
        processor (`ProcessorMixin`): processor of an image-text model.
        column (`str`, *optional*, defaults to `"length"`): name of the added column.
        max_length (`int`, *optional*): rows that are longer are left out.
        chat_template (`str`, *optional*): template in place of the processor's own.
        on_failure (`Callable[[RowFailure], None]`, *optional*):
            told of every row that is left out, unmeasurable or too long. Without it such a row ends the stream.

    Yields:
        `dict`: the row and its length.

    Raises:
        `SemiHVError`: for a row that is left out, if nobody is told.
    """
    require_messages(rows)
    meter = RowMeter(processor, chat_template)
    source = iter(undecoded(rows))
    while batch := list(islice(source, BATCH)):
        # Not by its number: several workers count, and a shuffled row has another one in every pass.
        for row, result in zip(batch, meter.measure(batch), strict=True):
            if not isinstance(result, RowFailure) and max_length is not None and result > max_length:
                result = RowFailure(row_id(row), f"{result} tokens, longer than {max_length}", too_long=True)
            if not isinstance(result, RowFailure):
                yield {**row, column: result}
            elif on_failure is None:
                raise SemiHVError(f"A row of the stream cannot be used, {result}.", "Leave it out, or mend the data.")
            else:
                on_failure(result)
