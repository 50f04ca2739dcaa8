"""`semihv judge-audit`: a judge beside people, and what moves its scores, as numbers, a page and a sheet."""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.audit_files import Answer, read_answers
from semihv_hf.evaluation.audit_words import sentence_of, words_of_probes
from semihv_hf.files import atomic_file, write_json, write_text

TEMPLATE = "audit.html.jinja"
SHOWN = 15  # disagreements on the page; the sheet holds all
LABELS = {
    "kappa_quadratic": "Cohen’s κ, quadratic",
    "kappa": "Cohen’s κ",
    "agreement": "same score",
    "f1_macro": "F1, macro",
    "spearman": "Spearman’s ρ",
    "kendall": "Kendall’s τ-b",
    "mean_absolute_difference": "mean absolute difference",
    "mean_difference": "judge less people",
}


def judge_audit(
    verdict_files: Sequence[str | Path],
    human_file: str | Path,
    out: str | Path,
    *,
    level: str | None = None,
    scale: Sequence[float] | None = None,
    score: str = "score",
    judge: str | None = None,
    judge_family: str | None = None,
    families: Mapping[str, str] | None = None,
    seed: int = 0,
    samples: int = 2000,
) -> dict[str, Any]:
    """Compares a judge's verdicts with people's scores and runs every probe that the files allow.

    A verdict row has `id` (the answer; `row` in the rows of `gpt4_judge`) and `score` (a number or a label; null where
    the judge gave no verdict). It may have `model` (who wrote the answer; without it and with several files, the
    file's name), `case_id` (by default the id), `reason` (why there is no verdict), `repeat` (0, 1, …: the same
    question asked again), `order` (`first` or `prediction_first` where the answer stood first, `second` or
    `reference_first` where it stood second), `condition` (`paraphrase…` where the answer was put in other words),
    `length` in words (else counted in `answer` or `prediction`), and `repeat_scores`, `ratios` or `preferred` as
    `gpt4_judge` writes them. Both orders make one verdict: their mean, or for labels the one that they share, else
    `tie`. A row of `human_file` has `id`, `rater`, `score`, and `model` where several models answered the same id.

    Args:
        verdict_files (`Sequence[str | Path]`): JSONL, JSON or CSV files of verdicts of one judge.
        human_file (`str` or `Path`): a JSONL, JSON or CSV file, one row for each score of a person.
        out (`str` or `Path`): the folder to write: `audit.json`, `audit.html` and `disagreements.csv`.
        level (`str`, *optional*): `"nominal"`, `"ordinal"` or `"interval"`; by default labels are nominal, numbers
            ordinal.
        scale (`Sequence[float]`, *optional*): lowest and highest possible score; a score outside is an error.
        score (`str`, *optional*, defaults to `"score"`): the column of a verdict that holds its score; `outcome` for
            win, tie and loss.
        judge (`str`, *optional*): the judge's name for the page.
        judge_family (`str`, *optional*): the judge's family, for the probe of self-preference.
        families (`Mapping[str, str]`, *optional*): the family of each model; a model not named is its own.
        seed (`int`, *optional*, defaults to 0): the seed of the bootstrap.
        samples (`int`, *optional*, defaults to 2000): the number of draws.

    Returns:
        `dict`: the content of `audit.json`.

    Raises:
        SemiHVError: a file or a row of it is wrong, or the files have no row in common.
    """
    from semihv_hf.evaluation.report import render

    answers, left_out = read_answers(verdict_files, human_file, score)
    columns = [_columns(answer) for answer in answers]
    if judge_family is not None and not any(answer.model for answer in answers):
        raise SemiHVError("The probe of self-preference needs to know who wrote each answer.", "Add `model`.")
    result = _compare(answers, columns, level, scale, judge_family, families, seed, samples)
    rows = _disagreements(answers, columns, result["level"])
    report = {
        "judge_name": judge or "",
        "files": {"verdicts": [Path(path).name for path in verdict_files], "people": Path(human_file).name},
        "left_out": left_out,
        "failures": dict(Counter(column["reason"] for column in columns if column["score"] is None).most_common()),
        **result,
        "headline": sentence_of(result),
        "probes_in_words": words_of_probes(result["probes"], result["level"]),
        "n_disagreements": sum(row["size"] > 0 for row in rows),
    }
    out = Path(out)
    _write_sheet(out / "disagreements.csv", rows, result["raters"])
    page = render(TEMPLATE, report=report, labels=LABELS, plot=_plot(rows, result["level"]), rows=rows[:SHOWN])
    write_text(out / "audit.html", page)
    write_json(out / "audit.json", report)
    return report


