"""Conversations that clinicians chose or wrote, shown as examples; after BioMed-VITAL (Cui et al. 2024, arXiv
2406.13173), which spreads what clinicians annotate over k-means clusters of text and image features."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.curation.generation.material import modality_of_case
from semihv_hf.data.schema import Case, content_id
from semihv_hf.errors import SemiHVError, first_line

if TYPE_CHECKING:
    import numpy as np

    from semihv_hf.curation.generation.options import GenerationOptions

_ITERATIONS = 100
_SAME = 1e-12


@dataclass(frozen=True)
class Demonstration:
    """One example.

    Args:
        id (`str`): its name; no other one has it.
        source (`str`): whose texts and images it holds, a name of the licence registry.
        modality (`str`): what kind of image it shows.
        images (`tuple[bytes, ...]`): its images.
        context (`str`): what was known about them, for example the caption.
        turns (`tuple[tuple[str, str], ...]`): questions and answers.
    """

    id: str
    source: str
    modality: str
    images: tuple[bytes, ...]
    context: str
    turns: tuple[tuple[str, str], ...]

    def conversation(self) -> str:
        """The conversation as a prompt shows it."""
        return "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in self.turns)


def load_demonstrations(path: str | Path) -> list[Demonstration]:
    """Reads a file of demonstrations.

    Args:
        path (`str` or `Path`): one JSON object a line: `id`, `source`, `modality`, `images` (a list of files beside
            this one), `context`, and `conversation` (a list of objects with `question` and `answer`).

    Returns:
        `list[Demonstration]`: in the order of the file.

    Raises:
        `SemiHVError`: the file or an image is missing, or a line is not of that form; the message names the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SemiHVError(f"The demonstrations {path} cannot be read ({first_line(error)}).") from error
    found: dict[str, Demonstration] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = _read(json.loads(line), path.parent)
        except (ValueError, OSError) as error:
            raise SemiHVError(f"{path}, line {number}: {error}.", "See load_demonstrations for the form.") from error
        if item.id in found:
            raise SemiHVError(f"{path}, line {number}: the id {item.id!r} is there twice.", "Give it another one.")
        found[item.id] = item
    if not found:
        raise SemiHVError(f"{path} holds no demonstration.", "See load_demonstrations for the form.")
    return list(found.values())


def _read(row: Any, folder: Path) -> Demonstration:
    from semihv_hf.data.licences import registry

    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    for name in ("id", "source", "modality", "context"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"{name} is no text")
    if row["source"] not in registry():
        raise ValueError(f"the source {row['source']!r} has no entry in the licence registry")
    turns = row.get("conversation")
    if not isinstance(turns, list) or not turns:
        raise ValueError("conversation is no list of exchanges")
    for turn in turns:
        if not isinstance(turn, dict) or not all(
            isinstance(turn.get(name), str) and turn[name].strip() for name in ("question", "answer")
        ):
            raise ValueError("an exchange has no question or no answer")
    names = row.get("images")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("images is no list of files")
    images = tuple(_image(folder, name) for name in names)
    exchanges = tuple((turn["question"].strip(), turn["answer"].strip()) for turn in turns)
    return Demonstration(row["id"], row["source"], row["modality"], images, row["context"].strip(), exchanges)


def _image(folder: Path, name: str) -> bytes:
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"the image {name!r} is outside the folder")
    if not file.is_file():
        raise ValueError(f"there is no image {name!r}")
    return file.read_bytes()


