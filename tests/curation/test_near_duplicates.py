"""Cases that repeat others are found, one of them stays, and what is near to a case is known."""

import io
import json
import random
import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from drawn_cases import REPORT, case, draw, encode, jpeg, png, question, rows_of, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from semihv_hf.curation import hash_search
from semihv_hf.curation.hash_search import codes_within, near_pairs
from semihv_hf.curation.image_signatures import EmbeddingCheck
from semihv_hf.curation.near_duplicates import DuplicateOptions, Duplicates, find_duplicates
from semihv_hf.curation.text_signatures import TextSigner, near_texts
from semihv_hf.data.overlap_images import near_hashes
from semihv_hf.errors import SemiHVError


def find(folder, out, **arguments):
    options = DuplicateOptions(**arguments.pop("options", {}))
    summary = find_duplicates(folder, out_dir=out, options=options, progress=False, **arguments)
    return summary, Duplicates.load(out), {row["id"]: row for row in rows_of(out / "duplicates.parquet")}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([("a", png(1), ""), ("b", jpeg(1), REPORT)], "b"),
        ([("a", encode(draw(1).resize((60, 48))), REPORT), ("b", png(1), "")], "a"),
        ([("a", encode(draw(1).resize((60, 48))), ""), ("b", png(1), "")], "b"),
        ([("b", png(1), ""), ("a", jpeg(1), "")], "a"),
    ],
    ids=["expert text before none", "expert text before size", "the larger image", "the smallest id"],
)
def test_of_two_cases_with_the_same_picture_the_better_one_stays(tmp_path, rows, kept):
    write(tmp_path / "set", [case(name, data, text=text) for name, data, text in rows] + [case("other", png(2))])
    summary, found, repeats = find(tmp_path / "set", tmp_path / "out")
    dropped = {"a": "b", "b": "a"}[kept]
    assert found.dropped == {dropped}
    assert (repeats[dropped]["kept_id"], repeats[dropped]["kind"]) == (kept, "image")
    assert 0.97 <= repeats[dropped]["score"] <= 1
    assert found.near(kept) == {dropped} and found.near(dropped) == {kept} and found.near("other") == frozenset()
    assert summary["dropped"] == 1


def test_a_machine_text_is_no_expert_text(tmp_path):
    write(tmp_path / "set", [case("a", png(1), text=REPORT, annotation="machine"), case("b", jpeg(1), text=REPORT)])
    assert find(tmp_path / "set", tmp_path / "out")[1].dropped == {"a"}


def test_a_held_out_case_stays_and_the_training_case_that_repeats_it_goes(tmp_path):
    write(tmp_path / "set", [case("a", png(1), text=REPORT)])
    write(tmp_path / "set", [case("b", jpeg(1))], split="test")
    assert find(tmp_path / "set", tmp_path / "out")[1].dropped == {"a"}


def test_siblings_are_near_but_only_identical_pixels_make_them_duplicates(tmp_path):
    rows = [
        case("slice 1", png(1), group="volume"),
        case("slice 2", jpeg(1, 95), group="volume"),
        case("slice 3", encode(draw(1), "BMP"), group="volume"),
        case("elsewhere", png(5), group="volume", source="another"),
    ]
    write(tmp_path / "set", rows)
    _, found, repeats = find(tmp_path / "set", tmp_path / "out")
    assert {name: (row["kept_id"], row["kind"]) for name, row in repeats.items()} == {
        "slice 3": ("slice 1", "identical")
    }
    assert found.near("slice 1") == {"slice 2", "slice 3"}
    assert found.near("slice 2") == {"slice 1", "slice 3"}
    assert found.near("elsewhere") == frozenset(), "equal group names of two sources are two groups"


def fading(steps: int) -> list[bytes]:
    """Pictures each of which resembles the next, while the first and last are different."""
    one, two = draw(1), draw(2)
    return [encode(Image.blend(one, two, step / (steps - 1))) for step in range(steps)]


