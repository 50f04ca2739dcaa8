"""The files that an audit reads: a judge's verdicts and people's scores, with the line of every row."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError

# What stands before what, in the words of the judge metric and in plain ones.
FIRST, SECOND = ("first", "prediction_first"), ("second", "reference_first")
ORIGINAL = (None, "", "original", "image")


@dataclass
class Answer:
    """One judged answer, with everything that was said of it.

    Args:
        id (`str`): the row.
        model (`str`): who wrote the answer; empty where the files do not say.
        case_id (`str`): the case.
        verdicts (`dict`): the judge's rows by (condition, order, repeat).
        people (`dict[str, Any]`): a score or `None` from each person.
    """

    id: str
    model: str
    case_id: str
    verdicts: dict = field(default_factory=dict)
    people: dict = field(default_factory=dict)


def read_table(path: str | Path) -> list[tuple[str, dict]]:
    """Reads rows of JSONL, JSON or CSV.

    Args:
        path (`str` or `Path`): a `.jsonl` file of one object a line; a `.json` file that holds a list of objects, or a
            result with such a list under `rows`; or a `.csv` file with a header, in which an empty cell is a gap and
            a cell that is a number becomes one.

    Returns:
        `list[tuple[str, dict]]`: for each row where it stands, and its content.

    Raises:
        SemiHVError: the file is missing, empty, of another kind, or damaged; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise SemiHVError(f"There is no file {path}.", "Give a .jsonl, .json or .csv file.")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = _csv_rows(path)
    elif suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").split("\n")  # not at other breaks, which a text may hold
        rows = [(f"{path.name}, line {n}", _parsed(path, n, line)) for n, line in enumerate(lines, 1) if line.strip()]
    elif suffix == ".json":
        whole = _parsed(path, 1, path.read_text(encoding="utf-8"))
        whole = whole.get("rows") if isinstance(whole, dict) else whole
        rows = [(f"{path.name}, row {n}", row) for n, row in enumerate(whole if isinstance(whole, list) else [])]
    else:
        raise SemiHVError(f"{path} is not a .jsonl, .json or .csv file.")
    for where, row in rows:
        if not isinstance(row, dict):
            raise SemiHVError(f"{where} is not a JSON object.")
    if not rows:
        raise SemiHVError(f"{path} holds no rows.")
    return rows


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SemiHVError(f"{path.name}, line {number}, is not JSON.") from error


def _csv_rows(path: Path) -> list[tuple[str, dict]]:
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        rows = []
        for row in reader:
            where = f"{path.name}, line {reader.line_num}"
            if None in row or None in row.values():
                raise SemiHVError(f"{where}: the number of cells is not that of the header.")
            rows.append((where, {name: _cell(name, text) for name, text in row.items()}))
    return rows


def _cell(name: str, text: str) -> Any:
    text = text.strip()
    if name in ("id", "case_id", "model", "rater", "reason", "order", "condition", "answer", "prediction"):
        return text or None
    try:
        return float(text)
    except ValueError:
        return text or None


def read_answers(verdict_files: Sequence[str | Path], human_file: str | Path, score: str) -> tuple[list[Answer], dict]:
    """Joins verdicts and people's scores by `id`, and by `model` where both sides name it.

    Args:
        verdict_files (`Sequence[str | Path]`): see [`semihv_hf.evaluation.audit.judge_audit`].
        human_file (`str` or `Path`): likewise.
        score (`str`): the column of a verdict that holds its score.

    Returns:
        `tuple[list[Answer], dict]`: the answers, sorted by model and id; and counts of what was not joined:
        `n_only_people` (rated, but without a row in the verdict files) and `n_other_conditions` (verdict rows).

    Raises:
        SemiHVError: names the file and the line of what is wrong.
    """
    answers: dict[tuple[str, str], Answer] = {}
    others = 0
    files = [Path(path) for path in verdict_files]
    if not files:
        raise SemiHVError("No file of verdicts was given.")
    for path in files:
        for where, row in read_table(path):
            # The rows of one result carry no model: with several files, the file says whose answers they are.
            model = _name(row.get("model")) or (path.stem if len(files) > 1 else "")
            identity = _name(row.get("id", row.get("row")))
            if not identity:
                raise SemiHVError(f"{where}: the verdict has no id.", "Each row needs `id` (or `row`).")
            if score not in row:
                raise SemiHVError(
                    f"{where}: the verdict has no column {score!r}.", "Name it with the setting `score`."
                )
            if row.get("condition") not in ORIGINAL and not str(row["condition"]).startswith("paraphrase"):
                others += 1
                continue
            case = _name(row.get("case_id")) or identity
            answer = answers.setdefault((model, identity), Answer(identity, model, case))
            if answer.case_id != case:
                raise SemiHVError(f"{where}: the case is {case!r}, but {answer.case_id!r} in an earlier verdict.")
            for repeat, value in _repeats(row, score, where):
                _add(answer, {**row, "repeat": repeat, "score": _score(value, where), "where": where})
    only_people = _add_people(answers, human_file)
    kept = [answers[key] for key in sorted(answers)]
    if not any(value is not None for answer in kept for value in answer.people.values()):
        raise SemiHVError("No verdict and no person's score have the same id.", "Compare the ids of the two files.")
    _check_one_kind(kept)
    return kept, {"n_only_people": only_people, "n_other_conditions": others}


