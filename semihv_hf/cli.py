"""The command line `semihv`: one thin function a verb. What a verb does lives in the module it imports."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from semihv_hf.errors import SemiHVError

app = typer.Typer(
    name="semihv",
    help="A medical vision-language model, from clinical image releases to a judged checkpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn at random.")]
JudgeBaseUrl = Annotated[
    str | None, typer.Option(help="Address of the judge, an OpenAI-compatible server: http://host:port/v1")
]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's model name.")]


def _example(command: str) -> str:
    """The example at the end of a verb's help."""
    return f"Example:  [cyan]{command}[/cyan]"


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of a failure.")] = False,
) -> None:
    """Options of every verb; `main` reads `--verbose` wherever it stands."""


@app.command(epilog=_example("semihv quickstart --out runs/quickstart"))
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run; finished stages in it are reused.")] = Path(
        "runs/quickstart"
    ),
    size: Annotated[Literal["full", "tiny"], typer.Option(help="tiny: few images and steps, for a test.")] = "full",
    seed: Seed = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do every stage again.")] = False,
    text_model: Annotated[
        str | None, typer.Option(help="A Llama-architecture model: folder or Hub id. By default SmolLM2-135M.")
    ] = None,
    judge_base_url: JudgeBaseUrl = None,
    judge_model: JudgeModel = None,
) -> None:
    """Build, train, predict, score and report on real images, in one go."""
    from semihv_hf.quickstart import run_quickstart

    run_quickstart(
        out,
        size=size,
        seed=seed,
        fresh=fresh,
        text_model=text_model,
        judge_base_url=judge_base_url,
        judge_model=judge_model,
    )
    _say(f"The report: {out / 'report.html'}")


@app.command(epilog=_example("semihv build open_packages --out data/open_packages"))
def build(
    source: Annotated[str, typer.Argument(help="The release to build, for example open_packages.")],
    out: Annotated[Path, typer.Option(help="Folder to write the dataset to.")],
    cache_dir: Annotated[Path | None, typer.Option(help="Where fetched packages are kept.")] = None,
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Most cases per image kind and split.")] = None,
) -> None:
    """Turn an image release into a dataset folder: Parquet shards and a card."""
    from semihv_hf.data.build import build as build_dataset

    report = build_dataset(source, out, cache_dir=cache_dir, seed=seed, limit=limit)
    skipped = len(report.get("skipped", []))
    _say(f"Wrote {out}. Skipped files: {skipped} (listed with reasons in {out / 'build_report.json'}).")


