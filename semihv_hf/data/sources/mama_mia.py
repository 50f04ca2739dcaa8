"""MAMA-MIA: breast MRI before and after contrast, with tumours outlined by experts and a table of clinical facts.

A case is one slice of a patient with its phases as images: before contrast, then after it in the order of time. All
phases of a patient share one grey range, so that what takes up contrast is seen to become brighter. A patient is read
once for all of its slices, phase by phase, so that memory holds two volumes at most.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import SemiHVError
from .. import licences
from ..imaging import PLANES, UnreadableImage, Volume, canonical_volume, evenly_spaced, plane_slice, plane_spacing
from ..schema import Case, Region, case_id
from ..volume_slices import StoredVolume, mask_box, percentile_window, scaled, slice_picture
from .base import Item, Skipped, Source
from .mama_mia_table import INFO, QUALITY, SPLITS, item_facts, patients
from .volume_reading import one_line, volume_or_skipped

_PLANE_OF_AXIS = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}
_SUBTRACTED_SAMPLE = 1 << 22


class MamaMia(Source):
    """The MAMA-MIA release (Synapse syn60868042).

    Args:
        root (`str` or `pathlib.Path`): the folder with `images/`, `segmentations/` and the tables.
        held_out (`float`, *optional*, defaults to 0.0): the share of patients for the test split, among those that
            the release's own table of splits does not name.
        seed (`int`, *optional*, defaults to 0): chooses them.
        slices (`int`, *optional*, defaults to 10): how many slices to spread over a volume, its ends included.
        lesion_slices (`int`, *optional*, defaults to 1): how many slices to take besides from those that the mask
            marks: the one with the largest area, or several that are spread over them.
        phases (`list[int]`, *optional*): which phases, 0 being before contrast; all by default. Patients have three to
            nine: those of these phases that the table promises for a patient are kept.
        subtraction (`bool`, *optional*, defaults to `False`): adds the first phase after contrast minus the one before
            as the last image.
        segmentation (`str`, *optional*, defaults to `"expert"`): `"expert"` or `"automatic"`.
    """

    name = "mama_mia"
    layout = (
        (INFO, "clinical table"),
        ("images", "a folder for each patient"),
        ("segmentations/expert | segmentations/automatic", "masks"),
    )

    def __init__(
        self,
        root,
        *,
        held_out=0.0,
        seed=0,
        slices: int = 10,
        lesion_slices: int = 1,
        phases: list[int] | None = None,
        subtraction: bool = False,
        segmentation: str = "expert",
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        if slices < 0 or lesion_slices < 0 or slices + lesion_slices < 1:
            raise SemiHVError(f"slices is {slices} and lesion_slices {lesion_slices}.", "Keep at least one slice.")
        if segmentation not in ("expert", "automatic"):
            raise SemiHVError(f"Unknown segmentation {segmentation!r}.", "Known are expert and automatic.")
        if phases is not None and (not phases or any(phase < 0 for phase in phases)):
            raise SemiHVError(f"phases is {phases}.", "Name phases from 0, for example [0, 1].")
        if subtraction and phases is not None and not {0, 1} <= set(phases):
            raise SemiHVError("A subtraction needs the phases 0 and 1.", "Add them to phases.")
        self.slices, self.lesion_slices, self.subtraction = slices, lesion_slices, subtraction
        self.phases = None if phases is None else sorted(set(phases))
        self.segmentation = segmentation

    def metadata(self) -> list[str]:
        """The tables. See [`Source.metadata`]."""
        return [name for name in (INFO, SPLITS, *QUALITY) if self.release.first(name)]

    def items(self) -> Iterator[Item | Skipped]:
        """One item a patient. See [`Source.items`]."""
        for entry in patients(self.release):
            if isinstance(entry, Skipped):
                yield entry
            else:
                patient, stated, row = entry
                yield Item(patient, self.split_of(stated, patient), row)

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Yields one case a slice, or one reason for the patient. See [`Source.read`]."""
        try:
            yield from self._cases(item)
        except _Refused as refused:
            yield refused.skipped
        except UnreadableImage as error:
            yield Skipped(item.source_id, "unreadable image", one_line(f"{error.path}: {error.reason}"))

    def _cases(self, item: Item) -> list[Case]:
        patient = item.source_id
        mask_name = f"segmentations/{self.segmentation}/{patient}.nii.gz"
        mask = self._volume(mask_name, patient)
        count = item.data["num_phases"]
        phases = range(count) if self.phases is None else [phase for phase in self.phases if phase < count]
        if self.subtraction and count < 2:
            raise _Refused(patient, "missing image", "there is no phase after contrast to subtract from")
        if not phases:
            raise _Refused(patient, "missing image", f"none of the wanted phases among {count}")
        study = _Study(self, mask, mask_name, patient)
        for phase in phases:
            study.add(phase, self._volume(f"images/{patient}/{patient}_{phase:04d}.nii.gz", patient))
        return [self._case(item, study, index) for index in study.indices]

    def _volume(self, name: str, patient: str) -> StoredVolume:
        volume = volume_or_skipped(self.release, name, patient)
        if isinstance(volume, Skipped):
            raise _Refused(patient, volume.reason, volume.detail)
        return volume

    def _case(self, item: Item, study: "_Study", index: int) -> Case:
        images, scale = study.pictures(index)
        box = mask_box(study.masks[index])
        where = f"{study.mask_name}, slice {index}"
        regions = []
        if box is not None:
            regions = [Region(image, "breast tumour", scaled(box, scale), where) for image in range(len(images))]
        source_id = f"{item.source_id}/slice {index}"
        facts = item_facts(item, study.plane_stated, study.image_names, box is not None, where)
        licence = licences.source_licence(self.name).licence
        return Case(
            case_id(self.name, source_id, images), self.name, source_id, item.source_id, item.split, licence, images,
            facts, [], regions,
        )  # fmt: skip


