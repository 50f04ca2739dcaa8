"""What a curation costs beside the calls: CPU time a row, and memory at four times the rows.

    python benchmarks/curation_overhead.py --rounds 3 --rows 300 --seed 0 --memory

A server in a process of its own answers at once over HTTP. Three things take turns, each measured as CPU time of this
process, and of each the least of all rounds counts, since what else the machine does can only add to it:

- pipeline: the whole way of cases with one image through classification, generation and filters to a written dataset
  folder; three calls a row.
- client: the bare [`ChatClient`] sends the very same requests, made before, to a cache of its own. Whoever asks a
  server reliably pays for this: HTTP, keys, schemas, the log of answers.
- images: each image is decoded, shrunk, encoded and made a data URI, once for every size at which it is sent. Whoever
  shows a model an image pays for this, too, and the client gets its requests with this done.

The rest is what the pipeline adds, and what the bar is about: reading and checking the cases, choosing tasks, filling
in prompts, the way of each case through its stages, reading labels, the filters, records and their provenance, blocks,
shards (every image is written once into a block and once for each kind of row that shows it), the report. Imports and
the start of the process are in none of them; what a run does once is.

`--peer PYTHON` sends the same calls through distilabel, which is installed in an environment of its own
(`pip install 'distilabel[openai]' requests`; it does not go together with the packages here). See `curation_peer.py`.
"""

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import finish

HERE = Path(__file__).resolve()
BAR_MS = 5.0
MEMORY_MIB = 40


def serve(ready) -> None:
    """Answers every request at once, as it wants."""
    sys.path.append(str(HERE.parents[1] / "tests" / "curation"))
    from chat_server import ChatServer

    class Forgetful(list):
        def append(self, item) -> None:
            """Keeps nothing."""

    with ChatServer() as server:
        server.bodies, server.headers = Forgetful(), Forgetful()
        ready.send(server.base_url)
        ready.recv()


def config(url: str, cases: Path, out: Path):
    from semihv_hf.curation.pipeline.config import CurateConfig

    server = {"base_url": url, "model": "bench-1", "max_concurrency": 16}
    return CurateConfig(cases=str(cases), out=str(out), server=server, classify={}, generate={})


def pipeline(url: str, cases: Path) -> float:
    """CPU seconds of the whole way."""
    from semihv_hf.curation.pipeline.run import curate

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        report = curate(config(url, cases, Path(folder) / "out"), progress=False)
        seconds = time.process_time() - started
    assert not report["failures"], report["failures"]
    return seconds


def requests_of(url: str, cases: Path) -> list:
    """The requests of a curation, made before they are sent."""
    from semihv_hf.curation.pipeline.batched import batch_requests
    from semihv_hf.curation.pipeline.cases import list_cases
    from semihv_hf.curation.pipeline.parts import Job, open_tools
    from semihv_hf.curation.pipeline.run import curate
    from semihv_hf.llm import ResponseCache

    with tempfile.TemporaryDirectory() as folder:
        recipe = config(url, cases, Path(folder) / "out")
        curate(recipe, progress=False)  # so that the labels which the prompts name are there
        job = Job(recipe, list_cases(cases, recipe.splits, 200), Path(folder), None, True)
        with ResponseCache(recipe.answers_folder) as cache:
            tools = open_tools(job)
            return [request for stage in (0, 1) for request in batch_requests(job, tools, cache, stage)]


def bare(url: str, requests: list) -> float:
    """CPU seconds of the client alone."""
    from semihv_hf.data.engines import seldom_collecting
    from semihv_hf.llm import ChatClient, ResponseCache, ServerSettings

    async def ask(client) -> int:
        answered = 0
        async for result in client.stream(requests):
            answered += result.failure is None
        return answered

    with tempfile.TemporaryDirectory() as folder, seldom_collecting():  # as in the pipeline
        started = time.process_time()
        with ResponseCache(folder) as cache:
            client = ChatClient(ServerSettings(url, "bench-1", max_concurrency=16), cache=cache)
            answered = asyncio.run(ask(client))
        seconds = time.process_time() - started
    assert answered == len(requests), (answered, len(requests))
    return seconds


def prepare(url: str, cases: Path) -> float:
    """CPU seconds of making each image what is sent, at each size at which the pipeline sends it."""
    from semihv_hf.curation.classify_options import ClassifyOptions
    from semihv_hf.curation.generation import GenerationOptions
    from semihv_hf.curation.pipeline.cases import list_cases, rows_of
    from semihv_hf.curation.prepared_images import PreparedImages

    seconds = 0.0
    for _, _, row in rows_of(list_cases(cases, ("train",), 200).blocks):
        pictures = PreparedImages()
        started = time.process_time()
        for image in row["images"]:
            for options in (ClassifyOptions(), GenerationOptions()):
                part = pictures.part(image["bytes"], detail=options.detail, longest=options.longest, provider="local")
                assert part["type"] == "image_url"
        seconds += time.process_time() - started
    return seconds


