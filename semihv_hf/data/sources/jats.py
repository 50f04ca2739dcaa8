"""Articles in JATS, the XML of PubMed Central (`.nxml`): their figures, identifiers, date and licence.

Read with defusedxml: entities that a file declares itself, and external ones, are refused, so neither a file of this
machine nor a network is touched, and nothing expands. A document type declaration alone is harmless and stands in
every article; it is not fetched.
"""

import html
import html.entities
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .article_licence import stated_licence

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_HREF = "{http://www.w3.org/1999/xlink}href"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Elements of a caption that are no text of it, and those that stand apart from the text around them.
_NO_TEXT = {"tex-math", "graphic", "inline-graphic", "media", "inline-media", "private-char"}
_APART = {"p", "title", "list", "list-item", "def-item", "disp-formula", "disp-quote", "sec", "break", "label"}
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
# Where a figure stands if not in the article's own text, by the nearest of these around it.
_PLACES = {
    "supplementary-material": "supplementary material",
    "app": "appendix",
    "app-group": "appendix",
    "sub-article": "sub-article",
    "response": "sub-article",
    "abstract": "abstract",
}
# Dates of an article, the one that readers saw first before others; releases to PMC are not publications.
_DATES = ("epub", "pub", "epub-ppub", "ppub", "collection")


class UnusableArticle(Exception):
    """An article that cannot be read.

    Args:
        reason (`str`): one of the reasons of [`semihv_hf.data.sources.base.Skipped`].
        detail (`str`): what exactly.
    """

    def __init__(self, reason: str, detail: str):
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True)
class Figure:
    """A figure of an article.

    Args:
        label (`str`): for example `"Figure 1."`; `""` without one.
        title (`str`): the title of the caption; `""` without one.
        caption (`str`): title and text of the caption.
        graphics (`tuple[str, ...]`): the linked files, one a panel; often without an extension.
        place (`str`): `"body"`, `"appendix"`, `"supplementary material"`, `"abstract"` or `"sub-article"`.
        licence (`str`): the figure's own licence, as in [`Article`]; `""` without a statement.
        permissions (`str`): what the figure itself says about its rights; `""` where it says nothing.
    """

    label: str
    title: str
    caption: str
    graphics: tuple[str, ...]
    place: str
    licence: str
    permissions: str


@dataclass(frozen=True)
class Article:
    """An article.

    Args:
        pmcid (`str`): for example `"PMC13900"`; this and what follows is `""` where the article does not state it.
        pmid (`str`): the number in PubMed.
        doi (`str`): the DOI.
        published (`str`): `"2001-03-02"`, `"2001-03"` or `"2001"`.
        licence (`str`): an SPDX identifier, `"CC-BY"` and the like where no version is stated.
        permissions (`str`): the statement itself.
        language (`str`): ISO 639-1.
        figures (`list[Figure]`): in the order of the file.
    """

    pmcid: str
    pmid: str
    doi: str
    published: str
    licence: str
    permissions: str
    language: str
    figures: list[Figure] = field(default_factory=list)


def parse_article(data: bytes) -> Article:
    """Reads an article.

    Args:
        data (`bytes`): the `.nxml` file.

    Returns:
        [`Article`]: what it states.

    Raises:
        [`UnusableArticle`]: the XML is damaged ("malformed row") or declares entities ("unsafe file").
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    parser = DefusedXMLParser(forbid_dtd=False, forbid_entities=True, forbid_external=True)
    # The document type would declare the usual names (`&nbsp;`), but it is not fetched.
    parser.entity.update({name.rstrip(";"): text for name, text in html.entities.html5.items()})
    try:
        parser.feed(data)
        root = parser.close()
        return _article(root)
    except DefusedXmlException as error:
        raise UnusableArticle("unsafe file", _one_line(f"the XML declares what may not be used: {error}")) from error
    except (ParseError, LookupError, ValueError, RecursionError) as error:
        raise UnusableArticle("malformed row", _one_line(f"the XML cannot be read: {error}")) from error


def _article(root: "Element") -> Article:
    if _name(root) != "article":
        root = next((element for element in root.iter() if _name(element) == "article"), root)
    front = _child(root, "front")
    meta = _child(front, "article-meta") if front is not None else None
    children = list(meta) if meta is not None else []
    ids = {
        element.get("pub-id-type", ""): _one_line(_text(element))
        for element in children
        if _name(element) == "article-id"
    }
    pmcid = ids.get("pmcid") or ids.get("pmc", "")
    licence, permissions = _rights(meta)
    return Article(
        pmcid=f"PMC{pmcid}" if pmcid.isdigit() else pmcid,
        pmid=ids.get("pmid", ""),
        doi=ids.get("doi", ""),
        published=_published(children),
        licence=licence,
        permissions=permissions,
        language=root.get(_LANGUAGE, "en")[:2].lower() or "en",
        figures=list(_figures(root)),
    )


def _figures(root: "Element") -> Iterator[Figure]:
    """Walks the article with what surrounds each element; its depth is not bounded by Python's stack."""
    stack = [(root, "body", None)]
    while stack:
        element, place, group = stack.pop()
        name = _name(element)
        if name == "fig":
            yield _figure(element, place, group)
            continue
        place = _PLACES.get(name, place)
        if name == "fig-group":
            group = _child(element, "caption")
        stack += [(child, place, group) for child in reversed(element)]


