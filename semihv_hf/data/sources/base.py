"""What every adapter is: a list of what a release holds, and a way to read one thing of it.

The two are apart so that the list, which is cheap, can be cut into blocks that are read in any order, by any number
of processes or machines, and read again after a crash, with the same result.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...errors import SemiHVError
from ..release import Release
from ..schema import SPLITS, Case, Record
from .splits import held_out_split

# Why something of a release is left out. Damage counts against `--max-skipped`; an exclusion is a rule of the source
# or a choice of the user, and may concern any share of a release.
DAMAGE = (
    "unreadable image",
    "missing image",
    "missing text",
    "unknown label",
    "malformed row",
    "duplicate row",
    "unsafe file",
    "bad region",
)
EXCLUSIONS = ("date rule", "short caption", "refusal", "known bad file", "not medical", "burnt-in text", "licence")


@dataclass(frozen=True)
class Item:
    """One thing that a release lists: what becomes one case.

    Args:
        source_id (`str`): its place inside the release, unique there; no path of this machine.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        data (`dict[str, Any]`): what reading it needs, as JSON can hold it: the row of a table, names of files
            relative to the release.
    """

    source_id: str
    split: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """Something of a release that became no row, with the reason.

    Args:
        source_id (`str`): its place inside the release.
        reason (`str`): one of `DAMAGE` or `EXCLUSIONS`.
        detail (`str`): what exactly, in one line, without paths of this machine.
    """

    source_id: str
    reason: str
    detail: str = ""

    def __post_init__(self):
        if self.reason not in DAMAGE and self.reason not in EXCLUSIONS:
            raise ValueError(f"{self.reason!r} is no known reason for leaving something out")

    @property
    def is_damage(self) -> bool:
        """Whether it counts against the share that may be skipped."""
        return self.reason in DAMAGE


class Source(ABC):
    """An adapter of one upstream release.

    A subclass names its files in `layout`, lists what the release holds in [`items`], and reads one of them in
    [`read`]. Keyword arguments of its `__init__` beyond those here are its options; they must be what JSON can hold.

    Args:
        root (`str` or `pathlib.Path`): the folder of the release as it was downloaded.
        held_out (`float`, *optional*, defaults to 0.0): the share of groups that go to the test split, where the
            release states no split of its own.
        seed (`int`, *optional*, defaults to 0): chooses those groups.

    Raises:
        `SemiHVError`: the folder does not hold the release; the message says what was expected and what is there.
    """

    name: ClassVar[str]
    # What a right folder holds: (file or pattern relative to the release, what it is). Alternatives are several
    # patterns parted by " | ".
    layout: ClassVar[tuple[tuple[str, str], ...]]
    # Options that name files or folders outside the release.
    path_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: str | Path, *, held_out: float = 0.0, seed: int = 0):
        if not 0 <= held_out < 1:
            raise SemiHVError(f"held_out is {held_out}.", "Give a share from 0 up to, but not, 1.")
        self.release = Release(root)
        self.held_out = held_out
        self.seed = seed
        self.release.require(self.name, self.layout)

    @abstractmethod
    def items(self) -> Iterator[Item | Skipped]:
        """Lists the release in a fixed order, without reading an image and without holding the list in memory.

        Yields:
            [`Item`] or [`Skipped`]: what is to be read, and what the tables alone show to be unusable.
        """

    @abstractmethod
    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads one item: decodes its images, so that what is passed on is known to be readable.

        Depends on nothing but the item, the release and the options.

        Args:
            item ([`Item`]): as [`items`] gave it.

        Yields:
            [`Case`] or [`Skipped`]: usually one.
        """

    def records(self, case: Case) -> Iterator[Record | Skipped]:
        """Training conversations that the case's own texts allow, without any model.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`] or [`Skipped`]: none by default.
        """
        return iter(())

    def metadata(self) -> list[str]:
        """The tables and lists that [`items`] reads, relative to the release; a resumed build checks them.

        Returns:
            `list[str]`: files that match `layout` and hold no pixels.
        """
        return self.release.tables(self.layout)

    def split_of(self, stated: str | None, group: str) -> str:
        """The split of an item.

        Args:
            stated (`str` or `None`): the split that the release states, in this project's words; `None` without one.
            group (`str`): the patient, study or article that must not be cut apart.

        Returns:
            `str`: the stated split, or one that depends on the group and the seed alone.
        """
        if stated is None:
            return held_out_split(group, self.held_out, self.seed)
        if stated not in SPLITS:
            raise ValueError(f"split {stated!r} is not one of {', '.join(SPLITS)}")
        return stated
