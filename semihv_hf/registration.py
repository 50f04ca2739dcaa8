"""Makes transformers' Auto classes and `load_dataset` know this package's names, without importing either early.

`import semihv_hf` must be quick, yet afterwards `AutoModelForImageTextToText.from_pretrained` and
`load_dataset("semihvision", ...)` must work, whichever was imported first. So each registration waits for the module
that keeps the table it writes to: if that module is loaded already it happens at once, else right after it is loaded.

"Right after" has a trap: transformers imports its Auto modules half-way through its own base modules (and so does
this package's model), and importing the model at that moment would meet those half-loaded. Registrations therefore
wait until the outermost import that led there is over.
"""

import hashlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path


def register() -> None:
    """Registers everything now or as soon as the library concerned is imported; a second call changes nothing."""
    if any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        return
    waiting = {}
    for module, action in _registrations().items():
        if module in sys.modules:
            action()
        else:
            waiting[module] = action
    if waiting:
        sys.meta_path.insert(0, _AfterImport(waiting))


def _registrations() -> dict[str, Callable[[], None]]:
    """The module that keeps each table, and what is to be written there."""
    return {
        "transformers.models.auto.configuration_auto": _register_configuration,
        "transformers.models.auto.modeling_auto": _register_models,
        "transformers.models.auto.image_processing_auto": _register_image_processors,
        "transformers.models.auto.processing_auto": _register_processor,
        "datasets": _register_datasets,  # which of its modules keeps the table is checked there
    }


def _register_configuration() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig

    AutoConfig.register(PMCCambrianConfig.model_type, PMCCambrianConfig, exist_ok=True)


def _register_models() -> None:
    from transformers.models.auto.modeling_auto import AutoModel, AutoModelForImageTextToText

    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import (
        PMCCambrianForConditionalGeneration,
        PMCCambrianModel,
    )

    AutoModel.register(PMCCambrianConfig, PMCCambrianModel, exist_ok=True)
    AutoModelForImageTextToText.register(PMCCambrianConfig, PMCCambrianForConditionalGeneration, exist_ok=True)


def _register_image_processors() -> None:
    from transformers.models.auto import image_processing_auto
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil
    from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor

    classes = {"pil": PMCCambrianImageProcessorPil, "torchvision": PMCCambrianImageProcessor}
    AutoImageProcessor.register(PMCCambrianConfig, image_processor_classes=classes, exist_ok=True)
    # The exact processor is the default; the library would take the fast one.
    if PMCCambrianImageProcessor.__name__ not in image_processing_auto.DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS:
        image_processing_auto.DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS.append(PMCCambrianImageProcessor.__name__)


def _register_processor() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

    AutoProcessor.register(PMCCambrianConfig, PMCCambrianProcessor, exist_ok=True)


def _register_datasets() -> None:
    import datasets

    from semihv_hf.dataset_names import register_builders

    register_builders(datasets)


def sources_hash(places: Iterable[Path]) -> str:
    """The cache key of a builder: its own sources and those of everything it builds with.

    datasets notices a changed builder but not a changed helper, and would then serve rows of the older code.

    Args:
        places (`Iterable[Path]`): files, and folders whose Python and YAML files all count.

    Returns:
        `str`: 64 hex digits.
    """
    digest = hashlib.sha256()
    for place in places:
        files = (
            sorted(file for kind in ("*.py", "*.yaml") for file in place.rglob(kind)) if place.is_dir() else [place]
        )
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


class _AfterImport(importlib.abc.MetaPathFinder):
    """Runs an action once the module it waits for, and the import that led there, are complete.

    Args:
        waiting (`dict[str, Callable]`): the actions by the name of the module they wait for.
    """

    def __init__(self, waiting: dict[str, Callable[[], None]]):
        self.waiting = waiting
        self.packages = {"semihv_hf", *(name.partition(".")[0] for name in waiting)}
        self.thread = threading.local()

    def find_spec(self, fullname, path=None, target=None):
        """Finds a module of the watched libraries as Python would, and watches its execution."""
        if fullname.partition(".")[0] not in self.packages or getattr(self.thread, "searching", False):
            return None
        self.thread.searching = True
        try:
            spec = self._find_by_others(fullname, path, target)
        finally:
            self.thread.searching = False
        if spec is None or not isinstance(spec.loader, importlib.abc.FileLoader):
            return spec
        # A file's loader serves that one module, so nothing else is affected.
        spec.loader.exec_module = partial(self._execute, spec.loader.exec_module)
        return spec

    def _find_by_others(self, fullname, path, target):
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None

    def _execute(self, execute, module) -> None:
        self.thread.depth = getattr(self.thread, "depth", 0) + 1
        try:
            execute(module)
            if self.thread.depth == 1:  # what the actions import counts as nested, so that none starts inside another
                self._act()
        finally:
            self.thread.depth -= 1

    def _act(self) -> None:
        while ready := [name for name in self.waiting if name in sys.modules]:
            action = self.waiting.pop(ready[0], None)  # another thread may have been faster
            if action is not None:
                action()
        if not self.waiting and self in sys.meta_path:
            sys.meta_path.remove(self)
