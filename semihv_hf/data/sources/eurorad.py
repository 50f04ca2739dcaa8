"""Eurorad: teaching cases of radiology, written and captioned by radiologists.

There is no bulk release. Read are `eurorad.json` with image folders, as SemiHVision's authors keep them, and a local
copy of MedThinkVQA. Cases published before 6 July 2015, or on a day that is not known, need the submitting author's
permission for any use; they are refused without a permission file.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from .. import licences
from ..release import Release
from ..schema import Case, Fact, Record, Text, case_id
from ..tables import DiskTable
from .base import Item, Skipped, Source
from .case_folders import CaseFolders, comparable_title, folder_name
from .eurorad_permission import read_permission
from .eurorad_rows import AUTHORS, MEDTHINK, case_tables, plain_case, raw_rows, stated_split
from .publication_dates import earliest_day
from .reading import read_picture
from .release_tables import numbered_rows
from .teaching_cases import case_records

REFORMATTED = "EURORAD_implement"
CAPTIONS = ("original", "reformatted")
_DATE_COLUMNS = ("date", "published", "publication_date")
_KEY_COLUMNS = ("id", "case_id", "title")


class Eurorad(Source):
    """Cases of Eurorad.

    One case is one row, with all of its images. Texts are the radiologists' own; captions in `EURORAD_implement` were
    reformatted by a model and are marked so.

    Args:
        root (`str` or `pathlib.Path`): the folder with `eurorad.json`, or with the files of MedThinkVQA.
        held_out (`float`, *optional*, defaults to 0.0): the share of cases for the test split; MedThinkVQA states its
            own splits.
        seed (`int`, *optional*, defaults to 0): chooses them.
        images (`str`, *optional*): where the case folders lie, relative to the release; by default the release itself,
            `images`, `eurorad` or `img`.
        dates (`str`, *optional*): a CSV file with the columns `id` or `title`, and `date`, for cases that state no day
            of publication themselves.
        permission (`str`, *optional*): a permission file, see [`semihv_hf.data.sources.eurorad_permission`].
        captions (`str`, *optional*, defaults to `"original"`): which caption of an image its record has where both
            exist, `"original"` or `"reformatted"`.
        incomplete (`bool`, *optional*, defaults to `False`): keeps cases of which some image is missing or damaged,
            without that image, which is reported; otherwise such cases are left out whole.
    """

    name = "eurorad"
    layout = (
        (
            f"{AUTHORS} | **/*.parquet | *.jsonl | data/*.jsonl | train*.json | test*.json | data/*.json",
            "cases, as eurorad.json or as MedThinkVQA",
        ),
    )
    path_options = ("dates", "permission")

    def __init__(
        self,
        root,
        *,
        held_out=0.0,
        seed=0,
        images: str | None = None,
        dates: str | None = None,
        permission: str | None = None,
        captions: str = "original",
        incomplete: bool = False,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        if captions not in CAPTIONS:
            raise SemiHVError(f"Unknown captions {captions!r}.", f"Known are: {', '.join(CAPTIONS)}.")
        self.tables = case_tables(self.release)
        if not self.tables:
            raise SemiHVError(f"{self.release.root} holds no {AUTHORS}, and no file named after a split.")
        bases = ("", "images", "eurorad", "img") if images is None else (images.strip("/"),)
        if images is not None and not self.release.exists(bases[0]):
            raise SemiHVError(f"{self.release.root} has no folder {images}.", "Name a folder inside the release.")
        self.dates = None if dates is None else _checked_dates(Path(dates).expanduser())
        self.permission = None if permission is None else read_permission(permission)
        self.captions, self.incomplete = captions, incomplete
        self.bases = bases
        self.folders = CaseFolders(self.release, bases)
        self.reformatted = CaseFolders(self.release, (REFORMATTED,), ".txt")

    def metadata(self) -> list[str]:
        """The files that list cases. See [`Source.metadata`]."""
        return list(self.tables)

    def items(self) -> Iterator[Item | Skipped]:
        """One item a case. See [`Source.items`]."""
        with DiskTable() as seen, DiskTable(self._dates()) as dates:
            for table in self.tables:
                for number, row in enumerate(raw_rows(self.release, table), start=1):
                    yield self._item(row, table, number, seen, dates)

    def _item(self, row: Any, table: str, number: int, seen: DiskTable, dates: DiskTable) -> Item | Skipped:
        data = plain_case(row, table)
        if isinstance(data, str):
            return Skipped(f"{table}/{number}", "malformed row", data)
        source_id = data["id"] or data["title"]
        if not seen.add(comparable_title(source_id)):
            return Skipped(source_id, "duplicate row", f"{table} row {number} repeats an id or title")
        if not data["published"]:
            keys = (comparable_title(data["id"]), comparable_title(data["title"]))
            data["published"], data["dated"] = next(filter(None, map(dates.get, keys)), ("", ""))
        refused = self._date_rule(data, source_id)
        if refused is not None:
            return refused
        if not data["images"]:
            return Skipped(source_id, "missing image", "the case lists no image")
        if not (data["findings"] or data["discussion"]) and not any(image["caption"] for image in data["images"]):
            return Skipped(source_id, "missing text", "the case has neither findings nor discussion nor captions")
        data["release"] = self.name if table == AUTHORS else MEDTHINK
        data["table"] = table
        stated = None if table == AUTHORS else stated_split(table)
        return Item(source_id, self.split_of(stated, comparable_title(data["title"])), data)

    def _date_rule(self, data: dict, source_id: str) -> Skipped | None:
        """Refuses a case that the licence does not cover; notes the permission of one that is used nevertheless."""
        published = earliest_day(data["published"])
        if published is not None:
            data["facts"].append(["published", published.isoformat(), data["dated"]])
        entry = licences.source_licence(self.name)
        if entry.allows_date(published):
            return None
        if self.permission is not None and (fact := self.permission.fact(data["id"], data["title"])):
            data["facts"].append([fact.name, fact.value, fact.source])
            return None
        stated = f"{data['published']!r} is no day" if data["published"] else "the day of publication is not known"
        when = f"published on {published}" if published else stated
        return Skipped(source_id, "date rule", f"{when}; free from {entry.from_date} on, before only by permission")

    def _dates(self) -> Iterator[tuple[str, tuple[str, str]]]:
        if self.dates is None:
            return
        path = Path(self.dates)
        for _, row in numbered_rows(Release(path.parent), path.name):
            fields = {name.lower(): cell.strip() for name, cell in row.items()}
            stated = next((column for column in _DATE_COLUMNS if fields.get(column)), None)
            for column in _KEY_COLUMNS:
                if stated and fields.get(column):
                    yield comparable_title(fields[column]), (fields[stated], f"table of dates, column {stated}")

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """See [`Source.read`]."""
        data, pictures = item.data, []
        for image in data["images"]:
            picture = read_picture(self.release, self._place(data, image), item.source_id)
            if isinstance(picture, bytes):
                pictures.append((image, picture))
            elif self.incomplete:
                yield Skipped(f"{item.source_id}/image {image['id']}", picture.reason, picture.detail)
            else:
                yield picture
                return
        if not pictures:
            yield Skipped(item.source_id, "missing image", "none of the case's images can be read")
            return
        try:
            reformatted = self._reformatted(data["title"])
        except UnicodeDecodeError:
            yield Skipped(item.source_id, "missing text", f"the case's file in {REFORMATTED} is no UTF-8 text")
            return
        licence = licences.source_licence(data["release"]).licence
        images = [picture for _, picture in pictures]
        facts = [*_facts(data), *_modalities([image for image, _ in pictures])]
        texts = _texts(data, [image for image, _ in pictures], reformatted)
        group = comparable_title(data["title"])
        identity = case_id(data["release"], item.source_id, images)
        yield Case(identity, data["release"], item.source_id, group, item.split, licence, images, facts, texts)

    def _place(self, data: dict, image: dict) -> str:
        """Where an image lies: the path that the table states, or the file of its id in the case's folder."""
        if image.get("path"):
            stated = image["path"].replace("\\", "/").removeprefix("./")
            places = [f"{base}/{stated}" if base else stated for base in self.bases]
            return next((place for place in places if self.release.exists(place)), stated)
        folder = self.folders.find(data["title"])
        if folder is not None:
            return self.folders.picture(folder, image["id"])
        # Not unpacked: archives are asked for each ending that a picture may have.
        stem = f"{folder_name(data['title'])}/{image['id']}"
        if self.release.zips.archives:
            found = (stem + suffix for suffix in (".jpg", ".jpeg", ".png") if self.release.zips.find(stem + suffix))
            return next(found, stem)
        return stem

    def _reformatted(self, title: str) -> dict[str, str]:
        """Captions by image id: a line each, parted at the first colon that a blank follows."""
        name = self.reformatted.find(title)
        if name is None:
            return {}
        lines = self.release.read_bytes(name).decode("utf-8-sig").splitlines()
        parts = [line.partition(": ") for line in lines]
        return {identity.strip(): text.strip() for identity, _, text in parts if text.strip()}

    def records(self, case: Case) -> Iterator[Record | Skipped]:
        """Findings, discussion, captions, and the question of MedThinkVQA. See
        [`semihv_hf.data.sources.teaching_cases`]."""
        yield from case_records(case, self.captions)