def test_of_a_chain_each_dropped_case_is_a_duplicate_of_the_very_case_that_is_kept(tmp_path):
    pictures = fading(25)
    write(tmp_path / "set", [case(f"{number:02d}", data) for number, data in enumerate(pictures)])
    _, found, repeats = find(tmp_path / "set", tmp_path / "out")
    kept = {f"{number:02d}" for number in range(25)} - found.dropped
    assert {"00", "24"} & kept == {"00"} or {"00", "24"} <= kept
    assert 3 <= len(kept) < 25, "thinned, but not reduced to one"
    for row in repeats.values():
        assert row["kept_id"] in kept and row["kept_id"] in found.near(row["id"])
    for name in kept:
        assert not any(repeats[other]["score"] >= 0.97 for other in found.near(name) & kept & repeats.keys())
        assert not found.near(name) & kept, "no two kept cases are duplicates"


def test_a_case_within_a_larger_one_is_near_and_stays(tmp_path):
    rows = [case("article", png(1), png(2), png(3)), case("figure", jpeg(2)), case("again", png(3), jpeg(1), png(2))]
    write(tmp_path / "set", rows)
    _, found, repeats = find(tmp_path / "set", tmp_path / "out")
    assert found.dropped == {"article"} and repeats["article"]["kept_id"] == "again"
    assert found.near("figure") == {"article", "again"}


def test_near_texts_are_near_and_drop_only_cases_without_images_unless_asked(tmp_path):
    edited = REPORT.replace("three centimetres", "four centimetres")
    rows = [
        case("a", png(1), text=REPORT), case("b", png(2), text=edited), case("c", text=REPORT.upper()),
        case("d", text=edited), case("e", text="Quite another text with at least eight words, however it is cut."),
    ]  # fmt: skip
    write(tmp_path / "set", rows)
    _, found, repeats = find(tmp_path / "set", tmp_path / "out", options={"jaccard": 0.6})
    assert {name: (row["kept_id"], row["kind"]) for name, row in repeats.items()} == {"d": ("c", "text")}
    assert found.near("a") == {"b", "c", "d"} and found.near("e") == frozenset()
    _, found, repeats = find(tmp_path / "set", tmp_path / "out", options={"jaccard": 0.6, "drop_same_texts": True})
    assert found.dropped == {"b", "c", "d"}
    assert repeats["c"]["kind"] == "identical" and 0.6 <= repeats["b"]["score"] < 1


def test_different_expert_texts_can_keep_cases_with_the_same_picture(tmp_path):
    other = "The same film was read by a second person, who thought of nothing but old scars at the apex."
    rows = [case("a", png(1), text=REPORT), case("b", jpeg(1), text=other), case("c", png(1), text=REPORT)]
    write(tmp_path / "set", rows)
    assert find(tmp_path / "set", tmp_path / "out")[1].dropped == {"b", "c"}
    assert find(tmp_path / "set", tmp_path / "out", options={"keep_expert_texts": True})[1].dropped == {"c"}


def test_a_picture_in_many_cases_is_one_node(tmp_path):
    write(tmp_path / "set", [case(f"{number:04d}", png(1)) for number in range(60)])
    _, found, repeats = find(tmp_path / "set", tmp_path / "out")
    assert len(found.dropped) == 59 and {row["kept_id"] for row in repeats.values()} == {"0000"}
    assert len(found.near("0030")) == 59
    assert (tmp_path / "out/near_nodes.arrow").stat().st_size < 5000


def test_unreadable_and_one_coloured_images_are_counted_and_make_no_duplicates(tmp_path):
    flat = encode(Image.new("L", (64, 64), 3))
    rows = [case("torn", png(1)[:-60]), case("torn too", png(1)[:-60]), case("flat", flat), case("flat too", flat)]
    write(tmp_path / "set", rows)
    summary, found, _ = find(tmp_path / "set", tmp_path / "out")
    assert (summary["counts"]["unreadable"], summary["counts"]["flat"], summary["counts"]["images"]) == (2, 2, 4)
    assert found.dropped == frozenset()


def mean_colours(images: list[bytes]) -> np.ndarray:
    """Vectors that do not see left and right."""
    pictures = [Image.open(io.BytesIO(data)).convert("L").resize((16, 16)) for data in images]
    values = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    return (values + values[:, :, ::-1]).reshape(len(values), -1) * 30 - 2000


