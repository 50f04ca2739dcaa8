"""Fine-tuning of the fused encoder: pairs of a query and what it should find, apart from everything else in the batch.

The objective is that of UniIR's CLIP-SF (`TIGER-AI-Lab/UniIR`): features of text and image are summed with masks and
brought to length 1, inner products are multiplied by CLIP's learned logit scale, and the cross entropy over the
candidates of the batch is minimised, with hard negatives as further candidates where there are some.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError

from .image_encoders import read_image

# CLIP's own bound: beyond a hundredfold scale training becomes unstable (Radford et al., 2021, section 2.5).
_LARGEST_LOG_SCALE = math.log(100)


@dataclass
class RetrieverArguments:
    """What is trained on what; everything else is transformers' `TrainingArguments`."""

    model: str = field(metadata={"help": "Folder or Hub id of a CLIP-family model."})
    data: str = field(metadata={"help": "A JSONL file of pairs, or a folder of cases (image finds findings)."})
    trainable: list[str] = field(
        default_factory=lambda: [".*"],
        metadata={"help": "Regular expressions on whole names of parameters that train."},
    )
    hard_negatives: int = field(default=0, metadata={"help": "Most hard negatives of a pair that are used."})
    revision: str | None = field(default=None, metadata={"help": "Revision of the model on the Hub."})


def read_pairs(path: str | Path) -> list[dict[str, Any]]:
    """The pairs to train on.

    Args:
        path (`str` or `pathlib.Path`): a JSONL file of `{"query": side, "positive": side, "negatives": [side, ...]}`,
            where a side is `{"text": ..., "image": ...}`, either may be missing, and an image is a file relative to
            the JSONL file; or a folder of cases, of which each image is a query and the expert's text what it should
            find.

    Returns:
        `list[dict]`: the pairs; images of a folder are bytes, those of a file are paths, read when they are needed.

    Raises:
        `SemiHVError`: there are none, or a side is empty.
    """
    path = Path(path)
    if path.is_dir():
        from .corpora import CasesFolder

        cases = CasesFolder(path).documents()
        pairs = [{"query": {"image": c.images[0]}, "positive": {"text": c.text}} for c in cases if c.images]
    elif path.is_file():
        from semihv_hf.files import read_jsonl

        pairs = [_pair(row, path, number) for number, row in enumerate(read_jsonl(path), start=1)]
    else:
        raise SemiHVError(f"There are no pairs at {path}.", "Give a JSONL file or a folder of cases.")
    if len(pairs) < 2:
        raise SemiHVError(f"{path} holds {len(pairs)} pairs.", "At least two are needed to tell one from another.")
    return pairs


def _pair(row: Mapping[str, Any], path: Path, number: int) -> dict[str, Any]:
    sides = [row.get("query"), row.get("positive"), *(row.get("negatives") or [])]
    for side in sides:
        if not isinstance(side, Mapping) or not (side.get("text") or side.get("image")):
            raise SemiHVError(f"{path}, line {number}: a side has neither text nor image.", "Mend that line.")

    def placed(side: Mapping[str, Any]) -> dict[str, Any]:
        return {**side, **({"image": str(path.parent / side["image"])} if side.get("image") else {})}

    negatives = [placed(side) for side in row.get("negatives") or []]
    return {"query": placed(row["query"]), "positive": placed(row["positive"]), "negatives": negatives}


