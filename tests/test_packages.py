"""Fetching packages: the real pip on packages made here, found through pip's own settings."""

import base64
import errno
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from semihv_hf import packages
from semihv_hf.errors import SemiHVError
from semihv_hf.packages import default_cache_dir, fetch_package, file_sha256, unpack


def make_wheel(folder: Path, name: str = "semihv_probe", version: str = "1.0") -> Path:
    """A wheel that pip accepts, with one data file."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/data/image.txt": b"pixels",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for path, data in files.items()
    )
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, data in {**files, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(member, data)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes packages from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_fetches_once(index, tmp_path):
    wheel = make_wheel(index)
    folder = fetch_package("semihv-probe", "1.0", sha256=file_sha256(wheel), cache_dir=tmp_path / "cache")
    assert (folder / "semihv_probe/data/image.txt").read_text() == "pixels"
    wheel.unlink()  # a second call must not need it
    assert fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache") == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "no temporary folder stays behind"


def test_nothing_is_installed(index, tmp_path):
    make_wheel(index)
    fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache")
    with pytest.raises(ModuleNotFoundError):
        __import__("semihv_probe")


def test_checksum_mismatch_leaves_nothing(index, tmp_path):
    make_wheel(index)
    with pytest.raises(SemiHVError, match="expected " + "0" * 64):
        fetch_package("semihv-probe", "1.0", sha256="0" * 64, cache_dir=tmp_path / "cache")
    assert not any((tmp_path / "cache" / "packages").iterdir())


def test_cached_package_with_another_checksum_is_refused(index, tmp_path):
    make_wheel(index)
    folder = fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache")
    with pytest.raises(SemiHVError, match="Delete that folder"):
        fetch_package("semihv-probe", "1.0", sha256="0" * 64, cache_dir=tmp_path / "cache")
    next(folder.glob(".semihv*")).write_text("{")
    with pytest.raises(SemiHVError, match="receipt"):
        fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache")


def test_missing_package_is_named(index, tmp_path):
    with pytest.raises(SemiHVError) as error:
        fetch_package("semihv-probe", "9.9", cache_dir=tmp_path / "cache")
    assert "semihv-probe 9.9" in error.value.what and "No matching distribution" in error.value.what
    assert "pip download --no-deps semihv-probe==9.9" in error.value.do
    assert "\n" not in str(error.value)


def test_no_space_before_the_download(index, tmp_path, monkeypatch):
    make_wheel(index)
    usage = type(shutil.disk_usage(tmp_path))(10**12, 10**12 - 5 * 1024**2, 5 * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SemiHVError, match="No disk space .* 5 MiB are free"):
        fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache")


def test_no_space_while_unpacking(index, tmp_path, monkeypatch):
    make_wheel(index)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packages.shutil, "copyfileobj", full)
    with pytest.raises(SemiHVError, match="No disk space"):
        fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache")
    assert not any((tmp_path / "cache" / "packages").iterdir())


def test_cache_that_is_a_file(index, tmp_path):
    make_wheel(index)
    (tmp_path / "cache").write_text("")
    with pytest.raises(SemiHVError, match="SEMIHV_CACHE"):
        fetch_package("semihv-probe", "1.0", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "folder/../../outside.txt"])
def test_paths_outside_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(SemiHVError, match="unsafe path"):
        unpack(tmp_path / "bad.whl", tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()


def test_links_in_a_tar_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("a/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        file = tarfile.TarInfo("a/file")
        file.size = 2
        archive.addfile(file, io.BytesIO(b"ok"))
    unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/a").iterdir()) == ["file"]


def test_truncated_archives_are_reported(tmp_path):
    whole = make_wheel(tmp_path).read_bytes()
    (tmp_path / "half.whl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SemiHVError, match="half.whl is damaged"):
        unpack(tmp_path / "half.whl", tmp_path / "out")


def test_cache_folder_is_read_from_the_environment_when_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("SEMIHV_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "semihv-hf"


def test_source_distribution_whose_setup_needs_undeclared_imports():
    """pyradiomics 3.0.1 imports versioneer and numpy in its setup script; nothing of it is wanted but the files."""
    folder = fetch_package("pyradiomics", "3.0.1", kind="sdist")
    assert (folder / "pyradiomics-3.0.1/data/lung1_image.nrrd").stat().st_size > 10**7
    assert json.loads((folder / ".semihv_package.json").read_text())["file"] == "pyradiomics-3.0.1.tar.gz"
