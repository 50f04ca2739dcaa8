"""Datasets of a stage: one, or several brought to the same columns and drawn in chosen shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError, first_line

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

KEYS = ("dataset", "config", "split", "revision", "weight")
# Columns that the collator, the objective or an error message reads; a mixture keeps only these.
KEPT = ("id", "messages", "images", "facts", "source", "licence")
PART_COLUMN = "mixture_part"


@dataclass
class Share:
    """One dataset of a stage, as asked for and as it came out.

    Args:
        dataset (`str`): its Hub id, or the name of its folder.
        config (`str`, *optional*): its configuration.
        rows (`int`, *optional*): rows that it has; unknown where it is streamed.
        asked (`float`, *optional*): the share asked for, 1 for a dataset alone; unknown without weights.
        drawn (`int`, *optional*): rows of an epoch that come from it; unknown where it is streamed.
        images (`bool`): whether it has images at all.
    """

    dataset: str
    config: str | None
    rows: int | None
    asked: float | None
    drawn: int | None
    images: bool

    def record(self) -> dict:
        """What `stage.json` keeps."""
        return asdict(self)


def load_mixture(stage, seed: int) -> tuple[Dataset | IterableDataset, list[Share]]:
    """
    Loads the dataset of a stage, or mixes its datasets.

    Rows of weighted datasets are drawn by `datasets.interleave_datasets` in the order that the seed gives, the same in
    every process; without weights every row is used once an epoch.

    Args:
        stage ([`StageArguments`]): `dataset` or `mixture`, `streaming` and `mixture_stop` are read.
        seed (`int`): seed of the draw.

    Returns:
        `tuple`: the rows, with at least `messages` and `images`, and a [`Share`] for each dataset.

    Raises:
        `SemiHVError`: a dataset cannot be read, has no `messages`, is empty, or weights are missing or not positive.
    """
    from datasets import concatenate_datasets, interleave_datasets

    single = not stage.mixture
    entries = [_single(stage)] if single else [_checked(entry) for entry in stage.mixture]
    weights = _weights(entries)
    parts = [_load(entry, stage.streaming) for entry in entries]
    shares = [
        Share(
            dataset=public_name(entry["dataset"]),
            config=entry["config"],
            rows=None if stage.streaming else len(part),
            asked=1.0 if single else None if weights is None else weights[index],
            drawn=None if stage.streaming else len(part),
            images=_has_images(part),
        )
        for index, (entry, part) in enumerate(zip(entries, parts))
    ]
    parts = [_with_images(part) for part in parts]
    if single:
        return parts[0], shares
    parts = _same_columns(parts)
    if not stage.streaming:
        parts = [part.add_column(PART_COLUMN, [number] * len(part)) for number, part in enumerate(parts)]
    if weights is None:
        return concatenate_datasets(parts), shares
    mixed = interleave_datasets(parts, probabilities=weights, seed=seed, stopping_strategy=stage.mixture_stop)
    if not stage.streaming:
        drawn = Counter(mixed[PART_COLUMN])
        for number, share in enumerate(shares):
            share.drawn = drawn[number]
    return mixed, shares


def load_evaluation(stage) -> Dataset | None:
    """
    Loads the rows to evaluate on.

    Args:
        stage ([`StageArguments`]): `eval_dataset`, `eval_config` and `eval_split` are read.

    Returns:
        `Dataset`, or `None` if neither a dataset nor a split is named.

    Raises:
        `SemiHVError`: the dataset cannot be read, or none is named beside a mixture.
    """
    if not stage.eval_dataset and not stage.eval_split:
        return None
    name = stage.eval_dataset or stage.dataset
    if name is None:
        raise SemiHVError("eval_split is set beside a mixture.", "Name the dataset with eval_dataset.")
    config = stage.eval_config if stage.eval_dataset or stage.eval_config else stage.dataset_config
    split = stage.eval_split or "test"
    entry = {"dataset": name, "config": config, "split": split, "revision": None, "weight": None}
    return _with_images(_load(entry, streaming=False))


def public_name(source: str) -> str:
    """A Hub id as it is; of a local folder only its name, since the record is published beside the weights."""
    return Path(source).name if Path(source).exists() else source


def _single(stage) -> dict:
    return {
        "dataset": stage.dataset,
        "config": stage.dataset_config,
        "split": stage.dataset_split,
        "revision": None,
        "weight": None,
    }


def _checked(entry: dict) -> dict:
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise SemiHVError(f"mixture: unknown key {unknown[0]!r}.", f"Known are {', '.join(KEYS)}.")
    if not entry.get("dataset"):
        raise SemiHVError(f"mixture: an entry names no dataset: {entry}.", "Give each one `dataset: <folder or id>`.")
    return {"config": None, "split": "train", "revision": None, "weight": None, **entry}


def _weights(entries: list[dict]) -> list[float] | None:
    """Shares that sum to one, or `None` if no dataset has a weight."""
    given = [entry["weight"] for entry in entries]
    if all(weight is None for weight in given):
        return None
    for entry, weight in zip(entries, given):
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise SemiHVError(
                f"mixture: the weight of {entry['dataset']} is {weight}.", "Give every dataset a positive weight."
            )
    return [weight / sum(given) for weight in given]


def _load(entry: dict, streaming: bool):
    from datasets import load_dataset

    name = entry["dataset"] + (f" ({entry['config']})" if entry["config"] else "")
    try:
        rows = load_dataset(
            entry["dataset"], entry["config"], split=entry["split"], revision=entry["revision"], streaming=streaming
        )
        first = next(iter(rows.decode(False).take(1)), None) if streaming else len(rows) or None
    except (OSError, ValueError, KeyError) as error:
        raise SemiHVError(f"The dataset {name} cannot be read: {first_line(error)}.") from error
    if first is None:
        raise SemiHVError(f"The dataset {name}, split {entry['split']}, has no rows.")
    if streaming and rows.features is None:
        rows = rows._resolve_features()  # files without a schema, such as JSON Lines
    if "messages" not in rows.column_names:
        raise SemiHVError(
            f"The dataset {name} has no column messages; its columns are {', '.join(rows.column_names)}.",
            "A row of training data is a conversation: `messages`, and `images` where it shows some.",
        )
    return rows


def _has_images(rows) -> bool:
    return "images" in rows.column_names or "image" in rows.column_names


def _with_images(rows):
    """Every row gets a list `images`, empty where the dataset has none: TRL tells vision data by the column."""
    from datasets import Features, Image, List

    if "images" in rows.column_names:
        return rows
    if "image" in rows.column_names:
        return _mapped(rows, _listed_image, {"images": List(Image())}, remove=["image"])
    features = Features({**rows.features, "images": List(Image())})
    if hasattr(rows, "add_column") and hasattr(rows, "cast_column") and not _is_streamed(rows):
        return rows.add_column("images", [[]] * len(rows)).cast_column("images", List(Image()))
    return rows.map(lambda row: {"images": []}, features=features)


def _same_columns(parts: list) -> list:
    """Brings several datasets to the same columns and types, as concatenation and interleaving demand."""
    from datasets import Features, Image, List, Value

    kept = [name for name in KEPT if any(name in part.column_names for part in parts)]
    features: dict = {}
    for name in kept:
        types = [part.features[name] for part in parts if name in part.column_names]
        features[name] = types[0]
    part_type = {"type": Value("string"), "text": Value("string")}
    features["messages"] = List({"role": Value("string"), "content": List(part_type)})
    features["images"] = List(Image())
    columns = Features(features)
    same = []
    for part in parts:
        surplus = [name for name in part.column_names if name not in columns]
        part = part.remove_columns(surplus) if surplus else part
        if part.features != columns:
            missing = [name for name in columns if name not in part.column_names]
            plain = part.features["messages"] != columns["messages"]
            part = part.map(_Aligned(missing, plain), features=columns)
        same.append(part)
    return same


class _Aligned:
    """Adds missing columns to a row, and content parts to messages that hold plain strings; can be pickled."""

    def __init__(self, missing: list[str], plain: bool):
        self.missing, self.plain = missing, plain

    def __call__(self, row: dict) -> dict:
        changed = {name: [] if name == "facts" else None for name in self.missing}
        if self.plain:
            changed["messages"] = structured(row["messages"], len(row["images"] or []))
        return changed


def structured(messages: list[dict], num_images: int) -> list[dict]:
    """
    Turns plain-string messages into lists of parts; images go before the first words of the user, as TRL puts them.

    Args:
        messages (`list[dict]`): messages with `role` and `content`, a string or a list of parts.
        num_images (`int`): images of the row.

    Returns:
        `list[dict]`: messages whose `content` is a list of `{"type", "text"}`.
    """
    result, placed = [], False
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            images = num_images if message["role"] == "user" and not placed else 0
            placed = placed or message["role"] == "user"
            content = [{"type": "image", "text": None}] * images + [{"type": "text", "text": content}]
        else:
            content = [{"type": part["type"], "text": part.get("text")} for part in content]
        result.append({"role": message["role"], "content": content})
    return result


def _listed_image(row: dict) -> dict:
    return {"images": [] if row["image"] is None else [row["image"]]}


def _mapped(rows, function, added: dict, remove: list[str]):
    from datasets import Features, Image

    features = {name: kind for name, kind in rows.features.items() if name not in remove} | added
    undecoded = rows.cast_column("image", Image(decode=False))  # the file is passed on as it is
    return undecoded.map(function, features=Features(features), remove_columns=remove)


def _is_streamed(rows) -> bool:
    from datasets import IterableDataset

    return isinstance(rows, IterableDataset)
