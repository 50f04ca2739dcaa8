"""Images and texts that training data shares with held-out data are found; those it does not share are not."""

import io
import json
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from semihv_hf.data.benchmarks.question import Question
from semihv_hf.data.dataset_rows import row_files
from semihv_hf.data.features import case_features, question_features, record_features
from semihv_hf.data.messages import message
from semihv_hf.data.overlap import COLUMNS, find_overlap
from semihv_hf.data.overlap_images import near_hashes
from semihv_hf.data.overlap_texts import TextIndex, words_of
from semihv_hf.errors import SemiHVError

SENTENCE = (
    "A 54-year-old woman presents with progressive dyspnoea and a dry cough; computed tomography shows "
    "bilateral ground-glass opacities with a crazy-paving pattern."
)


def draw(seed: int, size: tuple[int, int] = (200, 160)) -> Image.Image:
    """A drawn body-like picture: a dark ground, an outline and random organs."""
    generator = random.Random(seed)
    image = Image.new("L", size, 8)
    pen = ImageDraw.Draw(image)
    pen.ellipse((10, 10, size[0] - 10, size[1] - 10), fill=60)
    for _ in range(14):
        x, y = generator.randrange(size[0]), generator.randrange(size[1])
        w, h = generator.randrange(10, 60), generator.randrange(10, 60)
        pen.ellipse((x - w, y - h, x + w, y + h), fill=generator.randrange(20, 255))
    return image.filter(ImageFilter.GaussianBlur(2)).convert("RGB")


def symmetric(seed: int) -> Image.Image:
    """A picture that is its own mirror image, as a template brain is."""
    half = draw(seed, (100, 160))
    image = Image.new("RGB", (200, 160))
    image.paste(half, (0, 0))
    image.paste(ImageOps.mirror(half), (100, 0))
    return image


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def crop(image: Image.Image, share: float) -> Image.Image:
    x, y = int(image.width * share), int(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


def case(identity: str, *pictures: bytes, text: str = "") -> dict:
    texts = [{"role": "report", "text": text, "annotation": "human", "language": "en", "image": None}] if text else []
    return {
        "id": identity, "source": "drawn", "source_id": identity, "group": identity, "split": "train",
        "licence": "CC0-1.0", "images": [{"bytes": data, "path": None} for data in pictures], "facts": [],
        "texts": texts, "regions": [], "labels": [],
    }  # fmt: skip


def record(identity: str, case_id: str, question: str, answer: str, *pictures: bytes) -> dict:
    return {
        "id": identity, "case_id": case_id, "source": "drawn", "source_id": identity, "licence": "CC0-1.0",
        "images": [{"bytes": data, "path": None} for data in pictures],
        "messages": [message("user", question, len(pictures)), message("assistant", answer)],
        "annotation": ["rule", "rule"], "task": "vqa", "modality": "CT", "facts": [], "questions": [],
        "provenance": [], "evidence": [],
    }  # fmt: skip


def question(identity: str, text: str, *pictures: bytes, options: tuple[str, ...] = (), answer: str = "no") -> dict:
    return Question(
        id=identity, benchmark="drawn", source_id=identity, group=identity, split="test", licence="CC0-1.0",
        images=list(pictures), question=text, answer=answer, answer_type="closed" if options else "open",
        options=list(options), answer_letter="",
    ).row()  # fmt: skip


def write(folder, config: str, split: str, rows: list[dict], shards: int = 1):
    from datasets import Dataset

    features = {"cases": case_features, "questions": question_features}.get(config, record_features)()
    (folder / "data" / config).mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        path = folder / "data" / config / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
        Dataset.from_list(rows[shard::shards], features=features).to_parquet(path)
    return folder


def rows_of(folder) -> list[dict]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder / "overlap.parquet").to_pylist()


