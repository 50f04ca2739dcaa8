"""What the chat client promises, over HTTP and with the real `openai` client."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from fault_server import FaultServer, score
from pydantic import BaseModel

from semihv_hf.errors import SemiHVError
from semihv_hf.llm import Budget, ChatClient, ChatRequest, ResponseCache, ServerSettings
from semihv_hf.llm.retries import Backoff

QUICK = Backoff(base=0.01, cap=0.05)
KEY = "sk-" + "verysecret" * 3


class Verdict(BaseModel):
    score: int
    reason: str


def request(name: str = "one", schema=None, **fields) -> ChatRequest:
    return ChatRequest(name, [{"role": "user", "content": f"case {name}"}], schema, **fields)


def client_of(server, *, cache=None, budget=None, attestation=None, client=None, cache_only=False, dry_run=False,
              **settings) -> ChatClient:  # fmt: skip
    url = server if isinstance(server, str) else server.base_url
    chosen = ServerSettings(url, **{"model": "judge-1", "timeout": 20.0, "max_retries": 1, **settings})
    return ChatClient(chosen, cache=cache, budget=budget, attestation=attestation, client=client,
                      cache_only=cache_only, dry_run=dry_run, backoff=QUICK)  # fmt: skip


def ask(server, requests, **options):
    return client_of(server, **options).run(requests, progress=False)


def test_results_come_in_the_order_of_the_requests_whichever_ends_first():
    requests = [request(str(n)) for n in range(12)]
    with FaultServer(latency=lambda text: 0.2 if text == "case 0" else 0.0) as server:
        results = ask(server, requests)
    assert [result.id for result in results] == [str(n) for n in range(12)]
    assert [result.text for result in results] == [f"It has the score {score(f'case {n}')}." for n in range(12)]
    first = results[0]
    assert (first.model, first.system_fingerprint) == ("judge-1-0001", "fp_1")
    usage = first.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens) == (2, 1, 5, 2)


def test_settings_go_into_the_body_and_unset_ones_do_not():
    with FaultServer() as server:
        ask(server, [request()], temperature=None, seed=7, max_tokens=50, extra={"top_p": 0.5})
        (body,) = server.bodies
    assert {name: body[name] for name in ("model", "seed", "max_tokens", "top_p")} == {
        "model": "judge-1", "seed": 7, "max_tokens": 50, "top_p": 0.5
    }  # fmt: skip
    assert "temperature" not in body and "response_format" not in body


def test_a_new_call_starts_when_one_ends_and_never_waits_for_a_batch():
    async def held_until_all_others_came(text):
        while text == "case 0" and server.calls < 20:
            await asyncio.sleep(0.005)

    with FaultServer(latency=held_until_all_others_came) as server:
        results = ask(server, [request(str(n)) for n in range(20)], max_concurrency=2, timeout=30.0, max_retries=0)
        assert server.calls == 20 and server.most_open == 2
    assert all(result.failure is None for result in results), "the held call kept the others from starting"


def test_a_handful_at_once_is_as_a_run_and_asks_equal_questions_once(tmp_path):
    requests = [request("0"), request("1"), request("0"), "no request"]

    async def twice(client):
        return await client.ask(requests), await client.ask(requests[:2])

    with FaultServer(latency=lambda text: 0.1 if text == "case 0" else 0.0) as server:
        with ResponseCache(tmp_path) as cache:
            client = client_of(server, cache=cache)
            first, again = asyncio.run(twice(client))
        run = ask(server, requests[:2])
    assert [result.text for result in first[:2]] == [result.text for result in run]
    assert first[2].text == first[0].text and first[3].failure.kind == "bad_request"
    assert [result.cached for result in first] == [False, False, True, False]
    assert [result.cached for result in again] == [True, True] and client.hits == 3
    assert client.calls == 2 and client.failures == {"bad_request": 1}


def test_a_handful_of_which_one_shows_a_wrong_setting_ends_as_a_whole_and_leaves_nothing_under_way():
    async def tried(client):
        with pytest.raises(SemiHVError, match="key"):
            await client.ask([request(str(n)) for n in range(4)])
        return len(asyncio.all_tasks())

    refused = (401, {"error": {"message": "Incorrect API key provided", "code": "bad_key"}})
    with FaultServer(plan=lambda text, before: refused) as server:
        assert asyncio.run(tried(client_of(server))) == 1


def test_a_stream_reads_no_more_requests_than_it_can_use():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield request(str(read))

    async def take(client, count):
        stream, widest = client.stream(endless()), 0
        async for _ in stream:
            count -= 1
            widest = max(widest, read - (300 - count))
            if count == 0:
                break
        await stream.aclose()
        return widest

    with FaultServer() as server:
        assert asyncio.run(take(client_of(server, max_concurrency=4), 300)) <= 4 * 4 + 1


def test_rows_that_wait_to_be_repeated_hold_no_slot():
    """Two slots, and four rows that go wrong until the twelve others are answered."""
    quick = {f"case {n}" for n in range(4, 16)}
    plan = lambda text, before: None if text in quick or quick <= set(server.asked) else "500"  # noqa: E731
    with FaultServer(plan=plan) as server:
        client = ChatClient(
            ServerSettings(server.base_url, "m", max_concurrency=2, max_retries=40), backoff=Backoff(base=0.3, cap=0.3)
        )
        results = client.run([request(str(n)) for n in range(16)], progress=False)
    assert all(result.failure is None for result in results)
    assert client.calls < 16 + 4 * 40


def test_a_server_that_bears_little_is_given_little_and_every_row_is_answered():
    async def ask(client):
        return [(result, client.limit) async for result in client.stream(request(str(n)) for n in range(120))]

    with FaultServer(bears=3, latency=lambda text: 0.01) as server:
        client = client_of(server, max_concurrency=16, max_retries=30)  # on a busy machine a row may be unlucky often
        results = asyncio.run(ask(client))
        assert len(results) == 120 and all(result.failure is None for result, _ in results)
        turned_away = server.injected["429"]
    assert min(limit for _, limit in results) < 8, "of 16 that were allowed"
    assert 0 < turned_away < 120


def test_retry_after_pauses_all_rows():
    plan = lambda text, before: "429" if text == "case 0" and before == 0 else None  # noqa: E731
    with FaultServer(plan=plan, latency=lambda text: 0.005) as server:
        client = client_of(server, max_concurrency=1)
        pauses = []
        pause = client._state.limit.pause
        client._state.limit.pause = lambda seconds: (pauses.append(seconds), pause(seconds))
        assert all(result.failure is None for result in client.run([request(str(n)) for n in range(3)]))
    assert pauses == [0.015]


def test_equal_requests_in_flight_are_asked_once():
    requests = [request("same"), request("other"), *[ChatRequest(f"copy {n}", request("same").messages) for n in "ab"]]
    repeats = [request("same", repeat=n) for n in (1, 2)]
    with FaultServer(latency=lambda text: 0.1) as server:
        results = ask(server, [*requests, *repeats])
        assert server.asked == {"case same": 3, "case other": 1}
    assert [result.id for result in results[2:4]] == ["copy a", "copy b"]
    assert [result.cached for result in results] == [False, False, True, True, False, False]
    assert len({result.key for result in results}) == 4


def test_a_second_run_is_answered_from_the_cache_without_a_call(tmp_path):
    requests = [request(str(n), Verdict) for n in range(30)]
    with ResponseCache(tmp_path) as cache:
        with FaultServer() as server:
            first = ask(server, requests, cache=cache)
            again = ask(server, requests, cache=cache)
            assert server.calls == 30
        offline = ask(server, requests, cache=cache, cache_only=True)
    for results in (again, offline):
        assert all(result.cached for result in results)
        assert [result.parsed for result in results] == [result.parsed for result in first]
        assert [result.usage for result in results] == [result.usage for result in first]


def test_cache_only_raises_on_a_miss_and_names_the_row(tmp_path):
    with FaultServer() as server, ResponseCache(tmp_path) as cache:
        ask(server, [request("known")], cache=cache)
        with pytest.raises(SemiHVError, match="no reply for 1 of 2 requests; the first is 'unknown'"):
            ask(server, [request("known"), request("unknown")], cache=cache, cache_only=True)
        assert server.calls == 1
    with pytest.raises(SemiHVError, match="without a cache"):
        client_of("https://llm.example/v1", cache_only=True)


def test_a_dry_run_gives_the_estimate_and_asks_nobody(tmp_path):
    with FaultServer() as server, ResponseCache(tmp_path) as cache:
        ask(server, [request("known")], cache=cache)
        estimate = ask(server, [request("known"), request("new")], cache=cache, dry_run=True)
        assert (estimate.requests, estimate.cached, estimate.calls) == (2, 1, 1)
        assert server.calls == 1


def test_a_used_up_budget_fails_the_remaining_rows_without_a_call():
    prices = {"judge-1": {"input": 1.0, "output": 1000.0}}  # dollars a million tokens: 5 tokens are half a cent
    with FaultServer() as server:
        budget = Budget(max_cost_usd=0.02, prices=prices)
        results = ask(server, [request(str(n)) for n in range(50)], budget=budget, max_tokens=5, max_concurrency=4)
        assert 0 < server.calls < 10
        answered = [result for result in results if result.failure is None]
        assert len(answered) == server.calls
        assert sum(result.usage.cost_usd for result in answered) == pytest.approx(budget.spent_usd)
        assert {(result.failure.kind, result.failure.attempts) for result in results if result.failure} == {
            ("budget", 0)
        }


def test_the_licence_gate_is_asked_before_the_socket(monkeypatch, tmp_path):
    """The server is on this machine, but for the gate its address is one that is not."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    requests = [
        request("free", sources=("jama_clinical_challenge_not_registered",)),
        request("mimic", sources=("mimic_cxr",)),
        request("none"),
    ]
    with FaultServer() as server:
        remote = f"http://{socket.gethostname()}:{server.port}/v1"
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *a, **k: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))])  # fmt: skip
        results = ask(remote, requests)
        assert [result.failure and result.failure.kind for result in results] == ["licence", "licence", None]
        assert "no entry in the licence registry" in results[0].failure.detail
        assert server.calls == 1 and results[0].failure.attempts == 0
        # What is on this machine anyway may go to a server on this machine.
        assert all(result.failure is None for result in ask(server, requests[1:]))


