"""Memory of a curation, in a process of its own: it follows the cases under way, not how many there are."""

import multiprocessing
from pathlib import Path

import pytest
from case_files import write_cases
from chat_server import ChatServer, Forgetful

from semihv_hf.curation.pipeline.config import CurateConfig
from semihv_hf.curation.pipeline.run import curate


def peak_of(config: CurateConfig, told) -> None:
    report = curate(config, progress=False)
    assert not report["failures"]
    # Not `ru_maxrss`: a process that was started by a larger one inherits that one's.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    told.send(int(line.split()[1]) / 1024)


def peak(config: CurateConfig) -> float:
    """Most memory of a curation, in MiB."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=peak_of, args=(config, theirs))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    assert process.exitcode == 0
    return found


# An image stands in three rows and is sent three times. 600 more of 65 kB would be 39 to 230 MB of them, 400 more of
# 410 kB 164 to 900 MB; what may be added is what a row group holds more or less when it is written.
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux' /proc")
@pytest.mark.parametrize(
    ("side", "counts", "options", "most_mib"),
    [
        pytest.param(256, (150, 750), {"block_rows": 3, "rows_under_way": 8}, 30, id="many small images"),
        pytest.param(640, (200, 600), {}, 40, id="large images"),
    ],
)
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, side, counts, options, most_mib):
    peaks = []
    with ChatServer() as server:
        server.bodies, server.headers = Forgetful(), Forgetful()
        settings = {"base_url": server.base_url, "model": "m", "timeout": 60.0, "max_concurrency": 8}
        for count in counts:
            cases = write_cases(tmp_path / f"cases {count}", count, side=side)
            out = str(tmp_path / f"out {count}")
            peaks.append(peak(CurateConfig(str(cases), out, settings, classify={}, generate={}, **options)))
    assert peaks[1] < peaks[0] + most_mib, f"MiB at {counts} rows: {peaks}"