CHANGES = {
    "the same bytes": (lambda image: encode(image), True),
    "JPEG of quality 90": (lambda image: encode(image, "JPEG", quality=90), True),
    "JPEG of quality 40": (lambda image: encode(image, "JPEG", quality=40), True),
    "half the size": (lambda image: encode(image.resize((100, 80), Image.Resampling.LANCZOS)), True),
    "squared to 336": (lambda image: encode(image.resize((336, 336)), "JPEG"), True),
    "brighter": (lambda image: encode(ImageEnhance.Brightness(image).enhance(1.15)), True),
    "greyscale": (lambda image: encode(image.convert("L")), True),
    "one per cent cropped": (lambda image: encode(crop(image, 0.01)), True),
    # What is not found, as the documentation says.
    "mirrored": (lambda image: encode(ImageOps.mirror(image)), False),
    "turned by 90 degrees": (lambda image: encode(image.rotate(90, expand=True)), False),
    "a quarter cropped": (lambda image: encode(crop(image, 0.25)), False),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("picture", [draw, symmetric])
def test_a_planted_copy_of_a_training_image_is_found_as_documented(tmp_path, picture, change):
    edit, is_found = CHANGES[change]
    is_found |= picture is symmetric and change == "mirrored"  # which changes nothing of it
    write(tmp_path / "set", "cases", "train", [case(f"train {seed}", encode(picture(seed))) for seed in range(20)])
    write(tmp_path / "bench", "questions", "test", [question("q", "?", edit(picture(7)))])
    summary = find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "out")
    pairs = rows_of(tmp_path / "out")
    assert [(row["id"], row["other_id"]) for row in pairs] == ([("train 7", "q")] if is_found else [])
    assert summary["images"]["shown"] == 21
    assert summary["images"]["unreadable"] == summary["images"]["flat"] == 0
    if is_found:
        row = pairs[0]
        assert tuple(row) == COLUMNS
        assert (row["kind"], row["dataset"], row["split"]) == ("image", "set", "train")
        assert (row["other"], row["other_split"]) == ("bench", "test")
        assert 0.97 <= row["score"] <= 1


def test_different_drawn_images_raise_no_alarm(tmp_path):
    train = [case(f"train {seed}", encode(draw(seed))) for seed in range(60)]
    train += [case(f"symmetric {seed}", encode(symmetric(seed))) for seed in range(60)]
    write(tmp_path / "set", "cases", "train", train)
    test = [case(f"test {seed}", encode(draw(1000 + seed))) for seed in range(60)]
    write(tmp_path / "set", "cases", "test", test + [case("symmetric", encode(symmetric(2000)))])
    assert find_overlap([tmp_path / "set"])["pairs"] == []


def test_images_are_compared_across_splits_of_all_datasets_and_not_within_one(tmp_path):
    same, other = encode(draw(1)), encode(draw(1), "JPEG")
    write(tmp_path / "a", "cases", "train", [case("a1", same), case("a2", other)])
    write(tmp_path / "a", "cases", "validation", [case("a3", other)])
    write(tmp_path / "b", "cases", "test", [case("b1", same)])
    find_overlap([tmp_path / "a", tmp_path / "b"], (), tmp_path / "out")
    assert {(row["id"], row["other_id"]) for row in rows_of(tmp_path / "out")} == {
        ("a1", "a3"), ("a2", "a3"), ("a1", "b1"), ("a2", "b1"), ("a3", "b1"),
    }  # fmt: skip


def test_a_case_that_stands_in_several_configs_is_reported_once_and_decoded_once(tmp_path):
    data = encode(draw(1))
    write(tmp_path / "set", "cases", "train", [case("c", data)])
    write(tmp_path / "set", "instruction", "train", [record(f"r{n}", "c", "?", "!", data) for n in range(3)])
    write(tmp_path / "bench", "questions", "test", [question("q", "?", data)])
    summary = find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "out")
    assert [(row["id"], row["other_id"]) for row in rows_of(tmp_path / "out")] == [("c", "q")]
    assert (summary["images"]["shown"], summary["images"]["different"]) == (5, 1)


def test_unreadable_and_one_coloured_images_are_counted_and_not_compared(tmp_path):
    flat = encode(Image.new("L", (64, 64), 3))
    write(tmp_path / "set", "cases", "train", [case("torn", encode(draw(1))[:-60]), case("flat", flat)])
    write(tmp_path / "bench", "questions", "test", [question("q", "?", flat)])
    summary = find_overlap([tmp_path / "set"], [tmp_path / "bench"])
    assert summary["images"] == {"shown": 3, "different": 2, "unreadable": 1, "flat": 1}
    assert summary["pairs"] == []


