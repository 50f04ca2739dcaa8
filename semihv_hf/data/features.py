"""The columns of the two row types, as `datasets.Features`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Features


def case_features() -> "Features":
    """The columns of a file of cases.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    from datasets import Features, Image, Value

    text = Value("string")
    return Features(
        {
            **dict.fromkeys(("id", "source", "source_id", "group", "split", "licence"), text),
            # A list around a type is the one spelling that datasets 3 and 5 read alike.
            "images": [Image()],
            "facts": [{"name": text, "value": text, "source": text}],
            "texts": [{"role": text, "text": text, "annotation": text, "language": text, "image": Value("int32")}],
            "regions": [{"image": Value("int32"), "label": text, "box": [Value("float32")], "source": text}],
            "labels": [
                {
                    **dict.fromkeys(("name", "value", "decided_by", "source", "model"), text),
                    "agreement": Value("float32"),
                }
            ],
        }
    )


def record_features() -> "Features":
    """The columns of a file of records.

    Returns:
        `datasets.Features`: the column types; `images` decodes to PIL images.
    """
    from datasets import Features, Image, Value

    text = Value("string")
    return Features(
        {
            **dict.fromkeys(("id", "case_id", "source", "source_id", "licence"), text),
            "images": [Image()],
            "messages": [{"role": text, "content": [{"type": text, "text": text}]}],
            "annotation": [text],
            "task": text,
            "modality": text,
            "facts": [{"name": text, "value": text, "source": text}],
            "questions": [
                {
                    "turn": Value("int32"),
                    "template": text,
                    "answer_type": text,
                    "options": [text],
                    "fact": text,
                    "fact_source": text,
                }
            ],
            "provenance": [{"field": text, "model": text, "prompt_version": text, "evidence": [text]}],
            "evidence": [
                {
                    **dict.fromkeys(("corpus", "id", "source", "licence", "title"), text),
                    "score": Value("float32"),
                    "text": text,
                    "begin": Value("int32"),
                    "end": Value("int32"),
                }
            ],
        }
    )


def skipped_features() -> "Features":
    """The columns of `skipped.parquet`.

    Returns:
        `datasets.Features`: the column types.
    """
    from datasets import Features, Value

    return Features(dict.fromkeys(("source", "source_id", "reason", "detail"), Value("string")))
