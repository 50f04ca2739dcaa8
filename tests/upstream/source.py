"""The transformers library's own common tests, taken from its source distribution and importable from outside.

They are not in the wheel. The source distribution of the installed version holds the common test classes, but not the
folders around them, so what they import from there is replaced by the stand-ins below; nothing else is changed.
"""

import atexit
import functools
import importlib
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pytest
import transformers
from PIL import Image

from semihv_hf.packages import fetch_package

PACKAGE = "upstream_tests"
PICTURES = (".jpg", ".png")


def upstream(name: str) -> ModuleType:
    """
    Import one module of the library's tests.

    Args:
        name (`str`): such as `test_modeling_common`.

    Returns:
        `types.ModuleType`: the module, of exactly the installed version of transformers.

    Raises:
        `SemiHVError`: if the source distribution cannot be fetched.
        `ImportError`: if it lacks the module, or the package `parameterized` is missing.
    """
    _add_package()
    # One module loads a second copy of the library from the sources around it: give it the installed one.
    with patch("transformers.utils.direct_transformers_import", lambda path: transformers):
        return importlib.import_module(f"{PACKAGE}.{name}")


def sources() -> Path:
    """The folder of the common tests, fetched once into the package cache."""
    version = transformers.__version__
    return fetch_package("transformers", version, kind="sdist") / f"transformers-{version}" / "tests"


@functools.cache
def _add_package() -> None:
    pytest.register_assert_rewrite(PACKAGE)
    package = ModuleType(PACKAGE)
    package.__path__ = [str(sources())]
    sys.modules[PACKAGE] = package
    # Only in the library's repository: exporting to other runtimes, generation, and the arguments of a configuration.
    _add_module(f"{PACKAGE}.exporters", __path__=[])
    _add_module(f"{PACKAGE}.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
    _add_module(f"{PACKAGE}.generation", __path__=[])
    _add_module(f"{PACKAGE}.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
    _add_module(f"{PACKAGE}.utils", __path__=[])
    _add_module(f"{PACKAGE}.utils.test_configuration_utils", config_common_kwargs=COMMON_CONFIG_ARGUMENTS)
    _add_module("fetch_hub_objects_for_ci", url_to_local_path=local_file)


def models_conftest() -> dict:
    """What tests/models/conftest.py defines: the small towers, and how the small tokenizers are trained."""
    return runpy.run_path(str(Path(__file__).parents[1] / "models" / "conftest.py"))


def _add_module(name: str, **content) -> None:
    module = ModuleType(name, "Stands in for a module that the source distribution lacks.")
    vars(module).update(content)
    sys.modules[name] = module


# What every configuration takes, each at another value than its default.
COMMON_CONFIG_ARGUMENTS = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["AModel"],
    "problem_type": "regression",
    "id2label": {0: "none", 1: "some"},
    "label2id": {"none": 0, "some": 1},
}


def local_file(url: str) -> str:
    """A picture on this machine in place of one on the Hub; anything but a picture keeps its address."""
    if not url.endswith(PICTURES):
        return url
    path = _picture_folder() / url.rsplit("/", 1)[-1]
    if not path.exists():
        smooth_picture(640, 480).save(path)
    return str(path)


def smooth_picture(width: int, height: int) -> Image.Image:
    """Overlapping waves with an edge: neither flat nor noise, as the photographs it stands in for."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 37 + y / 23), np.sin(x / 11 - y / 41), np.cos((x + y) / 29)]
    levels = np.stack(waves, axis=-1) * 90 + 128
    levels[height // 3 : height // 2, width // 4 : width // 2] = (210, 60, 90)
    return Image.fromarray(levels.round().astype(np.uint8))


@functools.cache
def _picture_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="semihv-upstream-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
