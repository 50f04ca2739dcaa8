"""From a checkpoint and a benchmark to a file of predictions."""

import io
import json
import logging
import signal
import subprocess
import sys

import pytest
import torch
from drawn import drawn_cases, records_of, save_tiny_model, write_dataset
from PIL import Image

from semihv_hf.data.messages import message, message_text
from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.answering import Answerer, identify_model
from semihv_hf.evaluation.benchmarks import load_questions
from semihv_hf.evaluation.conditions import pad_colour
from semihv_hf.evaluation.predict import predict

FIELDS = {
    "id", "condition", "question", "reference", "prediction", "error", "answer_type", "options", "template",
    "modality", "fact", "source_id", "case_id", "image_case_id", "model",
}  # fmt: skip


@pytest.fixture(scope="module")
def clean(dataset, tiny_model, tmp_path_factory):
    """The predictions of an undisturbed run, by condition."""
    folder = tmp_path_factory.mktemp("predictions")
    for condition in ("image", "blank", "shuffled"):
        out = folder / f"{condition}.jsonl"
        predict(tiny_model, dataset, out, condition=condition, batch_size=8, progress=False)
    return folder


def test_one_row_a_question_in_the_order_of_the_benchmark(dataset, clean, read_rows):
    rows = read_rows(clean / "image.jsonl")
    questions = load_questions(dataset, "benchmark", "test")
    assert len(rows) == 36
    assert [row["id"] for row in rows] == [question.id for question in questions]
    assert all(set(row) >= FIELDS for row in rows)
    assert all(row["prediction"] is not None and row["error"] is None for row in rows)
    assert (
        rows[3]["answer_type"] == "open" and rows[3]["options"] == [] and rows[0]["options"] == ["CT", "MRI", "X-ray"]
    )


def test_no_path_of_this_machine_is_written(clean, tiny_model):
    for path in clean.iterdir():
        assert str(tiny_model.parent) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("batch_size", [1, 5, 36])
def test_the_batch_does_not_change_an_answer(dataset, tiny_model, clean, tmp_path, batch_size):
    predict(tiny_model, dataset, tmp_path / "image.jsonl", batch_size=batch_size, progress=False)
    assert (tmp_path / "image.jsonl").read_bytes() == (clean / "image.jsonl").read_bytes()


def test_a_blank_answer_is_the_answer_to_a_plain_image_of_the_same_size(dataset, tiny_model, clean, read_rows):
    blank, image = read_rows(clean / "blank.jsonl"), read_rows(clean / "image.jsonl")
    assert all(row["image_case_id"] is None for row in blank)
    sizes = {q.case_id: q.open_images()[0].size for q in load_questions(dataset, "benchmark", "test")}
    answerer = Answerer.load(tiny_model)
    colour = pad_colour(answerer.processor)
    for row in blank[::5]:
        plain = Image.new("RGB", sizes[row["case_id"]], colour)
        [answer] = answerer.answer([([plain], [message("user", row["question"], 1)])])
        assert answer.text == row["prediction"]
    assert any(one["prediction"] != other["prediction"] for one, other in zip(blank, image, strict=True))


def test_a_shuffled_answer_is_the_answer_to_the_image_that_the_row_names(dataset, tiny_model, clean, read_rows):
    rows = read_rows(clean / "shuffled.jsonl")
    assert all(row["image_case_id"] != row["case_id"] for row in rows)
    assert sorted(row["image_case_id"] for row in rows) == sorted(row["case_id"] for row in rows)
    images = {question.case_id: question.open_images() for question in load_questions(dataset, "benchmark", "test")}
    answerer = Answerer.load(tiny_model)
    for row in rows[::5]:
        messages = [message("user", row["question"], 1)]
        [answer] = answerer.answer([(images[row["image_case_id"]], messages)])
        assert answer.text == row["prediction"]


KILLED = """
import os, signal, sys
from semihv_hf.evaluation import predict as module
from semihv_hf.journal import Journal

model, data, out, after, torn = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] == "torn"
append, calls = Journal.append, []

def append_then_die(self, rows):
    calls.append(rows)
    append(self, rows)
    if len(calls) == after:
        if torn:
            with open(self.path, "ab") as handle:
                handle.write(b'{"key": "0123", "predic')
        os.kill(os.getpid(), signal.SIGKILL)

Journal.append = append_then_die
module.predict(model, data, out, batch_size=8, progress=False)
"""


