"""Med-Instruction: rows as the authors' scripts write them, images under the user's roots, and their known defects."""

import json
import zipfile

import pytest
from sharegpt_checks import facts, pairs, picture, read_all, write_json

from semihv_hf.data.messages import message
from semihv_hf.data.schema import QuestionTurn
from semihv_hf.data.sources import source_class
from semihv_hf.data.sources.med_instruction import MedInstruction
from semihv_hf.errors import SemiHVError

MIX = "Medical_Instruction_Mix_cleaned_no_images_in_conversations.json"
AUTHORS = "/mnt/cache_share/MedTrinity-25M"
FINDINGS = "Please generate the image findings of the following image:\n<image>"
LETTERS = "Which is it?\nA. Liver\nB. Lung\nC. Heart\nD. Brain\n"
LETTERS += "Answer with the option's letter from the given choices directly.\n<image>"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def roots(tmp_path):
    """A copy of DeepLesion's slices, one of other releases in their own folders, and an archive."""
    slices, others, packed = tmp_path / "slices", tmp_path / "others", tmp_path / "packed"
    for path, number in (
        (slices / "a" / "1.png", 1),
        (others / "LLD-MMRI" / "images2" / "7" / "2.PNG", 2),
        (others / "EURORAD" / "A case" / "fig1.jpg", 3),
        (others / "EURORAD" / "Another" / "fig1.jpg", 4),
        (others / "PMC-VQA" / "figures" / "PMC1_F1.jpg", 5),
        (others / "a" / "1.png", 6),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, "PNG" if path.suffix.lower() == ".png" else "JPEG"))
    packed.mkdir()
    with zipfile.ZipFile(packed / "pmc.zip", "w") as archive:
        archive.writestr("38_Pubmed_cleaned/images2/PMC77/f3.jpg", picture(7))
        archive.writestr("somebody/else/1.png", picture(8, "PNG"))
    return [str(slices), str(others), str(packed)]


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "release"
    rows = [
        {"conversations": pairs(FINDINGS, "A mass.", "Where?", "Left."), "image": f"{AUTHORS}/DeepLesion/Key/a/1.png"},
        # the script joins the folder to a path that holds it already
        {
            "conversations": pairs(FINDINGS, "A cyst."),
            "image": f"{AUTHORS}/LLD-MMRI/images2{AUTHORS}/LLD-MMRI/images2/7/2.png",
        },
        {"conversations": pairs(LETTERS, "A"), "image": f"{AUTHORS}/PMC-VQA/figures/PMC1_F1.jpg", "label": 0},
        {
            "conversations": pairs("What is it?\n<image>", "A graph.", speaker="role"),
            "image": "/mnt/data/38_Pubmed_cleaned/images2/PMC77/f3.jpg",
            "label": 0,
        },
        {"conversations": pairs(FINDINGS, "I'm Sorry, I cannot."), "image": f"{AUTHORS}/PadChest/images/9.png"},
        {"conversations": pairs(FINDINGS, "A film."), "image": "/mnt/mimic-cxr-jpg/files/p10/s1/x.jpg"},
        {"conversations": pairs(FINDINGS, "Nothing."), "image": None},
        {"conversations": pairs("What is a stroke?", "An infarct of the brain."), "image": None},
        {"conversations": pairs("<image>\nWhat?", "That."), "image": "../../../etc/A case/secret.jpg"},
        None,
        {"conversations": pairs(LETTERS, "A"), "image": f"{AUTHORS}/PMC-VQA/figures/PMC1_F1.jpg"},
    ]
    write_json(folder / MIX, rows, bom=True)
    lines = [
        {"id": "1", "image": "1.png", "conversations": pairs("Generate the caption of this figure. \n<image>", "CT.")},
        {"id": "1", "image": "a/1.png", "messages": pairs("Hi?", "Yes.", speaker="role", said="content")},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"id": "3", "image"\n\n' + json.dumps(lines[1] | {"id": "4"})
    (folder / "PMC_revise_shuffle.jsonl").write_text(text)
    write_json(folder / "dataset_infos.json", {"default": {}})
    write_json(folder / ".cache" / "hidden.json", [{}])
    return folder


@pytest.fixture
def permission(tmp_path) -> str:
    """A permission file for all cases."""
    path = tmp_path / "permission.json"
    words = "I permit the use of my cases for training models, as agreed in my letter."
    path.write_text(
        json.dumps({"permissions": [{"cases": "all", "author": "Dr A", "date": "2026-01-31", "statement": words}]})
    )
    return str(path)


def eurorad(title: str, findings: int, questions: bool = True) -> dict:
    """A case as `json_generate_eura.py` writes it: images in the conversations, that of the questions lost."""

    def finding(number: int) -> dict:
        asked = "Clinical History:\nPain.\nPlease generate the description of the following image:\n<image>"
        path = f"/mnt/cache_share/EURORAD/{title}/fig{number}.jpg"
        return {"conversations": [*pairs(asked, f"Stone {number}.", speaker="role"), {"image": path}]}

    asked = "Clinical History:\nPain.\n\nImage Descriptions:\nfig1: Stone.\n\nPlease generate a discussion."
    return {
        "conversations": pairs("How many stones?\n<image>", "One.", "Where?", "Right.") if questions else [],
        "imaging_findings": [finding(number + 1) for number in range(findings)],
        "discussion": {"conversations": pairs(asked, f"Stones of {title}.", speaker="role")},
    }


def test_paths_of_the_authors_machine_are_found_by_their_longest_end(release, roots):
    cases, _, _ = read_all(MedInstruction(release, image_roots=roots))
    by_group = {case.group: case for case in cases.values()}
    assert set(by_group) >= {"a/1.png", "7/2.png", "figures/PMC1_F1.jpg", "PMC77/f3.jpg"}
    swapped, _, _ = read_all(MedInstruction(release, image_roots=[roots[1], roots[0], roots[2]]))
    first = f"{MIX}:#0"
    assert cases[first].images != swapped[first].images  # both hold a/1.png: the first root that is named wins
    same = f"{MIX}:#1"
    assert cases[same].images == swapped[same].images


def test_a_longer_end_under_a_later_root_beats_a_shorter_one_under_an_earlier(release, roots, tmp_path):
    deep = tmp_path / "deep" / "Key" / "a"
    deep.mkdir(parents=True)
    (deep / "1.png").write_bytes(picture(20, "PNG"))
    one = MedInstruction(release, image_roots=[roots[0]])
    two = MedInstruction(release, image_roots=[roots[0], tmp_path / "deep"])
    item = next(one.items())
    assert next(one.read(item)).images != next(two.read(item)).images


def test_a_bare_file_name_is_not_taken_for_any_member_of_an_archive(release, roots):
    _, skipped, _ = read_all(MedInstruction(release, image_roots=roots))
    lost = skipped["PMC_revise_shuffle.jsonl:1"]
    assert lost.reason == "missing image" and lost.detail == "…/1.png is under none of the image roots"


def test_who_wrote_what_follows_from_how_the_authors_made_it(release, roots):
    write_json(release / "PMC_caption.json", [
        {"image": "a/1.png", "conversations": pairs("Generate the caption of this figure. \n<image>", "A CT.")},
    ])  # fmt: skip
    _, _, records = read_all(MedInstruction(release, image_roots=roots))
    first = records[f"{MIX}:#0"]
    assert first.task == "conversation" and first.annotation == ["rule", "machine", "machine", "machine"]
    assert first.messages[0]["content"][0]["text"].startswith("Please generate") and len(first.images) == 1
    assert [entry.model for entry in first.provenance] == ["gpt-4o"] * 3
    assert records[f"{MIX}:#1"].task == "report"
    assert records[f"{MIX}:#3"].task == "vqa"
    assert records[f"{MIX}:#7"].task == "vqa" and records[f"{MIX}:#7"].images == []
    caption = records["PMC_caption.json:#0"]
    assert caption.task == "caption" and caption.annotation == ["rule", "human"] and caption.provenance == []


def test_lettered_questions_name_their_options(release, roots):
    _, _, records = read_all(MedInstruction(release, image_roots=roots))
    record = records[f"{MIX}:#2"]
    assert record.task == "multiple_choice" and record.annotation == ["machine", "machine"]
    assert record.questions == [
        QuestionTurn(0, "pmc_vqa letters", "closed", list("ABCD"), "answer", f"{MIX} conversations[1]")
    ]
    assert record.messages[1] == message("assistant", "A")


def test_the_guessed_release_is_a_fact_with_its_evidence_and_labels_are_none(release, roots):
    cases, _, _ = read_all(MedInstruction(release, image_roots=roots))
    guessed = {name: (case.facts[0].value, case.facts[0].source) for name, case in cases.items() if case.facts}
    assert guessed == {
        f"{MIX}:#0": ("deeplesion", "image path part 'DeepLesion'"),
        f"{MIX}:#1": ("lld_mmri", "image path part 'LLD-MMRI'"),
        f"{MIX}:#2": ("pmc_vqa", "image path part 'PMC-VQA'"),
        f"{MIX}:#3": ("pmc_instruct", "image path part '38_Pubmed_cleaned'"),
        "PMC_revise_shuffle.jsonl:1#1": ("pmc_instruct", "file name 'PMC_revise_shuffle.jsonl'"),
    }
    assert all(facts(case).keys() <= {"upstream_source"} for case in cases.values())
    assert {case.source for case in cases.values()} == {"med_instruction"}


def test_every_defect_is_skipped_with_its_reason(release, roots):
    cases, skipped, _ = read_all(MedInstruction(release, image_roots=roots))
    assert {name: entry.reason for name, entry in skipped.items()} == {
        f"{MIX}:#4": "refusal",
        f"{MIX}:#5": "missing image",
        f"{MIX}:#6": "missing image",
        f"{MIX}:#8": "missing image",
        f"{MIX}:#9": "malformed row",
        f"{MIX}:#10": "duplicate row",
        "PMC_revise_shuffle.jsonl:1": "missing image",
        "PMC_revise_shuffle.jsonl:#2": "malformed row",
        "PMC_revise_shuffle.jsonl:4": "duplicate row",
    }
    assert len(cases) + len(skipped) == 11 + 4
    assert "no JSON value" in skipped["PMC_revise_shuffle.jsonl:#2"].detail
    assert not any("/mnt" in entry.detail for entry in skipped.values())


def test_refusals_are_kept_on_request(release, roots):
    _, skipped, _ = read_all(MedInstruction(release, image_roots=roots, refusals="keep"))
    assert "refusal" not in {entry.reason for entry in skipped.values()}
    with pytest.raises(SemiHVError, match="refusals is 'maybe'.*sorry, keep"):
        MedInstruction(release, refusals="maybe")


def test_a_eurorad_object_gives_its_findings_and_its_discussion(tmp_path, roots, permission):
    folder = tmp_path / "release"
    write_json(folder / "eurad.json", [eurorad("A case", 1), eurorad("Another", 2), eurorad("Third", 0, False)])
    cases, skipped, records = read_all(MedInstruction(folder, image_roots=roots, permission=permission))
    assert {name.partition(":")[2]: record.task for name, record in records.items()} == {
        "#0/questions": "conversation",
        "#0/findings0": "caption",
        "#0/discussion": "case",
        "#1/findings0": "caption",
        "#1/discussion": "case",
        "#2/discussion": "case",
    }
    assert {name.partition(":")[2]: entry.reason for name, entry in skipped.items()} == {
        "#1/questions": "known bad file",  # two images, and nothing says which one is asked about
        "#1/findings1": "missing image",
    }
    finding, discussion = records["eurad.json:#0/findings0"], records["eurad.json:#0/discussion"]
    assert finding.annotation == ["rule", "machine"] and len(finding.images) == 1
    assert discussion.annotation == ["rule", "human"] and discussion.images == []
    assert discussion.messages[1] == message("assistant", "Stones of A case.")
    asked = cases["eurad.json:#0/questions"]
    assert asked.images == cases["eurad.json:#0/findings0"].images
    assert {case.group for name, case in cases.items() if "#0/" in name} == {"eurad.json case #0"}
    assert facts(asked)["upstream_source"] == "eurorad"
    assert facts(asked)["permission"].startswith("Dr A, 2026-01-31: I permit")


def test_eurorad_cases_of_unknown_date_are_refused_without_a_permission(tmp_path, roots, permission):
    folder = tmp_path / "release"
    plain = {"image": "/mnt/EURORAD/A case/fig1.jpg", "conversations": pairs("What?\n<image>", "A stone.")}
    write_json(folder / "eurad.json", [eurorad("A case", 1), eurorad("Another", 1), plain])
    cases, skipped, _ = read_all(MedInstruction(folder, image_roots=roots))
    assert not cases and [entry.reason for entry in skipped.values()] == ["date rule"] * 7
    assert not any(entry.is_damage for entry in skipped.values())
    granted = json.loads(open(permission).read())
    granted["permissions"][0]["cases"] = ["a  CASE"]
    open(permission, "w").write(json.dumps(granted))
    cases, skipped, _ = read_all(MedInstruction(folder, image_roots=roots, permission=permission))
    assert len(cases) == 4 and {entry.detail for entry in skipped.values()} == {
        "Eurorad case 'Another' of unknown date, without a permission"
    }


@pytest.mark.parametrize("indent", [None, 2])
def test_objects_of_cases_and_files_of_one_case_are_read_too(tmp_path, roots, permission, indent):
    folder = tmp_path / "release"
    folder.mkdir()
    case = eurorad("A case", 1)
    (folder / "one.json").write_text(json.dumps(case, indent=indent))
    by_title = {"A case": case, "Lists": [{"image": "a/1.png", "conversations": pairs("Which?", "This.")}]}
    (folder / "titles.json").write_text(json.dumps(by_title, indent=2))
    cases, skipped, _ = read_all(MedInstruction(folder, image_roots=roots, permission=permission))
    assert not skipped
    assert [name for name in cases if name.startswith("one")] == [
        "one.json:#0/questions",
        "one.json:#0/findings0",
        "one.json:#0/discussion",
    ]
    assert "titles.json:#Lists/0" in cases and "titles.json:#A case/discussion" in cases


def test_a_wrong_folder_or_root_is_told_what_is_missing(tmp_path, release):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SemiHVError, match=r"no med_instruction release: missing \*\*/\*.json .*Found: nothing"):
        MedInstruction(empty)
    with pytest.raises(SemiHVError, match="There is no folder .*nowhere"):
        MedInstruction(release, image_roots=[str(tmp_path / "nowhere")])
    assert source_class("med_instruction") is MedInstruction
