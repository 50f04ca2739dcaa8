"""Permission of the authors of Eurorad cases that were published before 6 July 2015.

Such cases need the permission of the person who submitted them, for any use. A permission file says who gave it, when,
and for what:

```yaml
permissions:
- cases: [1234, "Title of another case"]     # ids or titles, or: all
  author: Dr A. Submitter
  date: 2026-01-31
  statement: I permit the use of these cases for training a model within the project described in my letter.
```
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ..schema import Fact
from .case_folders import comparable_title
from .publication_dates import earliest_day

_SHORTEST = 40  # characters of a statement, as in other signed statements


@dataclass(frozen=True)
class Grant:
    """What one person permitted.

    Args:
        cases (`frozenset[str]` or `None`): ids and titles, see [`comparable_title`]; `None` for all cases.
        author (`str`): who permitted it.
        given (`str`): the day, as an ISO date.
        statement (`str`): the words.
    """

    cases: frozenset[str] | None
    author: str
    given: str
    statement: str


@dataclass(frozen=True)
class Permission:
    """A permission file.

    Args:
        grants (`tuple[Grant, ...]`): what it permits.
        sha256 (`str`): the checksum of the file.
    """

    grants: tuple[Grant, ...]
    sha256: str

    def fact(self, identity: str, title: str) -> Fact | None:
        """The permission for a case, as a fact of its row.

        Args:
            identity (`str`): the case's id.
            title (`str`): its title.

        Returns:
            [`Fact`] or `None`: `None` where nobody permitted its use.
        """
        names = {comparable_title(identity), comparable_title(title)}
        for grant in self.grants:
            if grant.cases is None or grant.cases & names:
                words = f"{grant.author}, {grant.given}: {grant.statement}"
                return Fact("permission", words, f"permission file with sha256 {self.sha256}")
        return None


def read_permission(path: str | Path, *, today: date | None = None) -> Permission:
    """Reads and checks a permission file.

    Args:
        path (`str` or `pathlib.Path`): a YAML or JSON file with one mapping, a list of them, or the key `permissions`.
        today (`datetime.date`, *optional*): the day of reading; a permission of a later day is refused.

    Returns:
        [`Permission`]: the permission.

    Raises:
        `SemiHVError`: something is missing; the message names the entry and the field.
    """
    import yaml

    from ...yaml_files import safe_yaml

    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
        content = safe_yaml(data.decode("utf-8-sig"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SemiHVError(f"The permission file {path.name} cannot be read: {reason}", "Give a YAML file.") from error
    entries = content.get("permissions", content) if isinstance(content, Mapping) else content
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, list) or not entries:
        raise _wrong(path, "lists no permission")
    grants = tuple(_grant(entry, number, path, today or date.today()) for number, entry in enumerate(entries, start=1))
    return Permission(grants, hashlib.sha256(data).hexdigest())


def _grant(entry: Any, number: int, path: Path, today: date) -> Grant:
    if not isinstance(entry, Mapping):
        raise _wrong(path, f"entry {number} is no mapping of fields")
    words = {name: str(entry.get(name) or "").strip() for name in ("author", "date", "statement")}
    empty = [name for name, text in words.items() if not text]
    if empty:
        raise _wrong(path, f"entry {number} has no {', '.join(empty)}")
    if len(words["statement"]) < _SHORTEST:
        raise _wrong(path, f"the statement of entry {number} has fewer than {_SHORTEST} characters")
    given = earliest_day(words["date"])
    if given is None or given > today:
        raise _wrong(path, f"the date of entry {number} is {words['date']!r}, which is no day up to today")
    return Grant(_cases(entry.get("cases"), number, path), words["author"], given.isoformat(), words["statement"])


def _cases(stated: Any, number: int, path: Path) -> frozenset[str] | None:
    if isinstance(stated, str) and stated.strip().lower() == "all":
        return None
    if isinstance(stated, str | int) and not isinstance(stated, bool):
        stated = [stated]
    known = (
        isinstance(stated, list)
        and stated
        and all(isinstance(case, str | int) and not isinstance(case, bool) and str(case).strip() for case in stated)
    )
    if not known:
        raise _wrong(path, f"entry {number} lists no `cases`: ids or titles, or the word all")
    return frozenset(comparable_title(case) for case in stated)


def _wrong(path: Path, problem: str) -> SemiHVError:
    return SemiHVError(
        f"The permission file {path.name}: {problem}.",
        "Each entry needs cases (ids or titles, or all), author, date and statement.",
    )