def test_a_redirect_carries_nothing_to_another_host():
    with FaultServer() as other, FaultServer() as server:
        server.plan = lambda text, before: (307, {})
        original = server._answer

        async def redirecting(writer, body):
            writer.write(f"HTTP/1.1 307 -\r\nlocation: {other.base_url}/chat/completions\r\n"
                         "content-length: 0\r\n\r\n".encode())  # fmt: skip
            return True

        server._answer = redirecting
        injected = openai.AsyncOpenAI(base_url=server.base_url, api_key=KEY)  # this one would follow
        for client in (None, injected):
            with pytest.raises(SemiHVError, match="redirects"), client_of(server, client=client) as chat:
                chat.run([request()], progress=False)
        server._answer = original
        assert server.calls == 2 and other.calls == 0


@pytest.mark.parametrize(("known", "mode"), [(("json_object",), "json_object"), ((), None)])
def test_a_server_without_schemas_is_asked_in_words_and_remembered(known, mode, caplog):
    with FaultServer(formats=known) as server, client_of(server, max_concurrency=1) as client:
        (first,) = client.run([request("a", Verdict)], progress=False)
        learning = server.calls
        later = client.run([request(str(n), Verdict) for n in range(5)], progress=False)
        assert server.calls == learning + 5
        last = server.bodies[-1]
    assert [result.parsed.score for result in (first, *later)] == [
        score("case a"), *[score(f"case {n}") for n in range(5)]
    ]  # fmt: skip
    assert last.get("response_format", {}).get("type") == mode
    assert last["messages"][0]["role"] == "system" and '"score"' in last["messages"][0]["content"]
    assert sum("refuses the response format" in record.message for record in caplog.records) == learning - 1