def _checked_dates(path: Path) -> str:
    if not path.is_file():
        raise SemiHVError(
            f"There is no table of dates {path}.", "Give a CSV file with the columns title or id, and date."
        )
    release = Release(path.parent)
    try:
        with release.open_text(path.name) as file:
            header = [column.strip().lower() for column in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SemiHVError(f"The table of dates {path.name} cannot be read: {error}.", "Give a CSV file.") from error
    if not set(header) & set(_DATE_COLUMNS) or not set(header) & set(_KEY_COLUMNS):
        raise SemiHVError(
            f"{path.name} has the columns {', '.join(header)}.",
            f"It needs one of {', '.join(_KEY_COLUMNS)} and one of {', '.join(_DATE_COLUMNS)}.",
        )
    return str(path)


def _facts(data: dict) -> list[Fact]:
    facts = [Fact("title", data["title"], f"{data['table']} field title")]
    return facts + [Fact(*fact) for fact in data["facts"]]


def _modalities(images: list[dict]) -> list[Fact]:
    """The modality of all images; several in one fact of another name, because each is that of some images only."""
    stated = list(dict.fromkeys(image.get("modality", "") for image in images))
    if len(stated) == 1:
        return [Fact("modality", value, "columns image_NN_modality") for value in stated if value]
    return [Fact("modalities", ", ".join(filter(None, stated)), "columns image_NN_modality, of single images")]


def _texts(data: dict, images: list[dict], reformatted: dict[str, str]) -> list[Text]:
    texts = [
        Text(role, data[role], "human") for role in ("history", "findings", "discussion", "diagnosis") if data[role]
    ]
    for index, image in enumerate(images):
        if image["caption"]:
            texts.append(Text("caption", image["caption"], "human", image=index))
        if image["id"] in reformatted:
            texts.append(Text("caption", reformatted[image["id"]], "machine", image=index))
    if data["options"] and data["answer"] in data["options"]:
        lines = [f"{letter}. {option}" for letter, option in sorted(data["options"].items())]
        # MedThinkVQA does not say who wrote the wrong options; the right one is the case's own diagnosis.
        texts.append(Text("options", "\n".join(lines), "machine"))
        texts.append(Text("answer", f"{data['answer']}. {data['options'][data['answer']]}", "human"))
    return texts
