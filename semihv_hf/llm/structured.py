"""Replies of a given shape: asked for by a strict schema, by a JSON mode, or in words, and always validated here."""

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from semihv_hf.files import canonical_json

if TYPE_CHECKING:
    from pydantic import BaseModel

logger = logging.getLogger(__name__)

# From the strictest to what every server knows.
MODES = ("json_schema", "json_object", "text")
_REFUSALS = re.compile(r"(?i)response_?format|json[_ ]?schema|json[_ ]?object|structured|guided|grammar")
_NOT_SENT = ("default", "discriminator", "examples", "maxLength", "minLength", "title", "uniqueItems")
# A reply in prose is searched no further than this, so that one made of braces costs no seconds.
_LONGEST = 20_000
_MOST_TRIES = 1_000
_ECHO = 4_000


class ReplyFormats:
    """How one server is asked for replies of a given shape. What it once refused it is not asked again."""

    def __init__(self):
        self.mode = MODES[0]
        self._formats: dict[type, dict] = {}

    def request(self, messages: list[dict], schema: "type[BaseModel] | None") -> tuple[list[dict], dict | None]:
        """What to send.

        Args:
            messages (`list[dict]`): the conversation.
            schema (`type[pydantic.BaseModel]`, *optional*): the wanted shape.

        Returns:
            `tuple[list[dict], dict | None]`: the messages, with the schema in words where the server wants it so, and
            the `response_format`.
        """
        if schema is None:
            return messages, None
        if self.mode == "json_schema":
            if schema not in self._formats:
                self._formats[schema] = strict_format(schema)
            return messages, self._formats[schema]
        wanted = {"type": "json_object"} if self.mode == "json_object" else None
        return with_schema_in_words(messages, schema), wanted

    def refused(self, mode: str, status: int | None, detail: str) -> bool:
        """Steps down when the server said that it does not know a format.

        Args:
            mode (`str`): the mode of the call.
            status (`int`, *optional*): of the response.
            detail (`str`): what the server said.

        Returns:
            `bool`: whether the call should be made again with the mode that is now set.
        """
        if mode == MODES[-1] or status not in (400, 404, 422) or not _REFUSALS.search(detail):
            return False
        if mode == self.mode:  # of several calls that were open together only the first one steps
            self.mode = MODES[MODES.index(mode) + 1]
            logger.warning("The server refuses the response format %s; going on with %s.", mode, self.mode)
        return True


def strict_format(schema: "type[BaseModel]") -> dict:
    """The `response_format` of a strict schema.

    Args:
        schema (`type[pydantic.BaseModel]`): the shape.

    Returns:
        `dict`: of type `json_schema`; `strict` unless the shape has free keys, which strict schemas cannot say.
    """
    body = strict_schema(schema)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", schema.__name__).strip("_")[:64] or "reply"
    strict = not _has_free_keys(body)
    return {"type": "json_schema", "json_schema": {"name": name, "strict": strict, "schema": body}}


def strict_schema(schema: "type[BaseModel]") -> dict[str, Any]:
    """A JSON schema in the subset that servers take as strict: closed objects, every field required, no references.

    Args:
        schema (`type[pydantic.BaseModel]`): the shape.

    Returns:
        `dict`: the schema. References are put in place unless the shape contains itself; lengths of texts and defaults
        are left out, since not every server knows them; they are validated on the reply.
    """
    whole = schema.model_json_schema()
    definitions = whole.pop("$defs", {})
    endless = {name for name in definitions if _reaches(name, name, definitions)}
    result = _strict(whole, definitions, endless)
    if endless and "$ref" in canonical_json(result):
        result["$defs"] = {name: _strict(definitions[name], definitions, endless) for name in sorted(endless)}
    return result


