"""Verbs that make datasets."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semihv_hf.errors import SemiHVError

from .common import Seed, example, say

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another build in the folder.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="An option of the source; `semihv sources NAME` lists them."),
]
Statement = Annotated[
    Path | None, typer.Option(help="A signed statement file, for a source whose use needs one (docs/licences.md).")
]
MaxSkipped = Annotated[float, typer.Option(min=0, max=1, help="Largest share that may be damaged.")]


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(epilog=example("semihv build eurorad --data-dir releases/eurorad --out data/eurorad"))(build)
    app.command(epilog=example("semihv benchmark slake --data-dir copies/SLAKE --out benchmarks/slake"))(benchmark)
    app.command(epilog=example("semihv sources eurorad"))(sources)
    app.command(epilog=example("semihv deidentify scans scans-clean --secret-file secret.txt"))(deidentify)


def build(
    source: Annotated[str, typer.Argument(help="The release to build; `semihv sources` lists them.")],
    out: Annotated[Path, typer.Option(help="Folder to write the dataset to.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the downloaded release.")] = None,
    option: Options = None,
    eurorad_permission: Annotated[
        Path | None, typer.Option(help="Permissions of the authors of Eurorad cases from before 6 July 2015.")
    ] = None,
    attestation: Statement = None,
    max_skipped: MaxSkipped = 0.01,
    held_out: Annotated[
        float, typer.Option(min=0, max=1, help="Share of patients for testing, where the release has no split.")
    ] = 0.0,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Most processes. By default one a processor.")] = None,
    seed: Seed = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first items; of open_packages, so many a kind and split.")
    ] = None,
    overwrite: Overwrite = False,
    cache_dir: Annotated[Path | None, typer.Option(help="Where fetched packages are kept.")] = None,
) -> None:
    """Turn an image release into a dataset folder: Parquet shards and a card. Resumes where it was stopped."""
    from semihv_hf.data.attestations import read_attestation
    from semihv_hf.data.build import build as build_dataset

    options = _options(option)
    if eurorad_permission is not None:
        if source not in ("eurorad", "med_instruction"):
            raise SemiHVError(f"--eurorad-permission says nothing about {source}.", "Leave it out.")
        options["permission"] = str(eurorad_permission)
    report = build_dataset(
        source,
        out,
        data_dir=data_dir,
        options=options,
        attestation=None if attestation is None else read_attestation(attestation),
        max_skipped=max_skipped,
        held_out=held_out,
        engine=engine,
        workers=workers,
        seed=seed,
        limit=limit,
        overwrite=overwrite,
        cache_dir=cache_dir,
    )
    rows = ", ".join(f"{config} {sum(splits.values())}" for config, splits in report["rows"].items())
    say(f"Wrote {out}: {rows}.")
    where = "build_report.json" if source == "open_packages" else "skipped.parquet"
    say(f"Left out: {_left_out(report)} (each with its reason in {out / where}).")


def benchmark(
    name: Annotated[str, typer.Argument(help="vqa_rad, slake, path_vqa, pmc_vqa, omnimedvqa, mmmu_medical, …")],
    out: Annotated[Path, typer.Option(help="Folder to write the questions to.")],
    data_dir: Annotated[str | None, typer.Option(help="A local copy, or another Hub id than the usual one.")] = None,
    split: Annotated[str | None, typer.Option(help="By default the split that the literature uses.")] = None,
    subset: Annotated[str | None, typer.Option(help="For example closed: see docs/benchmarks.md.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    option: Options = None,
    max_skipped: MaxSkipped = 0.01,
) -> None:
    """Write a benchmark as a folder of questions that `semihv predict` reads."""
    from semihv_hf.data.benchmarks import write_benchmark

    report = write_benchmark(
        name,
        out,
        source=data_dir,
        split=split,
        subset=subset,
        revision=revision,
        max_skipped=max_skipped,
        **_options(option),
    )
    say(f"Wrote {out}: {report['questions']} questions; left out: {_left_out(report)}.")


def sources(
    name: Annotated[str | None, typer.Argument(help="One source; without it, a line for each.")] = None,
) -> None:
    """Show which releases can be built, what their folders must hold, their options and what their licence allows."""
    from semihv_hf.data.sources.describe import print_source, print_sources

    if name is None:
        print_sources()
    else:
        print_source(name)


def deidentify(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM files.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, outside the first.")],
    secret_file: Annotated[Path, typer.Option(help="File with 16 characters or more.")],
    on_burned_in: Annotated[
        Literal["refuse", "mask"], typer.Option(help="What to do with images that may show text.")
    ] = "refuse",
    keep_characteristics: Annotated[
        bool, typer.Option("--keep-characteristics", help="Keep age, sex, size and weight.")
    ] = False,
) -> None:
    """Replace what DICOM headers say about people. Read docs/imaging.md for what is not promised."""
    from semihv_hf.data.deidentify import deidentify_folder

    if not secret_file.is_file():
        raise SemiHVError(f"There is no file {secret_file}.", "Write 16 characters or more into one, and keep it.")
    report = deidentify_folder(
        source,
        out,
        secret=secret_file.read_text(encoding="utf-8").strip(),
        on_burned_in=on_burned_in,
        keep_characteristics=keep_characteristics,
    )
    counts = ", ".join(
        f"{report[key]} {key.replace('_', ' ')}" for key in ("written", "refused", "failed", "not_dicom")
    )
    say(f"{report['total']} files: {counts}. The log: {report['log']}")
    if report["not_dicom"] == report["total"]:
        raise SemiHVError(f"{source} holds no DICOM file.", "Give the folder that holds them.")
    if report["failed"]:
        raise typer.Exit(1)


def _options(given: list[str] | None) -> dict[str, Any]:
    """Options as a source takes them: numbers, true and false, lists are what YAML says they are."""
    import yaml

    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise SemiHVError(f"--option {text!r} is not of the form NAME=VALUE.")
        try:
            options[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SemiHVError(f"--option {text!r} holds no YAML value.", "Put the value in quotes.") from error
    return options


def _left_out(report: dict) -> str:
    skipped = report.get("skipped") or {}
    if isinstance(skipped, list):
        return str(len(skipped))
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "nothing"
