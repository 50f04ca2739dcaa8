"""Benchmarks as datasets: one loader a benchmark, one row type for all of them."""

from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import SemiHVError

if TYPE_CHECKING:
    from .base import Benchmark

# By name: the module of this package, and the class in it.
BENCHMARKS = {
    "vqa_rad": ("vqa_rad", "VqaRad"),
    "slake": ("slake", "Slake"),
    "path_vqa": ("path_vqa", "PathVqa"),
    "pmc_vqa": ("pmc_vqa", "PmcVqa"),
    "omnimedvqa": ("omnimedvqa", "OmniMedVqa"),
    "mmmu_medical": ("mmmu_medical", "MmmuMedical"),
    "jama_clinical_challenge": ("jama", "JamaClinicalChallenge"),
}


def benchmark_class(name: str) -> type["Benchmark"]:
    """The class of a benchmark.

    Args:
        name (`str`): one of `BENCHMARKS`.

    Returns:
        `type[Benchmark]`: its class; the module is imported only now.

    Raises:
        `SemiHVError`: no benchmark has that name.
    """
    if name not in BENCHMARKS:
        raise SemiHVError(f"Unknown benchmark {name!r}.", f"Known are: {', '.join(BENCHMARKS)}.")
    module, cls = BENCHMARKS[name]
    return getattr(import_module(f"{__name__}.{module}"), cls)


def __getattr__(name: str):
    # `datasets` and the image libraries are loaded only by those who read a benchmark.
    if name in ("load_benchmark", "write_benchmark"):
        return getattr(import_module(f"{__name__}.load"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
