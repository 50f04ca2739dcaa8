"""What a reply must be. The fields' order is the order in which a model writes them: first what is seen, then what is
asked about it."""

from pydantic import BaseModel, ConfigDict, Field


class _Reply(BaseModel):
    """Strict: no further fields, no numbers as texts."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Pair(_Reply):
    """A question and its answer."""

    question: str
    answer: str


class Pairs(_Reply):
    """Questions with their answers. None at all is a valid reply: the material may hold nothing to ask about."""

    pairs: list[Pair]


class ImageDescription(_Reply):
    """The description of one image; `image` is its number in the request, counted from 1."""

    image: int = Field(ge=1)
    description: str


class ReformattedCaptions(_Reply):
    """One description for each image that has a caption."""

    images: list[ImageDescription]


class Report(_Reply):
    """A report without questions."""

    report: str


class ReportAndPairs(_Reply):
    """A report, then questions with their answers."""

    report: str
    pairs: list[Pair]


class DescriptionAndPairs(_Reply):
    """A description, then questions with their answers."""

    description: str
    pairs: list[Pair]


class DescribedDialogue(_Reply):
    """A description, then one exchange between the people of a scenario."""

    description: str
    question: str
    answer: str


class Conversation(_Reply):
    """A conversation of several exchanges about the same images."""

    turns: list[Pair]
