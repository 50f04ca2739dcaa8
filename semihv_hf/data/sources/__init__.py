"""One adapter a release. Each is a module of this package with a class that derives from [`base.Source`]."""

from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import SemiHVError

if TYPE_CHECKING:
    from .base import Source

ADAPTERS = {
    "biomed_vital": "BiomedVital",
    "deeplesion": "DeepLesion",
    "eurorad": "Eurorad",
    "jama": "Jama",
    "llava_med": "LlavaMed",
    "lld_mmri": "LldMmri",
    "mama_mia": "MamaMia",
    "med_instruction": "MedInstruction",
    "mimic_cxr": "MimicCxr",
    "padchest": "PadChest",
    "pmc_instruct": "PmcInstruct",
    "pmc_vqa": "PmcVqa",
    "pubmedvision": "PubMedVision",
    "quilt": "Quilt",
    "radiopaedia": "Radiopaedia",
}


def source_class(name: str) -> type["Source"]:
    """The adapter of a release.

    Args:
        name (`str`): one of `ADAPTERS`.

    Returns:
        `type[Source]`: its class; the module is imported only now.

    Raises:
        `SemiHVError`: no adapter has that name.
    """
    if name not in ADAPTERS:
        raise SemiHVError(f"Unknown source {name!r}.", f"Known are: {', '.join(ADAPTERS)}.")
    return getattr(import_module(f"{__name__}.{name}"), ADAPTERS[name])
