"""Writing a checkpoint folder that loads without this package: weights, processor, chat template and code."""

from __future__ import annotations

import json
from pathlib import Path

from semihv_hf.files import write_json

from .pmc_cambrian.saving_pmc_cambrian import hide_places, write_code_manifest

AUTO_CLASSES = {
    "AutoModel": "PMCCambrianModel",
    "AutoModelForImageTextToText": "PMCCambrianForConditionalGeneration",
    # Libraries that know only language models look here.
    "AutoModelForCausalLM": "PMCCambrianForConditionalGeneration",
}


def save_checkpoint(model, processor, folder: str | Path) -> Path:
    """
    Writes a model and its processor with the code they need.

    Args:
        model ([`PMCCambrianForConditionalGeneration`]): the model; saved as safetensors in its own dtype.
        processor ([`PMCCambrianProcessor`]): the processor.
        folder (`str` or `Path`): where to write; created if missing.

    Returns:
        `Path`: the folder. `AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)` loads it.
    """
    folder = Path(folder)
    _register()
    model.save_pretrained(folder)
    _finish(processor, folder)
    return folder


def save_settings(model, processor, folder: str | Path) -> None:
    """
    Writes what [`save_checkpoint`] does, but the weights: for a model whose weights are written by someone else.

    Args:
        model ([`PMCCambrianForConditionalGeneration`]): the model; it may lie on the meta device.
        processor ([`PMCCambrianProcessor`] or [`PMCCambrianImageProcessorPil`]): the processor, or its image part.
        folder (`str` or `Path`): an existing folder.
    """
    from transformers.dynamic_module_utils import custom_object_save

    folder = Path(folder)
    _register()
    model.config.architectures = [type(model).__name__]
    custom_object_save(model, folder, config=model.config)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    _finish(processor, folder)


def _register() -> None:
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    PMCCambrianConfig.register_for_auto_class()
    PMCCambrianForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")


def _finish(processor, folder: Path) -> None:
    processor.save_pretrained(folder)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text())
    config["auto_map"] |= {auto: f"modeling_pmc_cambrian.{name}" for auto, name in AUTO_CLASSES.items()}
    write_json(config_file, dict(sorted(config.items())))
    # An image processor alone, unlike a whole processor, completes nothing by itself.
    hide_places(folder)
    write_code_manifest(folder)