def peer(python: str, url: str, requests: list, folder: Path) -> float | None:
    """CPU seconds a call of distilabel with the same calls; `None`, with the reason, where it does not run."""
    from semihv_hf.llm.structured import strict_format

    path = folder / "calls.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for request in requests:
            system, user = (message["content"] for message in request.messages)
            [image] = [part["image_url"]["url"] for part in user if part["type"] == "image_url"]
            call = {
                "shape": strict_format(request.schema),
                # Its task takes one system text for all rows; ours name the fence of each.
                "instruction": "\n".join([system, *(part["text"] for part in user if part["type"] == "text")]),
                "image": image.partition(",")[2],
            }
            file.write(json.dumps(call) + "\n")
    command = [python, str(HERE.with_name("curation_peer.py")), url, str(path), "16"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        print(f"distilabel NOT measured: {(done.stderr.strip() or 'no reason').splitlines()[-1]}", flush=True)
        return None
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["seconds"] / told["calls"]


def peak(url: str, cases: Path, told) -> None:
    """Most memory of a process of its own, in MiB."""
    pipeline(url, cases)
    # Not `ru_maxrss`: a process that was started by a larger one inherits that one's.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    told.send(int(line.split()[1]) / 1024)


def peaks(url: str, folder: Path, counts: tuple[int, int], side: int) -> list[float]:
    """Most memory of a curation of fewer and of more rows, in MiB."""
    from case_files import write_cases

    context = multiprocessing.get_context("spawn")
    found = []
    for count in counts:
        cases = write_cases(folder / f"{count} cases of {side}", count, side=side)
        got, told = context.Pipe()
        process = context.Process(target=peak, args=(url, cases, told))
        process.start()
        found.append(got.recv())
        process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"rounds": 3, "rows": 300, "side": 256, "threads": 1, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--peer", help="Python of an environment with distilabel, to compare with")
    parser.add_argument("--memory", action="store_true", help="also compare the memory of 1x and 4x the rows")
    parser.add_argument("--memory-rows", type=int, default=100, help="rows of 1x; default: 100")
    parser.add_argument("--memory-side", type=int, default=640, help="pixels of their images; default: 640")
    arguments = parser.parse_args()
    sys.path.append(str(HERE.parents[1] / "tests" / "curation"))
    import pyarrow
    from case_files import write_cases

    pyarrow.set_cpu_count(arguments.threads)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    claims, facts = [], {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cases = write_cases(folder / "cases", arguments.rows, side=arguments.side)
        url = ours.recv()
        requests = requests_of(url, cases)
        seconds: dict[str, list[float]] = {"pipeline": [], "client": [], "images": []}
        for _ in range(arguments.rounds):
            seconds["pipeline"].append(pipeline(url, cases))
            seconds["client"].append(bare(url, requests))
            seconds["images"].append(prepare(url, cases))
        per_row = {name: 1000 * min(values) / arguments.rows for name, values in seconds.items()}
        own = per_row["pipeline"] - per_row["client"] - per_row["images"]
        print("CPU a row: " + ", ".join(f"{name} {value:.2f} ms" for name, value in per_row.items()), flush=True)
        claims.append({"claim": "5 ms over own CPU a row", "ratio": BAR_MS / max(own, 0.01), "bar": 1.0})
        facts.update(cpu_ms={name: round(value, 3) for name, value in per_row.items()}, own_ms=round(own, 3))
        facts.update(calls=len(requests))
        if arguments.peer is None:
            print("distilabel NOT measured: name the Python of its environment with --peer", flush=True)
        elif (a_call := peer(arguments.peer, url, requests, folder)) is not None:
            # It is given images that are prepared, so that ours are left out on this side.
            other, whole = 1000 * a_call * len(requests) / arguments.rows, per_row["pipeline"] - per_row["images"]
            print(f"distilabel: {other:.2f} ms CPU a row for the calls alone, ours with all stages: {whole:.2f} ms")
            claims.append({"claim": "distilabel's CPU a row over that of the whole pipeline", "bar": None})
            claims[-1]["ratio"] = other / whole
            facts.update(peer_ms=round(other, 3))
        if arguments.memory:
            small, large = peaks(
                url, folder, (arguments.memory_rows, 4 * arguments.memory_rows), arguments.memory_side
            )
            claims.append(
                {"claim": "allowance over growth of memory at 4x the rows", "bar": 1.0}
                | {"ratio": MEMORY_MIB / max(large - small, 0.1)}
            )
            facts.update(peak_mib=[round(small), round(large)])
        ours.send("end")
        server.join(10)
    finish("curation_overhead", claims, arguments, **facts)


if __name__ == "__main__":
    main()
