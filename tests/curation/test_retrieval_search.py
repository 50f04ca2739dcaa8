"""What a query gets, and what it never gets."""

import random

import numpy as np
import pytest
from retrieval_models import WORDS, drawn, make_case, write_bert, write_cases, write_clip

pytest.importorskip("faiss", reason="faiss-cpu is not installed (extra `curate`)")

from semihv_hf.curation.retrieval import (  # noqa: E402
    CasesFolder,
    Exclusions,
    Query,
    Retriever,
    benchmark_exclusions,
    build_index,
    load_encoder,
    query_of,
)
from semihv_hf.curation.retrieval.fusion import unit  # noqa: E402
from semihv_hf.data.schema import Fact, Label, Text  # noqa: E402
from semihv_hf.errors import SemiHVError  # noqa: E402


def words(number: int, count: int = 10) -> str:
    return " ".join(np.random.default_rng(number).choice(WORDS, count))


CASES = [make_case(n, words(n), group=f"patient {n // 3}") for n in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cases(tmp_path_factory.mktemp("cases"), CASES)


@pytest.fixture(scope="module")
def index(tmp_path_factory, folder):
    """Two spaces: a text encoder and thumbnails."""
    root = tmp_path_factory.mktemp("pair")
    build_index(root / "index", [CasesFolder(folder)], f"{write_bert(root / 'bert')}+thumbnail")
    return root / "index"


@pytest.fixture(scope="module")
def clip_index(tmp_path_factory, folder):
    """One space: a CLIP of random weights."""
    root = tmp_path_factory.mktemp("clip")
    build_index(root / "index", [CasesFolder(folder)], str(write_clip(root / "clip")))
    return root / "index"


def test_scores_of_clip_sf_are_those_of_the_formula(clip_index):
    encoder = load_encoder(str(clip_index.parent / "clip"))
    query = Query("q", words(100), drawn(100))
    asked = unit(encoder.text.encode_texts([query.text]) + encoder.image.encode_images([query.image]))[0]
    expected = {}
    for case in CASES:
        both = encoder.text.encode_texts([case.texts[0].text]) + encoder.image.encode_images(case.images)
        expected[case.id] = float(unit(both)[0] @ asked)
    best = sorted(expected, key=expected.get, reverse=True)[:8]
    [found] = Retriever(clip_index, k={"cases": 8}).search([query])
    assert [evidence.id for evidence in found] == best
    assert [evidence.score for evidence in found] == pytest.approx([expected[name] for name in best], abs=2e-6)


def test_text_and_image_alone_look_at_nothing_else(index):
    target = CASES[7]
    misleading = Query("q", target.texts[0].text, drawn(12))
    [[by_text]] = Retriever(index, fusion="text").search([misleading])
    [[by_image]] = Retriever(index, fusion="image").search([Query("q", target.texts[0].text, drawn(12, side=64))])
    assert (by_text.id, by_text.score) == (target.id, pytest.approx(1, abs=1e-5))
    assert by_image.id == CASES[12].id and by_image.score > 0.98


def test_reciprocal_rank_fusion_prefers_what_both_rankings_put_high(index):
    query = Query("q", words(7), drawn(12, side=64))
    [fused] = Retriever(index, fusion="rrf", k={"cases": 30}).search([query])
    ranks = {}
    for fusion in ("text", "image"):
        [ranking] = Retriever(index, fusion=fusion, k={"cases": 30}).search([query])
        for rank, evidence in enumerate(ranking, start=1):
            ranks[evidence.id] = ranks.get(evidence.id, 0) + 1 / (60 + rank)
    assert {evidence.id: evidence.score for evidence in fused} == pytest.approx(ranks, abs=1e-6)
    assert [e.score for e in fused] == sorted((e.score for e in fused), reverse=True)


@pytest.mark.parametrize("fusion", ["clip_sf", "text", "image", "rrf"])
def test_the_case_and_its_siblings_are_never_its_evidence_and_k_are_found_all_the_same(index, fusion):
    queries = [query_of(case) for case in CASES]
    found = Retriever(index, fusion=fusion, k={"cases": 5}).search(queries)
    groups = {case.id: case.group for case in CASES}
    for case, evidence in zip(CASES, found):
        assert len({item.id for item in evidence}) == 5
        assert all(groups[item.id] != case.group for item in evidence)


def test_near_duplicates_are_left_out_and_the_next_ones_take_their_place(index):
    query = query_of(CASES[0])
    ranked = [item.id for item in Retriever(index, k={"cases": 27}).search([query])[0]]
    assert len(ranked) == 27
    for left_out in (1, 10, 26):
        near = frozenset(ranked[:left_out])
        [found] = Retriever(index, k={"cases": 5}).search([query_of(CASES[0], near)])
        assert [item.id for item in found] == ranked[left_out : left_out + 5]


def test_the_same_picture_under_another_name_is_no_evidence(index):
    [found] = Retriever(index, fusion="image", k={"cases": 30}).search([Query("another", "", CASES[4].images[0])])
    assert CASES[4].id not in {item.id for item in found} and len(found) == 29


def test_benchmark_items_are_kept_out_by_id_picture_patient_and_text(tmp_path, index):
    def copy(number, **changes):
        return make_case(number, **{"text": "another text about another patient", "group": "stranger", **changes})

    benchmark = write_cases(
        tmp_path / "benchmark",
        [CASES[0], copy(50, group="patient 3"), copy(51, images=CASES[15].images)],
        split="test",
    )
    retriever = Retriever(index, k={"cases": 30}, exclude=benchmark_exclusions([benchmark]))
    [found] = retriever.search([Query("q", "lung", drawn(99))])
    kept_out = {case.id for case in CASES} - {item.id for item in found}
    # Case 0 by id, with patient 0; patient 3; the picture of case 15.
    assert kept_out == {CASES[n].id for n in (0, 1, 2, 9, 10, 11, 15)}
    assert retriever.fingerprint != Retriever(index, k={"cases": 30}).fingerprint


@pytest.mark.parametrize("fusion", ["clip_sf", "text", "image", "rrf"])
def test_a_query_gets_the_same_alone_in_company_and_in_any_order(index, fusion):
    retriever = Retriever(index, fusion=fusion, k={"cases": 4})
    queries = [Query(f"q{n}", words(200 + n, 3 + n), drawn(200 + n) if n % 3 else None) for n in range(12)]
    queries[5] = Query("q5", "", drawn(5, side=60))
    together = retriever.search(queries)
    assert together == [retriever.search([query])[0] for query in queries]
    order = random.Random(0).sample(range(12), 12)
    assert retriever.search([queries[n] for n in order]) == [together[n] for n in order]
    assert any(together)


def test_what_is_below_the_floor_is_no_evidence(index):
    query = Query("q", words(3), drawn(3, side=70))
    every = Retriever(index, k={"cases": 30}).search([query])[0]
    floor = every[6].score
    kept = Retriever(index, k={"cases": 30}, floor={"cases": floor}).search([query])[0]
    assert kept == [item for item in every if item.score >= floor] and len(kept) < 30
    assert Retriever(index, k={"cases": 30}, floor=1.0).search([Query("q", "xyz", None)]) == [[]]


def test_a_picture_finds_no_text_where_their_spaces_have_nothing_in_common(tmp_path, index):
    silent = write_cases(tmp_path / "cases", [make_case(n, words(n), images=[]) for n in range(4)])
    build_index(tmp_path / "index", [CasesFolder(silent)], f"{index.parent / 'bert'}+thumbnail")
    for fusion in ("clip_sf", "image", "rrf"):
        assert Retriever(tmp_path / "index", fusion=fusion).search([Query("q", "", drawn(1))]) == [[]]
    assert len(Retriever(tmp_path / "index").search([Query("q", "lung", drawn(1))])[0]) == 1


def test_images_of_a_similar_case_come_from_its_folder(index, folder):
    retriever = Retriever(index, k={"cases": 30})
    by_id = {case.id: case.images for case in CASES}
    [found] = retriever.search([Query("q", "lung", None)])
    assert len(found) == 30 and all(retriever.images(item) == by_id[item.id] for item in found)


def test_a_cases_folder_that_moved_is_named(tmp_path, index):
    made = write_cases(tmp_path / "cases", [make_case(n, words(n)) for n in range(3)])
    build_index(tmp_path / "index", [CasesFolder(made)], f"{index.parent / 'bert'}+thumbnail")
    retriever = Retriever(tmp_path / "index")
    [[found]] = retriever.search([Query("q", "lung", None)])
    made.rename(tmp_path / "elsewhere")
    with pytest.raises(SemiHVError, match="are no longer in"):
        retriever.images(found)
    write_cases(tmp_path / "cases", [make_case(n, words(n)) for n in range(10, 13)])
    with pytest.raises(SemiHVError, match="are no longer in"):
        retriever.images(found)


def test_evidence_says_where_in_the_document_its_text_stands(tmp_path, index):
    long = " ".join(words(n, 9) + "." for n in range(12))
    case = make_case(1, long)
    case.texts.append(Text("impression", "a fracture of the right bone", "human_edit"))
    case.texts.append(Text("caption", "a model wrote this", "machine"))
    build_index(
        tmp_path / "index",
        [CasesFolder(write_cases(tmp_path / "cases", [case]))],
        f"{index.parent / 'bert'}+thumbnail",
    )
    document = f"{long}\n\na fracture of the right bone"
    texts = set()
    for query in (words(0, 9), words(11, 9), "fracture of the right bone"):
        [[found]] = Retriever(tmp_path / "index", fusion="text").search([Query("q", query, None)])
        assert document[found.begin : found.end] == found.text
        assert (found.corpus, found.id, found.source, found.licence) == ("cases", case.id, "pydicom", "MIT")
        assert "model" not in found.text
        texts.add(found.text)
    assert len(texts) >= 2


def test_every_image_of_a_case_is_searched_when_asked(tmp_path, index):
    case = make_case(1, words(1), images=[drawn(301), drawn(302)])
    other = make_case(2, words(2))
    made = write_cases(tmp_path / "cases", [case, other])
    found = {}
    for images in ("first", "all"):
        build_index(tmp_path / images, [CasesFolder(made, images=images)], f"{index.parent / 'bert'}+thumbnail")
        [found[images]] = Retriever(tmp_path / images, fusion="image", k={"cases": 2}).search(
            [Query("q", "", drawn(302, side=64))]
        )
    assert found["all"][0].id == case.id and found["all"][0].score > 0.98
    assert max(item.score for item in found["first"]) < 0.7
    assert len(found["all"]) == 2  # a case once, however many of its images are near


def test_a_long_query_is_read_to_its_end(index):
    start = "lung mass " * 40
    retriever = Retriever(index, fusion="text", k={"cases": 3})
    [one], [other] = (
        retriever.search([Query("q", start + end, None)]) for end in ("", "fever cough pain chronic effusion " * 8)
    )
    assert [item.score for item in one] != [item.score for item in other]


def test_the_query_of_a_case_says_what_people_and_files_say_and_no_model(index):
    case = make_case(1, "a nodule", group="p")
    case.facts = [Fact("modality", "ct", "tag"), Fact("rows", "512", "tag"), Fact("body_part", "chest", "tag")]
    case.labels = [Label("body_part", "thorax", "model", "prompt 1", "m")]
    case.texts.append(Text("caption", "an invention", "machine"))
    query = query_of(case, frozenset({"x"}))
    assert query.text == "modality: ct.\nbody part: thorax.\na nodule"
    assert (query.id, query.image, query.group, query.exclude) == (case.id, case.images[0], "pydicom\np", {"x"})


def test_what_cannot_be_asked_is_one_line(tmp_path, index):
    text_only = tmp_path / "index"
    build_index(text_only, [CasesFolder(write_cases(tmp_path / "c", CASES[:3]))], str(index.parent / "bert"))
    for folder, options, says in (
        (index, {"fusion": "late"}, "Unknown fusion 'late'"),
        (index, {"k": {"guidelines": 1}}, "has no corpus 'guidelines'"),
        (index, {"k": {"cases": -1}}, "k of cases is -1"),
        (index, {"floor": {"guidelines": 0.2}}, "A floor is given for 'guidelines'"),
        (index, {"floor": 2}, "The floor of cases is 2"),
        (text_only, {"fusion": "image"}, "which encodes no images: fusion image is not possible"),
        (text_only, {"fusion": "rrf"}, "which encodes no images: fusion rrf is not possible"),
    ):
        with pytest.raises(SemiHVError, match=says) as raised:
            Retriever(folder, **options)
        assert "\n" not in str(raised.value)
    with pytest.raises(SemiHVError, match="neither text nor image"):
        Retriever(index).search([Query("empty", " ", None)])
    with pytest.raises(SemiHVError, match="An image cannot be read"):
        Retriever(index).search([Query("torn", "", CASES[0].images[0][:50])])


def test_the_fingerprint_changes_with_everything_that_changes_a_result(index, clip_index):
    options = [{}, {"fusion": "rrf"}, {"k": {"cases": 2}}, {"floor": 0.1}, {"exclude": Exclusions(frozenset({"x"}))}]
    prints = [Retriever(index, **option).fingerprint for option in options] + [Retriever(clip_index).fingerprint]
    assert len(set(prints)) == len(prints)
    assert Retriever(index).fingerprint == prints[0]
