"""A server with files and batches that really does the work: each answer is made from the request's own messages.

It speaks HTTP on the loopback interface. A batch moves on by one state whenever somebody looks at it. It counts how
often each request was worked on, so that a test can tell whether anything was submitted twice.
"""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from openai import OpenAI

from semihv_hf.llm.batch import BatchRunner
from semihv_hf.llm.budget import Budget
from semihv_hf.llm.cache import ResponseCache
from semihv_hf.llm.types import ChatRequest, ServerSettings

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["openai", "semihv_hf.llm.batch", "semihv_hf.llm.replies"])
STATES = ("validating", "in_progress", "finalizing")
MODEL = "double-1"
PRICES = {MODEL: {"input": 10.0, "output": 100.0}}


class BatchDouble:
    """Serves until the `with` block ends.

    Args:
        fate (`Callable`, *optional*): `(number of the batch, its requests)` to how it ends: `"completed"` or a pair of
            a status and the number of requests that are still answered.
        answer (`Callable`, *optional*): `(request line)` to `None` for an ordinary answer, else the `response` and
            the `error` of its line.
        page (`int`, *optional*, defaults to 2): how many files or batches a list shows at a time.
    """

    def __init__(self, fate=None, answer=None, page: int = 2):
        self.fate = fate or (lambda number, lines: "completed")
        self.answer = answer or (lambda line: None)
        self.page = page
        self.files: dict[str, dict] = {}
        self.batches: dict[str, dict] = {}
        self.work: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.log: list[str] = []
        self.kill = None  # (number of the request, "before" or "after"), then the process to kill
        self.victim = None
        self.drop = None  # the same: the connection is cut instead
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, else each answer waits for an acknowledgement

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with outer._lock:
                    outer.log.append(f"{self.command} {urlsplit(self.path).path}")
                    number = len(outer.log)
                    if outer.hit(number, "before", self):
                        return
                    status, content = outer.serve(self.command, self.path, self.headers, body)
                    if outer.hit(number, "after", self):
                        return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = handle_one

            def log_message(self, *arguments):
                """Keeps the test output readable."""

        return Handler

    def hit(self, number: int, moment: str, handler) -> bool:
        """Kills the client or cuts its connection, if that is what was asked for."""
        if self.kill == (number, moment):
            os.kill(self.victim, signal.SIGKILL)
        elif self.drop != (number, moment):
            return False
        handler.close_connection = True
        return True

    def serve(self, method: str, path: str, headers, body: bytes) -> tuple[int, bytes]:
        """Answers one request."""
        parts = urlsplit(path)
        steps = parts.path.removeprefix("/v1/").split("/")
        if method == "POST" and steps == ["files"]:
            return self._json(self._upload(headers, body))
        if method == "POST" and steps == ["batches"]:
            return self._create(json.loads(body))
        kind = {"files": self.files, "batches": self.batches}[steps[0]]
        if len(steps) == 1:
            return self._json(self._listed(list(kind.values()), parse_qs(parts.query)))
        if steps[1] not in kind:
            return 404, json.dumps({"error": {"message": f"No such {steps[0]}: {steps[1]}"}}).encode()
        found = kind[steps[1]]
        if method == "DELETE":
            del kind[steps[1]]
            return self._json({"id": steps[1], "object": "file", "deleted": True})
        if steps[2:] == ["content"]:
            return 200, found["content"]
        if steps[0] == "batches":
            self._advance(found)
        return self._json(found)

    def _json(self, value: dict) -> tuple[int, bytes]:
        return 200, json.dumps({name: entry for name, entry in value.items() if name not in ("content", "n")}).encode()

    def _listed(self, rows: list[dict], query: dict) -> dict:
        rows = rows[::-1]  # newest first
        after = query.get("after", [None])[0]
        ids = [row["id"] for row in rows]
        start = ids.index(after) + 1 if after else 0
        shown = [
            {k: v for k, v in row.items() if k not in ("content", "n")} for row in rows[start : start + self.page]
        ]
        more = start + self.page < len(rows)
        return {
            "object": "list",
            "data": shown,
            "has_more": more,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
        }

    def _upload(self, headers, body: bytes) -> dict:
        boundary = re.search("boundary=(.+)", headers["Content-Type"]).group(1).strip('"').encode()
        for section in body.split(b"--" + boundary):
            head, _, content = section.partition(b"\r\n\r\n")
            if named := re.search(rb'filename="([^"]+)"', head):
                self.uploads[named.group(1).decode()] += 1
                return self._file(named.group(1).decode(), content.removesuffix(b"\r\n"), "batch")
        raise AssertionError("no file in the upload")

    def _file(self, name: str, content: bytes, purpose: str) -> dict:
        number = len(self.files) + sum(self.uploads.values()) + 1000
        file = {"id": f"file-{number}-{len(content)}", "object": "file", "filename": name, "bytes": len(content)}
        self.files[file["id"]] = {
            **file, "created_at": 0, "purpose": purpose, "status": "processed", "content": content
        }  # fmt: skip
        return self.files[file["id"]]

    def _create(self, asked: dict) -> tuple[int, bytes]:
        if asked["input_file_id"] not in self.files:
            return 400, json.dumps({"error": {"message": "No such input file"}}).encode()
        number = len(self.batches) + 1
        batch = {
            **asked, "id": f"batch-{number}", "object": "batch", "created_at": 0, "status": "validating", "n": number,
            "output_file_id": None, "error_file_id": None, "errors": None,
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return self._json(batch)

    def _advance(self, batch: dict) -> None:
        if batch["status"] not in STATES:
            return
        place = STATES.index(batch["status"])
        if place + 1 < len(STATES):
            batch["status"] = STATES[place + 1]
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]]["content"].splitlines()]
        fate = self.fate(batch["n"], lines)
        batch["status"], answered = fate if isinstance(fate, tuple) else (fate, len(lines))
        if batch["status"] == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "too much"}]}
            return
        done, wrong = [], []
        for number, line in enumerate(lines):
            self.work[line["custom_id"]] += number < answered
            row = self._result(line) if number < answered else self._not_done(line, batch["status"])
            (done if row["error"] is None and row["response"]["status_code"] == 200 else wrong).append(row)
        # Not in the order of the requests, as the real one.
        done.sort(key=lambda row: hashlib.md5(row["custom_id"].encode()).hexdigest())
        for rows, name in ((done, "output_file_id"), (wrong, "error_file_id")):
            if rows:
                content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
                batch[name] = self._file(f"{batch['id']}_{name}.jsonl", content, "batch_output")["id"]

    def _result(self, line: dict) -> dict:
        made = self.answer(line)
        response, error = made if made is not None else ({"status_code": 200, "body": complete(line["body"])}, None)
        return {"id": "r", "custom_id": line["custom_id"], "response": response, "error": error}

    def _not_done(self, line: dict, status: str) -> dict:
        code = f"batch_{status}"
        error = {"code": code, "message": f"This request could not be executed: {code}"}
        return {"id": "r", "custom_id": line["custom_id"], "response": None, "error": error}


