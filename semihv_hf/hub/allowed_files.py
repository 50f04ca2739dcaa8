"""What may leave a folder for the Hub: a list of allowed names per kind, and a look into every file."""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from semihv_hf.errors import SemiHVError

from .file_rules import content_refusal
from .manifest import MANIFEST

KINDS = ("model", "dataset", "metric", "space")
_EVERYWHERE = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", ".gitattributes")
_GRADIO = ("*.py", "*.md", "requirements.txt", "packages.txt", "*.json", "*.jsonl", "*.csv", "*.yaml", "*.png")
# Patterns of one name each; a `/` parts folders, `*` stays within a name.
ALLOWED = {
    "model": (
        "config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json",
        "video_preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
        "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja",
        "additional_chat_templates/*.jinja", "*.py", MANIFEST, "model.safetensors", "model-*-of-*.safetensors",
        "model.safetensors.index.json", "adapter_config.json", "adapter_model.safetensors", "stage.json",
        "conversion.json", "scores.json", "trainer_state.json", "train_results.json", "all_results.json",
        "eval_results.json",
    ),
    # Rows lie where the licence gate counts them by source, and nowhere else.
    "dataset": (
        "data/*/*.parquet", "build_report.json", "build_manifest.json", "curate_report.json", "curate_manifest.json",
        "review_report.json", "review_manifest.json", "dataset_infos.json", "builder.py", "requirements.txt",
    ),
    "metric": _GRADIO,
    "space": (*_GRADIO, "*.jpg", "*.css", "examples/*.png", "examples/*.jpg"),
}  # fmt: skip
# Beside the data, and no part of them: where a curation or build keeps what it would go on from, and its lists of what
# is in no row. These name cases, and quote from them, of sources that no row is of.
_STAYS = {
    "dataset": (
        ".curate", ".build", ".build.finished", "skipped.parquet", "failures.parquet", "rejected.parquet",
        "duplicates.parquet", "contamination.parquet", "overlap.parquet",
    )
}  # fmt: skip
# Names that are refused by a rule of their own, which says more than that they are not on the list.
_REFUSED_NAMES = (
    (r"\.env(\..*)?|\.netrc|\.pypirc|.*\.(pem|key|p12|pfx)|id_(rsa|ed25519|ecdsa)|token", "may hold secrets"),
    (
        r"optimizer.*|scheduler\.pt|scaler\.pt|rng_state.*|training_args\.bin|.*_(optim|model)_states\.pt|zero_to_fp32\.py"
        r"|global_step\d+|checkpoint-\d+",
        "is the state of a training, not part of a published model",
    ),
    (
        r"__pycache__|\.cache|\.git|\.ipynb_checkpoints|\.DS_Store|Thumbs\.db|\.pytest_cache|\.ruff_cache|\.venv|.*\.pyc"
        r"|.*\.lock|.*\.tmp|.*\.part|.*\.incomplete|.*~",
        "is a cache or a temporary file",
    ),
    (
        r".*\.(bin|pt|pth|ckpt|pkl|pickle|joblib|h5|npz|gguf|onnx)",
        "is no safetensors file; other weights may run code",
    ),
)
_LONGEST_NAME = 255
_BAD_LETTERS = re.compile(r"[\x00-\x1f\x7f\\<>:\"|?*\u202a-\u202e\u2066-\u2069]")
_SHOWN = 5


