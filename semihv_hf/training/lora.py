"""Which modules of PMC-Cambrian take adapters, which train in full beside them, and which stay out of 4-bit loading.

```python
>>> from peft import LoraConfig, get_peft_model
>>> from transformers import BitsAndBytesConfig
>>> from semihv_hf import PMCCambrianForConditionalGeneration
>>> from semihv_hf.training.lora import FOUR_BIT_SKIP_MODULES, LORA_TARGETS, lora_modules_to_save

>>> quantization = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=FOUR_BIT_SKIP_MODULES)
>>> model = PMCCambrianForConditionalGeneration.from_pretrained(folder, quantization_config=quantization)
>>> adapters = LoraConfig(
...     r=64,
...     lora_alpha=16,
...     lora_dropout=0.05,
...     target_modules=LORA_TARGETS,
...     modules_to_save=lora_modules_to_save(model.config),
...     task_type="CAUSAL_LM",
... )
>>> model = get_peft_model(model, adapters)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig

# The linear layers of the text model's decoder, matched against whole module names. Never "all-linear" or bare names
# such as "q_proj": these occur in the towers, the connector and the samplers, too.
LORA_TARGETS = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"

# Regular expressions that match from the start of a module's name, with and without the language modelling head's
# prefix. Towers, aggregator and head are small beside the text model, and what they compute is never corrected by a
# later layer.
FOUR_BIT_SKIP_MODULES = [
    r"(model\.)?vision_towers",
    r"(model\.)?connector",
    r"(model\.)?language_model\.vision_samplers",
    "lm_head",
]


def lora_modules_to_save(config: PMCCambrianConfig) -> list[str]:
    """
    The modules that train in full beside the adapters, and are saved with them: connector and samplers.

    Args:
        config (`PMCCambrianConfig`): the model's configuration.

    Returns:
        `list[str]`: ends of module names, for `LoraConfig(modules_to_save=...)`.
    """
    return ["connector", *(f"vision_samplers.{index}" for index in range(config.sva_config.num_samplers))]


def train_in_float32(model: nn.Module) -> int:
    """
    Makes what trains float32 beside weights of fewer bits, for mixed precision without ZeRO.

    PEFT does so for its adapters, but leaves modules that train in full in the model's own dtype, where small updates
    are rounded away: near 1 two bfloat16 numbers are 0.008 apart.

    Args:
        model (`nn.Module`): the model, with its adapters and its trainable parameters chosen.

    Returns:
        `int`: number of tensors that were changed.
    """
    import torch

    changed = 0
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
            changed += 1
    return changed
