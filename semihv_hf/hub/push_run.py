"""The end of a recipe's run: its card, and `push_to_hub`, of which all that can stand against it is found beforehand.

Of the run's folder only what a model consists of is sent: no checkpoint, no log of a tracker (these hold paths and the
machine's name), no pickle. Rows that name their sources are put before the licence gate. Unlike `semihv publish` this
takes runs on sources that the registry does not know, which are the user's own: what comes of them is private unless
`hub_private_repo` says otherwise. What comes of rows that name no source is never public.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from semihv_hf.data.licences import registry
from semihv_hf.errors import SemiHVError
from semihv_hf.training.adapters import snapshot_of
from semihv_hf.training.stage_record import NOT_STATED

from . import gate
from .allowed_files import check_upload
from .publish import visibility, with_final_card
from .repository import Target, find_target, hub_client, prepare, show
from .upload import LocalFile, upload


def take_push(config) -> Target | None:
    """
    Takes the push out of a trainer's settings, which would send every checkpoint as it is, and asks the Hub about it.

    Args:
        config (`transformers.TrainingArguments`): `push_to_hub` is read and switched off, `hub_*` are read.

    Returns:
        [`Target`]: where to push, or `None` if nothing is to be pushed.

    Raises:
        SemiHVError: `hub_strategy` asks for checkpoints, or the user may not write there.
    """
    if not config.push_to_hub:
        return None
    config.push_to_hub = False
    if config.hub_strategy in ("checkpoint", "all_checkpoints"):
        raise SemiHVError(
            f"hub_strategy is {config.hub_strategy.value}, but checkpoints hold the state of a training.",
            "Leave hub_strategy out: the finished model is pushed.",
        )
    if config.hub_token is None:
        client = hub_client()
    else:
        from huggingface_hub import HfApi

        client = HfApi(token=config.hub_token)
    name = config.hub_model_id or Path(config.output_dir).resolve().name
    return find_target(client, "model", name, config.hub_revision or "main")


def trained_on(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """
    What a model was trained on, as far as it is recorded.

    Args:
        record (`Mapping`): the record of its last stage.

    Returns:
        `list[Mapping]`: the sources of the stages before, and of this one.
    """
    before = record.get("sources_before") or record.get("sources_known_before") or []
    return [*before, *(record.get("sources") or [])]


def is_undetermined(record: Mapping[str, Any]) -> bool:
    """
    Whether rows of a stage, or of one before it, name no source, such as those of a stream.

    Args:
        record (`Mapping`): the record of the stage.

    Returns:
        `bool`
    """
    return record.get("sources") is None or any(entry["source"] == NOT_STATED for entry in trained_on(record))


def run_decisions(record: Mapping[str, Any]) -> tuple[list[gate.SourceDecision], bool]:
    """
    What the licence gate says about the sources that a run's rows name.

    Args:
        record (`Mapping`): the stage's record, see [`trained_on`].

    Returns:
        `tuple[list[SourceDecision], bool]`: the decisions, and whether every source is one of the registry. What is
        not there is the user's own, to be judged by the user.

    Raises:
        SemiHVError: a source may not be published.
    """
    counts, early = gate.count_entries(trained_on(record))
    known = {source: rows for source, rows in counts.items() if source in registry()}
    decisions = gate.decide("model", known, early=early)
    gate.check_all_allowed(decisions)
    return decisions, record.get("sources") is not None and counts.keys() <= registry().keys()


def needs_private(record: Mapping[str, Any]) -> bool:
    """
    Whether a run's model is to be private unless the user says otherwise.

    Args:
        record (`Mapping`): the stage's record.

    Returns:
        `bool`: a source asks for it, or is not known.
    """
    decisions, known = run_decisions(record)
    return not known or any(each.private for each in decisions)


def push_run(folder: str | Path, target: Target, record: Mapping[str, Any], private: bool | None = None) -> str:
    """
    Makes a repository consist of a finished run's model.

    Args:
        folder (`str` or `Path`): the run's output folder, with its card.
        target ([`Target`]): from [`take_push`].
        record (`Mapping`): the stage's record.
        private (`bool`, *optional*): who may see it; by default private where a source asks for it, or is
            not known.

    Returns:
        `str`: the commit.

    Raises:
        SemiHVError: a source may not be published, a file may not leave the machine, or the Hub refuses.
    """
    questions = gate.gated_fields("model", run_decisions(record)[0])
    files = [LocalFile.of(file.name, file.path) for file in check_upload(folder, "model", leave=True)]
    files = with_final_card(files, target.repo_id, questions)
    seen = visibility(target, private, needs_private(record))
    if not seen:
        _check_public(target, record)
    prepare(target, private=seen, gated=bool(questions))
    revision, _ = upload(target, files, message="End of training")
    if not seen:
        show(target)
    return revision


def check_push(target: Target, settings, private: bool | None, record: Mapping[str, Any]) -> None:
    """
    Refuses, before the first step, a push that the end of the run would refuse.

    Args:
        target ([`Target`]): from [`take_push`].
        settings ([`RunArguments`]): what is trained from what.
        private (`bool`, *optional*): `hub_private_repo`.
        record (`Mapping`): what the record will say of the sources.

    Raises:
        SemiHVError: a source may not be published, or not in a public repository, or what comes of the run is an
            adapter of a folder of this machine.
    """
    public = target.exists and not (target.untouched or target.private)
    if public and private is None and needs_private(record):
        raise SemiHVError(
            f"{target.repo_id} is public, but a source of this run is not known, or binds everybody who has a copy.",
            "Set hub_private_repo to true or false, or choose another hub_model_id.",
        )
    if private is False or (public and private is None):
        _check_public(target, record)
    run_decisions(record)
    if (
        settings.lora_r
        and not settings.lora_merge
        and Path(settings.model).is_dir()
        and snapshot_of(settings.model) is None
    ):
        raise SemiHVError(
            f"The adapter's base model {Path(settings.model).name} is a folder of this machine: others could not load "
            "the adapter.",
            "Publish the base model and give its id as model, or set lora_merge to push whole weights.",
        )


def _check_public(target: Target, record: Mapping[str, Any]) -> None:
    if is_undetermined(record):
        raise SemiHVError(
            f"{target.repo_id} would be public, but rows of this run, or of the one it starts from, name no source: "
            "no licence can be asked about. Nothing was uploaded.",
            "Set hub_private_repo to true. Unstreamed rows with the columns source and licence can be public.",
        )


def write_run_card(trainer, record: Mapping[str, Any], target: Target | None) -> None:
    """
    The model card: ours for a whole PMC-Cambrian, TRL's for any other model and for adapters.

    Args:
        trainer (`transformers.Trainer`): TRL's; its output folder holds the weights.
        record (`Mapping`): the stage's record.
        target ([`Target`], *optional*): where the model will be pushed.
    """
    from .cards import write_model_card

    folder = Path(trainer.args.output_dir)
    config = trainer.accelerator.unwrap_model(trainer.model).config
    if config.model_type != "pmc_cambrian" or not (folder / "config.json").is_file():
        trainer.hub_model_id = None if target is None else target.repo_id
        trainer.create_model_card(model_name=folder.resolve().name)
        return
    # Without the columns nothing is known but the names of the datasets.
    named = [
        {
            **{"source": share["dataset"], "licence": NOT_STATED, "rows": share["drawn"]},
            "streamed": share["drawn"] is None,
        }
        for share in record.get("mixture") or [{"dataset": record["dataset"], "drawn": record["rows"]}]
    ]
    own = named if record["sources"] is None else record["sources"]
    sources = trained_on({**record, "sources": own})
    write_model_card(folder, {**record, "sources": _together(sources)})


def _together(sources: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each source and licence, whichever stages saw it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in sources:
        key = entry["source"], entry["licence"]
        before = found.get(key)
        if before is None:
            found[key] = dict(entry)
        elif before.get("streamed") or entry.get("streamed"):
            before.update(rows=None, streamed=True)
        else:
            before["rows"] += entry["rows"]
    return list(found.values())


def end_run(trainer, record: Mapping[str, Any], target: Target | None) -> None:
    """
    Writes the card and pushes what the run made; every process calls it.

    Args:
        trainer (`transformers.Trainer`): after training, its weights written.
        record (`Mapping`): the stage's record.
        target ([`Target`], *optional*): from [`take_push`].

    Raises:
        SemiHVError: see [`push_run`].
    """
    if trainer.is_world_process_zero():
        write_run_card(trainer, record, target)
        if target is not None:
            if record.get("sources") is None:
                print("The rows name no sources, so no licence was asked about.", flush=True)
            revision = push_run(trainer.args.output_dir, target, record, trainer.args.hub_private_repo)
            print(f"{target.url} {'private' if target.private else 'public'}, revision {revision}", flush=True)
    trainer.accelerator.wait_for_everyone()
