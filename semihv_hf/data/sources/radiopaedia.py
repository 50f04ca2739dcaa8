"""Radiopaedia: teaching cases, from a collection for which the user has an agreement with the site.

There is no bulk release and no known table; the user names the columns of an own table. Pictures lie in a folder for
each case, as SemiHVision's authors keep them, with captions in a parallel folder or in the site's JSON for each image.
Whether a collection may be used at all is for the licence gate, which refuses by default.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from .. import licences
from ..schema import Case, Fact, Record, Text, case_id
from .base import Item, Skipped, Source
from .case_folders import PICTURES, CaseFolders, comparable_title, picture_by_stem
from .grouping import grouped
from .modality_words import body_part_of, modality_of
from .radiopaedia_columns import FACT_ROLES, TEXT_ROLES, chosen_table, read_columns
from .reading import read_picture
from .release_tables import numbered_rows
from .teaching_cases import case_records
from .volume_reading import one_line

CAPTIONS = ("original", "reformatted")
# Names of pictures and of their reformatted captions differ in this beginning alone.
_PICTURE, _CAPTION = "03", "09"
_MISSING = ("", "nan", "none", "null", "n/a")


class Radiopaedia(Source):
    """A collection of Radiopaedia cases.

    Args:
        root (`str` or `pathlib.Path`): the folder with a CSV table and the folder of images.
        held_out (`float`, *optional*, defaults to 0.0): the share of cases for the test split.
        seed (`int`, *optional*, defaults to 0): chooses them.
        columns (`dict[str, str]` or `str`): which column has which role, or a YAML or JSON file of that; see
            [`semihv_hf.data.sources.radiopaedia_columns`]. With the role `image`, the table has a row for each image.
        table (`str`, *optional*): the table, where the map fits several.
        images (`str`, *optional*, defaults to `"Radiopaedia"`): the folder with a folder for each case.
        captions (`str`, *optional*, defaults to `"original"`): which caption of an image its record has where both
            exist: `"original"`, by people, or `"reformatted"`, by a model.
        incomplete (`bool`, *optional*, defaults to `False`): keeps cases of which some image cannot be read, without
            that image, which is reported; otherwise such cases are left out whole.

    Raises:
        `SemiHVError`: the folder holds no collection, or `columns` is missing or does not fit; the message shows the
            header of the table and an example.
    """

    name = "radiopaedia"
    layout = (("*.csv | *.csv.gz", "a table of cases"),)

    def __init__(
        self,
        root,
        *,
        held_out=0.0,
        seed=0,
        columns: Mapping[str, str] | str | None = None,
        table: str | None = None,
        images: str = "Radiopaedia",
        captions: str = "original",
        incomplete: bool = False,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        if isinstance(columns, str | Path):
            self.path_options = ("columns",)  # a mapping is no path
        stated = read_columns(columns)
        self.table = chosen_table(self.release, table, stated)
        self.columns = stated or {}
        self.release.require(self.name, [(images.strip("/"), "a folder for each case")])
        if captions not in CAPTIONS:
            raise SemiHVError(f"Unknown captions {captions!r}.", f"Known are: {', '.join(CAPTIONS)}.")
        self.captions, self.incomplete = captions, incomplete
        base = images.strip("/")
        self.folders = CaseFolders(self.release, (base,))
        self.caption_folders = CaseFolders(self.release, (f"{base}/instruct",))

    def metadata(self) -> list[str]:
        """The table. See [`Source.metadata`]."""
        return [self.table]

    def items(self) -> Iterator[Item | Skipped]:
        """One item a case. Rows that cannot be used come first. See [`Source.items`]."""
        for entry in grouped(self._rows()):
            if isinstance(entry, Skipped):
                yield entry
                continue
            key, rows = entry
            source_id = rows[0].get("rid") or rows[0]["title"]
            named: dict[str, str] = {}
            for row in rows[1:] if "image" not in self.columns else ():
                yield Skipped(source_id, "duplicate row", f"{self.table} row {row['row']} repeats a case")
            for row in rows if "image" in self.columns else ():
                if row["image"] in named:
                    detail = f"{self.table} row {row['row']} repeats an image"
                    yield Skipped(f"{source_id}/image {row['image']}", "duplicate row", detail)
                named.setdefault(row["image"], row.get("caption", ""))
            yield Item(source_id, self.split_of(None, key), {**rows[0], "images": named})

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]] | Skipped]:
        for number, cells in numbered_rows(self.release, self.table):
            place = f"{self.table}/{number}"
            row = {role: _cell(cells.get(column)) for role, column in self.columns.items()}
            if "" in cells:
                yield Skipped(place, "malformed row", "it has more cells than the table has columns")
            elif not row["title"]:
                yield Skipped(place, "malformed row", f"column {self.columns['title']} is empty")
            elif not (row.get("rid") or row.get("url")):
                yield Skipped(place, "licence", "neither rID nor address: the images cannot be attributed")
            elif "image" in row and not row["image"]:
                yield Skipped(place, "missing image", f"column {self.columns['image']} is empty")
            else:
                kept = {role: text for role, text in row.items() if text}
                yield comparable_title(kept.get("rid") or kept["title"]), {**kept, "row": number}

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """See [`Source.read`]."""
        folder = self.folders.find(item.data["title"])
        if folder is None:
            yield Skipped(
                item.source_id, "missing image", one_line(f"no folder is named after {item.data['title']!r}")
            )
            return
        try:
            listed = self._images(folder, item.data["images"])
        except ValueError as error:
            yield Skipped(item.source_id, "malformed row", one_line(str(error)))
            return
        pictures = []
        for image in listed:
            picture = read_picture(self.release, f"{folder}/{image['file']}", item.source_id)
            if isinstance(picture, bytes):
                pictures.append((image, picture))
            elif self.incomplete:
                yield Skipped(f"{item.source_id}/image {image['file']}", picture.reason, picture.detail)
            else:
                yield picture
                return
        if not pictures:
            yield Skipped(item.source_id, "missing image", "the case's folder holds no picture that can be read")
            return
        yield from self._case(item, [image for image, _ in pictures], [picture for _, picture in pictures])

    def _case(self, item: Item, listed: list[dict], images: list[bytes]) -> Iterator[Case | Skipped]:
        try:
            texts = self._texts(item.data, listed)
        except UnicodeDecodeError:
            yield Skipped(item.source_id, "missing text", "a caption of the case is no UTF-8 text")
            return
        if not texts:
            yield Skipped(item.source_id, "missing text", "neither the table nor the captions say anything")
            return
        licence = licences.source_licence(self.name).licence
        yield Case(
            case_id(self.name, item.source_id, images), self.name, item.source_id,
            comparable_title(item.data.get("rid") or item.data["title"]), item.split, licence, images,
            self._facts(item.data, listed), texts,
        )  # fmt: skip

    def _images(self, folder: str, named: Mapping[str, str]) -> list[dict[str, Any]]:
        """The pictures of a case: `file`, `caption`, and what the site's JSON says of them, in the site's order."""
        files = self.folders.files(folder)
        pictures = [name for name in files if name.lower().endswith(PICTURES)]
        stated = [entry for name in files if name.lower().endswith(".json") for entry in self._entries(folder, name)]
        if named:
            places = {picture_by_stem(files, Path(name).name) or name: caption for name, caption in named.items()}
        else:
            own = [name for name in pictures if name.startswith(_PICTURE)]
            places = dict.fromkeys(own or pictures, "")
        images = []
        for file in sorted(places, key=_natural):
            entry = next((entry for entry in stated if _is_about(entry, file)), {})
            images.append({"file": file, **entry, "caption": places[file] or entry.get("caption", "")})
        # Positions of the site where each image has one; otherwise the order of names.
        if all(isinstance(image.get("position"), int) for image in images):
            images.sort(key=lambda image: image["position"])
        return images

    def _entries(self, folder: str, name: str) -> list[dict[str, Any]]:
        try:
            content = json.loads(self.release.read_bytes(f"{folder}/{name}").decode("utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{name} is no valid JSON: {error}") from error
        if isinstance(content, Mapping):
            content = content.get("images", [content])
        if not isinstance(content, list) or not all(isinstance(entry, Mapping) for entry in content):
            raise ValueError(f"{name} lists no images")
        kept = ("id", "fullscreen_filename", "public_filename", "plane_projection", "aux_modality", "position")
        return [
            {**{key: entry[key] for key in kept if entry.get(key) is not None}, "caption": _cell(entry.get("caption"))}
            for entry in content
        ]

    def _texts(self, data: Mapping[str, Any], images: list[dict]) -> list[Text]:
        texts = [Text(role, data[role], "human") for role in TEXT_ROLES if role != "caption" and data.get(role)]
        if data.get("caption") and not data["images"]:
            texts.append(Text("caption", data["caption"], "human", image=0 if len(images) == 1 else None))
        folder = self.caption_folders.find(data["title"])
        files = self.caption_folders.files(folder) if folder else []
        for index, image in enumerate(images):
            if image["caption"]:
                texts.append(Text("caption", image["caption"], "human", image=index))
            stem = image["file"].rpartition(".")[0]
            swapped = _CAPTION + stem.removeprefix(_PICTURE) if stem.startswith(_PICTURE) else stem
            name = next((name for name in (f"{swapped}.txt", f"{stem}.txt") if name in files), None)
            words = self.release.read_bytes(f"{folder}/{name}").decode("utf-8-sig").strip() if name else ""
            if words:
                texts.append(Text("caption", words, "machine", image=index))
        return texts

    def _facts(self, data: Mapping[str, Any], images: list[dict]) -> list[Fact]:
        def column(role: str) -> str:
            return f"{self.table} column {self.columns[role]}"

        facts = [Fact(role, data[role], column(role)) for role in ("title", "rid") if data.get(role)]
        for role in FACT_ROLES:
            plain = {"modality": modality_of, "body_part": body_part_of}.get(role, str)
            value = plain(data[role]) if data.get(role) else None
            if value:
                facts.append(Fact(role, value.lower() if role in ("plane", "sex") else value, column(role)))
        for key, name in (("plane_projection", "plane"), ("aux_modality", "stated_modality")):
            values = [str(image.get(key) or "").strip().lower() for image in images]
            stated = ", ".join(filter(None, dict.fromkeys(values)))
            # One value of all images is a fact of the case; otherwise the list says what is among them.
            if stated:
                plural = len(set(values)) > 1
                facts.append(Fact(f"{name}s" if plural else name, stated, f"JSON of the site, field {key}"))
        known = f"rID: {data['rid']}" if data.get("rid") else data["url"]
        author = data.get("author") or "author not stated"
        for index, image in enumerate(images):
            words = f"image {index + 1} ({image.get('id', image['file'])}): {author}, Radiopaedia.org, {known}"
            facts.append(Fact("attribution", words, "terms of Radiopaedia: each image with its author and rID"))
        return facts

    def records(self, case: Case) -> Iterator[Record | Skipped]:
        """Findings, discussion and captions. See [`semihv_hf.data.sources.teaching_cases`]."""
        yield from case_records(case, self.captions)


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in _MISSING else text


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts `03_10.jpg` after `03_9.jpg`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def _is_about(entry: Mapping[str, Any], file: str) -> bool:
    """Whether the site's JSON describes a file: by its name, or by the image's id as a number in it."""
    stem = file.rpartition(".")[0].lower()
    for key in ("fullscreen_filename", "public_filename"):
        if key in entry and Path(str(entry[key])).stem.lower() in (stem, stem.removeprefix(_PICTURE).lstrip("_-")):
            return True
    return "id" in entry and str(entry["id"]) in re.findall(r"\d+", stem)
