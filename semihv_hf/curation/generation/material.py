"""What a case gives to a prompt: which of its texts and facts, and which of its images."""

from __future__ import annotations

import re

from semihv_hf.curation.stated import ABOUT_ONE, stated_lines
from semihv_hf.data.schema import Case, Text

# Not texts about the image: stored conversations, and the parts of somebody's examination question.
_NOT_SHOWN = ("conversation", "options", "answer", "question", "labels", "figure_label", "reference", "references")
# The name of each role for the reader of the prompt; others are shown by their own name.
_TITLES = {
    "caption": "Caption",
    "caption_title": "Title of the figure",
    "diagnosis": "Diagnosis",
    "discussion": "Discussion",
    "findings": "Imaging findings",
    "history": "Clinical history",
    "mention": "Sentence of the article about the figure",
    "report": "Report",
    "roi": "Words spoken while the region was pointed at",
}
_PLAIN_ROLE = re.compile(r"[a-z]{2,20}(?:[_ ][a-z]{2,20})?")


def title_of(text: Text) -> str:
    """How a prompt announces a text.

    Args:
        text ([`Text`]): the text.

    Returns:
        `str`: without a colon.
    """
    # A role may come from a stranger's file, and a title stands outside the fence.
    plain = text.role.replace("_", " ").capitalize() if _PLAIN_ROLE.fullmatch(text.role) else "Text"
    named = _TITLES.get(text.role, plain)
    return named if text.image is None else f"{named} of image {text.image + 1}"


def case_texts(case: Case, language: str) -> list[Text]:
    """The texts about a case in a language. Where a person and a machine wrote the same kind of text about the same
    image, only the person's count.

    Args:
        case ([`Case`]): the case.
        language (`str`): ISO 639-1 code.

    Returns:
        `list[Text]`: in the order of the case.
    """
    texts = [text for text in case.texts if text.language == language and text.role not in _NOT_SHOWN]
    human = {(text.role, text.image) for text in texts if text.annotation in ("human", "human_edit")}
    return [
        text
        for text in texts
        if text.text.strip() and (text.annotation in ("human", "human_edit") or (text.role, text.image) not in human)
    ]


def foreign_texts(case: Case, language: str) -> list[Text]:
    """The reports and notes that people wrote in another language.

    Args:
        case ([`Case`]): the case.
        language (`str`): ISO 639-1 code of the language that is wanted.

    Returns:
        `list[Text]`: in the order of the case.
    """
    return [
        text
        for text in case.texts
        if text.language != language
        and text.role not in _NOT_SHOWN
        and text.annotation != "machine"
        and text.text.strip()
    ]


def captioned_images(case: Case, language: str) -> dict[int, list[Text]]:
    """The images that a person captioned.

    Args:
        case ([`Case`]): the case.
        language (`str`): ISO 639-1 code.

    Returns:
        `dict[int, list[Text]]`: captions by the index of the image. A caption about the case belongs to its image
        where it has a single one.
    """
    found: dict[int, list[Text]] = {}
    for text in case_texts(case, language):
        index = 0 if text.image is None and len(case.images) == 1 else text.image
        if text.role == "caption" and index is not None and text.annotation in ("human", "human_edit"):
            found.setdefault(index, []).append(text)
    return dict(sorted(found.items()))


def stated_facts(case: Case) -> list[str]:
    """What the files state about what is seen, and what it was classified as.

    Args:
        case ([`Case`]): the case.

    Returns:
        `list[str]`: lines such as `"modality: CT"`, each once.
    """
    lines = stated_lines(((fact.name, fact.value) for fact in case.facts), ABOUT_ONE)
    stated = {fact.name for fact in case.facts}
    lines += [f"{label.name.replace('_', ' ')}: {label.value}" for label in case.labels if label.name not in stated]
    return list(dict.fromkeys(lines))


def shown_images(task: str, case: Case, language: str, most: int) -> list[int]:
    """Which images of a case a request shows.

    Args:
        task (`str`): the task; caption reformatting shows images that have captions.
        case ([`Case`]): the case.
        language (`str`): of the captions.
        most (`int`): how many at most.

    Returns:
        `list[int]`: ascending indices; of too many, some that are spread evenly, the first and the last among them.
    """
    indices = list(captioned_images(case, language)) if task == "caption_reformat" else list(range(len(case.images)))
    if len(indices) <= most:
        return indices
    if most == 1:
        return [indices[len(indices) // 2]]
    return sorted({indices[round(step * (len(indices) - 1) / (most - 1))] for step in range(most)})


def modality_of_case(case: Case) -> str:
    """The modality by which tables count.

    Args:
        case ([`Case`]): the case.

    Returns:
        `str`: what it was classified as, else what its files state, else `"unknown"`.
    """
    found = case.label("modality") or case.fact("modality")
    return found.value if found else "unknown"
