"""The client against a server that misbehaves: each row ends as an answer or a named failure; a re-run mends it."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fault_server import FINAL, FaultServer, score
from pydantic import BaseModel

from semihv_hf.llm import ChatClient, ChatRequest, ResponseCache, ServerSettings
from semihv_hf.llm.retries import Backoff
from semihv_hf.llm.types import FAILURE_KINDS

QUICK = Backoff(base=0.01, cap=0.05)
# Only a server that is made to hang is waited for this shortly: a busy machine can hold up any other call for as long.
SHORT = 0.4


class Verdict(BaseModel):
    score: int
    reason: str


def rows(count: int, schema=Verdict) -> list[ChatRequest]:
    return [
        ChatRequest(f"row {n}", [{"role": "user", "content": f"case {n} shows a lesion"}], schema)
        for n in range(count)
    ]


def settings(server, **changes) -> ServerSettings:
    return ServerSettings(server.base_url, "judge-1", **{"max_concurrency": 8, "timeout": 30.0, **changes})


def ask(server, requests, cache=None, **changes):
    client = ChatClient(settings(server, **changes), cache=cache, backoff=QUICK)
    return client, client.run(requests, progress=False)


def true_scores(requests) -> list[int]:
    return [score(request.messages[0]["content"]) for request in requests]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_row_ends_as_a_valid_answer_or_a_named_failure(tmp_path, seed):
    requests = rows(60)
    with FaultServer(rate=0.3, seed=seed) as server, ResponseCache(tmp_path) as cache:
        client, results = ask(server, requests, cache, timeout=SHORT)
        assert len(server.injected) > 8, "too few kinds of faults were met for this to say anything"
        assert [result.id for result in results] == [request.id for request in requests]
        for result, true in zip(results, true_scores(requests)):
            assert (result.parsed is None) == (result.failure is not None)
            if result.failure is None:
                assert result.parsed.score == true
            else:
                assert result.failure.kind in FAILURE_KINDS and result.failure.kind != "internal"
                assert result.failure.detail and result.failure.attempts >= 1
        failed = [result for result in results if result.failure]
        assert 0 < len(failed) < 30
        assert client.calls == server.calls == sum(server.asked.values())
        assert len(cache) == len(requests) - len(failed)


def test_a_re_run_calls_only_for_the_failures_and_then_has_the_numbers_of_a_clean_run(tmp_path):
    requests = rows(60)
    with FaultServer(rate=0.3, seed=3) as server, ResponseCache(tmp_path) as cache:
        _, first = ask(server, requests, cache, timeout=SHORT)
        failed = {result.id for result in first if result.failure}
        server.rate, before = 0.0, server.asked.copy()
        client, second = ask(server, requests, cache)
        asked_now = server.asked - before
    assert failed and client.calls == len(failed)
    assert asked_now == Counter({request.messages[0]["content"]: 1 for request in requests if request.id in failed})
    assert [result.parsed.score for result in second] == true_scores(requests)
    assert {result.id for result in second if not result.cached} == failed


@pytest.mark.parametrize("kind", FINAL)
def test_a_reply_that_is_no_answer_is_named_for_what_it_is(kind):
    names = {"junk": "schema", "length": "truncated", "no finish_reason": "truncated"}
    with FaultServer(plan=lambda text, before: kind) as server:
        _, (result,) = ask(server, rows(1))
    assert result.failure.kind == names.get(kind, kind)
    assert result.text is None and result.parsed is None
    # Junk is asked for once more, everything else is final.
    assert result.failure.attempts == server.calls == (2 if kind == "junk" else 1)
    assert result.usage.output_tokens == 5 * server.calls


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("429", "rate_limit"), ("500", "server_error"), ("timeout", "timeout"), ("disconnect", "connection"),
     ("half JSON", "server_error")],
)  # fmt: skip
def test_a_passing_fault_is_repeated_as_often_as_the_settings_say(fault, kind):
    patience = SHORT if fault == "timeout" else 30.0
    with FaultServer(plan=lambda text, before: fault if before < 2 else None) as server:
        _, (mended,) = ask(server, rows(1), timeout=patience, max_retries=2)
    assert mended.failure is None and server.calls == 3
    with FaultServer(plan=lambda text, before: fault) as server:
        _, (broken,) = ask(server, rows(1), timeout=patience, max_retries=2)
    assert broken.failure.kind == kind and broken.failure.attempts == server.calls == 3


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_other_client_errors_are_never_repeated(status):
    plan = lambda text, before: (status, {"error": {"message": "no"}}) if "case 1 " in text else None  # noqa: E731
    with FaultServer(plan=plan) as server:
        _, results = ask(server, rows(3), max_concurrency=1)
    assert [result.failure and result.failure.kind for result in results] == [
        None, "auth" if status == 403 else "bad_request", None
    ]  # fmt: skip
    assert server.calls == 3


def die_and_mend(folder, alive: int) -> None:
    """A run against a server that dies after `alive` calls, and a second one against a server that is well."""
    requests = rows(40)
    with ResponseCache(folder) as cache, FaultServer(dies_after=alive) as server:
        _, first = ask(server, requests, cache, max_retries=1)
        served = server.asked.copy()
        server.dies_after = None
        client, second = ask(server, requests, cache)
        asked_now = server.asked - served
    assert sum(result.failure is None for result in first) == alive
    assert {result.failure.kind for result in first if result.failure} <= {"connection"}
    missing = [request.messages[0]["content"] for request, result in zip(requests, first) if result.failure]
    assert client.calls == 40 - alive and asked_now == Counter(missing)
    assert [result.parsed.score for result in second] == true_scores(requests)


@pytest.mark.parametrize("alive", [1, 17, 39, 40])
def test_a_server_that_dies_leaves_exactly_the_missing_calls(tmp_path, alive):
    die_and_mend(tmp_path, alive)


@pytest.mark.slow
def test_a_server_that_dies_after_any_number_of_calls_leaves_exactly_the_missing_ones(tmp_path):
    for alive in range(1, 41):
        die_and_mend(tmp_path / str(alive), alive)


def test_a_dead_server_is_not_waited_for_by_every_row():
    with FaultServer(dies_after=5) as server:
        client, results = ask(server, rows(200), max_retries=4, max_concurrency=4)
    assert sum(result.failure is None for result in results) == 5
    # How many rows begin while the first ones still wait to try again is a matter of the machine's speed.
    retries, if_all_had_retried = client.calls - 5 - 195, 4 * 195
    assert 4 <= retries < if_all_had_retried / 3


CHILD = """
import sys
from test_faulty_server import QUICK, ServerSettings, ChatClient, ResponseCache, rows
with ResponseCache(sys.argv[2]) as cache:
    client = ChatClient(ServerSettings(sys.argv[1], "judge-1", max_concurrency=4), cache=cache, backoff=QUICK)
    for result in client.run(rows(60), progress=False):
        print(result.id, result.parsed.score)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_is_taken_up_where_it_was(tmp_path):
    rng = random.Random(5)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
    requests, interrupted = rows(60), 0
    for moment in range(20):
        folder = tmp_path / str(moment)
        with FaultServer(latency=lambda text: 0.02) as server:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, server.base_url, str(folder)],
                env=environment, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            moment_calls, patience = rng.randint(1, 58), time.monotonic() + 60
            while server.calls < moment_calls and time.monotonic() < patience:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.02))
            child.send_signal(signal.SIGKILL)
            child.wait()
            time.sleep(0.05)
            with ResponseCache(folder) as cache:
                kept = set(cache.keys())
                before = server.asked.copy()
                client, results = ask(server, requests, cache)
                missing = [request.messages[0]["content"] for request, result in zip(requests, results)
                           if result.key not in kept]  # fmt: skip
                assert server.asked - before == Counter(missing) and client.calls == len(missing)
            # Only what was in flight at that moment can have been asked without being kept.
            assert sum(before.values()) - len(kept) <= 4 + 4, (sum(before.values()), len(kept))
            assert [result.parsed.score for result in results] == true_scores(requests)
            interrupted += 0 < len(kept) < 60
    assert interrupted >= 5, "hardly any of the kills met a run in its middle"


def test_cancelling_a_stream_leaves_no_call_open_and_keeps_what_was_answered(tmp_path):
    async def first_five(client):
        taken = []
        stream = client.stream(rows(1000))
        async for result in stream:
            taken.append(result)
            if len(taken) == 5:
                break
        await stream.aclose()
        return taken, [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    with FaultServer(latency=lambda text: 0.01) as server, ResponseCache(tmp_path) as cache:
        client = ChatClient(settings(server), cache=cache, backoff=QUICK)
        taken, left = asyncio.run(first_five(client))
        assert len(taken) == 5 and not left
        assert server.calls < 60 and len(cache) >= 5
        again = client.run(rows(20), progress=False)
    assert all(result.failure is None for result in again)
