"""What is asked of a model about a case's classes, and how its answers become labels.

The rules of `classify_rules` come first; only what they leave open is asked. The image decides: it is always sent, at
a stated size, and a case without a readable image has no answer but a named failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from semihv_hf.curation.classify_options import ClassifyOptions
from semihv_hf.curation.classify_rules import labels_by_rule
from semihv_hf.curation.prepared_images import PreparedImages
from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES
from semihv_hf.data.schema import LABELS, Case, Label, Text, content_id
from semihv_hf.errors import SemiHVError
from semihv_hf.llm.types import ChatRequest, ChatResult, Failure, ServerSettings

if TYPE_CHECKING:
    from semihv_hf.llm.client import ChatClient

# Texts that say what an image shows, the nearest to the image first; the first role that a case has is used.
CAPTION_ROLES = ("caption", "findings", "description", "impression", "report")
# What a rule can be compared with: a topic is free words, which two writers never choose alike.
CHECKED = ("modality", "body_part")
_CLASSES = {"modality": MODALITIES, "body_part": BODY_PARTS}
_OPENAI_HOSTS = (".openai.com", ".openai.azure.com")


class CannotAsk(ValueError):
    """A case about which no request can be made.

    Args:
        failure ([`Failure`]): why; of kind `"image"`.
    """

    def __init__(self, failure: Failure):
        self.failure = failure
        super().__init__(failure.detail)


@dataclass
class Classified:
    """What became of one case.

    Args:
        labels (`list[Label]`): all labels that it now has.
        failures (`list[Failure]`): one for each answer that did not come.
    """

    labels: list[Label] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def asked_names(case: Case, options: ClassifyOptions) -> tuple[str, ...]:
    """The labels that the model is asked for.

    Args:
        case ([`Case`]): the case, with the labels that it has already.
        options ([`ClassifyOptions`]): the choices.

    Returns:
        `tuple[str, ...]`: those that no rule tells and no label says, in the order of `LABELS`; in the share of cases
            that is checked also modality and body part where a rule tells them.
    """
    return _asked(case, options, labels_by_rule(case))


def classification_requests(
    case: Case, settings: ServerSettings, options: ClassifyOptions, images: PreparedImages | None = None
) -> list[ChatRequest]:
    """What to ask about a case.

    Args:
        case ([`Case`]): the case, with the labels that it has already.
        settings ([`ServerSettings`]): the server.
        options ([`ClassifyOptions`]): the choices.
        images ([`PreparedImages`], *optional*): the case's images, shared with its other requests.

    Returns:
        `list[ChatRequest]`: `options.repeats` requests that differ in `repeat` only, or none where all labels are
            known without a model.

    Raises:
        `CannotAsk`: the case has no image, or one that cannot be read.
        `SemiHVError`: repeated answers could not differ.
    """
    from semihv_hf.curation.classify_schema import reply_shape

    names = asked_names(case, options)
    if not names:
        return []
    if options.repeats > 1 and settings.temperature == 0:
        raise SemiHVError(
            f"{options.repeats} repeats at temperature 0 are copies of one answer, whose agreement says nothing.",
            "Set the server's temperature above 0, or ask once.",
        )
    messages = _messages(case, names, settings, options, images or PreparedImages())
    request = ChatRequest(
        id=f"{case.id} classify 0",
        messages=messages,
        schema=reply_shape(names) if options.output == "schema" else None,
        prompt_version=options.prompt_version,
        sources=(case.source,),
    )
    return [replace(request, id=f"{case.id} classify {repeat}", repeat=repeat) for repeat in range(options.repeats)]


def labels_from_replies(
    case: Case, results: Sequence[ChatResult], options: ClassifyOptions
) -> tuple[list[Label], list[Failure]]:
    """The labels of a case, by rule, from before, and by the model.

    Of repeated answers the most frequent counts. Of equally frequent ones: the class that comes first in the
    vocabulary, in which "other" is last; the topic whose keywords the other answers name most often, then the first
    in the alphabet. The order of the results makes no difference.

    Args:
        case ([`Case`]): the case as it was when the requests were made.
        results (`Sequence[ChatResult]`): what came of the requests; none if there were none.
        options ([`ClassifyOptions`]): the choices.

    Returns:
        `tuple[list[Label], list[Failure]]`: all labels that the case now has, for each name the rule's before the
            model's, and one failure for each result without an answer. Where every answer is missing so is the
            model's label. `agreement` is the share of the answers that gave the value; `None` for a single answer.
    """
    from semihv_hf.curation.classify_schema import value_of

    rules = labels_by_rule(case)
    names = _asked(case, options, rules)
    results = sorted((_read(result, names, options) for result in results), key=lambda result: result.id)
    answers = [result for result in results if result.failure is None and result.parsed is not None]
    failures = [result.failure for result in results if result.failure is not None]
    failures += [
        Failure("schema", "the reply was not read as the shape that was asked for")
        for result in results
        if result.failure is None and result.parsed is None
    ]
    model = ", ".join(sorted({result.model for result in answers if result.model}))
    labels = [*rules, *_kept(case, options)]
    for name in names if answers else ():
        value, share = _vote(name, [value_of(result.parsed, name) for result in answers])
        labels.append(Label(name, value, "model", options.prompt_version, model, share))
    return sorted(labels, key=lambda label: (LABELS.index(label.name), label.decided_by != "rule")), failures


def classify(cases: Sequence[Case], client: ChatClient, options: ClassifyOptions | None = None) -> list[Classified]:
    """Classifies some cases, with as many calls at a time as the client allows.

    Args:
        cases (`Sequence[Case]`): the cases; all are held in memory, so give a block of them at a time.
        client ([`ChatClient`]): asks the server.
        options ([`ClassifyOptions`], *optional*): the choices.

    Returns:
        `list[Classified]`: one for each case, in their order; the cases themselves are not changed.

    Raises:
        `SemiHVError`: a setting is wrong, so that no case can be asked about.
    """
    options = options or ClassifyOptions()
    asked: list[list[ChatRequest]] = []
    barred: dict[int, Failure] = {}
    for number, case in enumerate(cases):
        try:
            asked.append(classification_requests(case, client.settings, options))
        except CannotAsk as problem:
            asked.append([])
            barred[number] = problem.failure
    came = iter(client.run([request for requests in asked for request in requests], progress=False))
    done = []
    for number, (case, requests) in enumerate(zip(cases, asked, strict=True)):
        labels, failures = labels_from_replies(case, [next(came) for _ in requests], options)
        done.append(Classified(labels, failures + ([barred[number]] if number in barred else [])))
    return done


def _asked(case: Case, options: ClassifyOptions, rules: Sequence[Label]) -> tuple[str, ...]:
    by_rule = {label.name for label in rules}
    kept = {label.name for label in _kept(case, options)}
    checked = CHECKED if _is_checked(case, options.check_share) else ()
    return tuple(name for name in options.names if name not in kept and (name not in by_rule or name in checked))


def _is_checked(case: Case, share: float) -> bool:
    """Drawn by the case's id alone, so that no other case and no order has a part in it."""
    return share > 0 and int(content_id("checked", case.id)[:8], 16) < share * 2**32


