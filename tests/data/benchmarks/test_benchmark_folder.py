"""A benchmark as a dataset folder, the checks of its rows, and how a question is put to a model."""

import json

import pytest
from benchmark_files import mmmu_repository, picture, pmc_vqa_repository, question_answer_repository, slake_repository

from semihv_hf.data.benchmarks import load_benchmark, write_benchmark
from semihv_hf.data.benchmarks.prompt import expected_answer, prompt_message, prompt_text
from semihv_hf.data.benchmarks.question import Question, validate_question
from semihv_hf.data.features import question_features
from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.benchmarks import load_questions


def write(tmp_path, name="vqa_rad", **options):
    """A folder of a fixture whose damaged rows are more than would be allowed."""
    return write_benchmark(
        name, tmp_path / "out", source=tmp_path / "copy", check_counts=False, max_skipped=1.0, **options
    )


def test_load_dataset_reads_the_folder_and_gives_the_rows_of_the_stream(tmp_path):
    from datasets import Image, load_dataset

    question_answer_repository(tmp_path / "copy")
    write(tmp_path)
    rows = load_dataset(str(tmp_path / "out"), "questions", split="test")
    assert rows.features == question_features()
    assert rows[0]["images"][0].size == (48, 40)
    undecoded = rows.cast_column("images", [Image(decode=False)])
    stream = load_benchmark("vqa_rad", source=tmp_path / "copy")
    assert [{**row, "images": [image["bytes"] for image in row["images"]]} for row in undecoded] == [
        {**question.row(), "images": question.images} for question in stream
    ]
    streamed = load_dataset(str(tmp_path / "out"), "questions", split="test", streaming=True)
    assert next(iter(streamed))["id"] == rows[0]["id"]


def test_a_folder_that_is_written_anew_is_not_read_from_the_cache_of_datasets(tmp_path):
    question_answer_repository(tmp_path / "copy")
    write(tmp_path, subset="open")
    before = load_questions(tmp_path / "out", "questions", "test")
    write(tmp_path, subset="closed")
    after = load_questions(tmp_path / "out", "questions", "test")
    assert ({q.answer_type for q in before}, {q.answer_type for q in after}) == ({"open"}, {"closed"})


def test_the_report_accounts_for_every_row_and_is_written_last(tmp_path):
    import pyarrow.parquet

    rows = slake_repository(tmp_path / "copy")
    report = write(tmp_path, "slake", subset="closed")
    assert json.loads((tmp_path / "out/benchmark.json").read_text(encoding="utf-8")) == report
    assert (report["split"], report["subset"], report["licence"]) == ("test", "closed", "CC-BY-4.0")
    counted = [sum(report[name].values()) for name in ("questions", "skipped", "filtered")]
    assert sum(counted) == len(rows)
    skipped = pyarrow.parquet.read_table(tmp_path / "out/skipped.parquet").to_pylist()
    assert {(row["source_id"], row["reason"]) for row in skipped} == {
        ("test/2", "duplicate row"), ("test/7", "unknown label"), ("test/10", "unsafe file"),
    }  # fmt: skip
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "left out by the subset: open question | 5" in card
    assert str(tmp_path) not in card + json.dumps(report)


def test_the_same_copy_gives_the_same_bytes(tmp_path):
    pmc_vqa_repository(tmp_path / "copy")
    written = []
    for _ in range(2):
        write(tmp_path, "pmc_vqa")
        files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert set(written[0]) == {"README.md", "benchmark.json", "skipped.parquet", "test-00000-of-00001.parquet"}


def test_a_copy_with_too_many_damaged_rows_or_another_size_leaves_no_report(tmp_path):
    question_answer_repository(tmp_path / "copy")
    with pytest.raises(SemiHVError, match=r"42\.9% of VQA-RAD cannot be used"):
        write_benchmark("vqa_rad", tmp_path / "out", source=tmp_path / "copy", check_counts=False)
    with pytest.raises(SemiHVError, match="7 rows, but the full set has 451"):
        write_benchmark("vqa_rad", tmp_path / "out", source=tmp_path / "copy", max_skipped=1.0)
    assert not (tmp_path / "out/benchmark.json").exists()


def test_the_users_own_copy_of_jama_becomes_questions(tmp_path):
    row = {
        "id": 17, "link": "https://example.org/17", "question": "A man has a rash. What would you do next?",
        "opa": "A. Biopsy", "opb": "B. Wait", "opc": "C. Treat", "opd": "D. Refer", "answer_idx": "C",
        "answer": "C. Treat", "diagnosis": "Rash", "explanation": "It needs treatment.", "field": "Dermatology",
    }  # fmt: skip
    copy = tmp_path / "copy"
    (copy / "images").mkdir(parents=True)
    (copy / "jama_raw.json").write_text(json.dumps([row, {**row, "id": 18, "answer_idx": "Z"}]), encoding="utf-8")
    (copy / "images/17.jpg").write_bytes(picture(5, "JPEG"))
    report = write(tmp_path, "jama_clinical_challenge")
    assert report["questions"] == {"closed": 1}
    assert report["skipped"] == {"malformed row": 1}
    (question,) = load_questions(tmp_path / "out", "questions", "test")
    assert question.question.startswith("A man has a rash.\nWhat would you do next?\nA. Biopsy\n")
    assert (question.reference, question.options, len(question.images)) == ("C", ["A", "B", "C", "D"], 1)
    with pytest.raises(SemiHVError, match="not on the Hub"):
        load_benchmark("jama_clinical_challenge")


