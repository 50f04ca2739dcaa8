"""The columns of all rows, written down once: from them come the Arrow schemas, which need no `datasets`, and in
`features.py` the `datasets.Features`.

To import `datasets` takes seconds, which every build and each of its processes would spend for a few schemas.
"""

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

_FACTS = [{"name": "string", "value": "string", "source": "string"}]

# A text is the name of a type, a list holds the type of its items, a dictionary names fields.
CASE_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "source", "source_id", "group", "split", "licence"), "string"),
    "images": ["image"],
    "facts": _FACTS,
    "texts": [{"role": "string", "text": "string", "annotation": "string", "language": "string", "image": "int32"}],
    "regions": [{"image": "int32", "label": "string", "box": ["float32"], "source": "string"}],
    "labels": [
        {**dict.fromkeys(("name", "value", "decided_by", "source", "model"), "string"), "agreement": "float32"}
    ],
}
RECORD_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "case_id", "source", "source_id", "licence"), "string"),
    "images": ["image"],
    "messages": [{"role": "string", "content": [{"type": "string", "text": "string"}]}],
    "annotation": ["string"],
    "task": "string",
    "modality": "string",
    "facts": _FACTS,
    "questions": [
        {
            "turn": "int32",
            "template": "string",
            "answer_type": "string",
            "options": ["string"],
            "fact": "string",
            "fact_source": "string",
        }
    ],
    "provenance": [{"field": "string", "model": "string", "prompt_version": "string", "evidence": ["string"]}],
    "evidence": [
        {
            **dict.fromkeys(("corpus", "id", "source", "licence", "title"), "string"),
            "score": "float32",
            "text": "string",
            "begin": "int32",
            "end": "int32",
        }
    ],
}
QUESTION_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "benchmark", "source_id", "group", "split", "licence"), "string"),
    "images": ["image"],
    **dict.fromkeys(("question", "answer", "answer_type"), "string"),
    "options": ["string"],
    **dict.fromkeys(("answer_letter", "modality", "category", "language"), "string"),
    "facts": _FACTS,
}
_CONVERSATION = RECORD_COLUMNS["messages"]
PREFERENCE_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "case_id", "source", "source_id", "licence", "task", "modality"), "string"),
    "images": ["image"],
    # As TRL's preference trainers take them.
    "prompt": _CONVERSATION,
    "chosen": _CONVERSATION,
    "rejected": _CONVERSATION,
    "origin": "string",
    "record_ids": ["string"],
    "votes": "int32",
}
SKIPPED_COLUMNS: dict[str, Any] = dict.fromkeys(("source", "source_id", "reason", "detail"), "string")


@lru_cache(maxsize=1)
def case_schema() -> "pyarrow.Schema":
    """The Arrow schema of a file of cases."""
    return arrow_schema(CASE_COLUMNS)


@lru_cache(maxsize=1)
def record_schema() -> "pyarrow.Schema":
    """The Arrow schema of a file of records."""
    return arrow_schema(RECORD_COLUMNS)


@lru_cache(maxsize=1)
def preference_schema() -> "pyarrow.Schema":
    """The Arrow schema of a file of preferences."""
    return arrow_schema(PREFERENCE_COLUMNS)


@lru_cache(maxsize=1)
def question_schema() -> "pyarrow.Schema":
    """The Arrow schema of a file of a benchmark's questions."""
    return arrow_schema(QUESTION_COLUMNS)


@lru_cache(maxsize=1)
def skipped_schema() -> "pyarrow.Schema":
    """The Arrow schema of `skipped.parquet`."""
    return arrow_schema(SKIPPED_COLUMNS)


def arrow_schema(columns: dict[str, Any]) -> "pyarrow.Schema":
    """Columns as Arrow types, with the metadata by which `datasets` knows what the columns hold.

    Args:
        columns (`dict[str, Any]`): see above.

    Returns:
        `pyarrow.Schema`: byte for byte what `datasets.Features.arrow_schema` gives for the same columns.
    """
    import pyarrow

    features = {name: _feature(kind) for name, kind in columns.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.schema([(name, _arrow(kind)) for name, kind in columns.items()], metadata=metadata)


def yaml_features(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as a dataset card states them.

    Args:
        columns (`dict[str, Any]`): see above.

    Returns:
        `list[dict]`: what `datasets` writes into `dataset_info`.
    """
    return [{"name": name, **_stated(kind)} for name, kind in columns.items()]


def _feature(kind: Any) -> Any:
    if isinstance(kind, list):
        return {"feature": _feature(kind[0]), "_type": "List"}
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    return {"_type": "Image"} if kind == "image" else {"dtype": kind, "_type": "Value"}


def _arrow(kind: Any) -> "pyarrow.DataType":
    import pyarrow

    if isinstance(kind, list):
        return pyarrow.list_(_arrow(kind[0]))
    if isinstance(kind, dict):
        return pyarrow.struct([(name, _arrow(inner)) for name, inner in kind.items()])
    if kind == "image":
        return pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    return pyarrow.type_for_alias(kind)


def _stated(kind: Any) -> dict[str, Any]:
    if isinstance(kind, list):
        inner = kind[0]
        return {"list": yaml_features(inner) if isinstance(inner, dict) else inner}
    return {"dtype": kind}