class _Refused(Exception):
    """A patient that gives no case."""

    def __init__(self, source_id: str, reason: str, detail: str):
        super().__init__(detail)
        self.skipped = Skipped(source_id, reason, one_line(detail))


@dataclass
class _Layout:
    shape: tuple[int, ...]
    affine: np.ndarray


class _Study:
    """The chosen slices of all phases of a patient, the right way round, and their common grey range."""

    def __init__(self, source: MamaMia, mask: StoredVolume, mask_name: str, patient: str):
        self.patient, self.mask_name, self.subtraction = patient, mask_name, source.subtraction
        self.layout = _Layout(mask.data.shape, mask.affine)
        self.plane_stated = mask.plane
        canonical = canonical_volume(mask.data != 0, mask.affine, mask_name)
        self.axis = canonical.axes[2]  # slices are counted along the file's last axis, as they were acquired
        self.plane = _PLANE_OF_AXIS[self.axis]
        self.spacing = plane_spacing(canonical, self.plane)
        self.indices = _chosen(mask.data, source.slices, source.lesion_slices)
        self.masks = {index: self._slice(canonical, index) for index in self.indices}
        self.shown: list[dict[int, np.ndarray]] = []
        self.names: list[str] = []
        self.windows: list[tuple[float, float]] = []
        self.difference: tuple[dict[int, np.ndarray], tuple[float, float]] | None = None
        self._before: StoredVolume | None = None

    def add(self, phase: int, volume: StoredVolume) -> None:
        """Takes the slices of one phase."""
        if volume.data.shape != self.layout.shape:
            shapes = f"{self.layout.shape}, but {volume.name} has {volume.data.shape}"
            raise _Refused(self.patient, "bad region", f"the mask has the shape {shapes}")
        # Half a voxel: masks are drawn on the images' own grid, and programs round what they write of it.
        size = np.linalg.norm(volume.affine[:3, :3], axis=0).min()
        corners = np.array([[0, 0, 0, 1], [*np.subtract(self.layout.shape, 1), 1]]).T
        if np.abs((volume.affine - self.layout.affine) @ corners).max() > size / 2:
            raise _Refused(self.patient, "bad region", f"the mask lies elsewhere in space than {volume.name}")
        canonical = canonical_volume(volume.data, volume.affine, volume.name)
        self.shown.append({index: self._slice(canonical, index).copy() for index in self.indices})
        self.windows.append(percentile_window(volume.data, volume.name))
        self.names.append("pre-contrast" if phase == 0 else f"post-contrast {phase}")
        if self.subtraction and phase == 0:
            self._before = volume
        elif self.subtraction and phase == 1:
            self._subtract(volume)

    def _subtract(self, after: StoredVolume) -> None:
        step = -(-after.data.size // _SUBTRACTED_SAMPLE)
        flat = [volume.data.ravel(order="K")[::step].astype(np.float32) for volume in (self._before, after)]
        top = percentile_window(flat[1] - flat[0], after.name)[1]
        first, second = self.shown[0], self.shown[-1]
        slices = {index: second[index].astype(np.float32) - first[index] for index in self.indices}
        # What loses brightness is black, as in the clinic; a volume that takes up nothing at all is black altogether.
        self.difference = slices, (0.0, max(top, 1e-6))
        self._before = None

    @property
    def image_names(self) -> list[str]:
        """What each image of a slice shows."""
        subtracted = ["subtraction (post-contrast 1 minus pre-contrast)"] if self.difference is not None else []
        return [*self.names, *subtracted]

    def pictures(self, index: int) -> tuple[list[bytes], tuple[float, float]]:
        """The images of a slice, and by how much boxes grow in them."""
        window = min(low for low, _ in self.windows), max(high for _, high in self.windows)
        made = [slice_picture(slices[index], window, self.spacing) for slices in self.shown]
        if self.difference is not None:
            slices, window = self.difference
            made.append(slice_picture(slices[index], window, self.spacing))
        return [picture for picture, _ in made], made[0][1]

    def _slice(self, canonical: Volume, index: int) -> np.ndarray:
        if self.axis not in "RAS":  # the file counts the other way
            index = canonical.data.shape[PLANES[self.plane]] - 1 - index
        return plane_slice(canonical, self.plane, index)


def _chosen(mask: Any, slices: int, lesion_slices: int) -> list[int]:
    depth = mask.shape[2]
    chosen = set(evenly_spaced(0, depth - 1, slices)) if slices else set()
    areas = np.count_nonzero(mask, axis=(0, 1))
    marked = np.flatnonzero(areas)
    if marked.size and lesion_slices == 1:
        chosen.add(int(areas.argmax()))
    elif marked.size and lesion_slices:
        chosen.update(int(marked[place]) for place in evenly_spaced(0, marked.size - 1, lesion_slices))
    return sorted(chosen)
