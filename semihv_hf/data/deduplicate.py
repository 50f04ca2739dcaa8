"""Finds images that two splits share in all but name, so that no training image repeats a held-out one."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .schema import Case

SIDE = 32
THRESHOLD = 0.98


def thumbnail_vector(data: bytes) -> np.ndarray:
    """A small, brightness- and contrast-free picture of an image.

    Args:
        data (`bytes`): an encoded image.

    Returns:
        `numpy.ndarray`: `SIDE * SIDE` values of mean 0 and norm 1; the product of two is their correlation.
    """
    with Image.open(io.BytesIO(data)) as image:
        grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float32).ravel()
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def drop_repeats(cases: Sequence[Case]) -> tuple[list[Case], list[dict[str, str | float]]]:
    """Drops training cases that look like a validation or test case, and validation cases that look like a test case.

    Args:
        cases (`Sequence[Case]`): cases of all splits.

    Returns:
        `tuple[list[Case], list[dict]]`: what is kept, and for each dropped case which one it repeats and how closely.
    """
    kept: dict[str, list[Case]] = {}
    dropped: list[dict[str, str | float]] = []
    held: list[np.ndarray] = []
    held_cases: list[Case] = []
    for split in ("test", "validation", "train"):
        members = [case for case in cases if case.split == split]
        vectors = [np.stack([thumbnail_vector(image) for image in case.images]) for case in members]
        kept[split] = []
        new: list[tuple[Case, np.ndarray]] = []
        against = np.concatenate(held) if held else None
        owners = [case for case, rows in zip(held_cases, held, strict=True) for _ in rows]
        for case, rows in zip(members, vectors, strict=True):
            if against is not None:
                scores = (rows @ against.T).max(axis=0)
                best = int(scores.argmax())
                if scores[best] > THRESHOLD:
                    dropped.append(
                        {
                            "source": case.source, "source_id": case.source_id, "split": split,
                            "repeats": owners[best].source_id, "repeats_split": owners[best].split,
                            "correlation": round(float(scores[best]), 4),
                        }
                    )  # fmt: skip
                    continue
            kept[split].append(case)
            new.append((case, rows))
        held += [rows for _, rows in new]
        held_cases += [case for case, _ in new]
    return [case for split in ("train", "validation", "test") for case in kept[split]], dropped
