"""Label files in the authors' text form: one file an image, three numbered lines with topic, modality and body part.

Such files were written by a model that was asked for them (`deal_pmc.py` of MultiViewDx), so they hold misspellings,
dummies and refusals. What a line does not clearly say becomes no label but a named problem.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from semihv_hf.curation.vocabulary import body_part_of, modality_of, topic_of
from semihv_hf.data.schema import LABELS, Case, Label
from semihv_hf.errors import SemiHVError, first_line

SUFFIX = ".txt"
# A number, a name, a colon, a value; around name and value the marks that models like to set.
_LINE = re.compile(
    r"^[\W_]*(?:\d+[.):]?)?[\W_]*(?P<name>topics?(?:\s*/\s*diseases?)?|diseases?|modality|modalities|body[\s_-]*parts?)"
    r"\s*(?:\([^)]*\))?[\s*_`\"')\]]*[:：](?P<value>.*)$",
    re.IGNORECASE,
)
_NAMES = {"t": "topic", "d": "topic", "m": "modality", "b": "body_part"}
_REFUSAL = re.compile(r"(?i)\b(?:sorry|cannot|can't|unable to)\b")
_MARKS = " \t*_`\"'[]().。"
_READ = {"modality": modality_of, "body_part": body_part_of}
_DUMMY = "modality"
# A file holds three short lines; something far larger is something else.
_LONGEST = 64 * 1024
_LONGEST_LINE = 1000


@dataclass(frozen=True)
class LabelText:
    """What a label file says.

    Args:
        labels (`list[Label]`): at most one a name, in the order of `LABELS`.
        problems (`list[str]`): what could not be read, one line each.
    """

    labels: list[Label] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_label_text(text: str, *, source: str = "label file", model: str = "") -> LabelText:
    """Reads the authors' form.

    Args:
        text (`str`): lines such as `1. Topic/Disease: glioma, seizure, brain`, `2. Modality: MR` and
            `3. Body part: Head & neck`, in any order; other lines are passed over. Where the modality is the word
            "Modality" the whole file is the dummy that the authors wrote for images of PMC-OA, and says nothing.
        source (`str`, *optional*): where it stands, for the labels.
        model (`str`, *optional*, defaults to `""`): the model that wrote it, where that is known.

    Returns:
        [`LabelText`]: the labels, with the right spelling of each class, and what could not be read.

    Example:

    ```python
    >>> from semihv_hf.curation.label_files import read_label_text
    >>> read = read_label_text("1. Topic/Disease: gallstone\\n2. Modality: Altralsound\\n3. Body part: Abdomen")
    >>> [label.value for label in read.labels]
    ['gallstone', 'ultrasound', 'abdomen']

    ```
    """
    stated: dict[str, list[str]] = {}
    for line in text.lstrip("\ufeff").splitlines():
        if len(line) <= _LONGEST_LINE and (found := _LINE.match(line)) is not None:
            name = _NAMES[found["name"][0].lower()]
            stated.setdefault(name, []).append(found["value"].strip(_MARKS))
    if any(value.lower() == _DUMMY for value in stated.get("modality", ())):
        return LabelText([], ["it is the dummy label of the images of PMC-OA"])
    labels, problems = [], []
    for name in LABELS:
        values = list(dict.fromkeys(filter(None, stated.get(name, ()))))
        classes = {_class_of(name, value) for value in values}
        if not values:
            problems.append(f"{name}: {'the value is empty' if name in stated else 'there is no such line'}")
        elif len(classes) > 1:
            problems.append(f"{name}: it says both {values[0][:60]!r} and {values[1][:60]!r}")
        elif (value := classes.pop()) is None:
            problems.append(f"{name}: {values[0][:60]!r} is no class")
        else:
            labels.append(Label(name, value, "model", source, model))
    if not stated and text.strip():
        what = "a refusal" if _REFUSAL.search(text) else "no label text"
        problems = [f"it is {what}: {' '.join(text.split())[:60]!r}"]
    elif not text.strip():
        problems = ["it is empty"]
    return LabelText(labels, problems)


def _class_of(name: str, value: str) -> str | None:
    """The class of a value. Several are one class only if all of them name it."""
    if name == "topic":
        # A refusal in the place of keywords, or a sentence, is no topic.
        topic = topic_of(value)
        return None if _REFUSAL.search(value) or any(len(word) > 80 for word in topic.split(", ")) else topic
    read = _READ[name]
    if (whole := read(value)) is not None:
        return whole
    # "CT (axial)": what stands in brackets explains the class.
    parts = [part for part in re.split(r"[,;|]|\bor\b|\(", value) if part.strip(_MARKS)]
    named = [read(part.strip(_MARKS)) for part in parts]
    if "(" in value and named and named[0] is not None and len(set(named)) <= 2 and set(named[1:]) <= {None, named[0]}:
        return named[0]
    return named[0] if len(set(named)) == 1 else None


def read_label_file(path: str | Path, *, source: str = "", model: str = "") -> LabelText:
    """Reads one file.

    Args:
        path (`str` or `pathlib.Path`): the file.
        source (`str`, *optional*): what the labels name as their source; its name by default.
        model (`str`, *optional*): the model that wrote it.

    Returns:
        [`LabelText`]: without labels where the file cannot be read; the problem says why.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            return LabelText([], [f"it is longer than {_LONGEST} bytes"])
        return read_label_text(data.decode("utf-8"), source=source or path.name, model=model)
    except (OSError, UnicodeDecodeError) as error:
        return LabelText([], [f"it cannot be read ({first_line(error)})"])


