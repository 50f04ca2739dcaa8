import pytest
from review_folders import record, write_folder

from semihv_hf.curation.review.items import RecordFolders, list_pairs, list_records
from semihv_hf.curation.review.run import open_review
from semihv_hf.errors import SemiHVError


def test_a_sample_is_the_beginning_of_every_larger_one_and_depends_on_the_seed(tmp_path):
    folders = RecordFolders([write_folder(tmp_path / "a", [record(n, "text") for n in range(40)])])
    every = [item.id for item in list_records(folders, seed=1)]
    assert len(set(every)) == 40
    assert [item.id for item in list_records(folders, sample=7, seed=1)] == every[:7]
    assert [item.id for item in list_records(folders, seed=2)] != every


def test_each_item_reads_its_own_record(tmp_path):
    records = [record(n, "text") for n in range(250)]  # several row groups
    folders = RecordFolders([write_folder(tmp_path / "a", records)])
    bytes_of = {one.id: one.images[0] for one in records}
    items = list_records(folders)
    assert len(items) == 250
    for item in items:
        row = folders.read(item.places[0])
        assert row["id"] == item.id and row["images"][0]["bytes"] == bytes_of[item.id]


def test_only_the_wanted_tasks(tmp_path):
    both = [record(1, "text"), record(2, "text", task="vqa")]
    folders = RecordFolders([write_folder(tmp_path / "a", both)])
    assert [item.task for item in list_records(folders, tasks=["vqa"])] == ["vqa"]


def test_pairs_answer_the_same_prompt_about_the_same_case_and_what_has_no_counterpart_is_counted(tmp_path):
    left = [record(n, "left") for n in range(30)]
    right = [record(n, "right") for n in range(20)] + [record(20, "left"), record(21, "r", question="Other?")]
    folders = RecordFolders([write_folder(tmp_path / "a", left), write_folder(tmp_path / "b", right)])
    pairs, alone = list_pairs(folders)
    # 20 says the same in both, 21 asks something else, 22 to 29 are only in one.
    assert len(pairs) == 20 and alone == 10
    firsts = {item.places[0].folder for item in pairs}
    assert firsts == {0, 1}, "which of the two stands first is to be drawn"
    for item in pairs:
        rows = [folders.read(place) for place in item.places]
        assert [row["id"] for row in rows] == list(item.records)
        assert rows[0]["case_id"] == rows[1]["case_id"] and rows[0]["messages"][:-1] == rows[1]["messages"][:-1]


def test_exchanging_the_folders_gives_the_same_pairs_in_the_same_order(tmp_path):
    a = write_folder(tmp_path / "a", [record(n, "left") for n in range(12)])
    b = write_folder(tmp_path / "b", [record(n, "right") for n in range(12)])
    one, _ = list_pairs(RecordFolders([a, b]))
    other, _ = list_pairs(RecordFolders([b, a]))
    assert {item.id: set(item.records) for item in one} == {item.id: set(item.records) for item in other}
    assert [item.id for item in one] == [item.id for item in other]


def test_wrong_folders_and_tasks_are_one_clear_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SemiHVError, match="holds no"):
        open_review(tmp_path / "empty", tmp_path / "out")
    folder = write_folder(tmp_path / "a", [record(1, "text")])
    with pytest.raises(SemiHVError, match="no task 'poem'"):
        open_review(folder, tmp_path / "out", tasks=["poem"])
    with pytest.raises(SemiHVError, match="nothing to look at"):
        open_review(folder, tmp_path / "out", tasks=["vqa"])
