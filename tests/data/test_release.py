"""A release folder: what it must hold, and that nothing outside it is ever read."""

import gzip
import os
import pickle
import struct
import zipfile

import pytest

from semihv_hf.data.release import Release
from semihv_hf.data.zip_index import UnsafeFile
from semihv_hf.errors import SemiHVError

LAYOUT = (("info.csv | info.csv.gz", "the table"), ("images/ | images*.zip", "the images"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "release"
    (root / "images" / "p1").mkdir(parents=True)
    (root / "images" / "p1" / "A.JPG").write_bytes(b"upper")
    (root / "info.csv").write_text("a\n1\n")
    return root


def zip_of(path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_wrong_folder_says_what_was_expected_and_what_it_found(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "pics").mkdir()
    with pytest.raises(SemiHVError) as error:
        Release(tmp_path).require("example", LAYOUT)
    for part in ("no example release", "info.csv | info.csv.gz (the table)", "(the images)", "notes.txt, pics/"):
        assert part in str(error.value)
    with pytest.raises(SemiHVError, match="There is no folder"):
        Release(tmp_path / "nowhere")


def test_a_right_folder_passes_and_names_its_tables(root):
    release = Release(root)
    release.require("example", LAYOUT)
    assert release.tables(LAYOUT) == ["info.csv"]


def test_patterns_find_files_in_the_order_of_their_names(root):
    for name in ("b/2.nii.gz", "b/1.nii.gz", "a/deep/er/3.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    release = Release(root)
    assert list(release.find("**/*.nii.gz")) == ["a/deep/er/3.nii.gz", "b/1.nii.gz", "b/2.nii.gz"]
    assert list(release.find("b/*.nii.gz")) == ["b/1.nii.gz", "b/2.nii.gz"]
    assert list(release.find("images/p1")) == ["images/p1"]
    assert list(release.find("images/*/*")) == ["images/p1/A.JPG"]


def test_the_case_of_letters_may_differ_from_the_table(root):
    release = Release(root)
    assert release.read_bytes("images/P1/a.jpg") == b"upper" and release.exists("images/p1/a.jpg")
    assert not release.exists("images/p1/b.jpg")


def test_an_archive_member_is_found_by_the_end_of_its_path(root):
    zip_of(root / "images_1.zip", {"figures/x.jpg": b"x" * 1000, "other/y.jpg": b"y"})
    zip_of(root / "images_2.zip", {"z/figures/deep.jpg": b"deep"}, zipfile.ZIP_STORED)
    release = Release(root)
    assert release.read_bytes("x.jpg") == release.read_bytes("figures/X.JPG") == b"x" * 1000
    assert release.read_bytes("figures/deep.jpg") == b"deep"
    assert not release.exists("wrong/x.jpg")
    again = pickle.loads(pickle.dumps(release))
    assert again.read_bytes("other/y.jpg") == b"y"


def test_a_changed_archive_is_indexed_anew(root):
    zip_of(root / "images_1.zip", {"x.jpg": b"old"})
    assert Release(root).read_bytes("x.jpg") == b"old"
    zip_of(root / "images_1.zip", {"x.jpg": b"newer"})
    assert Release(root).read_bytes("x.jpg") == b"newer"


@pytest.mark.parametrize("name", ["../secret", "images/../../secret", "/etc/passwd", "..\\secret", "C:/secret", ""])
def test_a_name_that_leaves_the_release_is_refused(root, name):
    (root.parent / "secret").write_text("secret")
    with pytest.raises(UnsafeFile, match="leaves the release"):
        Release(root).read_bytes(name)
    assert not Release(root).exists(name)


def test_a_link_that_leaves_the_release_is_refused_and_not_listed(root):
    (root.parent / "secret").write_text("secret")
    (root / "images" / "link.jpg").symlink_to(root.parent / "secret")
    (root / "images" / "folder").symlink_to(root.parent)
    (root / "images" / "inside.jpg").symlink_to(root / "info.csv")
    release = Release(root)
    for name in ("images/link.jpg", "images/folder/secret"):
        with pytest.raises(UnsafeFile, match="leads out of the release"):
            release.read_bytes(name)
    assert release.read_bytes("images/inside.jpg") == b"a\n1\n"
    assert list(release.find("images/*")) == ["images/inside.jpg", "images/p1"]


@pytest.mark.parametrize("pattern", ["a.csv", "*.csv", "**/a.csv", "sub/*.csv", "**/*.csv"])
@pytest.mark.parametrize("kind", ["link out", "link to nowhere", "pipe"])
def test_a_table_that_may_not_be_read_is_not_passed_over(root, pattern, kind):
    """Its rows would be missing, and nothing would say so."""
    place = root / ("sub/a.csv" if pattern.startswith("sub") else "a.csv")
    place.parent.mkdir(exist_ok=True)
    (root.parent / "secret").write_text("a\nsecret\n")
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(root.parent / ("secret" if kind == "link out" else "nowhere"))
    release = Release(root)
    with pytest.raises(SemiHVError, match=f"{place.relative_to(root)} in .* (leads out|neither a file)"):
        list(release.find(pattern))
    with pytest.raises(SemiHVError, match="a.csv"):
        release.require("some", [(f"none.csv | {pattern} | info.csv", "tables")])
    place.unlink()
    place.symlink_to(root / "info.csv")
    assert str(place.relative_to(root)) in list(release.find(pattern))


def test_archive_members_that_are_not_safe_are_refused(root):
    with zipfile.ZipFile(root / "images_1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../climbs.jpg", b"x")
        archive.writestr("bomb.png", b"\0" * 20_000_000)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    release = Release(root)
    for name, reason in (("climbs.jpg", "climbs"), ("bomb.png", "would unpack from"), ("link.jpg", "symbolic link")):
        with pytest.raises(UnsafeFile, match=reason):
            release.read_bytes(name)


def test_a_member_that_lies_about_its_size_is_damage_and_unpacks_no_further(root):
    path = root / "images_1.zip"
    zip_of(path, {"x.png": b"\0" * 50_000})
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<L", 5000)
    path.write_bytes(data)
    with pytest.raises(OSError, match="x.png is damaged"):
        Release(root).read_bytes("x.png")


def test_a_torn_archive_is_named(root):
    zip_of(root / "images_1.zip", {"x.jpg": bytes(range(256)) * 10}, zipfile.ZIP_STORED)
    data = bytearray((root / "images_1.zip").read_bytes())
    data[100] ^= 1
    (root / "images_1.zip").write_bytes(data)
    with pytest.raises(OSError, match="x.jpg is damaged"):
        Release(root).read_bytes("x.jpg")
    (root / "images_1.zip").write_bytes(data[:200])
    with pytest.raises(OSError, match="images_1.zip is no readable zip archive"):
        Release(root).read_bytes("x.jpg")


def test_text_is_read_with_and_without_mark_plain_and_packed(root):
    (root / "bom.csv").write_bytes("\ufeffä,b\n".encode())
    (root / "packed.csv.gz").write_bytes(gzip.compress("\ufeffä,b\n".encode()))
    release = Release(root)
    for name in ("bom.csv", "packed.csv.gz"):
        with release.open_text(name) as file:
            assert file.read() == "ä,b\n"
