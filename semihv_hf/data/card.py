"""The card of a built dataset folder."""

from collections.abc import Mapping
from typing import Any

from ..errors import SemiHVError


def dataset_card(report: Mapping[str, Any]) -> str:
    """Renders the card.

    Args:
        report (`Mapping[str, Any]`): the build report.

    Returns:
        `str`: Markdown with the front matter that `load_dataset` reads its configs from.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.from_string(_template_text()).render(report=report)


def _template_text() -> str:
    # A checkout and an installed wheel keep this folder in different places.
    from ..resources import resource_dir

    path = resource_dir("model_cards") / "dataset_card.md.jinja"
    if not path.is_file():
        raise SemiHVError(f"The card template {path} is missing.", "Install semihv-hf again.")
    return path.read_text(encoding="utf-8")