def _strict(node: Any, definitions: dict, endless: set[str]) -> Any:
    if not isinstance(node, dict):
        return node
    name = node.get("$ref", "").rpartition("/")[2]
    if name:
        if name in endless:
            return {"$ref": node["$ref"]}
        return _strict({**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}, definitions, endless)
    if len(node.get("allOf", ())) == 1:
        return _strict({**node["allOf"][0], **{k: v for k, v in node.items() if k != "allOf"}}, definitions, endless)
    result = {}
    for key, value in node.items():
        if key in _NOT_SENT:
            continue
        if key == "properties":
            result[key] = {field: _strict(inner, definitions, endless) for field, inner in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            result["anyOf" if key == "oneOf" else key] = [_strict(inner, definitions, endless) for inner in value]
        else:
            result[key] = _strict(value, definitions, endless) if key in ("items", "additionalProperties") else value
    if "properties" in result:
        result["required"] = list(result["properties"])
        result["additionalProperties"] = False
    return result


def _reaches(start: str, goal: str, definitions: dict) -> bool:
    seen, todo = set(), [start]
    while todo:
        for name in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(definitions[todo.pop()])):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return False


def _has_free_keys(node: Any) -> bool:
    if isinstance(node, list):
        return any(_has_free_keys(inner) for inner in node)
    if not isinstance(node, dict):
        return False
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        return True
    return any(_has_free_keys(inner) for inner in node.values())


def with_schema_in_words(messages: list[dict], schema: "type[BaseModel]") -> list[dict]:
    """Puts the schema into the system message.

    Args:
        messages (`list[dict]`): the conversation; it is not changed.
        schema (`type[pydantic.BaseModel]`): the shape.

    Returns:
        `list[dict]`: the conversation with the demand at the end of its system message, or with a new one.
    """
    demand = f"Reply with one JSON object of this JSON schema, and with nothing else:\n{_in_words(schema)}"
    if messages and messages[0]["role"] in ("system", "developer"):
        first = messages[0]
        told = first["content"]
        joined = f"{told}\n\n{demand}" if isinstance(told, str) else [*told, {"type": "text", "text": demand}]
        return [{**first, "content": joined}, *messages[1:]]
    return [{"role": "system", "content": demand}, *messages]


def _in_words(schema: "type[BaseModel]") -> str:
    return canonical_json(strict_schema(schema))


def asked_again(messages: list[dict], reply: str, problem: str, schema: "type[BaseModel]") -> list[dict]:
    """The conversation that asks once more after a reply of the wrong shape.

    It shows the schema: some servers (`transformers serve` is one) take a `response_format` and pass over it, so that
    the model has not been told the shape yet.

    Args:
        messages (`list[dict]`): the conversation so far.
        reply (`str`): the reply, of which the beginning is shown.
        problem (`str`): what is wrong with it.
        schema (`type[pydantic.BaseModel]`): the wanted shape.

    Returns:
        `list[dict]`: with the reply and the demand as two further turns.
    """
    demand = (
        f"That does not fit the JSON schema ({problem}). Reply again, with the corrected JSON object only. "
        f"The schema:\n{_in_words(schema)}"
    )
    return [*messages, {"role": "assistant", "content": reply[:_ECHO]}, {"role": "user", "content": demand}]


def parse_reply(text: str, schema: "type[BaseModel]", mode: str) -> "BaseModel":
    """Reads a reply as a shape.

    Args:
        text (`str`): the reply.
        schema (`type[pydantic.BaseModel]`): the shape.
        mode (`str`): one of `MODES`. In `"text"` the last JSON object of the reply counts, otherwise the whole reply.

    Returns:
        `pydantic.BaseModel`: the reply.

    Raises:
        `ValueError`: the reply does not have the shape; the message says why in one line, without quoting the reply.
    """
    from pydantic import ValidationError

    body = _without_fence(text)
    if mode == "text":
        body = last_json_object(text)
        if body is None:
            raise ValueError("it holds no JSON object")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


def _without_fence(text: str) -> str:
    match = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", text, re.S | re.I)
    return match.group(1) if match else text.strip()


def last_json_object(text: str) -> str | None:
    """Finds the last JSON object that is not inside another one.

    Args:
        text (`str`): prose with JSON in it; of a very long one the end is searched.

    Returns:
        `str | None`: the object as it stands in the text; `None` also where too much looks like the begin of one.
    """
    text = text[-_LONGEST:]
    decoder, found, start = json.JSONDecoder(), None, text.find("{")
    for _ in range(_MOST_TRIES):
        if start == -1:
            return found
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found = text[start:end]
        start = text.find("{", end)
    return None
