"""The step before stage 1: the untrained small model, its towers warmed up, written as a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path


def warm_start(text_model: Path, data: Path, out: Path, *, groups: list[str], steps: int, seed: int) -> dict:
    """
    Builds the quickstart model, warms its towers up on the training images and writes the checkpoint.

    Args:
        text_model (`Path`): folder of the text model.
        data (`Path`): the dataset folder; its `alignment` configuration gives images and facts.
        out (`Path`): the checkpoint folder.
        groups (`list[str]`): groups of facts, see [`FactVocabulary`].
        steps (`int`): optimisation steps.
        seed (`int`): seed of weights, batches and augmentation.

    Returns:
        `dict`: the stage record, also written as `stage.json`.
    """
    from datasets import load_dataset

    from semihv_hf.data.source_counts import source_counts
    from semihv_hf.files import write_json
    from semihv_hf.models.export import save_checkpoint
    from semihv_hf.progress import progress_bar
    from semihv_hf.training.parameters import changed_parameters, frozen_digests, select_trainable
    from semihv_hf.training.stage_record import peak_rss_gib
    from semihv_hf.training.warmup import WarmupArguments, warm_up

    from .model import build_small_model

    started = time.monotonic()
    rows = load_dataset(str(data), "alignment", split="train")
    images, facts = [row["images"][0] for row in rows], rows["facts"]
    model, processor = build_small_model(text_model, seed)
    report = select_trainable(model, [r"model\.vision_towers\..*", r"model\.connector\..*"])
    before = frozen_digests(model)
    with progress_bar("towers", steps) as bar:
        log = warm_up(
            model,
            processor,
            images,
            list(facts),
            groups,
            WarmupArguments(steps=steps, seed=seed),
            progress=lambda step: bar.update(done=step),
        )
    changed = changed_parameters(model, before)
    if changed:
        raise RuntimeError(f"{len(changed)} frozen parameters changed in the warm-up, e.g. {changed[0]}.")
    save_checkpoint(model, processor, out)
    record = {
        "stage": "0_warmup",
        "title": "Warm-up of the towers",
        "recipe": None,
        "dataset_config": "alignment",
        "rows": len(rows),
        "sources": source_counts(rows),
        "sources_before": [],  # the text model brings its own licence; its texts are no rows of ours
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_gib": peak_rss_gib(),
        "log": log,
        **report.record(bit_identical=not changed),
    }
    write_json(out / "stage.json", record)
    return record