def _columns(answer: Answer) -> dict[str, Any]:
    """What the metric takes of one answer."""
    original = {key[1:]: row for key, row in answer.verdicts.items() if key[0] is None}
    numbers = sorted({repeat for _, repeat in original})
    merged = [_merged({order: row for (order, n), row in original.items() if n == number}) for number in numbers]
    first = {order: row for (order, n), row in original.items() if numbers and n == numbers[0]}
    conditions = sorted({(key[0], key[2]) for key in answer.verdicts if key[0] is not None})
    paraphrases = [
        _merged({key[1]: row for key, row in answer.verdicts.items() if (key[0], key[2]) == condition})
        for condition in conditions
    ]
    failed = [row for row in first.values() if row["score"] is None]
    return {
        "score": merged[0] if merged else None,
        "repeats": merged[1:],
        "paraphrases": paraphrases,
        "orders": _orders(answer, first),
        "length": _length(first or {None: next(iter(answer.verdicts.values()))}),
        "reason": str(failed[0].get("reason") or "no reason given") if failed else "no verdict on the answer itself",
    }


def _merged(by_order: dict[str | None, dict]) -> Any:
    """One verdict of the verdicts in both orders; a failed one leaves no verdict."""
    scores = [row["score"] for row in by_order.values()]
    if not scores or None in scores:
        return None
    if isinstance(scores[0], str):
        return scores[0] if len(set(scores)) == 1 else "tie"
    return sum(scores) / len(scores)


def _orders(answer: Answer, first: dict[str | None, dict]) -> list | None:
    """The verdicts with the answer standing first and second, where both were asked for."""
    if "first" in first and "second" in first:
        return [first["first"]["score"], first["second"]["score"]]
    row = first.get(None)
    for name in ("ratios", "preferred"):
        by_order = (row or {}).get(name)
        if not isinstance(by_order, dict) or set(by_order) != {"prediction_first", "reference_first"}:
            continue
        pair = [by_order["prediction_first"], by_order["reference_first"]]
        if name == "ratios":
            return pair
        worth = {"prediction": 1, "tie": 0, "reference": -1}
        if not all(isinstance(side, list) and side and set(side) <= set(worth) for side in pair):
            raise SemiHVError(f"{row['where']}: `preferred` holds what the judge metric does not write.")
        return [sum(worth[one] for one in side) / len(side) for side in pair]
    return None


def _length(by_order: dict[str | None, dict]) -> float | None:
    row = next(iter(by_order.values()))
    value = row.get("length")
    if value is None:
        text = row.get("answer", row.get("prediction"))
        return len(text.split()) if isinstance(text, str) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise SemiHVError(f"{row['where']}: the length {value!r} is not a number from 0.")
    return value


def _compare(answers, columns, level, scale, judge_family, families, seed, samples) -> dict[str, Any]:
    import evaluate

    from semihv_hf.resources import resource_dir

    raters = list(answers[0].people)
    optional = {}
    if any(answer.model for answer in answers):
        optional["models"] = [answer.model or "(not named)" for answer in answers]
        optional.update(judge_family=judge_family, families=dict(families or {}))
    for name, column in (("repeats", "repeats"), ("paraphrases", "paraphrases"), ("orders", "orders")):
        if any(row[column] for row in columns):
            optional[name] = [row[column] for row in columns]
    if any(row["length"] is not None for row in columns):
        optional["lengths"] = [row["length"] for row in columns]
    if scale is not None:
        optional["scale"] = list(scale)
    try:
        return evaluate.load(str(resource_dir("metrics") / "agreement")).compute(
            predictions=[row["score"] for row in columns],
            references=[[answer.people[rater] for rater in raters] for answer in answers],
            raters=raters,
            level=level,
            case_ids=[answer.case_id for answer in answers],
            seed=seed,
            samples=samples,
            **optional,
        )
    except ValueError as error:
        raise SemiHVError(_with_id(str(error), answers)) from error


