"""Jinja templates that fail where something is missing, for cards and pages alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def strict_templates(folder: str | Path, *, html: bool = False) -> jinja2.Environment:
    """The templates of a folder.

    Args:
        folder (`str` or `pathlib.Path`): where they lie.
        html (`bool`, *optional*, defaults to `False`): escape what is put in; otherwise the text is Markdown, and its
            last line break stays.

    Returns:
        `jinja2.Environment`: it raises `jinja2.UndefinedError` for a value that is missing.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
        autoescape=html,
    )
