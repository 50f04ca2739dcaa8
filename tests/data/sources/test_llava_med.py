"""LLaVA-Med: the repository's layout, `conversatons`, captions by domain, and images that failed to download."""

import json
import pickle

import pytest
from sharegpt_checks import facts, pairs, picture, read_all, texts, write_json

from semihv_hf.data.messages import message
from semihv_hf.data.sources import source_class
from semihv_hf.data.sources.base import Skipped
from semihv_hf.data.sources.llava_med import LlavaMed
from semihv_hf.errors import SemiHVError

ALIGNMENT, SIXTY = "alignment/llava_med_alignment_500k.json", "instruct/llava_med_instruct_60k.json"


def figure(pair: str, domain: str) -> dict:
    return {
        "pair_id": pair,
        "pmid": pair.partition("_")[0],
        "fig_label": "Fig. 1",
        "fig_caption": f"Caption of {pair}.",
        "in_text_mention": [{"tokens": "See Fig. 1."}, {"tokens": "Again Fig. 1."}],
        "domain": {name: name == domain for name in ("chest_xray", "mri", "histology", "gross", "ct_scan")},
    }


@pytest.fixture
def release(tmp_path):
    alignment = [
        {"id": "a1", "image": "11111_F1.jpg", "conversatons": pairs("Describe it.\n<image>", "A chest film.")},
        {"id": "a2", "image": "22222_F1.jpg", "conversatons": pairs("<image>", "A brain.")},
        {"id": "a3", "image": "33333_F1.jpg", "conversatons": pairs("<image>\nWhat is it?", "Lost.")},
        {"id": "a4", "image": "55555_F1.jpg", "conversatons": pairs("<image>\nWhat is it?", "Found elsewhere.")},
        {"id": "a5", "image": "11111_F1.jpg", "conversatons": pairs("<image>\nWhat is it?", "")},
    ]
    instruct = [
        {"id": "11111_F1", "image": "11111_F1.jpg", "conversations": pairs("Which view?", "PA.", "Normal?", "Yes.")},
        {
            "id": "44444_F1",
            "image": "44444_F1.jpg",
            "domain": figure("", "gross")["domain"] | {"histology": True},
            "conversations": pairs("What is it?\n<image>", "An organ."),
        },
        {"id": "11111_F1", "image": "11111_F1.jpg", "conversations": pairs("Which view?", "PA.", "Normal?", "Yes.")},
    ]
    write_json(tmp_path / ALIGNMENT, alignment)
    write_json(tmp_path / SIXTY, instruct, bom=True)
    captions = {"chest_xray": [figure("11111_F1", "chest_xray")], "mri": [figure("22222_F1", "mri")], "gross": []}
    write_json(tmp_path / "instruct/llava_med_instruct_fig_captions.json", captions)
    urls = [{"pair_id": "55555_F1", "pmc_tar_url": "https://x/PMC9.tar.gz", "image_file_path": "PMC9/fig1.jpg"}]
    (tmp_path / "llava_med_image_urls.jsonl").write_text("\n".join(map(json.dumps, urls)) + "\n")
    (tmp_path / "images").mkdir()
    for number, pair in enumerate(("11111", "22222", "44444")):
        (tmp_path / "images" / f"{pair}_F1.jpg").write_bytes(picture(number))
    (tmp_path / "pmc_articles" / "PMC9").mkdir(parents=True)
    (tmp_path / "pmc_articles" / "PMC9" / "fig1.jpg").write_bytes(picture(9))
    return tmp_path


