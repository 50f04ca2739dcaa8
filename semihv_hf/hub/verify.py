"""Checks a checkpoint before it is loaded: its code is what its manifest says, and nothing else in it runs code."""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.snapshots import hub_snapshot

from .contents import pickle_in, read_json, safetensors_header
from .manifest import CODE_SUFFIXES, MANIFEST, code_digests, is_checkpoint, read_code_manifest

# What could run beside Python files and templates, if somebody opens it.
_RUNNABLE = (
    ".so", ".pyd", ".dll", ".dylib", ".exe", ".pyc", ".pyo", ".pyz", ".pth", ".sh", ".bat", ".ps1", ".js", ".ipynb",
    ".whl", ".egg", ".jar",
)  # fmt: skip
_OTHER_WEIGHTS = (".bin", ".pt", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".npz", ".msgpack")
_MACHINE_CODE = (b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"#!")
_REVISION = re.compile(r"[0-9a-f]{40}")
OK, WRONG = "ok", "wrong"


@dataclass(frozen=True)
class CheckedFile:
    """One file of a checkpoint.

    Args:
        name (`str`): its name.
        status (`str`): `"ok"` or `"wrong"`.
        said (`str`): what was found.
    """

    name: str
    status: str
    said: str


@dataclass(frozen=True)
class Verification:
    """What was found.

    Args:
        source (`str`): the repository or folder.
        revision (`str` or `None`): the commit, of a repository.
        folder (`Path`): where the checked files lie.
        files (`list[CheckedFile]`): every file.
    """

    source: str
    revision: str | None
    folder: Path
    files: list[CheckedFile] = field(default_factory=list)

    @property
    def wrong(self) -> list[CheckedFile]:
        """The files that did not pass."""
        return [file for file in self.files if file.status == WRONG]

    @property
    def ok(self) -> bool:
        """Whether every file passed."""
        return not self.wrong


def verify(source: str | Path, revision: str | None = None, *, trust_manifest_of: str | None = None) -> Verification:
    """Checks a folder, or a repository that is downloaded for it; nothing of it is run.

    Args:
        source (`str` or `Path`): a folder, or the id of a model repository.
        revision (`str`, *optional*): the commit, 40 hexadecimal digits; needed for a repository, because a branch or
            tag can be moved after it was read.
        trust_manifest_of (`str`, *optional*): an installed package that brings the same code (`"semihv-hf"`); the code
            must then also equal the package's, so that a manifest written by a stranger proves nothing.

    Returns:
        [`Verification`]: every file with what was found; `ok` tells whether the folder may be loaded.

    Raises:
        SemiHVError: there is nothing to check, or what to compare with is missing.
    """
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise SemiHVError(f"{source} is a folder, which has no revision.", "Leave --revision out.")
        real_root = folder.resolve()
    else:
        folder, real_root = _download(str(source), revision)
    trusted = None if trust_manifest_of is None else installed_code(trust_manifest_of)
    checked = [_safe_kind(folder, name, real_root) for name in _names(folder)]
    if not any(file.status == WRONG and " link " in file.said for file in checked):
        checked = _with_code(checked, folder, trusted)
    return Verification(str(source), revision, folder, checked)


def installed_code(package: str) -> dict[str, str]:
    """The sha256 of the model code that an installed package brings.

    Args:
        package (`str`): `"semihv-hf"` or `"semihv_hf"`.

    Returns:
        `dict[str, str]`: by file name.

    Raises:
        SemiHVError: the package brings none.
    """
    if package.replace("-", "_").lower() != "semihv_hf":
        raise SemiHVError(f"{package} brings no model code that is known.", "Write --trust-manifest-of semihv-hf.")
    return code_digests(Path(__file__).parents[1] / "models" / "pmc_cambrian")


def _download(repo_id: str, revision: str | None) -> tuple[Path, Path]:
    """The snapshot of a commit, and the folder out of which its links may not lead."""
    if revision is None or not _REVISION.fullmatch(revision):
        raise SemiHVError(
            f"{repo_id} is no folder, and {revision!r} names no commit of a repository.",
            "Give --revision with the 40 hexadecimal digits of the commit; a branch can be moved.",
        )
    do = "Check the name, the commit and your access."
    folder = hub_snapshot(repo_id, what="checkpoint", do=do, patterns=[], revision=revision)
    return folder, folder.parents[1].resolve()  # snapshots/<commit> links to blobs/


def _names(folder: Path) -> list[str]:
    names = []
    for place, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in (*files, *linked)]
    if not names:
        raise SemiHVError(f"{folder} is empty.", "Give the folder of a checkpoint.")
    return sorted(names)


