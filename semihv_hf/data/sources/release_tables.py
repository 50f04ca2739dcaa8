"""Tables of a release as adapters read them: with the number of each row, and one clear error for a wrong file."""

import csv
import zlib
from collections.abc import Iterator, Sequence

from ...errors import SemiHVError
from ..release import Release
from ..tables import csv_rows


def require_columns(release: Release, source: str, name: str, columns: Sequence[str]) -> None:
    """Checks that a table is the one that an adapter reads.

    Args:
        release ([`Release`]): the release.
        source (`str`): the source, for the message.
        name (`str`): the table, relative to the release.
        columns (`Sequence[str]`): the columns that are read.

    Raises:
        `SemiHVError`: a column is missing; the message lists what was expected and what is there.
    """
    try:
        with release.open_text(name) as file:
            found = [column.strip() for column in next(csv.reader(file), [])]
    except (EOFError, OSError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise _damaged(name, 0, error) from error
    missing = [column for column in columns if column not in found]
    if missing:
        raise SemiHVError(
            f"{name} is no {source} table: missing columns {', '.join(missing)}. "
            f"Found: {', '.join(column or '(unnamed)' for column in found) or 'nothing'}.",
            "Use the table as the release ships it.",
        )


def numbered_rows(release: Release, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a CSV table with the number of each row.

    Args:
        release ([`Release`]): the release.
        name (`str`): the table, relative to the release, plain or gzip.

    Yields:
        `tuple[int, dict[str, str]]`: the number, from 1 for the first row below the header, and the row as
        [`semihv_hf.data.tables.csv_rows`] gives it.

    Raises:
        `SemiHVError`: the file is torn or no text; the message says after which row.
    """
    number = 0
    rows = csv_rows(release, name)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (EOFError, OSError, UnicodeDecodeError, csv.Error, zlib.error) as error:
            raise _damaged(name, number, error) from error
        number += 1
        yield number, row


def _damaged(name: str, number: int, error: Exception) -> SemiHVError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return SemiHVError(f"{name} is damaged after row {number}: {reason}.", "Download it again.")
