"""Writing a checkpoint folder that loads without this package: weights, processor, chat template and code."""

from __future__ import annotations

import json
from pathlib import Path

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
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    folder = Path(folder)
    PMCCambrianConfig.register_for_auto_class()
    PMCCambrianForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text())
    config["auto_map"] |= {auto: f"modeling_pmc_cambrian.{name}" for auto, name in AUTO_CLASSES.items()}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return folder
