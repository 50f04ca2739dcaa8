"""Runs Spaces' apps as the Hub would: of each, only the packages of its requirements.txt, and gradio, can be imported.

`python run_space.py FOLDER=PORT ...`. What the interpreter has besides is hidden. What every Space needs (gradio,
evaluate, datasets) is imported once, before the apps part; each runs in a process of its own, in its folder, and
writes what it says to `FOLDER.log`.
"""

import importlib
import importlib.abc
import os
import re
import runpy
import signal
import sys
import traceback
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement

COMMON = ("gradio", "evaluate", "datasets")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(lines) -> set[str]:
    """The packages that requirements ask for, and all that these need, with the extras that were asked for."""
    found, pending = set(), [Requirement(line) for line in lines]
    while pending:
        one = pending.pop()
        key = (normal(one.name), frozenset(one.extras))
        if key in found:
            continue
        found.add(key)
        try:
            needed = requires(one.name) or []
        except PackageNotFoundError:
            continue
        for line in needed:
            other = Requirement(line)
            if not other.marker or any(other.marker.evaluate({"extra": extra}) for extra in (*one.extras, "")):
                pending.append(other)
    return {name for name, _ in found}


class Visible(importlib.abc.MetaPathFinder):
    """Finds modules as ever, but of installed packages only those in the list.

    Args:
        allowed (`set[str]`): names of packages.
    """

    def __init__(self, allowed: set[str]):
        modules = dict(packages_distributions())
        # A checkout that is installed in editable mode lists no modules.
        modules.setdefault("semihv_hf", ["semihv-hf"])
        self.hidden = {
            module for module, packages in modules.items() if not {normal(package) for package in packages} & allowed
        }

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.hidden else PathFinder.find_spec(name, path, target)

    def find_distributions(self, context):
        return PathFinder.find_distributions(context)


def hide(lines) -> None:
    """Leaves only what requirements ask for, besides pip and setuptools, which every environment of the Hub has."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Visible(closure(lines) | {"pip", "setuptools"})]


def run(folder: Path, port: str) -> int:
    """Runs one app; never returns to the caller's own work."""
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["GRADIO_SERVER_PORT"] = port
    os.chdir(folder)
    try:
        lines = [line.split("#")[0].strip() for line in (folder / "requirements.txt").read_text().splitlines()]
        hide([*filter(None, lines), "gradio"])
        sys.path[0] = str(folder)
        runpy.run_path(str(folder / "app.py"), run_name="__main__")
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    hide(COMMON)
    for module in COMMON:
        importlib.import_module(module)
    children = []
    for pair in sys.argv[1:]:
        folder, _, port = pair.rpartition("=")
        child = os.fork()
        if not child:
            os._exit(run(Path(folder).resolve(), port))
        children.append(child)

    def stop(*_):
        for child in children:
            try:
                os.kill(child, signal.SIGTERM)
            except ProcessLookupError:
                continue
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)
