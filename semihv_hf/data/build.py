"""From a source to a dataset folder that `load_dataset` reads: the one way in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SemiHVError
from .skips import MAX_SKIPPED
from .sources import ADAPTERS

if TYPE_CHECKING:
    from .attestations import Attestation
    from .sources.base import Source

OPEN_PACKAGES = "open_packages"
SOURCES = (OPEN_PACKAGES, *ADAPTERS)


def build(
    source: "str | type[Source]",
    out_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    engine: str = "local",
    workers: int | None = None,
    max_skipped: float = MAX_SKIPPED,
    held_out: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    attestation: "Attestation | None" = None,
    overwrite: bool = False,
    progress: bool = True,
    cache_dir: str | Path | None = None,
    packages: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Builds a dataset folder that `load_dataset(out_dir, config)` reads.

    A release is read by several processes, block by block. A build that was killed, at whatever moment, goes on when
    it is called again in the same way, and its folder is then byte for byte that of an undisturbed one; so are
    folders that other numbers of workers, or another engine, have built.

    Args:
        source (`str` or `type[Source]`): one of `SOURCES`, or an adapter of your own.
        out_dir (`str` or `pathlib.Path`): the folder to write.
        data_dir (`str` or `pathlib.Path`, *optional*): the folder of the release; every source but `"open_packages"`
            needs it.
        options (`Mapping[str, Any]`, *optional*): the adapter's own options.
        engine (`str`, *optional*, defaults to `"local"`): `"local"` for processes of this machine, `"ray"` for a Ray
            cluster whose machines all see `data_dir` and `out_dir`.
        workers (`int`, *optional*): how many processes at most; by default one a processor. As elsewhere with Python's
            processes, a script that asks for several must call this under `if __name__ == "__main__":`.
        max_skipped (`float`, *optional*, defaults to 0.01): the share of a release that may be damaged, 0 to 1. What
            is left out by a rule of the source does not count.
        held_out (`float`, *optional*, defaults to 0.0): the share of patients or articles for the test split, where
            the release states no split.
        seed (`int`, *optional*, defaults to 0): chooses them; for `"open_packages"` it places tiles, chooses and
            orders questions.
        limit (`int`, *optional*): only the first items of the release; for `"open_packages"` at most so many cases per
            image kind and split.
        attestation ([`Attestation`], *optional*): a signed statement, kept in the manifest where it opened the gate.
        overwrite (`bool`, *optional*, defaults to `False`): whether another build in `out_dir` may be thrown away.
        progress (`bool`, *optional*, defaults to `True`): whether to show a progress bar.
        cache_dir (`str` or `pathlib.Path`, *optional*): where fetched packages are kept; for `"open_packages"` only.
        packages (`Sequence[str]`, *optional*): only images of these packages; for `"open_packages"` only.

    Returns:
        `dict`: the build report, see [`semihv_hf.data.building.report.build_report`], and `seconds`.

    Raises:
        `SemiHVError`: the source is unknown or may not be used, the folder is not its release, too much of it is
            damaged, or `out_dir` holds another build.
    """
    if source == OPEN_PACKAGES:
        from .sources.open_packages.build import build_open_packages

        return build_open_packages(
            out_dir, cache_dir=cache_dir, seed=seed, limit=limit, packages=packages, progress=progress
        )
    if isinstance(source, str) and source not in ADAPTERS:
        raise SemiHVError(f"Unknown source {source!r}.", f"Known are: {', '.join(SOURCES)}.")
    if data_dir is None:
        name = source if isinstance(source, str) else source.name
        raise SemiHVError(f"The source {name} needs the folder of its release.", "Pass data_dir, or --data-dir.")
    from .building.release import build_release

    return build_release(
        source,
        out_dir,
        data_dir=data_dir,
        options=options,
        engine=engine,
        workers=workers,
        max_skipped=max_skipped,
        held_out=held_out,
        seed=seed,
        limit=limit,
        attestation=attestation,
        overwrite=overwrite,
        progress=progress,
    )
