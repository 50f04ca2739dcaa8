"""A few held-out questions with their images, chosen by seed so that every modality and both outcomes are seen."""

import base64
import io
import random
from collections import defaultdict

from semihv_hf.evaluation.benchmarks import Question

SIDE = 240


def choose(rows: list[dict], outcomes: dict[str, str], count: int = 24, seed: int = 0) -> list[dict]:
    """Chooses questions for the gallery: modality after modality in turn, right and not right in turn, each case once.

    Args:
        rows (`list[dict]`): prediction rows with the image.
        outcomes (`dict[str, str]`): the outcome of each row by id; only closed rows have one that can be right.
        count (`int`, *optional*, defaults to 24): how many.
        seed (`int`, *optional*, defaults to 0): the seed of the choice.

    Returns:
        `list[dict]`: the chosen rows, grouped by modality.
    """
    generator = random.Random(seed)
    piles: dict[tuple[str, bool], list[dict]] = defaultdict(list)
    for row in generator.sample(rows, len(rows)):
        if row["answer_type"] == "closed":
            piles[row["modality"], outcomes[row["id"]] == "right"].append(row)
    modalities = sorted({modality for modality, _ in piles})
    chosen, cases = [], set()
    turn = 0
    while len(chosen) < count and any(piles.values()):
        for place, modality in enumerate(modalities):
            wish = (turn + place) % 2 == 0
            pile = piles[modality, wish] or piles[modality, not wish]
            while pile:
                row = pile.pop()
                if row["case_id"] not in cases:
                    cases.add(row["case_id"])
                    chosen.append(row)
                    break
            if len(chosen) == count:
                break
        turn += 1
    return sorted(chosen, key=lambda row: (row["modality"], row["id"]))


def inline_image(question: Question, side: int = SIDE) -> str | None:
    """Encodes a question's first image for a page that loads nothing.

    Args:
        question (`Question`): the question.
        side (`int`, *optional*, defaults to 240): the longest side in pixels; larger images are reduced.

    Returns:
        `str | None`: a `data:` address, or `None` when the image cannot be read.
    """
    try:
        image = question.open_images()[0]
    except (OSError, ValueError, IndexError, SyntaxError):
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
