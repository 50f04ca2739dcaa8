"""Schemas as servers take them, and replies as they come."""

import enum
import json
import time
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from semihv_hf.llm.structured import (
    ReplyFormats,
    asked_again,
    last_json_object,
    parse_reply,
    strict_format,
    strict_schema,
    with_schema_in_words,
)


class Side(enum.Enum):
    left = "left"
    right = "right"


class Finding(BaseModel):
    title: str = Field(description="what is seen", min_length=1)
    side: Side | None = None


class Report(BaseModel):
    findings: list[Finding]
    main: Finding = Field(description="the one that matters")
    grade: int | Literal["none"] = "none"


class Tree(BaseModel):
    name: str
    parts: list["Tree"] = []


class Free(BaseModel):
    counts: dict[str, int]


def nodes(value):
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def test_a_strict_schema_is_closed_complete_and_without_references():
    schema = strict_schema(Report)
    objects = [node for node in nodes(schema) if node.get("type") == "object"]
    assert len(objects) == 3
    for node in objects:
        assert node["additionalProperties"] is False and node["required"] == list(node["properties"])
    text = json.dumps(schema)
    assert "$ref" not in text and "$defs" not in text and "default" not in text and "minLength" not in text
    assert "title" in schema["properties"]["main"]["properties"], "a field called title is a field"
    assert schema["properties"]["main"]["description"] == "the one that matters"
    assert {"enum": ["left", "right"], "type": "string"} in list(nodes(schema))


def test_a_shape_that_contains_itself_keeps_its_reference():
    schema = strict_schema(Tree)
    assert schema["$defs"]["Tree"]["properties"]["parts"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["required"] == ["name", "parts"]


def test_free_keys_are_not_asked_for_strictly():
    assert strict_format(Free)["json_schema"]["strict"] is False
    assert strict_format(Report)["json_schema"] == {"name": "Report", "strict": True, "schema": strict_schema(Report)}


def test_the_demand_in_words_keeps_the_conversation():
    system = {"role": "system", "content": "You judge."}
    user = {"role": "user", "content": "case"}
    first, second = with_schema_in_words([system, user], Report)
    assert first["content"].startswith("You judge.\n\n") and "findings" in first["content"] and second is user
    assert system["content"] == "You judge."
    assert [message["role"] for message in with_schema_in_words([user], Report)] == ["system", "user"]


def test_a_reply_of_the_wrong_shape_is_asked_for_again_with_the_shape_itself():
    user = {"role": "user", "content": "case"}
    asked = asked_again([user], "Prose. " * 2000, "findings: Field required", Report)
    assert asked[0] is user and [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert len(asked[1]["content"]) < 5000 and "findings: Field required" in asked[2]["content"]
    assert json.loads(asked[2]["content"].partition("\n")[2]) == strict_schema(Report)


def test_only_a_refusal_of_the_format_steps_down_and_only_once_for_calls_that_were_open_together():
    formats = ReplyFormats()
    assert not formats.refused("json_schema", 400, "the prompt is too long")
    assert not formats.refused("json_schema", 500, "response_format")
    assert formats.refused("json_schema", 400, "response_format is not supported")
    assert formats.refused("json_schema", 422, "json_schema: unknown")
    assert formats.mode == "json_object"
    assert formats.refused("json_object", 400, "'json_object' unknown") and formats.mode == "text"
    assert not formats.refused("text", 400, "response_format")


GOOD = '{"counts": {"a": 1}}'


@pytest.mark.parametrize("text", [GOOD, f" {GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```"])
def test_a_whole_reply_is_read(text):
    assert parse_reply(text, Free, "json_schema").counts == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ["", "no", GOOD[:-2], f"{GOOD} {GOOD}", f"Sure: {GOOD}", "[]", "null", '{"counts": {"a": "x"}}', "[" * 9999],
)
def test_what_is_not_exactly_the_shape_is_refused_without_being_quoted(text):
    with pytest.raises(ValueError, match=".") as caught:
        parse_reply(text, Free, "json_schema")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 and "Sure" not in str(caught.value)


def test_in_plain_text_the_last_object_counts_and_no_earlier_one_stands_in_for_it():
    assert parse_reply(f'{{"counts": {{"a": 9}}}} no, rather {GOOD}. Done.', Free, "text").counts == {"a": 1}
    with pytest.raises(ValueError, match="counts"):
        parse_reply(f'{GOOD} and {{"other": 1}}', Free, "text")
    with pytest.raises(ValueError, match="no JSON object"):
        parse_reply("I cannot say {", Free, "text")


@given(st.text(alphabet='{}[]":,a1\\ \n', max_size=80))
def test_looking_for_an_object_never_fails_and_gives_json(text):
    found = last_json_object(text)
    assert found is None or isinstance(json.loads(found), dict)


def test_a_reply_made_of_braces_holds_no_object_and_costs_no_seconds():
    for text in ("{" * 100_000, '{"a":' * 20_000 + GOOD, "{} " * 30_000):
        begun = time.process_time()
        assert last_json_object(text) is None
        assert time.process_time() - begun < 2
