"""A chat-completions server on the loopback interface that misbehaves by a plan.

What it answers is worked out from the text it is sent, and which call goes wrong from the seed, the text and how often
that text was asked: neither depends on the order in which calls arrive. It speaks HTTP, so the real client goes
through a real socket.
"""

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable

# Faults after which a repeated call may succeed, and faults of the reply itself.
PASSING = ("429", "429 date", "500", "503", "timeout", "disconnect", "half JSON")
FINAL = ("junk", "refusal", "length", "content_filter", "no finish_reason", "empty")


class FaultServer:
    """Serves until the `with` block ends.

    Args:
        rate (`float`, *optional*, defaults to 0): share of the calls that go wrong.
        seed (`int`, *optional*, defaults to 0): decides which ones, and how.
        faults (`tuple[str, ...]`, *optional*): what can go wrong, of `PASSING` and `FINAL`.
        plan (`Callable`, *optional*): takes the text and how often it was asked before, and gives a fault, an
            `(HTTP status, body)` pair, or `None`; replaces `rate`.
        dies_after (`int`, *optional*): calls after which every connection is closed without a word.
        latency (`Callable`, *optional*): takes the text and gives seconds until the reply, or a coroutine to wait for.
        formats (`tuple[str, ...]`, *optional*): response formats that it knows; others get 400.
        models (`list[str]`, *optional*): what `GET /models` lists; without it that is 404.
        bears (`int`, *optional*): calls at the same time, above which it says 429.
        passes_over_formats (`bool`, *optional*, defaults to `False`): it takes every response format, and the model
            never hears of it.
    """

    def __init__(
        self,
        *,
        rate: float = 0.0,
        seed: int = 0,
        faults: tuple[str, ...] = PASSING + FINAL,
        plan: Callable | None = None,
        dies_after: int | None = None,
        latency: Callable[[str], float] | None = None,
        formats: tuple[str, ...] = ("json_schema", "json_object"),
        models: list[str] | None = None,
        bears: int | None = None,
        passes_over_formats: bool = False,
    ):
        self.passes_over_formats = passes_over_formats
        self.rate, self.seed, self.faults, self.plan = rate, seed, faults, plan
        self.dies_after, self.latency, self.formats, self.models, self.bears = (
            dies_after,
            latency,
            formats,
            models,
            bears,
        )
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.asked: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.open = self.most_open = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def calls(self) -> int:
        """Chat calls so far."""
        return len(self.bodies)

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10), "the server did not start"
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connection(self, reader, writer):
        try:
            while (head := await _read_head(reader)) is not None:
                method, path, headers = head
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._respond(writer, method, path, headers, body):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client went away
        finally:
            writer.close()

    async def _respond(self, writer, method, path, headers, body) -> bool:
        if method == "GET":
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models or ()]}
            _send(writer, 404 if self.models is None else 200, listed)
            return True
        body = json.loads(body)
        self.headers.append(headers)
        self.bodies.append(body)
        if self.dies_after is not None and self.calls > self.dies_after:
            return False
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await self._answer(writer, body)
        finally:
            self.open -= 1

    async def _answer(self, writer, body) -> bool:
        text = question(body)
        before = self.asked[text]
        self.asked[text] += 1
        if self.latency is not None:
            wait = self.latency(text)
            await (wait if asyncio.iscoroutine(wait) else asyncio.sleep(wait))
        if self.passes_over_formats:
            body = {name: value for name, value in body.items() if name != "response_format"}
        wanted = body.get("response_format", {}).get("type")
        if wanted and wanted not in self.formats:
            _send(writer, 400, _error(f"'response_format' of type {wanted} is not supported"))
            return True
        if self.bears is not None and self.open > self.bears:
            fault = "429"
        else:
            fault = self.plan(text, before) if self.plan else self._drawn(text, before)
        if fault is not None:
            self.injected[fault if isinstance(fault, str) else str(fault[0])] += 1
        return await _misbehave(writer, fault, body, text)

    def _drawn(self, text, before):
        rng = random.Random(f"{self.seed} {text} {before}")
        return rng.choice(self.faults) if rng.random() < self.rate else None


async def _misbehave(writer, fault, body, text) -> bool:
    """Answers with a fault; says whether the connection can go on."""
    if isinstance(fault, tuple):
        _send(writer, *fault)
    elif fault == "429":
        _send(writer, 429, _error("slow down"), {"retry-after-ms": "15"})
    elif fault == "429 date":
        _send(writer, 429, _error("slow down"), {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"})
    elif fault in ("500", "503"):
        _send(writer, int(fault), _error("made to fail"))
    elif fault == "timeout":
        await asyncio.sleep(3600)
    elif fault == "disconnect":
        whole = json.dumps(completion(body, text)).encode()
        writer.write(_head(200, len(whole)) + whole[: len(whole) // 2])
        await writer.drain()
        return False
    elif fault == "half JSON":
        _send(writer, 200, json.dumps(completion(body, text))[:-30])
    else:
        _send(writer, 200, completion(body, text, fault))
    await writer.drain()
    return True


async def _read_head(reader):
    line = await reader.readline()
    if not line.strip():
        return None
    method, path, _ = line.decode().split(" ", 2)
    headers = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, path, headers


def _head(status: int, length: int, headers: dict | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} -", "content-type: application/json", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _send(writer, status: int, body, headers: dict | None = None) -> None:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    writer.write(_head(status, len(content), headers) + content)


def _error(message: str) -> dict:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def question(body: dict) -> str:
    """The first text of the user in a request."""
    content = next(message["content"] for message in body["messages"] if message["role"] == "user")
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


def score(text: str) -> int:
    """The number 0 to 5 that the server finds in a text."""
    return hashlib.sha256(text.encode()).digest()[0] % 6


def completion(body: dict, text: str, fault: str | None = None) -> dict:
    """A completion: for a shape `{"score": ..., "reason": ...}`, for free text a sentence."""
    verdict = json.dumps({"score": score(text), "reason": f"{len(text.split())} words"})
    if "response_format" in body:
        content = verdict
    elif "Reply again" in json.dumps(body["messages"]):
        content = verdict if '"score"' in str(body["messages"][-1]["content"]) else '{"answer": "of what shape?"}'
    elif "JSON schema" in json.dumps(body["messages"]):
        content = f'Let me think: {{"score": 9}} would be too much.\n{verdict}\nThat is all.'
    else:
        content = f"It has the score {score(text)}."
    message = {"role": "assistant", "content": content, "refusal": None}
    reason = "stop"
    if fault == "junk":
        message["content"] = "Certainly! Here you are: ]["
    elif fault == "refusal":
        message.update(content=None, refusal="I cannot help with that.")
    elif fault == "empty":
        message["content"] = ""
    elif fault in ("length", "content_filter"):
        message["content"], reason = content[: len(content) // 2], fault
    elif fault == "no finish_reason":
        message["content"], reason = content[: len(content) // 2], None
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": f"{body['model']}-0001",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": len(text.split()),
            "completion_tokens": 5,
            "total_tokens": len(text.split()) + 5,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }
