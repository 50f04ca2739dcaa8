"""What a reply of the judge must be. Nothing outside these fields is ever read as a verdict."""

from functools import lru_cache
from typing import Annotated
from typing import Literal

from pydantic import AfterValidator
from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import Field
from pydantic import WithJsonSchema
from pydantic import create_model

MOST_ITEMS = 10
TOP_SCORE = 5.0
HALF_STEPS = [step / 2 for step in range(int(TOP_SCORE) * 2 + 1)]


class Reply(BaseModel):
    """What all replies share: a field too many is no reply, and a number is not made from a text."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _one_to_ten(items):
    if not 1 <= len(items) <= MOST_ITEMS:
        raise ValueError(f"{len(items)} items instead of 1 to {MOST_ITEMS}")
    if not all(item.strip() for item in items):
        raise ValueError("an item without text")
    return [" ".join(item.split()) for item in items]


def _half_step(score):
    if score not in HALF_STEPS:
        raise ValueError(f"{score} is not one of 0, 0.5, ..., {TOP_SCORE}")
    return score


class Items(Reply):
    """What a reference discussion contains."""

    # Checked here and not in the JSON schema: not every server knows limits on the length of a list.
    items: Annotated[list[str], AfterValidator(_one_to_ten)]


class Grade(Reply):
    """One grade of 0 to 5, as the authors of the rubric ask for it."""

    score: Annotated[float, AfterValidator(_half_step), WithJsonSchema({"type": "number", "enum": HALF_STEPS})]


class TwoGrades(Reply):
    """A grade of 1 to 10 for each of two answers."""

    first: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    second: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


class Preference(Reply):
    """Which of two answers is better."""

    winner: Literal["first", "second", "tie"]


class Equivalence(Reply):
    """Whether an answer says what the reference says."""

    verdict: Literal["equivalent", "different"]


@lru_cache(maxsize=MOST_ITEMS)
def verdicts_on(count):
    """The reply that marks a list: one field an item, so that none can be left out, doubled or invented.

    Args:
        count (`int`): the number of items.

    Returns:
        `type[pydantic.BaseModel]`: a model with the fields `item_1` to `item_<count>`, each `"hit"` or `"miss"`.
    """
    fields = {f"item_{number}": (Annotated[Literal["hit", "miss"], Field()], ...) for number in range(1, count + 1)}
    return create_model(f"Verdicts{count}", __base__=Reply, **fields)


def hits_in(reply):
    """Reads the verdicts in the order of the items.

    Args:
        reply (`pydantic.BaseModel`): a reply to [`verdicts_on`].

    Returns:
        `list[bool]`: whether each item was found.
    """
    return [getattr(reply, f"item_{number}") == "hit" for number in range(1, len(type(reply).model_fields) + 1)]


def part_score(hits):
    """Turns hits into a score of 0 to 5: half a point an item for a list of ten, in proportion for a shorter one.

    Args:
        hits (`list[bool]`): one verdict an item; at least one.

    Returns:
        `float`: the score.

    Example:

    ```python
    >>> part_score([True] * 3 + [False] * 7), part_score([True, False])
    (1.5, 2.5)
    ```
    """
    return TOP_SCORE * sum(hits) / len(hits)
