"""A curation that is killed and started again; one in several processes; and one that grows."""

import hashlib
import multiprocessing
import os
import random
import resource
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from case_files import write_cases
from chat_server import ChatServer

from semihv_hf.curation.pipeline.config import CurateConfig
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.files import canonical_json
from semihv_hf.llm import ResponseCache
from semihv_hf.llm.keys import hashed_message

KILLS = 20


def recipe(server, cases, out, **options) -> CurateConfig:
    settings = {"base_url": server.base_url, "model": "m", "timeout": 30.0, "max_concurrency": 8}
    given = {"block_rows": 5, "classify": {}, "generate": {}, **options}
    return CurateConfig(cases=str(cases), out=str(out), server=settings, **given)


def in_a_group_of_its_own(config: CurateConfig, options: dict) -> None:
    os.setpgrp()
    curate(config, progress=False, **options)


def kill_group(process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not yet made a group of its own
        process.kill()


def digests(folder) -> dict[str, str]:
    """Every file of the dataset folder, unfinished work aside."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and ".curate" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def logged(config) -> set[str]:
    """What the answers that are on the disk were given to."""
    if not config.answers_folder.exists():
        return set()
    with ResponseCache(config.answers_folder, read_only=True) as cache:
        return {cache.entry(key)["request"]["messages_sha256"] for key in cache.keys()}


def asked(bodies) -> set[str]:
    hashed = ([hashed_message(message) for message in body["messages"]] for body in bodies)
    return {hashlib.sha256(canonical_json(one).encode("utf-8", "surrogatepass")).hexdigest() for one in hashed}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"workers": 2}], ids=["one process", "two worker processes"])
def test_killed_at_20_random_moments_the_folder_is_the_same_and_no_answer_is_asked_for_twice(tmp_path, options):
    # A server process that has imported everything forks the runs: most kills meet the work, not the imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["semihv_hf.curation.pipeline.run", "datasets", "openai", "pyarrow.parquet"])
    cases = write_cases(tmp_path / "cases", 120)
    rng = random.Random(5)
    with ChatServer(latency=lambda text: 0.2 + 0.2 * random.random()) as server:
        undisturbed = recipe(server, cases, tmp_path / "one" / "out")
        curate(undisturbed, progress=False)
        killed = recipe(server, cases, tmp_path / "two" / "out")
        moments = []
        for _ in range(KILLS):
            before, first = logged(killed), len(server.bodies)
            process = context.Process(target=in_a_group_of_its_own, args=(killed, options))
            process.start()
            process.join(rng.uniform(0.3, 1.5))
            if process.is_alive():
                kill_group(process)
                moments.append(len(server.bodies))
            process.join()
            time.sleep(0.3)  # workers end with their main process, but not in the same instant
            assert not asked(server.bodies[first:]) & before
        assert len(moments) >= 10, "the runs were over before they were killed"
        before, first = logged(killed), len(server.bodies)
        process = context.Process(target=in_a_group_of_its_own, args=(killed, options))
        process.start()
        process.join(300)
        assert process.exitcode == 0
        assert not asked(server.bodies[first:]) & before
    expected = digests(undisturbed.out)
    assert len(expected) >= 8 and digests(killed.out) == expected


def peak_of(config: CurateConfig, told) -> None:
    curate(config, progress=False)
    told.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    context = multiprocessing.get_context("spawn")
    peaks = []
    with ChatServer() as server:
        server.bodies = Forgetful()
        server.headers = Forgetful()
        for count in (150, 750):
            # 65 kB an image, shown by three rows and sent three times: 600 more of them would be 39 to 230 MB.
            cases = write_cases(tmp_path / f"cases {count}", count, side=256)
            ours, theirs = context.Pipe()
            config = recipe(server, cases, tmp_path / f"out {count}", rows_under_way=8)
            process = context.Process(target=peak_of, args=(config, theirs))
            process.start()
            peaks.append(ours.recv())
            process.join()
            assert process.exitcode == 0
    assert peaks[1] < peaks[0] + 30, f"MiB at 150 and 750 rows: {peaks}"


class Forgetful(list):
    """The server's own lists of requests must not fill the memory of the test."""

    def append(self, item) -> None:
        """Keeps nothing."""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="the engine ray needs Ray Data: pip install 'semihv-hf[ray]'")
def test_ray_and_several_processes_write_the_same_bytes(tmp_path):
    cases = write_cases(tmp_path / "cases", 24)
    with ChatServer() as server:
        configs = {name: recipe(server, cases, tmp_path / name / "out") for name in ("one", "several", "ray")}
        curate(configs["one"], progress=False)
        curate(configs["several"], workers=2, progress=False)
        report = curate(configs["ray"], engine="ray", workers=2, progress=False)
    assert report["run"]["rows"] == 24
    expected = digests(configs["one"].out)
    assert digests(configs["several"].out) == expected and digests(configs["ray"].out) == expected
