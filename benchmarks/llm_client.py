"""The chat client against an ideal schedule, a client that asks chunk by chunk, and the bare `openai` client.

    python benchmarks/llm_client.py --rounds 3 --rows 480 --concurrency 16 --seed 0

A server in a process of its own answers over HTTP after times with a long tail (log-normal with a median of 0.2 s,
sigma 1, at most 3 s; a model takes longer still, but with less than this it is the processors that are measured).
Ideal is the sum of these times divided by the concurrency: no client can be faster. The chunk client sends as many
calls as the concurrency and waits for all of them before it sends the next. Then the server answers at once, and the
CPU time of a call is compared with that of the bare `openai` client at the same concurrency: ours with a schema, a
cache on disk and the count of dollars, and ours without them. Last, memory at four times the rows.
"""

import asyncio
import json
import multiprocessing
import random
import statistics
import tempfile
import time
import tracemalloc

from measuring import finish, parse_arguments, print_row
from pydantic import BaseModel

from semihv_hf.llm import Budget, ChatClient, ChatRequest, ResponseCache, ServerSettings

PRICES = {"bench-1": {"input": 2.5, "output": 10.0}}
CPU_BAR_MS = 1.0


class Verdict(BaseModel):
    score: int
    reason: str


def serve(ready) -> None:
    """A chat-completions server; the user's text is the number of milliseconds to wait."""
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    message = {"role": "assistant", "content": json.dumps({"score": 3, "reason": "half of the items"})}
    content = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "bench-1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode()

    async def connection(reader, writer):
        try:
            while line := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = int(line.split(b"content-length:")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                await asyncio.sleep(float(body["messages"][0]["content"].split()[0]) / 1000)
                writer.write(head + content)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def messages(row: int, milliseconds: float, padding: str = "") -> list[dict]:
    return [{"role": "user", "content": f"{milliseconds:.3f} row {row} {padding}"}]


def ask_ours(url: str, waits: list[float], concurrency: int, full: bool = False) -> None:
    schema = Verdict if full else None
    requests = [ChatRequest(str(row), messages(row, wait), schema) for row, wait in enumerate(waits)]
    settings = ServerSettings(url, "bench-1", max_concurrency=concurrency)
    with tempfile.TemporaryDirectory() as folder, ResponseCache(folder) as cache:
        client = ChatClient(settings, cache=cache if full else None, budget=Budget(prices=PRICES if full else {}))
        results = client.run(requests, progress=False)
    failures = [result.failure for result in results if result.failure is not None]
    assert client.calls == len(waits) and not failures, (client.calls, len(waits), failures[:3])


def ask_bare(url: str, waits: list[float], concurrency: int, chunked: bool) -> None:
    """The `openai` client, as chunks with a barrier between them, or with a semaphore."""
    import openai

    async def main():
        gate = asyncio.Semaphore(concurrency)
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as api:

            async def one(row: int, wait: float) -> str:
                async with gate:
                    reply = await api.chat.completions.create(
                        model="bench-1", messages=messages(row, wait), temperature=0, seed=0
                    )
                return reply.choices[0].message.content

            rows = list(enumerate(waits))
            width = concurrency if chunked else len(rows)
            for start in range(0, len(rows), width):
                replies = await asyncio.gather(*(one(*row) for row in rows[start : start + width]))
                assert all(replies)

    asyncio.run(main())


def peak_memory(url: str, rows: int, concurrency: int) -> int:
    """Most bytes that Python held while rows of 4 kB went through a stream."""

    async def main():
        client = ChatClient(ServerSettings(url, "bench-1", max_concurrency=concurrency))
        seen = 0
        async for result in client.stream(ChatRequest(str(n), messages(n, 0, "x" * 4000)) for n in range(rows)):
            assert result.failure is None
            seen += 1
        assert seen == rows

    tracemalloc.start()
    try:
        asyncio.run(main())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measured(contenders: dict, rounds: int, clock) -> dict[str, float]:
    """Median over rounds in which the contenders take turns, by a clock of wall or CPU time."""
    found = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            started = clock()
            contender()
            found[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, rows=480, concurrency=16)
    rng, width = random.Random(arguments.seed), arguments.concurrency
    waits = [min(3000.0, 200.0 * rng.lognormvariate(0.0, 1.0)) for _ in range(arguments.rows)]
    ideal = max(sum(waits) / width, max(waits)) / 1000
    at_once = [0.0] * arguments.rows
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}/v1"
        ask_ours(url, at_once[:32], width, full=True)
        ask_bare(url, at_once[:32], width, chunked=False)
        walls = measured(
            {
                "ours": lambda: ask_ours(url, waits, width),
                "chunks": lambda: ask_bare(url, waits, width, chunked=True),
                "semaphore": lambda: ask_bare(url, waits, width, chunked=False),
            },
            arguments.rounds,
            time.perf_counter,
        )
        print_row(f"{arguments.rows} rows, long tail", {"ideal": ideal, **walls})
        cpus = measured(
            {
                "ours": lambda: ask_ours(url, at_once, width),
                "ours, all": lambda: ask_ours(url, at_once, width, full=True),
                "bare": lambda: ask_bare(url, at_once, width, chunked=False),
            },
            arguments.rounds,
            time.process_time,
        )
        cpus = {name: seconds / arguments.rows for name, seconds in cpus.items()}
        print_row("CPU of one call", cpus)
        peaks = [peak_memory(url, count, width) for count in (300, 300, 1200)]
    finally:
        server.terminate()
        server.join()
    beyond = {name: 1000 * (cpus[name] - cpus["bare"]) for name in ("ours", "ours, all")}
    claims = [
        {"claim": "throughput of the ideal", "ratio": ideal / walls["ours"], "bar": 0.9},
        {"claim": "against chunks with a barrier", "ratio": walls["chunks"] / walls["ours"], "bar": 2.5},
        {
            "claim": "1 ms over CPU beyond bare, all on",
            "ratio": CPU_BAR_MS / max(beyond["ours, all"], 0.01),
            "bar": 1.0,
        },
        {"claim": "1 ms over CPU beyond bare", "ratio": CPU_BAR_MS / max(beyond["ours"], 0.01), "bar": 1.0},
        {"claim": "memory of 300 over 1,200 rows", "ratio": peaks[1] / peaks[2], "bar": 0.8},
    ]
    finish(
        "llm_client",
        claims,
        arguments,
        cpu_ms_beyond_bare={name: round(value, 3) for name, value in beyond.items()},
        peak_bytes=peaks[1:],
    )


if __name__ == "__main__":
    main()
