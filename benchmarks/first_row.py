"""Seconds until `load_dataset(folder, streaming=True)` of a built folder gives its first row, after the import.

    python benchmarks/first_row.py --images 20000 --rounds 5 --seed 0

A PMC-VQA release is drawn and built, so that shards have the size that real ones have. Each round is a fresh process
without this package: `datasets` is imported, then the clock starts, and stops at the first decoded row. Where torch is
installed, `datasets` imports it when a streamed data set is made; that is an import too, so it is done before the
clock starts, and for information also timed with it. For comparison the first shard is opened with pyarrow alone and
one row group is read.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from build_throughput import draw_release
from measuring import finish, parse_arguments, print_row

from semihv_hf.data.build import build

BAR_SECONDS = 1.0
LOAD = """
import json, os, sys, time
sys.modules["semihv_hf"] = None  # any import of it fails
from datasets import load_dataset
if sys.argv[3] == "torch first":
    import torch
started = time.perf_counter()
row = next(iter(load_dataset(sys.argv[1], sys.argv[2], split="train", streaming=True)))
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "size": row["images"][0].size, "id": row["id"]}), flush=True)
os._exit(0)  # threads that datasets reads ahead with would abort an interpreter that ends in an orderly way
"""
PLAIN = """
import io, json, sys, time
import pyarrow.parquet
from PIL import Image
started = time.perf_counter()
with pyarrow.parquet.ParquetFile(sys.argv[1]) as file:
    row = file.read_row_group(0).slice(0, 1).to_pylist()[0]
image = Image.open(io.BytesIO(row["images"][0]["bytes"]))
image.load()
print(json.dumps({"seconds": time.perf_counter() - started, "size": image.size, "id": row["id"]}))
"""


def run(code: str, *arguments: str) -> dict:
    """Runs code in a fresh process and reads its last line."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = parse_arguments(__doc__, images=20_000, rounds=5)
    with tempfile.TemporaryDirectory(prefix="semihv-first-row-") as folder:
        release, built = Path(folder) / "release", Path(folder) / "built"
        draw_release(release, arguments.images, arguments.seed)
        build("pmc_vqa", built, data_dir=release, progress=False)
        shards = sorted((built / "data" / "instruction").glob("train-*.parquet"))
        seconds = {"load_dataset": [], "importing torch": [], "pyarrow": []}
        for _ in range(arguments.rounds):
            rows = {
                "load_dataset": run(LOAD, str(built), "instruction", "torch first"),
                "importing torch": run(LOAD, str(built), "instruction", "torch later"),
                "pyarrow": run(PLAIN, str(shards[0])),
            }
            assert rows["load_dataset"]["id"] == rows["pyarrow"]["id"] and rows["pyarrow"]["size"] == [512, 512]
            for name, row in rows.items():
                seconds[name].append(row["seconds"])
        sizes = [round(shard.stat().st_size / 1e6) for shard in shards]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print_row("first row", medians)
    ratio = BAR_SECONDS / medians["load_dataset"]
    claims = [{"claim": "a second, by the time to the first row", "ratio": ratio, "bar": 1.0}]
    finish("first_row", claims, arguments, seconds={k: round(v, 3) for k, v in medians.items()}, shard_megabytes=sizes)


if __name__ == "__main__":
    main()
