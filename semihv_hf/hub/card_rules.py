"""What a card must say before it is published, for every kind of repository."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from semihv_hf.errors import SemiHVError
from semihv_hf.yaml_files import safe_yaml

# What the Hub, or a reader, needs to find in the front matter.
NEEDED = {
    "model": ("license", "library_name", "pipeline_tag"),
    "dataset": ("license",),
    "metric": ("title", "sdk", "sdk_version", "app_file", "license"),
    "space": ("title", "sdk", "sdk_version", "app_file", "license"),
}
# Headings of a text, of each group at least one.
HEADINGS = {
    "model": (("Intended use",), ("Out of scope",), ("Training data",), ("Evaluation",), ("How to load it",)),
    "dataset": (),  # one that was built is rendered from a template; a script's card has sections of its own
    "metric": (("What it measures",), ("How to use it",), ("Limits", "What it does not", "Limitations")),
    "space": (),
}
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_LONGEST_DESCRIPTION = 60


def cell(value: Any) -> str:
    """A value as one cell of a Markdown table, or a piece of a line: it can end neither, nor bring HTML.

    Args:
        value (`Any`): anything that has a text.

    Returns:
        `str`: one line.
    """
    text = " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "".join(letter for letter in text if letter.isprintable())


def read_front_matter(path: str | Path) -> tuple[dict[str, Any], str]:
    """Splits a card.

    Args:
        path (`str` or `Path`): the `README.md`.

    Returns:
        `tuple[dict, str]`: the fields of its front matter, and its text.

    Raises:
        SemiHVError: there is no such file, or its front matter cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise SemiHVError(f"There is no card {path}.", "Every published folder has a README.md.")
    try:
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise SemiHVError(f"The card {path} is no UTF-8 text.", "Write it anew.") from error
    if not text.startswith("---\n") or "\n---\n" not in text[3:]:
        raise SemiHVError(f"The card {path} has no front matter.", "Begin it with fields between two lines of ---.")
    front, _, body = text[4:].partition("\n---\n")
    try:
        fields = safe_yaml(front)
    except yaml.YAMLError as error:
        raise SemiHVError(f"The front matter of {path} is no YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(fields, dict):
        raise SemiHVError(f"The front matter of {path} holds no fields.", "Write one `key: value` a line.")
    return fields, body


def check_card(path: str | Path, kind: str) -> dict[str, Any]:
    """Checks a card with the library's own classes and the rules of this module.

    Args:
        path (`str` or `Path`): the `README.md`.
        kind (`str`): `"model"`, `"dataset"`, `"metric"` or `"space"`.

    Returns:
        `dict[str, Any]`: the fields of its front matter.

    Raises:
        SemiHVError: something is missing or wrong; the message names all of it.
    """
    fields, body = read_front_matter(path)
    wrong = [f"no {name}" for name in NEEDED[kind] if fields.get(name) in (None, "", [])]
    wrong += [
        f"{name} is {fields[name]!r:.40}, no text; write it in quotes"
        for name in NEEDED[kind]
        if fields.get(name) not in (None, "", []) and not _is_text(fields[name], several=name == "license")
    ]
    titles = [line.lstrip("# ").lower() for line in body.splitlines() if line.startswith("#")]
    for group in HEADINGS[kind]:
        if not any(title.startswith(heading.lower()) for title in titles for heading in group):
            wrong.append(f"no section {' or '.join(map(repr, group))}")
    if fields.get("license") == "other" and kind in ("model", "dataset") and not fields.get("license_name"):
        wrong.append("license is other, but there is no license_name")
    if kind in ("metric", "space"):
        wrong += _space_rules(fields, Path(path).parent)
    try:
        _card_class(kind).load(path)
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        wrong.append(f"the library cannot read it ({' '.join(str(error).split())[:200]})")
    if wrong:
        raise SemiHVError(f"The card {path} cannot be published: {'; '.join(wrong)}.", "Complete it.")
    return fields


def _is_text(value: Any, *, several: bool) -> bool:
    return isinstance(value, str) or (
        several and isinstance(value, list) and all(isinstance(one, str) for one in value)
    )


def _card_class(kind: str):
    from huggingface_hub import DatasetCard, ModelCard, SpaceCard

    return {"model": ModelCard, "dataset": DatasetCard}.get(kind, SpaceCard)


def _space_rules(fields: Mapping[str, Any], folder: Path) -> list[str]:
    wrong = []
    if fields.get("sdk") not in ("gradio", "docker", "static"):
        wrong.append(f"sdk is {fields.get('sdk')!r}, not gradio, docker or static")
    name = fields.get("app_file")
    if isinstance(name, str) and (not (folder / name).is_file() or "/" in name or "\\" in name):
        wrong.append(f"app_file {name!r:.80} is no file beside the card")
    wrong += [
        f"{name} is {fields[name]!r:.40}, none of the Hub's colours"
        for name in ("colorFrom", "colorTo")
        if name in fields and fields[name] not in COLOURS
    ]
    told = fields.get("short_description")
    if told is not None and len(str(told)) > _LONGEST_DESCRIPTION:
        wrong.append(f"short_description has {len(str(told))} letters; the Hub shows {_LONGEST_DESCRIPTION}")
    return wrong
