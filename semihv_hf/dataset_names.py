"""Makes `load_dataset("semihvision", ...)` find the builders in `dataset_scripts/`.

`datasets` 4 and later runs no loading scripts; a name is looked up among the modules packaged with the library. Their
table is private, so its shape is checked, and where it has changed the names fail with a message that says so.
"""

import functools
import inspect
import warnings
from pathlib import Path
from types import ModuleType

from semihv_hf.errors import SemiHVError

TABLE = "_PACKAGED_DATASETS_MODULES"


def builders() -> dict[str, tuple[str, str]]:
    """The builders of this package.

    Returns:
        `dict[str, tuple[str, str]]`: by dataset name, the module and the cache key of its code.
    """
    from semihv_hf.registration import sources_hash
    from semihv_hf.resources import resource_dir

    package = Path(__file__).parent
    helpers = [package / "data", package / "packages.py"]
    found = {}
    for builder in sorted(resource_dir("dataset_scripts").glob("*/builder.py")):
        module = f"semihv_hf.dataset_scripts.{builder.parent.name}.builder"
        found[builder.parent.name] = (module, sources_hash([builder.parent, *helpers]))
    return found


def register_builders(datasets: ModuleType) -> bool:
    """Enters the builders into the tables of `datasets`.

    Args:
        datasets (`ModuleType`): the imported library.

    Returns:
        `bool`: `False` when its tables have another shape than in the tested versions; a warning then says so, and
        loading one of the names raises a [`SemiHVError`] with the same text.
    """
    names = builders()
    table = getattr(getattr(datasets, "packaged_modules", None), TABLE, None)
    load = getattr(datasets, "load", None)
    if not _is_known(table) or getattr(load, TABLE, None) is not table:
        error = _unsupported(datasets, names)
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        _refuse(load, names, error)
        return False
    table.update(names)
    _spare_the_listing(load, names)
    return True


def tested_version() -> str:
    """The version of `datasets` that this release was tested with.

    Returns:
        `str`: as `constraints.txt` names it.
    """
    from semihv_hf.resources import constraints_file

    lines = constraints_file().read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith("datasets=="))


def _is_known(table: object) -> bool:
    """Whether it maps names to (module, cache key), as far as can be seen."""
    return (
        isinstance(table, dict)
        and "parquet" in table
        and all(
            isinstance(entry, tuple) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
            for entry in table.values()
        )
    )


def _unsupported(datasets: ModuleType, names: dict[str, tuple[str, str]]) -> SemiHVError:
    version = getattr(datasets, "__version__", "of unknown version")
    return SemiHVError(
        f"datasets {version} keeps its table of builders ({TABLE}) otherwise than the tested version "
        f"{tested_version()}, so load_dataset does not know {', '.join(names)}.",
        f"Install datasets=={tested_version()}, or write a folder with `semihv build` and load that.",
    )


def _refuse(load: ModuleType | None, names: dict[str, tuple[str, str]], error: SemiHVError) -> None:
    """Without this the names would be looked for on the Hub, and the message would be about something else."""
    look_up = getattr(load, "dataset_module_factory", None)
    if not callable(look_up):
        return  # the warning is all that can be said

    @functools.wraps(look_up)
    def dataset_module_factory(path, *arguments, **options):
        if path in names:
            raise error
        return look_up(path, *arguments, **options)

    load.dataset_module_factory = dataset_module_factory


def _spare_the_listing(load: ModuleType, names: dict[str, tuple[str, str]]) -> None:
    """Keeps `datasets` from listing every file below `data_dir`, several times over, before a builder is asked.

    The builders find their files themselves, and an upstream release has hundreds of thousands. Where the class is not
    there, everything works as well, only slowly.
    """
    factory = getattr(load, "PackagedDatasetModuleFactory", None)
    if not inspect.isclass(factory) or not hasattr(load, "DatasetModule") or hasattr(factory, "semihv_names"):
        return

    class PackagedDatasetModuleFactory(factory):
        semihv_names = names

        def __init__(self, name, *arguments, data_files=None, **options):
            if name in names and data_files is not None:
                raise SemiHVError(f"The dataset {name} takes no data_files.", 'Pass data_dir="...", a folder.')
            self.name = name
            if name not in names:
                super().__init__(name, *arguments, data_files=data_files, **options)

        def get_module(self):
            if self.name not in names:
                return super().get_module()
            from datasets.data_files import DataFilesDict

            # None would make `datasets` ask for files before it asks the builder.
            kwargs = {"data_files": DataFilesDict(), "dataset_name": self.name}
            return load.DatasetModule(*names[self.name], kwargs)

    load.PackagedDatasetModuleFactory = PackagedDatasetModuleFactory
