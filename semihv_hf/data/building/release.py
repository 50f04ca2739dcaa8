"""The build of one release, from its folder to a finished dataset folder."""

import inspect
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ...files import write_json, write_text
from ...packages import file_sha256
from ...progress import ProgressBar, progress_bar
from .. import engines, licences
from ..attestations import Attestation
from ..columns import case_schema, record_schema
from ..configs import CONFIGS
from ..schema import SPLITS
from ..skips import MAX_SKIPPED
from ..sources import source_class
from ..sources.base import Source
from .assembly import ShardPlan, assemble_shard, survey
from .blocks import Job, build_block
from .listing import list_release
from .report import Counts, build_report, skipped_share
from .workspace import CARD, MANIFEST, REPORT, SKIPPED, code_fingerprint, fingerprint, workspace


def build_release(
    source: str | type[Source],
    out_dir: str | Path,
    *,
    data_dir: str | Path,
    options: Mapping[str, Any] | None = None,
    engine: str = "local",
    workers: int | None = None,
    max_skipped: float = MAX_SKIPPED,
    held_out: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    attestation: Attestation | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds the dataset folder of a release; see [`semihv_hf.data.build.build`], which is how to call it."""
    started = time.perf_counter()
    adapter = source_class(source) if isinstance(source, str) else source
    decision = licences.may_write(adapter.name, attestation=attestation)
    decision.check()
    if not 0 <= max_skipped <= 1:
        raise SemiHVError(f"max_skipped is {max_skipped}.", "Give a share from 0 to 1.")
    if limit is not None and limit < 1:
        raise SemiHVError(f"limit is {limit}.", "Give at least 1, or none.")
    release = open_release(adapter, data_dir, held_out=held_out, seed=seed, options=options)
    out = Path(out_dir)
    made_of = fingerprint(release, options or {}, limit)
    with (
        engines.engine(engine, workers) as machines,
        workspace(out, made_of, overwrite=overwrite) as work,
        progress_bar("listing", shown=progress) as bar,
    ):
        if work is None:
            return json.loads((out / REPORT).read_text(encoding="utf-8"))
        machines.start()
        listing = list_release(work, release, limit, lambda entries: bar.update(done=entries))
        columns = (case_schema(), record_schema())
        job = Job(release, listing, work, *columns, dict(code_fingerprint(adapter)))
        bar.begin("reading", listing.entries)
        tally = _Tally(bar)
        for _, done in machines.run(partial(build_block, job), listing.blocks):
            tally.advance(**done)
        plans, counts = survey(job, out)
        _check_skipped(counts, adapter.name, max_skipped, out)
        bar.begin("writing shards", len(plans))
        shards = _assemble(job, out, plans, machines, bar)
        _remove_others(out, shards)
        report = build_report(made_of, listing.entries, counts, shards)
        _finish(out, made_of, report, shards, attestation if decision.attested else None)
    return {**report, "seconds": round(time.perf_counter() - started, 2)}


def open_release(
    adapter: type[Source],
    data_dir: str | Path,
    *,
    held_out: float = 0.0,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Opens a release with its adapter's own options.

    Args:
        adapter (`type[Source]`): the adapter.
        data_dir (`str` or `pathlib.Path`): the folder of the release.
        held_out (`float`, *optional*, defaults to 0.0): see [`Source`].
        seed (`int`, *optional*, defaults to 0): see [`Source`].
        options (`Mapping[str, Any]`, *optional*): the adapter's options by name.

    Returns:
        [`Source`]: the release.

    Raises:
        `SemiHVError`: the folder does not hold the release, or the adapter has no such option.
    """
    known = [name for name in inspect.signature(adapter).parameters if name not in ("root", "held_out", "seed")]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        does = f"It has: {', '.join(known)}." if known else "It has none."
        raise SemiHVError(f"The source {adapter.name} has no option {unknown[0]!r}.", does)
    return adapter(data_dir, held_out=held_out, seed=seed, **(options or {}))


def _check_skipped(counts: Counts, name: str, max_skipped: float, out: Path) -> None:
    share = skipped_share(counts.tally)
    if share > max_skipped:
        raise SemiHVError(
            f"{share:.2%} of {name} is damaged, more than the {max_skipped:.2%} that may be: "
            f"{counts.tally.describe()}. Each is listed in {out / SKIPPED}.",
            "Mend or complete the release and start again, or raise --max-skipped; what was read is kept.",
        )
    if not counts.tally.kept:
        raise SemiHVError(f"Nothing of {name} was kept: {counts.tally.describe()}.", f"See {out / SKIPPED}.")


def _assemble(
    job: Job, out: Path, plans: list[ShardPlan], machines: engines.LocalEngine | engines.RayEngine, bar: ProgressBar
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    (job.work / "shards").mkdir(exist_ok=True)
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for plan, written in machines.run(partial(assemble_shard, job, out), plans):
        shard = {name: written[name] for name in ("file", "rows", "bytes", "sha256")}
        found.setdefault((plan.config, plan.split), {})[plan.index] = shard
        bar.advance(1)
    shards: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for config in CONFIGS:
        for split in SPLITS:
            if (config, split) in found:
                in_order = [shard for _, shard in sorted(found[config, split].items())]
                shards.setdefault(config, {})[split] = in_order
    return shards


def _remove_others(out: Path, shards: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> None:
    """Removes shards of a build that was thrown away, which would be read along with the new ones, and half files."""
    for path in (out / "data").glob("*/*.parquet"):
        if path.name not in {shard["file"] for shard in sum(shards.get(path.parent.name, {}).values(), [])}:
            path.unlink()
    for path in [*out.glob(".*.tmp"), *(out / "data").glob("*/.*.tmp")]:
        path.unlink()
    for path in (out / "data").iterdir():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _finish(
    out: Path,
    made_of: Mapping[str, Any],
    report: Mapping[str, Any],
    shards: Mapping[str, Any],
    attestation: Attestation | None,
) -> None:
    from ..card import dataset_card

    write_text(out / CARD, dataset_card(report))
    manifest = {
        "source": made_of["source"],
        "fingerprint": made_of,
        "report_sha256": write_json(out / REPORT, report),
        "skipped_sha256": file_sha256(out / SKIPPED),
        "attestation": attestation.manifest() if attestation else None,
        "shards": shards,
    }
    # Last of all: a folder without it is an unfinished build.
    write_json(out / MANIFEST, manifest)


class _Tally:
    """What the progress bar of a build tells beside how far it is.

    Args:
        bar ([`ProgressBar`]): the bar.
    """

    def __init__(self, bar: ProgressBar):
        self.bar = bar
        self.started = time.monotonic()
        self.rows = self.skipped = 0

    def advance(self, entries: int, rows: int, skipped: int) -> None:
        self.rows += rows
        self.skipped += skipped
        seconds = max(time.monotonic() - self.started, 1e-3)
        self.bar.update(note=f"{self.rows / seconds:,.0f} rows/s, {self.skipped:,} skipped")
        self.bar.advance(entries)
