"""Signed statements: the only way past a gate that a source leaves open, and never a silent one.

A statement is a YAML or JSON file that a person writes and signs by name:

```yaml
statements:
- source: mimic_cxr
  gates: [send]
  base_url: https://llm.hospital.example/v1     # for `send`: the only server that it opens
  statement: The endpoint keeps no data, trains on none and no person reviews requests; our agreement allows it.
signed_by: A. Researcher
organisation: Example University Hospital
date: 2026-11-20
```

Its full text goes into the manifest of whatever was made with it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ..errors import SemiHVError, first_line

# The words of a statement for the terms of the registry.
GATES = {"send": "send", "write": "use", "publish": "redistribute", "publish_derived": "share_derived"}
_SHORTEST = 40


@dataclass(frozen=True)
class Attestation:
    """A signed statement.

    Args:
        signed_by (`str`): who signed.
        organisation (`str`): for whom.
        signed_on (`datetime.date`): when.
        grants (`tuple`): `(source, term of the registry, base URL or None)` for each gate that it opens.
        text (`str`): the file as it was signed.
    """

    signed_by: str
    organisation: str
    signed_on: date
    grants: tuple[tuple[str, str, str | None], ...]
    text: str

    def covers(self, source: str, term: str, base_url: str | None = None) -> bool:
        """Whether it opens a gate for a source.

        Args:
            source (`str`): the source.
            term (`str`): the registry's term: `"send"`, `"use"`, `"redistribute"` or `"share_derived"`.
            base_url (`str`, *optional*): the server, for `"send"`.

        Returns:
            `bool`: whether exactly that was signed.
        """
        return (source, term, _plain(base_url)) in self.grants

    def manifest(self) -> dict[str, Any]:
        """What a manifest keeps of it.

        Returns:
            `dict`: the signer, the day, the gates, the full text and its sha256.
        """
        return {
            "signed_by": self.signed_by,
            "organisation": self.organisation,
            "date": self.signed_on.isoformat(),
            "grants": [{"source": source, "gate": term, "base_url": url} for source, term, url in self.grants],
            "sha256": hashlib.sha256(self.text.encode()).hexdigest(),
            "text": self.text,
        }


def read_attestation(path: str | Path, *, today: date | None = None) -> Attestation:
    """Reads and checks a statement file.

    Args:
        path (`str` or `pathlib.Path`): the file.
        today (`datetime.date`, *optional*): the day of reading; a later signature is refused.

    Returns:
        [`Attestation`]: the statement.

    Raises:
        `SemiHVError`: something is missing; the message names it.
    """
    import yaml

    from ..yaml_files import safe_yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = safe_yaml(text)  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SemiHVError(f"The statement {path.name} cannot be read: {first_line(error)}.") from error
    if not isinstance(content, Mapping):
        raise _wrong(path, "is no mapping of fields")
    signer, organisation = (_text(content, name, path) for name in ("signed_by", "organisation"))
    statements = content.get("statements")
    if not isinstance(statements, list) or not statements:
        raise _wrong(path, "has no list `statements`")
    grants = [grant for entry in statements for grant in _grants(entry, path)]
    return Attestation(signer, organisation, _signed_on(content, path, today or date.today()), tuple(grants), text)


def _grants(entry: Any, path: Path) -> list[tuple[str, str, str | None]]:
    from .licences import source_licence

    if not isinstance(entry, Mapping):
        raise _wrong(path, "has a statement that is no mapping")
    source = _text(entry, "source", path)
    source_licence(source)
    if len(_text(entry, "statement", path)) < _SHORTEST:
        raise _wrong(path, f"says too little about {source}: `statement` has fewer than {_SHORTEST} characters")
    gates = entry.get("gates")
    if not isinstance(gates, list) or not gates or not all(isinstance(gate, str) and gate in GATES for gate in gates):
        raise _wrong(path, f"names gates {gates!r} for {source}; known are {', '.join(GATES)}")
    url = _plain(_text(entry, "base_url", path)) if "send" in gates else None
    return [(source, GATES[gate], url if gate == "send" else None) for gate in gates]


def _signed_on(content: Mapping[str, Any], path: Path, today: date) -> date:
    value = content.get("date")
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, date) or isinstance(value, datetime):
        raise _wrong(path, "has no `date` of the form 2026-11-20")
    if value > today:
        raise _wrong(path, f"is dated {value}, which is in the future")
    return value


def _text(content: Mapping[str, Any], name: str, path: Path) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(path, f"has no `{name}`")
    return value.strip()


def _plain(url: str | None) -> str | None:
    return None if url is None else url.strip().rstrip("/").lower()


def _wrong(path: Path, problem: str) -> SemiHVError:
    return SemiHVError(f"The statement {path.name} {problem}.", "docs/licences.md shows what a statement must say.")
