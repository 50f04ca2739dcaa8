"""semihv-hf: a medical vision-language model from clinical image releases to a judged checkpoint.

Importing this package registers PMC-Cambrian with transformers' Auto classes and the data-set names with
`datasets.load_dataset`. The classes themselves, and with them torch, are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from semihv_hf.registration import register

if TYPE_CHECKING:
    from semihv_hf.errors import SemiHVError
    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil
    from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import (
        PMCCambrianForConditionalGeneration,
        PMCCambrianModel,
    )
    from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

__version__ = "0.1.0"

_MODEL = "semihv_hf.models.pmc_cambrian"
_HOME = {
    "PMCCambrianConfig": f"{_MODEL}.configuration_pmc_cambrian",
    "PMCCambrianForConditionalGeneration": f"{_MODEL}.modeling_pmc_cambrian",
    "PMCCambrianImageProcessor": f"{_MODEL}.image_processing_pmc_cambrian",
    "PMCCambrianImageProcessorPil": f"{_MODEL}.image_processing_pil_pmc_cambrian",
    "PMCCambrianModel": f"{_MODEL}.modeling_pmc_cambrian",
    "PMCCambrianProcessor": f"{_MODEL}.processing_pmc_cambrian",
    "SemiHVError": "semihv_hf.errors",
}

__all__ = [
    "PMCCambrianConfig",
    "PMCCambrianForConditionalGeneration",
    "PMCCambrianImageProcessor",
    "PMCCambrianImageProcessorPil",
    "PMCCambrianModel",
    "PMCCambrianProcessor",
    "SemiHVError",
    "__version__",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


register()
