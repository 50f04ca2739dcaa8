"""What test servers on the loopback interface share: JSON in and out over HTTP, in a thread of its own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JsonServer:
    """Serves until the `with` block ends. A subclass says in `_reply` what a request gets."""

    def __init__(self):
        self.bodies: list[dict] = []
        self._lock = threading.Lock()

    def _reply(self, body: dict) -> tuple[int, dict]:
        """The status and the content for a request."""
        raise NotImplementedError

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                status, content = outer._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                """Says nothing on the console."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def failed() -> dict:
    """The content of a reply with a status that says that something went wrong."""
    return {"error": {"message": "made to fail", "type": "server_error", "param": None, "code": None}}


def completion(body: dict, message: dict, reason: str = "stop") -> dict:
    """The content of a reply: what the assistant says, and why it ended."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": f"{body['model']}-0001",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
