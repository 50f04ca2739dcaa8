"""A build that is killed, at whatever moment, and started again gives the folder of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_build_release import content, make
from tiny_source import write_release

ROWS = 600
CODE = """
import signal
import sys
from tiny_source import TinySource
from semihv_hf.data.build import build

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    options = {"pause": 0.002}
    build(TinySource, sys.argv[2], data_dir=sys.argv[1], workers=2, held_out=0.3, options=options, progress=False)
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("upstream") / "tiny", ROWS, damaged=3)


@pytest.fixture(scope="module")
def expected(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "data"
    make(release, out, options={"pause": 0.002})
    return content(out)


def start(release: Path, out: Path) -> subprocess.Popen:
    script = out.parent / "build_it.py"  # a file: processes that are started anew must find it
    script.write_text(CODE)
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, script, release, out],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(release: Path, out: Path) -> float:
    begun = time.monotonic()
    process = start(release, out)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return time.monotonic() - begun


def kill(process: subprocess.Popen, *, group: bool) -> list[psutil.Process]:
    """Kills the whole group, or the main process alone; gives the processes that it had started."""
    children = []
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return children


def wait_for(out: Path, pattern: str, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not list(out.glob(pattern)):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize(("group", "moment"), [(False, ".build/blocks/*5"), (True, ".build/shards/*.json")])
def test_killed_once_and_started_again(release, expected, tmp_path, group, moment):
    for attempt in range(5):  # on a busy machine the build may get through before it is killed
        out = tmp_path / f"data{attempt}"
        process = start(release, out)
        wait_for(out, moment, process)
        children = kill(process, group=group)
        if not (out / "build_manifest.json").exists():
            break
    assert list((out / ".build" / "blocks").iterdir())
    make(release, out, options={"pause": 0.002})
    assert content(out) == expected
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children and not alive, "processes outlive the build that started them"


def test_stopped_by_ctrl_c_and_started_again(release, expected, tmp_path):
    out = tmp_path / "data"
    process = start(release, out)
    wait_for(out, ".build/blocks/*9", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0 and errors.count("Traceback") <= 1, errors
    make(release, out, options={"pause": 0.002})
    assert content(out) == expected


def test_a_crash_at_any_change_of_a_name_leaves_a_build_that_can_go_on(tmp_path, monkeypatch):
    """Everything appears by a rename, so a crash before or after any of them is a crash at any moment that matters."""
    release = write_release(tmp_path / "tiny", 9)
    make(release, tmp_path / "undisturbed", held_out=0.0)
    expected = content(tmp_path / "undisturbed")
    replace = os.replace
    count = moments = 0
    for before in (True, False):
        stop_at = 0
        while True:
            out, count, stop_at = tmp_path / f"data{before}{stop_at}", 0, stop_at + 1

            def crashing(source, target, stop_at=stop_at, before=before):
                nonlocal count
                count += 1
                if not (before and count == stop_at):
                    replace(source, target)
                if count == stop_at:
                    raise KeyboardInterrupt

            monkeypatch.setattr(os, "replace", crashing)
            try:
                make(release, out, held_out=0.0)
            except KeyboardInterrupt:
                moments += 1
            monkeypatch.setattr(os, "replace", replace)
            make(release, out, held_out=0.0)
            assert content(out) == expected, f"crash {'before' if before else 'after'} rename {stop_at}"
            if count < stop_at:
                break
    assert moments >= 2 * 16, "a build of two blocks and three shards renames at least sixteen files"


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False])
def test_killed_at_twenty_random_moments(release, expected, tmp_path, group):
    """Half-done builds are killed again; a build that got through is followed by another until all kills are done."""
    dice = random.Random(20 if group else 21)
    whole = finish(release, tmp_path / "undisturbed")
    assert content(tmp_path / "undisturbed") == expected
    kills, builds = 0, 0
    places: set[str] = set()
    while kills < 20:
        out = tmp_path / f"data{builds}"
        while kills < 20 and not (out / "build_manifest.json").exists():
            process = start(release, out)
            time.sleep(dice.uniform(0.2, 1.0) * whole)
            if process.poll() is None:
                kills += 1
                places.update(path.name for path in out.glob(".build/*"))
            kill(process, group=group)
        finish(release, out)
        assert content(out) == expected, f"after {kills} kills, build {builds}"
        builds += 1
    assert {"plan.json", "listing.jsonl", "blocks"} <= places
    print(f"{kills} kills over {builds} builds; seen: {sorted(places)}")
