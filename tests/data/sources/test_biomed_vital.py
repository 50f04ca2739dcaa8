"""BioMed-VITAL: the release's layout, ids that repeat, and images that were not downloaded."""

import pytest
from sharegpt_checks import facts, pairs, picture, read_all, texts, write_json

from semihv_hf.data.messages import message
from semihv_hf.data.schema import Provenance
from semihv_hf.data.sources import source_class
from semihv_hf.data.sources.biomed_vital import BiomedVital
from semihv_hf.errors import SemiHVError

DOMAINS = ("chest_xray", "mri", "histology", "gross", "ct_scan")


def row(number, *said, domain="ct_scan", **keys) -> dict:
    pair = f"2810{number:04d}_F2"
    said = said or ("What modality is this?", "A CT scan.", "Where is the lesion?", "In the liver.")
    return {
        "id": number,
        "image": f"{pair}.jpg",
        "domain": {name: name == domain for name in DOMAINS},
        "conversations": pairs(*said),
        "fig_caption": f"Axial CT of patient {number}.",
        "fig_label": "Figure 2",
        "in_text_mention": [{"tokens": "The lesion (Figure 2) grew.", "start": 3}],
        "pair_id": pair,
        "pmid": f"2810{number:04d}",
        **keys,
    }


@pytest.fixture
def release(tmp_path):
    rows = [
        row(1),
        row(2, "What is it?\n<image>", "A stain.", domain="histology", in_text_mention="Shown in Figure 2."),
        row(1, "What else?", "Nothing.", image="28100003_F2.jpg", pair_id="28100003_F2", pmid="28100003"),
        row(1),
        row(4),
        row(5),
        row(6, "Who asks?"),
        row(7, domain="none", image="folder/28100007_F2.JPG"),
    ]
    write_json(tmp_path / "BioMed-VITAL-instructions-150K.json", rows, bom=True)
    write_json(tmp_path / "BioMed-VITAL-instructions-60K.json", rows[:1])
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"2810{number:04d}_F2.jpg").write_bytes(picture(number))
    (folder / "28100004_F2.jpg").write_bytes(picture(4)[:200])
    (folder / "folder").mkdir()
    (folder / "folder" / "28100007_F2.jpg").write_bytes(picture(7))
    return tmp_path


def test_rows_become_conversations_of_a_model_about_a_figure(release):
    file = "BioMed-VITAL-instructions-150K.json"
    cases, skipped, records = read_all(BiomedVital(release))
    assert list(cases) == [f"{file}:1", f"{file}:2", f"{file}:1#2", f"{file}:7"]
    first = cases[f"{file}:1"]
    assert facts(first) == {"modality": "CT", "domain": "ct_scan", "pair_id": "28100001_F2", "pmid": "28100001"}
    assert first.facts[0].source == f"{file} key domain.ct_scan"
    assert first.group == "pmid 28100001"
    assert texts(first) == {
        "caption": ("Axial CT of patient 1.", "human"),
        "figure_label": ("Figure 2", "human"),
        "mention": ("The lesion (Figure 2) grew.", "human"),
    }
    record = records[f"{file}:1"]
    assert record.task == "conversation" and record.modality == "CT"
    assert record.messages[0] == message("user", "What modality is this?", 1)
    assert record.annotation == ["machine"] * 4
    assert record.provenance[3] == Provenance("messages[3]", model="gpt-4-vision-preview")
    one = records[f"{file}:2"]
    assert one.task == "vqa" and one.modality == "histology"
    assert texts(cases[f"{file}:2"])["mention"] == ("Shown in Figure 2.", "human")
    assert records[f"{file}:7"].modality == "unknown"


def test_every_defect_is_skipped_with_its_reason(release):
    _, skipped, _ = read_all(BiomedVital(release))
    assert [(name.partition(":")[2], entry.reason) for name, entry in skipped.items()] == [
        ("1#3", "duplicate row"),
        ("4", "unreadable image"),
        ("5", "missing image"),
        ("6", "malformed row"),
    ]
    assert not any(str(release) in entry.detail for entry in skipped.values())


def test_one_of_the_lists_that_contain_one_another_is_read(release):
    assert BiomedVital(release).files() == ["BioMed-VITAL-instructions-150K.json"]
    assert len(list(BiomedVital(release, size="60K").items())) == 1
    with pytest.raises(SemiHVError, match="no list of size '80K'.*150K, 60K"):
        BiomedVital(release, size="80K")


def test_articles_are_held_out_as_a_whole(release):
    write_json(
        release / "BioMed-VITAL-instructions-210K.json",
        [row(number, f"Question {turn}?", "Yes.", id=10 * number + turn) for number in range(60) for turn in (0, 1)],
    )
    items = list(BiomedVital(release, held_out=0.3, seed=1).items())
    groups = {item.data["group"]: set() for item in items}
    for item in items:
        groups[item.data["group"]].add(item.split)
    assert all(len(splits) == 1 for splits in groups.values()) and len(groups) == 60
    held_out = sum(splits == {"test"} for splits in groups.values())
    assert 5 < held_out < 35


def test_a_wrong_folder_is_told_what_is_missing(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(SemiHVError, match="no biomed_vital release.*instructions-210K.json.*Found: other.json"):
        BiomedVital(tmp_path)
    assert source_class("biomed_vital") is BiomedVital
