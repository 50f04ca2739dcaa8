"""What adapters share to turn the texts of a case into training records, and the questions that ask for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import count_images, message_text
from ..schema import ANNOTATIONS, TASKS, Case, Provenance, QuestionTurn, Record, content_id

# Named in the provenance of every record whose question is from the pools below; raised when one of them changes.
PROMPT_VERSION = "source question wordings 1"

DESCRIBE_IMAGE = (
    "Describe this image.",
    "What does this image show?",
    "Give a description of the image.",
    "What can be seen in this image?",
    "Summarise what is visible here.",
    "Explain what this picture shows.",
    "Write a caption for this image.",
    "Please describe what you see.",
)
DESCRIBE_IMAGES = (
    "Describe these images.",
    "What do these images show?",
    "Give a description of the images.",
    "What can be seen in these images?",
    "Summarise what is visible in this series of images.",
    "Explain what these pictures show together.",
    "Write a caption that covers all of these images.",
    "Please describe what you see in the images.",
)
REPORT_FINDINGS = (
    "Report the findings of this study.",
    "Write the findings section of the report.",
    "What are the findings?",
    "Which findings does this study show?",
    "Dictate the findings for the report.",
    "List what is found on this examination.",
    "Please report what this examination shows.",
    "Describe the findings as in a report.",
)


def wording(case_id: str, wordings: Sequence[str]) -> str:
    """One of several ways to ask the same thing, the same one for a case on every machine and in every run.

    Args:
        case_id (`str`): the case; append what tells questions apart where a case asks several.
        wordings (`Sequence[str]`): the ways to ask, at least one.

    Returns:
        `str`: one of them; over many cases each is taken equally often.

    Raises:
        `ValueError`: there is no wording.
    """
    if not wordings:
        raise ValueError("there is no wording to choose from")
    return wordings[int(content_id("wording", case_id), 16) % len(wordings)]


def record_of(
    case: Case,
    task: str,
    messages: Sequence[Mapping[str, Any]],
    annotation: Sequence[str],
    *,
    images: Sequence[bytes] | None = None,
    questions: Sequence[QuestionTurn] = (),
    provenance: Sequence[Provenance] = (),
) -> Record:
    """A training record about a case.

    Args:
        case ([`Case`]): the case, which gives source, licence and facts.
        task (`str`): one of `TASKS`.
        messages (`Sequence[Mapping]`): the conversation, see [`semihv_hf.data.messages.message`].
        annotation (`Sequence[str]`): who wrote each message, one of `ANNOTATIONS` each.
        images (`Sequence[bytes]`, *optional*): the images that the messages show, in their order; all images of the
            case by default.
        questions (`Sequence[QuestionTurn]`, *optional*): what is known about questions.
        provenance (`Sequence[Provenance]`, *optional*): how messages were made.

    Returns:
        [`Record`]: its id depends on case, task, texts and, where `images` is given, on those; its modality is the
        case's fact, or `"unknown"`.

    Raises:
        `ValueError`: the task or a writer is unknown, a message has none or too many writers, or the image parts of
            the messages are not as many as the images. Each is a mistake of the caller, not of the data.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is not one of {', '.join(TASKS)}")
    if len(annotation) != len(messages) or not set(annotation) <= set(ANNOTATIONS):
        raise ValueError(f"{len(messages)} messages need as many of {', '.join(ANNOTATIONS)}, not {list(annotation)}")
    shown = list(case.images if images is None else images)
    if count_images(messages) != len(shown):
        raise ValueError(f"the messages show {count_images(messages)} images, but there are {len(shown)}")
    modality = case.fact("modality")
    own_images = () if images is None else shown
    return Record(
        id=content_id(case.id, task, *map(message_text, messages), *own_images),
        case_id=case.id,
        source=case.source,
        source_id=case.source_id,
        licence=case.licence,
        images=shown,
        messages=[dict(item) for item in messages],
        annotation=list(annotation),
        task=task,
        modality=modality.value if modality else "unknown",
        facts=list(case.facts),
        questions=list(questions),
        provenance=list(provenance),
    )