def _name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _repeats(row: dict, score: str, where: str) -> list[tuple[Any, Any]]:
    """A row of the judge metric may hold the scores of several repeats, whose mean its own score is."""
    scores = row.get("repeat_scores") if score == "score" else None
    if scores is None:
        return [(row.get("repeat"), row[score])]
    if not isinstance(scores, list) or not scores:
        raise SemiHVError(f"{where}: `repeat_scores` is {scores!r}, not a list of scores.")
    return list(enumerate(scores))


def _score(value: Any, where: str) -> Any:
    if value is None or isinstance(value, str):
        return None if value is None or not value.strip() else value.strip()
    if isinstance(value, (bool, int, float)) and value == value and abs(value) != float("inf"):
        return float(value)
    raise SemiHVError(f"{where}: the score {value!r} is neither a number nor a label.", "A missing one is null.")


def _add(answer: Answer, row: dict) -> None:
    condition = None if row.get("condition") in ORIGINAL else row["condition"]
    order = row.get("order") or None
    if order is not None:
        order = "first" if order in FIRST else "second" if order in SECOND else None
        if order is None:
            known = ", ".join(FIRST + SECOND)
            raise SemiHVError(f"{row['where']}: the order {row['order']!r} is unknown.", f"Known are: {known}.")
    repeat = row.get("repeat") or 0
    if not isinstance(repeat, (int, float)) or repeat != int(repeat) or repeat < 0:
        raise SemiHVError(f"{row['where']}: the repeat {repeat!r} is not a whole number from 0.")
    key = (condition, order, int(repeat))
    if key in answer.verdicts:
        raise SemiHVError(f"{row['where']} repeats the verdict of {answer.verdicts[key]['where']}.")
    answer.verdicts[key] = row


def _add_people(answers: dict[tuple[str, str], Answer], path: str | Path) -> int:
    models_of: dict[str, list[str]] = {}
    for model, identity in answers:
        models_of.setdefault(identity, []).append(model)
    unmatched, raters = set(), {}
    for where, row in read_table(path):
        identity, rater = _name(row.get("id")), _name(row.get("rater"))
        if not identity or not rater or "score" not in row:
            raise SemiHVError(f"{where}: a person's score needs id, rater and score.")
        model = _name(row.get("model"))
        raters[rater] = None
        if not model and len(models_of.get(identity, ())) > 1:
            raise SemiHVError(f"{where}: {identity!r} has answers of several models.", "Add a column `model`.")
        found = models_of.get(identity, [])
        # A side that names no model means the only one there is.
        key = (found[0] if found and (not model or found == [""]) else model, identity)
        if key not in answers:
            unmatched.add((model, identity))
            continue
        if rater in answers[key].people:
            raise SemiHVError(f"{where}: {rater!r} has scored {identity!r} twice.")
        answers[key].people[rater] = _score(row["score"], where)
    for answer in answers.values():
        answer.people = {rater: answer.people.get(rater) for rater in sorted(raters)}
    return len(unmatched)


def _check_one_kind(answers: list[Answer]) -> None:
    """Labels and numbers in one audit are two things that were confused."""
    kinds: dict[bool, str] = {}
    for answer in answers:
        for row in answer.verdicts.values():
            if row["score"] is not None:
                kinds.setdefault(isinstance(row["score"], str), f"the verdict in {row['where']}: {row['score']!r}")
        for rater, value in answer.people.items():
            if value is not None:
                kinds.setdefault(isinstance(value, str), f"{rater} on {answer.id}: {value!r}")
    if len(kinds) == 2:
        raise SemiHVError(
            f"Some scores are labels ({kinds[True]}) and some are numbers ({kinds[False]}).",
            "Name another column of the verdicts with the setting `score`.",
        )