class LabelFolder:
    """A folder of label files, one an image, also in folders of its own.

    Args:
        root (`str` or `pathlib.Path`): the folder.
        model (`str`, *optional*, defaults to `""`): the model that wrote the files, where that is known.

    Raises:
        `SemiHVError`: there is no such folder.
    """

    def __init__(self, root: str | Path, *, model: str = ""):
        self.root = Path(root)
        self.model = model
        if not self.root.is_dir():
            raise SemiHVError(f"There is no folder of label files {root}.", "Give the folder with the .txt files.")

    def __iter__(self) -> Iterator[tuple[str, LabelText]]:
        """All files, folder by folder in the order of their names; only one folder's names are in memory.

        Yields:
            `tuple[str, LabelText]`: the path inside the folder, with `/`, and what it says.
        """
        folders = [""]
        while folders:
            folder = folders.pop()
            with os.scandir(self.root / folder) as entries:
                here = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            inside = [(f"{folder}/{name}" if folder else name, is_folder) for name, is_folder in here]
            folders += [place for place, is_folder in reversed(inside) if is_folder]
            for place, is_folder in inside:
                if not is_folder and place.lower().endswith(SUFFIX):
                    yield place, self._read(place)

    def of_case(self, case: Case) -> LabelText | None:
        """What is said about a case's image.

        A file belongs to an image if it is named after it, with or without its folders and its suffix. Its labels are
        those of one image, so a case of several has none.

        Args:
            case ([`Case`]): the case.

        Returns:
            [`LabelText`] or `None`: `None` where there is no such file.
        """
        if len(case.images) != 1:
            return None
        parts = [part for part in PurePosixPath(case.source_id.replace("\\", "/")).parts if part not in ("/", "..")]
        if not parts or "\0" in case.source_id:
            return None
        for place in ("/".join(parts), parts[-1]):
            for stem in (place, str(PurePosixPath(place).with_suffix(""))):
                if (self.root / f"{stem}{SUFFIX}").is_file():
                    return self._read(f"{stem}{SUFFIX}")
        return None

    def _read(self, place: str) -> LabelText:
        return read_label_file(self.root / place, source=f"label file {place}", model=self.model)
