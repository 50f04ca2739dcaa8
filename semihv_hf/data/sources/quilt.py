"""Quilt-1M: pictures of tissue from teaching videos, articles and posts, with captions.

In the largest part, cut from videos, the captions are speech that was recognised and then corrected and extracted by
language models. In the other parts people wrote them.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..licences import source_licence
from ..list_columns import concept_codes, flat_words, is_blank, parse_list
from ..messages import message
from ..schema import Case, Fact, Provenance, Record, Text, case_id, content_id
from ..tables import DiskTable, csv_rows
from .base import Item, Skipped, Source
from .choices import one_line
from .conversations import DESCRIBE_IMAGE, PROMPT_VERSION, record_of, wording
from .grouping import grouped
from .places import first_place
from .reading import read_picture

TABLE = "quilt_1M_lookup.csv"
# Who wrote the captions of each part: speech recognition with language models, or people.
SUBSETS = {"quilt": "machine", "openpath": "human", "pubmed": "human", "laion": "human"}
SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
# The three classes of the release's own classifier of magnification (Ikezogwo et al. 2023, arXiv 2306.11207).
MAGNIFICATIONS = {"0": "up to 10x", "1": "over 10x to 20x", "2": "over 20x"}
_FIRST_HELD_OUT = ("test", "validation", "train")
_ENTITY = re.compile(r"""['"]entity['"]\s*:\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


class Quilt(Source):
    """Quilt-1M as it is on Zenodo, or with pictures of full size.

    An image that stands in several rows becomes one case with several captions. Where its rows name different splits,
    it goes to the test split before the validation split before the training split, so that nothing held out is
    trained on. `group` is the video (the part of the image's name before `_image_`).

    Args:
        root (`str` or `pathlib.Path`): the folder with the table and the images, unpacked or not.
        skip_not_histology (`bool`, *optional*, defaults to `False`): leave out what the release's column
            `not_histology` marks; otherwise it stays, with the fact `not_histology` and without a modality.
        held_out (`float`, *optional*, defaults to 0.0): the share of groups for the test split where a row states no
            split.
        seed (`int`, *optional*, defaults to 0): chooses those groups.
    """

    name = "quilt"
    layout = (
        (TABLE, "captions"),
        ("images_part_*.zip | quilt_1m | images_part_* | *.zip | images", "images"),
    )

    def __init__(self, root: str | Path, *, skip_not_histology: bool = False, held_out: float = 0.0, seed: int = 0):
        super().__init__(root, held_out=held_out, seed=seed)
        self.skip_not_histology = skip_not_histology
        # The folders that the archives unpack to, or in which a user put what they hold.
        parts = sorted(name for name in self.release.find("images_part_*") if not name.endswith(".zip"))
        self.folders = ["quilt_1m", *(f"{part}/quilt_1m" for part in parts), *parts, "images", ""]

    def items(self) -> Iterator[Item | Skipped]:
        """One item an image. Rows that cannot be used come first.

        Yields:
            [`Item`] or [`Skipped`]: a row without a caption or an image, of an unknown split, or the same as an
            earlier one.
        """
        for entry in grouped(self._rows()):
            if isinstance(entry, Skipped):
                yield entry
                continue
            path, rows = entry
            stated = {row["split"] for row in rows if row["split"]}
            split = next((name for name in _FIRST_HELD_OUT if name in stated), None)
            yield Item(path, self.split_of(split, _group(path)), {"rows": rows})

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads an image.

        Args:
            item ([`Item`]): an image with its rows.

        Yields:
            [`Case`] or [`Skipped`]: where the image cannot be read, every row of it is skipped.
        """
        rows, path = item.data["rows"], item.source_id
        if self.skip_not_histology and any(row["not_histology"] == "1" for row in rows):
            yield from _skip_rows(rows, "not medical", "column not_histology is 1")
            return
        picture = read_picture(self.release, first_place(self.release, path, self.folders), path)
        if isinstance(picture, Skipped):
            yield from _skip_rows(rows, picture.reason, picture.detail)
            return
        yield Case(
            id=case_id(self.name, path, [picture]),
            source=self.name,
            source_id=path,
            group=_group(path),
            split=item.split,
            licence=source_licence(self.name).licence,
            images=[picture],
            facts=[*_facts(rows), *_size_facts(rows, picture)],
            texts=_texts(rows),
        )

    def records(self, case: Case) -> Iterator[Record]:
        """One record a caption.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: of task `"caption"`.
        """
        wrote = [Provenance("messages[0]", prompt_version=PROMPT_VERSION)]
        for number, text in enumerate(text for text in case.texts if text.role == "caption"):
            ask = message("user", wording(f"{case.id}:{number}", DESCRIBE_IMAGE), 1)
            answer = message("assistant", text.text)
            yield record_of(case, "caption", [ask, answer], ["rule", text.annotation], provenance=wrote)

    def _rows(self) -> Iterator[tuple[str, dict] | Skipped]:
        with DiskTable() as seen:
            for number, row in enumerate(csv_rows(self.release, TABLE), start=1):
                yield _checked_row(number, row, seen)


def printed_strings(text: str) -> list[str]:
    """The strings of a list that was printed into a cell, by Python (`['a', 'b']`) or by numpy (`['a' 'b']`).

    Args:
        text (`str`): the cell.

    Returns:
        `list[str]`: the strings without blanks around them; a cell that is no list is one string.
    """
    if is_blank(text):
        return []
    try:
        return [one_line(word) for word in flat_words(parse_list(text))]
    except ValueError:
        return [one_line(text)]


def printed_concepts(text: str) -> tuple[list[str], list[str]]:
    """The UMLS concepts of a cell of `med_umls_ids`, however its nested lists were printed.

    Args:
        text (`str`): the cell, for example `"[[{'entity': 'Carcinoma', 'cui': 'C0007097'}]]"` or `"['C0007097']"`.

    Returns:
        `tuple[list[str], list[str]]`: concept ids and names, each once, in the order of the cell.
    """
    names = [one_line(_literal(found)) for found in _ENTITY.findall(text)]
    return concept_codes(text), list(dict.fromkeys(name for name in names if name))


def _literal(quoted: str) -> str:
    try:
        return ast.literal_eval(quoted)
    except (SyntaxError, ValueError):  # a backslash that begins no escape
        return quoted[1:-1]


def _checked_row(number: int, row: dict[str, str], seen: DiskTable) -> tuple[str, dict] | Skipped:
    place, path, caption = f"{TABLE}/{number}", row.get("image_path", "").strip(), one_line(row.get("caption", ""))
    if "" in row:
        return Skipped(place, "malformed row", "it has more cells than the table has columns")
    if not path:
        return Skipped(place, "missing image", "column image_path is empty")
    if is_blank(caption):
        return Skipped(place, "missing text", "column caption is empty")
    stated = row.get("split", "").strip().lower()
    if stated and stated not in SPLITS:
        return Skipped(place, "unknown label", f"split {stated!r}")
    subset = row.get("subset", "").strip().lower()
    if subset not in SUBSETS:
        return Skipped(place, "unknown label", f"subset {subset!r}")
    kept: dict[str, Any] = {"row": number, "caption": caption, "subset": subset, "split": SPLITS.get(stated, "")}
    for name in ("pathology", "roi_text", "med_umls_ids"):
        kept[name] = row.get(name, "").strip()
    for name in ("magnification", "height", "width", "single_wsi", "not_histology"):
        kept[name] = _number(row.get(name, ""))
    if not seen.add(content_id(path, caption, kept["roi_text"])):
        return Skipped(place, "duplicate row", f"repeats an earlier row of {path}")
    return path, kept


def _number(cell: str) -> str:
    """A number as pandas prints a column that has gaps (`"2.0"`), without its empty fraction; `""` for a gap."""
    cell = cell.strip()
    if is_blank(cell):
        return ""
    return {"true": "1", "false": "0"}.get(cell.casefold(), re.sub(r"\.0+$", "", cell))


def _group(path: str) -> str:
    name = PurePosixPath(path).name
    return name.partition("_image_")[0] or name


def _skip_rows(rows: Sequence[dict], reason: str, detail: str) -> Iterator[Skipped]:
    for row in rows:
        yield Skipped(f"{TABLE}/{row['row']}", reason, detail)


def _facts(rows: Sequence[dict]) -> list[Fact]:
    def once(values) -> list[str]:
        return list(dict.fromkeys(value for value in values if value))

    def column(name: str) -> str:
        return f"{TABLE} column {name}"

    facts = [Fact("row", ", ".join(str(row["row"]) for row in rows), f"{TABLE}, rows counted from 1")]
    if all(row["not_histology"] != "1" for row in rows):
        facts.append(Fact("modality", "histology", "the release holds histopathology"))
    facts += [Fact("subset", value, column("subset")) for value in once(row["subset"] for row in rows)]
    topics = once(topic for row in rows for topic in printed_strings(row["pathology"]))
    facts += [Fact("pathology", topic, column("pathology")) for topic in topics]
    for value in once(row["magnification"] for row in rows):
        facts.append(Fact("magnification", MAGNIFICATIONS.get(value, value), column("magnification") + f", {value}"))
    ids, names = printed_concepts("\n".join(row["med_umls_ids"] for row in rows))
    facts += [Fact("umls_cui", value, column("med_umls_ids")) for value in ids]
    facts += [Fact("umls_entity", value, column("med_umls_ids")) for value in names]
    for name in ("single_wsi", "not_histology"):
        facts += [
            Fact(name, {"1": "yes", "0": "no"}.get(value, value), column(name))
            for value in once(row[name] for row in rows)
        ]
    splits = once(row["split"] for row in rows)
    if len(splits) > 1:
        facts.append(Fact("stated_splits", ", ".join(splits), column("split")))
    return facts


def _size_facts(rows: Sequence[dict], picture: bytes) -> list[Fact]:
    """The size that the table states, where the picture has another: the Zenodo copy was scaled to 512 x 512."""
    import io

    with Image.open(io.BytesIO(picture)) as image:
        decoded = f"{image.width} x {image.height}"
    stated = dict.fromkeys(f"{row['width']} x {row['height']}" for row in rows if row["width"] and row["height"])
    source = f"{TABLE} columns width and height; the image has {decoded}"
    return [Fact("stated_size", value, source) for value in stated if value != decoded]


def _texts(rows: Sequence[dict]) -> list[Text]:
    texts = []
    for row in rows:
        writer = SUBSETS[row["subset"]]
        texts.append(Text("caption", row["caption"], writer, image=0))
        texts += [Text("roi", value, writer, image=0) for value in printed_strings(row["roi_text"])]
    return list({(text.role, text.text): text for text in texts}.values())