def choose_demonstrations(
    demonstrations: Sequence[Demonstration], embeddings: np.ndarray, count: int, *, seed: int = 0
) -> list[Demonstration]:
    """Chooses demonstrations that differ: one of each k-means cluster, each of another modality as far as that goes.

    Args:
        demonstrations (`Sequence[Demonstration]`): what there is to choose from.
        embeddings (`numpy.ndarray`): `(demonstrations, dimensions)`, a row each, for example of text and image
            features side by side. Rows are brought to length 1.
        count (`int`): how many, at least 1.
        seed (`int`, *optional*, defaults to 0): of the clusters' first centres.

    Returns:
        `list[Demonstration]`: `count`, or all there are where there are fewer; sorted by modality and id. The order of
        the arguments does not matter.

    Raises:
        `SemiHVError`: the embeddings do not fit, or the count is not positive.
    """
    import numpy as np

    points = np.asarray(embeddings, dtype=np.float64)
    if points.ndim != 2 or len(points) != len(demonstrations) or not np.isfinite(points).all():
        raise SemiHVError(
            f"{len(demonstrations)} demonstrations have embeddings of the shape {points.shape}, or some not finite.",
            "Give one row of numbers each.",
        )
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SemiHVError(f"{count!r} demonstrations were asked for.", "Ask for at least 1.")
    order = sorted(range(len(demonstrations)), key=lambda index: demonstrations[index].id)
    items = [demonstrations[index] for index in order]
    points = points[order] / np.maximum(np.linalg.norm(points[order], axis=1, keepdims=True), _SAME)
    clusters, distances = _clusters(points, min(count, len(items)), seed)
    chosen: list[Demonstration] = []
    seen: set[str] = set()
    # Clusters with the fewest modalities choose first: the others have more to choose from.
    members = [np.flatnonzero(clusters == number) for number in range(min(count, len(items)))]
    members.sort(key=lambda group: (len({items[index].modality for index in group}), -len(group), items[group[0]].id))
    for group in members:
        nearest = sorted(group, key=lambda index: (round(distances[index], 9), items[index].id))
        index = next((index for index in nearest if items[index].modality not in seen), nearest[0])
        chosen.append(items[index])
        seen.add(items[index].modality)
    return sorted(chosen, key=lambda item: (item.modality, item.id))


def _clusters(points: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each point's cluster, none of which is empty, and its distance from the centre. Lloyd's algorithm is scipy's;
    the first centres are drawn here (k-means++), because scipy's own drawing has changed between versions."""
    import numpy as np
    from scipy.cluster.vq import kmeans2, vq

    rng = np.random.default_rng(seed)
    centres = points[[rng.integers(len(points))]]
    while len(centres) < count:
        nearest = ((points[:, None] - centres[None]) ** 2).sum(axis=2).min(axis=1)
        total = nearest.sum()
        # Equal points leave nothing to draw by distance.
        place = rng.choice(len(points), p=nearest / total) if total > _SAME else rng.integers(len(points))
        centres = np.vstack([centres, points[place]])
    with warnings.catch_warnings():  # an empty cluster is filled below
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, _ = kmeans2(points, centres, iter=_ITERATIONS, minit="matrix", missing="warn")
    clusters, distances = vq(points, centres)
    for number in range(count):
        if not (clusters == number).any():  # its points were equal to others': the farthest one elsewhere comes over
            sizes = np.bincount(clusters, minlength=count)
            able = np.flatnonzero(sizes[clusters] > 1)
            moved = able[np.argmax(distances[able])]
            clusters[moved], distances[moved] = number, 0.0
    return clusters, distances


def shots_for(case: Case, options: GenerationOptions) -> tuple[Demonstration, ...]:
    """The examples that a request shows: of the case's modality first, then in an order that its id draws.

    Args:
        case ([`Case`]): the case; an example that shares an image with it is none.
        options ([`GenerationOptions`]): holds the demonstrations and how many to show.

    Returns:
        `tuple[Demonstration, ...]`: at most `options.shots`, of different modalities as far as that goes.
    """
    own = set(case.images)
    able = [item for item in options.demonstrations if item.id != case.id and not own & set(item.images)]
    modality = modality_of_case(case).casefold()

    def place(item: Demonstration) -> tuple[bool, str]:
        return item.modality.casefold() != modality, content_id("shot", str(options.seed), case.id, item.id)

    ranked = sorted(able, key=place)
    seen: set[str] = set()
    first = [item for item in ranked if not (item.modality in seen or seen.add(item.modality))]
    rest = [item for item in ranked if item not in first]
    return tuple((first + rest)[: options.shots])
