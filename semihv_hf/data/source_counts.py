"""How many rows of a dataset come from which source."""

from collections import Counter
from collections.abc import Iterable, Mapping


def source_counts(rows: Iterable[Mapping]) -> list[dict]:
    """Counts a dataset's rows by source and licence, for the record of a stage.

    Args:
        rows (`Iterable[Mapping]`): rows with `source` and `licence`, such as a `datasets.Dataset`, of which only these
            two columns are read.

    Returns:
        `list[dict]`: `source`, `licence` and `rows`, sorted by source.

    Example:

    ```python
    >>> from semihv_hf.data.source_counts import source_counts
    >>> source_counts([{"source": "a", "licence": "MIT"}, {"source": "a", "licence": "MIT"}])
    [{'source': 'a', 'licence': 'MIT', 'rows': 2}]
    ```
    """
    if hasattr(rows, "select_columns"):
        rows = rows.select_columns(["source", "licence"])
    counts = Counter((row["source"], row["licence"]) for row in rows)
    return [{"source": source, "licence": licence, "rows": n} for (source, licence), n in sorted(counts.items())]
