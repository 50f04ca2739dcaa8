"""The input pipeline alone, with two workers, against what the smoke model consumes: rows a second.

    python benchmarks/input_pipeline.py --rounds 3 --threads 2 --seed 0

The pipeline reads undecoded images of 512 x 512 pixels from a dataset on disk, decodes and prepares them for the four
towers, renders and tokenises the conversation and packs the rows. The consumer trains what the smoke recipe of stage 2
trains, in a model of the quickstart's size with random weights, on the same packs.
"""

import io
import random
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Image, List, load_from_disk
from measuring import finish, median_seconds, parse_arguments, print_row
from packing import PACK_LENGTH, make_model, make_processor, make_rows, train
from random_models import random_image
from torch.utils.data import DataLoader

from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.lengths import row_lengths
from semihv_hf.training.row_images import undecoded
from semihv_hf.training.sampling import PackedBatchSampler

BAR = 3.0
SIDE = 512
# The patterns of recipes/stage2_instruction/smoke.yaml.
TRAINABLE = r"model\.(connector|language_model\.(vision_samplers|layers\.\d+\.self_attn))\..*"


def stored_rows(count: int, seed: int, folder: Path) -> Dataset:
    """Rows of the mixture on disk, each image a JPEG of its own of 512 x 512 pixels."""
    generator = np.random.default_rng(seed)
    rows = make_rows(count, seed, one_image=True)
    for row in rows:
        if row["images"]:
            # Smooth as a radiograph is, not noise.
            coarse = random_image(32, 32, generator).resize((SIDE, SIDE))
            data = io.BytesIO()
            coarse.save(data, "JPEG", quality=90)
            row["images"] = [{"bytes": data.getvalue(), "path": None}]
    dataset = Dataset.from_list(rows).cast_column("images", List(Image()))
    dataset.save_to_disk(folder)
    return load_from_disk(folder)


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, rows=600, steps=2, layers=30, workers=2)
    processor = make_processor()
    model = make_model(arguments.seed, arguments.layers, processor)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.fullmatch(TRAINABLE, name) is not None)
    collator = VisionCollator(processor, packing=True, model_config=model.config, report=True)
    with tempfile.TemporaryDirectory() as folder:
        dataset = undecoded(stored_rows(arguments.rows, arguments.seed, Path(folder)))
        sampler = PackedBatchSampler(row_lengths(dataset, processor), PACK_LENGTH, seed=arguments.seed)

        def feed() -> int:
            loader = DataLoader(
                dataset, batch_sampler=sampler, collate_fn=collator, num_workers=arguments.workers, prefetch_factor=4
            )
            return sum(len(batch["report"].row_ids) for batch in loader)

        started = time.perf_counter()
        fed = feed()
        print(f"first pass: {fed} rows in {time.perf_counter() - started:.1f} s", flush=True)
        chosen = random.Random(arguments.seed).sample(list(sampler), arguments.steps)
        batches = [collator([dataset[row] for row in rows]) for rows in chosen]
        consumed = sum(len(batch.pop("report").row_ids) for batch in batches)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)
        train(model, optimizer, batches[:1])
        seconds = median_seconds(
            {"pipeline": feed, "model": lambda: train(model, optimizer, batches)}, arguments.rounds
        )
    print_row(f"{fed} rows fed, {consumed} consumed", seconds)
    rates = {"pipeline": fed / seconds["pipeline"], "model": consumed / seconds["model"]}
    finish(
        "input_pipeline",
        [{"claim": "rows a second, pipeline / model", "ratio": rates["pipeline"] / rates["model"], "bar": BAR}],
        arguments,
        rows_a_second={name: round(rate, 2) for name, rate in rates.items()},
    )


if __name__ == "__main__":
    main()
