"""Building an index: what is kept, what is refused, and what a killed build leaves."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from retrieval_models import WORDS, make_case, write_bert, write_cases, write_clip

faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed (extra `curate`)")

from semihv_hf.curation.retrieval import (  # noqa: E402
    CasesFolder,
    Exclusions,
    GuidelineFile,
    Query,
    Retriever,
    build_index,
    vector_index,  # noqa: E402
)
from semihv_hf.curation.retrieval import build as build_module  # noqa: E402
from semihv_hf.errors import SemiHVError  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(write_bert(tmp_path_factory.mktemp("encoder") / "bert")) + "+thumbnail"


def words(number: int, count: int = 12) -> str:
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, count))


def write_guidelines(path: Path, numbers, column: str = "clean_text") -> Path:
    rows = [
        {
            "id": f"doc{n}", "source": "who", "title": words(n, 3), column: f"# {words(n, 4)}\n\n{words(n, 60)}",
            "url": f"https://example.org/{n}", "overview": None,
        }
        for n in numbers
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_corpus_makes_the_same_bytes_wherever_it_lies(tmp_path, encoder):
    made = []
    for place in ("one", "two"):
        source = write_guidelines(tmp_path / f"{place}.jsonl", range(20))
        cases = write_cases(tmp_path / place / "cases", [make_case(n, words(n)) for n in range(9)])
        build_index(tmp_path / place / "index", [GuidelineFile(source), CasesFolder(cases)], encoder)
        made.append(bytes_of(tmp_path / place / "index"))
    assert made[0] == made[1]
    # Manifest, segments, tables of documents, two views of guidelines and three of cases.
    assert len(made[0]) == 1 + 2 + 2 * 2 + 2 * 2 + 2 * 3


def test_only_new_documents_are_encoded_and_what_was_there_is_kept(tmp_path, encoder):
    source = write_guidelines(tmp_path / "a.jsonl", range(10))
    first = build_index(tmp_path / "index", [GuidelineFile(source)], encoder)
    segment = next((tmp_path / "index" / "segments").iterdir())
    before = (segment.name, segment.stat().st_mtime_ns)
    report = build_index(
        tmp_path / "index", [GuidelineFile(write_guidelines(tmp_path / "b.jsonl", range(5, 14)))], encoder
    )
    assert (report["guidelines"]["new"], report["guidelines"]["known"]) == (4, 5)
    assert report["guidelines"]["documents"] == 14 and first["guidelines"]["documents"] == 10
    assert (segment.name, segment.stat().st_mtime_ns) == before
    retriever = Retriever(tmp_path / "index", k={"guidelines": 14})
    [found] = retriever.search([Query("q", words(3), None)])
    assert {evidence.id for evidence in found} == {f"doc{n}" for n in range(14)}


def test_nothing_new_leaves_every_byte_as_it_is(tmp_path, encoder):
    source = write_guidelines(tmp_path / "a.jsonl", range(6))
    build_index(tmp_path / "index", [GuidelineFile(source)], encoder)
    before = bytes_of(tmp_path / "index")
    assert build_index(tmp_path / "index", [GuidelineFile(source)], encoder)["guidelines"]["new"] == 0
    assert bytes_of(tmp_path / "index") == before


def test_a_corpus_can_be_added_to_an_index_of_another_one(tmp_path, encoder):
    build_index(tmp_path / "index", [GuidelineFile(write_guidelines(tmp_path / "a.jsonl", range(3)))], encoder)
    cases = write_cases(tmp_path / "cases", [make_case(n, words(n)) for n in range(5)])
    build_index(tmp_path / "index", [CasesFolder(cases)], encoder)
    [found] = Retriever(tmp_path / "index").search([Query("q", "acute fever", None)])
    assert [evidence.corpus for evidence in found] == ["cases", "guidelines"]


def test_a_document_that_changed_is_refused_not_mixed_with_its_old_self(tmp_path, encoder):
    build_index(tmp_path / "index", [CasesFolder(write_cases(tmp_path / "a", [make_case(1, "lung mass")]))], encoder)
    changed = CasesFolder(write_cases(tmp_path / "b", [make_case(1, "liver cyst")]))
    with pytest.raises(SemiHVError, match="in the corpus cases already, with another content.*--overwrite"):
        build_index(tmp_path / "index", [changed], encoder)
    build_index(tmp_path / "index", [changed], encoder, overwrite=True)
    [[found]] = Retriever(tmp_path / "index").search([Query("q", "lung", None)])
    assert found.text == "liver cyst"


def test_another_encoder_or_setting_is_refused_in_one_line(tmp_path, encoder):
    source = GuidelineFile(write_guidelines(tmp_path / "a.jsonl", range(3)))
    build_index(tmp_path / "index", [source], encoder)
    other = str(write_bert(tmp_path / "other", seed=7))
    for change, says in (
        ({"encoder": other}, "was built with the encoder"),
        ({"encoder": encoder, "overlap": 3}, "was built with overlap 32, not 3"),
        ({"encoder": encoder, "normalise": False}, "was built with normalise True, not False"),
    ):
        with pytest.raises(SemiHVError, match=says) as raised:
            build_index(tmp_path / "index", [source], **change)
        assert "\n" not in str(raised.value)
    with pytest.raises(SemiHVError, match="was built with the encoder"):
        Retriever(tmp_path / "index", encoder=other)


def test_empty_and_missing_corpora_are_one_line(tmp_path, encoder):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "broken.jsonl").write_text('{"id": 1\n', encoding="utf-8")
    silent = write_cases(tmp_path / "silent", [make_case(1, "a machine wrote this", by="machine")])
    for corpus, says in (
        (GuidelineFile(tmp_path / "empty.jsonl"), "The corpus guidelines holds no documents"),
        (GuidelineFile(tmp_path / "broken.jsonl"), "line 1, is not a JSON object"),
        (GuidelineFile(tmp_path / "none.jsonl"), "There is no guideline file"),
        (CasesFolder(tmp_path / "none"), "There is no cases folder"),
        (CasesFolder(silent), "The corpus cases holds no documents"),
    ):
        with pytest.raises(SemiHVError, match=says) as raised:
            build_index(tmp_path / "index", [corpus], encoder)
        assert "\n" not in str(raised.value)
    with pytest.raises(SemiHVError, match="There is no index"):
        Retriever(tmp_path / "index")


def test_a_folder_of_something_else_is_never_overwritten(tmp_path, encoder):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    source = GuidelineFile(write_guidelines(tmp_path / "a.jsonl", range(2)))
    for overwrite in (False, True):
        with pytest.raises(SemiHVError, match="index"):
            build_index(tmp_path, [source], encoder, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_both_columns_of_the_guideline_release_are_read(tmp_path, encoder):
    made = []
    for column in ("clean_text", "text"):
        source = write_guidelines(tmp_path / f"{column}.jsonl", range(3), column)
        build_index(tmp_path / column, [GuidelineFile(source)], encoder)
        [[found]] = Retriever(tmp_path / column).search([Query("q", words(1), None)])
        made.append(found)
    assert made[0] == made[1]
    assert made[0].source == "open_guidelines" and "https://example.org/" in made[0].licence


def test_excluded_documents_never_enter_an_index(tmp_path, encoder):
    cases = [make_case(n, f"{words(n)} number {n}", group=f"patient {n}") for n in range(6)]
    from semihv_hf.curation.retrieval.corpora import group_key, image_key
    from semihv_hf.curation.retrieval.exclusions import text_key

    exclude = Exclusions(
        ids=frozenset({cases[0].id}),
        groups=frozenset({group_key("pydicom", "patient 1")}),
        images=frozenset({image_key(cases[2].images[0])}),
        texts=frozenset({text_key(cases[3].texts[0].text.upper() + " !")}),
    )
    folder = CasesFolder(write_cases(tmp_path / "cases", cases))
    report = build_index(tmp_path / "index", [folder], encoder, exclude=exclude)
    assert (report["cases"]["documents"], report["cases"]["excluded"]) == (2, 4)
    [found] = Retriever(tmp_path / "index", k={"cases": 6}).search([Query("q", "lung", None)])
    assert {evidence.id for evidence in found} == {cases[4].id, cases[5].id}


KILLED = """
import sys, time
from semihv_hf.curation.retrieval import CasesFolder, build_index
from semihv_hf.curation.retrieval import build
build.DOCUMENTS_PER_SEGMENT = 3
build._TASKS_PER_WORKER = 1
def say(*at):
    print(*at, flush=True)
    time.sleep(0.05)
