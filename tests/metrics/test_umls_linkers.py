"""The linkers that need a licensed UMLS, over stand-ins with the real packages' interfaces.

Neither package installs beside the rest, and their vocabularies may not be handed on. What the stand-ins take and
give is that of QuickUMLS 1.4.2 (`core.py`: `QuickUMLS.match` and the dictionaries of `_get_all_matches`, best first by
similarity plus preferred; `client.py`: `get_quickumls_client`) and scispaCy 0.6.2 (`linking.py`: the pipe
`scispacy_linker`, which importing the module registers, and `_.kb_ents`, pairs of identifier and score, best first).
"""

import importlib.util
import sys

import evaluate
import pytest

QUICKUMLS = """
import json, pathlib

TERMS = json.loads((pathlib.Path(__file__).parent / "terms.json").read_text())


class QuickUMLS:
    def __init__(self, quickumls_fp, overlapping_criteria="score", threshold=0.7, window=5, similarity_name="jaccard",
                 min_match_length=3, accepted_semtypes=None, verbose=False, keep_uppercase=False,
                 spacy_component=False):
        if not pathlib.Path(quickumls_fp).is_dir():
            raise OSError(f"{quickumls_fp} does not exist")

    def match(self, text, best_match=True, ignore_syntax=False):
        matches = []
        for term, concepts in TERMS.items():
            start = text.lower().find(term)
            if start >= 0:
                end = start + len(term)
                candidates = [
                    {"start": start, "end": end, "ngram": text[start:end], "term": name, "cui": cui,
                     "similarity": similarity, "semtypes": {"T047"}, "preferred": preferred}
                    for cui, name, similarity, preferred in concepts
                ]
                matches.append(sorted(candidates, key=lambda m: m["similarity"] + m["preferred"], reverse=True))
        return matches


class Client(QuickUMLS):
    def __init__(self, host, port):
        self.address = (host, port)


CLIENTS = []


def get_quickumls_client(host="localhost", port=4645):
    CLIENTS.append(Client(host, port))
    return CLIENTS[-1]
"""
TERMS = """{
    "pleural effusion": [["C0032227", "pleural effusion", 1.0, 1], ["C0013687", "effusion", 0.7, 1]],
    "cold": [["C0009264", "cold", 1.0, 0], ["C0009443", "cold", 1.0, 1], ["C0024117", "cold", 1.0, 0]],
    "nodule": [["C0028259", "nodules", 0.8, 0], ["C0000002", "nodule", 1.0, 0], ["C0000001", "nodule", 1.0, 0]],
    "pneumothorax": [["C0032326", "pneumothorax", 1.0, 1]]
}"""
SPACY = """
FACTORIES = {}


class Underscore:
    pass


class Span:
    def __init__(self, text, start_char):
        self.text, self.start_char, self.end_char, self._ = text, start_char, start_char + len(text), Underscore()
        self._.kb_ents = []


class Doc:
    def __init__(self, text, ents):
        self.text, self.ents = text, tuple(ents)


class Language:
    def __init__(self):
        self.pipes = []

    def add_pipe(self, factory_name, name=None, *, config={}):
        if factory_name not in FACTORIES:
            raise ValueError(f"[E002] Can't find factory for '{factory_name}'")
        self.pipes.append(FACTORIES[factory_name](**config))

    def __call__(self, text):
        words = ("pleural effusion", "pneumothorax", "lungs")
        places = [(text.lower().find(word), len(word)) for word in words]
        doc = Doc(text, [Span(text[at : at + length], at) for at, length in places if at >= 0])
        for pipe in self.pipes:
            doc = pipe(doc)
        return doc


def load(name, **options):
    if name != "en_core_sci_sm":
        raise OSError(f"[E050] Can't find model '{name}'.")
    return Language()
"""
SCISPACY = """
import spacy

EFFUSION = [("C0032227", 1.0), ("C0013687", 0.81)]
KNOWN = {"pleural effusion": EFFUSION, "pneumothorax": [("C0032326", 0.99)], "lungs": []}


class EntityLinker:
    def __init__(self, nlp=None, name="scispacy_linker", candidate_generator=None, resolve_abbreviations=True, k=30,
                 threshold=0.7, no_definition_threshold=0.95, filter_for_definitions=True,
                 max_entities_per_mention=5, linker_name=None):
        assert linker_name == "umls"

    def __call__(self, doc):
        for entity in doc.ents:
            entity._.kb_ents = KNOWN[entity.text.lower()]
        return doc


spacy.FACTORIES["scispacy_linker"] = EntityLinker
"""


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "umls_f1"))


@pytest.fixture
def installed(tmp_path, monkeypatch, metric):
    """Installs the stand-ins, and takes them away."""
    names = ("quickumls", "spacy", "scispacy", "scispacy.linking")
    for name in names:
        if name in sys.modules or importlib.util.find_spec(name.partition(".")[0]):
            pytest.skip(f"{name} is installed here")
    files = {
        "quickumls/__init__.py": QUICKUMLS,
        "quickumls/terms.json": TERMS,
        "spacy/__init__.py": SPACY,
        "scispacy/__init__.py": "",
        "scispacy/linking.py": SCISPACY,
    }
    for name, content in files.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(tmp_path / "site")
    linkers = sys.modules[type(metric).__module__.rpartition(".")[0] + ".linkers"]
    linkers._scispacy.cache_clear()
    yield tmp_path
    linkers._scispacy.cache_clear()
    for name in names:
        sys.modules.pop(name, None)


def concepts(metric, text, **settings):
    rows = metric.compute(predictions=[text], references=["Pneumothorax."], return_rows=True, **settings)["rows"]
    return rows[0]["prediction_concepts"]


def test_quickumls_gives_the_best_candidate_of_each_stretch_by_its_own_order(metric, installed):
    text = "Pleural effusion after a cold, with a nodule. No pneumothorax."
    found = concepts(metric, text, linker="quickumls", quickumls=str(installed))
    # Preferred names go first, as the package orders them; what it leaves open is decided by identifier.
    assert found == {"C0032227": "pleural effusion", "C0009443": "cold", "C0000001": "nodule"}
    result = metric.compute(
        predictions=["A pneumothorax."], references=["Pneumothorax."], linker="quickumls", quickumls=str(installed)
    )
    assert result["f1"] == 1.0 and result["linker"] == {"name": "quickumls"}


def test_quickumls_can_be_a_server(metric, installed):
    found = concepts(metric, "A pleural effusion.", linker="quickumls", quickumls="umls.example:4645")
    import quickumls

    assert found == {"C0032227": "pleural effusion"}
    assert quickumls.CLIENTS[-1].address == ("umls.example", 4645)


def test_scispacy_gives_the_first_of_its_ranked_concepts_and_leaves_out_what_it_cannot_link(metric, installed):
    found = concepts(metric, "The lungs show a pleural effusion, no pneumothorax.", linker="scispacy")
    assert found == {"C0032227": "pleural effusion"}
    result = metric.compute(predictions=["Pneumothorax"], references=["A pneumothorax."], linker="scispacy")
    assert result["f1"] == 1.0 and result["linker"] == {"name": "scispacy", "model": "en_core_sci_sm"}


def test_a_scispacy_model_that_is_not_there_is_named(metric, installed):
    with pytest.raises(ImportError, match="en_core_sci_xl"):
        concepts(metric, "Lungs.", linker="scispacy", scispacy_model="en_core_sci_xl")


def test_a_quickumls_index_that_is_not_there_is_an_error(metric, installed):
    with pytest.raises(OSError, match="does not exist"):
        concepts(metric, "Lungs.", linker="quickumls", quickumls=str(installed / "missing"))