def test_vectors_can_confirm_or_add_pairs(tmp_path):
    rows = [
        case("a", png(1)),
        case("b", jpeg(1)),
        case("mirrored", encode(ImageOps.mirror(draw(1)))),
        case("c", png(2)),
    ]
    write(tmp_path / "set", rows)

    def dropped(vectors, **how):
        check = EmbeddingCheck(vectors, 0.99, **how)
        return find(tmp_path / "set", tmp_path / "out", options={"embedding": check})[2]

    found = dropped(mean_colours, name="colours", use="either")
    assert {name: row["kind"] for name, row in found.items()} == {"b": "image", "mirrored": "embedding"}
    assert set(dropped(mean_colours, name="colours")) == {"b"}
    vectors = {row["id"]: np.eye(4)[[number]] for number, row in enumerate(rows)}
    assert dropped(vectors, name="all different") == {}
    assert set(dropped({**vectors, "b": vectors["a"] * 25}, name="of any length")) == {"b"}


@pytest.mark.parametrize("threshold", [480, 1.01, 0, -1])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(SemiHVError, match="is not a cosine"):
        EmbeddingCheck(mean_colours, threshold, name="colours")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (lambda images: np.zeros((len(images), 4)), "zero or not finite"),
        (lambda images: np.ones((1, 4)), "gave vectors of shape"),
        ({"a": np.ones((1, 4))}, "hold none of row b"),
        ({"a": np.ones((1, 4)), "b": np.ones((2, 4))}, "not one for each of its images"),
    ],
)
def test_vectors_that_cannot_be_compared_are_named(tmp_path, vectors, message):
    write(tmp_path / "set", [case("a", png(1)), case("b", png(2))])
    with pytest.raises(SemiHVError, match=message):
        find(tmp_path / "set", tmp_path / "out", options={"embedding": EmbeddingCheck(vectors, 0.9, name="x")})


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=st.permutations(range(9)), shards=st.integers(1, 3), swapped=st.booleans())
def test_the_result_does_not_depend_on_the_order_of_rows_files_and_benchmarks(tmp_path, order, shards, swapped):
    train = [
        case(f"t{n}", jpeg(n % 4, 60 + 4 * n), text=f"{REPORT} {n % 3}" * (n % 2), group="ab"[n % 2] * (n > 4))
        for n in range(9)
    ]
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        write(folder / "set", [train[index] for index in order], shards=shards)
        for bench, seed in (("one", 1), ("two", 2)):
            write(
                folder / bench,
                [question(f"q{n}", REPORT, png(seed + n)) for n in range(2)],
                config="questions",
                split="test",
            )
        benchmarks = [folder / "two", folder / "one"] if swapped else [folder / "one", folder / "two"]
        summary, found, _ = find(folder / "set", folder / "out", benchmarks=benchmarks)
        del summary["inputs"]
        near = {row["id"]: sorted(found.near(row["id"])) for row in train}
        written = outputs(folder / "out")
        written.pop("duplicates.json")
        result = json.dumps([summary, near, sorted(found.dropped)]).encode() + b"".join(
            data for _, data in sorted(written.items())
        )
    assert summary["dropped"] >= 3 and summary["contaminated"] >= 3
    first = tmp_path / "first"
    if not first.exists():
        first.write_bytes(result)
    assert first.read_bytes() == result


