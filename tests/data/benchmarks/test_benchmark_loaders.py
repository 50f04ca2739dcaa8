"""Each benchmark, read from a copy in its repository's layout with the defects that such copies have."""

from collections import Counter

import pytest
from benchmark_files import (
    mmmu_repository,
    omnimedvqa_repository,
    picture,
    pmc_vqa_repository,
    question_answer_repository,
    slake_repository,
)

from semihv_hf.data.benchmarks import BENCHMARKS, load_benchmark
from semihv_hf.data.benchmarks.question import validate_question
from semihv_hf.data.benchmarks.snapshot import hub_rows
from semihv_hf.errors import SemiHVError


def read(name, folder, **options):
    """All questions by source id, with every row checked, and the stream with its counts."""
    stream = load_benchmark(name, source=folder, **options)
    questions = list(stream)
    for question in questions:
        validate_question(question.row())
    assert len({question.id for question in questions}) == len(questions)
    return {question.source_id: question for question in questions}, stream


def reasons(stream):
    return {entry.source_id: entry.reason for entry in stream.skipped}


@pytest.mark.parametrize("name", ["vqa_rad", "path_vqa"])
def test_image_question_answer_repositories_are_closed_where_the_answer_is_yes_or_no(tmp_path, name):
    rows = question_answer_repository(tmp_path)
    questions, stream = read(name, tmp_path)
    assert list(questions) == ["test/0", "test/1", "test/2", "test/6"]
    closed, opened, cmyk, sentence = questions.values()
    assert (closed.answer_type, closed.options, closed.answer, closed.answer_letter) == (
        "closed", ["yes", "no"], "no", "B",
    )  # fmt: skip
    assert (opened.answer_type, opened.options, opened.answer) == ("open", [], "Left lung")
    assert opened.question == "where is it?"
    assert cmyk.answer == "yes"
    assert sentence.answer_type == "open", "an answer that only begins with no is no yes/no answer"
    assert closed.group == opened.group != cmyk.group, "questions about one image form a group"
    assert {question.split for question in questions.values()} == {"test"}
    assert reasons(stream) == {
        "test/3": "unreadable image", "test/4": "missing text", "test/5": "missing image",
    }  # fmt: skip
    assert stream.questions.total() + len(stream.skipped) == len(rows)


def test_cmyk_images_become_rgb_and_others_keep_their_pixels(tmp_path):
    import io

    import numpy as np
    from PIL import Image

    question_answer_repository(tmp_path)
    questions, _ = read("path_vqa", tmp_path)
    opened = {name: Image.open(io.BytesIO(question.images[0])) for name, question in questions.items()}
    assert opened["test/2"].mode == "RGB"
    original = Image.open(io.BytesIO(picture(1, "JPEG")))
    assert np.array_equal(np.asarray(opened["test/0"]), np.asarray(original))


@pytest.mark.parametrize(("subset", "kept"), [("closed", {"test/0", "test/2"}), ("open", {"test/1", "test/6"})])
def test_subsets_by_answer_type_are_filters_with_a_count(tmp_path, subset, kept):
    rows = question_answer_repository(tmp_path)
    questions, stream = read("vqa_rad", tmp_path, subset=subset)
    assert set(questions) == kept
    assert stream.questions.total() + len(stream.skipped) + stream.filtered.total() == len(rows)
    assert set(stream.filtered) == {"open question" if subset == "closed" else "closed question"}


@pytest.mark.parametrize("streaming", [True, False])
def test_load_dataset_gives_the_rows_that_the_local_reader_gives(tmp_path, streaming):
    expected = question_answer_repository(tmp_path)
    rows = list(hub_rows(tmp_path, "test", None, ("image",), None, streaming))
    assert [row["question"] for row in rows] == [row["question"] for row in expected]
    assert [(row["image"] or {}).get("bytes") for row in rows] == [
        (row["image"] or {}).get("bytes") for row in expected
    ]


