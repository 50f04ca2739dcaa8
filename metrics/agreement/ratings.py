"""The rows to compare, checked: every error names the row and the argument."""

import json
import math
from dataclasses import dataclass

import numpy as np

LEVELS = ("nominal", "ordinal", "interval")


@dataclass(frozen=True)
class Ratings:
    """What the judge and people said of the same rows.

    Args:
        judge (`numpy.ndarray`): (rows,), NaN where the judge gave no verdict.
        people (`numpy.ndarray`): (rows, raters), NaN where a person gave no score.
        raters (`list[str]`): a name for each person.
        level (`str`): `"nominal"`, `"ordinal"` or `"interval"`.
        labels (`list[str]`): for text labels, the label of each code; empty for numbers.
    """

    judge: np.ndarray
    people: np.ndarray
    raters: list
    level: str
    labels: list


def as_text(value, where):
    """One score as text, so that numbers, labels and gaps travel through `evaluate` unchanged.

    Args:
        value (`int`, `float`, `bool`, `str`, `list` or `None`): a score, several scores, or `None` for a gap.
        where (`str`): what to call it in an error.

    Returns:
        `str`: JSON.

    Raises:
        ValueError: the value is none of these, or not a finite number.
    """
    return json.dumps(_plain(value, where))


def _plain(value, where):
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one, f"{where}, entry {place}") for place, one in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str):
        if value is not None and not value.strip():
            raise ValueError(f"{where} is an empty text; give None where there is no score.")
        return value
    if isinstance(value, (bool, int, float)):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value!r}; give None where there is no score.")
        return int(value) if isinstance(value, bool) else value
    raise ValueError(f"{where} is {value!r}, which is neither a number nor a label nor None.")


def read_ratings(predictions, references, raters, level, scale):
    """Checks the rows and brings them into arrays.

    Args:
        predictions (`list[str]`): the judge's scores as [`as_text`] made them.
        references (`list[str]`): for each row the people's scores, one number or label or a list of them.
        raters (`list[str]`, *optional*): a name for each person; counted up from "person 1" without it.
        level (`str`, *optional*): the level of measurement; without it nominal for labels and ordinal for numbers.
        scale (`list[float]`, *optional*): the lowest and the highest score there is.

    Returns:
        [`Ratings`]: the arrays.

    Raises:
        ValueError: a level or scale that there is not, rows with different numbers of people, labels where numbers are
            wanted, or a score off the scale.
    """
    if level is not None and level not in LEVELS:
        raise ValueError(f"`level` is {level!r}; it must be one of {LEVELS}.")
    judge = [json.loads(text) for text in predictions]
    people = [json.loads(text) for text in references]
    people = [row if isinstance(row, list) else [row] for row in people]
    for index, (score, row) in enumerate(zip(judge, people, strict=True)):
        if isinstance(score, list):
            raise ValueError(f"Row {index}: the judge's score {score!r} is a list; further verdicts go to `repeats`.")
        if len(row) != len(people[0]):
            raise ValueError(
                f"Row {index} has {len(row)} people's scores and row 0 {len(people[0])}; fill up with None."
            )
    width = len(people[0]) if people else 0
    names = [f"person {number + 1}" for number in range(width)] if raters is None else [str(name) for name in raters]
    if len(names) != width or len(set(names)) != width:
        raise ValueError(f"`raters` must name each of the {width} people once, not {names!r}.")
    table = [[score, *row] for score, row in zip(judge, people, strict=True)]
    texts = any(isinstance(value, str) for row in table for value in row)
    level = level or ("nominal" if texts else "ordinal")
    _check_kinds(table, ["the judge", *names], level, texts, scale)
    labels = sorted({value for row in table for value in row if value is not None}) if texts else []
    codes = {label: code for code, label in enumerate(labels)}
    numbers = np.array([[_number(value, codes) for value in row] for row in table], dtype=float)
    numbers = numbers.reshape(len(table), width + 1)
    return Ratings(numbers[:, 0], numbers[:, 1:], names, level, labels)


def _number(value, codes):
    return math.nan if value is None else codes.get(value, value)


def _check_kinds(table, names, level, texts, scale):
    if scale is not None and (texts or len(scale) != 2 or not scale[0] < scale[1]):
        raise ValueError(f"`scale` is {scale!r}; it must hold the lowest and the highest number.")
    for index, row in enumerate(table):
        for name, value in zip(names, row, strict=True):
            if value is None:
                continue
            if isinstance(value, list):
                raise ValueError(f"Row {index}: the score of {name} is a list, {value!r}.")
            if isinstance(value, str) and level != "nominal":
                raise ValueError(f"Row {index}: {name} gave the label {value!r}; the level {level!r} wants numbers.")
            if isinstance(value, str) != texts:
                raise ValueError(f"Row {index}: {name} gave {value!r}, a number among text labels.")
            if scale is not None and not scale[0] <= value <= scale[1]:
                raise ValueError(f"Row {index}: {name} gave {value!r}, outside the scale {scale[0]} to {scale[1]}.")


def checked(name, values, count):
    """A column beside the scores.

    Args:
        name (`str`): the argument.
        values (`list`, *optional*): one entry a row.
        count (`int`): how many rows there are.

    Returns:
        `list` or `None`: the values.

    Raises:
        ValueError: there are more or fewer entries than rows.
    """
    if values is None:
        return None
    values = list(values)
    if len(values) != count:
        raise ValueError(f"`{name}` has {len(values)} entries for {count} predictions.")
    return values


def further_scores(name, rows, ratings):
    """Further verdicts of the judge on each row, beside its first.

    Args:
        name (`str`): the argument.
        rows (`list[list]`): for each row its further scores; `None` for a verdict that failed.
        ratings ([`Ratings`]): the first verdicts.

    Returns:
        `numpy.ndarray`: (rows, 1 + the most further verdicts of a row), NaN for gaps, the first verdict first.

    Raises:
        ValueError: an entry is not a list, or holds what is no score of this level.
    """
    codes = {label: code for code, label in enumerate(ratings.labels)}
    width = max((len(row) for row in rows if isinstance(row, (list, tuple))), default=0)
    table = np.full((len(rows), 1 + width), np.nan)
    table[:, 0] = ratings.judge
    for index, row in enumerate(rows):
        if not isinstance(row, (list, tuple)):
            raise ValueError(f"Row {index}: `{name}` must be a list of scores, not {row!r}.")
        for place, given in enumerate(row):
            value = _plain(given, f"Row {index}: `{name}`, entry {place},")
            if isinstance(value, str) and ratings.labels:
                value = codes.setdefault(value, len(codes))  # a label that nobody gave before is a label all the same
            if isinstance(value, (str, list)) or (ratings.labels and value is not None and given not in codes):
                raise ValueError(f"Row {index}: `{name}` holds {given!r}, which is no score of this level.")
            table[index, 1 + place] = np.nan if value is None else value
    return table
