"""Memory of a build does not grow with the release; `benchmarks/build_memory.py` asks the same of more rows."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_source import write_release

CODE = """
import sys
from tiny_source import TinySource
from semihv_hf.data.build import build

if __name__ == "__main__":
    build(TinySource, sys.argv[2], data_dir=sys.argv[1], workers=2, progress=False)
"""


def peak_memory(folder: Path, rows: int) -> int:
    """The largest sum of resident memory of the build and the processes that it starts."""
    release = write_release(folder / "tiny", rows)
    script = folder / "build_it.py"
    script.write_text(CODE)
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, script, release, folder / "data"], env={**os.environ, "PYTHONPATH": path}
    )
    peak = 0
    while process.poll() is None:
        try:
            main = psutil.Process(process.pid)
            peak = max(peak, sum(one.memory_info().rss for one in (main, *main.children(recursive=True))))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.02)
    assert process.returncode == 0 and (folder / "data" / "build_manifest.json").is_file()
    return peak


@pytest.mark.slow
def test_ten_times_the_rows_take_at_most_a_fifth_more_memory(tmp_path):
    few, many = (peak_memory(tmp_path / str(rows), rows) for rows in (2000, 20_000))
    print(f"2,000 rows: {few >> 20} MiB; 20,000 rows: {many >> 20} MiB")
    assert many <= 1.2 * few
