"""A chat-completions server that really marks: it lists the sentences of a reference and looks each up in an answer.

It speaks HTTP on the loopback interface, so the real client goes through a real socket. What it returns depends only
on the texts that it is sent; nothing is canned.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RubricServer:
    """Serves until the `with` block ends.

    Args:
        schemas (`bool`, *optional*, defaults to `True`): whether `json_schema` response formats are known; a
            server that does not know them answers 400.
        fault (`Callable`, *optional*): called with the number of the request and its body; what it returns replaces
            the answer: an HTTP status, or changed fields of the first choice.
    """

    def __init__(self, schemas: bool = True, fault=None):
        self.schemas = schemas
        self.fault = fault
        self.requests = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": json.dumps(mark(body["messages"][1]["content"]))},
            "finish_reason": "stop",
        }
        choice.update(fault or {})
        return 200, {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 0,
            "model": "rubric-server-1",
            "choices": [choice],
        }


def mark(text: str) -> dict:
    """Reads the fenced parts of a prompt, and lists or marks."""
    parts = dict(re.findall(r"^([A-Z' ]+):\n(=====[0-9a-f]{24}=====)\n(?:.*?)\n\2$", text, re.M | re.S))
    parts = {
        title: re.search(rf"^{title}:\n{fence}\n(.*?)\n{fence}$", text, re.M | re.S).group(1)
        for title, fence in parts.items()
    }
    if "REFERENCE DISCUSSION" in parts:
        sentences = re.split(r"(?<=[.!?])\s+", parts["REFERENCE DISCUSSION"])
        return {"items": [sentence for sentence in sentences if words(sentence)][:10]}
    items = re.findall(r"^\d+\. (.*)$", parts["MARKING LIST"], re.M)
    said = words(parts["STUDENT'S EXPLANATION"])
    return {"verdicts": [{"number": n, "hit": words(item) <= said} for n, item in enumerate(items, start=1)]}


def words(text: str) -> set[str]:
    """The words of a text."""
    return set(re.findall(r"\w+", text.casefold()))
