"""Cases that show or say what other cases show or say, and cases that a benchmark knows already.

```python
from semihv_hf.curation.near_duplicates import Duplicates, find_duplicates

summary = find_duplicates("data/all", benchmarks=["benchmarks/vqa_rad"], out_dir="work/duplicates")
found = Duplicates.load("work/duplicates")
found.dropped  # case ids to leave out
found.near(case_id)  # what may never be that case's evidence
```

**Duplicates** are two cases each of whose pictures the other has too, all but the same (hashes and thumbnails of
[`semihv_hf.data.overlap_images`], and vectors if given); of cases without any image, each of whose texts the other
has.
Two cases of one group, such as slices of one volume, are alike by nature: they are duplicates only if their pixels are
identical. Of duplicates the first stays: a held-out split before training, expert text before none, the larger image,
the smallest id. Cases are taken in this order, so each dropped case is a duplicate of the very case that is named as
kept: a chain of neighbours (slice 1 like 2, 2 like 3) is thinned, not reduced to one.

**Near** are, to a case: its group, the cases with a picture all but the same, and those with a text all but the same.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.overlap_images import dataset_name
from ..errors import SemiHVError
from ..files import atomic_file, canonical_json, write_json
from .duplicate_choice import Neighbours, choose
from .duplicate_options import DuplicateOptions
from .likeness import Likeness
from .near_files import DUPLICATES, MANIFEST, Duplicates, write_near
from .signature_cache import Shard, Signer, benchmark_files, case_files, progress_bar, sign_folders

__all__ = ["DuplicateOptions", "Duplicates", "find_duplicates"]
COLUMNS = ("id", "source", "split", "kept_id", "kept_source", "kept_split", "kind", "score")
_ROWS_AT_ONCE = 4096


def find_duplicates(
    cases_dir: str | Path,
    *,
    benchmarks: Sequence[str | Path] = (),
    out_dir: str | Path,
    options: DuplicateOptions | None = None,
    cache_dir: str | Path | None = None,
    engine: str = "local",
    workers: int | None = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Finds duplicates within a folder of cases, and what it shares with benchmarks.

    Writes `duplicates.parquet` (a row for each case that repeats another), `contamination.parquet` (a row for each
    case and item of a benchmark that share an image or text), `decontamination.md` (a table of both), `near_*.arrow`
    (read by [`Duplicates`]) and, last, `duplicates.json`. The files do not depend on the order of files and rows.
    Signatures of a shard are kept under its sha256; a second run over an unchanged folder decodes nothing.

    Args:
        cases_dir (`str` or `pathlib.Path`): a folder with a config of cases.
        benchmarks (`Sequence[str or pathlib.Path]`, *optional*): folders that `write_benchmark` wrote, or others.
        out_dir (`str` or `pathlib.Path`): where the files are written.
        options ([`DuplicateOptions`], *optional*): what counts as the same.
        cache_dir (`str` or `pathlib.Path`, *optional*): where signatures are kept; by default `out_dir/signatures`.
        engine (`str`, *optional*, defaults to `"local"`): who makes signatures, see [`semihv_hf.data.engines.engine`].
        workers (`int`, *optional*, defaults to 1): in how many processes; `None`: as many as there are processors.
        progress (`bool`, *optional*, defaults to `True`): whether a bar is shown.

    Returns:
        `dict`: the content of `duplicates.json`: `settings`, `inputs`, `counts`, `dropped`, `contaminated`, `sources`.

    Raises:
        `SemiHVError`: a folder is unknown or holds no rows, or two have the same name.
    """
    from .decontaminate import write_contamination

    options = options or DuplicateOptions()
    folders = [case_files(cases_dir), *(benchmark_files(folder) for folder in benchmarks)]
    names = [dataset_name(folder) for folder in (cases_dir, *benchmarks)]
    need_different_names(names)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    signer = Signer(Path(cache_dir or out / "signatures"), options.min_words, options.embedding)
    with progress_bar(shown=progress) as bar:
        shards = sign_folders(folders, signer, engine_name=engine, workers=workers, bar=bar)
        inputs = _inputs_of(shards, names, options)
        # The manifest comes last: without it the other files are not read.
        (out / MANIFEST).unlink(missing_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".scratch-", dir=out))
        try:
            likeness = Likeness(shards, signer, scratch)
            likeness.find_edges(
                distance=options.distance, correlation=options.correlation, jaccard=options.jaccard,
                embedding=options.embedding, bar=bar,
            )  # fmt: skip
            near = Neighbours(likeness)
            repeats = choose(likeness, near, options)
            written = _write_duplicates(likeness, repeats, out / DUPLICATES)
            write_near(likeness, near, out)
            contamination = write_contamination(likeness, near, folders, names, options, out, bar)
        finally:
            shutil.rmtree(scratch)
    summary = {
        "settings": options.settings(),
        "inputs": inputs,
        "cases": names[0],
        "benchmarks": sorted(names[1:]),
        "counts": dict(sorted(likeness.counts.items())),
        "dropped": written,
        **contamination,
    }
    write_json(out / MANIFEST, summary)
    return summary


def need_different_names(names: Sequence[str]) -> None:
    """Checks that a report can tell folders by their names.

    Args:
        names (`Sequence[str]`): the names.

    Raises:
        `SemiHVError`: one comes twice.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SemiHVError(f"Several folders are called {', '.join(twice)}.", "The report tells them by name: rename.")


def _inputs_of(shards: Sequence[Shard], names: Sequence[str], options: DuplicateOptions) -> str:
    seen = sorted([names[shard.owner], shard.file.split, shard.sha] for shard in shards)
    return hashlib.sha256(canonical_json([seen, options.settings()]).encode()).hexdigest()


def _write_duplicates(likeness: Likeness, repeats: list[tuple[int, int, str, float]], path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.float64() if name == "score" else pyarrow.string()) for name in COLUMNS])
    with atomic_file(path, "wb") as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(repeats), _ROWS_AT_ONCE):
            rows = []
            for case, kept, kind, score in repeats[start : start + _ROWS_AT_ONCE]:
                values = (*likeness.place(case), *likeness.place(kept), kind, score)
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    return len(repeats)