def _figure(element: "Element", place: str, group_caption: "Element | None") -> Figure:
    caption = _child(element, "caption")
    if caption is None or not _plain(caption):
        caption = group_caption
    label, title = _child(element, "label"), _child(caption, "title") if caption is not None else None
    licence, permissions = _rights(element)
    return Figure(
        label=_plain(label),
        title=_plain(title),
        caption=_plain(caption),
        graphics=tuple(dict.fromkeys(_graphics(element))),
        place=place,
        licence=licence,
        permissions=permissions,
    )


def _graphics(element: "Element") -> Iterator[str]:
    stack = [element]
    while stack:
        current = stack.pop()
        name = _name(current)
        if name == "graphic":
            if current.get(_HREF, "").strip():
                yield current.get(_HREF).strip()
        elif name == "alternatives":  # several files of the same picture: the first is the one meant for reading
            first = next((child for child in current if _name(child) == "graphic" and child.get(_HREF)), None)
            if first is not None:
                yield first.get(_HREF).strip()
        elif name != "caption":
            stack += list(current)[::-1]


def _rights(holder: "Element | None") -> tuple[str, str]:
    """Licence and statement of an article or a figure; the licence may stand outside `permissions` in old files."""
    if holder is None:
        return "", ""
    boxes = [child for child in holder if _name(child) == "permissions"] or [holder]
    parts = [child for box in boxes for child in box if _name(child) in ("license", "copyright-statement")]
    licences = [part for part in parts if _name(part) == "license"]
    links = [value for part in licences for element in part.iter() for value in _links(element)]
    # Early articles put the licence into the copyright statement.
    statement = _one_line(" ".join(_plain(part) for part in licences or parts))
    return stated_licence(links, statement), statement[:500]


def _links(element: "Element") -> Iterator[str]:
    if element.get(_HREF):
        yield element.get(_HREF)
    if _name(element) == "license_ref" and element.text:  # ali:license_ref holds the link as its text
        yield element.text.strip()


def _published(children: list["Element"]) -> str:
    dates = {}
    for element in children:
        if _name(element) != "pub-date":
            continue
        kind = element.get("pub-type") or element.get("date-type") or ""
        parts = {_name(child): (child.text or "").strip() for child in element}
        if re.fullmatch(r"\d{4}", parts.get("year", "")):
            date = parts["year"]
            for part, most in (("month", 12), ("day", 31)):
                if not (parts.get(part, "").isdecimal() and 1 <= int(parts[part]) <= most):
                    break
                date += f"-{int(parts[part]):02d}"
            dates.setdefault(kind, date)
    return next((dates[kind] for kind in _DATES if kind in dates), "")


def _name(element: "Element") -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _child(element: "Element", name: str) -> "Element | None":
    return next((child for child in element if _name(child) == name), None)


def _plain(element: "Element | None") -> str:
    """The text of an element without markup; what was escaped twice is unescaped once more."""
    return "" if element is None else _one_line(html.unescape(_text(element)).translate(_INVISIBLE))


def _text(element: "Element") -> str:
    pieces, stack = [], [(element, False)]
    while stack:
        current, closing = stack.pop()
        apart = " " if _name(current) in _APART else ""
        if closing:
            pieces += [apart, current.tail or ""] if current is not element else [apart]
            continue
        stack.append((current, True))
        if _name(current) in _NO_TEXT:
            continue
        pieces += [apart, current.text or ""]
        stack += [(child, False) for child in reversed(current)]
    return "".join(pieces)


def _one_line(text: str) -> str:
    return " ".join(text.split())