def test_a_second_run_decodes_nothing_and_one_more_shard_only_that(tmp_path, monkeypatch):
    import semihv_hf.curation.signature_cache as cache

    write(tmp_path / "set", [case(f"{n}", jpeg(n // 2, 70 + n)) for n in range(6)], shards=2)
    find(tmp_path / "set", tmp_path / "out")
    first = outputs(tmp_path / "out")
    seen = []
    sign = cache.sign_image
    monkeypatch.setattr(cache, "sign_image", lambda data, row: seen.append(data) or sign(data, row))
    find(tmp_path / "set", tmp_path / "out")
    assert seen == [] and outputs(tmp_path / "out") == first
    write(tmp_path / "set", [case("new", jpeg(0, 90))], split="test")
    _, found, _ = find(tmp_path / "set", tmp_path / "out")
    assert seen == [jpeg(0, 90)] and {"0", "1"} <= found.dropped


def test_a_run_that_was_cut_off_leaves_no_result_that_can_be_loaded(tmp_path, monkeypatch):
    import semihv_hf.curation.near_duplicates as module

    write(tmp_path / "set", [case("a", png(1)), case("b", jpeg(1))])
    find(tmp_path / "set", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_near", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            find(tmp_path / "set", tmp_path / "out")
    with pytest.raises(SemiHVError, match="holds no duplicates.json"):
        Duplicates.load(tmp_path / "out")
    assert not list((tmp_path / "out").glob(".scratch*"))
    assert find(tmp_path / "set", tmp_path / "out")[1].dropped == {"b"}


@pytest.mark.slow
def test_several_processes_make_the_same_files(tmp_path):
    write(tmp_path / "set", [case(f"{n}", jpeg(n // 2, 70 + n), text=f"{REPORT} {n}") for n in range(8)], shards=4)
    find(tmp_path / "set", tmp_path / "one")
    find(tmp_path / "set", tmp_path / "two", workers=2)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")
    made = [
        sorted((path.name, path.read_bytes()) for path in (tmp_path / out / "signatures").iterdir())
        for out in ("one", "two")
    ]
    assert made[0] == made[1] and len(made[0]) == 12


def planted(count: int, seed: int) -> np.ndarray:
    """Random hashes, some bits of which are hardly used, with near copies in each way that counts."""
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**64, (count, 2), dtype=np.uint64)
    hashes[:, 1] &= generator.integers(0, 2**64, count, dtype=np.uint64) | np.uint64(0xFFFF_0F0F_0000_F0FF)
    source, target = generator.permutation(count)[: count // 5].reshape(2, -1)
    hashes[target] = hashes[source]
    for column, most in ((0, 25), (1, 7)):
        for place in target:
            for bit in generator.choice(64, generator.integers(0, most), replace=False):
                hashes[place, column] ^= np.uint64(1 << int(bit))
    hashes[target[::7]] = hashes[source[::7]]
    return hashes


@pytest.mark.parametrize("three_bands", [1, 10**9])
@pytest.mark.parametrize("dense", [1, 10**9])
def test_the_search_by_bands_finds_exactly_the_pairs_of_a_comparison_of_all(monkeypatch, three_bands, dense):
    hashes = planted(1500, seed=3)
    hashes[:60] = hashes[0]  # a large bucket
    monkeypatch.setattr(hash_search, "ALL_PAIRS", 0)
    monkeypatch.setattr(hash_search, "THREE_BANDS", three_bands)
    monkeypatch.setattr(hash_search, "_DENSE", dense)
    monkeypatch.setattr(hash_search, "_BLOCK", 1000)
    monkeypatch.setattr(hash_search, "_CANDIDATES_AT_ONCE", 700)
    expected = {
        (int(a), int(b)): int(d)
        for left, right, bits in near_hashes(hashes, hashes, 10)
        for a, b, d in zip(left, right, bits)
        if a < b
    }
    found = [
        (int(a), int(b), int(d)) for left, right, bits in near_pairs(hashes, 10) for a, b, d in zip(left, right, bits)
    ]
    assert len(expected) > 60 * 59 / 2 + 50 and sum(bits > 10 for bits in expected.values()) > 5
    assert len(found) == len(expected) and {(a, b): d for a, b, d in found} == expected


@settings(max_examples=30)
@given(
    codes=st.lists(st.integers(0, 2**64 - 1), max_size=8).flatmap(
        lambda base: st.lists(
            st.tuples(st.sampled_from(base or [0]), st.sets(st.integers(0, 63), max_size=8)), max_size=20
        )
    ),
    distance=st.sampled_from([0, 3, 4, 5]),
)
def test_no_pair_of_codes_is_missed_or_told_twice(codes, distance):
    values = np.array([base ^ sum(1 << bit for bit in bits) for base, bits in codes], np.uint64)
    found = [(int(a), int(b)) for left, right in codes_within(values, distance) for a, b in zip(left, right)]
    expected = {
        (a, b)
        for a, b in combinations(range(len(values)), 2)
        if (int(values[a]) ^ int(values[b])).bit_count() <= distance
    }
    assert len(found) == len(set(found)) and set(found) == expected


def test_estimated_similarities_are_those_of_the_sets_and_seeds_are_fixed():
    generator = random.Random(0)
    words = [f"w{generator.randrange(5000)}" for _ in range(400)]
    signer = TextSigner(8)
    base = signer.sign(" ".join(words), 0, expert=False)
    again = TextSigner(8).sign(" ".join(words).upper(), 0, expert=False)
    assert (base["minhash"] == again["minhash"]).all() and (base["digest"] == again["digest"]).all()
    assert base["minhash"][:3].tolist() == [622967, 30860254, 22723306]
    errors = []
    for share in (0.1, 0.3, 0.5):
        other = words[:]
        for place in range(0, int(400 * share), 5):
            other[place] = f"new{place}"
        runs = [{tuple(text[place : place + 5]) for place in range(396)} for text in (words, other)]
        true = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
        found = signer.sign(" ".join(other), 1, expert=False)
        errors.append(abs((base["minhash"] == found["minhash"]).mean() - true))
    assert max(errors) < 0.12, "three standard deviations of 128 draws"
    assert signer.sign("a text of only seven words here", 0, expert=False) is None


def test_bands_find_nearly_all_near_texts_and_a_large_bucket_is_not_squared(monkeypatch):
    monkeypatch.setattr("semihv_hf.curation.text_signatures.MOST_COMPARED", 20)
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**32, (300, 128), dtype=np.uint32)
    near = base.copy()
    for row in near:
        row[generator.choice(128, 22, replace=False)] += 1
    signatures = np.concatenate([base, near, np.repeat(base[:1], 400, axis=0)])
    counts = Counter()
    found = {
        (int(a), int(b)) for left, right, score in near_texts(signatures, 0.8, counts) for a, b in zip(left, right)
    }
    assert sum((n, n + 300) in found for n in range(300)) >= 299
    assert counts["large_buckets"] > 0
    assert len(found) < 420 * 20 * 2
    assert all((0, n) in found for n in range(600, 1000)), "each copy is joined to the first"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 40}, "distance 40"),
        ({"correlation": 1.5}, "correlation 1.5"),
        ({"jaccard": 80}, "jaccard 80"),
        ({"min_words": 20}, "do not fit"),
        ({"held_out": ("tset",)}, "Unknown split 'tset'"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(SemiHVError, match=message):
        DuplicateOptions(**options)


def test_folders_that_cannot_be_compared_are_named_in_one_line(tmp_path):
    def failure(folder, benchmarks=()) -> str:
        with pytest.raises(SemiHVError) as caught:
            find(folder, tmp_path / "out", benchmarks=benchmarks)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    write(tmp_path / "set", [case("a", png(1))])
    (tmp_path / "bare").mkdir()
    write(tmp_path / "none", [])
    write(tmp_path / "bench", [question("q", "?")], config="questions", split="test")
    write(tmp_path / "x/set", [question("q", "?")], config="questions", split="test")
    assert "There is no folder" in failure(tmp_path / "nowhere")
    assert "holds no <split>" in failure(tmp_path / "bare")
    assert "holds no cases" in failure(tmp_path / "none")
    assert "holds no cases" in failure(tmp_path / "bench")
    assert "There is no folder" in failure(tmp_path / "set", [tmp_path / "nowhere"])
    assert "Several folders are called set" in failure(tmp_path / "set", [tmp_path / "x/set"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(SemiHVError, match="holds no duplicates.json"):
        Duplicates.load(tmp_path / "out")
    _, found, _ = find(tmp_path / "set", tmp_path / "out")
    with pytest.raises(SemiHVError, match="The case b was not looked at"):
        found.near("b")
