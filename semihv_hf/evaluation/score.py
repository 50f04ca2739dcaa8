"""Predictions become numbers: conditions, baselines, their differences with intervals, the cases, the verdict."""

from collections.abc import Mapping
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.baselines import majority_rows, reference_answers, train_answers
from semihv_hf.evaluation.conditions import CONDITIONS
from semihv_hf.evaluation.letters import chosen_letter, options_in
from semihv_hf.evaluation.prediction_files import asked_dataset, read_predictions
from semihv_hf.evaluation.statistics import LEVEL, SAMPLES, clustered_interval, paired_difference
from semihv_hf.files import write_json, write_jsonl

REQUIRED_MARGIN = 0.15
MAJORITIES = ("majority_train", "majority_test_oracle")
OPEN_SCORES = ("recall", "precision", "f1", "exact_match")


def score(
    predictions_dir: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    judge: Mapping | None = None,
    seed: int = 0,
) -> dict:
    """Scores the predictions of a run against their references and against three baselines of the same run.

    Args:
        predictions_dir (`str` or `Path`): the folder with `image.jsonl`, and `blank.jsonl`, `shuffled.jsonl` and
            `jama.jsonl` where they were made.
        data (`str` or `Path`): the dataset folder that was predicted on; the majority answers come from its training
            questions.
        out (`str` or `Path`): the JSON file to write; the decision on every row goes beside it, as
            `<name>_rows.jsonl`.
        judge (`Mapping`, *optional*): `base_url` and `model` of the server that judges the cases; what is not given
            comes from the environment. Without a server the judge is skipped, and the result says why.
        seed (`int`, *optional*, defaults to 0): the seed of the bootstrap.

    Returns:
        `dict`: what was written: `model`, `dataset`, `conditions`, `baselines`, `differences`, `verdict` and `jama`.

    Raises:
        SemiHVError: there are no predictions with the image, or the files do not belong together.
    """
    folder = Path(predictions_dir)
    rows = _read_conditions(folder)
    image = rows["image"]
    everything = {
        **rows,
        "majority_train": majority_rows(image, train_answers(data)),
        "majority_test_oracle": majority_rows(image, reference_answers(image)),
    }
    metric = load_metric("medical_vqa")
    blocks, decisions = {}, {}
    for name, answered in everything.items():
        blocks[name], decisions[name] = _score_rows(metric, answered, seed)
    differences = {
        kind: {name: _difference(rows["image"], decisions, name, kind, seed) for name in everything if name != "image"}
        for kind in ("closed", "open")
    }
    out = Path(out)
    result = {
        "model": image[0]["model"],
        "dataset": asked_dataset(folder / "image.jsonl", data),
        "n_cases": len({row["case_id"] for row in image}),
        "bootstrap": {"samples": SAMPLES, "level": LEVEL, "cluster": "case_id", "seed": seed},
        "conditions": {name: blocks[name] for name in CONDITIONS if name in blocks},
        "baselines": {name: blocks[name] for name in MAJORITIES},
        "differences": differences,
        "verdict": _verdict(blocks, differences["closed"]),
        "jama": _score_cases(folder / "jama.jsonl", data, judge, out.with_name(f"{out.stem}_verdicts.jsonl"), seed),
    }
    write_jsonl(out.with_name(f"{out.stem}_rows.jsonl"), _decision_rows(image, decisions))
    write_json(out, result)
    return result


def load_metric(name: str, config: str | None = None):
    """Loads one of the metric folders that ship with the package, without any network.

    Args:
        name (`str`): the folder's name, such as `"medical_vqa"`.
        config (`str`, *optional*): the configuration, where the metric has several.

    Returns:
        `evaluate.EvaluationModule`: the metric.
    """
    import evaluate

    from semihv_hf.resources import resource_dir

    return evaluate.load(str(resource_dir("metrics") / name), config)


