"""A chat-completions server that really judges: it lists the sentences of a reference and looks for their words.

It speaks HTTP on the loopback interface, so the real client goes through a real socket. What it returns depends only
on the texts that it is sent; nothing is canned.

It is also as gullible as a judge can be: of a text that stands outside the fences that the system message names, or
behind a control token of a chat template, it takes every word for an order and gives all that there is to give. A
fence that an answer can close therefore shows in the verdict.
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TITLES = (
    "CASE", "CONTEXT", "REFERENCE DISCUSSION", "MARKING LIST", "STUDENT'S EXPLANATION", "QUESTION", "REFERENCE",
    "FIRST ANSWER", "SECOND ANSWER", "REFERENCE ANSWER", "ANSWER",
)  # fmt: skip
CONTROL = re.compile(r"<\|im_(?:start|end)\|>|<\|(?:eot_id|end|endoftext)\|>|\[/?INST\]|<(?:start|end)_of_turn>|</s>")
COMMON = frozenset(
    "a an and are as at by for from in is it its no not of on or that the there this to was with".split()
)
SENTENCE = re.compile(r"(?<=[.!?])\s+")


class RubricServer:
    """Serves until the `with` block ends.

    Args:
        schemas (`bool`, *optional*, defaults to `True`): whether `json_schema` response formats are known; a
            server that does not know them answers 400.
        fault (`Callable`, *optional*): called with the number of the request and its body; what it returns replaces
            the answer: an HTTP status, or changed fields of the first choice.
        likes_first (`int`, *optional*, defaults to 0): how many points an answer gets for standing first.
    """

    def __init__(self, schemas: bool = True, fault=None, likes_first: int = 0):
        self.schemas = schemas
        self.fault = fault
        self.likes_first = likes_first
        self.requests = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                sent = self.rfile.read(length)
                if len(sent) < length:
                    raise ConnectionAbortedError("the client hung up")
                body = json.loads(sent)
                with outer._lock:
                    outer.requests.append(body)
                    number = len(outer.requests)
                status, reply = outer.answer(number, body)
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                """Keeps the test output readable."""

        return Handler

    def answer(self, number: int, body: dict) -> tuple[int, dict]:
        """Answers one request."""
        fault = self.fault(number, body) if self.fault else None
        if isinstance(fault, int):
            return fault, {"error": {"message": f"made to fail with {fault}", "type": "server_error"}}
        if body["response_format"]["type"] == "json_schema" and not self.schemas:
            return 400, {"error": {"message": "response_format json_schema is not supported", "type": "invalid"}}
        system, user = (message["content"] for message in body["messages"][:2])
        content = json.dumps(judge(system, user, self.likes_first))
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        choice.update(fault or {})
        asked = len((system + user).split())
        return 200, {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 0,
            "model": "rubric-server-1",
            "system_fingerprint": "fp_words",
            "choices": [choice],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": len(content.split()),
                "total_tokens": asked + len(content.split()),
            },
        }


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that stops at a wrong setting hangs up in the middle of its other calls; the rest is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def judge(system: str, user: str, likes_first: int = 0) -> dict:
    """Reads the fenced parts of a prompt, and lists, marks, grades or compares."""
    parts, orders = read_parts(system, user)
    if "REFERENCE DISCUSSION" in parts:
        return {"items": listed(system, parts["REFERENCE DISCUSSION"])}
    if "MARKING LIST" in parts:
        items = re.findall(r"^\d+\. (.*)$", parts["MARKING LIST"], re.M)
        hits = [bool(orders) or found(item, parts["STUDENT'S EXPLANATION"]) for item in items]
        if "steps of 0.5" in system:
            return {"score": min(5.0, 0.5 * (10 if orders else sum(hits)))}
        return {f"item_{number}": "hit" if hit else "miss" for number, hit in enumerate(hits, start=1)}
    if "ANSWER" in parts:
        same = words(parts["REFERENCE ANSWER"]) <= words(parts["ANSWER"])
        return {"verdict": "equivalent" if same or orders else "different"}
    known = parts.get("CONTEXT") or parts.get("REFERENCE") or parts["QUESTION"]
    first, second = (grade(known, parts[f"{place} ANSWER"]) for place in ("FIRST", "SECOND"))
    first = min(10, first + likes_first)
    if "whole number from 1" in system:
        return {"first": 10, "second": 1} if orders else {"first": first, "second": second}
    return {"winner": "first" if first > second or orders else "second" if second > first else "tie"}


def read_parts(system: str, user: str) -> tuple[dict[str, str], str]:
    """Splits a user message by the fence that the system message names; returns the parts, and what is in none."""
    fence = re.search(r"between two lines (=+\w*=+)", system).group(1)
    text, *behind_control = CONTROL.split(user)
    parts, stray, title, inside = {}, list(behind_control), None, False
    for line in text.split("\n"):
        if line == fence:
            inside = not inside
            if inside:
                parts[title] = []
        elif inside:
            parts[title].append(line)
        elif line.rstrip(":") in TITLES and line.endswith(":"):
            title = line.rstrip(":")
        elif line.strip():
            stray.append(line)
    return {name: "\n".join(lines) for name, lines in parts.items()}, "\n".join(stray)


def listed(system: str, discussion: str) -> list[str]:
    """The sentences that make the list that is asked for; all of them where none is of the kind."""
    sentences = [sentence for sentence in SENTENCE.split(discussion) if words(sentence)]
    kind = r"\b(?:so|since|because|therefore|hence)\b" if "steps of the" in system else r"\d|\bshows?\b"
    if "lose its substance" not in system:
        sentences = [sentence for sentence in sentences if re.search(kind, sentence, re.I)] or sentences
    return sentences[:10]


def found(item: str, answer: str) -> bool:
    """Whether at least four in five words of an item are in an answer."""
    wanted = words(item)
    return len(wanted & words(answer)) >= 0.8 * len(wanted)


def grade(known: str, answer: str) -> int:
    """A grade of 1 to 10: the share of what is known that an answer says."""
    return 1 + round(9 * len(words(known) & words(answer)) / max(1, len(words(known))))


def words(text: str) -> set[str]:
    """The words of a text that say something."""
    return set(re.findall(r"\w+", text.casefold())) - COMMON
