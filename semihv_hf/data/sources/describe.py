"""What can be built: for each release its files, its options and its terms, as text for a terminal."""

import inspect

from ..licences import source_licence
from . import ADAPTERS, source_class
from .base import Source

_COMMON = ("self", "root", "held_out", "seed")


def source_options(cls: type[Source]) -> dict[str, tuple[str, str]]:
    """The options of an adapter beyond those that every source has.

    Args:
        cls (`type[Source]`): the adapter.

    Returns:
        `dict[str, tuple[str, str]]`: by name, the default and what the class's docstring says.
    """
    told = _documented(inspect.getdoc(cls) or "")
    return {
        name: (repr(parameter.default), told.get(name, ""))
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name not in _COMMON
    }


def _documented(text: str) -> dict[str, str]:
    """Entries of an `Args:` block: the first indentation below it names, deeper lines go on."""
    told: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line.strip() == "Args:":
            break
    indent, name = None, ""
    for line in lines:
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        if depth < indent or depth == 0:
            break
        if depth == indent:
            name, _, rest = line.strip().partition(" ")
            told[name] = rest.partition("): ")[2] or rest
        else:
            told[name] += " " + line.strip()
    return told


def print_sources() -> None:
    """Prints one line a source: its name, its licence, and which of its gates are open."""
    from rich.console import Console
    from rich.table import Table

    table = Table("source", "licence", "train on it", "send it", "publish it", box=None, pad_edge=False)
    for name in ADAPTERS:
        entry = source_licence(name)
        table.add_row(name, entry.licence, entry.use, entry.send, entry.redistribute)
    table.add_row("open_packages", "of each package", "yes", "most", "most")
    console = Console()
    console.print(table)
    console.print("\nOne of them in full:  semihv sources NAME", highlight=False)


def print_source(name: str) -> None:
    """Prints what the folder of a source must hold, its options and its terms.

    Args:
        name (`str`): one of `ADAPTERS`.

    Raises:
        `SemiHVError`: no adapter has that name.
    """
    from rich.console import Console
    from rich.table import Table

    cls, entry = source_class(name), source_licence(name)
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/bold]: {entry.title}\n\nThe folder must hold:")
    files = Table(box=None, pad_edge=False, show_header=False)
    for pattern, what in cls.layout:
        files.add_row(f"  {pattern}", what)
    console.print(files)
    options = source_options(cls)
    if options:
        console.print("\nOptions (--option NAME=VALUE):")
        listed = Table(box=None, pad_edge=False, show_header=False)
        for option, (default, what) in options.items():
            listed.add_row(f"  {option}={default}", what)
        console.print(listed)
    console.print(f"\nLicence: {entry.licence}\n  {entry.link}", markup=False)
    for term in ("use", "send", "redistribute", "share_derived"):
        console.print(f"  {term}: {getattr(entry, term)}", markup=False)
    for label, text in (
        ("Conditions", ", ".join(entry.conditions)), ("Name", entry.attribution), ("Note", entry.note)
    ):  # fmt: skip
        if text:
            console.print(f"  {label}: {text}", markup=False)
