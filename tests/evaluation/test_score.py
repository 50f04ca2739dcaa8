"""Numbers against answers whose numbers are known."""

import json

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.benchmarks import load_questions
from semihv_hf.evaluation.score import score
from semihv_hf.files import write_jsonl


def rows_of(data, answer, config="benchmark", condition="image"):
    """Prediction rows in which `answer(number, question)` decides what was said; `None` stands for a failure."""
    rows = []
    for number, question in enumerate(load_questions(data, config, "test")):
        said = answer(number, question)
        rows.append(
            {
                "id": question.id,
                "condition": condition,
                "question": question.question,
                "reference": question.reference,
                "prediction": said,
                "error": None if said is not None else "RuntimeError: made to fail",
                "truncated": False,
                "answer_type": question.answer_type,
                "options": question.options,
                "template": question.template,
                "modality": question.modality,
                "fact": question.fact,
                "source_id": question.source_id,
                "case_id": question.case_id,
                "image_case_id": question.case_id,
                "model": "tiny@0123",
            }
        )
    return rows


@pytest.fixture
def predictions(dataset, tmp_path):
    """With the image: of each case's four questions the first fails for the first case, and the plane is told as both
    for the second; the rest is right. Blank: always "no". Shuffled: nothing at all for open questions."""

    def image(number, question):
        if number == 0:
            return None
        return "axial or coronal" if number == 5 else question.reference

    folder = tmp_path / "predictions"
    write_jsonl(folder / "image.jsonl", rows_of(dataset, image))
    write_jsonl(folder / "blank.jsonl", rows_of(dataset, lambda n, q: "no", condition="blank"))
    write_jsonl(
        folder / "shuffled.jsonl", rows_of(dataset, lambda n, q: "" if n % 4 == 3 else "CT", condition="shuffled")
    )
    return folder


def test_every_row_is_accounted_for(dataset, predictions, tmp_path):
    result = score(predictions, dataset, tmp_path / "scores.json", judge=None)
    closed = result["conditions"]["image"]["closed"]
    assert {k: closed[k] for k in ("total", "scored", "failed", "correct", "unparsed")} == {
        "total": 27, "scored": 26, "failed": 1, "correct": 25, "unparsed": 1,
    }  # fmt: skip
    assert closed["accuracy"] == pytest.approx(25 / 27) and closed["accuracy_scored"] == pytest.approx(25 / 26)
    assert closed["ci95"][0] < 25 / 27 < closed["ci95"][1]
    assert result["conditions"]["image"]["open"]["recall"] == 1.0
    blank = result["conditions"]["blank"]["closed"]
    # "no" answers the six yes/no questions about images that are no MRI, and names no option of the others.
    assert (blank["correct"], blank["unparsed"]) == (6, 18)
    assert result["conditions"]["shuffled"]["open"]["empty"] == 9
    assert json.loads((tmp_path / "scores.json").read_text()) == result


def test_groups_add_up(dataset, predictions, tmp_path):
    image = score(predictions, dataset, tmp_path / "scores.json")["conditions"]["image"]
    for grouping in ("by_modality", "by_template"):
        groups = image[grouping].values()
        assert len(groups) >= 3
        for name in ("total", "scored", "failed", "correct", "unparsed"):
            assert sum(group["closed"][name] for group in groups) == image["closed"][name]
    assert image["by_modality"]["CT"]["closed"] == {
        "accuracy": 8 / 9, "accuracy_scored": 1.0, "total": 9, "scored": 8, "failed": 1, "correct": 8, "unparsed": 0,
        "empty": 0, "decided_by": {"equal": 8, "no_prediction": 1},
    }  # fmt: skip
    assert image["by_template"]["show"]["closed"]["accuracy"] is None