def _read(result: ChatResult, names: tuple[str, ...], options: ClassifyOptions) -> ChatResult:
    """A reply of lines as the shape that a schema would have brought; what cannot be read is a failure."""
    from semihv_hf.curation.classify_schema import read_lines

    if options.output == "schema" or result.failure is not None or result.parsed is not None:
        return result
    try:
        return replace(result, parsed=read_lines(result.text or "", names))
    except ValueError as error:
        problem = str(error).partition("\n")[0]
        return replace(result, text=None, failure=Failure("schema", f"the reply tells no classes: {problem}"))


def _kept(case: Case, options: ClassifyOptions) -> list[Label]:
    """Labels from before that no rule gave; those of rules are worked out anew."""
    return [label for label in case.labels if label.decided_by != "rule"] if options.keep else []


def _messages(
    case: Case, names: tuple[str, ...], settings: ServerSettings, options: ClassifyOptions, images: PreparedImages
) -> list[dict]:
    if not case.images:
        raise CannotAsk(Failure("image", "the case has no image, by which its classes could be told"))
    chosen = spread(len(case.images), options.most_images)
    provider = options.provider or provider_of(settings)
    parts = []
    for index in chosen:
        part = images.part(case.images[index], detail=options.detail, longest=options.longest, provider=provider)
        if isinstance(part, Failure):
            raise CannotAsk(replace(part, detail=f"image {index + 1} of {len(case.images)}: {part.detail}"))
        parts.append(part)
    system, user = options.render(names, len(chosen), _captions(case, chosen, options.most_words))
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": [{"type": "text", "text": user}, *parts]},
    ]


def spread(count: int, most: int) -> list[int]:
    """Indexes that are spread evenly.

    Args:
        count (`int`): how many there are.
        most (`int`): how many are wanted at most, at least 1.

    Returns:
        `list[int]`: in ascending order, with the first and, if more than one is wanted, the last.
    """
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [index * (count - 1) // (most - 1) for index in range(most)]


def provider_of(settings: ServerSettings) -> str:
    """By whose rule images are sent.

    Args:
        settings ([`ServerSettings`]): the server.

    Returns:
        `str`: `"openai"` for an address of OpenAI or of OpenAI's models at Azure, else `"local"`.
    """
    return _provider_at(settings.base_url)


@lru_cache(maxsize=8)
def _provider_at(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return "openai" if f".{host}".endswith(_OPENAI_HOSTS) else "local"


def _captions(case: Case, chosen: Sequence[int], most_words: int) -> list[str]:
    """The texts about the shown images: people's rather than a model's, of one role, none twice."""
    of_image = [text for text in case.texts if text.image is None or text.image in chosen]
    for writers in (("human", "human_edit"), ("rule", "machine")):
        for role in CAPTION_ROLES:
            texts = [text for text in of_image if text.role == role and text.annotation in writers]
            if texts:
                return list(dict.fromkeys(_caption(text, chosen, most_words) for text in texts))
    return []


def _caption(text: Text, chosen: Sequence[int], most_words: int) -> str:
    words = text.text.split()
    shown = " ".join(words[:most_words]) + (" […]" if len(words) > most_words else "")
    return f"Image {chosen.index(text.image) + 1}: {shown}" if text.image is not None and len(chosen) > 1 else shown


def _vote(name: str, values: Sequence[str]) -> tuple[str, float | None]:
    counts = Counter(_key(name, value) for value in values)
    best = min(counts, key=lambda key: (-counts[key], _rank(name, key, counts)))
    # Of one topic in several orders of its keywords the one that was given most often, then the first in the alphabet.
    written = Counter(value for value in values if _key(name, value) == best)
    value = min(written, key=lambda one: (-written[one], one))
    return value, counts[best] / len(values) if len(values) > 1 else None


def _key(name: str, value: str) -> frozenset[str]:
    """What must be equal for two answers to agree: the class, or the keywords in any order."""
    return frozenset(value.split(", ")) if name == "topic" else frozenset((value,))


def _rank(name: str, key: frozenset[str], counts: Counter[frozenset[str]]) -> tuple:
    if name in _CLASSES:
        return (_CLASSES[name].index(next(iter(key))),)
    shared = sum(count * len(key & other) for other, count in counts.items()) / len(key)
    return (-shared, sorted(key))