@pytest.mark.parametrize(
    "after,torn",
    [
        (2, "torn"),
        pytest.param(1, "whole", marks=pytest.mark.slow),
        pytest.param(5, "torn", marks=pytest.mark.slow),
    ],
)
def test_killed_and_started_again_gives_the_same_bytes(dataset, tiny_model, clean, tmp_path, root, after, torn):
    out = tmp_path / "image.jsonl"
    command = [sys.executable, "-c", KILLED, str(tiny_model), str(dataset), str(out), str(after), torn]
    killed = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    summary = predict(tiny_model, dataset, out, batch_size=8, progress=False)
    assert summary["n_reused"] == min(8 * after, 36)
    assert summary["n_reused"] + summary["n_computed"] == 36
    assert out.read_bytes() == (clean / "image.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.jsonl", "image.meta.json"]


def test_a_finished_file_is_not_computed_again(dataset, tiny_model, tmp_path, monkeypatch):
    out = tmp_path / "image.jsonl"
    predict(tiny_model, dataset, out, limit=4, progress=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(*arguments, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Answerer, "load", refuse)
    assert predict(tiny_model, dataset, out, limit=4, progress=False)["n_reused"] == 4
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_setting_starts_anew_and_says_so(dataset, tiny_model, tmp_path, caplog, read_rows):
    out = tmp_path / "image.jsonl"
    predict(tiny_model, dataset, out, limit=4, progress=False)
    old = out.read_bytes()
    with caplog.at_level(logging.WARNING):
        summary = predict(tiny_model, dataset, out, limit=4, max_new_tokens=3, progress=False)
    assert "starting anew" in caplog.text
    assert summary["n_reused"] == 0
    assert (tmp_path / "image.jsonl.old").read_bytes() == old
    assert out.read_bytes() != old


def test_another_model_is_another_fingerprint(dataset, tiny_model, tmp_path):
    other = save_tiny_model(tmp_path / "tiny-llava", seed=1)
    assert identify_model(other)[1] != identify_model(tiny_model)[1]
    out = tmp_path / "image.jsonl"
    first = predict(tiny_model, dataset, out, limit=4, progress=False)
    second = predict(other, dataset, out, limit=4, progress=False)
    assert first["fingerprint"] != second["fingerprint"] and second["n_reused"] == 0


def test_a_card_or_a_log_beside_the_weights_changes_nothing(tmp_path):
    model = save_tiny_model(tmp_path / "tiny-llava", seed=0)
    before = identify_model(model)
    (model / "README.md").write_text("# A card")
    (model / "stage.json").write_text("{}")
    assert identify_model(model) == before
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert identify_model(model) != before


def broken_dataset(folder, image: bytes):
    """A dataset whose second case has the given bytes for an image."""
    cases = drawn_cases(3, seed=5)
    cases[1]["image"] = image
    folder.mkdir()
    write_dataset(folder, {"benchmark": {"test": [row for case in cases for row in records_of(case)]}})
    return folder


@pytest.mark.parametrize("condition", ["image", "blank"])
@pytest.mark.parametrize("kind", ["no image", "truncated"])
def test_an_unreadable_image_is_a_failed_row_and_costs_nobody_else(tiny_model, tmp_path, read_rows, kind, condition):
    content = b"not an image" if kind == "no image" else drawn_cases(3, seed=5)[1]["image"][:120]
    data = broken_dataset(tmp_path / "data_folder", content)
    out = tmp_path / f"{condition}.jsonl"
    summary = predict(tiny_model, data, out, condition=condition, progress=False)
    assert (summary["n_total"], summary["n_failed"]) == (12, 4)
    rows = read_rows(out)
    assert [row["prediction"] is None for row in rows] == [4 <= number < 8 for number in range(12)]
    assert all("image cannot be read" in row["error"] for row in rows[4:8])
    assert all(row["error"] is None for row in rows[:4] + rows[8:])


def test_a_batch_that_runs_out_of_memory_is_tried_one_by_one(
    dataset, tiny_model, clean, tmp_path, monkeypatch, read_rows
):
    answer = Answerer.answer

    def small_memory(self, conversations):
        if len(conversations) > 1:
            raise torch.OutOfMemoryError("out of memory")
        if "MRI?" in message_text(conversations[0][1][0]) and conversations[0][0][0].size == (48, 32):
            raise torch.OutOfMemoryError("out of memory")
        return answer(self, conversations)

    monkeypatch.setattr(Answerer, "answer", small_memory)
    out = tmp_path / "image.jsonl"
    summary = predict(tiny_model, dataset, out, batch_size=8, progress=False)
    rows, expected = read_rows(out), read_rows(clean / "image.jsonl")
    failed = [number for number, row in enumerate(rows) if row["error"] is not None]
    assert summary["n_failed"] == len(failed) == 3
    assert all(rows[number]["prediction"] is None and "OutOfMemoryError" in rows[number]["error"] for number in failed)
    assert [row for n, row in enumerate(rows) if n not in failed] == [
        r for n, r in enumerate(expected) if n not in failed
    ]

    # The next call tries the failed rows again, keeps the others, and ends with the undisturbed file.
    monkeypatch.setattr(Answerer, "answer", answer)
    assert predict(tiny_model, dataset, out, batch_size=8, progress=False)["n_computed"] == 3
    assert out.read_bytes() == (clean / "image.jsonl").read_bytes()


def test_when_nothing_can_be_answered_the_reason_is_raised(dataset, tiny_model, tmp_path, monkeypatch):
    def broken(self, conversations):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Answerer, "answer", broken)
    with pytest.raises(SemiHVError, match="None of the 4 questions.*shapes do not fit"):
        predict(tiny_model, dataset, tmp_path / "image.jsonl", limit=4, progress=False)


