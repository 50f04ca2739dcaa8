"""The licence that an article states, as an SPDX identifier."""

import re
from collections.abc import Sequence

_LINK = re.compile(r"creativecommons\.org/licen[sc]es/(by(?:-nc)?(?:-nd|-sa)?)(?:/(\d\.\d))?", re.IGNORECASE)
_ZERO = re.compile(r"creativecommons\.org/(?:publicdomain/zero|licen[sc]es/zero|licen[sc]es/cc0)", re.IGNORECASE)
_SHORT = re.compile(r"\bCC[ -](BY(?:[ -]NC)?(?:[ -](?:ND|SA))?)\b(?:[ -]?(\d\.\d))?")
_CREATIVE_COMMONS = re.compile(r"creative\s+commons\s+attribution", re.IGNORECASE)
_VERSION = re.compile(r"\b([1-4]\.0)\b")


def stated_licence(links: Sequence[str], statement: str) -> str:
    """The Creative Commons licence that links or words of a statement name.

    Args:
        links (`Sequence[str]`): the addresses in it; a licence's address says more than its description.
        statement (`str`): the words.

    Returns:
        `str`: for example `"CC-BY-4.0"`, `"CC-BY-NC"` without a version, `"CC0-1.0"`; `""` where none is named.
    """
    for text in (*links, statement):
        if _ZERO.search(text):
            return "CC0-1.0"
        found = _LINK.search(text)
        if found:
            return _identifier(found[1], found[2])
    found = _SHORT.search(statement)
    if found:
        return _identifier(found[1], found[2])
    if re.search(r"\bCC0\b|creative\s+commons\s+(?:public\s+domain|zero)", statement, re.IGNORECASE):
        return "CC0-1.0"
    begin = _CREATIVE_COMMONS.search(statement)
    if begin is None:
        return ""
    # The terms stand in the name of the licence, before the words on what it permits.
    name = re.split(r"licen[sc]e|which|,", statement[begin.end() :], maxsplit=1, flags=re.IGNORECASE)[0].lower()
    terms = "by"
    terms += "-nc" if re.search(r"non-?\s?commercial", name) else ""
    terms += "-nd" if re.search(r"no-?\s?deriv", name) else "-sa" if re.search(r"share-?\s?alike", name) else ""
    version = _VERSION.search(statement[begin.end() :][:120])
    return _identifier(terms, version[1] if version else "")


def _identifier(terms: str, version: str | None) -> str:
    name = f"CC-{terms.upper().replace(' ', '-')}"
    return f"{name}-{version}" if version else name
