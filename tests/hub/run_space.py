"""Runs a Space's app as the Hub would: only the packages of its requirements.txt, and gradio, can be imported.

`python run_space.py <folder>`, in the folder. The environment may hold more packages; these are hidden.
"""

import importlib.abc
import re
import runpy
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: set[str]) -> set[str]:
    """The packages, and all that they need; an optional requirement counts if it is asked for by an extra."""
    found, pending = set(), list(names)
    while pending:
        name = pending.pop()
        name = normal(name)
        if name in found:
            continue
        found.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        pending += [re.match(r"[\w.-]+", line).group() for line in needed if "extra ==" not in line]
    return found


class Hides(importlib.abc.MetaPathFinder):
    """Lets no package through that is not in the list."""

    def __init__(self, allowed: set[str]):
        self.hidden = {
            module
            for module, packages in packages_distributions().items()
            if not {normal(package) for package in packages} & allowed
        }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r} (not in requirements.txt)", name=name)
        return None


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    lines = [line.split("#")[0].strip() for line in (folder / "requirements.txt").read_text().splitlines()]
    asked = {re.match(r"[\w.-]+", line).group() for line in lines if line}
    # pip and setuptools are in every environment of the Hub.
    sys.meta_path.insert(0, Hides(closure({*asked, "gradio"}) | {"pip", "setuptools"}))
    sys.path[0] = str(folder)
    runpy.run_path(str(folder / "app.py"), run_name="__main__")