def row(**changes) -> dict:
    question = Question(
        id="q", benchmark="b", source_id="s", group="g", split="test", licence="CC0-1.0", images=[picture(1)],
        question="What is it?", answer="a cyst", answer_type="closed", options=["a bone", "a cyst"],
        answer_letter="B",
    )  # fmt: skip
    return {**question.row(), **changes}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "Field id"),
        ({"group": None}, "Field group is missing"),
        ({"split": "dev"}, "Field split"),
        ({"answer_type": "yes/no"}, "Field answer_type"),
        ({"answer_letter": "C"}, "Field answer_letter is 'C', not one of A, B"),
        ({"answer": "a bone"}, "Field answer is 'a bone', but option B is 'a cyst'"),
        ({"options": ["a cyst"], "answer_letter": "A"}, "Field options"),
        ({"options": [], "answer_letter": "B"}, "Field answer_letter is 'B', but there are no options"),
        ({"answer_type": "open"}, "Field options must be empty for an open question"),
        ({"options": "ab"}, "Field options is 'ab', not a list"),
        ({"images": [{"bytes": b"", "path": None}]}, r"Field images\[0\] has no bytes"),
        ({"facts": [{"name": "x", "value": "", "source": "y"}]}, r"Field facts\[0\].value"),
    ],
)
def test_a_wrong_row_is_refused_with_the_name_of_the_field(changes, field):
    validate_question(row())
    with pytest.raises(SemiHVError, match=field):
        validate_question(row(**changes))


def test_named_options_are_lettered_and_the_letter_is_asked_for():
    assert prompt_text(row()) == (
        "What is it?\nA. a bone\nB. a cyst\nAnswer with the letter of the right option only."
    )
    assert expected_answer(row()) == ("B", ["A", "B"])


def test_yes_no_questions_are_asked_without_letters_and_open_ones_as_they_are():
    yes_no = row(question="Is it?", options=["yes", "no"], answer="no")
    assert prompt_text(yes_no) == "Is it?\nAnswer with yes or no."
    assert expected_answer(yes_no) == ("no", ["yes", "no"])
    opened = row(answer_type="open", options=[], answer_letter="")
    assert prompt_text(opened) == "What is it?"
    assert expected_answer(opened) == ("a cyst", [])


def test_images_stand_where_the_text_names_them_first():
    asked = row(
        images=row()["images"] * 4,
        question="Does <image 3> show what <image 1> and <image 3> show?",
        options=["<image 4>", "neither"],
        answer="<image 4>",
        answer_letter="A",
    )
    message, order = prompt_message(asked)
    assert order == [1, 2, 0, 3], "the second image is named nowhere and comes first"
    parts = [part["text"] or "IMAGE" for part in message["content"]]
    assert parts == [
        "IMAGE", "Does", "IMAGE", "show what", "IMAGE", "and image 3 show?\nA.", "IMAGE",
        "B. neither\nAnswer with the letter of the right option only.",
    ]  # fmt: skip


def test_the_evaluation_reads_a_folder_of_questions(tmp_path):
    mmmu_repository(tmp_path / "copy")
    write(tmp_path, "mmmu_medical")
    questions = {q.source_id: q for q in load_questions(tmp_path / "out", "questions", "validation")}
    several = questions["validation_Clinical_Medicine_2"]
    assert (several.reference, several.options, several.answer_type) == ("A", ["A", "B"], "closed")
    assert several.image_bytes() == [picture(42), picture(43), picture(44)]
    shown = sum(part["type"] == "image" for message in several.messages for part in message["content"])
    assert shown == len(several.images) == 3
    assert (several.source, several.template) == ("mmmu_medical", "Clinical_Medicine")
    assert several.case_id == "mmmu_medical:validation_Clinical_Medicine_2"


def test_a_model_answers_a_folder_of_questions(tmp_path):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "evaluation"))
    from drawn import save_tiny_model

    from semihv_hf.evaluation.predict import predict

    question_answer_repository(tmp_path / "copy")
    write(tmp_path)
    model = save_tiny_model(tmp_path / "model", 0)
    summary = predict(
        model, tmp_path / "out", tmp_path / "image.jsonl", config="questions", max_new_tokens=2, progress=False
    )
    assert (summary["n_total"], summary["n_failed"]) == (4, 0)
    rows = [json.loads(line) for line in (tmp_path / "image.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["question"] == "is there a pneumothorax?\nAnswer with yes or no."
    assert (rows[0]["reference"], rows[0]["options"]) == ("no", ["yes", "no"])