def _read_conditions(folder: Path) -> dict[str, list[dict]]:
    """Reads the conditions that were run, and checks that they are answers of one model to one list of questions."""
    if not (folder / "image.jsonl").is_file():
        raise SemiHVError(f"{folder} holds no image.jsonl.", "Run `semihv predict` first.")
    rows = {}
    for condition in CONDITIONS:
        path = folder / f"{condition}.jsonl"
        if path.is_file():
            rows[condition] = read_predictions(path)
    image = rows["image"]
    if not image:
        raise SemiHVError(f"{folder / 'image.jsonl'} is empty.", "Run `semihv predict` again.")
    for condition, answered in rows.items():
        if [row["id"] for row in answered] != [row["id"] for row in image]:
            raise SemiHVError(f"{condition}.jsonl and image.jsonl answer different questions.", "Predict both anew.")
        models = {row["model"] for row in answered}
        if models != {image[0]["model"]}:
            raise SemiHVError(f"{condition}.jsonl is by {sorted(models)}, image.jsonl by {image[0]['model']}.")
    return rows


def _score_rows(metric, rows: list[dict], seed: int) -> tuple[dict, list[dict]]:
    """Scores one set of answers, overall and by group; returns the block and the decision on every row."""
    arguments = {
        "predictions": [row["prediction"] for row in rows],
        "references": [row["reference"] for row in rows],
        "answer_types": [row["answer_type"] for row in rows],
        "options": [row["options"] for row in rows],
    }
    result = metric.compute(**arguments, groups=[row["modality"] for row in rows], return_rows=True)
    decisions = result["rows"]
    block = _block(result)
    clusters = [row["case_id"] for row in rows]
    block["closed"]["ci95"] = _interval(decisions, clusters, "closed", seed)
    block["open"]["ci95"] = _interval(decisions, clusters, "open", seed)
    block["by_modality"] = {name: _block(group) for name, group in result["by_group"].items()}
    result = metric.compute(**arguments, groups=[row["template"] for row in rows])
    block["by_template"] = {name: _block(group) for name, group in result["by_group"].items()}
    return block, decisions


def _block(result: dict) -> dict:
    """The numbers of one group, with their denominators beside them."""
    closed = {
        "accuracy": result["closed_accuracy"],
        "accuracy_scored": result["closed_accuracy_scored"],
        **result["counts"]["closed"],
    }
    opened = {**{name: result[f"open_{name}"] for name in OPEN_SCORES}, "recall_scored": result["open_recall_scored"]}
    return {"closed": closed, "open": {**opened, **result["counts"]["open"]}}


def _points(decision: dict) -> float:
    """What a row adds to the mean over all rows; a failed row adds nothing."""
    if decision["answer_type"] == "closed":
        return float(decision["outcome"] == "right")
    return decision["recall"] or 0.0


def _decision_rows(image: list[dict], decisions: dict[str, list[dict]]) -> list[dict]:
    """One line a question: what each way of answering it came to, and by which rule."""
    return [
        {
            **{name: row[name] for name in ("id", "case_id", "modality", "template", "answer_type")},
            "outcomes": {name: decided[number]["outcome"] for name, decided in decisions.items()},
            "rules": {name: decided[number]["rule"] for name, decided in decisions.items()},
            "points": {name: _points(decided[number]) for name, decided in decisions.items()},
        }
        for number, row in enumerate(image)
    ]


def _interval(decisions: list[dict], clusters: list[str], kind: str, seed: int) -> list[float] | None:
    chosen = [i for i, decision in enumerate(decisions) if decision["answer_type"] == kind]
    return clustered_interval([_points(decisions[i]) for i in chosen], [clusters[i] for i in chosen], seed=seed)


def _difference(image: list[dict], decisions: dict[str, list[dict]], other: str, kind: str, seed: int) -> dict:
    chosen = [i for i, decision in enumerate(decisions["image"]) if decision["answer_type"] == kind]
    return paired_difference(
        [_points(decisions["image"][i]) for i in chosen],
        [_points(decisions[other][i]) for i in chosen],
        [image[i]["case_id"] for i in chosen],
        seed=seed,
    )


