"""Small folders of records for the tests of reviews, and a real server that shows them."""

import io
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from PIL import Image

from semihv_hf.curation.review.app import review_app
from semihv_hf.data.columns import record_schema
from semihv_hf.data.messages import message
from semihv_hf.data.schema import Fact, Provenance, Record, content_id
from semihv_hf.data.shards import write_shards

TOKEN = "a-token-of-a-test"


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), (value % 256, 40, 90)).save(out, "PNG")
    return out.getvalue()


def record(number: int, answer: str, *, task: str = "report", turns: int = 1, question: str = "Describe.") -> Record:
    images = [png(number)]
    messages = []
    for turn in range(turns):
        messages.append(message("user", f"{question} ({turn})", 1 if turn == 0 else 0))
        messages.append(message("assistant", f"{answer} {turn}"))
    return Record(
        id=content_id(str(number), answer, question),
        case_id=f"case-{number}",
        source="pmc_vqa",
        source_id=f"v2/train/{number}",
        licence="CC-BY-SA-4.0",
        images=images,
        messages=messages,
        annotation=["rule", "machine"] * turns,
        task=task,
        modality="unknown",
        facts=[Fact("modality", "CT <b>scan</b>", "column")],
        provenance=[Provenance("messages[1]", model="a-model", prompt_version="report 1")],
    )


def write_folder(folder: Path, records: list[Record], split: str = "train") -> Path:
    write_shards([one.row() for one in records], folder / "data" / "instruction", split, record_schema())
    return folder


@contextmanager
def served(review, token: str = TOKEN):
    """A client of a real server, already let in and named."""
    config = uvicorn.Config(
        review_app(review.folders, review.items, review.decisions, token), port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def enter(client, name: str = "Dr A", token: str = TOKEN):
    client.get("/", params={"token": token})
    return client.post("/name", data={"reviewer": name})
