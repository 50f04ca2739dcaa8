"""What a curation costs beside the calls: CPU time a row, and memory at four times the rows.

    python benchmarks/curation_overhead.py --rounds 3 --rows 200 --seed 0

A server in a process of its own answers at once over HTTP. The pipeline takes cases with one image of 256 pixels
through classification, generation and filters to a written dataset folder; the bare [`ChatClient`] sends the very same
requests, made before, to a cache of its own. The difference of their CPU times, shared over the rows, is the
pipeline's own overhead; it includes reading the cases, shrinking and encoding images, filling in the prompts, the
filters, and writing every image several times (into a block, and into the shards that show it).
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measuring import finish

HERE = Path(__file__).resolve()
BAR_MS = 5.0


def serve(ready) -> None:
    """Answers every request at once, as it wants."""
    sys.path.append(str(HERE.parents[1] / "tests" / "curation"))
    from chat_server import ChatServer

    class Bodiless(list):
        def append(self, item) -> None:
            """Keeps nothing."""

    with ChatServer() as server:
        server.bodies, server.headers = Bodiless(), Bodiless()
        ready.send(server.base_url)
        ready.recv()


def config(url: str, cases: Path, out: Path):
    from semihv_hf.curation.pipeline.config import CurateConfig

    server = {"base_url": url, "model": "bench-1", "max_concurrency": 16}
    return CurateConfig(cases=str(cases), out=str(out), server=server, classify={}, generate={})


def pipeline(url: str, cases: Path) -> tuple[float, dict]:
    """CPU seconds of the whole way."""
    from semihv_hf.curation.pipeline.run import curate

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        report = curate(config(url, cases, Path(folder) / "out"), progress=False)
        seconds = time.process_time() - started
    assert not report["failures"], report["failures"]
    return seconds, report


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
    from semihv_hf.llm import ChatClient, ResponseCache, ServerSettings

    async def ask(client) -> int:
        answered = 0
        async for result in client.stream(requests):
            answered += result.failure is None
        return answered

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        with ResponseCache(folder) as cache:
            client = ChatClient(ServerSettings(url, "bench-1", max_concurrency=16), cache=cache)
            answered = asyncio.run(ask(client))
        seconds = time.process_time() - started
    assert answered == len(requests), (answered, len(requests))
    return seconds


def peak(url: str, cases: Path, told) -> None:
    """Most memory of a process of its own, in MiB."""
    pipeline(url, cases)
    told.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"rounds": 3, "rows": 200, "side": 256, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--memory", action="store_true", help="also compare the memory of 1x and 4x the rows")
    arguments = parser.parse_args()
    sys.path.append(str(HERE.parents[1] / "tests" / "curation"))
    from case_files import write_cases

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    claims, facts = [], {}
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder) / "cases", arguments.rows, side=arguments.side)
        url = ours.recv()
        requests = requests_of(url, cases)
        whole, alone = [], []
        for _ in range(arguments.rounds):
            whole.append(pipeline(url, cases)[0])
            alone.append(bare(url, requests))
        per_row = {
            "pipeline": 1000 * statistics.median(whole) / arguments.rows,
            "client": 1000 * statistics.median(alone) / arguments.rows,
        }
        own = per_row["pipeline"] - per_row["client"]
        print(f"CPU a row: pipeline {per_row['pipeline']:.2f} ms, client alone {per_row['client']:.2f} ms", flush=True)
        claims.append({"claim": "5 ms over own CPU a row", "ratio": BAR_MS / max(own, 0.01), "bar": 1.0})
        facts.update(cpu_ms=json.loads(json.dumps(per_row)), own_ms=round(own, 3), calls=len(requests))
        if arguments.memory:
            peaks = []
            for count in (arguments.rows, 4 * arguments.rows):
                more = write_cases(Path(folder) / f"cases {count}", count, side=arguments.side)
                got, told = context.Pipe()
                process = context.Process(target=peak, args=(url, more, told))
                process.start()
                peaks.append(got.recv())
                process.join()
            claims.append({"claim": "memory of 1x over 4x the rows", "ratio": peaks[0] / peaks[1], "bar": 0.9})
            facts["peak_mib"] = [round(value) for value in peaks]
        ours.send("end")
        server.join(10)
    finish("curation_overhead", claims, arguments, **facts)


if __name__ == "__main__":
    main()
