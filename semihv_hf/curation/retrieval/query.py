"""What is looked for: a case as a query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semihv_hf.data.schema import Case
from semihv_hf.errors import SemiHVError

from .chunking import chunk_spans
from .corpora import group_key
from .encoders import Encoder

# Facts and labels that a guideline or a similar case may speak of; the others (rows, spacing, ...) say nothing to a
# reader.
_TOLD = ("topic", "modality", "body_part", "plane", "view", "finding", "diagnosis")
_READ = ("human", "human_edit", "rule")


@dataclass(frozen=True)
class Query:
    """Something to find evidence for.

    Args:
        id (`str`): the case; a document of this id is never its own evidence.
        text (`str`): what is known in words, may be empty.
        image (`bytes`, *optional*): an encoded image.
        group (`str`, *optional*, defaults to `""`): its patient or study, see [`group_key`]; siblings are no evidence.
        exclude (`frozenset[str]`, *optional*): ids of documents that may never be its evidence.
    """

    id: str
    text: str
    image: bytes | None
    group: str = ""
    exclude: frozenset[str] = frozenset()


def query_of(case: Case, near: frozenset[str] = frozenset()) -> Query:
    """The query that finds evidence for a case.

    Its text is what the case was classified as, what its files say, and what people wrote; its image is the first
    one. Texts that a model wrote are left out, so that evidence does not depend on an earlier run.

    Args:
        case ([`Case`]): the case.
        near (`frozenset[str]`, *optional*): ids of cases that show or say nearly the same.

    Returns:
        [`Query`]: the query.
    """
    told = {label.name: label.value for label in case.labels} | {
        fact.name: fact.value for fact in case.facts if fact.name in _TOLD and case.label(fact.name) is None
    }
    words = [f"{name.replace('_', ' ')}: {told[name]}." for name in _TOLD if name in told]
    words += [text.text.strip() for text in case.texts if text.annotation in _READ and text.text.strip()]
    image = case.images[0] if case.images else None
    return Query(case.id, "\n".join(words), image, group_key(case.source, case.group), near)


def query_features(encoder: Encoder, queries: Sequence[Query], sides: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The features of queries; rows of zeros for what a query has not.

    A text beyond the encoder's window is read in windows, whose features are averaged by their numbers of tokens:
    nothing of it is cut off.

    Args:
        encoder ([`Encoder`]): what encodes them.
        queries (`Sequence[Query]`): the queries.
        sides (`Sequence[str]`): `"text"`, `"image"` or both; only these are computed.

    Returns:
        `tuple`: text features and image features, a row a query.
    """
    text = np.zeros((len(queries), encoder.text.dim if encoder.text else 0), np.float32)
    image = np.zeros((len(queries), encoder.image.dim if encoder.image else 0), np.float32)
    if "text" in sides and encoder.text:
        parts, owners, weights = [], [], []
        for number, query in enumerate(queries):
            for begin, end in _spans(encoder, query.text):
                parts.append(query.text[begin:end])
                owners.append(number)
                weights.append(len(encoder.text.offsets(parts[-1])))
        features = encoder.text.encode_texts(parts)
        for number in sorted(set(owners)):
            mine = [index for index, owner in enumerate(owners) if owner == number]
            text[number] = np.average(features[mine], axis=0, weights=[weights[index] for index in mine])
    if "image" in sides and encoder.image:
        shown = [number for number, query in enumerate(queries) if query.image is not None]
        pictures = [queries[number].image for number in shown]
        if pictures:
            image[shown] = encoder.image.encode_images(pictures)
    return text, image


def _spans(encoder: Encoder, text: str) -> list[tuple[int, int]]:
    return chunk_spans(text, encoder.text.offsets, encoder.text.window, headings=False) if text.strip() else []


def check_queries(queries: Sequence[Query]) -> None:
    """Refuses what cannot be looked for.

    Args:
        queries (`Sequence[Query]`): the queries.

    Raises:
        `SemiHVError`: one has neither text nor image.
    """
    for query in queries:
        if not query.text.strip() and query.image is None:
            raise SemiHVError(f"The query {query.id} has neither text nor image.", "Leave that case out.")
