"""Packed batches against TRL's stock vision collator on random batches: real tokens a second, at equal loss.

    python benchmarks/packing.py --rounds 2 --threads 2 --seed 0

Rows are a mixture of short questions about an image, reports, and text without image. Both contenders train the
quickstart's towers and connector on 12 of SmolLM2-135M's 30 layers, random weights, on the same rows: forward,
backward and an AdamW step of rate 0 for each batch, so that the loss of all rows can be compared afterwards. Batches
are made before the clock starts; the head scores labelled positions only, for both. Towers and head cost the same
either way, so that fewer layers make the ratio smaller: 1.1 at two of them, where the head is most of the work.

The share of real tokens is that of the batches; the fill is that of a plan for many rows, against the packs' budget.
"""

import io
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import finish, median_seconds, parse_arguments, print_row
from random_models import byte_tokenizer, random_image, random_model
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from semihv_hf.models.assemble import build_processor
from semihv_hf.quickstart.model import CONVNEXT_SIZE, QUERY_SIDE, TOWER_SIZES
from semihv_hf.training.collation import VisionCollator, token_counts
from semihv_hf.training.lengths import row_lengths
from semihv_hf.training.packing import fill_share, plan_packs

SHARE_BAR, SPEED_BAR = 0.98, 1.3
BATCH_SIZE, PACK_LENGTH = 8, 1024
# (share of rows, images, letters of the question, letters of the answer)
MIXTURE = [(0.6, 1, (20, 60), (2, 20)), (0.2, 1, (40, 80), (250, 800)), (0.2, 0, (60, 300), (20, 300))]


def make_rows(count: int, seed: int, one_image: bool = False) -> list[dict]:
    """Rows of the mixture; with `one_image` all images are the same small file, where only lengths matter."""
    draw, generator = random.Random(seed), np.random.default_rng(seed)

    def words(span):
        return "".join(draw.choice("abcdefg hij.") for _ in range(draw.randint(*span)))

    rows, files = [], None
    for number in range(count):
        _, images, question, answer = draw.choices(MIXTURE, [entry[0] for entry in MIXTURE])[0]
        content = [{"type": "image"}] * images + [{"type": "text", "text": words(question)}]
        reply = [{"type": "text", "text": words(answer)}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]
        if files is None or not one_image:
            data = io.BytesIO()
            random_image(draw.randint(100, 400), draw.randint(100, 400), generator).save(data, "PNG")
            files = [{"bytes": data.getvalue(), "path": None}]
        rows.append({"id": str(number), "messages": messages, "images": files[:images]})
    return rows


def make_processor():
    with tempfile.TemporaryDirectory() as folder:
        byte_tokenizer(Path(folder))
        sizes = {name: {"size": size} for name, (size, _) in TOWER_SIZES.items()}
        return build_processor(
            folder, {**sizes, "convnext": {"size": CONVNEXT_SIZE}}, QUERY_SIDE, chat_template="chatml"
        )


def make_model(seed: int, layers: int, processor):
    model, _ = random_model(seed, layers)
    model.config.image_token_id = model.model.config.image_token_id = processor.image_token_id
    return model.train()


def decoded(row: dict) -> dict:
    """What a dataset gives to TRL's collator."""
    from semihv_hf.training.row_images import decode_image

    return {**row, "images": [decode_image(image) for image in row["images"]]}


def train(model, optimizer, batches) -> tuple[float, int]:
    """Sum of the losses of all labelled tokens, and their number; weights stay as they are, the rate being 0."""
    total, count = 0.0, 0
    for batch in batches:
        batch = dict(batch)
        targets = batch.pop("labels")[:, 1:]
        labelled = targets != -100
        hidden = model.model(**{"use_cache": False, **batch}).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[labelled])
        loss = torch.nn.functional.cross_entropy(logits, targets[labelled], reduction="sum")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total, count = total + float(loss.detach()), count + int(labelled.sum())
    return total, count


def shares(batches) -> tuple[int, int]:
    counts = [token_counts(batch) for batch in batches]
    return sum(real for real, _ in counts), sum(computed for _, computed in counts)


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=2, rows=32, planned_rows=5000, layers=12)
    processor = make_processor()
    model = make_model(arguments.seed, arguments.layers, processor)
    rows = make_rows(arguments.rows, arguments.seed)
    lengths = row_lengths(rows, processor)

    order = random.Random(arguments.seed).sample(range(len(rows)), len(rows))
    stock = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    padded = [
        dict(stock([decoded(rows[row]) for row in order[at : at + BATCH_SIZE]]))
        for at in range(0, len(order), BATCH_SIZE)
    ]
    packer = VisionCollator(processor, packing=True, model_config=model.config)
    packed = [packer([rows[row] for row in pack]) for pack in plan_packs(lengths, PACK_LENGTH, arguments.seed)]

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    results = {name: train(model, optimizer, batches) for name, batches in (("stock", padded), ("packed", packed))}
    (one, count), (other, same_count) = results["stock"], results["packed"]
    assert count == same_count, f"{count} and {same_count} tokens are trained"
    assert abs(one - other) / count < 1e-5, f"the losses differ: {one / count} and {other / count}"

    seconds = median_seconds(
        {
            "TRL, random": lambda: train(model, optimizer, padded),
            "packed": lambda: train(model, optimizer, packed),
        },
        arguments.rounds,
    )
    print_row(f"{len(rows)} rows, {sum(lengths)} tokens", seconds)
    real, computed = shares(packed)
    stock_real, stock_computed = shares(padded)
    assert real == stock_real == sum(lengths)

    many = row_lengths(make_rows(arguments.planned_rows, arguments.seed + 1, one_image=True), processor)
    fill = fill_share(plan_packs(many, PACK_LENGTH, arguments.seed), many, PACK_LENGTH)
    speed = seconds["TRL, random"] / seconds["packed"]  # of the same tokens
    finish(
        "packing",
        [
            {"claim": "real tokens a second, packed / TRL", "ratio": speed, "bar": SPEED_BAR},
            {"claim": "real / computed tokens, packed", "ratio": real / computed, "bar": SHARE_BAR},
            {"claim": "fill of the packs' budget", "ratio": fill, "bar": SHARE_BAR},
            {"claim": "real / computed tokens, TRL", "ratio": stock_real / stock_computed, "bar": None},
        ],
        arguments,
        loss=one / count,
        loss_difference=abs(one - other) / count,
        real_tokens=real,
    )


if __name__ == "__main__":
    main()
