"""The columns of all rows as `datasets.Features`; see `columns.py` for the columns themselves."""

from typing import TYPE_CHECKING, Any

from .columns import CASE_COLUMNS, QUESTION_COLUMNS, RECORD_COLUMNS

if TYPE_CHECKING:
    from datasets import Features


def case_features() -> "Features":
    """The columns of a file of cases.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    return _features(CASE_COLUMNS)


def record_features() -> "Features":
    """The columns of a file of records.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    return _features(RECORD_COLUMNS)


def question_features() -> "Features":
    """The columns of a file of a benchmark's questions.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    return _features(QUESTION_COLUMNS)


def _features(columns: dict[str, Any]) -> "Features":
    from datasets import Features

    return Features({name: _feature(kind) for name, kind in columns.items()})


def _feature(kind: Any) -> Any:
    from datasets import Image, Value

    if isinstance(kind, list):
        # A list around a type is the one spelling that datasets 3 and 5 read alike.
        return [_feature(kind[0])]
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    return Image() if kind == "image" else Value(kind)
