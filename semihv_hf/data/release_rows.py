"""The rows of a release without building a folder first: what `load_dataset("semihvision", ...)` generates.

A release is cut into blocks of consecutive items, so that several processes can read it. Each block knows its items by
their number alone; whoever reads a block walks the cheap list up to there. Rows, their order, and what is left out for
which reason are those of a build ([`semihv_hf.data.building.blocks`]).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SemiHVError
from .building.failures import is_fatal
from .building.listing import listed
from .checks import validate_case, validate_record
from .columns import case_schema, question_schema, record_schema
from .configs import CASES, ROWS, wants
from .schema import SPLITS, Case
from .skips import Tally
from .sources.base import Item, Skipped, Source

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Block:
    """Consecutive items of one split.

    Args:
        source (`str`): the release.
        split (`str`): the split.
        first (`int`): the number of the first item among those of the split, counted from 0.
        stop (`int`): the number after the last.
    """

    source: str
    split: str
    first: int
    stop: int

    @property
    def name(self) -> str:
        """Its name, fit for a file."""
        return f"{self.source}-{self.split}-{self.first}-{self.stop}"


class ReleaseRows:
    """The rows of one release, block by block, in the order in which `semihv build` writes them.

    Args:
        source ([`Source`]): the release.
        rows (`str`): one of [`semihv_hf.data.configs.ROWS`].
    """

    def __init__(self, source: Source, rows: str):
        if rows not in ROWS:
            raise ValueError(f"rows is {rows!r}, not one of {', '.join(ROWS)}")
        self.source = source
        self.rows = rows
        self.listed = Tally()
        self._case_schema = case_schema()
        self._record_schema = record_schema()
        self._paused: dict[tuple[str, int], Iterator[Item]] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_paused": {}}  # a half-read list cannot travel to other processes

    def blocks(self, most: int) -> dict[str, list[Block]]:
        """Lists the release once and cuts it. What the list alone shows to be unusable is then in `listed`.

        Args:
            most (`int`): into how many blocks a split is cut, unless it has fewer items.

        Returns:
            `dict[str, list[Block]]`: by split, in the order of `SPLITS`; a split without items is absent.
        """
        counts: Counter[str] = Counter()
        self.listed = Tally()
        for item in listed(self.source):
            if isinstance(item, Skipped):
                self.listed.skipped[item.reason] += 1
            else:
                counts[item.split] += 1
        return {split: self._cut(split, counts[split], most) for split in SPLITS if counts[split]}

    def _cut(self, split: str, count: int, most: int) -> list[Block]:
        pieces = min(most, count)
        edges = [count * index // pieces for index in range(pieces + 1)]
        return [Block(self.source.name, split, first, stop) for first, stop in zip(edges, edges[1:])]

    def read(self, block: Block, tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
        """Reads the items of a block.

        Args:
            block ([`Block`]): one of [`blocks`].
            tally ([`Tally`]): counts what is kept and what is left out.

        Yields:
            `tuple[str, dict]`: a key that no other row of the release has, and the row.
        """
        items = self._paused.pop((block.split, block.first), None)
        if items is None:
            items = self._items(block.split, block.first)
        for number in range(block.first, block.stop):
            for index, row in enumerate(self._item_rows(next(items), tally)):
                yield f"{block.source}-{block.split}-{number}-{index}", row
        # The next block usually follows in the same process; without this each would walk the list from its start.
        self._paused = {(block.split, block.stop): items}

    def _items(self, split: str, first: int) -> Iterator[Item]:
        number = 0
        for item in listed(self.source):
            if isinstance(item, Item) and item.split == split:
                if number >= first:
                    yield item
                number += 1

    def _item_rows(self, item: Item, tally: Tally) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()  # an id depends on the case, so only rows of one item can repeat one another
        for case in _guarded(self.source.read, item):
            if isinstance(case, Skipped):
                tally.skipped[case.reason] += 1
                continue
            row = case.row()
            problem = _problem(row, validate_case, self._case_schema, seen)
            if problem:
                tally.skipped[problem] += 1
                continue
            tally.kept += 1
            for found in self._case_rows(case, row, seen):
                if isinstance(found, str):
                    tally.skipped[found] += 1
                else:
                    yield found

    def _case_rows(self, case: Case, row: dict[str, Any], seen: set[str]) -> Iterator[dict[str, Any] | str]:
        """What was asked for of a case; a text is the reason why a record is left out."""
        if self.rows == CASES:
            yield row
            return
        for record in _guarded(self.source.records, case):
            if isinstance(record, Skipped):
                yield record.reason
            elif wants(self.rows, record.task):
                row = record.row()
                yield _problem(row, validate_record, self._record_schema, seen) or row


class QuestionRows(ReleaseRows):
    """The rows of a release each of whose cases is a question of a benchmark.

    Args:
        source ([`Source`]): the release.
    """

    def __init__(self, source: Source):
        super().__init__(source, CASES)

    def _case_rows(self, case: Case, row: dict[str, Any], seen: set[str]) -> Iterator[dict[str, Any] | str]:
        from .benchmarks.question import validate_question
        from .sources.jama import question_of

        question = question_of(case).row()
        yield _problem(question, validate_question, question_schema(), seen) or question


def _guarded(read: Callable[[Any], Iterator], argument: Any) -> Iterator[Any]:
    """One damaged row must not end the reading of a release."""
    try:
        yield from read(argument)
    except Exception as error:
        if is_fatal(error):
            raise
        yield Skipped("", "malformed row", type(error).__name__)


def _problem(row: Mapping[str, Any], validate: Callable[[Mapping], None], schema: "pyarrow.Schema", seen: set) -> str:
    """The reason to leave out a row; nothing where there is none."""
    try:
        validate(row)
    except SemiHVError:
        return "malformed row"
    if row["id"] in seen:
        return "duplicate row"
    seen.add(row["id"])
    return "" if _fits(row, schema) else "malformed row"


def _fits(row: Mapping[str, Any], schema: "pyarrow.Schema") -> bool:
    """Whether the columns can hold a row: a lone surrogate or a huge number would end the writing of all."""
    import pyarrow

    try:
        pyarrow.Table.from_pylist([{**row, "images": []}], schema=schema)
    except (ValueError, TypeError, OverflowError):
        return False
    return True
