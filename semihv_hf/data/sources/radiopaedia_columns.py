"""The user's map from the columns of a Radiopaedia table to what they mean.

No format of such a table is published, so nothing is guessed: a map names the column of each role.

```yaml
title: case_title
rid: case_rid
findings: description
```
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ..release import Release

# What a column may mean. Texts, then what becomes a fact, then what ties a row to a picture.
TEXT_ROLES = ("history", "findings", "discussion", "diagnosis", "caption")
FACT_ROLES = ("modality", "body_part", "plane", "sex", "age", "published", "licence", "author", "url")
ROLES = ("title", "rid", *TEXT_ROLES, *FACT_ROLES, "image")
_HINTS = {"title": ("title", "name"), "rid": ("rid", "id"), "history": ("history", "presentation")}


def read_columns(columns: Mapping[str, str] | str | Path | None) -> dict[str, str] | None:
    """The map as the user gave it.

    Args:
        columns (`Mapping[str, str]`, `str`, `pathlib.Path` or `None`): role to column, or a YAML or JSON file of it.

    Returns:
        `dict[str, str]` or `None`: role to column; `None` where none was given.

    Raises:
        `SemiHVError`: the file cannot be read, or it names an unknown role or no column.
    """
    if columns is None:
        return None
    content = columns if isinstance(columns, Mapping) else _read_file(Path(columns).expanduser())
    if not isinstance(content, Mapping) or not content:
        raise SemiHVError("The map of columns is no mapping of roles to columns.", _roles())
    wrong = [str(role) for role in content if role not in ROLES]
    if wrong:
        raise SemiHVError(f"The map of columns names {', '.join(wrong)}, which is no role.", _roles())
    empty = [role for role, column in content.items() if not isinstance(column, str) or not column.strip()]
    if empty:
        raise SemiHVError(f"The map of columns names no column for {', '.join(empty)}.", _roles())
    return {role: content[role].strip() for role in ROLES if role in content}


def chosen_table(release: Release, wanted: str | None, columns: Mapping[str, str] | None) -> str:
    """The table that the map is for.

    Args:
        release ([`Release`]): the release.
        wanted (`str` or `None`): the table that the user named.
        columns (`Mapping[str, str]` or `None`): the map.

    Returns:
        `str`: a CSV file, relative to the release.

    Raises:
        `SemiHVError`: there is no map, it does not fit the table, or it fits several. The message shows the header.
    """
    tables = [wanted] if wanted else sorted({*release.find("*.csv"), *release.find("*.csv.gz")})
    if wanted and not release.exists(wanted):
        raise SemiHVError(f"{release.root} has no table {wanted}.", "Name a CSV file inside the release.")
    headers = {table: _header(release, table) for table in tables}
    if columns is None:
        shown = "; ".join(f"{table} has the columns {_listed(header)}" for table, header in headers.items())
        raise SemiHVError(
            f"Radiopaedia needs a map of columns, because its tables have no known format: {shown}.",
            f"Give columns, for example {_example(next(iter(headers.values())))}. {_roles()}",
        )
    if "title" not in columns or not {"rid", "url"} & set(columns):
        raise SemiHVError(
            "The map of columns lacks " + ("title." if "title" not in columns else "rid and url."),
            "The title names the folder of a case; the rID, or the address, is needed to attribute its images.",
        )
    fits = [table for table, header in headers.items() if set(columns.values()) <= set(header)]
    if len(fits) > 1:
        raise SemiHVError(f"The map of columns fits {' and '.join(fits)}.", "Name one of them as table.")
    if not fits:
        shown = "; ".join(
            f"{table} lacks {_listed([column for column in columns.values() if column not in header])} and has "
            f"{_listed(header)}"
            for table, header in headers.items()
        )
        raise SemiHVError(f"The map of columns fits no table: {shown}.", "Correct the map.")
    return fits[0]


def _read_file(path: Path) -> Any:
    import yaml

    from ...yaml_files import safe_yaml

    try:
        return safe_yaml(path.read_text(encoding="utf-8-sig"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SemiHVError(f"The map of columns {path.name} cannot be read: {reason}.", _roles()) from error


def _header(release: Release, table: str) -> list[str]:
    try:
        with release.open_text(table) as file:
            return [column.strip() for column in next(csv.reader(file), [])]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SemiHVError(f"{table} cannot be read: {reason}.", "Save it as CSV in UTF-8.") from error


def _example(header: Sequence[str]) -> str:
    """A map to start from: columns whose names say what they are."""
    named = {}
    for role in ROLES:
        hints = _HINTS.get(role, (role,))
        column = next((name for hint in hints for name in header if hint in name.lower()), None)
        if column is not None and column not in named.values():
            named[role] = column
    named = {"title": header[0] if header else "...", **named}
    return "{" + ", ".join(f"{role}: {column}" for role, column in named.items()) + "}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name or "(unnamed)" for name in names) or "none"


def _roles() -> str:
    return f"Roles are {', '.join(ROLES)}."
