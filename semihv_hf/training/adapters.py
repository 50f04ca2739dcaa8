"""LoRA and QLoRA on any image-text model: where adapters go by default, what stays out of 4 bit, and merging."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from semihv_hf.errors import SemiHVError, first_line

from .lora import FOUR_BIT_SKIP_MODULES, LORA_TARGETS, lora_modules_to_save

ADAPTER_FILE = "adapter_config.json"


def adapter_config(stage, model):
    """
    The adapters of a stage.

    Args:
        stage ([`StageArguments`]): its `lora_*` settings.
        model (`PreTrainedModel`): the model that gets them.

    Returns:
        `peft.LoraConfig`

    Raises:
        `SemiHVError`: if a pattern or the end of a name fits no module.
    """
    from peft import LoraConfig

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
    )


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
    from transformers import AutoModelForImageTextToText

    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    try:
        model = AutoModelForImageTextToText.from_pretrained(base, **load)
    except (OSError, ValueError) as error:
        raise SemiHVError(
            f"The adapter {folder} belongs to {base}, which cannot be loaded: {first_line(error)}.",
            "Put the base model back, or merge adapters at the end of a stage with lora_merge.",
        ) from error
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
