"""Peak memory of `semihv build` for many rows against few: it must not grow with the release.

    python benchmarks/build_memory.py --few 5000 --many 100000 --workers 2 --seed 0

Two PMC-VQA releases of small JPEGs are drawn, and each is built in a fresh process. Every 20 ms the resident memory of
that process and all that it started is added up; the largest sum counts. Pages that several processes share are
counted in each.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from build_throughput import draw_release
from measuring import finish, parse_arguments

MOST = 1.2
BUILD = """
import sys
from semihv_hf.data.build import build

if __name__ == "__main__":
    report = build("pmc_vqa", sys.argv[2], data_dir=sys.argv[1], workers=int(sys.argv[3]), progress=False)
    assert report["images"] == int(sys.argv[4]), report["images"]
"""


def peak_memory(folder: Path, images: int, workers: int, seed: int) -> tuple[int, int, float]:
    """Bytes at the peak, the number of processes then, and the seconds that the build took."""
    draw_release(folder / "release", images, seed, side=64)
    script = folder / "build_it.py"
    script.write_text(BUILD)
    started = time.perf_counter()
    arguments = [folder / "release", folder / "built", workers, images]
    process = subprocess.Popen([sys.executable, script, *map(str, arguments)])
    peak, count = 0, 0
    while process.poll() is None:
        try:
            main = psutil.Process(process.pid)
            sizes = [member.memory_info().rss for member in (main, *main.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue  # one of them has just ended
        peak, count = max((peak, count), (sum(sizes), len(sizes)))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"error: the build of {images} images failed")
    return peak, count, time.perf_counter() - started


def main() -> None:
    arguments = parse_arguments(__doc__, few=5000, many=100_000, workers=2, rounds=1)
    found = {}
    for name in ("few", "many"):
        with tempfile.TemporaryDirectory(prefix="semihv-memory-") as folder:
            images = getattr(arguments, name)
            peak, count, seconds = peak_memory(Path(folder), images, arguments.workers, arguments.seed)
            found[name] = peak
            print(f"{images:>8} images: {peak / 2**20:7.1f} MiB in {count} processes, {seconds:.0f} s", flush=True)
    ratio = found["few"] / found["many"]
    claims = [{"claim": "memory of few rows, by that of many", "ratio": ratio, "bar": 1 / MOST}]
    mebibytes = {name: round(peak / 2**20, 1) for name, peak in found.items()}
    finish("build_memory", claims, arguments, peak_mib=mebibytes, growth=round(1 / ratio, 3))


if __name__ == "__main__":
    main()
