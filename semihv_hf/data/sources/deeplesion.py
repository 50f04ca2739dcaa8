"""DeepLesion: CT slices of one American hospital with the lesions that radiologists measured in them.

Yan et al., "DeepLesion: automated mining of large-scale lesion annotations", J. Med. Imag. 5(3), 2018. One key slice
becomes one case; its lesions, one row of the table each, are its regions, so kept and skipped lesions add up to the
rows of the table.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import SemiHVError
from ..imaging import apply_window, encode_png
from ..licences import source_licence
from ..messages import message
from ..schema import Case, Fact, QuestionTurn, Record, Region, Text, case_id
from .base import Item, Skipped, Source
from .conversations import record_of, wording
from .deeplesion_table import COLUMNS, LESION_TYPES, TABLE, UNKNOWN_TYPE, lesion_rows
from .grouping import grouped
from .reading import read_picture
from .release_tables import require_columns
from .sixteen_bit import read_grey_values

TEXT_MINED = "text_mined_labels_171_and_split.json"
PICTURES = ("hu", "key_slices")
HU_OFFSET = 32768  # stored value - 32768 = Hounsfield units
TYPE_QUESTIONS = (
    "A lesion lies in the box {box} (left, top, right, bottom in pixels). Of which type is it? Options: {options}.",
    "Look at the box {box} (left, top, right, bottom in pixels). Which of these fits the lesion best: {options}?",
    "Classify the lesion in the box {box} (left, top, right, bottom in pixels) as one of {options}.",
)
_BOX_SOURCE = f"{TABLE} column Bounding_boxes"
_TYPE_SOURCE = f"{TABLE} column Coarse_lesion_type"


class DeepLesion(Source):
    """The release of the NIH Clinical Center.

    Args:
        root (`str` or `pathlib.Path`): the folder of the release: `DL_info.csv` and the images, unpacked or in zip
            archives. LesaNet's `text_mined_labels_171_and_split.json` beside the table is read, too.
        held_out (`float`, *optional*, defaults to 0.0): unused: the release states its splits, by patient.
        seed (`int`, *optional*, defaults to 0): unused.
        pictures (`str`, *optional*, defaults to `"hu"`): `"hu"` for the 16-bit slices, shown in the window of their
            row, or `"key_slices"` for the release's own 8-bit pictures.
        context (`int`, *optional*, defaults to 0): how many slices on either side of the key slice are added, as far
            as the release holds them; `"hu"` only.
        noisy (`bool`, *optional*, defaults to `True`): whether lesions that the release calls possibly noisy are kept.

    Raises:
        `SemiHVError`: the folder holds no such release, or an option is none.
    """

    name = "deeplesion"
    layout = (
        (TABLE, "the table of lesions"),
        (
            "Images_png | Images_png*.zip | Key_slices | Key_slices*.zip | [0-9]*_[0-9]*_[0-9]*",
            "the slices, unpacked or in zip archives",
        ),
    )

    def __init__(
        self,
        root: str | Path,
        *,
        held_out: float = 0.0,
        seed: int = 0,
        pictures: str = "hu",
        context: int = 0,
        noisy: bool = True,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        if pictures not in PICTURES:
            raise SemiHVError(f"pictures is {pictures!r}.", f"Use one of: {', '.join(PICTURES)}.")
        if context < 0 or (context and pictures != "hu"):
            raise SemiHVError(f"context is {context} for pictures {pictures!r}.", "Neighbours exist for 'hu' only.")
        self.pictures, self.context, self.noisy = pictures, context, noisy
        require_columns(self.release, self.name, TABLE, COLUMNS)

    def metadata(self) -> list[str]:
        """The table, and the text-mined labels where they are there."""
        mined = self._text_mined()
        return [TABLE, *([mined] if mined else [])]

    def items(self) -> Iterator[Item | Skipped]:
        """Lists the key slices in the order of the table; rows that cannot be used come first.

        Yields:
            [`Item`] or [`Skipped`]: an item a slice; a skipped one a row.
        """
        mined = self._mined_labels()
        for group in grouped(lesion_rows(self.release)):
            if isinstance(group, Skipped):
                yield group
                continue
            name, rows = group
            lesions: list[dict[str, Any]] = []
            for lesion in rows:
                reason = self._why_not(lesion, lesions)
                if reason:
                    yield Skipped(f"{name} in row {lesion['row']}", *reason)
                else:
                    lesions.append({**lesion, "mined": mined.get(lesion["row"] - 1, [])})
            if lesions:
                yield Item(name, lesions[0]["split"], {"lesions": lesions})

    def _why_not(self, lesion: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
        if lesion["noisy"] and not self.noisy:
            return "known bad file", "the release calls the annotation possibly noisy"
        for other in earlier:
            if (other["box"], other["measured"]) == (lesion["box"], lesion["measured"]):
                return "duplicate row", f"row {other['row']} holds the same lesion"
            if any(other[key] != lesion[key] for key in ("split", "slice", "window", "size")):
                return "malformed row", f"row {other['row']} of the same slice states another split, window or size"
        return None

    def _text_mined(self) -> str | None:
        return self.release.first(TEXT_MINED) or self.release.first(f"program_data/{TEXT_MINED}")

    def _mined_labels(self) -> dict[int, list[str]]:
        """Labels by the index of the row from 0; about 20,000 short lists in the real file."""
        name = self._text_mined()
        if name is None:
            return {}
        with self.release.open_text(name) as file:
            try:
                mined = json.load(file)
                terms = mined["term_list"]
                return {
                    int(index): [terms[label] for label in labels]
                    for split in ("train", "val", "test")
                    for index, labels in zip(mined[f"{split}_lesion_idxs"], mined[f"{split}_relevant_labels"])
                }
            except (ValueError, LookupError, TypeError) as error:
                raise SemiHVError(
                    f"{name} is not as LesaNet ships it: {type(error).__name__} {error}.",
                    "Take it from the CADLab repository again, or out of the folder.",
                ) from error

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads a key slice and, if asked for, its neighbours.

        Args:
            item ([`Item`]): as [`items`] gave it.

        Yields:
            [`Case`] or [`Skipped`]: one case, or a skipped row for each lesion of the slice.
        """
        lesions = item.data["lesions"]
        found = self._images(item)
        if not isinstance(found, Skipped):
            images, key = found
            # Boxes are in pixels of the size that the table states; in a picture of another size they point elsewhere.
            size = list(_size(images[key]))
            if size != lesions[0]["size"]:
                stated = " x ".join(map(str, lesions[0]["size"]))
                found = Skipped(
                    item.source_id, "bad region", f"the image has {size[0]} x {size[1]} pixels, not {stated}"
                )
        if isinstance(found, Skipped):
            for lesion in lesions:
                yield Skipped(f"{item.source_id} in row {lesion['row']}", found.reason, found.detail)
            return
        yield Case(
            id=case_id(self.name, item.source_id, images),
            source=self.name,
            source_id=item.source_id,
            group=lesions[0]["patient"],
            split=item.split,
            licence=source_licence(self.name).licence,
            images=images,
            facts=_facts(lesions, images[key], self.pictures),
            texts=_texts(lesions),
            regions=[
                Region(key, _label(lesion), lesion["box"], f"{TABLE} column Bounding_boxes") for lesion in lesions
            ],
        )

    def _images(self, item: Item) -> tuple[list[bytes], int] | Skipped:
        """The slices in their order, and which of them is the key slice."""
        if self.pictures == "key_slices":
            picture = read_picture(self.release, f"Key_slices/{item.source_id}", item.source_id)
            return picture if isinstance(picture, Skipped) else ([picture], 0)
        lesion = item.data["lesions"][0]
        series, _, stem = item.source_id.rpartition("_")
        digits = len(stem.rpartition(".")[0])
        low, high = lesion["window"]
        numbers = range(lesion["slice"] - self.context, lesion["slice"] + self.context + 1)
        shown = [number for number in numbers if number == lesion["slice"] or _between(number, lesion["slices"])]
        images = []
        for number in shown:
            tail = f"{series}/{stem if number == lesion['slice'] else f'{number:0{digits}d}.png'}"
            values = read_grey_values(self.release, (f"Images_png/{tail}", tail), item.source_id)
            if isinstance(values, Skipped):
                return values
            hu = values.astype(np.int32) - HU_OFFSET
            images.append(encode_png(apply_window(hu, (low + high) / 2, high - low)))
        return images, shown.index(lesion["slice"])

    def records(self, case: Case) -> Iterator[Record]:
        """One question about the type of each lesion whose type the release states (validation and test splits).

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: none where no type is stated; the release holds no text.
        """
        options = list(LESION_TYPES.values())
        for number, region in enumerate(case.regions):
            kind = region.label.removesuffix(" lesion")
            if kind in options:
                box = "[" + ", ".join(f"{value:.0f}" for value in region.box) + "]"
                text = wording(f"{case.id}{number}", TYPE_QUESTIONS).format(box=box, options=", ".join(options))
                asked = [message("user", text, images=len(case.images)), message("assistant", kind)]
                turn = QuestionTurn(0, "deeplesion type", "closed", options, "label", _TYPE_SOURCE)
                yield record_of(case, "multiple_choice", asked, ["rule", "human"], questions=[turn])


