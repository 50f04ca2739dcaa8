"""Model cards, written from the record of the run: a number that the run did not produce cannot appear in one."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_text

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
            the records of the stages before. By default those in `stage.json` of the sibling folders that sort before
            this one.
        scores (`Mapping`, *optional*):
            what `semihv score` wrote. By default the record's `scores`, or `scores.json` in the folder, if there.
        repo_id (`str`, *optional*): the Hub id in the loading example. By default made from the folder's name.

    Returns:
        `Path`: the card.

    Raises:
        SemiHVError: the record lacks something that the card states.

    Example:

    ```python
    >>> write_model_card("runs/quickstart/checkpoints/1_alignment", record)  # doctest: +SKIP
    ```
    """
    from huggingface_hub import ModelCard
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

    from semihv_hf.resources import resource_dir

    folder = Path(checkpoint_dir)
    if earlier is None:
        earlier = _sibling_records(folder)
    if scores is None:
        scores = record.get("scores") or _read_json(folder / "scores.json")
    environment = Environment(
        loader=FileSystemLoader(resource_dir("model_cards")),
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    name = repo_id or f"your-name/pmc-cambrian-{folder.name.replace('_', '-')}"
    text_model = record.get("text_model")
    try:
        body = environment.get_template("model_card.md.jinja").render(
            model_name=name.rpartition("/")[2],
            repo_id=name,
            base_model=_base_model(text_model),
            towers=_towers(folder),
            stages=[_stage_row(stage) for stage in [*earlier, record]],
            seed=_required(record, "seed"),
            sources=_required(record, "sources"),
            verdict=_verdict(scores),
            baseline_titles=BASELINE_TITLES,
            version=_package_version(),
            transformers_version=version("transformers"),
        )
    except UndefinedError as error:
        raise SemiHVError(f"The model card of {folder} cannot be written: {error}.", "Complete the record.") from error
    card = ModelCard(f"---\n{_front_matter(name, text_model, scores)}\n---\n\n{body}")
    path = folder / "README.md"
    write_text(path, str(card))
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
    record = _read_json(run / "checkpoints" / stage / "stage.json")
    if record is None:
        raise SemiHVError(f"{run} has no finished stage {stage}.", "Run the quickstart to its end first.")
    checkpoint = run / "checkpoints" / stage
    stages = [*_sibling_records(checkpoint), record]
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


def source_counts(rows: Iterable[Mapping]) -> list[dict]:
    """Counts a dataset's rows by source and licence, for the record of a stage.

    Args:
        rows (`Iterable[Mapping]`): rows with `source` and `licence`, such as a `datasets.Dataset`, of which only these
            two columns are read.

    Returns:
        `list[dict]`: `source`, `licence` and `rows`, sorted by source.

    Example:

    ```python
    >>> source_counts([{"source": "a", "licence": "MIT"}, {"source": "a", "licence": "MIT"}])
    [{'source': 'a', 'licence': 'MIT', 'rows': 2}]
    ```
    """
    if hasattr(rows, "select_columns"):
        rows = rows.select_columns(["source", "licence"])
    counts = Counter((row["source"], row["licence"]) for row in rows)
    return [{"source": source, "licence": licence, "rows": n} for (source, licence), n in sorted(counts.items())]


def _stage_row(record: Mapping) -> dict:
    """What the card says about one stage."""
    title = _required(record, "title")
    losses = [entry["loss"] for entry in _required(record, "log") if "loss" in entry]
    if not losses:
        raise SemiHVError(f"The record of the stage {title} logged no loss.", "Log at least one step.")
    return {
        "title": title,
        "rows": _required(record, "rows"),
        "steps": max(entry["step"] for entry in record["log"] if "loss" in entry),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "seconds": _required(record, "seconds"),
        "trained": _required(_required(record, "trainable"), "parameters"),
        "frozen": _required(_required(record, "frozen"), "parameters"),
        "frozen_identical": record["frozen"].get("bit_identical", False) or record["frozen"]["parameters"] == 0,
    }


def _required(record: Mapping, key: str):
    if key not in record or record[key] is None:
        raise SemiHVError(
            f"The record of the stage {record.get('title', '')!r} has no {key!r}, which the model card states.",
            "Add it to the record.",
        )
    return record[key]


def _verdict(scores: Mapping | None) -> Mapping | None:
    """The closed-question comparison; `None` where nothing was scored."""
    if scores is None:
        return None
    if "verdict" not in scores:
        raise SemiHVError("The scores have no 'verdict', which the model card states.", "Run `semihv score` again.")
    verdict = scores["verdict"]
    return verdict if verdict["n"] else None


def _front_matter(name: str, text_model: str | None, scores: Mapping | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    verdict = _verdict(scores)
    if verdict is not None:
        results = [
            EvalResult(
                task_type="visual-question-answering",
                dataset_type="semihvision",
                dataset_name="SemiHVision quickstart benchmark, test",
                metric_type="accuracy",
                metric_name="closed-question accuracy",
                metric_value=round(verdict["accuracy"], 4),
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
    return text_model if is_hub_id else None


def _towers(folder: Path) -> list[str]:
    config = _read_json(folder / "config.json")
    if config is None:
        raise SemiHVError(f"{folder} has no config.json.", "Save the model before its card.")
    towers = [title for name, title in TOWER_TITLES.items() if config.get(f"{name}_config")]
    if not towers:
        raise SemiHVError(f"The config.json in {folder} names no vision tower.", "Is it a PMC-Cambrian checkpoint?")
    return towers


def _sibling_records(folder: Path) -> list[dict]:
    folder = folder.resolve()
    paths = sorted(folder.parent.glob("*/stage.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.parent.name < folder.name]


def _read_json(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _package_version() -> str:
    import semihv_hf

    return semihv_hf.__version__