def test_a_reply_of_the_wrong_shape_is_asked_for_once_more():
    with FaultServer(plan=lambda text, before: "junk" if before == 0 else None) as server:
        (result,) = ask(server, [request("a", Verdict)])
        assert server.calls == 2
        again = server.bodies[1]["messages"]
    assert result.parsed.score == score("case a")
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    assert result.usage.output_tokens == 10, "both calls were paid for"


def test_a_server_that_passes_over_the_schema_is_told_it_in_the_second_try():
    with FaultServer(passes_over_formats=True) as server:
        (result,) = ask(server, [request("a", Verdict)])
        first, second = (body["messages"] for body in server.bodies)
    assert result.failure is None and result.parsed.score == score("case a")
    assert '"score"' not in str(first) and '"score"' in second[-1]["content"]


def test_run_works_inside_a_running_event_loop():
    async def notebook_cell():
        return ask(server, [request("a")])

    with FaultServer() as server:
        (result,) = asyncio.run(notebook_cell())
    assert result.failure is None


def test_an_injected_client_can_be_used_for_several_runs():
    with FaultServer() as server:
        with client_of(server, client=openai.AsyncOpenAI(base_url=server.base_url, api_key=KEY)) as client:
            for name in "abc":
                assert client.run([request(name)], progress=False)[0].failure is None
            assert server.calls == 3
    with pytest.raises(SemiHVError, match="The injected client asks http://127.0.0.1:1/v1"):
        client_of(server, client=openai.AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key=KEY))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "bad_key"}}), "refuses the key"),
        ((404, {"error": {"message": "`judge-1` does not exist", "code": "model_not_found"}}), "know the model"),
        ((404, {"detail": "Not Found"}), "no chat completions"),
        ((400, {"error": {"message": "'temperature' does not support 0.0", "param": "temperature"}}), "temperature"),
        ((307, {}), "redirects"),
    ],
)  # fmt: skip
def test_a_wrong_setting_stops_the_run_with_one_clear_line(monkeypatch, reply, message):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultServer(plan=lambda text, before: reply) as server:
        with pytest.raises(SemiHVError, match=message) as caught:
            ask(server, [request(str(n)) for n in range(100)])
        assert server.calls <= 16
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_model_without_vision_stops_the_run():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = ChatRequest("a", [{"role": "user", "content": [{"type": "text", "text": "what"}, image]}])
    with FaultServer(
        plan=lambda text, before: (400, {"error": {"message": "Image input is not supported"}})
    ) as server:
        with pytest.raises(SemiHVError, match="takes no images"):
            ask(server, [asked])


