import pytest
from datasets import Image, List, load_dataset
from huggingface_hub import DatasetCard
from review_folders import record, write_folder

from semihv_hf.curation.review.decisions import Decision
from semihv_hf.curation.review.run import open_review
from semihv_hf.data.checks import validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.errors import SemiHVError


def decide(review, number, verdict, reviewer="A", **more):
    item = review.items[number]
    review.decisions.add(Decision(item.id, item.kind, reviewer, verdict, item.records, **more))
    return item


@pytest.fixture
def review(tmp_path):
    records = [record(n, "machine text", turns=2) for n in range(8)]
    return open_review(write_folder(tmp_path / "data", records), tmp_path / "decisions")


def test_what_people_let_pass_is_written_with_who_wrote_it(review, tmp_path):
    accepted, rejected = decide(review, 0, "accept"), decide(review, 1, "reject", reason="not grounded")
    mended = decide(review, 2, "edit", texts={"0": "Asked better", "3": "Said better"})
    torn = decide(review, 3, "accept")
    decide(review, 3, "reject", "B", reason="style")
    report = review.export(tmp_path / "out")
    assert report["counts"] == {"accepted": 1, "edited": 1, "not looked at": 4, "rejected": 2}
    assert sum(report["counts"].values()) == report["listed"] == 8
    assert report["reasons"] == {"not grounded": 1, "style": 1} and report["reviewers"] == 2
    rows = load_dataset(str(tmp_path / "out"), "instruction", split="train")
    assert len(rows) == 2 and accepted.id in rows["id"] and rejected.id not in rows["id"] and torn.id not in rows["id"]
    (edited,) = [row for row in rows if row["id"] not in (accepted.id, mended.id)]
    assert [message_text(one) for one in edited["messages"]][0::3] == ["Asked better", "Said better"]
    # A rule's text that a person wrote anew is a person's; a model's is a person's edit of it.
    assert edited["annotation"] == ["human", "machine", "rule", "human_edit"]
    assert [one["field"] for one in edited["provenance"]] == ["messages[1]", "messages[0]", "messages[3]"]
    assert f"record: {mended.id}" in edited["provenance"][-1]["evidence"]
    assert edited["messages"][0]["content"][0]["type"] == "image" and len(edited["images"]) == 1
    for row in rows.cast_column("images", List(Image(decode=False))):
        validate_record(row)


def test_an_edited_answer_is_preferred_to_the_models(review, tmp_path):
    item = decide(review, 2, "edit", texts={"0": "Asked better", "1": "First better", "3": "Second better"})
    decide(review, 4, "edit", texts={"0": "Only the question"})
    report = review.export(tmp_path / "out")
    assert report["rows"]["preferences"] == {"train": 2}
    rows = load_dataset(str(tmp_path / "out"), "preferences", split="train")
    by_length = sorted(rows, key=lambda row: len(row["prompt"]))
    assert [len(row["prompt"]) for row in by_length] == [1, 3]
    texts = [[message_text(one) for one in (*row["prompt"], *row["chosen"], *row["rejected"])] for row in by_length]
    assert texts[0] == ["Asked better", "First better", "machine text 0"]
    assert texts[1] == ["Asked better", "First better", "Describe. (1)", "Second better", "machine text 1"]
    assert all(row["record_ids"][0] == item.id and row["origin"] == "edit" for row in rows)
    assert all(len(row["images"]) == 1 and row["images"][0].size == (16, 12) for row in rows)


def test_the_majority_of_a_pair_decides_and_a_draw_is_no_preference(tmp_path):
    left = write_folder(tmp_path / "a", [record(n, "left") for n in range(6)])
    right = write_folder(tmp_path / "b", [record(n, "right") for n in range(6)])
    review = open_review(left, tmp_path / "decisions", against=right)
    first = decide(review, 0, "first")
    decide(review, 0, "first", "B"), decide(review, 0, "second", "C")
    second = decide(review, 1, "second")
    decide(review, 2, "first"), decide(review, 2, "second", "B")
    decide(review, 3, "tie"), decide(review, 4, "neither")
    report = review.export(tmp_path / "out")
    assert report["counts"] == {"disagreement": 1, "neither": 1, "not looked at": 1, "preferred": 2, "tie": 1}
    rows = load_dataset(str(tmp_path / "out"), "preferences", split="train")
    assert {tuple(row["record_ids"]): row["votes"] for row in rows} == {
        first.records: 3,
        tuple(reversed(second.records)): 1,
    }
    said = {item: answer for answer in ("left", "right") for item in [record(n, answer).id for n in range(6)]}
    for row in rows:
        chosen, rejected = (said[item] for item in row["record_ids"])
        assert message_text(row["chosen"][0]) == f"{chosen} 0" and message_text(row["rejected"][0]) == f"{rejected} 0"


def test_several_edits_of_one_record_are_told_and_the_newest_counts(review, tmp_path):
    decide(review, 0, "edit", texts={"1": "one"})
    decide(review, 0, "edit", "B", texts={"1": "two"})
    decide(review, 1, "edit", texts={"1": "same"}), decide(review, 1, "edit", "B", texts={"1": "same"})
    report = review.export(tmp_path / "out")
    assert report["conflicts"] == 1
    rows = load_dataset(str(tmp_path / "out"), "instruction", split="train")
    assert {message_text(row["messages"][1]) for row in rows} == {"two", "same"}


def test_unseen_records_can_be_kept_and_the_same_decisions_give_the_same_bytes(review, tmp_path):
    decide(review, 0, "reject", reason="style")
    one = review.export(tmp_path / "one", only_reviewed=False)
    review.export(tmp_path / "two", only_reviewed=False)
    assert one["rows"] == {"instruction": {"train": 7}}
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 4
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_the_card_parses_and_names_the_licence(review, tmp_path):
    decide(review, 0, "edit", texts={"1": "better"})
    review.export(tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-sa-4.0" and "CC-BY-SA-4.0" in card.text
    assert [config["config_name"] for config in card.data.to_dict()["configs"]] == ["instruction", "preferences"]


def test_nothing_to_write_and_a_folder_that_is_not_empty_are_one_clear_error(review, tmp_path):
    with pytest.raises(SemiHVError, match="no decision lets a record pass"):
        review.export(tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    decide(review, 0, "accept")
    with pytest.raises(SemiHVError, match="is not empty"):
        review.export(tmp_path / "full")
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_reviewed_folder_can_be_published(review, tmp_path):
    """Its gate, its list of files and its card, up to the first request."""
    from semihv_hf.hub.publish import publish

    decide(review, 0, "edit", "Dr Reviewer", texts={"1": "better"})
    decide(review, 1, "accept", "Dr Reviewer")
    review.export(tmp_path / "out")
    report = publish("dataset", tmp_path / "out", "alice/reviewed", dry_run=True, progress=False)
    names = {file.name for file in report.files}
    assert names == {
        "README.md", "review_manifest.json", "review_report.json", "data/instruction/train-00000-of-00001.parquet",
        "data/preferences/train-00000-of-00001.parquet",
    }  # fmt: skip
    assert not [name for name in names if b"Reviewer" in (tmp_path / "out" / name).read_bytes()]
    (tmp_path / "out" / "review_manifest.json").unlink()
    with pytest.raises(SemiHVError, match="no build_manifest.json or curate_manifest.json or review_manifest.json"):
        publish("dataset", tmp_path / "out", "alice/reviewed", dry_run=True, progress=False)