@dataclass(frozen=True)
class UploadFile:
    """A file that may be uploaded.

    Args:
        name (`str`): its name in the repository, with forward slashes.
        path (`Path`): where it lies.
        size (`int`): its bytes.
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Refusal:
    """A file that may not be uploaded.

    Args:
        file (`str`): its name relative to the folder.
        rule (`str`): why, as the rest of a sentence that begins with the name.
    """

    file: str
    rule: str

    def __str__(self) -> str:
        # A hostile name must not be able to write on the terminal.
        return f"{ascii(self.file)[1:-1]} {self.rule}"


class RefusedUpload(SemiHVError):
    """A folder that may not be uploaded as it is.

    Args:
        folder (`Path`): the folder.
        refusals (`list[Refusal]`): every file that is refused, and why.
    """

    def __init__(self, folder: Path, refusals: list[Refusal]):
        self.folder = folder
        self.refusals = refusals
        more = f"; and {len(refusals) - _SHOWN} more" if len(refusals) > _SHOWN else ""
        super().__init__(
            f"{folder} is not uploaded: {'; '.join(map(str, refusals[:_SHOWN]))}{more}.",
            "Remove or mend these files; nothing was sent.",
        )


def check_upload(folder: str | Path, kind: str, *, leave: bool = False) -> list[UploadFile]:
    """Checks every file of a folder before anything of it is uploaded.

    Args:
        folder (`str` or `Path`): what is to be published.
        kind (`str`): `"model"`, `"dataset"`, `"metric"` or `"space"`.
        leave (`bool`, *optional*, defaults to `False`): leave out what does not belong to a published thing of its
            kind, as in the folder of a run, in place of refusing it; what a file holds is judged all the same.

    Returns:
        `list[UploadFile]`: all its files, sorted by name.

    Raises:
        RefusedUpload: at least one file may not leave; it names each with the rule. There is no flag against it.
        SemiHVError: there is no such folder or kind, or nothing in it.
    """
    if kind not in KINDS:
        raise SemiHVError(f"There is no kind {kind!r}.", f"Choose one of {', '.join(KINDS)}.")
    root = Path(folder)
    if not root.is_dir():
        raise SemiHVError(f"There is no folder {root}.", "Give the folder that is to be published.")
    files: list[UploadFile] = []
    refusals: list[Refusal] = []
    refuse = (lambda refusal: None) if leave else refusals.append
    for name, path in _walk(root, root.resolve(), refuse, _STAYS.get(kind, ())):
        rule = _name_refusal(name, kind)
        if rule is not None and leave:
            continue
        if rule is None:
            try:
                rule = content_refusal(path, PurePosixPath(name))
            except OSError as error:
                rule = f"cannot be read ({error.strerror})"
        if rule is None:
            files.append(UploadFile(name, path, path.stat().st_size))
        else:
            refusals.append(Refusal(name, rule))
    if not refusals and kind == "model":
        refusals += _code_refusals(root, {file.name for file in files})
    if refusals:
        raise RefusedUpload(root, sorted(refusals, key=lambda one: one.file))
    if not files:
        raise SemiHVError(f"{root} is empty.", "There is nothing to publish.")
    return sorted(files, key=lambda file: file.name)


def _walk(
    root: Path, real_root: Path, refuse: Callable[[Refusal], None], stays: Collection[str]
) -> Iterator[tuple[str, Path]]:
    """Every ordinary file below a folder; what is none, and links that lead out, are refused on the way."""
    pending = [root]
    while pending:
        for entry in sorted(os.scandir(pending.pop()), key=lambda entry: os.fsencode(entry.name)):
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            if name in stays and not entry.is_symlink():
                continue
            if entry.is_symlink():
                target = _target(path)
                if target is None or not target.is_relative_to(real_root):
                    refuse(Refusal(name, "is a symbolic link that leads out of the folder, or nowhere"))
                    continue
                if target.is_dir():
                    refuse(Refusal(name, "is a symbolic link to a folder"))
                    continue
            if entry.is_dir(follow_symlinks=False):
                rule = _letters_refusal(entry.name) or _refused_name(entry.name)
                if rule:
                    refuse(Refusal(f"{name}/", rule))
                else:
                    pending.append(path)
            elif stat.S_ISREG(path.stat().st_mode):
                yield name, path
            else:
                refuse(Refusal(name, "is no ordinary file"))


def _target(path: Path) -> Path | None:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):  # broken, or a circle of links
        return None


def _name_refusal(name: str, kind: str) -> str | None:
    pure = PurePosixPath(name)
    for part in pure.parts:
        if rule := _letters_refusal(part) or _refused_name(part):
            return rule
    if any(_fits(pure, pattern) for pattern in (*_EVERYWHERE, *ALLOWED[kind])):
        return None
    return f"is not on the list of what a published {kind} consists of"


def _fits(name: PurePosixPath, pattern: str) -> bool:
    """Whether a name is what a pattern describes; `*` stays within one part, and hidden files must be named."""
    parts = pattern.split("/")
    return len(parts) == len(name.parts) and all(
        re.fullmatch(".+".join(map(re.escape, part.split("*"))), given)
        and given.startswith(".") == part.startswith(".")
        for part, given in zip(parts, name.parts)
    )


def _letters_refusal(part: str) -> str | None:
    try:
        length = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        return "has a name that is no UTF-8"
    if _BAD_LETTERS.search(part) or part != part.strip():
        return "has a name with letters that climb, break a path or hide something"
    if length > _LONGEST_NAME or part in (".", ".."):
        return "has a name that no repository takes"
    return None


def _refused_name(part: str) -> str | None:
    for pattern, rule in _REFUSED_NAMES:
        if re.fullmatch(pattern, part, flags=re.IGNORECASE):
            return rule
    return None


def _code_refusals(root: Path, names: set[str]) -> list[Refusal]:
    """Code beside weights must be what its manifest says; a folder of weights alone needs none."""
    from .manifest import code_digests, read_code_manifest

    found = code_digests(root)
    if not any(name.endswith(".py") for name in found) and MANIFEST not in names:
        return []
    try:
        stated = read_code_manifest(root)
    except SemiHVError:
        return [Refusal(MANIFEST, "is missing or malformed, though the folder holds code")]
    return [
        Refusal(name, f"differs from what {MANIFEST} says of it, or stands in one of the two only")
        for name in sorted({*stated, *found})
        if stated.get(name) != found.get(name)
    ]
