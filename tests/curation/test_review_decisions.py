import pytest
from review_folders import record, write_folder

from semihv_hf.curation.review.decisions import LOG, Decision, Decisions
from semihv_hf.curation.review.run import open_review
from semihv_hf.errors import SemiHVError


def decision(item="i", reviewer="A", verdict="accept", **more) -> Decision:
    return Decision(item, "record", reviewer, verdict, (item,), **more)


def test_the_last_decision_of_a_person_counts_and_survives(tmp_path):
    decisions = Decisions(tmp_path, {"records": ["x"]})
    decisions.add(decision(verdict="reject", reason="style"))
    decisions.add(decision(reviewer="B"))
    decisions.add(decision(verdict="edit", texts={"1": "new"}))
    decisions.close()
    again = Decisions(tmp_path, {"records": ["x"]})
    assert [one.verdict for one in again.by_item()["i"]] == ["accept", "edit"], "the newest stands last"
    assert again.of("i", "A").texts == {"1": "new"} and again.of("i", "A").time.endswith("+00:00")
    assert again.counts() == {"edit": 1, "accept": 1} and again.counts("B") == {"accept": 1}


def test_a_line_that_was_being_written_is_cut_off_and_the_others_stay(tmp_path):
    decisions = Decisions(tmp_path, {"records": ["x"]})
    for number in range(3):
        decisions.add(decision(f"i{number}"))
    decisions.close()
    with open(tmp_path / LOG, "ab") as log:
        log.write(b'{"item": "i3", "kin')
    again = Decisions(tmp_path, {"records": ["x"]})
    again.add(decision("i4"))
    again.close()
    assert sorted(Decisions(tmp_path, {"records": ["x"]}).by_item()) == ["i0", "i1", "i2", "i4"]


def test_decisions_about_other_records_are_refused_and_kept(tmp_path):
    first = write_folder(tmp_path / "a", [record(1, "text")])
    review = open_review(first, tmp_path / "out")
    item = review.items[0]
    review.decisions.add(Decision(item.id, "record", "A", "accept", item.records))
    review.decisions.close()
    before = (tmp_path / "out" / LOG).read_bytes()
    with pytest.raises(SemiHVError, match="belongs to other work"):
        open_review(write_folder(tmp_path / "b", [record(2, "text")]), tmp_path / "out")
    assert (tmp_path / "out" / LOG).read_bytes() == before


@pytest.mark.parametrize(
    "wrong, said",
    [
        (decision(verdict="first"), "no verdict about a record"),
        (decision(reviewer=" "), "names no reviewer"),
        (decision(verdict="reject", reason="because"), "is no reason"),
        (decision(verdict="edit"), "changes nothing"),
        (decision(verdict="edit", texts={"1": " \n"}), "is empty"),
    ],
)
def test_what_is_no_decision_is_refused_and_not_written(tmp_path, wrong, said):
    decisions = Decisions(tmp_path, {"records": ["x"]})
    with pytest.raises(SemiHVError, match=said):
        decisions.add(wrong)
    assert not (tmp_path / LOG).exists()