def test_hashes_are_compared_exactly_whatever_the_size_of_the_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    one = generator.integers(0, 2**63, (70, 2), dtype=np.uint64)
    two = np.concatenate([one[::3] ^ np.uint64(0b10110), generator.integers(0, 2**63, (50, 2), dtype=np.uint64)])
    expected = {
        (i, j)
        for i, j in product(range(len(one)), range(len(two)))
        if (d := (int(one[i, 0]) ^ int(two[j, 0])).bit_count()) <= 10
        or (d <= 22 and (int(one[i, 1]) ^ int(two[j, 1])).bit_count() <= 4)
    }
    assert len(expected) >= 24
    for comparisons in (1, 100, 10_000, 1 << 20):
        monkeypatch.setattr("semihv_hf.data.overlap_images._COMPARISONS_AT_ONCE", comparisons)
        found = [pair for left, right, _ in near_hashes(one, two, 10) for pair in zip(left, right, strict=True)]
        assert len(found) == len(set(found))
        assert {(int(i), int(j)) for i, j in found} == expected


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (SENTENCE, 1.0),
        (SENTENCE.upper().replace(" ", "\n ").replace(";", " --"), 1.0),
        (f"Question: {SENTENCE} What is the diagnosis?", 1.0),
        (" ".join(words_of(SENTENCE)[:13]), 1 / (len(words_of(SENTENCE)) - 12)),
        (" ".join(SENTENCE.split()[:9]), None),
        (" ".join(reversed(SENTENCE.split())), None),
    ],
    ids=[
        "as it is",
        "upper case, other punctuation",
        "inside a longer text",
        "thirteen words",
        "nine words",
        "reversed",
    ],
)
def test_a_planted_sentence_is_found_with_the_share_of_it_that_stands_there(tmp_path, text, share):
    write(tmp_path / "bench", "questions", "test", [question("q", SENTENCE), question("short", "Is it large?")])
    rows = [record("planted", "c", "Describe the image.", text), record("other", "c", "Describe.", "No finding.")]
    write(tmp_path / "set", "instruction", "train", rows)
    summary = find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "out", images=False)
    pairs = rows_of(tmp_path / "out")
    assert summary["texts"]["rows"] == 2
    assert summary["texts"]["items_too_short"] == 1, "three words cannot be looked for, and the summary says so"
    if share is None:
        assert pairs == []
        return
    (row,) = pairs
    assert (row["kind"], row["config"], row["id"], row["other_id"]) == ("text", "instruction", "planted", "q")
    assert row["score"] == pytest.approx(share, abs=1e-4)
    assert row["detail"] == " ".join(words_of(SENTENCE)[:13])


def test_a_text_of_eight_to_twelve_words_is_looked_for_as_a_whole(tmp_path):
    text = "Which nerve supplies the muscle at the white arrow?"
    write(tmp_path / "bench", "questions", "test", [question("q", text)])
    rows = [
        case("whole", encode(draw(1)), text=f"Teaching case. {text} The radial nerve."),
        case("part", encode(draw(2)), text="Which nerve supplies the muscle at the black arrow?"),
    ]
    write(tmp_path / "set", "cases", "train", rows)
    find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "out", images=False)
    assert [(row["id"], row["score"]) for row in rows_of(tmp_path / "out")] == [("whole", 1.0)]


def test_runs_of_words_do_not_go_from_one_text_into_the_next(tmp_path):
    words = SENTENCE.split()
    write(tmp_path / "bench", "questions", "test", [question("q", " ".join(words[:14]))])
    rows = [record("torn apart", "c", " ".join(words[:7]), " ".join(words[7:14]))]
    write(tmp_path / "set", "instruction", "train", rows)
    assert find_overlap([tmp_path / "set"], [tmp_path / "bench"])["pairs"] == []


def test_options_are_texts_of_a_question_too(tmp_path):
    option = "a well-defined lytic lesion with a thin sclerotic rim in the distal tibia"
    asked = question("q", "What is it?", options=(option, "nothing of the sort"), answer=option)
    write(tmp_path / "bench", "questions", "test", [asked])
    write(tmp_path / "set", "instruction", "train", [record("r", "c", "Report.", f"There is {option}.")])
    find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "out", images=False)
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["r"]


def test_a_turn_of_phrase_of_the_benchmark_is_no_overlap(tmp_path):
    phrase = "Which of the following is the most likely diagnosis of the condition that is shown here?"
    asked = [question(f"q{number}", phrase) for number in range(11)]
    write(tmp_path / "bench", "questions", "test", asked)
    write(tmp_path / "set", "instruction", "train", [record("r", "c", phrase, "A cyst.")])
    summary = find_overlap([tmp_path / "set"], [tmp_path / "bench"])
    assert summary["pairs"] == []
    assert summary["texts"]["runs_shared_by_many"] == len(words_of(phrase)) - 12
    write(tmp_path / "few", "questions", "test", asked[:10])
    assert find_overlap([tmp_path / "set"], [tmp_path / "few"])["pairs"][0]["pairs"] == 10


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=0, max_size=12)


