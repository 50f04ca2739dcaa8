"""How many rows of a dataset come from which source."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING

from .licences import registry

if TYPE_CHECKING:
    import pyarrow

# The columns that say where a row, and what was retrieved for it, come from, and since when its source is free.
COLUMNS = ("source", "licence", "evidence", "facts")
_ROWS = 1000


def source_counts(rows: Iterable[Mapping]) -> list[dict]:
    """Counts a dataset's rows by source and licence, for the record of a stage.

    A text that was retrieved for a row travels in it, so its source counts, too.

    Args:
        rows (`Iterable[Mapping]`): rows with `source` and `licence`, and perhaps `evidence` and `facts`, such as a
            `datasets.Dataset`, of which only these columns are read.

    Returns:
        `list[dict]`: `source`, `licence` and `rows`, sorted by source; and `early`, of a source that is free from some
        day on: how many of the rows are not shown to be from that day or later.

    Example:

    ```python
    >>> from semihv_hf.data.source_counts import source_counts
    >>> source_counts([{"source": "a", "licence": "MIT"}, {"source": "a", "licence": "MIT"}])
    [{'source': 'a', 'licence': 'MIT', 'rows': 2}]
    ```
    """
    counts: Counter[tuple[str, str]] = Counter()
    early: Counter[tuple[str, str]] = Counter()
    for batch in _batches(rows):
        for pairs, too_early in row_sources(batch):
            counts.update(pairs)
            early.update(pair for pair in pairs if pair[0] in too_early)
    dated = dates()
    return [
        {
            **{"source": source, "licence": licence, "rows": count},
            **({"early": early[source, licence]} if source in dated else {}),
        }
        for (source, licence), count in sorted(counts.items())
    ]


def row_sources(batch: "pyarrow.RecordBatch") -> Iterator[tuple[set[tuple[str, str]], set[str]]]:
    """Tells of each row where it comes from.

    Args:
        batch (`pyarrow.RecordBatch`): rows with those of `COLUMNS` that they have.

    Yields:
        `tuple[set, set]`: source and licence of the row and of what was retrieved for it (a name that is missing is
        empty, which no source is called), and the sources of them that are free from some day on and for which the row
        is not shown to be from that day or later.

    Raises:
        `KeyError`: there is no column `source`.
        `pyarrow.ArrowException`: a column is not of the kind that a build writes.
    """
    named = batch.column("source").to_pylist()
    licences = batch.column("licence").to_pylist() if "licence" in batch.schema.names else [None] * len(named)
    pairs = [{(_text(source), _text(licence))} for source, licence in zip(named, licences)]
    for place, source, licence in _inside(batch, "evidence", "source", "licence"):
        pairs[place].add((_text(source), _text(licence)))
    dated = dates()
    concerned = any(source in dated for found in pairs for source, _ in found)
    published: dict[int, str] = {}
    for place, name, value in _inside(batch, "facts", "name", "value") if concerned else ():
        if name == "published":
            published.setdefault(place, _text(value))
    for place, found in enumerate(pairs):
        own = _text(named[place])
        # The day of a text that was retrieved is not in the row.
        yield (
            found,
            {
                source
                for source, _ in found
                if source in dated and (source != own or not _on_or_after(published.get(place, ""), dated[source]))
            },
        )


def dates() -> dict[str, date]:
    """The sources that are free from some day on.

    Returns:
        `dict[str, datetime.date]`: the day, by source.
    """
    return {name: entry.from_date for name, entry in registry().items() if entry.from_date is not None}


def _batches(rows: Iterable[Mapping]) -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow

    if hasattr(rows, "select_columns"):
        rows = rows.select_columns([name for name in COLUMNS if name in rows.column_names])
        for table in rows.with_format("arrow").iter(_ROWS):
            yield from table.combine_chunks().to_batches()
    else:
        columns = [{name: row[name] for name in COLUMNS if name in row} for row in rows]
        yield from pyarrow.Table.from_pylist(columns).to_batches() if columns else ()


def _inside(batch: "pyarrow.RecordBatch", column: str, *fields: str) -> Iterator[tuple]:
    """The row, and some fields, of each entry of a column of lists; the others may hold long texts."""
    import pyarrow.compute as pc

    if column not in batch.schema.names or batch.column(column).null_count == len(batch):
        return
    found = batch.column(column)
    flat = pc.list_flatten(found)
    parts = [pc.struct_field(flat, field).to_pylist() for field in fields]
    yield from zip(pc.list_parent_indices(found).to_pylist(), *parts)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _on_or_after(published: str, day: date) -> bool:
    try:
        return date.fromisoformat(published) >= day
    except ValueError:
        return False
