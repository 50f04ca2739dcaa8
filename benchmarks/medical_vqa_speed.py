"""The medical_vqa metric on 10,000 rows: seconds, rows a second, and the ratio to a naive restatement.

    python benchmarks/medical_vqa_speed.py --rounds 5 --threads 1 --seed 0

Half the rows are closed with three options, half open; seven groups. The restatement decides the same rows one by one
with the same rules, but walks over all rows once for each group and decides its rows anew, as
scripts do that grew by a breakdown at a time. Equal scores are asserted.
"""

import random
from pathlib import Path

import evaluate
from measuring import finish, median_seconds, parse_arguments, print_row

METRIC = Path(__file__).resolve().parents[1] / "metrics" / "medical_vqa"
ROWS = 10_000
SECONDS = 3.0
PLANES = ["axial", "coronal", "sagittal"]


def make_rows(seed):
    """Rows as a benchmark has them: short answers, some wordy, some wrong, a few missing."""
    generator = random.Random(seed)
    words = "mass cyst left right lung kidney in the of small large upper lobe".split()
    rows = {"predictions": [], "references": [], "options": [], "groups": []}
    for number in range(ROWS):
        closed = number % 2 == 0
        reference = (
            generator.choice(PLANES) if closed else " ".join(generator.choices(words, k=generator.randint(1, 6)))
        )
        said = f"This is an {generator.choice(PLANES)} slice." if closed else " ".join(generator.choices(words, k=8))
        rows["predictions"].append(None if generator.random() < 0.01 else said)
        rows["references"].append(reference)
        rows["options"].append(PLANES if closed else [])
        rows["groups"].append(f"modality {number % 7}")
    return rows


def naive(metric, rows):
    """The whole, then each group by a walk over all rows and a computation of its own."""
    names = ("predictions", "references", "options")
    result = metric.compute(**{name: rows[name] for name in names})
    result["by_group"] = {}
    for group in sorted(set(rows["groups"])):
        chosen = [index for index, name in enumerate(rows["groups"]) if name == group]
        result["by_group"][group] = metric.compute(**{name: [rows[name][i] for i in chosen] for name in names})
        del result["by_group"][group]["protocol"]
    return result


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, threads=1)
    metric = evaluate.load(str(METRIC))
    rows = make_rows(arguments.seed)
    assert metric.compute(**rows) == naive(metric, rows), "the scores differ"
    seconds = median_seconds(
        {"naive": lambda: naive(metric, rows), "ours": lambda: metric.compute(**rows)}, arguments.rounds
    )
    print_row(f"{ROWS} rows, {len(set(rows['groups']))} groups", seconds)
    claims = [
        {"claim": f"{SECONDS} s over the time of {ROWS} rows", "ratio": SECONDS / seconds["ours"], "bar": 1.0},
        {"claim": "against the naive restatement", "ratio": seconds["naive"] / seconds["ours"], "bar": None},
    ]
    finish("medical_vqa_speed", claims, arguments, rows_per_second=round(ROWS / seconds["ours"]))


if __name__ == "__main__":
    main()