@settings(max_examples=150)
@given(items=st.lists(WORDS, min_size=1, max_size=4), rows=st.lists(st.lists(WORDS, max_size=3), max_size=5))
def test_text_matches_are_those_of_a_plain_search(items, rows):
    words, least = 4, 3
    index = TextIndex(words, least, max_sharing=99)
    for number, item in enumerate(items):
        index.add_item("b", "test", str(number), [" ".join(item)])
    index.freeze()

    def runs(text: list[str], length: int) -> set[tuple[str, ...]]:
        return {tuple(text[start : start + length]) for start in range(len(text) - length + 1)}

    expected = {}
    for number, item in enumerate(items):
        length = min(words, len(item))
        wanted = runs(item, length) if len(item) >= least else set()
        for row, texts in enumerate(rows):
            shared = wanted & {run for text in texts if len(text) >= least for run in runs(text, length)}
            if shared:
                expected[str(row), number] = pytest.approx(len(shared) / len(wanted))
    found = index.matches((str(row), [" ".join(text) for text in texts]) for row, texts in enumerate(rows))
    assert {(match.id, match.item): match.share for match in found} == expected


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=st.permutations(range(6)), shards=st.integers(1, 3), swapped=st.booleans())
def test_the_report_does_not_depend_on_the_order_of_rows_files_and_folders(tmp_path, order, shards, swapped):
    import tempfile
    from pathlib import Path

    train = [case(f"t{n}", encode(draw(n % 4), "JPEG", quality=60 + 5 * n), text=SENTENCE * (n % 2)) for n in range(6)]
    other = [case(f"o{n}", encode(draw(n)), text=f"{SENTENCE} {n}") for n in range(2)]
    asked = [question(f"q{n}", f"{n} {SENTENCE}", encode(draw(n))) for n in range(3)]
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        write(folder / "one", "cases", "train", [train[index] for index in order], shards)
        write(folder / "two", "cases", "test", other)
        write(folder / "bench", "questions", "test", asked[::-1] if swapped else asked)
        datasets = [folder / "two", folder / "one"] if swapped else [folder / "one", folder / "two"]
        find_overlap(datasets, [folder / "bench"], folder / "out")
        report = ((folder / "out/overlap.parquet").read_bytes(), (folder / "out/overlap.json").read_text())
    assert json.loads(report[1])["pairs"], "there is something to compare"
    first = tmp_path / "first"
    if not first.exists():
        first.write_bytes(report[0] + report[1].encode())
    assert first.read_bytes() == report[0] + report[1].encode()


def test_the_summary_counts_pairs_and_rows_of_each_kind(tmp_path):
    data = encode(draw(1))
    write(tmp_path / "set", "cases", "train", [case("c1", data, text=SENTENCE), case("c2", data)])
    write(tmp_path / "bench", "questions", "test", [question("q1", SENTENCE, data), question("q2", "Why?", data)])
    summary = find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "out")
    places = {"dataset": "set", "split": "train", "other": "bench", "other_split": "test"}
    assert summary["pairs"] == [
        {"kind": "image", **places, "pairs": 4, "rows": 2, "other_rows": 2, "pairs_from_0.8": 4},
        {"kind": "text", **places, "pairs": 1, "rows": 1, "other_rows": 1, "pairs_from_0.8": 1},
    ]
    assert json.loads((tmp_path / "out/overlap.json").read_text()) == summary
    assert str(tmp_path) not in (tmp_path / "out/overlap.json").read_text()


def test_folders_that_cannot_be_compared_are_told_apart(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SemiHVError, match="holds no <split>"):
        find_overlap([tmp_path / "empty"])
    write(tmp_path / "x/set", "cases", "train", [case("c", encode(draw(1)))])
    write(tmp_path / "y/set", "cases", "train", [case("c", encode(draw(1)))])
    with pytest.raises(SemiHVError, match="Several folders are called set"):
        find_overlap([tmp_path / "x/set", tmp_path / "y/set"])


def test_reports_and_unfinished_files_are_no_rows(tmp_path):
    folder = write(tmp_path / "set", "cases", "train", [case("c", encode(draw(1)))])
    find_overlap([folder], (), folder)
    (folder / "data/cases/.train-00001.part.parquet").write_bytes(b"half")
    assert [(file.config, file.split) for file in row_files(folder)] == [("cases", "train")]
