"""A run folder becomes one self-contained HTML page, the same numbers as JSON, and a Markdown table."""

from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.benchmarks import Question, load_questions
from semihv_hf.evaluation.conditions import CONDITIONS
from semihv_hf.evaluation.gallery import choose, inline_image
from semihv_hf.evaluation.prediction_files import read_predictions
from semihv_hf.evaluation.run_folder import read_composition, read_environment, read_json, read_stages
from semihv_hf.files import atomic_file, read_jsonl, write_json
from semihv_hf.templates import strict_templates

GALLERY_SIZE = 24
PARTS = ("data", "checkpoints", "predictions", "scores.json")
WAYS = {
    "image": "with the image",
    "blank": "blank image",
    "shuffled": "another case's image",
    "majority_train": "majority answer (training)",
    "majority_test_oracle": "majority answer (test, oracle)",
}
SHORT_WAYS = {
    "blank": "blank",
    "shuffled": "other image",
    "majority_train": "majority, train",
    "majority_test_oracle": "majority, test",
}
BASELINE_TITLES = {"majority": "Majority answer", "blank": "Blank image", "shuffled": "Another case's image"}
NOTICE = (
    "Research software. The model is small, trained on few images, and not for clinical use: its answers must not be "
    "used for the diagnosis, the treatment or the triage of any person."
)


