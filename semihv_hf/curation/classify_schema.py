"""What the model must reply when it classifies: one shape for each set of labels that may be asked for.

The JSON schemas name every class, so that a server which enforces schemas can answer nothing else. From a server
that does not, the known other spellings of a class are read, too.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES, OTHER, body_part_of, modality_of, topic_of
from semihv_hf.data.schema import LABELS
from semihv_hf.errors import SemiHVError

_LONGEST_KEYWORD = 80
_LINE = re.compile(r"(?im)^[\s>*#-]*(topic|modality|body[ _]part)s?[\s*]*:[\s*]*(.*?)[\s*]*$")


def _spelled(read: Callable[[str], str | None]) -> BeforeValidator:
    return BeforeValidator(lambda value: (read(value) or value) if isinstance(value, str) else value)


def _keywords(value: Any) -> Any:
    """At most three keywords as they are kept. A sentence is none, and fails the check that follows."""
    if isinstance(value, str):  # what a server gives that knows no lists
        value = [value]
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return value
    words = topic_of(",".join(value)).split(", ")
    if any(len(word) > _LONGEST_KEYWORD for word in words):
        raise ValueError(f"a keyword is longer than {_LONGEST_KEYWORD} characters")
    return words


class _Topic(BaseModel):
    topic: Annotated[list[str], BeforeValidator(_keywords)] = Field(
        description=f"one to three keywords, the weightiest first, or {OTHER!r} alone"
    )


class _Modality(BaseModel):
    modality: Annotated[Literal[MODALITIES], _spelled(modality_of)] = Field(description="what made the image")


class _BodyPart(BaseModel):
    body_part: Annotated[Literal[BODY_PARTS], _spelled(body_part_of)] = Field(description="what the image shows")


# The bases stand in reverse, since pydantic takes the fields of the last base first.
class ClassifyAll(_BodyPart, _Modality, _Topic):
    """Topic, modality and body part."""


class ClassifyTopicModality(_Modality, _Topic):
    """Topic and modality."""


class ClassifyTopicBodyPart(_BodyPart, _Topic):
    """Topic and body part."""


class ClassifyModalityBodyPart(_BodyPart, _Modality):
    """Modality and body part."""


class ClassifyTopic(_Topic):
    """The topic only."""


class ClassifyModality(_Modality):
    """The modality only."""


class ClassifyBodyPart(_BodyPart):
    """The body part only."""


# Classes with names of their own, not made on the fly: other processes must find them by name.
_SHAPES = {
    tuple(shape.model_fields): shape
    for shape in (
        ClassifyAll,
        ClassifyTopicModality,
        ClassifyTopicBodyPart,
        ClassifyModalityBodyPart,
        ClassifyTopic,
        ClassifyModality,
        ClassifyBodyPart,
    )
}


def reply_shape(names: Sequence[str]) -> type[BaseModel]:
    """The shape of a reply that gives these labels.

    Args:
        names (`Sequence[str]`): at least one of `LABELS`, in any order.

    Returns:
        `type[pydantic.BaseModel]`: with one field a label. A topic is a list of keywords.

    Raises:
        `SemiHVError`: none is named, or an unknown one.
    """
    shape = _SHAPES.get(tuple(name for name in LABELS if name in names))
    if shape is None or set(names) - set(LABELS):
        raise SemiHVError(f"No reply has the labels {list(names)!r}.", f"Known are: {', '.join(LABELS)}.")
    return shape


def read_lines(text: str, names: Sequence[str]) -> BaseModel:
    """Reads a reply of lines such as `modality: ct` as the shape that a schema would have brought.

    Args:
        text (`str`): the reply; one that is JSON after all is read as JSON.
        names (`Sequence[str]`): the labels that were asked for. Of one, a reply of a single line is its value.

    Returns:
        `pydantic.BaseModel`: see [`reply_shape`].

    Raises:
        `ValueError`: a label is missing, named twice with two values, or no class.
    """
    from semihv_hf.llm.structured import parse_reply

    shape = reply_shape(names)
    if text.lstrip().startswith(("{", "```")):
        return parse_reply(text, shape, "text")
    found: dict[str, str] = {}
    for name, value in _LINE.findall(text):
        name = name.lower().replace(" ", "_")
        if found.setdefault(name, value) != value:
            raise ValueError(f"it names two values of {name}")
    if not found and len(names) == 1 and len(text.strip().splitlines()) == 1:
        found = {names[0]: text.strip()}
    if missing := [name for name in names if not found.get(name)]:
        raise ValueError(f"it has no line {missing[0]}")
    return shape.model_validate({name: found[name] for name in names})


def value_of(reply: BaseModel, name: str) -> str:
    """A label's value in a reply.

    Args:
        reply (`pydantic.BaseModel`): of one of the shapes.
        name (`str`): the label.

    Returns:
        `str`: the class; for a topic the keywords with a comma and a blank between.
    """
    value = getattr(reply, name)
    return ", ".join(value) if isinstance(value, list) else value
