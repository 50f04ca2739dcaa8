"""Linkers by name: each turns texts into mentions of concepts."""

import importlib.util
from functools import lru_cache

from .hpo_vocabulary import OBO_SHA256
from .hpo_vocabulary import RELEASE
from .hpo_vocabulary import find_ontology
from .hpo_vocabulary import read_terms
from .phrase_matching import PhraseMatcher

LINKERS = ("hpo", "quickumls", "scispacy")


def make_linker(name, vocabulary=None, quickumls=None, scispacy_model="en_core_sci_sm"):
    """Makes a linker.

    Args:
        name (`str`): one of [`LINKERS`].
        vocabulary (`str`, *optional*): for `"hpo"`, the path of an `hp.obo` other than the pinned one.
        quickumls (`str`, *optional*): for `"quickumls"`, the folder of a QuickUMLS index, or `"host:port"` of a
            QuickUMLS server.
        scispacy_model (`str`, *optional*, defaults to `"en_core_sci_sm"`): for `"scispacy"`, the name of the installed
            model.

    Returns:
        `tuple[Callable, dict]`: a function from a text and its words (`split_words`) to mentions (first word, word
        after the last, identifier, name of the concept), and what the result says of the linker.

    Raises:
        ValueError: an unknown name, or a setting that is missing or wrong.
        ImportError: the linker's package is not installed; the message says what to install.
    """
    if name == "hpo":
        path = find_ontology(vocabulary)
        facts = {"release": RELEASE, "sha256": OBO_SHA256} if vocabulary is None else {"vocabulary": path.name}
        return _HPOLinker(str(path)), {"name": "hpo", **facts}
    if name == "quickumls":
        return _quickumls(quickumls), {"name": "quickumls"}
    if name == "scispacy":
        return _scispacy(scispacy_model), {"name": "scispacy", "model": scispacy_model}
    raise ValueError(f"`linker` is {name!r}; it must be one of {LINKERS}.")


class _HPOLinker:
    def __init__(self, path):
        self._matcher = _hpo_matcher(path)

    def __call__(self, text, words):
        forms, spans = words
        mentions = []
        for first, last, meanings in self._matcher.find(forms):
            written = text[spans[first][0] : spans[last - 1][1]]
            # A phrase that names several terms means the one whose preferred name it is; the file's order comes next.
            fitting = [meaning for meaning in meanings if meaning[3] is None or meaning[3] == written]
            if fitting:
                _, concept, name, _ = min(fitting, key=lambda meaning: meaning[0])
                mentions.append((first, last, concept, name))
        return mentions


@lru_cache(maxsize=2)
def _hpo_matcher(path):
    phrases = []
    for order, term in enumerate(read_terms(path).values()):
        for phrase, exactly in term["phrases"].items():
            rank = (phrase != term["name"], order)
            phrases.append((phrase, (rank, term["concept"], term["name"], phrase if exactly else None)))
    return PhraseMatcher(phrases)


def _words_at(spans, start, end):
    """The words that a stretch of characters covers."""
    covered = [index for index, (first, last) in enumerate(spans) if first < end and last > start]
    return (covered[0], covered[-1] + 1) if covered else None


def _quickumls(where):
    if not where:
        raise ValueError(
            "The linker 'quickumls' needs `quickumls`: the folder of a QuickUMLS index, or host:port of its server."
        )
    if importlib.util.find_spec("quickumls") is None:
        raise ImportError(
            "The linker 'quickumls' needs the package quickumls and an index made from your licensed UMLS: "
            "pip install quickumls, then python -m quickumls.install <UMLS folder> <index folder>."
        )
    import quickumls

    host, _, port = str(where).rpartition(":")
    if host and port.isdigit():
        matcher = quickumls.get_quickumls_client(host=host, port=int(port))
    else:
        matcher = quickumls.QuickUMLS(str(where))

    def link(text, words):
        mentions = []
        for candidates in matcher.match(text, best_match=True, ignore_syntax=False):
            # QuickUMLS ranks the candidates for one stretch of text so; equal ones are decided by identifier.
            best = min(candidates, key=lambda one: (-(one["similarity"] + one["preferred"]), one["cui"]))
            place = _words_at(words[1], best["start"], best["end"])
            if place:
                mentions.append((*place, best["cui"], best["term"]))
        return mentions

    return link


@lru_cache(maxsize=1)
def _scispacy(model):
    if importlib.util.find_spec("scispacy") is None or importlib.util.find_spec("spacy") is None:
        raise ImportError(
            f"The linker 'scispacy' needs scispacy and its model {model}: pip install scispacy, then the model from "
            "the list at https://allenai.github.io/scispacy/ (its UMLS knowledge base is downloaded on first use)."
        )
    import spacy
    from scispacy.linking import EntityLinker  # noqa: F401  (registers the pipe)

    try:
        pipeline = spacy.load(model)
    except OSError as error:
        raise ImportError(
            f"The scispaCy model {model!r} is not installed; see https://allenai.github.io/scispacy/."
        ) from error
    pipeline.add_pipe("scispacy_linker", config={"resolve_abbreviations": False, "linker_name": "umls"})

    def link(text, words):
        mentions = []
        for entity in pipeline(text).ents:
            place = _words_at(words[1], entity.start_char, entity.end_char)
            if place and entity._.kb_ents:
                mentions.append((*place, entity._.kb_ents[0][0], entity.text))
        return mentions

    return link
