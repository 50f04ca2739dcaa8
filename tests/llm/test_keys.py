"""The content key: equal for what gets the same answer, different for everything else, and without a secret."""

import base64
import json
from dataclasses import replace

import pytest
from pydantic import BaseModel

from semihv_hf.llm.keys import content_key, request_summary
from semihv_hf.llm.types import ChatRequest, ServerSettings


class Verdict(BaseModel):
    score: int


class Other(BaseModel):
    score: float


def picture(data: bytes, detail: str = "high") -> dict:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def asked(data: bytes = b"pixels", text: str = "What is it?", detail: str = "high") -> list[dict]:
    return [{"role": "user", "content": [{"type": "text", "text": text}, picture(data, detail)]}]


SETTINGS = ServerSettings("https://llm.example.org/v1", "a-model")
REQUEST = ChatRequest("row 1", asked(), Verdict, "v1")


@pytest.mark.parametrize(
    ("settings", "request_"),
    [({"model": "b-model"}, {}), ({"base_url": "https://other.example.org/v1"}, {}), ({"temperature": 0.7}, {}),
     ({"seed": None}, {}), ({"max_tokens": 9}, {}), ({"extra": {"top_p": 0.5}}, {}), ({}, {"schema": Other}),
     ({}, {"schema": None}), ({}, {"prompt_version": "v2"}), ({}, {"repeat": 1}), ({}, {"messages": asked(b"others")}),
     ({}, {"messages": asked(text="What?")}), ({}, {"messages": asked(detail="low")}),
     ({}, {"messages": asked() + asked()})],
)  # fmt: skip
def test_what_can_change_an_answer_changes_the_key(settings, request_):
    assert content_key(replace(SETTINGS, **settings), replace(REQUEST, **request_)) != content_key(SETTINGS, REQUEST)


@pytest.mark.parametrize(
    ("settings", "request_"),
    [({"timeout": 3.0}, {}), ({"max_retries": 0}, {}), ({"max_concurrency": 1}, {}), ({"api_key_env": "OTHER"}, {}),
     ({"base_url": "https://user:secret@llm.example.org/v1?key=secret"}, {}), ({}, {"id": "row 2"}),
     ({}, {"sources": ("eurorad",)})],
)  # fmt: skip
def test_what_cannot_change_an_answer_leaves_the_key_alone(settings, request_):
    assert content_key(replace(SETTINGS, **settings), replace(REQUEST, **request_)) == content_key(SETTINGS, REQUEST)


def test_the_key_is_the_same_in_every_process_and_the_order_of_fields_does_not_matter(run_python):
    code = (
        "from semihv_hf.llm.keys import content_key; from semihv_hf.llm.types import ChatRequest, ServerSettings;"
        "print(content_key(ServerSettings('http://127.0.0.1:1/v1', 'm', extra={'b': 1, 'a': 2}),"
        " ChatRequest('r', [{'content': 'é \\ud800', 'role': 'user'}])))"
    )
    settings = ServerSettings("http://127.0.0.1:1/v1", "m", extra={"a": 2, "b": 1})
    here = content_key(settings, ChatRequest("x", [{"role": "user", "content": "é \ud800"}]))
    assert run_python(code).stdout.strip() == here


def test_a_summary_holds_hashes_and_names_but_no_text_no_pixel_and_no_secret():
    settings = replace(SETTINGS, base_url="https://user:secret@llm.example.org/v1?key=secret")
    request = replace(REQUEST, messages=asked(b"pixels" * 50, "Name: Jane Doe"), sources=("eurorad",))
    text = json.dumps(request_summary(settings, request))
    for hidden in ("secret", "Jane", "base64", base64.b64encode(b"pixels" * 50).decode()[:40]):
        assert hidden not in text
    summary = json.loads(text)
    assert summary["base_url"] == "https://llm.example.org/v1" and summary["schema"] == "Verdict"
    assert summary["sources"] == ["eurorad"] and len(summary["images_sha256"][0]) == 64


def test_a_data_uri_that_is_no_base64_still_has_a_key_of_its_own():
    one = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}]}]
    two = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}]}]
    assert content_key(SETTINGS, replace(REQUEST, messages=one)) != content_key(
        SETTINGS, replace(REQUEST, messages=two)
    )
