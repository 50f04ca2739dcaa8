"""From a case, and what was retrieved for it, to a request: texts between fences, images in their places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from semihv_hf.curation.fencing import fence_for, inert
from semihv_hf.curation.generation.demonstrations import Demonstration, shots_for
from semihv_hf.curation.generation.languages import LANGUAGES
from semihv_hf.curation.generation.material import (
    captioned_images,
    case_texts,
    foreign_texts,
    shown_images,
    stated_facts,
    title_of,
)
from semihv_hf.curation.generation.scenarios import scenario_of
from semihv_hf.curation.generation.tasks import TASKS, missing, pair_range
from semihv_hf.curation.prepared_images import PreparedImages
from semihv_hf.data.schema import Case, Evidence, Text
from semihv_hf.errors import SemiHVError

if TYPE_CHECKING:
    from semihv_hf.curation.generation.options import GenerationOptions
    from semihv_hf.llm.types import ChatRequest, Failure, ServerSettings

SIMILAR_CASES = "cases"


@dataclass(frozen=True)
class Shown:
    """What a request shows of a case; worked out again when its reply is read.

    Args:
        images (`tuple[int, ...]`): indices of the case's images, in the order of the request.
        texts (`tuple[Text, ...]`): its texts.
        facts (`tuple[str, ...]`): lines of facts.
        title (`str`): its title, if any.
        evidence (`tuple[Evidence, ...]`): what was retrieved; none for a task that takes none.
        demonstrations (`tuple[Demonstration, ...]`): the examples.
    """

    images: tuple[int, ...]
    texts: tuple[Text, ...]
    facts: tuple[str, ...] = ()
    title: str = ""
    evidence: tuple[Evidence, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()


def shown_material(task: str, case: Case, evidence: Sequence[Evidence], options: GenerationOptions) -> Shown:
    """What a request shows.

    Args:
        task (`str`): the task.
        case ([`Case`]): the case.
        evidence (`Sequence[Evidence]`): what was retrieved.
        options ([`GenerationOptions`]): the options.

    Returns:
        [`Shown`]: it depends on the arguments only.
    """
    images = shown_images(task, case, options.language, options.most_images)
    if task == "caption_reformat":
        captions = captioned_images(case, options.language)
        texts = [text for index in images for text in captions[index]]
    elif task == "translated_report":
        texts = foreign_texts(case, options.language)
    else:
        texts = [text for text in case_texts(case, options.language) if text.image is None or text.image in images]
    title = case.fact("title")
    return Shown(
        images=tuple(images),
        texts=tuple(texts),
        # A caption is brought into form from itself alone: whatever else is known would end up in it.
        facts=() if task == "caption_reformat" else tuple(stated_facts(case)),
        title=title.value if title and task != "caption_reformat" else "",
        evidence=tuple(item for item in evidence if item.text.strip()) if TASKS[task].evidence else (),
        demonstrations=shots_for(case, options) if task == "conversation" else (),
    )


def generation_request(
    task: str,
    case: Case,
    evidence: Sequence[Evidence],
    evidence_images: Mapping[str, Sequence[bytes]],
    settings: ServerSettings,
    options: GenerationOptions,
    images: PreparedImages | None = None,
) -> ChatRequest | Failure:
    """Makes the request of a task for a case.

    Args:
        task (`str`): one of `TASKS`.
        case ([`Case`]): a case that [`plan`] gave the task to.
        evidence (`Sequence[Evidence]`): what was retrieved for it; used by tasks with `evidence` only.
        evidence_images (`Mapping[str, Sequence[bytes]]`): the images of similar cases by `Evidence.id`. One that
            cannot be read is left out.
        settings ([`ServerSettings`]): the server, for the size of images.
        options ([`GenerationOptions`]): the options.
        images ([`PreparedImages`], *optional*): the case's images, shared with its other requests.

    Returns:
        [`ChatRequest`] or [`Failure`]: the request; a failure of kind `"image"` where an image of the case itself
        cannot be sent. Its `sources` are those of the case, of all evidence and of the demonstrations.

    Raises:
        `SemiHVError`: there is no such task, or the case has not what it needs.
    """
    from semihv_hf.llm.types import ChatRequest, Failure

    if task not in TASKS:
        raise SemiHVError(f"There is no generation task {task!r}.", f"Known are {', '.join(TASKS)}.")
    if lacks := missing(task, case, options):
        raise SemiHVError(f"The case {case.id} has no {lacks[0]} for the task {task!r}.", "Ask `plan` for its tasks.")
    shown = shown_material(task, case, evidence, options)
    pictures = _Pictures(settings, options, images or PreparedImages())
    own = []
    for index in shown.images:
        part = pictures.part(case.images[index])
        if isinstance(part, Failure):
            return Failure(part.kind, f"image {index + 1} of the case: {part.detail}")
        own.append(part)
    fences = _Fences(_all_texts(shown, options), options.most_words)
    pictures.marker = fences.marker
    system, user = options.prompts.render(
        task, _variables(task, case, shown, own, evidence_images, fences, pictures, options)
    )
    content = pictures.content(user)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    used = {item.source for item in (*shown.evidence, *shown.demonstrations)} - {case.source}
    return ChatRequest(
        id=f"{case.id}/{task}",
        messages=messages,
        schema=TASKS[task].schema if options.output == "schema" else None,
        prompt_version=options.prompts.version(task),
        sources=(case.source, *sorted(used)),
    )


def _variables(
    task: str,
    case: Case,
    shown: Shown,
    own: list[dict],
    evidence_images: Mapping[str, Sequence[bytes]],
    fences: _Fences,
    pictures: _Pictures,
    options: GenerationOptions,
) -> dict[str, Any]:
    least, most = pair_range(task, case, options)
    numbers = {index: number for number, index in enumerate(shown.images, start=1)}
    captions = []
    if task == "caption_reformat":
        for text in shown.texts:
            number = numbers[0 if text.image is None else text.image]
            captions.append(
                SimpleNamespace(number=number, title=f"Caption of image {number}", block=fences(text.text))
            )
    texts = (
        []
        if captions
        else [SimpleNamespace(title=_title(text, numbers), block=fences(text.text)) for text in shown.texts]
    )
    guidelines, similar = [], []
    for item in shown.evidence:
        if item.corpus == SIMILAR_CASES:
            images = pictures.of_others(evidence_images.get(item.id, ()), options.most_evidence_images)
            similar.append(SimpleNamespace(number=len(similar) + 1, images=images, block=fences.whole(item)))
        else:
            guidelines.append(SimpleNamespace(number=len(guidelines) + 1, block=fences.whole(item)))
    examples = []
    for number, example in enumerate(shown.demonstrations, start=1):
        images = pictures.of_others(example.images, options.most_evidence_images)
        context, conversation = fences(example.context), fences(example.conversation())
        examples.append(SimpleNamespace(number=number, images=images, context=context, conversation=conversation))
    foreign = shown.texts[0].language if task == "translated_report" else options.language
    return {
        "captions": captions,
        "demonstrations": examples,
        "facts": fences("\n".join(shown.facts)) if shown.facts else "",
        "fence": fences.line,
        "guidelines": guidelines,
        "image_count": len(shown.images),
        "images": pictures.numbered(own),
        "language": LANGUAGES[options.language],
        "least": least,
        "most": most,
        "output": options.output,
        "scenario": scenario_of(case.id, options.seed),
        "similar_cases": similar,
        "source_language": LANGUAGES.get(foreign, "another language"),
        "task": task,
        "texts": texts,
        "title": fences(shown.title) if shown.title else "",
    }


def _title(text: Text, numbers: Mapping[int, int]) -> str:
    """Images are counted as the request shows them."""
    if text.image is None:
        return inert(title_of(text))
    return inert(title_of(Text(text.role, text.text, text.annotation))) + f" of image {numbers[text.image]}"


def _all_texts(shown: Shown, options: GenerationOptions) -> list[str]:
    """Every foreign text that can stand in the request, for a fence that is in none of them."""
    texts = [text.text for text in shown.texts] + [text.role for text in shown.texts]
    texts += [*shown.facts, shown.title, options.language]
    for item in shown.evidence:
        texts += [item.title, item.text]
    for example in shown.demonstrations:
        texts += [example.context, example.conversation()]
    return [inert(text) for text in texts]


class _Fences:
    """Puts texts between fence lines that none of them contains."""

    def __init__(self, texts: Sequence[str], most_words: int):
        self.line = fence_for(texts)
        self.most_words = most_words

    def __call__(self, text: str) -> str:
        plain = inert(text)
        words = list(re.finditer(r"\S+", plain))
        if len(words) > self.most_words:
            plain = plain[: words[self.most_words - 1].end()] + " [...]"
        return f"{self.line}\n{plain}\n{self.line}"

    def whole(self, item: Evidence) -> str:
        """Evidence is never cut: what is stored with the record is what was read."""
        title = f"{inert(item.title)}\n" if item.title.strip() else ""
        return f"{self.line}\n{title}{inert(item.text)}\n{self.line}"

    def marker(self, number: int) -> str:
        """Where an image stands. It holds the fence, so no text can hold it."""
        return f"{{{self.line} image {number}}}"


class _Pictures:
    """The images of a request, in the order in which they were prepared; the text says where each stands."""

    def __init__(self, settings: ServerSettings, options: GenerationOptions, prepared: PreparedImages):
        from semihv_hf.data.licences import is_local_url

        self.provider = options.provider or ("local" if is_local_url(settings.base_url) else "openai")
        self.detail, self.longest = options.detail, options.longest
        self.prepared = prepared
        self.parts: list[dict] = []
        self.marker = None

    def part(self, data: bytes) -> dict | Failure:
        return self.prepared.part(data, detail=self.detail, longest=self.longest, provider=self.provider)

    def place(self, part: dict) -> str:
        self.parts.append(part)
        return self.marker(len(self.parts) - 1)

    def numbered(self, parts: Sequence[dict]) -> str:
        return "\n".join(f"Image {number}:\n{self.place(part)}" for number, part in enumerate(parts, start=1))

    def of_others(self, images: Sequence[bytes], most: int) -> str:
        """Images of other patients: at most some, and only those that can be read."""
        parts = [part for data in images[:most] if isinstance(part := self.part(data), dict)]
        if not parts:
            return "(without images)"
        return "Its images, not to be reported on:\n" + "\n".join(self.place(part) for part in parts)

    def content(self, text: str) -> list[dict]:
        """The parts of the user's message."""
        pattern = re.escape(self.marker(0)).replace("image\\ 0", r"image\ (\d+)")
        content = []
        for index, piece in enumerate(re.split(pattern, text)):
            if index % 2:
                content.append(self.parts[int(piece)])
            elif piece.strip():
                content.append({"type": "text", "text": piece.strip()})
        return content
