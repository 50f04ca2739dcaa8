"""Cases of Eurorad as two files write them, brought to one form.

`eurorad.json`, the format of SemiHVision's authors, and the public MedThinkVQA, which their lab made of Eurorad with
options and answers added. MedThinkVQA states no day of publication.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import SemiHVError
from ..release import Release
from ..tables import json_rows
from .modality_words import modality_of
from .volume_reading import one_line

AUTHORS = "eurorad.json"
MEDTHINK = "medthinkvqa"
_IDS = ("id", "case_id", "eurorad_id")
_DATES = ("date", "published", "publication_date")
_LINKS = ("url", "link", "case_url")
_IMAGE_COLUMN = re.compile(r"image_(\d+)_(id|path|caption|modality|sub_modality)")
_NOTHING = ("", "nan", "none", "null")
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
_ICD = ("icd chapter", "icd block", "icd category")
_BATCH = 16  # rows of a Parquet file that are in memory at once


def case_tables(release: Release) -> list[str]:
    """The files that list cases.

    Args:
        release ([`Release`]): the release.

    Returns:
        `list[str]`: `eurorad.json` alone where it is there, else the Parquet or JSON files of MedThinkVQA.
    """
    if release.first(AUTHORS):
        return [AUTHORS]
    patterns = ("**/*.parquet", "*.jsonl", "data/*.jsonl", "*.json", "data/*.json")
    found = [name for pattern in patterns for name in release.find(pattern)]
    return sorted({name for name in found if stated_split(name) is not None})


def stated_split(table: str) -> str | None:
    """The split that the name of a file states.

    Args:
        table (`str`): the file.

    Returns:
        `str` or `None`: in this project's words.
    """
    words = re.split(r"[^a-z]+", table.rpartition("/")[2].lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def raw_rows(release: Release, table: str) -> Iterator[Any]:
    """The rows of a file, one at a time.

    Args:
        release ([`Release`]): the release.
        table (`str`): the file.

    Yields:
        `Any`: a mapping, unless the file is malformed there.

    Raises:
        `SemiHVError`: the file is damaged.
    """
    try:
        if table.endswith(".parquet"):
            import pyarrow.parquet as parquet

            with parquet.ParquetFile(release.path(table)) as file:
                for batch in file.iter_batches(batch_size=_BATCH):
                    yield from batch.to_pylist()
        else:
            yield from json_rows(release, table)
    except (OSError, ValueError) as error:  # pyarrow's errors for a damaged file are of these kinds
        reason = getattr(error, "strerror", None) or str(error)
        raise SemiHVError(f"{table} cannot be read: {one_line(reason)}.", "Use the file as it was made.") from error


def plain_case(row: Any, table: str) -> dict[str, Any] | str:
    """A row in one form for both files.

    Args:
        row (`Any`): the row.
        table (`str`): its file.

    Returns:
        `dict` or `str`: `id`, `title`, `history`, `findings`, `discussion`, `diagnosis`, `published`, `dated` (the
        field of the day), `images` (dictionaries of `id`, `path`, `caption`, `modality`), `options`, `answer` and
        `facts` (name, value, source); a text says what is wrong instead.
    """
    if not isinstance(row, Mapping):
        return "it is no object"
    fields = {str(name).strip().lower(): value for name, value in row.items()}
    title = words(fields.get("title"))
    if not title:
        return "it has no title"
    images = _authors_images(fields["img"]) if "img" in fields else _medthink_images(fields)
    if isinstance(images, str):
        return images
    dated = next((name for name in _DATES if words(fields.get(name))), "")
    options = fields.get("options")
    facts = [[name, words(fields.get(name)), f"{table} field {name}"] for name in _ICD]
    facts += [["url", words(fields.get(name)), f"{table} field {name}"] for name in _LINKS]
    return {
        "id": next((words(fields[name]) for name in _IDS if words(fields.get(name))), ""),
        "title": title,
        "history": words(fields.get("clinical_history")),
        "findings": words(fields.get("imaging_findings")),
        "discussion": words(fields.get("discussion")),
        "diagnosis": words(fields.get("final_diagnosis")) or words(fields.get("correct_answer_text")),
        "published": words(fields.get(dated)),
        "dated": f"{table} field {dated}",
        "images": images,
        "options": {str(key): one_line(words(text)) for key, text in options.items() if words(text)}
        if isinstance(options, Mapping)
        else {},
        "answer": words(fields.get("correct_answer")),
        "facts": [fact for fact in facts if fact[1]],
    }


def words(value: Any) -> str:
    """A field as text: `""` for what is missing, paragraphs of a list joined.

    Args:
        value (`Any`): what JSON or Parquet holds.

    Returns:
        `str`: the text without blanks around it.
    """
    if isinstance(value, list | tuple):
        return "\n".join(part for part in map(words, value) if part)
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in _NOTHING else text


def _authors_images(stated: Any) -> list[dict[str, str]] | str:
    stated = [stated] if isinstance(stated, Mapping) else stated
    if not isinstance(stated, list):
        return "img is no list of images"
    images: dict[str, dict[str, str]] = {}
    for image in stated:
        identity = words(image.get("img_id")) if isinstance(image, Mapping) else ""
        if not identity:
            return "an image of img has no img_id"
        # An image that is listed again, as the authors' scraper does for each series that shows it, is one image.
        images.setdefault(identity, {"id": identity, "caption": words(image.get("img_alt2"))})
    return list(images.values())


def _medthink_images(fields: Mapping[str, Any]) -> list[dict[str, str]]:
    numbered: dict[int, dict[str, str]] = {}
    for column, value in fields.items():
        match = _IMAGE_COLUMN.fullmatch(column)
        if match and words(value):
            numbered.setdefault(int(match[1]), {})[match[2]] = words(value)
    images = []
    for number, image in sorted(numbered.items()):
        modality = modality_of(image.get("modality", "")) or modality_of(image.get("sub_modality", ""))
        kept = {"id": image.get("id", f"{number:02d}"), "path": image.get("path", ""), "modality": modality or ""}
        images.append({**kept, "caption": image.get("caption", "")})
    return images
