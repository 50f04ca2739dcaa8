"""The registry of images: gaps between splits, no patient in two of them, facts with sources."""

import itertools

import numpy as np
import pytest

from semihv_hf.data.sources.open_packages.entries import DicomEntry, TileEntry, VolumeEntry
from semihv_hf.data.sources.open_packages.readers import read_entry
from semihv_hf.data.sources.open_packages.registry import entries, packages
from semihv_hf.packages import fetch_package


def spans_of(entry):
    if isinstance(entry, VolumeEntry):
        return list(entry.spans.values())
    return [entry.spans] if isinstance(entry, TileEntry) else []


def test_packages_are_pinned():
    names = {package.name for package in packages()}
    assert len(names) == len(packages()) and all(len(package.sha256) == 64 for package in packages())
    assert {entry.package for entry in entries()} == names, "a package without images is not fetched"


def test_a_gap_lies_between_two_splits():
    for entry in entries():
        for spans in spans_of(entry):
            for (_, high, one), (low, _, other) in itertools.pairwise(sorted(spans)):
                assert low - high >= 0.02 - 1e-9, f"{entry.group}: {one} and {other}"


def test_a_patient_split_as_a_whole_is_in_one_split_only():
    splits: dict[str, set[str]] = {}
    for entry in entries():
        if isinstance(entry, DicomEntry):
            splits.setdefault(entry.group, set()).add(entry.split)
    assert all(len(found) == 1 for found in splits.values())


def test_the_three_maps_of_one_anatomy_are_cut_at_the_same_millimetres():
    maps = [entry for entry in entries() if entry.group == "MNI152"]
    assert len(maps) == 3
    assert all(entry.spans == maps[0].spans and entry.extent_mm == maps[0].extent_mm for entry in maps)
    low, high = maps[0].extent_mm["sagittal"]
    assert high <= 0, "the template is symmetric: the right half would repeat the left one"


def positions(items):
    """Where on the film each tile lies, by split."""
    found = {}
    for item in items:
        values = dict(part.split("=") for part in item.source_id.split("#")[1].split(","))
        found.setdefault(item.split, []).append({name: int(value) for name, value in values.items()})
    return found


@pytest.mark.parametrize("name", ["skimage retina", "skimage ihc"])
def test_tiles_of_two_splits_do_not_touch(name):
    entry = next(entry for entry in entries() if entry.group == name)
    tiles = positions(read_entry(entry, fetch_package("scikit-image", "0.26.0"), seed=3))
    ends = {
        split: (min(t["x"] for t in found), max(t["x"] + t["side"] for t in found)) for split, found in tiles.items()
    }
    assert ends["train"][1] < ends["validation"][0] and ends["validation"][1] < ends["test"][0]


def test_slices_of_a_volume_state_their_plane_and_keep_their_slab():
    entry = next(entry for entry in entries() if entry.group == "nibabel example4d")
    items = list(read_entry(entry, fetch_package("nibabel", "5.4.2"), seed=0))
    assert {item.split for item in items} == {"train", "validation", "test"}
    for plane in ("axial", "coronal", "sagittal"):
        indices = {split: [] for split in ("train", "test")}
        for item in items:
            fact = next(fact for fact in item.facts if fact.name == "plane")
            assert fact.source.startswith("affine axis codes LAS")
            if fact.value == plane and item.split in indices:
                indices[item.split].append(int(item.source_id.split("=")[1]))
        gap = min(abs(a - b) for a in indices["train"] for b in indices["test"])
        assert gap >= 2, plane
    for item in items:
        assert item.pixels.dtype == np.uint8 and max(item.pixels.shape) <= 256 and item.pixels.std() > 10


def test_lesion_facts_follow_the_mask():
    from semihv_hf.data import imaging

    folder = fetch_package("pyradiomics", "3.0.1", kind="sdist")
    entry = next(entry for entry in entries() if entry.group == "pyradiomics brain2")
    mask = imaging.read_nrrd(folder / entry.mask)
    stated = 0
    for item in read_entry(entry, folder, seed=0):
        plane, index = item.source_id.split("#")[1].split("=")
        area = (imaging.plane_slice(mask, plane, int(index)) > 0).sum()
        fact = next((fact for fact in item.facts if fact.name == "lesion"), None)
        if fact is None:
            assert area > 0, "only a sliver of a lesion leaves the question open"
        else:
            assert (fact.value == "visible") == (area > 0)
            stated += fact.value == "visible"
    assert stated >= 3


def test_burnt_in_text_is_cut_off():
    """The margins of the ultrasound screen, where names and dates stand, are outside of every crop."""
    entry = next(entry for entry in entries() if entry.path.endswith("US1_UNCR.dcm"))
    assert all(top >= 0.2 and bottom <= 0.62 for _, top, _, bottom in entry.crops)
    for item in read_entry(entry, fetch_package("pydicom-data", "1.0.0"), seed=0):
        assert item.pixels.shape[0] < 0.5 * 480
