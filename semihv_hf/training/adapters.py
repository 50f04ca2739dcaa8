"""LoRA and QLoRA on any image-text model: where adapters go by default, what stays out of 4 bit, and merging."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from semihv_hf.errors import SemiHVError, first_line

from .lora import FOUR_BIT_SKIP_MODULES, LORA_TARGETS, lora_modules_to_save
from .mixture import public_name

ADAPTER_FILE = "adapter_config.json"
# Where the Hub's client keeps the snapshots of a model.
SNAPSHOT = re.compile(r"/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<revision>[0-9a-f]{40})/?$")


def adapter_config(stage, model):
    """
    The adapters of a stage.

    Args:
        stage ([`StageArguments`]): its `lora_*` settings.
        model (`PreTrainedModel`): the model that gets them.

    Returns:
        `peft.LoraConfig`

    Raises:
        `SemiHVError`: if a pattern or the end of a name fits no module, or the start is an adapter that stays one.
    """
    from peft import LoraConfig

    check_start(stage)
    ours = model.config.model_type == "pmc_cambrian"
    targets = stage.lora_target_modules or (LORA_TARGETS if ours else decoder_pattern(model))
    whole = stage.lora_modules_to_save or (lora_modules_to_save(model.config) if ours else [])
    names = [name for name, _ in model.named_modules()]
    if not any(re.fullmatch(targets, name) for name in names):
        raise SemiHVError(f"lora_target_modules {targets!r} matches no module.", f"Names look like {names[-1]!r}.")
    for end in whole:
        if not any(name == end or name.endswith(f".{end}") for name in names):
            raise SemiHVError(f"lora_modules_to_save: no module's name ends in {end!r}.")
    return LoraConfig(
        r=stage.lora_r,
        lora_alpha=stage.lora_alpha,
        lora_dropout=stage.lora_dropout,
        target_modules=targets,
        modules_to_save=whole or None,
        task_type="CAUSAL_LM",
        revision=stage.revision,
    )


def check_start(stage) -> None:
    """
    Refuses adapters on top of an adapter whose result would be an adapter again.

    An adapter's file names one base model. That of the second would be the first one's base, without the first: what
    it is loaded on is not what it was trained on, and nothing would say so.

    Args:
        stage ([`StageArguments`]): `model`, `lora_merge` and `load_in_4bit` are read.

    Raises:
        `SemiHVError`
    """
    if is_adapter(stage.model) and (stage.load_in_4bit or not stage.lora_merge):
        raise SemiHVError(
            f"{public_name(stage.model)} is an adapter: new adapters would be loaded on its base model, without it.",
            "Train that stage with lora_merge: true, so that this one starts from whole weights.",
        )


def check_merge(stage, strategy: str) -> None:
    """
    Refuses to merge adapters where no process holds whole weights.

    Args:
        stage ([`RunArguments`]): `lora_r` and `lora_merge` are read.
        strategy (`str`): what the run got, e.g. `zero3`.

    Raises:
        `SemiHVError`
    """
    if stage.lora_r and stage.lora_merge and strategy in ("zero3", "fsdp1", "fsdp2"):
        raise SemiHVError(
            f"lora_merge needs the whole weights in one process, but {strategy} shards them.",
            "Use ddp or zero2, or leave lora_merge out and merge the adapter afterwards.",
        )


def name_base(model, source: str) -> None:
    """
    Writes into a model's adapters what they are to be loaded on: a Hub id where it is known, else the folder.

    Args:
        model (`peft.PeftModel`): the adapters.
        source (`str`): folder or Hub id that the model was loaded from.
    """
    known = snapshot_of(source)
    for config in model.peft_config.values():
        config.base_model_name_or_path = source
        if known is not None:
            config.base_model_name_or_path, config.revision = known


def snapshot_of(folder: str | Path) -> tuple[str, str] | None:
    """
    What a folder in the cache of the Hub's client is a snapshot of.

    Args:
        folder (`str` or `Path`): a folder with a model.

    Returns:
        `tuple[str, str]`: Hub id and commit, or `None` for any other folder.
    """
    known = SNAPSHOT.search(Path(folder).absolute().as_posix())
    return None if known is None else (f"{known['owner']}/{known['name']}", known["revision"])


def decoder_pattern(model) -> str:
    """
    A regular expression on whole module names: the linear layers of the text decoder, never those of a vision tower.

    Args:
        model (`PreTrainedModel`): any image-text model.

    Returns:
        `str`
    """
    decoder = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    names = [
        f"{prefix}.{name}" for name, module in decoder.named_modules() if isinstance(module, nn.Linear) and "." in name
    ]
    return "|".join(dict.fromkeys(re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(name)) for name in names))


def four_bit_settings(config):
    """
    4-bit loading of the text decoder; towers, connector and head keep their precision.

    Args:
        config (`PreTrainedConfig`): the model's configuration.

    Returns:
        `transformers.BitsAndBytesConfig`
    """
    import torch
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    skipped = FOUR_BIT_SKIP_MODULES
    if config.model_type != "pmc_cambrian":
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
        inside = {id(module) for module in model.get_decoder().modules()}
        skipped = [
            re.escape(name)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and id(module) not in inside
        ]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=skipped,
    )


def is_adapter(folder: str | Path) -> bool:
    """Whether a local folder holds an adapter in place of a model."""
    return (Path(folder) / ADAPTER_FILE).is_file()


def load_merged(folder: str | Path, **load):
    """
    An adapter's base model with the adapter merged in.

    Args:
        folder (`str` or `Path`): the adapter; its `adapter_config.json` names the base model.
        load: keyword arguments of `from_pretrained`.

    Returns:
        `PreTrainedModel`

    Raises:
        `SemiHVError`: if the base model is gone.
    """
    from peft import PeftConfig, PeftModel

    from .strict_loading import load_start

    config = PeftConfig.from_pretrained(str(folder))
    base = config.base_model_name_or_path
    try:
        model = load_start(base, **{**load, "revision": config.revision})
    except (OSError, ValueError) as error:
        raise SemiHVError(
            f"The adapter {folder} belongs to {base}, which cannot be loaded: {first_line(error)}.",
            "Put the base model back, or merge adapters at the end of a stage with lora_merge.",
        ) from error
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def merged_model(model, stage, config):
    """
    The model of a run with its adapters merged in.

    Merged into weights in 4 bits most of what was learnt would be rounded away: there the base model is read again, in
    its own precision.

    Args:
        model (`peft.PeftModel`): the trained adapters.
        stage ([`RunArguments`]): what the run started from.
        config (`transformers.TrainingArguments`): `model_init_kwargs` and `trust_remote_code` are read.

    Returns:
        `PreTrainedModel`: in 4-bit runs on the CPU.
    """
    import tempfile

    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    if not stage.load_in_4bit:
        return model.merge_and_unload()
    load = {"revision": stage.revision, "trust_remote_code": config.trust_remote_code}
    load |= {"dtype": "float32", **(config.model_init_kwargs or {})}
    whole = AutoModelForImageTextToText.from_pretrained(stage.model, **load)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return PeftModel.from_pretrained(whole, folder).merge_and_unload()
