"""Retrieval of evidence: guidelines and similar cases, by text and image."""

from .build import build_index
from .corpora import CasesFolder, Corpus, Document
from .encoders import DEFAULT_ENCODER, Encoder, load_encoder
from .exclusions import Exclusions, benchmark_exclusions
from .fusion import FUSIONS
from .guidelines import GuidelineFile, OpenMedicine
from .query import Query, query_of
from .retriever import Retriever

__all__ = [
    "DEFAULT_ENCODER",
    "FUSIONS",
    "CasesFolder",
    "Corpus",
    "Document",
    "Encoder",
    "Exclusions",
    "GuidelineFile",
    "OpenMedicine",
    "Query",
    "Retriever",
    "benchmark_exclusions",
    "build_index",
    "load_encoder",
    "query_of",
]
