"""What each source allows, and the three gates that ask: sending to a server, writing to disk, publishing.

The registry is `licences.yaml` beside this module. A gate answers with a [`Decision`]; it never changes anything. What
a source leaves open counts as forbidden until the user signs a statement ([`semihv_hf.data.attestations`]), which is
kept in the output's manifest; what a source forbids outright no statement opens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import SemiHVError

if TYPE_CHECKING:
    from .attestations import Attestation

# From free to forbidden.
TERMS = ("yes", "conditions", "unknown", "no", "never")
CONDITIONS = ("attribution", "share-alike", "use restrictions", "non-commercial")
TAG_NOTE = "A package's licence tag does not prove the rights in an image."


@dataclass(frozen=True)
class SourceLicence:
    """What is known about the rights in one source.

    Args:
        source (`str`): the source's name, as in `Case.source`.
        title (`str`): its name for people.
        licence (`str`): the licence that it states, as an SPDX identifier where there is one.
        link (`str`): where that is stated.
        use (`str`): whether a copy may be used for training at all, one of `TERMS`.
        send (`str`): whether its data may be sent to a server that is not on this machine.
        redistribute (`str`): whether its images and texts may be passed on.
        share_derived (`str`): whether texts that were made from it may be passed on without it.
        conditions (`tuple[str, ...]`): what must be kept where it is passed on, of `CONDITIONS`.
        from_date (`datetime.date` or `None`): only what was published from this day on is under these terms.
        attribution (`str`): whom to name.
        note (`str`): what else there is to know.
        kind (`str`): `"release"`, or `"package"` for images that ship inside a registry package.
    """

    source: str
    title: str
    licence: str
    link: str
    use: str
    send: str
    redistribute: str
    share_derived: str
    conditions: tuple[str, ...] = ()
    from_date: date | None = None
    attribution: str = ""
    note: str = ""
    kind: str = "release"

    def allows_date(self, published: date | None) -> bool:
        """Whether something that was published on a day is under these terms.

        Args:
            published (`datetime.date` or `None`): the day; an unknown one counts as too early.

        Returns:
            `bool`: always `True` for a source without a date rule.
        """
        return self.from_date is None or (published is not None and published >= self.from_date)


@dataclass(frozen=True)
class Decision:
    """The answer of a gate.

    Args:
        allowed (`bool`): whether to go on.
        reason (`str`): why, or why not.
        attested (`bool`): whether only a signed statement opened it.
    """

    allowed: bool
    reason: str
    attested: bool = False

    def check(self, do: str = "Leave this source out.") -> None:
        """Stops here when the gate said no.

        Args:
            do (`str`, *optional*): what to tell the user to do.

        Raises:
            `SemiHVError`: the gate said no; the message carries its reason.
        """
        if not self.allowed:
            raise SemiHVError(self.reason, do)


@lru_cache(maxsize=1)
def registry() -> Mapping[str, SourceLicence]:
    """All known sources.

    Returns:
        `Mapping[str, SourceLicence]`: by name.
    """
    import yaml

    text = (Path(__file__).parent / "licences.yaml").read_text(encoding="utf-8")
    return {name: _entry(name, fields) for name, fields in yaml.safe_load(text)["sources"].items()}


def _entry(name: str, fields: dict[str, Any]) -> SourceLicence:
    fields = {"title": name, **fields, "conditions": tuple(fields.get("conditions", ()))}
    if fields.get("kind") == "package":
        fields["note"] = f"{fields['note']} Licence stated in the package's metadata. {TAG_NOTE}".strip()
    entry = SourceLicence(source=name, **fields)
    for term in ("use", "send", "redistribute", "share_derived"):
        if getattr(entry, term) not in TERMS:
            raise SemiHVError(f"licences.yaml, {name}: {term} is {getattr(entry, term)!r}, not one of {TERMS}.")
    if not set(entry.conditions) <= set(CONDITIONS):
        raise SemiHVError(f"licences.yaml, {name}: conditions are {entry.conditions}, not of {CONDITIONS}.")
    return entry


def source_licence(source: str) -> SourceLicence:
    """The entry of a source.

    Args:
        source (`str`): its name.

    Returns:
        [`SourceLicence`]: the entry.

    Raises:
        `SemiHVError`: the source is not registered.
    """
    entry = registry().get(source)
    if entry is None:
        raise SemiHVError(
            f"Source {source!r} has no entry in the licence registry.",
            "Add one to semihv_hf/data/licences.yaml before its data is used.",
        )
    return entry


def is_local_url(base_url: str) -> bool:
    """Whether an address is on this machine.

    Args:
        base_url (`str`): an address such as `http://127.0.0.1:8000/v1`.

    Returns:
        `bool`: `True` for loopback addresses only.
    """
    host = urlsplit(base_url if "//" in base_url else f"//{base_url}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def may_send(source: str, base_url: str, *, attestation: "Attestation | None" = None) -> Decision:
    """Gate 1: may text or pixels of a source leave this process for a server?

    Args:
        source (`str`): the source.
        base_url (`str`): the server's address.
        attestation ([`Attestation`], *optional*): what the user signed.

    Returns:
        [`Decision`]: the answer with its reason.
    """
    if is_local_url(base_url):
        return Decision(True, f"{base_url} is on this machine.")
    return _decide(source, "send", f"be sent to {base_url}", attestation, base_url)


def may_write(source: str, *, attestation: "Attestation | None" = None) -> Decision:
    """Gate 2: may a source be used, and shards with its rows be written to disk?

    Args:
        source (`str`): the source.
        attestation ([`Attestation`], *optional*): what the user signed.

    Returns:
        [`Decision`]: the answer with its reason.
    """
    return _decide(source, "use", "be written into a data set", attestation)


def may_publish(source: str, *, derived: bool = False, attestation: "Attestation | None" = None) -> Decision:
    """Gate 3: may a source be pushed to a place that others can read?

    Args:
        source (`str`): the source.
        derived (`bool`, *optional*, defaults to `False`): only texts that were made from it, none of its own texts
            and images.
        attestation ([`Attestation`], *optional*): what the user signed.

    Returns:
        [`Decision`]: the answer with its reason.
    """
    what = "be published as derived texts" if derived else "be published"
    return _decide(source, "share_derived" if derived else "redistribute", what, attestation)


def _decide(
    source: str, term: str, what: str, attestation: "Attestation | None", base_url: str | None = None
) -> Decision:
    entry = registry().get(source)
    if entry is None:
        return Decision(False, f"Source {source!r} has no entry in the licence registry, so it may not {what}.")
    named = f"Source {source!r} ({entry.licence})"
    answer = getattr(entry, term)
    if answer == "yes":
        return Decision(True, f"{named} may {what}.")
    if answer == "conditions":
        return Decision(True, f"{named} may {what} under its conditions: {', '.join(entry.conditions)}.")
    if answer != "never" and attestation is not None and attestation.covers(source, term, base_url):
        return Decision(True, f"{named} may {what}: attested by {attestation.signed_by}.", attested=True)
    because = f"{entry.note} ({entry.link})" if entry.note else f"see {entry.link}"
    return Decision(False, f"{named} may not {what}: {because}")


@dataclass(frozen=True)
class Mixture:
    """The terms of several sources together: of every term the most restrictive.

    Args:
        sources (`tuple[str, ...]`): the sources, sorted.
        licence (`str`): the licence of the most restrictive source; several, joined by `" AND "`, where they tie.
        use (`str`): one of `TERMS`.
        send (`str`): one of `TERMS`.
        redistribute (`str`): one of `TERMS`.
        share_derived (`str`): one of `TERMS`.
        conditions (`tuple[str, ...]`): the conditions of all sources.
        conflicts (`tuple[str, ...]`): licences that cannot be kept at once, in words.
    """

    sources: tuple[str, ...]
    licence: str
    use: str
    send: str
    redistribute: str
    share_derived: str
    conditions: tuple[str, ...]
    conflicts: tuple[str, ...]


def mixture(sources: Iterable[str]) -> Mixture:
    """The terms of a set that is made of several sources.

    Args:
        sources (`Iterable[str]`): their names.

    Returns:
        [`Mixture`]: the most restrictive of every term.

    Raises:
        `SemiHVError`: there is no source, or one is not registered.
    """
    entries = [source_licence(name) for name in sorted(set(sources))]
    if not entries:
        raise SemiHVError("A mixture of no sources has no licence.")
    terms = {
        term: max((getattr(entry, term) for entry in entries), key=TERMS.index)
        for term in ("use", "send", "redistribute", "share_derived")
    }
    ranks = {entry.source: _restriction(entry) for entry in entries}
    strictest = max(ranks.values())
    licences = sorted({entry.licence for entry in entries if ranks[entry.source] == strictest})
    conditions = {condition for entry in entries for condition in entry.conditions}
    return Mixture(
        tuple(entry.source for entry in entries),
        " AND ".join(licences),
        **terms,
        conditions=tuple(condition for condition in CONDITIONS if condition in conditions),
        conflicts=_conflicts(entries),
    )


def _restriction(entry: SourceLicence) -> tuple[int, int]:
    heaviest = max((CONDITIONS.index(condition) for condition in entry.conditions), default=-1)
    return TERMS.index(entry.redistribute), heaviest


def _conflicts(entries: list[SourceLicence]) -> tuple[str, ...]:
    """Share-alike binds the whole to one licence; two different ones cannot both have it."""
    alike = sorted({entry.licence for entry in entries if "share-alike" in entry.conditions})
    if len(alike) < 2:
        return ()
    return (f"share-alike under different licences: {', '.join(alike)}; pass these sources on apart",)