@app.command(
    epilog=_example(
        "semihv predict --model runs/quickstart/checkpoints/3_annealing "
        "--data runs/quickstart/data --out predictions/image.jsonl"
    )
)
def predict(
    model: Annotated[str, typer.Option(help="A checkpoint folder or Hub id.")],
    data: Annotated[str, typer.Option(help="A dataset folder or Hub id.")],
    out: Annotated[Path, typer.Option(help="File to write the predictions to, one JSON row a question.")],
    config: Annotated[str, typer.Option(help="The dataset's config.")] = "benchmark",
    split: Annotated[str, typer.Option(help="The dataset's split.")] = "test",
    condition: Annotated[
        Literal["image", "blank", "shuffled"], typer.Option(help="Show the image, none, or another case's.")
    ] = "image",
    batch_size: Annotated[int, typer.Option(min=1, help="Questions in a batch.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 12,
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
) -> None:
    """Let a checkpoint answer the questions of a benchmark."""
    from semihv_hf.evaluation.predict import predict as answer_questions

    summary = answer_questions(
        model,
        data,
        out,
        config=config,
        split=split,
        condition=condition,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        seed=seed,
        limit=limit,
    )
    _say(f"Wrote {out}: {summary['n_total']} questions, {summary['n_failed']} failed.")


@app.command(
    epilog=_example(
        "semihv score runs/quickstart/predictions --data runs/quickstart/data --out runs/quickstart/scores.json"
    )
)
def score(
    predictions: Annotated[Path, typer.Argument(help="Folder with image.jsonl, blank.jsonl and shuffled.jsonl.")],
    data: Annotated[str, typer.Option(help="The dataset the questions came from.")],
    out: Annotated[Path, typer.Option(help="JSON file to write the scores to.")],
    judge_base_url: JudgeBaseUrl = None,
    judge_model: JudgeModel = None,
    seed: Seed = 0,
) -> None:
    """Score predictions by rules, against three baselines, and by a judge if there is one."""
    from semihv_hf.evaluation.score import score as score_predictions

    server = {"base_url": judge_base_url, "model": judge_model}
    given = {name: value for name, value in server.items() if value is not None}
    score_predictions(predictions, data, out, judge=given or None, seed=seed)
    _say(f"Wrote {out}.")


@app.command(epilog=_example("semihv report runs/quickstart"))
def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run: checkpoints, predictions and scores.json.")],
    html: Annotated[Path | None, typer.Option(help="Page to write. By default report.html in the folder.")] = None,
    json: Annotated[Path | None, typer.Option(help="The same numbers. By default report.json there.")] = None,
) -> None:
    """Write the report of a run: one self-contained HTML page."""
    from semihv_hf.evaluation.report import write_report

    _say(f"Wrote {write_report(run_dir, out_html=html, out_json=json)}.")


@app.command(epilog=_example("semihv serve runs/quickstart/checkpoints/3_annealing --port 8000"))
def serve(
    model: Annotated[str, typer.Argument(help="A checkpoint folder or Hub id; requests give it as the model's name.")],
    host: Annotated[str, typer.Option(help="Address to listen on. Nothing asks clients who they are.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on, 0 for any free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="Another name for requests to give.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Type of the weights. auto: the checkpoint's own."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0, ...")] = "auto",
) -> None:
    """Answer image questions over HTTP: an OpenAI-compatible server."""
    from semihv_hf.serving import serve as serve_model

    serve_model(model, host, port, name=name, dtype=dtype, device=device)


@app.command(
    epilog=_example(
        "semihv convert cambrian-8b pmc-cambrian-8b --siglip timm/ViT-SO400M-14-SigLIP-384 "
        "--clip openai/clip-vit-large-patch14-336 --dinov2 facebook/dinov2-giant --dtype bfloat16"
    )
)
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of a released Cambrian or PMC-Cambrian checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    base_model: Annotated[
        str | None, typer.Option(help="The Llama model below a connector that was trained on its own.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder or Hub id. By default the checkpoint's own.")] = None,
    siglip: Annotated[str | None, typer.Option(help="SigLIP tower to attach: folder or Hub id.")] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP tower to attach.")] = None,
    dinov2: Annotated[str | None, typer.Option(help="DINOv2 tower to attach.")] = None,
    convnext: Annotated[str | None, typer.Option(help="ConvNeXt tower to attach.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="By default every tensor keeps its own.")
    ] = None,
    legacy_image_position: Annotated[
        int | None, typer.Option(min=0, help="Reproduce samplers that read the sequence at this fixed place.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest file, and the memory it takes.")] = "5GB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Turn a released checkpoint into one that transformers loads."""
    from semihv_hf.models.convert_cambrian import convert_checkpoint

    report = convert_checkpoint(
        source,
        out,
        base_model=base_model,
        tokenizer=tokenizer,
        siglip=siglip,
        clip=clip,
        dinov2=dinov2,
        convnext=convnext,
        dtype=dtype,
        legacy_image_position=legacy_image_position,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        progress=True,
    )
    _say(f"Wrote {out}: {report['parameters']['total']:,} parameters from {report['keys']} keys.")


@app.command(epilog=_example("semihv doctor"))
def doctor() -> None:
    """Show what is installed, what is missing and which extra brings it."""
    from semihv_hf.doctor import print_diagnosis

    if not print_diagnosis():
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and turns every failure into one clear line.

    Args:
        arguments (`list[str]`, *optional*): what follows `semihv`. By default the process's own arguments.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in arguments
    if verbose:  # accepted before and after the verb
        arguments = ["--verbose", *(argument for argument in arguments if argument != "--verbose")]
    try:
        app(args=arguments, prog_name="semihv")
    except SystemExit as stop:
        if stop.code == 130:  # typer's code for Ctrl-C
            _complain("interrupted: what was finished is kept. Run the same command again to continue.")
        raise
    except Exception as error:
        if verbose:
            raise
        _complain(f"error: {_one_line(error)}")
        sys.exit(1)


def _one_line(error: Exception) -> str:
    """What went wrong and what to do, on one line."""
    if isinstance(error, SemiHVError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space is left on the disk ({error.filename or 'while writing'}). Free some space and run again."
    message = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {message} (run again with --verbose for the traceback)"


def _say(message: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(message, markup=False)


def _complain(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