build_index(sys.argv[1], [CasesFolder(sys.argv[2])], sys.argv[3], progress=say)
"""


@pytest.mark.slow
def test_a_killed_build_goes_on_and_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, encoder, root, monkeypatch):
    monkeypatch.setattr(build_module, "DOCUMENTS_PER_SEGMENT", 3)
    cases = write_cases(tmp_path / "cases", [make_case(n, words(n)) for n in range(24)])
    build_index(tmp_path / "straight", [CasesFolder(cases)], encoder)
    command = [sys.executable, "-c", KILLED, tmp_path / "killed", cases, encoder]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )
    for _ in range(4):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    finished = sorted((tmp_path / "killed" / "segments").glob("cases-*.arrow"))
    assert 4 <= len(finished) <= 8 and not (tmp_path / "killed" / "manifest.json").exists()
    written = {path.name: path.stat().st_mtime_ns for path in finished}
    time.sleep(0.01)
    build_index(tmp_path / "killed", [CasesFolder(cases)], encoder)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "straight")
    assert {path.name: path.stat().st_mtime_ns for path in finished} == written


def test_segments_left_by_an_abandoned_build_do_not_slip_into_another(tmp_path, encoder):
    one = CasesFolder(write_cases(tmp_path / "one", [make_case(n, words(n)) for n in range(4)]))
    other = CasesFolder(write_cases(tmp_path / "other", [make_case(n, words(n)) for n in range(10, 13)]))
    build_index(tmp_path / "index", [one], encoder)
    (tmp_path / "index" / "manifest.json").unlink()
    build_index(tmp_path / "index", [other], encoder)
    build_index(tmp_path / "clean", [other], encoder)
    assert bytes_of(tmp_path / "index") == bytes_of(tmp_path / "clean")


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_every_kind_of_index_is_mapped_from_the_disk_and_built_the_same_twice(tmp_path, kind):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 16))
    vectors = (centres[rng.integers(0, 60, 2000)] + 0.5 * rng.standard_normal((2000, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for name in ("one", "two"):
        index = vector_index.new_index(kind, 16, sample=vectors, rows=len(vectors))
        vector_index.add(index, vectors[:1500])
        vector_index.add(index, vectors[1500:])
        vector_index.write(index, tmp_path / f"{name}-{kind}.faiss")
    one, two = (tmp_path / f"{name}-{kind}.faiss" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    found = vector_index.search(vector_index.read(one), vectors[:200], 10)
    exact = np.argsort(-vectors[:200] @ vectors.T, axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact)])
    assert recall == 1 if kind == "flat" else recall > 0.9
    assert (found[:, 0] == np.arange(200)).mean() > 0.98


def test_a_corpus_that_outgrows_the_exact_index_changes_its_kind_and_finds_the_same(tmp_path, encoder, monkeypatch):
    cases = [make_case(n, words(n)) for n in range(40)]
    queries = [Query("q", words(n), make_case(n, "").images[0]) for n in range(60, 75)]
    build_index(tmp_path / "flat", [CasesFolder(write_cases(tmp_path / "all", cases))], encoder)
    exact = Retriever(tmp_path / "flat", k={"cases": 5}).search(queries)
    monkeypatch.setattr(vector_index, "FLAT_LIMIT", 30)
    grown = tmp_path / "grown"
    for part, kind in ((cases[:20], "flat 20"), (cases[20:35], "hnsw 35"), (cases[35:], "hnsw 40")):
        folder = CasesFolder(write_cases(tmp_path / f"part {len(part)}", part))
        assert build_index(grown, [folder], encoder)["cases"]["views"]["fused"] == kind
    assert Retriever(grown, k={"cases": 5}).search(queries) == exact


def test_a_damaged_index_is_named_in_one_line(tmp_path, encoder):
    build_index(tmp_path / "index", [GuidelineFile(write_guidelines(tmp_path / "a.jsonl", range(3)))], encoder)
    hurt = [*(tmp_path / "index" / "segments").iterdir(), *(tmp_path / "index" / "views").glob("*fused*.faiss")]
    assert len(hurt) == 2
    for path in hurt:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 3])
        with pytest.raises(SemiHVError, match="damaged or missing"):
            Retriever(tmp_path / "index").search([Query("q", "lung", None)])
        path.write_bytes(whole)
    (tmp_path / "index" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(SemiHVError, match="manifest .* is damaged"):
        Retriever(tmp_path / "index")


def test_a_shared_space_is_not_normalised_before_the_sum_unless_asked(tmp_path):
    clip = str(write_clip(tmp_path / "clip"))
    source = CasesFolder(write_cases(tmp_path / "cases", [make_case(n, words(n)) for n in range(4)]))
    for name, asked, expected in (("plain", None, False), ("levelled", True, True)):
        build_index(tmp_path / name, [source], clip, normalise=asked)
        assert json.loads((tmp_path / name / "manifest.json").read_text(encoding="utf-8"))["normalise"] is expected
