"""The card of a reviewed dataset folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError
from semihv_hf.templates import strict_templates


def reviewed_card(report: Mapping[str, Any]) -> str:
    """Writes the card.

    Args:
        report (`Mapping[str, Any]`): the report of [`semihv_hf.curation.review.export.export_reviews`].

    Returns:
        `str`: Markdown with the front matter that `load_dataset` reads its configs from.

    Raises:
        `SemiHVError`: the report lacks something that the card states.
    """
    import jinja2

    from semihv_hf.data.licences import mixture, source_licence

    environment = strict_templates(Path(__file__).parent / "templates")
    try:
        return environment.get_template("reviewed_dataset_card.md.jinja").render(
            report=report,
            front_matter=_front_matter(report),
            licences=[source_licence(name) for name in report["sources"]],
            terms=mixture(report["sources"]),
        )
    except jinja2.UndefinedError as error:
        raise SemiHVError(f"The report lacks something that the card states: {error}.") from error


def _front_matter(report: Mapping[str, Any]) -> str:
    import yaml

    from semihv_hf.data.card_metadata import gate_fields, licence_fields, size_category

    gates = [fields for name in report["sources"] if (fields := gate_fields(name))]
    metadata = {
        "pretty_name": "Reviewed medical instruction data (semihv-hf)",
        "language": ["en"],
        **licence_fields(report["sources"]),
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "annotations_creators": ["expert-generated", "machine-generated"],
        "source_datasets": [f"extended|other-{name}" for name in report["sources"]],
        "size_categories": [size_category(sum(sum(splits.values()) for splits in report["rows"].values()))],
        "tags": ["medical", "vision-language", "human-feedback", "semihv-hf"],
        **(gates[0] if gates else {}),
        "configs": [
            {
                "config_name": config,
                # `datasets` keys its cache of a local folder by these fields: new rows need a new text.
                "description": f"content {report['content']}",
                "data_files": [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits],
            }
            for config, splits in report["rows"].items()
        ],
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=110).rstrip("\n")