def test_slake_takes_the_english_questions_with_their_stated_type(tmp_path):
    rows = slake_repository(tmp_path)
    questions, stream = read("slake", tmp_path)
    assert list(questions) == ["test/1", "test/2", "test/3", "test/9"]
    organ, healthy, either, cyst = questions.values()
    assert (organ.answer_type, organ.answer, organ.modality, organ.category) == ("open", "Lung", "CT", "Position")
    assert {fact.name: fact.value for fact in organ.facts}["body_part"] == "Lung"
    assert (healthy.answer_type, healthy.answer, healthy.answer_letter, healthy.modality) == (
        "closed", "no", "B", "X-ray",
    )  # fmt: skip
    assert (either.answer_type, either.answer, either.options, either.modality) == ("closed", "MRI", [], "MRI")
    assert (cyst.answer_type, cyst.options, cyst.answer) == ("open", [], "No"), "answer_type wins over the answer"
    assert organ.group == healthy.group == "1" != either.group
    assert reasons(stream) == {
        "test/5": "unreadable image", "test/6": "missing image", "test/2": "duplicate row",
        "test/7": "unknown label", "test/8": "missing text", "test/10": "unsafe file",
    }  # fmt: skip
    assert stream.filtered == Counter({"language zh": 1})
    assert stream.questions.total() + len(stream.skipped) + stream.filtered.total() == len(rows)


def test_slake_closed_is_english_closed_only_and_chinese_is_a_subset_of_its_own(tmp_path):
    rows = slake_repository(tmp_path)
    closed, stream = read("slake", tmp_path, subset="closed")
    assert set(closed) == {"test/2", "test/3"}
    assert stream.filtered == Counter({"open question": 5, "language zh": 1})
    assert stream.questions.total() + len(stream.skipped) + stream.filtered.total() == len(rows)
    chinese, _ = read("slake", tmp_path, subset="zh")
    assert [(question.language, question.answer) for question in chinese.values()] == [("zh", "有")]


def test_slake_reads_unpacked_images_and_the_first_name_of_its_validation_file(tmp_path):
    slake_repository(tmp_path / "zip")
    slake_repository(tmp_path / "folder", unpacked=True)
    packed, _ = read("slake", tmp_path / "zip")
    unpacked, _ = read("slake", tmp_path / "folder")
    assert {name: question.images for name, question in packed.items()} == {
        name: question.images for name, question in unpacked.items()
    }
    validation, _ = read("slake", tmp_path / "zip", split="validation")
    assert list(validation) == ["validation/1"]


@pytest.mark.parametrize("subset", ["clean", "v1"])
def test_pmc_vqa_version_1_has_its_letter_in_a_column_of_its_own(tmp_path, subset):
    version_1, _ = pmc_vqa_repository(tmp_path)
    questions, stream = read("pmc_vqa", tmp_path, subset=subset)
    table = {"clean": "test_clean", "v1": "test"}[subset]
    assert list(questions) == [f"{table}/0", f"{table}/1"]
    uptake, grows = questions.values()
    assert uptake.options == ["Diffuse uptake", "Focal uptake", "C. difficile", "Cannot, be determined"]
    assert (uptake.answer_letter, uptake.answer, uptake.question) == (
        "B",
        "Focal uptake",
        "What is the uptake pattern?",
    )
    assert (grows.answer_letter, grows.answer) == ("C", "C. difficile")
    assert uptake.group == grows.group == "PMC1064097", "figures of one article form a group"
    assert list(reasons(stream).values()) == [
        "missing image", "unknown label", "malformed row", "unreadable image",
    ]  # fmt: skip
    assert stream.questions.total() + len(stream.skipped) == len(version_1)


def test_pmc_vqa_version_2_has_its_letter_as_the_answer(tmp_path):
    pmc_vqa_repository(tmp_path)
    questions, stream = read("pmc_vqa", tmp_path, subset="v2")
    question = questions["test_2/0"]
    assert (question.answer_letter, question.answer, question.group) == ("D", "air", "PMC8253797")
    assert {fact.name: fact.value for fact in question.facts}["caption"] == "A scan, with an arrow."
    assert not stream.skipped