def _with_id(message: str, answers: list[Answer]) -> str:
    """The metric counts rows; a reader of files wants the id."""
    number = message.removeprefix("Row ").partition(":")[0]
    if message.startswith("Row ") and number.isdigit() and int(number) < len(answers):
        answer = answers[int(number)]
        whose = f" of {answer.model}" if answer.model else ""
        message = message.replace(f"Row {number}", f"Answer {answer.id!r}{whose}", 1)
    return message


def _disagreements(answers: list[Answer], columns: list[dict], level: str) -> list[dict]:
    """Every compared answer, the largest difference first."""
    rows = []
    for answer, column in zip(answers, columns):
        given = [value for value in answer.people.values() if value is not None]
        if column["score"] is None or not given:
            continue
        if level == "nominal":
            people = " / ".join(f"{label} ×{n}" for label, n in sorted(Counter(map(_shown, given)).items()))
            difference = None
            size = sum(value != column["score"] for value in given) / len(given)
        else:
            people = sum(given) / len(given)
            difference = column["score"] - people
            size = abs(difference)
        rows.append(
            {
                "id": answer.id,
                "case_id": answer.case_id,
                "model": answer.model,
                "judge": column["score"],
                "people": people,
                "difference": difference,
                "size": size,
                "scores": dict(answer.people),
            }
        )
    return sorted(rows, key=lambda row: (-row["size"], row["model"], row["id"]))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _write_sheet(path: Path, rows: list[dict], raters: list[str]) -> None:
    columns = ("id", "case_id", "model", "judge", "people", "difference", "size")
    with atomic_file(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*columns, *(f"score of {rater}" for rater in raters)])
        for row in rows:
            cells = [row[name] for name in columns] + [row["scores"][rater] for rater in raters]
            writer.writerow([_cell(value) for value in cells])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    # A spreadsheet must not take a text from a file for a formula.
    return f"'{value}" if str(value)[:1] in ("=", "+", "-", "@", "\t", "\r") else str(value)


def _plot(rows: list[dict], level: str) -> dict[str, Any] | None:
    """Circles of the judge's score over the people's mean, or the counts of each pair of labels."""
    if not rows:
        return None
    if level == "nominal":
        said = [(row["judge"], value) for row in rows for value in row["scores"].values() if value is not None]
        pairs = Counter((_shown(one), _shown(other)) for one, other in said)
        names = sorted({name for pair in pairs for name in pair})
        return {"kind": "table", "names": names, "counts": [[pairs[one, other] for other in names] for one in names]}
    values = [value for row in rows for value in (row["judge"], row["people"])]
    low, high = math.floor(min(values)), math.ceil(max(values))
    high = max(high, low + 1)
    # People's means are rounded to a 24th of the axis, so that equal points become one larger circle.
    cell = (high - low) / 24
    counted = Counter((round((row["people"] - low) / cell), round((row["judge"] - low) / cell)) for row in rows)
    most = max(counted.values())
    circles = [
        {"x": 260 * x / 24, "y": 260 * (1 - y / 24), "r": 2.2 + 7.5 * math.sqrt(count / most), "count": count}
        for (x, y), count in sorted(counted.items())
    ]
    ticks = [{"at": 260 * part, "label": f"{low + part * (high - low):g}"} for part in (0, 0.25, 0.5, 0.75, 1)]
    return {"kind": "circles", "circles": circles, "ticks": ticks, "most": most}
