"""PubMedVision: the lists and archives of the release, several images a row, and images that the archives lack."""

import zipfile

import pytest
from sharegpt_checks import facts, pairs, picture, read_all, texts, write_json

from semihv_hf.data.messages import message
from semihv_hf.data.sources import source_class
from semihv_hf.data.sources.conversations import DESCRIBE_IMAGE, DESCRIBE_IMAGES
from semihv_hf.data.sources.modality_words import body_part_of, modality_of
from semihv_hf.data.sources.pubmedvision import PubMedVision
from semihv_hf.errors import SemiHVError

ALIGNMENT, INSTRUCTION = "PubMedVision_Alignment_VQA.json", "PubMedVision_InstructionTuning_VQA.json"
CHINESE, CAPTIONS = "PubMedVision_Chinese.json", "PubMedVision_Original_Caption.json"


def row(number: int, images: list[str], *said: str, kind="Alignment_VQA", **keys) -> dict:
    return {
        "id": f"{kind}_{number}",
        "image": images,
        "conversations": pairs(*said),
        "modality": "Computed Tomography",
        "body_part": "Oral Cavity",
        **keys,
    }


@pytest.fixture
def release(tmp_path):
    one, two = ["images/pmc_1_0.jpg"], ["images/pmc_2_0.jpg", "images/pmc_2_1.jpg"]
    alignment = [
        row(1, one, "<image>\nDescribe it.", "A jaw."),
        row(2, two, "<image>\n<image>\nDescribe them.", "Two jaws.", modality="Others", body_part="Others"),
        row(3, ["images/pmc_3_0.jpg"], "<image>\nDescribe it.", "It is not in the archives."),
        row(4, ["images/pmc_4_0.jpg"], "<image>\nDescribe it.", "It is torn."),
        row(5, one, "<image>\n<image>\nDescribe it.", "One marker too many."),
        row(1, one, "<image>\nDescribe it.", "A jaw."),
        row(7, ["images/../../pmc_1_0.jpg"], "<image>\nDescribe it.", "Outside."),
    ]
    instruction = [
        row(1, one, "Which jaw is it?", "The upper one.", kind="Instruction-Tuning"),
        row(2, two, "<image><image>Who?", "You.", "And now?", "Still you.", kind="Instruction-Tuning"),
    ]
    chinese = {key: value for key, value in row(1, one).items() if key != "conversations"}
    chinese["Alignment_VQA_conversations"] = pairs("<image>\n描述图像。", "下颌。")
    chinese["Instruction-Tuning_VQA_conversations"] = pairs("<image>\n哪一个？", "上颌。")
    captions = [
        {"id": "Original_Caption_1", "image": one[0], "modality": "X-Ray", "Original_Caption": " CT of a jaw. "},
        {"id": "Original_Caption_2", "image": two, "modality": "Ultrasound", "Original_Caption": "Two views."},
        {"id": "Original_Caption_4", "image": ["images/pmc_1_0.jpg"], "Original_Caption": None},
    ]
    for file, rows in ((ALIGNMENT, alignment), (INSTRUCTION, instruction), (CHINESE, [chinese]), (CAPTIONS, captions)):
        write_json(tmp_path / file, rows)
    with zipfile.ZipFile(tmp_path / "images_0.zip", "w") as archive:
        archive.writestr("images/pmc_1_0.jpg", picture(1))
        archive.writestr("images/pmc_2_0.jpg", picture(2))
    with zipfile.ZipFile(tmp_path / "images_1.zip", "w") as archive:
        archive.writestr("images/pmc_2_1.jpg", picture(3))
        archive.writestr("images/pmc_4_0.jpg", picture(4)[:-400])
    return tmp_path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_alignment_asks_by_rule_and_a_model_describes(release):
    cases, _, records = read_all(PubMedVision(release))
    case, record = cases[f"{ALIGNMENT}:Alignment_VQA_1"], records[f"{ALIGNMENT}:Alignment_VQA_1"]
    assert record.task == "caption" and record.annotation == ["rule", "machine"]
    assert record.provenance[0].model == "gpt-4-turbo-2024-04-09"
    assert facts(case) == {
        "modality": "CT",
        "stated_modality": "Computed Tomography",
        "body_part": "mouth",
        "stated_body_part": "Oral Cavity",
    }
    assert texts(case) == {"caption": ("CT of a jaw.", "human")}
    several = records[f"{ALIGNMENT}:Alignment_VQA_2"]
    assert several.messages[0] == message("user", "Describe them.", 2) and len(several.images) == 2
    assert several.modality == "unknown"
    assert facts(cases[f"{ALIGNMENT}:Alignment_VQA_2"]) == {"stated_modality": "Others", "stated_body_part": "Others"}


def test_instructions_are_a_model_s_questions_and_answers_about_the_same_figures(release):
    cases, _, records = read_all(PubMedVision(release))
    first = records[f"{INSTRUCTION}:Instruction-Tuning_1"]
    assert first.task == "vqa" and first.annotation == ["machine", "machine"]
    assert first.messages[0] == message("user", "Which jaw is it?", 1)
    assert records[f"{INSTRUCTION}:Instruction-Tuning_2"].task == "conversation"
    groups = {case.group for name, case in cases.items() if "_1" in name.partition(":")[2]}
    assert groups == {"pmc_1"}


