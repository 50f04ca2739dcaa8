"""A curation that is killed at whatever moment and started again."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from case_files import make_case
from chat_server import ChatServer, stage_of
from curated_folders import answered, asked, digests

from semihv_hf.curation.pipeline.config import CurateConfig, DuplicateStage
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.data.columns import case_schema
from semihv_hf.data.schema import Case, case_id
from semihv_hf.data.shards import write_shards

CASES = {"train": 40, "validation": 12, "test": 8}
# Four folders, each killed five times on its way; every phase is met in at least two of them.
FOLDERS = [
    ("duplicates", "classification", "generation", "blocks", "shards"),
    ("classification", "generation", "blocks", "shards", "tables"),
    ("duplicates", "classification", "blocks", "shards", "tables"),
    ("classification", "generation", "generation", "blocks", "tables"),
]
KILLS = sum(map(len, FOLDERS))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """A folder with three splits; every tenth case shows and says what the one before it does."""
    folder = tmp_path_factory.mktemp("killed") / "cases"
    first = 0
    for split, count in CASES.items():
        numbers = range(first, first + count)
        rows = (_case(number, split).row() for number in numbers)
        write_shards(rows, folder / "data" / "cases", split, case_schema())
        first += count
    return folder


def _case(number: int, split: str) -> Case:
    case = make_case(number, split=split)
    if number % 10 != 9:
        return case
    twin = make_case(number - 1, split=split)
    identity = case_id(case.source, case.source_id, twin.images)
    return replace(case, id=identity, images=twin.images, texts=twin.texts)


def recipe(server, cases, out, **options) -> CurateConfig:
    settings = {"base_url": server.base_url, "model": "m", "timeout": 30.0, "max_concurrency": 8}
    given = {"block_rows": 3, "prices": {"m": {"input": 2.0, "output": 8.0}}, "classify": {}, "generate": {}}
    return CurateConfig(cases=str(cases), out=str(out), server=settings, **{**given, **options})


def in_a_group_of_its_own(config: CurateConfig, options: dict) -> None:
    os.setpgrp()
    curate(config, progress=False, **options)


def end_of(process, *, group: bool) -> bool:
    """Kills the whole group, or the main process alone, and waits for all; says whether the run was still going on."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if group and os.getpgid(process.pid) == process.pid else os.kill)(process.pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        started = []
    process.join()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive, "processes outlive the run that started them"
    return process.exitcode == -signal.SIGKILL


def progress_of(phase: str, out: Path, server, dice: random.Random) -> Callable[[], bool]:
    """Tells when a run that starts now has come to a random moment of a phase."""
    started, first, work = time.time_ns(), len(server.bodies), out / ".curate"

    def files(pattern: str) -> int:
        return sum(_changed(path) > started for path in out.glob(pattern))

    if phase in ("classification", "generation"):
        wanted = dice.randint(1, 16)
        return lambda: sum(stage_of(body) == phase for body in server.bodies[first:]) >= wanted
    if phase == "duplicates":
        wanted = dice.randint(1, 3)
        return lambda: sum(_changed(path) > started for path in work.glob("duplicates/**/*")) >= wanted
    if phase == "blocks":
        wanted = dice.randint(1, 3)
        return lambda: files(".curate/blocks/0*") >= wanted
    if phase == "shards":
        wanted = dice.randint(1, 6)
        return lambda: files("data/*/*.parquet") >= wanted or files("data/*/.*") > wanted
    name = dice.choice(["failures.parquet", "skipped.parquet", "README.md", "curate_report.json"])
    return lambda: files(name) > 0


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # it was renamed just now
        return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "group"),
    [
        pytest.param({}, True, id="one process"),
        pytest.param({"workers": 2}, True, id="two workers, all killed"),
        pytest.param({"workers": 2}, False, id="two workers, only the main process killed"),
    ],
)
def test_killed_at_20_random_moments_the_folder_is_the_same_and_no_answer_is_asked_for_twice(
    cases, tmp_path, options, group
):
    # A server process that has imported everything forks the runs: they start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["semihv_hf.curation.pipeline.run", "semihv_hf.curation.near_duplicates", "openai", "pyarrow.parquet"]
    )
    dice = random.Random(len(options) + group)
    met: Counter[str] = Counter()
    stage = {"duplicates": DuplicateStage()}
    with ChatServer(latency=lambda text: 0.02 + 0.04 * random.random()) as server:
        undisturbed = recipe(server, cases, tmp_path / "undisturbed" / "out", **stage)
        report = curate(undisturbed, progress=False)
        expected = digests(undisturbed.out)
        assert report["left_out"] and not report["failures"] and len(expected) >= 3 * 3 + 8
        for number, phases in enumerate(FOLDERS):
            config = recipe(server, cases, tmp_path / str(number) / "out", **stage)
            for phase in (*phases, None):
                before, first = answered(config), len(server.bodies)
                there = None if phase is None else progress_of(phase, Path(config.out), server, dice)
                process = context.Process(target=in_a_group_of_its_own, args=(config, options))
                process.start()
                if there is None:
                    process.join(300)
                    assert process.exitcode == 0
                else:
                    while process.is_alive() and not there():
                        time.sleep(0.0005)
                    met[phase] += end_of(process, group=group)
                sent = {asked(body) for body in server.bodies[first:]}
                assert not sent & before, f"asked again after a kill at {phase}"
            assert digests(config.out) == expected, f"folder {number}, killed at {phases}"
            assert not (Path(config.out) / ".curate").exists()
    print(f"{KILLS} kills, of which met a living run: {dict(met)}")
    assert KILLS == 20 and met.total() >= 10 and all(met[phase] for phases in FOLDERS for phase in phases), met