def _verdict(blocks: dict[str, dict], differences: dict[str, dict]) -> dict:
    """Whether the closed accuracy is far enough above each baseline; `None` where a baseline was not run."""
    closed = blocks["image"]["closed"]
    if not closed["total"]:
        return {"required_margin": REQUIRED_MARGIN, "accuracy": None, "n": 0, "baselines": {}, "passes": None}
    # The stronger of the two majorities is the bar: the second one even knows the answers' frequencies in the test.
    majority = max(MAJORITIES, key=lambda name: blocks[name]["closed"]["accuracy"])
    baselines = {}
    for title, name in (("majority", majority), ("blank", "blank"), ("shuffled", "shuffled")):
        if name not in blocks:
            baselines[title] = None
            continue
        difference = differences[name]
        baselines[title] = {
            "which": name,
            "accuracy": blocks[name]["closed"]["accuracy"],
            "margin": difference["difference"],
            "ci95": difference["ci95"],
            # A hair is allowed for, so that 0.65 - 0.50 is fifteen points in floating point, too.
            "passes": difference["difference"] >= REQUIRED_MARGIN - 1e-9,
        }
    run = [entry for entry in baselines.values() if entry is not None]
    complete = len(run) == len(baselines)
    return {
        "required_margin": REQUIRED_MARGIN,
        "accuracy": closed["accuracy"],
        "ci95": closed["ci95"],
        "n": closed["total"],
        "n_cases": differences["majority_train"]["n_clusters"],
        "n_failed": closed["failed"],
        "n_unparsed": closed["unparsed"],
        "baselines": baselines,
        "passes": all(entry["passes"] for entry in run) if complete else None,
    }


def _score_cases(path: Path, data: str | Path, judge: Mapping | None, verdicts: Path, seed: int) -> dict:
    """Scores the JAMA-style cases: the letter by rule, the explanation by the judge where there is a server."""
    if not path.is_file():
        return {"status": "not_run", "reason": "The cases were not put to the model, so there is nothing to score."}
    from semihv_hf.evaluation.judge import judge_cases

    rows = read_predictions(path)
    cases = [_letter_row(row) for row in rows]
    right = [float(case["outcome"] == "right") for case in cases]
    n_failed = sum(case["outcome"] == "failed" for case in cases)
    return {
        "status": "scored",
        "letters": {
            "accuracy": sum(right) / len(right) if right else None,
            "accuracy_scored": sum(right) / (len(right) - n_failed) if len(right) > n_failed else None,
            "ci95": clustered_interval(right, [row["case_id"] for row in rows], seed=seed),
            "total": len(rows),
            "scored": len(rows) - n_failed,
            "failed": n_failed,
            "correct": int(sum(right)),
            "unparsed": sum(case["outcome"] == "unparsed" for case in cases),
        },
        "cases": cases,
        "judge": judge_cases(rows, data, judge, cache_dir=path.with_name("judge_cache"), verdicts=verdicts, seed=seed),
    }


def _letter_row(row: dict) -> dict:
    options = options_in(row["question"]) or dict(zip("ABCDEFGH", row["options"], strict=False))
    wanted, _ = chosen_letter(row["reference"], options)
    if wanted is None:
        raise SemiHVError(f"Case {row['id']}: no option letter can be read from its reference answer.")
    chosen, rule = (None, "no_prediction") if row["prediction"] is None else chosen_letter(row["prediction"], options)
    outcome = "failed" if row["prediction"] is None else "unparsed" if chosen is None else None
    return {
        "id": row["id"],
        "reference_letter": wanted,
        "letter": chosen,
        "rule": rule,
        "outcome": outcome or ("right" if chosen == wanted else "wrong"),
    }
