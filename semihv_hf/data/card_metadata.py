"""The front matter of a release's card: configs, columns, splits, licence and gate, in the words of the Hub."""

import re
from collections.abc import Mapping
from typing import Any

from .columns import CASE_COLUMNS, RECORD_COLUMNS, yaml_features
from .configs import CASES
from .licences import SourceLicence, mixture, source_licence

# The Hub's names of the licences that it knows; every other is "other" with a name and a link.
HUB_LICENCES = {
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "MIT": "mit",
    "BSD-3-Clause": "bsd-3-clause",
    "Apache-2.0": "apache-2.0",
}
# Who wrote a text, in the Hub's words.
CREATORS = {
    "human": ("expert-generated",),
    "human_edit": ("expert-generated", "machine-generated"),
    "machine": ("machine-generated",),
    "rule": ("machine-generated",),
    "none": ("no-annotation",),
}
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LARGEST = "10M<n<100M"
# What may be passed on without asking who takes it.
_OPEN_CONDITIONS = {"attribution", "share-alike"}


def front_matter(report: Mapping[str, Any]) -> str:
    """The front matter of a card.

    Args:
        report (`Mapping[str, Any]`): the report of a release's build.

    Returns:
        `str`: YAML without the lines of dashes around it.

    Raises:
        `KeyError`: the report lacks a field.
    """
    import yaml

    sources = [report["source"], *(entry["source"] for entry in report["sources"])]
    creators = {
        creator
        for entry in report["composition"]
        for writer in entry["annotation"].split("+")
        for creator in CREATORS[writer]
    }
    metadata: dict[str, Any] = {
        "pretty_name": f"{source_licence(report['source']).title} (semihv-hf)",
        "language": sorted(report["languages"]) or ["en"],
        **licence_fields(sources),
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "annotations_creators": sorted(creators - {"no-annotation"}) or ["no-annotation"],
        "source_datasets": [f"extended|other-{name}" for name in sorted(set(sources))],
        "size_categories": [size_category(report["kept"])],
        "tags": ["medical", "vision-language", "semihv-hf"],
        **gate_fields(report["source"]),
        "configs": [_config(report, config) for config in report["rows"]],
        "dataset_info": [_info(report, config) for config in report["rows"]],
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=110).rstrip("\n")


def licence_fields(sources: list[str]) -> dict[str, str]:
    """The licence in the Hub's words: of several sources, the most restrictive.

    Args:
        sources (`list[str]`): the sources.

    Returns:
        `dict[str, str]`: `license`, and for one that the Hub has no name for, `license_name` and `license_link`.
    """
    licence = mixture(sources).licence
    if licence in HUB_LICENCES:
        return {"license": HUB_LICENCES[licence]}
    links = {source_licence(name).link for name in sources if source_licence(name).licence in licence}
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    # A card about several licences explains them itself.
    return {"license": "other", "license_name": name, "license_link": links.pop() if len(links) == 1 else "README.md"}


def is_gated(source: str) -> bool:
    """Whether those who want a published copy must first agree to terms.

    Args:
        source (`str`): the source.

    Returns:
        `bool`: `False` only where the licence asks for no more than attribution and the same licence.
    """
    entry = source_licence(source)
    if entry.redistribute == "yes":
        return False
    return entry.redistribute != "conditions" or not set(entry.conditions) <= _OPEN_CONDITIONS


def gate_fields(source: str) -> dict[str, Any]:
    """The questions that the Hub asks before it gives access.

    Args:
        source (`str`): the source.

    Returns:
        `dict`: `extra_gated_prompt` and `extra_gated_fields`; empty where the licence asks for no gate.
    """
    if not is_gated(source):
        return {}
    entry = source_licence(source)
    fields: dict[str, Any] = {
        "Name": "text",
        "Affiliation": "text",
        "Intended use": "text",
        f"I have obtained {entry.title} myself under its own terms and will keep to them": "checkbox",
        "I will not try to identify any person in the data": "checkbox",
        "I will not pass the data on": "checkbox",
    }
    if "non-commercial" in entry.conditions:
        fields["I will use the data for non-commercial purposes only"] = "checkbox"
    return {"extra_gated_prompt": _gate_prompt(entry), "extra_gated_fields": fields}


def _gate_prompt(entry: SourceLicence) -> str:
    conditions = f" Conditions: {', '.join(entry.conditions)}." if entry.conditions else ""
    note = f" {entry.note.strip()}" if entry.note else ""
    return f"Made from {entry.title}, licence: {entry.licence} ({entry.link}).{conditions}{note}"


def default_config(report: Mapping[str, Any]) -> str:
    """The config that `load_dataset(folder)` gives when none is named.

    Args:
        report (`Mapping[str, Any]`): the report.

    Returns:
        `str`: `"instruction"` where there is one, else the first config that holds records, else the cases.
    """
    others = [config for config in report["rows"] if config != CASES]
    return "instruction" if "instruction" in others else (others or [CASES])[0]


def size_category(rows: int) -> str:
    """The Hub's name for a size.

    Args:
        rows (`int`): the number of cases.

    Returns:
        `str`: for example `"1K<n<10K"`.
    """
    return next((name for limit, name in SIZES if rows < limit), LARGEST)


def _config(report: Mapping[str, Any], config: str) -> dict[str, Any]:
    # `datasets` keys its cache of a local folder by these fields: the fingerprint keeps it from serving older rows.
    found: dict[str, Any] = {"config_name": config, "description": f"content {report['content']}"}
    if config == default_config(report):
        found["default"] = True
    found["data_files"] = [
        {"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in report["rows"][config]
    ]
    return found


def _info(report: Mapping[str, Any], config: str) -> dict[str, Any]:
    sizes = report["bytes"][config]
    splits = [
        {"name": split, "num_bytes": sizes[split], "num_examples": rows}
        for split, rows in report["rows"][config].items()
    ]
    total = sum(sizes.values())
    return {
        "config_name": config,
        "features": yaml_features(CASE_COLUMNS if config == CASES else RECORD_COLUMNS),
        "splits": splits,
        "download_size": total,
        "dataset_size": total,
    }