class PairCollator:
    """Makes a batch: the queries, and the candidates with the positives first.

    Args:
        processor: the model's processor.
        window (`int`): most tokens of a text; a longer one is cut, in training only.
        hard_negatives (`int`): most negatives of a pair.
        padding (`bool` or `str`): how texts are padded.
    """

    def __init__(self, processor, window: int, hard_negatives: int, padding: bool | str):
        self.processor, self.window = processor, window
        self.hard_negatives, self.padding = hard_negatives, padding

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Model inputs with the prefixes `query_` and `candidate_`, and which candidates are the same."""
        import torch

        positives = [pair["positive"] for pair in pairs]
        negatives = [side for pair in pairs for side in pair.get("negatives", [])[: self.hard_negatives]]
        batch = self._sides("query_", [pair["query"] for pair in pairs])
        batch |= self._sides("candidate_", [*positives, *negatives])
        keys = [_key(side) for side in (*positives, *negatives)]
        # What is the same as a query's own positive is no negative of it.
        batch["same"] = torch.tensor([[key == own for key in keys] for own in keys[: len(pairs)]])
        return batch

    def _sides(self, prefix: str, sides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch
        from PIL import Image

        blank = Image.new("RGB", (8, 8))
        images = [_picture(side["image"]) if side.get("image") else blank for side in sides]
        texts = self.processor.tokenizer(
            [side.get("text") or "" for side in sides],
            padding=self.padding,
            truncation=True,
            max_length=self.window,
            return_tensors="pt",
        )
        texts.pop("token_type_ids", None)
        pixels = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        inputs = {**texts, "pixel_values": pixels}
        inputs["has_text"] = torch.tensor([float(bool(side.get("text"))) for side in sides])
        inputs["has_image"] = torch.tensor([float(bool(side.get("image"))) for side in sides])
        return {prefix + name: value for name, value in inputs.items()}


def _picture(image: bytes | str):
    return read_image(image if isinstance(image, bytes) else Path(image).read_bytes())


def _key(side: Mapping[str, Any]) -> str:
    return json.dumps({name: str(side.get(name)) for name in ("text", "image")}, sort_keys=True)


def fused_features(model, batch: Mapping[str, Any], prefix: str):
    """Summed features of length 1.

    Args:
        model: a CLIP-family model.
        batch (`Mapping[str, Tensor]`): from [`PairCollator`].
        prefix (`str`): `"query_"` or `"candidate_"`.

    Returns:
        `torch.Tensor`: shape (n, d).
    """
    import torch

    words = {key: batch[prefix + key] for key in ("input_ids", "attention_mask") if prefix + key in batch}
    text = model.get_text_features(**words)
    image = model.get_image_features(pixel_values=batch[prefix + "pixel_values"])
    text, image = (getattr(found, "pooler_output", found) for found in (text, image))
    total = text * batch[prefix + "has_text"][:, None] + image * batch[prefix + "has_image"][:, None]
    return torch.nn.functional.normalize(total, dim=-1)


def contrastive_loss(queries, candidates, log_scale, same):
    """Cross entropy of finding each query's own candidate.

    Args:
        queries (`torch.Tensor`): shape (n, d), of length 1.
        candidates (`torch.Tensor`): shape (m, d), m >= n, the first n being the queries' own.
        log_scale (`torch.Tensor`): the logarithm of the scale.
        same (`torch.Tensor`): shape (n, m); candidates that are the same as a query's own are left out of the others.

    Returns:
        `tuple`: the loss, and the share of queries that rank their own first.
    """
    import torch

    scores = log_scale.clamp(max=_LARGEST_LOG_SCALE).exp() * queries @ candidates.T
    own = torch.arange(len(queries), device=queries.device)
    others = same.clone()
    others[own, own] = False
    scores = scores.masked_fill(others, float("-inf"))
    return torch.nn.functional.cross_entropy(scores, own), (scores.argmax(1) == own).float().mean()


def _objective(model):
    """The model with its loss in one forward pass, which is what data parallel training synchronises."""
    import torch

    class Objective(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = model

        def forward(self, **batch):
            queries, candidates = (fused_features(self.encoder, batch, side) for side in ("query_", "candidate_"))
            loss, accuracy = contrastive_loss(queries, candidates, self.encoder.logit_scale, batch["same"])
            return {"loss": loss, "accuracy": accuracy}

    return Objective()


def choose_trainable(model, patterns: Sequence[str]) -> list[str]:
    """Freezes every parameter but those whose whole name matches a pattern.

    Args:
        model: the model, changed in place.
        patterns (`Sequence[str]`): regular expressions.

    Returns:
        `list[str]`: the names of what trains.

    Raises:
        `SemiHVError`: a pattern matches nothing.
    """
    found = []
    for pattern in patterns:
        if not any(re.fullmatch(pattern, name) for name, _ in model.named_parameters()):
            raise SemiHVError(f"No parameter matches the pattern {pattern!r}.", "Correct `trainable` in the recipe.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(re.fullmatch(pattern, name) for pattern in patterns)
        if parameter.requires_grad:
            found.append(name)
    return found


def train_retriever(given: RetrieverArguments, settings) -> dict[str, Any]:
    """Trains, and saves a folder that `semihv index --encoder FOLDER` takes.

    Args:
        given ([`RetrieverArguments`]): model, data and what trains.
        settings (`transformers.TrainingArguments`): everything else.

    Returns:
        `dict`: `first_loss`, `last_loss`, `trainable` (names) and `pairs`.

    Raises:
        `SemiHVError`: the model is no dual encoder, or there are no pairs.
    """
    import torch
    from transformers import AutoProcessor, Trainer, set_seed

    from .encoders import load_encoder

    pairs = read_pairs(given.data)
    set_seed(settings.seed)
    encoder = load_encoder(given.model, revision=given.revision)
    if not encoder.shared:
        raise SemiHVError(f"{given.model} has no space that texts and images share.", "Choose a CLIP-family model.")
    model, both = encoder.text.model, encoder.text
    names = choose_trainable(model, given.trainable)
    processor = AutoProcessor.from_pretrained(both.folder)

    settings.remove_unused_columns = False
    settings.dataloader_drop_last = len(pairs) >= settings.per_device_train_batch_size  # a pair alone has no others
    trainer = Trainer(
        model=_objective(model.train()),
        args=settings,
        train_dataset=pairs,
        data_collator=PairCollator(processor, both.reader.most, given.hard_negatives, both.padding),
    )
    trainer.train()
    with torch.no_grad():
        model.logit_scale.clamp_(max=_LARGEST_LOG_SCALE)
    if trainer.is_world_process_zero():
        model.save_pretrained(settings.output_dir)
        processor.save_pretrained(settings.output_dir)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "trainable": names,
        "pairs": len(pairs),
    }
