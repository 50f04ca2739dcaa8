"""`semihv doctor`: what is installed, what is missing and what brings it, and what the machine has."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata

from semihv_hf.errors import SemiHVError

DISTRIBUTION = "semihv-hf"
EXTRAS = {
    "train": "training recipes and the quickstart",
    "deepspeed": "training on several GPUs with ZeRO",
    "deidentify": "DICOM headers without what they say about people",
    "ray": "building a dataset on several machines",
    "curate": "instruction records written with retrieval",
    "judge": "answers judged by a language model",
    "metrics": "concepts and text overlap as metrics",
    "review": "the page on which clinicians review records",
    "serve": "an OpenAI-compatible server for a checkpoint",
    "dev": "tests and style checks",
}
NEEDED_MEMORY_GIB = 8


@dataclass
class Finding:
    """One line of the diagnosis.

    Args:
        group (`str`): `"base"`, the name of an extra, or `"machine"`.
        name (`str`): what was looked at.
        state (`str`): `"ok"`, `"other"` (works, but is not what was tested), `"missing"` or `"broken"`.
        found (`str`): the version or amount found.
        remark (`str`): what to do, or what was expected.
    """

    group: str
    name: str
    state: str
    found: str
    remark: str = ""


def diagnose() -> list[Finding]:
    """Looks at the installation and the machine.

    Returns:
        `list[Finding]`: first the base packages, then those of each extra, then the machine.

    Raises:
        SemiHVError: semihv-hf itself is not installed, so that its requirements are unknown.

    Example:

    ```python
    >>> from semihv_hf.doctor import diagnose
    >>> [finding.name for finding in diagnose() if finding.state == "broken"]
    []
    ```
    """
    tested = tested_versions()
    findings = [_check_package(group, requirement, tested) for group, requirement in _requirements()]
    return [*findings, _check_torch(), *_check_machine()]


def print_diagnosis() -> bool:
    """Prints the diagnosis as a table.

    Returns:
        `bool`: whether everything of the base installation works.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    findings = diagnose()
    styles = {"ok": "green", "other": "yellow", "missing": "dim", "broken": "bold red"}
    table = Table(title="semihv doctor", title_justify="left")
    for column in ("part", "name", "state", "found", "remark"):
        table.add_column(column, overflow="fold")
    previous = None
    for finding in findings:
        group = "" if finding.group == previous else finding.group
        if group:
            table.add_section()
        previous = finding.group
        state = Text(finding.state, style=styles[finding.state])
        # Text, as the brackets of an extra would be taken for markup.
        table.add_row(group, finding.name, state, finding.found, Text(finding.remark))
    console = Console()
    console.print(table)
    for extra, use in EXTRAS.items():
        missing = [f.name for f in findings if f.group == extra and f.state == "missing"]
        if missing:
            command = f"pip install '{DISTRIBUTION}[{extra}]'"
            console.print(f"{extra} ({use}): without {', '.join(missing)}. {command}", markup=False, soft_wrap=True)
    broken = [finding for finding in findings if finding.state == "broken"]
    for finding in broken:
        console.print(f"broken: {finding.name} {finding.found}. {finding.remark}", markup=False, soft_wrap=True)
    if not broken:
        console.print("The base installation works.")
    return not broken


def tested_versions() -> dict[str, str]:
    """Reads `constraints.txt`.

    Returns:
        `dict[str, str]`: the tested version of each package, for this Python.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from semihv_hf.resources import constraints_file

    versions = {}
    for line in constraints_file().read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            versions[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    return versions


def _requirements() -> list[tuple[str, object]]:
    """The requirements of the installed distribution, each with `"base"` or its extra."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise SemiHVError(
            f"{DISTRIBUTION} is not installed in this Python, only found on its path.",
            "Install it: pip install -c constraints.txt -e .",
        ) from error
    requirements = [Requirement(line) for line in lines]
    found = [("base", r) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    base = {str(requirement) for _, requirement in found}
    for extra in EXTRAS:
        for requirement in requirements:
            own = requirement.name != DISTRIBUTION and str(requirement) not in base
            if own and requirement.marker and requirement.marker.evaluate({"extra": extra}):
                found.append((extra, requirement))
    return found


def _check_package(group: str, requirement, tested: dict[str, str]) -> Finding:
    from packaging.utils import canonicalize_name

    name = canonicalize_name(requirement.name)
    lost = "broken" if group == "base" else "missing"
    extra = "" if group == "base" else f"[{group}]"
    install = f"pip install '{DISTRIBUTION}{extra}'"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(group, name, lost, "not installed", install)
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(group, name, "broken" if group == "base" else "other", found, f"needs {requirement.specifier}")
    expected = tested.get(name)
    # A local label such as +cu130 names a build of the same version.
    if expected is not None and found.partition("+")[0] != expected:
        return Finding(group, name, "other", found, f"tested with {expected}")
    return Finding(group, name, "ok", found)


def _check_torch() -> Finding:
    """Imports torch, the part whose installation goes wrong most often, and asks it for a GPU."""
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        return Finding("machine", "import torch", "broken", reason, "Install torch again.")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Finding("machine", "GPU", "ok", names)
    return Finding("machine", "GPU", "missing", "none", "not needed by the quickstart")


def _check_machine() -> list[Finding]:
    from semihv_hf.packages import default_cache_dir
    from semihv_hf.quickstart.run import SIZES

    needed_disk = SIZES["full"].disk_gib
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    cache = default_cache_dir()
    return [
        Finding("machine", "Python", "ok", platform.python_version()),
        Finding("machine", "cores", "ok", str(os.cpu_count())),
        _check_amount("memory", memory, NEEDED_MEMORY_GIB),
        _check_amount("disk, here", shutil.disk_usage(os.getcwd()).free / 2**30, needed_disk),
        _check_amount(f"disk, {cache}", shutil.disk_usage(_existing(cache)).free / 2**30, needed_disk),
        Finding("machine", "chromium", "ok", chromium)
        if chromium
        else Finding("machine", "chromium", "missing", "none", "only one test needs it: apt-get install chromium"),
    ]


def _check_amount(name: str, gib: float, needed: int) -> Finding:
    enough = gib >= needed
    return Finding(
        "machine", name, "ok" if enough else "other", f"{gib:.1f} GiB", "" if enough else f"quickstart: {needed} GiB"
    )


def _existing(folder):
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
