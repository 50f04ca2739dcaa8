"""Training records from the texts of a radiological teaching case: findings, discussion, captions, a question.

Shared by the collections of such cases. Every record rests on the case's own texts; rules only ask.
"""

from collections.abc import Iterator

from ..messages import message
from ..schema import Case, Provenance, QuestionTurn, Record, Text
from .choices import LETTER_AND_OPTION, options_of
from .conversations import DESCRIBE_IMAGE, PROMPT_VERSION, REPORT_FINDINGS, record_of, wording

CASE_VERSION = "teaching case wordings 1"
_DISCUSS = (
    "Discuss this case and give the final diagnosis.",
    "What is the diagnosis? Discuss the case.",
    "Explain this case: its background, its imaging appearance and the diagnosis.",
    "Write the discussion of this case, ending with the final diagnosis.",
)
_DIAGNOSE = (
    "What is the most likely diagnosis?",
    "Which of these diagnoses fits best?",
    "Choose the most likely diagnosis.",
)


def case_records(case: Case, captions: str) -> Iterator[Record]:
    """The records of a teaching case.

    Args:
        case ([`Case`]): with texts of the roles history, findings, discussion, diagnosis, caption, options and answer,
            as far as the source has them.
        captions (`str`): `"original"` or `"reformatted"`: which caption an image's record has where both exist.

    Yields:
        [`Record`]: of task `"report"` (history and images to findings), `"case"` (history and what the images show to
        discussion and diagnosis), `"multiple_choice"`, and `"caption"` for each image that has one.
    """
    shown = _chosen_captions(case, captions)
    findings = case.text("findings")
    if findings is not None:
        asked = _joined(_history(case), wording(case.id, REPORT_FINDINGS))
        yield _record(case, "report", asked, findings.text, findings.annotation)
    yield from _discussion(case, shown)
    yield from _question(case)
    for index, text in shown.items():
        yield record_of(
            case,
            "caption",
            [message("user", wording(f"{case.id}:{index}", DESCRIBE_IMAGE), 1), message("assistant", text.text)],
            ["rule", text.annotation],
            images=[case.images[index]],
            provenance=[Provenance("messages[0]", prompt_version=PROMPT_VERSION)],
        )


def _discussion(case: Case, shown: dict[int, Text]) -> Iterator[Record]:
    discussion, diagnosis = case.text("discussion"), case.text("diagnosis")
    if discussion is None:
        return
    seen = [f"Image {index + 1}: {text.text}" for index, text in shown.items()]
    findings = case.text("findings")
    if not seen and findings is not None:
        seen = [f"Imaging findings: {findings.text}"]
    asked = _joined(_history(case), "\n".join(seen), wording(f"{case.id}:discussion", _DISCUSS))
    answer = _joined(discussion.text, f"Final diagnosis: {diagnosis.text}" if diagnosis else "")
    yield _record(case, "case", asked, answer, discussion.annotation)


def _question(case: Case) -> Iterator[Record]:
    options, answer = case.text("options"), case.text("answer")
    if options is None or answer is None or len(options_of(options.text)) < 2:
        return
    asked = "\n".join([wording(f"{case.id}:question", _DIAGNOSE), options.text, LETTER_AND_OPTION])
    turn = QuestionTurn(0, "teaching case diagnosis", "closed", options.text.split("\n"), "answer", "stated answer")
    record = _record(case, "multiple_choice", _joined(_history(case), asked), answer.text, answer.annotation)
    record.questions = [turn]
    yield record


def _record(case: Case, task: str, asked: str, answer: str, annotation: str) -> Record:
    messages = [message("user", asked, len(case.images)), message("assistant", answer)]
    wrote = [Provenance("messages[0]", prompt_version=CASE_VERSION, evidence=["the case's own history and captions"])]
    return record_of(case, task, messages, ["rule", annotation], provenance=wrote)


def _chosen_captions(case: Case, captions: str) -> dict[int, Text]:
    """One caption for each image that has any, by image."""
    wanted = "machine" if captions == "reformatted" else "human"
    chosen: dict[int, Text] = {}
    for text in case.texts:
        if text.role == "caption" and text.image is not None:
            known = chosen.get(text.image)
            if known is None or (text.annotation == wanted and known.annotation != wanted):
                chosen[text.image] = text
    return dict(sorted(chosen.items()))


def _history(case: Case) -> str:
    history = case.text("history")
    return f"Clinical history: {history.text}" if history else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
