"""The cache of replies: a cached re-run, how long a hit takes, and what it costs to keep one more reply.

    python benchmarks/llm_cache.py --rows 5000 --entries 100000 --persisted 2000 --rounds 3 --seed 0

1. A run of `--rows` rows against a server on this machine, then again: the second makes no call and takes 5 s at most.
2. The time of a hit, median and 99th percentile, among `--entries` replies.
3. Keeping `--persisted` replies one by one, each on the disk before the next, against writing the whole dictionary
   with pickle after each item. The latter is a re-statement of VLMEvalKit's way, not its code: it opens the same file,
   dumps everything and does not sync. Its cost grows with the square of the number; ours syncs each reply to the disk.
"""

import hashlib
import json
import pickle
import random
import shutil
import statistics
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from measuring import finish, median_seconds, parse_arguments, print_row

from semihv_hf.llm.cache import ResponseCache
from semihv_hf.llm.client import ChatClient
from semihv_hf.llm.types import ChatRequest, ServerSettings

MOST_SECONDS = 5.0
REPLY = "r" * 1500


class Echo(BaseHTTPRequestHandler):
    """Answers with the length of what was said, and counts."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    calls = 0

    def do_POST(self):
        Echo.calls += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"{len(body['messages'][0]['content'])} characters. " + REPLY
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
            "usage": {"prompt_tokens": 500, "completion_tokens": 400, "total_tokens": 900},
        }
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Says nothing."""


def rerun(folder: Path, rows: int, rounds: int) -> tuple[float, int, float]:
    """Seconds of the cached run, its calls, and seconds of the first one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = ServerSettings(f"http://127.0.0.1:{server.server_port}/v1", "echo")
    asked = [ChatRequest(f"{n}", [{"role": "user", "content": f"Case {n}. " + "finding " * 250}]) for n in range(rows)]

    def run() -> None:
        with ResponseCache(folder) as cache:
            results = ChatClient(settings, cache=cache).run(asked, progress=False)
        if any(result.failure for result in results):
            raise SystemExit("error: a row failed")

    started = time.perf_counter()
    run()
    first = time.perf_counter() - started
    calls = Echo.calls
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    server.shutdown()
    server.server_close()
    return statistics.median(seconds), Echo.calls - calls, first


def hits(folder: Path, entries: int, seed: int) -> list[float]:
    """Seconds of 20,000 hits at random among the entries, sorted."""
    with ResponseCache(folder) as cache:
        futures = [cache.submit(key_of(n), {"model": "m"}, {"text": f"{n} {REPLY}"}) for n in range(entries)]
        for future in futures:
            future.result()
    rng = random.Random(seed)
    seconds = []
    with ResponseCache(folder) as cache:
        for _ in range(20_000):
            number = rng.randrange(entries)
            key = key_of(number)
            started = time.perf_counter()
            found = cache.get(key)
            seconds.append(time.perf_counter() - started)
            if not found["text"].startswith(f"{number} "):
                raise SystemExit("error: a wrong reply")
    return sorted(seconds)


def key_of(number: int) -> str:
    """A content key."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def persist_ours(folder: Path, count: int) -> None:
    """Each reply is on the disk before the next one is made."""
    shutil.rmtree(folder, ignore_errors=True)
    with ResponseCache(folder) as cache:
        for number in range(count):
            cache.put(key_of(number), {"model": "m"}, {"text": f"{number} {REPLY}"})


def persist_pickle(folder: Path, count: int) -> None:
    """The whole dictionary after each item, a re-statement of VLMEvalKit's way."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    everything = {}
    for number in range(count):
        everything[key_of(number)] = f"{number} {REPLY}"
        with open(folder / "result.pkl", "wb") as file:
            pickle.dump(everything, file)


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, rows=5000, entries=100_000, persisted=2000)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cached, calls, first = rerun(folder / "rerun", arguments.rows, arguments.rounds)
        print_row(f"{arguments.rows} rows", {"first": first, "again": cached})
        seconds = hits(folder / "hits", arguments.entries, arguments.seed)
        p50, p99 = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
        print_row(f"a hit among {arguments.entries}", {"p50": p50, "p99": p99})
        persist = median_seconds(
            {
                "log": lambda: persist_ours(folder / "ours", arguments.persisted),
                "pickle": lambda: persist_pickle(folder / "pickle", arguments.persisted),
            },
            arguments.rounds,
        )
        print_row(f"keeping {arguments.persisted} one by one", persist)
    claims = [
        {"claim": f"{MOST_SECONDS} s over a cached re-run", "ratio": MOST_SECONDS / cached, "bar": 1.0},
        {"claim": "a cached re-run makes no call", "ratio": 1.0 if calls == 0 else 0.0, "bar": 1.0},
        {"claim": "re-pickling over the log", "ratio": persist["pickle"] / persist["log"], "bar": None},
    ]
    facts = {"hit_p50_us": round(p50 * 1e6, 1), "hit_p99_us": round(p99 * 1e6, 1), "calls_of_the_rerun": calls}
    finish("llm_cache", claims, arguments, **facts, seconds={"first": round(first, 2), "again": round(cached, 2)})


if __name__ == "__main__":
    main()