def complete(body: dict) -> dict:
    """A completion that is made from the messages."""
    said = json.dumps(body["messages"])
    text = f"{len(said)} characters, {hashlib.sha256(said.encode()).hexdigest()[:12]}"
    if "response_format" in body:
        text = json.dumps({"verdict": text, "score": len(said) % 6})
    usage = {"prompt_tokens": len(said) // 4, "completion_tokens": 7, "total_tokens": len(said) // 4 + 7}
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": f"{body['model']}-2026", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip


def questions(count: int, schema=None, sources=()) -> list[ChatRequest]:
    """Requests that differ."""
    return [
        ChatRequest(
            f"row {n}", [{"role": "user", "content": f"Question {n}: is this axial?"}], schema, sources=sources
        )
        for n in range(count)
    ]


def settings_for(double: BatchDouble) -> ServerSettings:
    """The settings of the double."""
    return ServerSettings(double.base_url, MODEL)


def runner_for(base_url: str, folder, cache, **options) -> BatchRunner:
    """A runner that does not wait, with a real client."""
    client = OpenAI(
        base_url=base_url,
        api_key="-".join(("sk", "secret", "of", "the", "test")),
        max_retries=options.pop("retries", 2),
    )
    options = {"poll": (0.0, 0.0), "sleep": lambda seconds: None, "most_requests": 4, **options}
    return BatchRunner(ServerSettings(base_url, MODEL), cache, folder, client=client, **options)


def run_job(base_url: str, folder, cache_folder, count: int) -> None:
    """The process that is killed."""
    with ResponseCache(cache_folder) as cache:
        runner_for(base_url, folder, cache, budget=Budget(5.0, PRICES)).run(questions(count))
