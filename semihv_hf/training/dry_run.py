"""The first batch as a person reads it: decoded text, image tokens counted, what is trained in colour.

```python
>>> from semihv_hf.training.dry_run import show_first_batch

>>> print(show_first_batch(next(iter(trainer.get_train_dataloader())), processor))
```
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

GREEN, DIM, RESET = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"


def wants_colour() -> bool:
    """Whether standard output shows colours: a terminal does, if the environment does not say otherwise."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def show_first_batch(batch: Mapping[str, Any], processor, *, row_ids: Sequence[str] = (), colour: bool = True) -> str:
    """
    Renders a batch.

    Image placeholders are shown as `<image x 576>`. Trained tokens are green; without colour they stand between `[[`
    and `]]`. The rows of a pack, told by position ids that start again, are shown one by one; padding is counted.

    Args:
        batch (`Mapping`): `input_ids`, `labels` (or DPO's `completion_mask`), and what else a collator returns.
        processor (`ProcessorMixin` or `PreTrainedTokenizerBase`): decodes; tells the image token.
        row_ids (`Sequence[str]`, *optional*): names of the rows, in the order of the batch.
        colour (`bool`, *optional*, defaults to `True`): whether to use terminal colours.

    Returns:
        `str`: the text, one paragraph for each row.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    ids, labels, mask = batch["input_ids"], _labels(batch), batch.get("attention_mask")
    positions = batch.get("position_ids")
    if positions is not None and positions.ndim == 3:  # that of the text stands before height and width
        positions = positions[0]
    # A packed row of several documents has no mask; its position ids start again at every document.
    packed = mask is None and positions is not None and positions.shape == ids.shape
    documents, padding = [], 0
    for row in range(len(ids)):
        starts = [0]
        if packed:
            starts = (positions[row] == 0).nonzero().flatten().tolist()
        for start, stop in zip(starts, [*starts[1:], ids.shape[1]]):
            kept = torch.ones(stop - start, dtype=torch.bool)
            if mask is not None and mask.shape == ids.shape:
                kept = mask[row, start:stop].bool().cpu()
            if packed and start and bool((ids[row, start:stop] == tokenizer.pad_token_id).all()):
                kept[:] = False  # the padded tail of a pack is a document of its own
            padding += int((~kept).sum())
            if kept.any():
                pairs = zip(ids[row, start:stop][kept].tolist(), labels[row, start:stop][kept].tolist())
                documents.append((row, start, list(pairs)))
    image_token = getattr(processor, "image_token_id", None)
    lines = [_headline(batch, labels, padding)]
    for number, (row, start, pairs) in enumerate(documents):
        trained = sum(label != -100 for _, label in pairs)
        name = f" {row_ids[number]}" if number < len(row_ids) else ""
        lines.append(f"--- {number}{name}: batch row {row}, from {start}, {len(pairs)} tokens, {trained} trained")
        lines.append(_document(pairs, tokenizer, image_token, colour))
    return "\n".join(lines)


def _labels(batch: Mapping[str, Any]) -> torch.Tensor:
    if batch.get("labels") is not None:
        return batch["labels"]
    if batch.get("completion_mask") is not None:
        return batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    return torch.full_like(batch["input_ids"], -100)


def _headline(batch: Mapping[str, Any], labels: torch.Tensor, padding: int) -> str:
    from .monitoring import count_images

    shape = " x ".join(map(str, batch["input_ids"].shape))
    trained = int((labels != -100).sum())
    return f"batch of {shape} tokens: {trained} trained, {padding} padding, {count_images(batch)} images"


def _document(pairs: list[tuple[int, int]], tokenizer, image_token: int | None, colour: bool) -> str:
    """Runs of tokens that are alike (trained, image, other) decoded together."""
    pieces, run, kind = [], [], None

    def close() -> None:
        if not run:
            return
        if kind == "image":
            text = f"<image x {len(run)}>"
            pieces.append(f"{DIM}{text}{RESET}" if colour else text)
            return
        text = tokenizer.decode(run, skip_special_tokens=False)
        if kind == "trained":
            text = f"{GREEN}{text}{RESET}" if colour else f"[[{text}]]"
        pieces.append(text)

    for token, label in pairs:
        now = "image" if token == image_token else "trained" if label != -100 else "other"
        if now != kind:
            close()
            run, kind = [], now
        run.append(token)
    close()
    return "".join(pieces)