def _between(number: int, limits: Sequence[int]) -> bool:
    return limits[0] <= number <= limits[1]


def _size(image: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(image)) as opened:
        return opened.size


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _label(lesion: Mapping[str, Any]) -> str:
    return "lesion" if lesion["type"] == UNKNOWN_TYPE else f"{LESION_TYPES[lesion['type']]} lesion"


def _facts(lesions: Sequence[Mapping[str, Any]], image: bytes, pictures: str) -> list[Fact]:
    first = lesions[0]
    low, high = first["window"]
    facts = [
        Fact("modality", "CT", "DeepLesion, a release of CT slices"),
        Fact("plane", "axial", "DeepLesion, a release of axial slices"),
        Fact("window", f"{low:g} to {high:g} HU", f"{TABLE} column DICOM_windows"),
        Fact("slice", str(first["slice"]), f"{TABLE} column Key_slice_index"),
        Fact(
            "pixel_spacing_mm", f"{first['spacing'][0]:g} x {first['spacing'][1]:g}", f"{TABLE} column Spacing_mm_px_"
        ),
        Fact("slice_interval_mm", f"{first['spacing'][2]:g}", f"{TABLE} column Spacing_mm_px_"),
        *([Fact("sex", first["sex"], f"{TABLE} column Patient_gender")] if first["sex"] else []),
        *([Fact("age", str(first["age"]), f"{TABLE} column Patient_age")] if first["age"] else []),
        Fact("finding", "lesion", f"{TABLE}: a radiologist measured it"),
    ]
    if pictures == "key_slices" and _is_coloured(image):
        facts.append(Fact("overlay", "drawn marks", "colours in a picture of greyscale CT"))
    for number, lesion in enumerate(lesions):
        which = f"region {number}"
        if lesion["type"] != UNKNOWN_TYPE:
            facts.append(Fact("label", LESION_TYPES[lesion["type"]], f"{_TYPE_SOURCE}, {which}"))
        if lesion["noisy"]:
            facts.append(Fact("possibly_noisy", "yes", f"{TABLE} column Possibly_noisy, {which}"))
        source = f"{TABLE} columns Lesion_diameters_Pixel_ and Spacing_mm_px_, {which}"
        facts.append(Fact("diameters_mm", _times(lesion["diameters_mm"]), source))
        points = ", ".join(f"{value:g}" for value in lesion["measured"])
        source = f"{TABLE} column Measurement_coordinates, {which}; x, y of both ends of both diameters, from 0"
        facts.append(Fact("measurement", points, source))
    return facts


def _texts(lesions: Sequence[Mapping[str, Any]]) -> list[Text]:
    """LesaNet's labels, which a program mined from report sentences that are not part of the release."""
    mined = [", ".join(lesion["mined"]) for lesion in lesions if lesion["mined"]]
    return [Text("labels", labels, "machine") for labels in mined]


def _is_coloured(image: bytes) -> bool:
    with Image.open(io.BytesIO(image)) as opened:
        if opened.mode == "L":
            return False
        pixels = np.asarray(opened.convert("RGB")).astype(np.int16)
    return bool((np.ptp(pixels, axis=2) > 32).any())