def test_no_server_at_the_address_is_an_error_and_no_list_of_failures():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:{KEY}@127.0.0.1:{free.getsockname()[1]}/v1"
        for act in (lambda client: client.run([request()], progress=False), lambda client: client.check()):
            with pytest.raises(SemiHVError, match="There is no server at http://127.0.0.1") as caught:
                act(client_of(url))
            assert KEY not in str(caught.value)


def test_a_missing_key_is_found_before_the_first_call(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(SemiHVError, match="environment variable MY_KEY is not set"):
        client_of("https://llm.example/v1", api_key_env="MY_KEY")


def test_check_looks_the_model_up():
    with FaultServer(models=["judge-1", "judge-2"]) as server:
        assert client_of(server).check() is True
        with pytest.raises(SemiHVError, match="does not know the model 'judge-3'. It has: judge-1, judge-2"):
            client_of(server, model="judge-3").check()
        assert server.calls == 0
    with FaultServer(models=None) as server:
        assert client_of(server).check() is None


def test_requests_that_cannot_be_sent_are_named_before_anything_is_asked():
    bad = [
        ("it has no messages", ChatRequest("x", [])),
        ("message 1 has no role", ChatRequest("x", [{"content": "a"}])),
        ("content of type NoneType", ChatRequest("x", [{"role": "user", "content": None}])),
        ("sources", request(sources="mimic_cxr")),
    ]
    with FaultServer() as server:
        for problem, row in bad:
            with pytest.raises(SemiHVError, match=rf"Request 2 \(.*{problem}"):
                ask(server, [request(), row])
        assert server.calls == 0


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    body = {"error": {"message": f"bad header Authorization: Bearer {KEY}"}}
    plan = lambda text, before: (400, body) if text == "case bad" else None  # noqa: E731
    with caplog.at_level(logging.INFO), FaultServer(plan=plan) as server, ResponseCache(tmp_path) as cache:
        results = ask(server, [request("good"), request("bad")], cache=cache, max_concurrency=1)
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert results[1].failure.kind == "bad_request" and "***" in results[1].failure.detail
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kept and KEY.encode() not in kept
    assert KEY not in caplog.text and KEY not in repr(results)


def test_a_proxy_from_the_environment_is_not_used_for_this_machine(monkeypatch):
    with FaultServer() as server, FaultServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert ask(server, [request()])[0].failure is None
        assert (server.calls, proxy.calls) == (1, 0)


def test_a_repeat_is_another_sample_with_the_next_seed():
    rows = [request("one"), replace(request("one"), repeat=1), replace(request("one"), repeat=2)]
    with FaultServer() as server:
        client = client_of(server, seed=7, temperature=0.5, max_concurrency=1)
        assert all(result.failure is None for result in client.run(rows, progress=False))
        unseeded = client_of(server, seed=None, temperature=0.5)
        assert unseeded.run(rows[1:2], progress=False)[0].failure is None
    assert [body.get("seed") for body in server.bodies] == [7, 8, 9, None]


CTRL_C = """
import signal
import sys
from test_client import ChatClient, ResponseCache, ServerSettings, request
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
with ResponseCache(sys.argv[2]) as cache:
    client = ChatClient(ServerSettings(sys.argv[1], "judge-1"), cache=cache)
    try:
        client.run([request(str(n)) for n in range(5000)])
    except KeyboardInterrupt:
        print("stopped", len(cache))
"""


def test_ctrl_c_stops_cleanly_and_keeps_what_was_answered(tmp_path):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
    with FaultServer(latency=lambda text: 0.05) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", CTRL_C, server.base_url, str(tmp_path)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        patience = time.monotonic() + 60
        while server.calls < 40 and time.monotonic() < patience:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert "Traceback" not in err and "never retrieved" not in err and "was destroyed" not in err, err
    word, kept = out.splitlines()[-1].split()
    assert word == "stopped" and int(kept) >= 20
    assert len((tmp_path / "responses.jsonl").read_text().splitlines()) == int(kept) + 1
    assert json.loads((tmp_path / "responses.jsonl").read_text().splitlines()[-1])["response"]["text"]