def test_differences_are_paired_and_the_verdict_uses_the_stronger_majority(dataset, predictions, tmp_path):
    result = score(predictions, dataset, tmp_path / "scores.json")
    accuracy = {
        name: block["closed"]["accuracy"] for name, block in {**result["conditions"], **result["baselines"]}.items()
    }
    for name, difference in result["differences"]["closed"].items():
        assert difference["difference"] == pytest.approx(accuracy["image"] - accuracy[name])
        assert (difference["n"], difference["n_clusters"]) == (27, 9)
    verdict = result["verdict"]
    majority = verdict["baselines"]["majority"]
    assert majority["accuracy"] == max(accuracy["majority_train"], accuracy["majority_test_oracle"])
    assert majority["margin"] == pytest.approx(accuracy["image"] - majority["accuracy"])
    assert verdict["passes"] is True and (verdict["n"], verdict["n_failed"], verdict["n_unparsed"]) == (27, 1, 1)


def test_a_short_margin_fails_and_a_missing_condition_leaves_the_verdict_open(dataset, predictions, tmp_path):
    write_jsonl(predictions / "blank.jsonl", rows_of(dataset, lambda n, q: q.reference, condition="blank"))
    verdict = score(predictions, dataset, tmp_path / "scores.json")["verdict"]
    assert verdict["passes"] is False and verdict["baselines"]["blank"]["passes"] is False
    assert verdict["baselines"]["shuffled"]["passes"] is True
    (predictions / "blank.jsonl").unlink()
    result = score(predictions, dataset, tmp_path / "scores.json")
    assert result["verdict"]["passes"] is None and result["verdict"]["baselines"]["blank"] is None
    assert "blank" not in result["conditions"]


def test_the_decision_on_every_row_is_kept(dataset, predictions, tmp_path, read_rows):
    result = score(predictions, dataset, tmp_path / "scores.json")
    rows = read_rows(tmp_path / "scores_rows.jsonl")
    assert len(rows) == 36
    assert rows[0]["outcomes"]["image"] == "failed" and rows[5]["rules"]["image"] == "several_options"
    closed = [row for row in rows if row["answer_type"] == "closed"]
    for name in ("image", "blank", "shuffled"):
        mean = sum(row["points"][name] for row in closed) / len(closed)
        assert mean == pytest.approx(result["conditions"][name]["closed"]["accuracy"])


def test_scoring_twice_gives_the_same_bytes(dataset, predictions, tmp_path):
    score(predictions, dataset, tmp_path / "one.json")
    score(predictions, dataset, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_cases_are_scored_by_letter_and_the_judge_says_why_it_is_skipped(dataset, predictions, tmp_path):
    said = ["Answer: A. a CT film.", "a CT film or a MRI film", None, "Answer: C."]
    write_jsonl(predictions / "jama.jsonl", rows_of(dataset, lambda n, q: said[n], config="jama_style"))
    jama = score(predictions, dataset, tmp_path / "scores.json")["jama"]
    assert [case["outcome"] for case in jama["cases"]] == ["right", "unparsed", "failed", "wrong"]
    assert {k: jama["letters"][k] for k in ("total", "scored", "failed", "correct", "unparsed")} == {
        "total": 4, "scored": 3, "failed": 1, "correct": 1, "unparsed": 1,
    }  # fmt: skip
    assert jama["letters"]["accuracy"] == 0.25 and jama["letters"]["accuracy_scored"] == pytest.approx(1 / 3)
    assert jama["judge"]["status"] == "skipped" and "OPENAI_API_KEY" in jama["judge"]["reason"]


def test_without_cases_the_result_says_so(dataset, predictions, tmp_path):
    assert score(predictions, dataset, tmp_path / "scores.json")["jama"]["status"] == "not_run"


def test_files_that_do_not_belong_together_are_refused(dataset, predictions, tmp_path):
    rows = rows_of(dataset, lambda n, q: "no", condition="blank")
    write_jsonl(predictions / "blank.jsonl", rows[:-1])
    with pytest.raises(SemiHVError, match="different questions"):
        score(predictions, dataset, tmp_path / "scores.json")
    write_jsonl(predictions / "blank.jsonl", [{**row, "model": "other@4567"} for row in rows])
    with pytest.raises(SemiHVError, match="other@4567"):
        score(predictions, dataset, tmp_path / "scores.json")
    with pytest.raises(SemiHVError, match="no image.jsonl"):
        score(tmp_path, dataset, tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()
