"""`semihv review`: from folders to a page, and from decisions to data."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.schema import TASKS, content_id
from semihv_hf.errors import SemiHVError

from .decisions import Decisions
from .export import export_reviews
from .items import Item, RecordFolders, list_pairs, list_records

if TYPE_CHECKING:
    from semihv_hf.data.attestations import Attestation


@dataclass
class Review:
    """A review that can be served or exported.

    Args:
        folders ([`RecordFolders`]): the records.
        items (`list[Item]`): what there is to decide about.
        decisions ([`Decisions`]): what was decided so far.
        alone (`int`): records of a comparison without a counterpart.
    """

    folders: RecordFolders
    items: list[Item]
    decisions: Decisions
    alone: int = 0

    def told(self) -> list[str]:
        """What there is, in lines for the user."""
        seen = self.decisions.by_item()
        done = sum(item.id in seen for item in self.items)
        lines = [f"{len(self.items):,} items, {done:,} of them decided by at least one person."]
        if self.alone:
            lines.append(f"{self.alone:,} records have no other answer to the same prompt and are not shown.")
        return lines

    def export(
        self, out: str | Path, *, only_reviewed: bool = True, attestation: Attestation | None = None
    ) -> dict[str, Any]:
        """See [`semihv_hf.curation.review.export.export_reviews`]."""
        return export_reviews(
            self.folders, self.items, self.decisions, out, only_reviewed=only_reviewed, attestation=attestation
        )


def open_review(
    data: str | Path,
    out: str | Path,
    *,
    against: str | Path | None = None,
    tasks: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
) -> Review:
    """Lists what there is to look at, and reads what was decided.

    Args:
        data (`str` or `pathlib.Path`): a folder of records.
        out (`str` or `pathlib.Path`): the folder of the decisions.
        against (`str` or `pathlib.Path`, *optional*): a second folder, for choosing between two answers.
        tasks (`Sequence[str]`, *optional*): only these tasks.
        sample (`int`, *optional*): only so many items.
        seed (`int`, *optional*, defaults to 0): their order, and with `sample` which.

    Returns:
        [`Review`]: the review.

    Raises:
        `SemiHVError`: a folder holds no records, there is nothing to look at, or `out` belongs to other records.
    """
    unknown = sorted(set(tasks) - set(TASKS))
    if unknown:
        raise SemiHVError(f"There is no task {unknown[0]!r}.", f"Known are: {', '.join(TASKS)}.")
    folders = RecordFolders([data] if against is None else [data, against])
    if against is None:
        items, alone = list_records(folders, tasks=tasks, sample=sample, seed=seed), 0
    else:
        items, alone = list_pairs(folders, tasks=tasks, sample=sample, seed=seed)
    if not items:
        raise SemiHVError("There is nothing to look at.", "See whether the folders hold records of these tasks.")
    # Not of the sample: a larger sample of the same records goes on with the same decisions.
    records = {"records": [_fingerprint(folders, number) for number in range(len(folders.folders))]}
    return Review(folders, items, Decisions(out, records), alone)


def _fingerprint(folders: RecordFolders, number: int) -> str:
    return content_id(*sorted({row["id"] for _, row in folders.places(number)}))


def serve_review(review: Review, host: str, port: int, say: Callable[[str], None]) -> None:
    """Shows the page until Ctrl-C.

    Args:
        review ([`Review`]): the review.
        host (`str`): the address to listen on.
        port (`int`): the port, 0 for any free one.
        say (`Callable`): is told the address to open.

    Raises:
        `SemiHVError`: the web server is not installed, or the port is taken.
    """
    try:
        import uvicorn

        from .app import review_app

        token = secrets.token_urlsafe(24)
        app = review_app(review.folders, review.items, review.decisions, token)
    except ImportError as error:
        raise SemiHVError(
            f"The page needs a web server ({error}).", "Install it: pip install 'semihv-hf[review]'."
        ) from error
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # from here on a browser waits, and is not refused, while the server starts
        except OSError as error:
            raise SemiHVError(
                f"Port {port} of {host} cannot be used: {error.strerror}.", "Give another --port."
            ) from error
        shown = f"[{host}]" if ":" in host else host
        say(f"Open http://{shown}:{listening.getsockname()[1]}/?token={token} in a browser. Ctrl-C ends it.")
        try:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
            server.run(sockets=[listening])
        finally:
            review.decisions.close()
