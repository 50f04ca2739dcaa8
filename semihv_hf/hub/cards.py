"""Model cards, written from the record of the run: a number that the run did not produce cannot appear in one."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from semihv_hf.data.source_counts import source_counts
from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_text

from .lineage import read_record, stages_before

BASE_MODELS = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
TOWER_TITLES = {"siglip": "SigLIP", "clip": "CLIP", "dino": "DINOv2", "convnext": "ConvNeXt"}
BASELINE_TITLES = {
    "majority": "always the commonest answer",
    "blank": "a blank image",
    "shuffled": "another case's image",
}


def write_model_card(
    checkpoint_dir: str | Path,
    record: Mapping,
    *,
    earlier: Sequence[Mapping] | None = None,
    scores: Mapping | None = None,
    repo_id: str | None = None,
) -> Path:
    """Writes `README.md` into a checkpoint folder.

    Args:
        checkpoint_dir (`str` or `Path`): the folder; its `config.json` tells which vision towers the model has.
        record (`Mapping`):
            what the training stage knows: `title`, `rows`, `seed`, `seconds`, `log`, `trainable`, `frozen` and
            `sources` (see [`source_counts`]); `text_model` names what the language model started from.
        earlier (`Sequence[Mapping]`, *optional*):
            the records of the stages before. By default those that [`semihv_hf.hub.lineage.stages_before`] finds.
        scores (`Mapping`, *optional*):
            what `semihv score` wrote. By default the record's `scores`, or `scores.json` in the folder, if there.
        repo_id (`str`, *optional*): the Hub id in the loading example. By default made from the folder's name.

    Returns:
        `Path`: the card.

    Raises:
        SemiHVError: the record lacks something that the card states, or the scores are about another checkpoint.

    Example:

    ```python
    >>> write_model_card("runs/quickstart/checkpoints/1_alignment", record)  # doctest: +SKIP
    ```
    """
    from huggingface_hub import ModelCard
    from jinja2 import UndefinedError

    from semihv_hf.resources import resource_dir
    from semihv_hf.templates import strict_templates

    from .card_rules import cell, check_card

    folder = Path(checkpoint_dir)
    if earlier is None:
        earlier = stages_before(folder, record)
    if scores is None:
        scores = record.get("scores") or _read_json(folder / "scores.json")
    if scores is not None:
        _check_scored(folder, scores)
    environment = strict_templates(resource_dir("model_cards"))
    environment.filters["cell"] = cell  # takes what would break a table or bring HTML
    name = _repo_name(repo_id or _example_id(folder))
    text_model = record.get("text_model")
    try:
        body = environment.get_template("model_card.md.jinja").render(
            model_name=name.rpartition("/")[2],
            repo_id=name,
            base_model=_base_model(text_model),
            towers=_towers(folder),
            stages=[_stage_row(stage) for stage in [*earlier, record]],
            seed=_number(record, "seed"),
            sources=[_source_row(source) for source in _rows(record, "sources")],
            compute=_compute([*earlier, record]),
            verdict=_verdict(scores),
            open_questions=_open_questions(scores),
            baseline_titles=BASELINE_TITLES,
            version=_package_version(),
            transformers_version=version("transformers"),
        )
    except UndefinedError as error:
        raise SemiHVError(f"The model card of {folder} cannot be written: {error}.", "Complete the record.") from error
    card = ModelCard(f"---\n{_front_matter(name, text_model, scores)}\n---\n\n{body}")
    path = folder / "README.md"
    write_text(path, str(card))
    check_card(path, "model")
    return path


def run_record(run_dir: str | Path, stage: str = "3_annealing", *, text_model: str | None = None) -> dict:
    """Collects from a finished run what the card of one of its checkpoints states.

    Args:
        run_dir (`str` or `Path`): the folder with `checkpoints/`, `data/` and `scores.json`.
        stage (`str`, *optional*, defaults to `"3_annealing"`): the checkpoint's folder.
        text_model (`str`, *optional*): what the language model started from.

    Returns:
        `dict`: the stage's record with `text_model`, `scores` (for the last stage, else `None`), and `sources` summed
        over this stage and those before.

    Raises:
        SemiHVError: the run has no such stage.
    """
    from datasets import load_dataset

    run = Path(run_dir)
    checkpoint = run / "checkpoints" / stage
    record = read_record(checkpoint)
    if record is None:
        raise SemiHVError(f"{run} has no finished stage {stage}.", "Run the quickstart to its end first.")
    stages = [*stages_before(checkpoint, record), record]
    configs = dict.fromkeys(entry["dataset_config"] for entry in stages if entry.get("dataset_config"))
    totals: Counter = Counter()
    for config in configs:
        for entry in source_counts(load_dataset(str(run / "data"), config, split="train")):
            totals[entry["source"], entry["licence"]] += entry["rows"]
    sources = [{"source": source, "licence": licence, "rows": n} for (source, licence), n in sorted(totals.items())]
    # The run answers and scores its last checkpoint only: the scores say nothing about one that was trained further.
    last = max(path.parent.name for path in checkpoint.parent.glob("*/stage.json"))
    scores = _read_json(run / "scores.json") if stage == last else None
    return {**record, "text_model": text_model, "scores": scores, "sources": sources}


def _stage_row(record: Mapping) -> dict:
    """What the card says about one stage."""
    title = _required(record, "title")
    losses = [entry for entry in _rows(record, "log") if entry.get("loss") is not None]
    if not losses:
        raise SemiHVError(f"The record of the stage {title} logged no loss.", "Log at least one step.")
    frozen = _required(record, "frozen")
    trained = _number(_required(record, "trainable"), "parameters")
    return {
        "title": title,
        "rows": _row_count(record),
        "steps": max(_number(entry, "step") for entry in losses),
        "first_loss": _number(losses[0], "loss"),
        "last_loss": _number(losses[-1], "loss"),
        "seconds": _number(record, "seconds"),
        "trained": trained,
        "frozen": _number(frozen, "parameters"),
        "frozen_identical": frozen.get("bit_identical", False) or frozen["parameters"] == 0,
    }


def _source_row(source: Mapping) -> dict:
    """One source of training data; the registry adds where its licence stands and what must be kept."""
    from semihv_hf.data.licences import registry

    entry = registry().get(str(_required(source, "source")))
    return {
        "source": source["source"],
        "licence": _required(source, "licence"),
        "rows": _row_count(source),
        "link": None if entry is None or not entry.link.startswith("https://") else entry.link,
        "conditions": ", ".join(entry.conditions) if entry else "",
        "attribution": entry.attribution if entry else "",
    }


def _compute(records: Sequence[Mapping]) -> dict:
    """What training took, as far as it was measured; what was not measured is `None`, and said to be so."""
    memory = [_number(record, "peak_rss_gib") for record in records if record.get("peak_rss_gib") is not None]
    energy = [_number(record, "energy_kwh") for record in records if record.get("energy_kwh") is not None]
    return {
        "seconds": sum(_number(record, "seconds") for record in records),
        "memory": max(memory) if len(memory) == len(records) else None,
        "energy": sum(energy) if len(energy) == len(records) else None,
    }


def _row_count(record: Mapping) -> int | float | str:
    """Rows of a stage or source; a stream does not know how many it has."""
    return "streamed" if record.get("streamed") else _number(record, "rows")


def _required(record: Mapping, key: str):
    if not isinstance(record, Mapping):
        raise SemiHVError(f"The record has {record!r:.80} where a mapping with {key!r} belongs.", "Mend the record.")
    if key not in record or record[key] is None:
        raise SemiHVError(
            f"The record of the stage {record.get('title', '')!r} has no {key!r}, which the model card states.",
            "Add it to the record.",
        )
    return record[key]


def _number(record: Mapping, key: str) -> int | float:
    """A number that a run produced; nothing else can stand for one."""
    value = _required(record, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SemiHVError(f"The record states {key} as {value!r:.80}, which is no number.", "Mend the record.")
    return value


def _rows(record: Mapping, key: str) -> list[Mapping]:
    value = _required(record, key)
    if not isinstance(value, list | tuple) or not all(isinstance(row, Mapping) for row in value):
        raise SemiHVError(f"The record states {key} as {value!r:.80}, which is no list of rows.", "Mend the record.")
    return list(value)


def _verdict(scores: Mapping | None) -> Mapping | None:
    """The closed-question comparison; `None` where nothing was scored."""
    if scores is None:
        return None
    if "verdict" not in scores:
        raise SemiHVError("The scores have no 'verdict', which the model card states.", "Run `semihv score` again.")
    verdict = scores["verdict"]
    if not _number(verdict, "n"):
        return None
    dataset = _required(scores, "dataset")
    baselines = {name: _measured(one, "margin") for name, one in verdict["baselines"].items() if one}
    return {
        **_measured(verdict),
        "dataset": ", ".join(filter(None, (_required(dataset, "name"), dataset.get("config"), dataset.get("split")))),
        "dataset_type": dataset.get("hub_id") or re.sub(r"\W+", "-", dataset["name"].lower()).strip("-"),
        "baselines": baselines,
        **{key: _number(verdict, key) for key in ("n", "n_cases", "n_failed", "n_unparsed")},
    }


def _measured(entry: Mapping, *more: str) -> dict:
    """An accuracy with its interval."""
    low, high = _required(entry, "ci95")
    return {
        **{key: _number(entry, key) for key in ("accuracy", *more)},
        "low": _number({"ci95": low}, "ci95"),
        "high": _number({"ci95": high}, "ci95"),
    }


def _check_scored(folder: Path, scores: Mapping) -> None:
    """Whether the scores are about this very checkpoint: their model is named with the first digits of its hash."""
    from semihv_hf.evaluation.answering import identify_model

    stated = str(_required(scores, "model"))
    found, digest = identify_model(folder)
    if stated.rpartition("@")[2] != digest[:8]:
        raise SemiHVError(
            f"The scores are about {stated}, not about the checkpoint in {folder}, which is {found}.",
            "Run `semihv predict` and `semihv score` on it, or leave the scores out.",
        )


def _open_questions(scores: Mapping | None) -> dict | None:
    """Token recall on open questions with the image; `None` where none were asked."""
    found = ((scores or {}).get("conditions") or {}).get("image", {}).get("open")
    if not found or not found.get("total"):
        return None
    low, high = _required(found, "ci95")
    return {
        **{key: _number(found, key) for key in ("recall", "total", "failed")},
        "low": _number({"ci95": low}, "ci95"),
        "high": _number({"ci95": high}, "ci95"),
    }


def _example_id(folder: Path) -> str:
    """An id for the card's example; a folder may be called anything."""
    words = re.findall(r"[A-Za-z0-9]+", folder.resolve().name)
    return "your-name/pmc-cambrian-" + ("-".join(words)[:60].strip("-") or "stage")