def test_a_chinese_row_gives_both_of_its_conversations(release):
    cases, _, records = read_all(PubMedVision(release, parts="chinese"))
    assert list(records) == [
        f"{CHINESE}:Alignment_VQA_1/alignment",
        f"{CHINESE}:Alignment_VQA_1/instruction",
    ]
    assert [record.task for record in records.values()] == ["caption", "vqa"]
    assert {tuple(record.annotation) for record in records.values()} == {("machine", "machine")}
    assert {record.messages[1]["content"][0]["text"] for record in records.values()} == {"下颌。", "上颌。"}
    for case in cases.values():
        assert [text.language for text in case.texts] == ["zh", "en"]
        assert case.text("conversation").annotation == "machine"


def test_captions_alone_become_descriptions_by_the_authors_of_the_article(release):
    cases, skipped, records = read_all(PubMedVision(release, parts=["captions"]))
    one, two = records.values()
    assert one.annotation == ["rule", "human"] and one.task == "caption" and one.modality == "X-ray"
    assert one.messages[0]["content"][-1]["text"] in DESCRIBE_IMAGE
    assert two.messages[0]["content"][-1]["text"] in DESCRIBE_IMAGES
    assert [case.text("caption").text for case in cases.values()] == ["CT of a jaw.", "Two views."]
    assert [entry.reason for entry in skipped.values()] == ["missing text"]
    for file in (ALIGNMENT, INSTRUCTION, CHINESE):
        (release / file).unlink()
    assert PubMedVision(release).parts == ["captions"]


def test_every_defect_is_skipped_with_its_reason(release):
    cases, skipped, _ = read_all(PubMedVision(release, parts="alignment"))
    assert {name.rpartition("_")[2]: entry.reason for name, entry in skipped.items()} == {
        "3": "missing image",
        "4": "unreadable image",
        "5": "malformed row",
        "1#5": "duplicate row",
        "7": "unsafe file",
    }
    assert len(cases) == 2


def test_unpacked_images_give_the_same_rows(release):
    packed = read_all(PubMedVision(release))
    for name in ("images_0.zip", "images_1.zip"):
        with zipfile.ZipFile(release / name) as archive:
            archive.extractall(release)
        (release / name).unlink()
    assert read_all(PubMedVision(release)) == packed


def test_a_wrong_folder_or_part_is_told_what_is_there(release, tmp_path_factory):
    with pytest.raises(SemiHVError, match="no part 'russian' in the folder.*Found: alignment, instruction, chinese"):
        PubMedVision(release, parts=["russian"])
    other = tmp_path_factory.mktemp("other")
    (other / "data.json").write_text("[]")
    with pytest.raises(SemiHVError, match=r"no pubmedvision release.*Alignment_VQA.json.*images\*.*Found: data.json"):
        PubMedVision(other)
    assert source_class("pubmedvision") is PubMedVision


@pytest.mark.parametrize(
    ("stated", "modality"),
    [
        ("Computed Tomography", "CT"),
        ("CT Angiography", "CT"),
        ("PET/CT", "PET"),
        ("Magnetic Resonance Imaging", "MRI"),
        ("fMRI", "MRI"),
        ("Microscopy Images", "microscopy"),
        ("Transmission Electron Microscopy", "electron microscopy"),
        ("Fluorescence Microscopy", "fluorescence microscopy"),
        ("Digital Photography", "photograph"),
        ("Fundus Photography", "fundus photograph"),
        ("Ultrasound", "ultrasound"),
        ("Echocardiography", "ultrasound"),
        ("X-Ray", "X-ray"),
        ("Digital Radiography", "X-ray"),
        ("Mammography", "mammography"),
        ("Endoscopy", "endoscopy"),
        ("Dermoscopy", "dermoscopy"),
        ("Colposcopy", "colposcopy"),
        ("Infrared Reflectance Imaging", "infrared"),
        ("Optical Coherence Tomography", "OCT"),
        ("Coronary Angiography", "angiography"),
        ("Bone Scintigraphy", "scintigraphy"),
        ("Others", None),
        ("Doctor's chart", None),
        ("", None),
        ("CT; MRI", None),
        ("X-ray, chest radiograph", "X-ray"),
        ("CT, axial", "CT"),
    ],
)
def test_modalities_are_put_in_the_words_of_this_package(stated, modality):
    assert modality_of(stated) == modality


@pytest.mark.parametrize(
    ("stated", "part"),
    [
        ("Brain", "brain"),
        ("Upper Limb", "extremity"),
        ("Eye", "eye"),
        ("Spine", "spine"),
        ("Others", None),
        ("", None),
    ],
)
def test_body_parts_are_put_in_the_words_of_this_package(stated, part):
    assert body_part_of(stated) == part