def test_equal_prompts_are_computed_once(dataset, tiny_model, tmp_path):
    summary = predict(tiny_model, dataset, tmp_path / "blank.jsonl", condition="blank", progress=False)
    assert (summary["n_total"], summary["n_prompts"]) == (36, 12)


def test_cases_are_asked_whole(dataset, tiny_model, tmp_path, read_rows):
    out = tmp_path / "jama.jsonl"
    summary = predict(tiny_model, dataset, out, config="jama_style", max_new_tokens=20, progress=False)
    rows = read_rows(out)
    assert summary["n_total"] == len(rows) == 4
    assert all(row["answer_type"] == "case" and "D. none of these" in row["question"] for row in rows)
    assert json.loads((tmp_path / "jama.meta.json").read_text())["settings"]["config"] == "jama_style"


def test_bad_settings_are_named(dataset, tiny_model, tmp_path):
    out = tmp_path / "image.jsonl"
    for options, named in (
        ({"condition": "blnk"}, "Unknown condition 'blnk'"),
        ({"config": "bench"}, "config 'bench', split 'test' cannot be read"),
        ({"split": "tset"}, "'tset'"),
        ({"precision": "fp8"}, "Unknown precision 'fp8'"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(SemiHVError, match=named):
            predict(tiny_model, dataset, out, progress=False, **options)
    with pytest.raises(SemiHVError, match="config.json"):
        predict(tmp_path, dataset, out, progress=False)
    with pytest.raises(SemiHVError, match="not a dataset folder"):
        predict(tiny_model, tmp_path / "nowhere", out, progress=False)
    assert not out.exists()


def test_a_multi_turn_record_is_asked_turn_by_turn(tmp_path):
    case = drawn_cases(1, seed=7)[0]
    first, second = records_of(case)[:2]
    first["messages"] += second["messages"]
    first["questions"].append({**second["questions"][0], "turn": 2})
    (tmp_path / "data_folder").mkdir()
    write_dataset(tmp_path / "data_folder", {"instruction": {"train": [first]}})
    one, two = load_questions(tmp_path / "data_folder", "instruction", "train")
    assert (one.id, two.id) == (f"{first['id']}:0", f"{first['id']}:2")
    assert len(one.messages) == 1 and [m["role"] for m in two.messages] == ["user", "assistant", "user"]
    assert (one.reference, two.reference) == ("CT", "axial")
    assert two.open_images()[0].mode == "RGB"
    assert two.image_bytes()[0] == case["image"] and io.BytesIO(case["image"]).read(4) == b"\x89PNG"
