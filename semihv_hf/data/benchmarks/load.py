"""A benchmark as a stream of questions, or as a dataset folder that `load_dataset` reads without this package."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ...files import atomic_file, write_json, write_text
from ..columns import question_schema
from ..schema import content_id
from ..shards import write_shards
from ..skips import MAX_SKIPPED, Tally
from . import benchmark_class
from .base import QuestionStream
from .question import validate_question

CONFIG = "questions"
REPORT = "benchmark.json"


def load_benchmark(
    name: str,
    *,
    source: str | Path | None = None,
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
    check_counts: bool = False,
    **options: Any,
) -> QuestionStream:
    """Reads a benchmark with the split and filter that the literature uses; `docs/benchmarks.md` lists them.

    Rows that cannot be used are counted in the stream's `skipped`, rows that the subset leaves out in `filtered`.

    Args:
        name (`str`): one of [`semihv_hf.data.benchmarks.BENCHMARKS`].
        source (`str` or `pathlib.Path`, *optional*): a Hub id, or a local copy in the layout of the repository; the
            benchmark's own repository by default.
        split (`str`, *optional*): the split; the one that is usually reported by default.
        subset (`str`, *optional*): a part of the split, such as `"closed"`.
        revision (`str`, *optional*): a branch, tag or commit on the Hub.
        streaming (`bool`, *optional*, defaults to `True`): read the rows of Parquet repositories over the network one
            by one. Repositories that keep their images in archives are always downloaded first.
        check_counts (`bool`, *optional*, defaults to `False`): at the end, compare with the size of the full set.
        options: what the benchmark's own class takes, such as `open_questions` of MMMU.

    Returns:
        [`QuestionStream`]: an iterator of [`Question`].

    Raises:
        `SemiHVError`: the benchmark, split or subset is unknown, its files are not there, or, while reading, the
            counts differ from those of the full set.

    Example:
        ```python
        >>> from semihv_hf.data.benchmarks import load_benchmark

        >>> questions = load_benchmark("slake", source="copies/SLAKE", subset="closed")
        >>> first = next(questions)
        ```
    """
    benchmark = benchmark_class(name)(
        source, split=split, subset=subset, revision=revision, streaming=streaming, **options
    )
    return QuestionStream(benchmark, check_counts)


def write_benchmark(
    name: str,
    out_dir: str | Path,
    *,
    source: str | Path | None = None,
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
    check_counts: bool = True,
    max_skipped: float = MAX_SKIPPED,
    **options: Any,
) -> dict[str, Any]:
    """Writes a benchmark as a dataset folder with the config `"questions"`.

    Args:
        name (`str`): see [`load_benchmark`], as for all that is not listed here.
        out_dir (`str` or `pathlib.Path`): the folder; questions of the same split in it are replaced.
        check_counts (`bool`, *optional*, defaults to `True`): refuse a copy whose size is not that of the full set.
        max_skipped (`float`, *optional*, defaults to 0.01): the share of rows that may be damaged.
        source, split, subset, revision, streaming, options: see [`load_benchmark`].

    Returns:
        `dict`: the report that `benchmark.json` holds, written last: name, split, subset, counts, shards.

    Raises:
        `SemiHVError`: see [`load_benchmark`]; besides, no question is left, or too many rows are damaged.
    """
    stream = load_benchmark(
        name,
        source=source,
        split=split,
        subset=subset,
        revision=revision,
        streaming=streaming,
        check_counts=check_counts,
        **options,
    )
    benchmark = stream.benchmark
    out = Path(out_dir)
    folder = out / "data" / CONFIG
    # An earlier report would vouch for shards that are about to be replaced.
    (out / REPORT).unlink(missing_ok=True)
    for old in folder.glob(f"{benchmark.split}-*.parquet"):
        old.unlink()
    shards = write_shards(_rows(stream), folder, benchmark.split, question_schema())
    if not shards:
        raise SemiHVError(f"{benchmark.title}: no question is left of split {benchmark.split}: {stream.summary()}.")
    skipped: Tally = Tally(stream.questions.total())
    skipped.skipped.update(entry.reason for entry in stream.skipped)
    skipped.check(benchmark.title, max_skipped)
    _write_skipped(stream, out / "skipped.parquet")
    report = {
        "benchmark": name,
        "title": benchmark.title,
        "licence": benchmark.licence,
        "link": benchmark.link,
        "hub_id": benchmark.hub_id,
        "revision": revision,
        "split": benchmark.split,
        "subset": benchmark.subset,
        "options": options,
        **stream.summary(),
        "content": content_id(*(shard["sha256"] for shard in shards)),
        "shards": shards,
    }
    write_text(out / "README.md", _card(report))
    write_json(out / REPORT, report)
    return report


def _rows(stream: QuestionStream) -> Iterator[dict[str, Any]]:
    for question in stream:
        row = question.row()
        validate_question(row)
        yield row


def _write_skipped(stream: QuestionStream, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("source", "source_id", "reason", "detail")])
    rows = [{"source": stream.benchmark.name, **asdict(entry)} for entry in stream.skipped]
    with atomic_file(path, "wb") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file)


def _card(report: dict[str, Any]) -> str:
    lines = [
        "---",
        f"pretty_name: {report['title']}, {report['split']} questions",
        "license: other",
        "configs:",
        f"- config_name: {CONFIG}",
        # `datasets` caches a folder by its name and this description; without it, another folder of the same name,
        # or this one after it was written anew, would be read from the cache with its old rows.
        f"  description: content {report['content']}",
        "  data_files:",
        f"  - split: {report['split']}",
        f"    path: data/{CONFIG}/{report['split']}-*.parquet",
        "---",
        "",
        f"# {report['title']}",
        "",
        f"Split {report['split']}, subset {report['subset']} of [{report['title']}]({report['link']}), written by "
        "`semihv_hf.data.benchmarks.write_benchmark`. These are questions to test with, **not to train on**.",
        "",
        f"Licence that the benchmark states: {report['licence']}.",
        "",
        "| | rows |",
        "|---|---|",
        *(f"| {kind} questions | {count} |" for kind, count in report["questions"].items()),
        *(f"| left out by the subset: {rule} | {count} |" for rule, count in report["filtered"].items()),
        *(f"| skipped: {reason} | {count} |" for reason, count in report["skipped"].items()),
        "",
    ]
    return "\n".join(lines)
