"""Memory of a curation of large images, in a process of its own."""

import multiprocessing
import resource
from pathlib import Path

import pytest
from case_files import write_cases
from chat_server import ChatServer, Forgetful
from unproven import unproven

from semihv_hf.curation.pipeline.config import CurateConfig
from semihv_hf.curation.pipeline.run import curate

SIDE = 640  # 410 kB a file, 380 kB as it is sent
MIB = 40  # a hundred such files


def peak_of(url: str, cases: Path, out: Path, told) -> None:
    settings = {"base_url": url, "model": "m", "timeout": 60.0, "max_concurrency": 8}
    report = curate(CurateConfig(str(cases), str(out), settings, classify={}, generate={}), progress=False)
    assert not report["failures"]
    told.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@unproven
@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_large_images(tmp_path):
    context = multiprocessing.get_context("spawn")
    peaks = []
    with ChatServer() as server:
        server.bodies, server.headers = Forgetful(), Forgetful()
        for count in (100, 400):
            cases = write_cases(tmp_path / f"cases {count}", count, side=SIDE)
            ours, theirs = context.Pipe()
            process = context.Process(target=peak_of, args=(server.base_url, cases, tmp_path / f"out {count}", theirs))
            process.start()
            theirs.close()
            peaks.append(ours.recv())
            process.join()
            assert process.exitcode == 0
    assert peaks[1] < peaks[0] + MIB, f"MiB at 100 and 400 rows: {peaks}"