def write_report(
    run_dir: str | Path,
    *,
    out_html: str | Path | None = None,
    out_json: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Writes the report of a run. Whatever part of the run is missing is named in the report.

    Args:
        run_dir (`str` or `Path`): the run folder, with `data`, `checkpoints`, `predictions` and `scores.json`.
        out_html (`str` or `Path`, *optional*): the page; `report.html` in the run folder by default. A table in
            Markdown goes beside it.
        out_json (`str` or `Path`, *optional*): the numbers; `report.json` in the run folder by default.
        seed (`int`, *optional*, defaults to 0): the seed of the choice of images for the gallery.

    Returns:
        `Path`: the page.

    Raises:
        SemiHVError: there is no such folder, nothing in it is of a run, a file in it is damaged, or scores and
            predictions do not match.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise SemiHVError(f"There is no run folder {run_dir}.", "Give the folder that `semihv quickstart` wrote.")
    if not any((run_dir / name).exists() for name in PARTS):
        raise SemiHVError(
            f"{run_dir} is no run folder: it holds none of {', '.join(PARTS)}.",
            "Give the folder that `semihv quickstart` wrote.",
        )
    html_path = Path(out_html) if out_html is not None else run_dir / "report.html"
    json_path = Path(out_json) if out_json is not None else run_dir / "report.json"
    report, images = build_report(run_dir, seed=seed)
    page = render("report.html.jinja", report=report, images=images)
    table = render("report.md.jinja", report=report)
    with atomic_file(html_path.with_suffix(".md")) as handle:
        handle.write(table)
    with atomic_file(html_path) as handle:
        handle.write(page)
    write_json(json_path, report)
    return html_path


def build_report(run_dir: Path, *, seed: int = 0) -> tuple[dict, dict[str, str | None]]:
    """Gathers everything that the report says.

    Args:
        run_dir (`Path`): the run folder.
        seed (`int`, *optional*, defaults to 0): the seed of the gallery.

    Returns:
        `tuple[dict, dict[str, str | None]]`: the content of `report.json`, and the inlined image of each question
            shown.
    """
    scores = read_json(run_dir / "scores.json")
    predictions = _predictions(run_dir / "predictions")
    metas = {name: read_json(run_dir / "predictions" / f"{name}.meta.json") or {} for name in predictions}
    composition = read_composition(run_dir / "data")
    stages = read_stages(run_dir)
    questions = _questions(run_dir / "data", metas, composition)
    if scores is not None:
        _check_belong_together(scores, predictions)
    gallery = _gallery(run_dir, predictions, scores, seed)
    cases = _cases(predictions, scores)
    report = {
        "title": f"semihv-hf: {scores['model'] if scores else run_dir.resolve().name}",
        "model": scores["model"] if scores else None,
        "notice": NOTICE,
        "headline": _headline(scores),
        "scores": _tables(scores),
        "stages": stages,
        "gallery": gallery,
        "cases": cases,
        "composition": composition,
        "environment": read_environment(stages, composition, metas),
    }
    shown = [row["id"] for row in gallery.get("rows", [])] + [row["id"] for row in cases.get("rows", [])]
    return report, {name: inline_image(questions[name]) if name in questions else None for name in shown}


def render(template: str, **values) -> str:
    """Fills one of the report's templates.

    Args:
        template (`str`): its file name.
        values: what the template refers to; a name that it does not get is an error.

    Returns:
        `str`: the text.
    """
    environment = strict_templates(Path(__file__).parent / "templates", html=template.endswith(".html.jinja"))
    environment.filters.update(
        percent=percent, points=points, decimal=decimal, clean=clean, integer=integer, duration=duration
    )
    environment.globals.update(ways=WAYS, short_ways=SHORT_WAYS, baseline_titles=BASELINE_TITLES)
    return environment.get_template(template).render(**values)


def percent(share: float | None, digits: int = 1) -> str:
    """Writes a share as a percentage; a dash where there is nothing to divide by."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u202f%"


def points(share: float | None) -> str:
    """Writes a difference of shares in signed percentage points."""
    return "–" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def decimal(value: float | None, digits: int = 2) -> str:
    """Writes a number with a fixed number of digits; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def integer(value: int | None) -> str:
    """Writes a count with thin spaces between the thousands; a dash where there is none."""
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """Writes seconds as minutes and seconds."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}\u202fmin {rest:02d}\u202fs" if minutes else f"{seconds:.1f}\u202fs"


def clean(text: str) -> str:
    """Makes characters visible that a page or a table must not hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _predictions(folder: Path) -> dict[str, list[dict]]:
    names = (*CONDITIONS, "jama")
    paths = {name: folder / f"{name}.jsonl" for name in names}
    return {name: read_predictions(path) for name, path in paths.items() if path.is_file()}


def _questions(data: Path, metas: dict[str, dict], composition: dict) -> dict[str, Question]:
    """The questions by id, with their images, of the files that the gallery and the cases are taken from."""
    found = {}
    if composition["status"] == "missing":
        return found
    for name in ("image", "jama"):
        settings = metas.get(name, {}).get("settings")
        if settings is not None:
            questions = load_questions(data, settings["config"], settings["split"])
            found.update({question.id: question for question in questions})
    return found


def _check_belong_together(scores: dict, predictions: dict[str, list[dict]]) -> None:
    image = predictions.get("image")
    if image and image[0]["model"] != scores["model"]:
        raise SemiHVError(
            f"scores.json is about {scores['model']}, predictions/image.jsonl about {image[0]['model']}.",
            "Run `semihv score` again.",
        )


def _headline(scores: dict | None) -> dict:
    """The verdict in one or two sentences, made from the numbers that stand beside it."""
    if scores is None:
        return {"status": "missing", "sentence": "No scores: this run folder holds no scores.json."}
    verdict = scores["verdict"]
    if verdict["accuracy"] is None:
        return {"status": "missing", "sentence": "No closed question was asked, so there is no accuracy to compare."}
    need = f"{100 * verdict['required_margin']:.0f} points"
    sentence = (
        f"On {verdict['n_cases']} held-out cases the model answers {percent(verdict['accuracy'])} of {verdict['n']} "
        "closed questions correctly."
    )
    margins = {name: entry for name, entry in verdict["baselines"].items() if entry is not None}
    absent = [BASELINE_TITLES[name].lower() for name, entry in verdict["baselines"].items() if entry is None]
    if margins:
        closest = min(margins, key=lambda name: margins[name]["margin"])
        sentence += (
            f" Against the strongest baseline ({BASELINE_TITLES[closest].lower()}, "
            f"{percent(margins[closest]['accuracy'])}) that is {points(margins[closest]['margin'])} points."
        )
    if absent:
        sentence += f" Not run, so not compared: {', '.join(absent)}."
    elif verdict["passes"]:
        sentence += f" It is at least {need} above each of the three baselines."
    else:
        short = [BASELINE_TITLES[name].lower() for name, entry in margins.items() if not entry["passes"]]
        sentence += f" The required margin of {need} is missed against: {', '.join(short)}."
    return {"status": "done", "sentence": sentence, **verdict}


def _tables(scores: dict | None) -> dict:
    """The comparison tables: overall, by modality and by kind of question, one row a group, one column a way."""
    if scores is None:
        return {"status": "missing", "reason": "This run folder holds no scores.json."}
    blocks = {**scores["conditions"], **scores["baselines"]}
    overall = [
        {
            "way": name,
            "closed": {**blocks[name]["closed"], "difference": scores["differences"]["closed"].get(name)},
            "open": {**blocks[name]["open"], "difference": scores["differences"]["open"].get(name)},
        }
        for name in WAYS
        if name in blocks
    ]
    tables = {
        "status": "done",
        "bootstrap": scores["bootstrap"],
        "n_cases": scores["n_cases"],
        "not_run": [name for name in CONDITIONS if name not in blocks],
        "overall": overall,
    }
    for grouping in ("by_modality", "by_template"):
        tables[grouping] = [_group_row(name, grouping, blocks) for name in sorted(blocks["image"][grouping])]
    return tables


def _group_row(group: str, grouping: str, blocks: dict[str, dict]) -> dict:
    own = blocks["image"][grouping][group]
    return {
        "group": group,
        "closed": {key: own["closed"][key] for key in ("accuracy", "total", "correct", "unparsed", "failed")},
        "open": {key: own["open"][key] for key in ("recall", "exact_match", "total", "failed")},
        "closed_of_others": {
            name: blocks[name][grouping][group]["closed"]["accuracy"] for name in WAYS if name in blocks
        },
        "open_of_others": {name: blocks[name][grouping][group]["open"]["recall"] for name in WAYS if name in blocks},
    }


def _gallery(run_dir: Path, predictions: dict[str, list[dict]], scores: dict | None, seed: int) -> dict:
    decisions = run_dir / "scores_rows.jsonl"
    if scores is None or "image" not in predictions or not decisions.is_file():
        return {"status": "missing", "reason": "There are no scored answers to show."}
    outcomes = {row["id"]: row["outcomes"]["image"] for row in read_jsonl(decisions)}
    rows = predictions["image"]
    if set(outcomes) != {row["id"] for row in rows}:
        raise SemiHVError("scores_rows.jsonl and predictions/image.jsonl hold different questions.", "Score again.")
    chosen = choose(rows, outcomes, GALLERY_SIZE, seed)
    return {
        "status": "done",
        "seed": seed,
        "rows": [{**_shown(row), "outcome": outcomes[row["id"]]} for row in chosen],
        "n_right": sum(outcomes[row["id"]] == "right" for row in chosen),
    }


def _shown(row: dict) -> dict:
    names = ("id", "modality", "template", "question", "options", "reference", "prediction", "error", "source_id")
    return {name: row[name] for name in names}


def _cases(predictions: dict[str, list[dict]], scores: dict | None) -> dict:
    """The JAMA-style cases with the answer, the letter that was read from it, and the judge's scores where it ran."""
    if scores is None or scores["jama"]["status"] != "scored" or "jama" not in predictions:
        reason = scores["jama"].get("reason") if scores else None
        return {"status": "missing", "reason": reason or "The cases were not put to the model."}
    letters = {case["id"]: case for case in scores["jama"]["cases"]}
    judge = scores["jama"]["judge"]
    judged = {case["id"]: case for case in judge.get("cases", [])}
    rows = predictions["jama"]
    if set(letters) != {row["id"] for row in rows}:
        raise SemiHVError("scores.json and predictions/jama.jsonl hold different cases.", "Run `semihv score` again.")
    return {
        "status": "done",
        "letters": scores["jama"]["letters"],
        "judge": {key: value for key, value in judge.items() if key != "cases"},
        "rows": [
            {
                **_shown(row),
                "truncated": row["truncated"],
                "letter": letters[row["id"]],
                "judge": judged.get(row["id"]),
            }
            for row in rows
        ],
    }