def test_pmc_vqa_reports_the_checked_test_questions_and_has_no_checked_training_questions(tmp_path):
    pmc_vqa_repository(tmp_path)
    assert load_benchmark("pmc_vqa", source=tmp_path).benchmark.subset == "clean"
    with pytest.raises(SemiHVError, match="no clean questions in split train"):
        load_benchmark("pmc_vqa", source=tmp_path, split="train", subset="clean")


@pytest.mark.parametrize("packed", [True, False])
def test_omnimedvqa_reads_open_access_sets_with_two_to_four_options(tmp_path, packed):
    tables = omnimedvqa_repository(tmp_path, packed=packed)
    questions, stream = read("omnimedvqa", tmp_path)
    assert list(questions) == [
        "ACRIMA/ACRIMA_0001", "ACRIMA/ACRIMA_0002",
        "Chest CT Scan/Chest CT Scan_0001", "Chest CT Scan/Chest CT Scan_0002",
    ]  # fmt: skip
    glaucoma, eye, scan, organ = questions.values()
    assert (glaucoma.options, glaucoma.answer_letter) == (["No", "Yes, there is."], "B")
    assert (eye.answer_letter, eye.answer) == ("C", "an eye."), "the option's own spelling is the answer"
    assert scan.options == ["MR", "CT"], "an empty option is no option"
    assert (glaucoma.modality, scan.modality) == ("fundus photograph", "CT")
    assert organ.modality == "CT", "one row names the column `modality`"
    assert glaucoma.category == "Disease Diagnosis"
    assert reasons(stream) == {
        "ACRIMA/ACRIMA_0003": "unknown label", "ACRIMA/ACRIMA_0001": "duplicate row",
        "ACRIMA/ACRIMA_0004": "malformed row", "Chest CT Scan/Chest CT Scan_0009": "missing image",
    }  # fmt: skip
    assert stream.questions.total() + len(stream.skipped) == sum(map(len, tables.values()))


def test_omnimedvqa_reads_one_image_set(tmp_path):
    omnimedvqa_repository(tmp_path, packed=True)
    questions, _ = read("omnimedvqa", tmp_path, subset="Chest CT Scan")
    assert {question.source_id.partition("/")[0] for question in questions.values()} == {"Chest CT Scan"}
    with pytest.raises(SemiHVError, match=r"Open-access/AIDA\.json"):
        read("omnimedvqa", tmp_path, subset="AIDA")


def test_mmmu_keeps_its_images_in_the_order_of_their_numbers(tmp_path):
    rows = mmmu_repository(tmp_path)
    questions, stream = read("mmmu_medical", tmp_path)
    one = questions["validation_Clinical_Medicine_1"]
    assert (one.options, one.answer_letter, one.answer) == (["a cyst", "Crohn's disease"], "B", "Crohn's disease")
    assert (one.category, one.question) == ("Clinical_Medicine", "What does <image 1> show?")
    several = questions["validation_Clinical_Medicine_2"]
    assert several.images == [picture(42), picture(43), picture(44)]
    assert several.options == ["<image 2>", "<image 3>"], "the row's third and fourth image are its second and third"
    assert several.answer == "<image 2>"
    assert len(questions["validation_Pharmacy_1"].images) == 1, "an image that no text names is kept"
    assert stream.filtered == Counter({"open question": 1})
    assert reasons(stream) == {
        "validation_Clinical_Medicine_4": "unreadable image", "validation_Clinical_Medicine_5": "missing image",
        "validation_Clinical_Medicine_6": "malformed row", "validation_Clinical_Medicine_7": "unknown label",
    }  # fmt: skip
    assert stream.questions.total() + len(stream.skipped) + stream.filtered.total() == sum(map(len, rows.values()))


