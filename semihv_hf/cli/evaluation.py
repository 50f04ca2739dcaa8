"""Verbs that measure."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from semihv_hf.errors import SemiHVError

from .common import JudgeBaseUrl, JudgeModel, Seed, example, say


class _ReportGroup(typer.core.TyperGroup):
    """`semihv report FOLDER` means `semihv report run FOLDER`."""

    def parse_args(self, ctx, args):
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


report_app = typer.Typer(
    cls=_ReportGroup, no_args_is_help=True, help="Write a report: of a run (the default), or of what data is made of."
)


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(
        epilog=example(
            "semihv predict --model runs/quickstart/checkpoints/3_annealing "
            "--data runs/quickstart/data --out predictions/image.jsonl"
        )
    )(predict)
    app.command(
        epilog=example(
            "semihv score runs/quickstart/predictions --data runs/quickstart/data --out runs/quickstart/scores.json",
            "semihv score predictions --data data --out scores.json --judge-base-url http://127.0.0.1:8000/v1 "
            "--judge-model my-judge --max-cost-usd 2",
        )
    )(score)
    app.command(epilog=example("semihv judge-audit scores_verdicts.jsonl --people people.csv --out audit"))(
        judge_audit
    )
    app.add_typer(report_app, name="report", epilog=example("semihv report runs/quickstart"))
    report_app.command("run", epilog=example("semihv report run runs/quickstart"))(report)
    report_app.command(
        "composition", epilog=example("semihv report composition data/eurorad data/quilt --benchmark benchmarks/slake")
    )(composition)


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
    say(f"Wrote {out}: {summary['n_total']} questions, {summary['n_failed']} failed.")


def score(
    predictions: Annotated[Path, typer.Argument(help="Folder with image.jsonl, blank.jsonl and shuffled.jsonl.")],
    data: Annotated[str, typer.Option(help="The dataset the questions came from.")],
    out: Annotated[Path, typer.Option(help="JSON file to write the scores to.")],
    judge_base_url: JudgeBaseUrl = None,
    judge_model: JudgeModel = None,
    max_cost_usd: Annotated[
        float | None, typer.Option(help="Dollars after which the judge is asked nothing more.")
    ] = None,
    attestation: Annotated[
        Path | None, typer.Option(help="A signed statement, for cases whose source may not leave without one.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Score predictions by rules, against three baselines, and by a judge if there is one."""
    from semihv_hf.evaluation.score import score as score_predictions

    server = {
        "base_url": judge_base_url,
        "model": judge_model,
        "max_cost_usd": max_cost_usd,
        "attestation": None if attestation is None else str(attestation),
    }
    given = {name: value for name, value in server.items() if value is not None}
    score_predictions(predictions, data, out, judge=given or None, seed=seed)
    say(f"Wrote {out}.")


def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run: checkpoints, predictions and scores.json.")],
    html: Annotated[Path | None, typer.Option(help="Page to write. By default report.html in the folder.")] = None,
    json: Annotated[Path | None, typer.Option(help="The same numbers. By default report.json there.")] = None,
) -> None:
    """Write the report of a run: one self-contained HTML page."""
    from semihv_hf.evaluation.report import write_report

    say(f"Wrote {write_report(run_dir, out_html=html, out_json=json)}.")


def composition(
    data: Annotated[list[Path], typer.Argument(help="Dataset folders that `semihv build` wrote.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("composition.html"),
    benchmark: Annotated[
        list[Path] | None, typer.Option(help="A folder that `semihv benchmark` wrote, to look for overlap with.")
    ] = None,
) -> None:
    """What data is made of, beside the paper's figure, and what of it repeats in other splits and in benchmarks."""
    from semihv_hf.evaluation.composition import write_composition

    report = write_composition(data, out, benchmarks=benchmark or ())
    repeated = sum(row["rows"] for row in report["overlap"]["pairs"])
    say(f"Wrote {out}: {report['totals']['images']} images; rows that repeat elsewhere: {repeated}.")


def judge_audit(
    verdicts: Annotated[list[Path], typer.Argument(help="JSONL, JSON or CSV files of one judge's verdicts.")],
    people: Annotated[Path, typer.Option(help="File of people's scores: id, rater, score (and model).")],
    out: Annotated[Path, typer.Option(help="Folder for audit.html, audit.json and disagreements.csv.")] = Path(
        "audit"
    ),
    level: Annotated[
        Literal["nominal", "ordinal", "interval"] | None, typer.Option(help="Level of measurement.")
    ] = None,
    scale: Annotated[tuple[float, float] | None, typer.Option(help="Lowest and highest score.")] = None,
    score: Annotated[str, typer.Option(help="Column of the verdicts; `outcome` for win, tie, loss.")] = "score",
    judge: Annotated[str | None, typer.Option(help="The judge's name for the page.")] = None,
    judge_family: Annotated[str | None, typer.Option(help="The judge's family.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=FAMILY", help="The family of a model that wrote answers.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Compare a judge with people, and probe what moves its scores."""
    from semihv_hf.evaluation.audit import judge_audit as audit

    unclear = [entry for entry in family or () if "=" not in entry]
    if unclear:
        raise SemiHVError(f"--family {unclear[0]!r} is not of the form MODEL=FAMILY.")
    report = audit(
        verdicts,
        people,
        out,
        level=level,
        scale=scale,
        score=score,
        judge=judge,
        judge_family=judge_family,
        families=dict(entry.split("=", 1) for entry in family or ()),
        seed=seed,
    )
    say(f"Wrote {out}: {report['headline']['sentence']}")