def _safe_kind(folder: Path, name: str, real_root: Path) -> CheckedFile:
    """Whether a file is of a kind that runs nothing; code is compared later."""
    path = folder / name
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(real_root):
            return CheckedFile(name, WRONG, "is a symbolic link out of the folder")
        if not path.is_file():
            return CheckedFile(name, WRONG, "is no ordinary file, or a link to a folder")
        return _checked(path, name)
    except (OSError, RuntimeError) as error:
        return CheckedFile(name, WRONG, f"is a broken link or cannot be read ({type(error).__name__})")


def _checked(path: Path, name: str) -> CheckedFile:
    suffix = path.suffix.lower()
    if suffix in CODE_SUFFIXES:
        return CheckedFile(name, OK, "code")
    if suffix == ".safetensors":
        try:
            tensors = len(set(safetensors_header(path)) - {"__metadata__"})
        except ValueError as error:
            return CheckedFile(name, WRONG, str(error))
        return CheckedFile(name, OK, f"safetensors, {tensors:,} tensors")
    with open(path, "rb") as file:
        head = file.read(8)
    if suffix in _RUNNABLE or head.startswith(_MACHINE_CODE):
        return CheckedFile(name, WRONG, "is a program or library")
    if found := pickle_in(path):
        return CheckedFile(name, WRONG, f"holds {found}")
    if suffix in _OTHER_WEIGHTS:
        return CheckedFile(name, WRONG, "is no safetensors file, as its name says; such weights may run code")
    if suffix == ".json":
        try:
            rule = _foreign_code(read_json(path.read_bytes()))
        except ValueError as error:
            return CheckedFile(name, WRONG, str(error))
        if rule:
            return CheckedFile(name, WRONG, rule)
    return CheckedFile(name, OK, "no code")


def _foreign_code(content) -> str | None:
    """What a configuration makes transformers run although it does not lie in the folder."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        if not isinstance(value, dict):
            continue
        pending += value.values()
        targets = value.get("auto_map")
        for target in _flat(targets):
            if "--" in target:
                return f"takes code from another repository (auto_map: {target[:120]})"
            if not re.fullmatch(r"\w+(\.\w+)+", target):
                return f"names code by a path (auto_map: {target[:120]!a})"
    return None


def _flat(value) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for item in value for one in _flat(item)]
    return [value] if isinstance(value, str) else []


def _with_code(checked: list[CheckedFile], folder: Path, trusted: dict[str, str] | None) -> list[CheckedFile]:
    """The verdicts with the code compared, and a line for each code file that is missing."""
    code = {file.name for file in checked if file.said == "code"}
    if not code and not (folder / MANIFEST).exists():
        return checked
    try:
        stated = read_code_manifest(folder)
        for inner in _checkpoints(folder):
            stated |= {f"{inner.name}/{name}": digest for name, digest in read_code_manifest(inner).items()}
    except SemiHVError as error:
        return sorted(
            [*(file for file in checked if file.name != MANIFEST), CheckedFile(MANIFEST, WRONG, error.what)],
            key=lambda file: file.name,
        )
    done = [_compared(file, folder, stated, trusted) if file.name in code else file for file in checked]
    done += [CheckedFile(name, WRONG, f"is missing, though {MANIFEST} lists it") for name in sorted({*stated} - code)]
    return sorted(done, key=lambda file: file.name)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints inside the folder of a run, which bring manifests of their own."""
    return [path.parent for path in sorted(folder.glob(f"checkpoint-*/{MANIFEST}")) if is_checkpoint(path.parent.name)]


def _compared(file: CheckedFile, folder: Path, stated: dict[str, str], trusted: dict | None) -> CheckedFile:
    if file.name not in stated:
        return CheckedFile(file.name, WRONG, f"is code that {MANIFEST} does not list")
    digest = hashlib.sha256((folder / file.name).read_bytes()).hexdigest()
    if digest != stated[file.name]:
        return CheckedFile(file.name, WRONG, f"differs from what {MANIFEST} says ({digest[:12]}…)")
    place, _, name = file.name.rpartition("/")
    name = name if is_checkpoint(place) else file.name
    if trusted is not None and trusted.get(name) != digest:
        if name == "chat_template.jinja" and digest in trusted.values():
            return CheckedFile(file.name, OK, "code, as in the manifest and the installed package")
        known = "differs from" if name in trusted else "is not part of"
        return CheckedFile(file.name, WRONG, f"{known} the installed package")
    return CheckedFile(
        file.name, OK, "code, as in the manifest" + (" and the installed package" if trusted is not None else "")
    )
