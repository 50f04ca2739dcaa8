"""A chat server on the loopback interface whose answers fit what it is asked: it reads the schema and the material.

Every text of an answer is made of words of the material that stands between fence lines, of a number that follows
from the whole request, and of nothing else; the same request has the same answer. Faults are those of `FaultServer`.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "llm"))

import fault_server

_FENCED = re.compile(r"^(~{5} [0-9a-f]{20} ~{5})\n(.*?)\n\1$", re.S | re.M)
_WORD = re.compile(r"[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ-]{2,}")
_HALVES = ("length", "content_filter", "no finish_reason")


class ChatServer(fault_server.FaultServer):
    """Serves until the `with` block ends; see [`FaultServer`] for its arguments.

    Args:
        blind (`bool`, *optional*): whether images are refused, as by a model without vision.
        refuses_schemas (`bool`, *optional*): whether any request for a shape is refused, in whatever form.
    """

    def __init__(self, *, blind: bool = False, refuses_schemas: bool = False, **arguments):
        super().__init__(**arguments)
        self.blind, self.refuses_schemas = blind, refuses_schemas

    async def _answer(self, writer, body) -> bool:
        if self.blind and images(body):
            return await fault_server._misbehave(writer, (400, _error("this model does not take image_url")), body, "")
        if self.refuses_schemas:
            return await fault_server._misbehave(
                writer, (400, _error("schemas of this kind are not allowed")), body, ""
            )
        text = json.dumps({**body, "messages": first_asked(body)}, sort_keys=True)
        known = hashlib.sha256(text.encode()).hexdigest()  # the texts themselves, with their images, would add up
        before = self.asked[known]
        self.asked[known] += 1
        if self.latency is not None:
            wait = self.latency(known)
            await (wait if hasattr(wait, "__await__") else fault_server.asyncio.sleep(wait))
        fault = self.plan(known, before) if self.plan else self._drawn(known, before)
        if fault is not None:
            self.injected[str(fault)] += 1
        if isinstance(fault, tuple) or fault in ("429", "429 date", "500", "503", "timeout"):
            return await fault_server._misbehave(writer, fault, body, text)
        reply = fault_server.completion(body, text, fault)
        content = json.dumps(answer(body))
        if fault in _HALVES:
            reply["choices"][0]["message"]["content"] = content[: len(content) // 2]
        elif fault not in fault_server.FINAL:
            reply["choices"][0]["message"]["content"] = content
        whole = json.dumps(reply)
        if fault == "disconnect":
            writer.write(fault_server._head(200, len(whole)) + whole.encode()[: len(whole) // 2])
            await writer.drain()
            return False
        fault_server._send(writer, 200, whole[:-30] if fault == "half JSON" else whole)
        await writer.drain()
        return True


def _error(message: str) -> dict:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def stage_of(body: dict) -> str:
    """Which stage a request belongs to: `"classification"` or `"generation"`."""
    return "classification" if body["response_format"]["json_schema"]["name"].startswith("Classify") else "generation"


def first_asked(body: dict) -> list[dict]:
    """The messages without an answer of another shape, and the request to mend it."""
    roles = [message["role"] for message in body["messages"]]
    return body["messages"][: roles.index("assistant")] if "assistant" in roles else body["messages"]


def images(body: dict) -> list[str]:
    """The data URIs in a request."""
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return [part["image_url"]["url"] for content in contents for part in content if part["type"] == "image_url"]


def texts(body: dict) -> str:
    """All that a request says."""
    found = []
    for message in body["messages"]:
        content = message["content"]
        found += (
            [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
        )
    return "\n".join(found)


def answer(body: dict) -> dict:
    """A valid answer to a request for a shape, made from what it says."""
    said = texts(body)
    words = _WORD.findall(" ".join(match[2] for match in _FENCED.finditer(said))) or ["finding"]
    seed = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).digest()
    schema = body["response_format"]["json_schema"]["schema"]
    return _value(schema, "", words, seed, len(images(body)))


def _value(schema: dict, name: str, words: list[str], seed: bytes, shown: int):
    if "enum" in schema:
        return schema["enum"][seed[0] % len(schema["enum"])]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object":
        return {key: _value(one, key, words, seed, shown) for key, one in schema["properties"].items()}
    if kind == "array":
        if name == "images":  # one entry an image
            return [
                {**_value(schema["items"], "", words, seed, shown), "image": number + 1} for number in range(shown)
            ]
        if name in ("pairs", "turns"):
            count = max(schema.get("minItems", 1), 4 if name == "turns" else 1)
            return [
                _value(schema["items"], f"{name}{n}", words, bytes([seed[0] ^ n, *seed[1:]]), shown)
                for n in range(count)
            ]
        return [_value(schema["items"], name, words, seed, shown)]
    if kind == "integer":
        return 1
    if kind == "number":
        return 0.5
    if kind == "boolean":
        return True
    return _text(name, words, seed)


def _text(name: str, words: list[str], seed: bytes) -> str:
    first = seed[1] % len(words)
    some = [words[(first + step * (1 + seed[2] % 7)) % len(words)].lower() for step in range(9)]
    if name == "question":
        return f"What does the image show of the {some[0]} and the {some[1]}?"
    if name == "answer":
        return f"It shows {some[0]} with {some[1]}, next to {some[2]}."
    if name == "topic":
        return some[0]
    return f"The image shows {some[0]} with {some[1]}. There is {some[2]} near {some[3]}, and {some[4]} of {some[5]}."


class Forgetful(list):
    """The server's own lists of requests must not fill the memory of the test."""

    def append(self, item) -> None:
        """Keeps nothing."""
