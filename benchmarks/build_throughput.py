"""`semihv build` against a bare loop that decodes each image once and writes the same images with pyarrow.

    python benchmarks/build_throughput.py --images 10000 --workers 2 --rounds 3 --seed 0

A PMC-VQA release of RGB JPEGs of 512 x 512 pixels is drawn: one caption and one multiple-choice question a figure, so
that each image is written three times (case, caption, question). Both sides start the same number of fresh processes.
The bare loop shares the files out, decodes each with Pillow and appends its bytes, an id and a text to three Parquet
files, in row groups of 100 and without compressing the images; it checks nothing, lists nothing, and is not safe
against a crash. Both sides must have written the same images. The package is compiled first, as pip does when it
installs it; otherwise, where Python may write no bytecode, every process would compile a checkout anew. Before a turn
everything that is still on its way to the disk is written, because the build waits for its own and must not wait for
what the bare loop left to the system.
"""

import compileall
import csv
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from measuring import finish, parse_arguments, print_row
from PIL import Image, ImageFilter

import semihv_hf
from semihv_hf.data.build import build

BAR = 0.8
DIFFERENT = 300  # drawn images; the others are further names of the same files
COLUMNS = ("index", "Figure_path", "Caption", "Question", "Choice A", "Choice B", "Choice C", "Choice D", "Answer",
           "split")  # fmt: skip
CONFIGS = ("cases", "alignment", "instruction")
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("images", pyarrow.list_(pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]))),
        ("text", pyarrow.string()),
    ]
)
ENCODED = "images.list.element.bytes"
PLAIN = ["id", "images.list.element.path", "text"]


def draw_release(folder: Path, images: int, seed: int, side: int = 512) -> None:
    """Writes a release whose pictures look as smooth as photographs do: about 50 kB each at 512 x 512 pixels."""
    figures = folder / "figures"
    figures.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    with open(folder / "train_2.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(images):
            name = f"PMC{number:07d}_F1.jpg"
            if number < DIFFERENT:
                pixels = generator.integers(0, 255, (side, side, 3), np.uint8)
                smooth = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2))
                smooth.save(figures / name, "JPEG", quality=90)
            else:
                os.link(figures / f"PMC{number % DIFFERENT:07d}_F1.jpg", figures / name)
            options = [f" {letter}: option {letter} of {number}" for letter in "ABCD"]
            caption = f"Figure {number}: a drawn picture without meaning, smooth as a photograph."
            table.writerow([number, name, caption, f"What does figure {number} show?", *options, "B", "train"])


def bare_loop(figures: str, names: list[str], out: str) -> int:
    """Decodes each image once and writes it as often as the build does."""
    options = {
        "compression": {**dict.fromkeys(PLAIN, "snappy"), ENCODED: "none"},
        "use_dictionary": PLAIN,
        "write_statistics": PLAIN,
    }
    writers = [pyarrow.parquet.ParquetWriter(f"{out}-{config}.parquet", SCHEMA, **options) for config in CONFIGS]
    for first in range(0, len(names), 100):
        rows = []
        for name in names[first : first + 100]:
            with open(f"{figures}/{name}", "rb") as file:
                data = file.read()
            Image.open(io.BytesIO(data)).load()
            rows.append({"id": name, "images": [{"bytes": data, "path": None}], "text": name})
        table = pyarrow.Table.from_pylist(rows, schema=SCHEMA)
        for writer in writers:
            writer.write_table(table)
    for writer in writers:
        writer.close()
    return len(names)


def image_bytes(files: list[Path]) -> int:
    """How many bytes of images Parquet files hold."""
    total = 0
    for path in files:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["images"], batch_size=100):
                encoded = batch["images"].flatten().field("bytes")
                total += sum(len(data.as_buffer()) for data in encoded)
    return total


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, images=10000, workers=2)
    compileall.compile_dir(Path(semihv_hf.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(prefix="semihv-throughput-") as folder:
        release, places = Path(folder) / "release", (Path(folder) / str(number) for number in count())
        draw_release(release, arguments.images, arguments.seed)
        names = sorted(path.name for path in (release / "figures").iterdir())

        written = {}

        def ours():
            written["build"] = built = next(places)
            report = build("pmc_vqa", built, data_dir=release, workers=arguments.workers, progress=False)
            assert report["images"] == arguments.images and not report["skipped"], report["skipped"]

        def theirs():
            written["bare loop"] = bare = next(places)
            bare.mkdir()
            with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
                jobs = [
                    pool.submit(bare_loop, str(release / "figures"), names[n :: arguments.workers], str(bare / str(n)))
                    for n in range(arguments.workers)
                ]
                assert sum(job.result() for job in jobs) == arguments.images

        contenders = {"build": ours, "bare loop": theirs}
        seconds = {name: [] for name in contenders}
        for turn in range(arguments.rounds + 1):
            for name, contender in contenders.items():
                os.sync()
                started = time.perf_counter()
                contender()
                if turn:  # the first one warms up
                    seconds[name].append(time.perf_counter() - started)
            sizes = {name: image_bytes(sorted(place.rglob("*-*.parquet"))) for name, place in written.items()}
            assert sizes["build"] == sizes["bare loop"] > 0, f"not the same images were written: {json.dumps(sizes)}"
            for place in written.values():
                shutil.rmtree(place)
    seconds = {name: statistics.median(values) for name, values in seconds.items()}
    print_row(f"{arguments.images} images, {arguments.workers} processes", seconds)
    claims = [{"claim": "build, against the bare loop", "ratio": seconds["bare loop"] / seconds["build"], "bar": BAR}]
    finish("build_throughput", claims, arguments, megabytes=round(sizes["build"] / 1e6))


if __name__ == "__main__":
    main()
