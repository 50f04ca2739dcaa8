"""The card of a built dataset folder: front matter for `load_dataset` and the Hub, and a text for people."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import SemiHVError

# How many rows of the composition a card lists; `build_report.json` has them all.
COMPOSITION_ROWS = 60


def dataset_card(report: Mapping[str, Any]) -> str:
    """Renders the card.

    Args:
        report (`Mapping[str, Any]`): the build report, as [`semihv_hf.data.building.report.build_report`] makes it for
            a release, or as [`semihv_hf.data.build.build`] does for the images inside packages.

    Returns:
        `str`: Markdown with the front matter that `load_dataset` reads its configs from.

    Raises:
        `SemiHVError`: the report lacks something that the card states.
    """
    import jinja2

    from ..resources import resource_dir
    from ..templates import strict_templates

    environment = strict_templates(resource_dir("model_cards"))
    environment.filters["cell"] = _cell
    try:
        if report.get("kind") != "release":
            return environment.get_template("dataset_card.md.jinja").render(report=report)
        from .card_metadata import front_matter, is_gated

        template = environment.get_template("source_dataset_card.md.jinja")
        return template.render(
            report=report, front_matter=front_matter(report), gated=is_gated(report["source"]), **_told(report)
        )
    except jinja2.UndefinedError as error:
        raise SemiHVError(f"The build report lacks something that the card states: {error}.") from error
    except KeyError as error:
        raise SemiHVError(f"The build report lacks {error}, which the card states.") from error


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the text of a release's card needs beside the report."""
    from .card_metadata import default_config
    from .licences import CONDITIONS, mixture, source_licence

    names = sorted({report["source"], *(entry["source"] for entry in report["sources"])})
    return {
        "licences": [source_licence(name) for name in names],
        "terms": mixture(names),
        "known_conditions": CONDITIONS,
        "about": source_notes().get(report["source"], {"what": "", "defects": []}),  # an adapter of the user's own
        "default": default_config(report),
        "composition": _composition(report),
        "composition_rows": COMPOSITION_ROWS,
    }


def _composition(report: Mapping[str, Any]) -> list[tuple[tuple[str, ...], int]]:
    """Rows by config, modality, body part and who wrote the texts, over all splits; the largest first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for entry in report["composition"]:
        key = tuple(entry[name] for name in ("config", "modality", "body_part", "annotation"))
        counts[key] += entry["rows"]
    configs = list(report["rows"])
    return sorted(counts.items(), key=lambda entry: (configs.index(entry[0][0]), -entry[1], entry[0]))


def source_notes() -> dict[str, dict[str, Any]]:
    """What is to be said about each release on its card.

    Returns:
        `dict[str, dict]`: `what` (one sentence) and `defects` (a list of sentences) by source.
    """
    import yaml

    from ..resources import resource_dir

    path = resource_dir("model_cards") / "source_notes.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["sources"]


def _cell(value: Any) -> str:
    """A value as one cell of a Markdown table: texts of a release may hold anything."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
