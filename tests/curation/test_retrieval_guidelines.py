"""The embedded guideline corpus with the real sentence encoder."""

import json
from pathlib import Path

import pytest

pytest.importorskip("faiss", reason="faiss-cpu is not installed (extra `curate`)")

from semihv_hf.curation.retrieval import OpenMedicine, Query, Retriever, build_index  # noqa: E402
from semihv_hf.data.licences import source_licence  # noqa: E402

QUERIES = [
    json.loads(line)
    for line in Path(__file__).with_name("guideline_queries.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def documents():
    return {document.id: document for document in OpenMedicine().documents()}


def test_the_corpus_is_every_section_of_every_guideline(documents):
    assert len(documents) == 145
    assert len({name.split("/")[0] for name in documents}) == 43
    assert all(document.text.startswith("# ") and document.title for document in documents.values())
    assert {document.source for document in documents.values()} == {"open-medicine"}
    assert source_licence("open-medicine").licence == "MIT"


def test_the_queries_ask_for_sections_of_every_guideline_and_do_not_copy_their_titles(documents):
    assert len(QUERIES) >= 60 and len({row["query"] for row in QUERIES}) == len(QUERIES)
    asked = {name for row in QUERIES for name in row["sections"]}
    assert asked <= set(documents)
    assert {name.split("/")[0] for name in asked} == {name.split("/")[0] for name in documents}
    for row in QUERIES:
        for name in row["sections"]:
            title = documents[name].title.split(" — ")[0].split(" -- ")[0]
            assert title.casefold() not in row["query"].casefold()


@pytest.mark.slow
def test_a_case_summary_finds_its_guideline_and_the_span_that_answers(tmp_path, documents):
    only = ("wells_pe_2000", "gold_copd_2024", "bts_cap_2009", "acc_aha_af_2023", "kdigo_ckd_2024")
    build_index(tmp_path / "index", [OpenMedicine(only=only)])
    rows = [row for row in QUERIES if any(name.split("/")[0] in only for name in row["sections"])]
    assert len(rows) >= 10
    retriever = Retriever(tmp_path / "index", k={"guidelines": 3})
    hits = 0
    for row, found in zip(rows, retriever.search([Query("q", row["query"], None) for row in rows])):
        hits += bool({item.id for item in found} & set(row["sections"]))
        for item in found:
            assert documents[item.id].text[item.begin : item.end] == item.text
    assert hits / len(rows) >= 0.8
