"""What a run folder holds, read as it is: what is not there is said, never filled in."""

import json
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.benchmarks import load_rows
from semihv_hf.evaluation.charts import loss_panel

STAGES = {
    "0_warmup": "Tower warm-up",
    "1_alignment": "Alignment",
    "2_instruction": "Instruction tuning",
    "3_annealing": "Annealing",
}
PACKAGES = (
    "semihv-hf",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "evaluate",
    "numpy",
    "pillow",
)
CONFIGS = ("cases", "alignment", "instruction", "annealing", "benchmark", "jama_style")


def read_json(path: Path) -> dict | None:
    """Reads a JSON file of the run.

    Args:
        path (`Path`): the file.

    Returns:
        `dict | None`: its content, or `None` when there is no such file.

    Raises:
        SemiHVError: the file is there but is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SemiHVError(f"{path} is not valid JSON ({error}).", "Delete it and run that step again.") from error


def read_stages(run_dir: Path) -> list[dict]:
    """Reads what each training stage recorded.

    Args:
        run_dir (`Path`): the run folder.

    Returns:
        `list[dict]`: one entry a stage in the order of training, with `status` `"done"` or `"missing"`.
    """
    folder = run_dir / "checkpoints"
    found = {path.parent.name: path for path in folder.glob("*/stage.json")}
    stages = []
    for name in sorted({*STAGES, *found}):
        if name not in found:
            reason = "This folder holds no record of the stage: it was not run here."
            stages.append(
                {"stage": name, "title": STAGES[name], "status": "missing", "reason": reason, "recipe": None}
            )
            continue
        record = read_json(found[name])
        trainable, frozen = record.get("trainable") or {}, record.get("frozen") or {}
        stages.append(
            {
                "stage": name,
                "title": record.get("title") or STAGES.get(name, name),
                "status": "done",
                "recipe": record.get("recipe"),
                "seconds": record.get("seconds"),
                "peak_rss_gib": record.get("peak_rss_gib"),
                "loss": loss_panel(record.get("log") or []),
                "trainable": {key: trainable.get(key) for key in ("patterns", "names", "parameters", "tensors")},
                "frozen": {key: frozen.get(key) for key in ("parameters", "tensors", "bit_identical")},
            }
        )
    return stages


def read_composition(data: Path) -> dict:
    """Counts what the dataset folder of the run holds.

    Args:
        data (`Path`): the dataset folder.

    Returns:
        `dict`: `status`, the number of rows of every config and split, the cases by modality and split, the cases by
        source and licence, and the files that the build skipped with their reasons.
    """
    if not (data / "README.md").is_file():
        return {"status": "missing", "reason": "The run folder holds no dataset."}
    rows, cases = {}, None
    for config in CONFIGS:
        found = sorted((data / "data" / config).glob("*.parquet"))
        splits = sorted({path.name.split("-")[0] for path in found}, key=("train", "validation", "test").index)
        rows[config] = {}
        for split in splits:
            loaded = load_rows(data, config, split, columns=["source", "licence", "group", "facts"])
            rows[config][split] = loaded.num_rows
            if config == "cases":
                cases = (cases or []) + [{**row, "split": split} for row in loaded]
    build = read_json(data / "build_report.json") or {}
    return {
        "status": "done",
        "rows": rows,
        "by_modality": _by_modality(cases or []),
        "by_source": _by_source(cases or []),
        "skipped": build.get("skipped") or [],
        "seconds": build.get("seconds"),
    }


def _by_modality(cases: list[dict]) -> list[dict]:
    counts: dict[str, Counter] = {}
    for case in cases:
        stated = next((fact["value"] for fact in case["facts"] if fact["name"] == "modality"), "not stated")
        counts.setdefault(stated, Counter())[case["split"]] += 1
    return [{"modality": name, **_splits(counts[name])} for name in sorted(counts)]


def _by_source(cases: list[dict]) -> list[dict]:
    counts: dict[tuple[str, str], Counter] = {}
    for case in cases:
        counts.setdefault((case["source"], case["licence"]), Counter())[case["split"]] += 1
    return [
        {"source": source, "licence": licence, **_splits(counts[source, licence])}
        for source, licence in sorted(counts)
    ]


def _splits(counter: Counter) -> dict[str, int]:
    return {split: counter[split] for split in ("train", "validation", "test")}


def read_environment(stages: list[dict], composition: dict, predictions: dict) -> dict:
    """Says with what the run was made, and how long its parts took.

    Args:
        stages (`list[dict]`): from [`read_stages`].
        composition (`dict`): from [`read_composition`].
        predictions (`dict`): the meta file of each predictions file, by name.

    Returns:
        `dict`: package versions and machine as found when the report is written, seconds a part, and the peak memory
        over the stages.
    """
    seconds = {"dataset": composition.get("seconds")}
    seconds.update({stage["title"]: stage.get("seconds") for stage in stages})
    seconds.update({f"answers: {name}": meta.get("seconds") for name, meta in predictions.items()})
    peaks = [stage["peak_rss_gib"] for stage in stages if stage.get("peak_rss_gib") is not None]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "seconds": {name: value for name, value in seconds.items() if value is not None},
        "peak_rss_gib": max(peaks) if peaks else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