def _repo_name(name: str) -> str:
    """The id of a repository, which also stands inside the code example."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise SemiHVError(f"{name!r:.100} is no id of a repository.", "Write name/model.") from error
    return name


def _front_matter(name: str, text_model: str | None, scores: Mapping | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    verdict = _verdict(scores)
    if verdict is not None:
        results = [
            EvalResult(
                task_type="visual-question-answering",
                dataset_type=verdict["dataset_type"],
                dataset_name=verdict["dataset"],
                metric_type="accuracy",
                metric_name="closed-question accuracy",
                metric_value=round(verdict["accuracy"], 4),
                metric_args={
                    "questions": verdict["n"],
                    "failed": verdict["n_failed"],
                    "ci95": [round(verdict["low"], 4), round(verdict["high"], 4)],
                },
            )
        ]
    data = ModelCardData(
        language="en",
        # The code is Apache-2.0; the weights were trained on images under several licences, some of them unstated.
        license="other",
        license_name="research-only-mixed-sources",
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["medical", "vision-language-model", "pmc_cambrian", "custom_code"],
        base_model=_base_model(text_model),
        eval_results=results,
        model_name=name.rpartition("/")[2] if results else None,
    )
    return data.to_yaml().strip()


def _base_model(text_model: str | None) -> str | None:
    """The Hub id of the text model; a folder of the user's has none."""
    if text_model is None or text_model in BASE_MODELS:
        return BASE_MODELS.get(text_model)
    is_hub_id = (
        text_model.count("/") == 1 and not text_model.startswith((".", "/", "~")) and not Path(text_model).exists()
    )
    return text_model if is_hub_id and re.fullmatch(r"[\w.-]+/[\w.-]+", text_model) else None


def _towers(folder: Path) -> list[str]:
    config = _read_json(folder / "config.json")
    if config is None:
        raise SemiHVError(f"{folder} has no config.json.", "Save the model before its card.")
    towers = [title for name, title in TOWER_TITLES.items() if config.get(f"{name}_config")]
    if not towers:
        raise SemiHVError(f"The config.json in {folder} names no vision tower.", "Is it a PMC-Cambrian checkpoint?")
    return towers


def _read_json(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _package_version() -> str:
    import semihv_hf

    return semihv_hf.__version__