def test_mmmu_open_questions_are_read_when_they_are_asked_for(tmp_path):
    mmmu_repository(tmp_path)
    questions, stream = read("mmmu_medical", tmp_path, subset="Clinical_Medicine", open_questions=True)
    opened = questions["validation_Clinical_Medicine_3"]
    assert (opened.answer_type, opened.answer, opened.options) == ("open", "3", [])
    assert [fact.value for fact in opened.facts if fact.name == "also_accepted"] == ["three"]
    assert not stream.filtered


def test_mmmu_test_answers_are_not_public(tmp_path):
    mmmu_repository(tmp_path)
    questions, stream = read("mmmu_medical", tmp_path, split="test")
    assert not questions
    assert {entry.reason for entry in stream.skipped} == {"missing text"}
    assert all("not public" in entry.detail for entry in stream.skipped)
    assert len(stream.skipped) == 5


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("vqa_rad", question_answer_repository, "7 rows, but the full set has 451"),
        ("path_vqa", question_answer_repository, "7 rows, but the full set has 6719"),
        ("slake", slake_repository, "10 rows, but the full set has 1061"),
        ("pmc_vqa", pmc_vqa_repository, "6 rows, but the full set has 2000"),
        ("mmmu_medical", mmmu_repository, "11 rows, but the full set has 150"),
    ],
)
def test_a_copy_that_is_not_the_full_set_is_told_with_both_numbers(tmp_path, name, write, expected):
    write(tmp_path)
    stream = load_benchmark(name, source=tmp_path, check_counts=True)
    with pytest.raises(SemiHVError, match=expected):
        list(stream)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_wrong_folder_is_told_what_was_expected_and_found(tmp_path, name):
    (tmp_path / "holiday.jpg").write_bytes(picture(1))
    with pytest.raises(SemiHVError) as failure:
        list(load_benchmark(name, source=tmp_path))
    assert any(word in str(failure.value) for word in ("holiday.jpg", "OmniMedVQA.zip")), failure.value


def test_links_of_the_hub_cache_are_followed_and_others_are_not(tmp_path):
    repository = tmp_path / "datasets--BoKelvin--SLAKE"
    slake_repository(tmp_path / "plain", unpacked=True)
    snapshot = repository / "snapshots" / "0123abcd"
    (repository / "blobs").mkdir(parents=True)
    (snapshot / "imgs/xmlab1").mkdir(parents=True)
    for number, name in enumerate(["test.json", "imgs/xmlab1/source.jpg"]):
        blob = repository / "blobs" / f"blob{number}"
        blob.write_bytes((tmp_path / "plain" / name).read_bytes())
        (snapshot / name).symlink_to(blob)
    (snapshot / "imgs/xmlab2").mkdir()
    (snapshot / "imgs/xmlab2/source.jpg").symlink_to(tmp_path / "plain/imgs/xmlab2/source.JPG")
    questions, stream = read("slake", snapshot)
    assert set(questions) == {"test/1", "test/2", "test/9"}
    assert reasons(stream)["test/3"] == "unsafe file"


def test_a_repository_that_cannot_be_reached_is_one_clear_line():
    for name in ("vqa_rad", "slake"):
        with pytest.raises(
            SemiHVError, match="nobody/nothing-here' is neither on this disk nor to be had from the Hub"
        ) as failure:
            list(load_benchmark(name, source="nobody/nothing-here"))
        assert "\n" not in str(failure.value)


def test_unknown_names_are_told_with_those_that_exist(tmp_path):
    with pytest.raises(SemiHVError, match="Known are: vqa_rad, slake"):
        load_benchmark("vqa-rad", source=tmp_path)
    with pytest.raises(SemiHVError, match="has no split 'validation'"):
        load_benchmark("vqa_rad", source=tmp_path, split="validation")
    with pytest.raises(SemiHVError, match="has no subset 'easy'"):
        load_benchmark("slake", source=tmp_path, subset="easy")