def test_alignment_rows_ask_by_rule_for_a_caption_that_people_wrote(release):
    cases, _, records = read_all(LlavaMed(release))
    record = records[f"{ALIGNMENT}:a1"]
    assert record.task == "caption" and record.annotation == ["rule", "human"] and record.provenance == []
    assert record.messages[1] == message("assistant", "A chest film.")
    assert records[f"{ALIGNMENT}:a2"].messages[0]["content"] == [{"type": "image", "text": None}]
    case = cases[f"{ALIGNMENT}:a1"]
    assert facts(case)["modality"] == "X-ray" and facts(case)["body_part"] == "chest"
    assert case.facts[0].source == "llava_med_instruct_fig_captions.json key domain.chest_xray"
    assert texts(case)["caption"] == ("Caption of 11111_F1.", "human")
    assert [text.text for text in case.texts if text.role == "mention"] == ["See Fig. 1.", "Again Fig. 1."]
    assert case.group == "pmid 11111" == cases[f"{SIXTY}:11111_F1"].group


def test_instruction_rows_are_those_of_a_model(release):
    cases, _, records = read_all(LlavaMed(release))
    record = records[f"{SIXTY}:11111_F1"]
    assert record.task == "conversation" and record.annotation == ["machine"] * 4
    assert {entry.model for entry in record.provenance} == {"gpt-4"}
    two = cases[f"{SIXTY}:44444_F1"]
    assert records[f"{SIXTY}:44444_F1"].task == "vqa"
    assert [fact.value for fact in two.facts if fact.name == "domain"] == ["gross", "histology"]
    assert two.fact("modality") is None and records[f"{SIXTY}:44444_F1"].modality == "unknown"


def test_an_image_is_found_where_the_download_script_unpacks_articles(release):
    cases, _, _ = read_all(LlavaMed(release))
    (release / "images" / "55555_F1.jpg").write_bytes(picture(9))
    again, _, _ = read_all(LlavaMed(release))
    assert cases[f"{ALIGNMENT}:a4"].images == again[f"{ALIGNMENT}:a4"].images


def test_every_defect_is_skipped_with_its_reason(release):
    cases, skipped, _ = read_all(LlavaMed(release))
    assert {name: entry.reason for name, entry in skipped.items()} == {
        f"{ALIGNMENT}:a3": "missing image",
        f"{ALIGNMENT}:a5": "malformed row",
        f"{SIXTY}:11111_F1#2": "duplicate row",
    }
    assert len(cases) == 5


def test_a_list_that_is_cut_off_gives_what_came_before(release):
    whole = (release / ALIGNMENT).read_bytes()
    (release / ALIGNMENT).write_bytes(whole[: whole.index(b'"a3"')])
    entries = list(LlavaMed(release, lists="llava_med_alignment_500k.json").items())
    assert [entry.source_id.partition(":")[2] for entry in entries[:2]] == ["a1", "a2"]
    (last,) = entries[2:]
    assert isinstance(last, Skipped) and last.reason == "malformed row" and "after row 1" in last.detail


def test_a_damaged_file_of_captions_is_an_error_not_silence(release):
    captions = release / "instruct/llava_med_instruct_fig_captions.json"
    captions.write_bytes(captions.read_bytes()[:300])
    with pytest.raises(SemiHVError, match="fig_captions.json.*damaged"):
        list(LlavaMed(release).items())


def test_lists_are_chosen_and_tables_do_not_travel(release):
    source = LlavaMed(release, lists=["llava_med_instruct_60k.json"])
    assert source.files() == [SIXTY]
    assert source.metadata() == sorted(
        [SIXTY, "instruct/llava_med_instruct_fig_captions.json", "llava_med_image_urls.jsonl"]
    )
    running = source.items()
    first = next(running)
    assert next(pickle.loads(pickle.dumps(source)).items()) == first  # while its tables are open
    with pytest.raises(SemiHVError, match="no list 'llava_med_instruct_10k.json'"):
        LlavaMed(release, lists=["llava_med_instruct_10k.json"])


def test_a_wrong_folder_is_told_what_is_missing(tmp_path):
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(SemiHVError, match="no llava_med release.*llava_med_alignment_500k.json.*Found: train.json"):
        LlavaMed(tmp_path)
    assert source_class("llava_med") is LlavaMed
