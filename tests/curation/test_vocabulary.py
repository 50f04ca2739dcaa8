"""The classes and their spellings, and the label files that use them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.curation.label_files import LabelFolder, read_label_file, read_label_text
from semihv_hf.curation.vocabulary import (
    BODY_PARTS,
    MODALITIES,
    body_part_of,
    body_part_spellings,
    modality_of,
    modality_spellings,
    topic_of,
)
from semihv_hf.data.schema import Case
from semihv_hf.errors import SemiHVError

# The authors' values as their prompt spells them.
AUTHORS_MODALITIES = {
    "X-ray": "x-ray", "DSA": "dsa", "CT": "ct", "MR": "mr", "PET/SPECT": "pet/spect", "Altralsound": "ultrasound",
    "Pathology": "pathology", "Camara": "camera", "gross pathology": "gross pathology", "Demotology": "dermatology",
    "OCT": "oct", "EM": "em", "Electrophoresis": "electrophoresis", "Colonscopy": "colonoscopy",
    "Simulated illustration": "simulated illustration", "Radioisotope": "radioisotope",
    "Optical Image": "optical image", "Mitotic": "mitotic", "Other": "other",
}  # fmt: skip
AUTHORS_BODY_PARTS = {
    "Head & neck": "head & neck", "Thoroax": "thorax", "Abdomen": "abdomen", "Extremity": "extremity",
    "Upper": "upper extremity", "Lower": "lower extremity", "Other": "other",
}  # fmt: skip


def labels_of(text):
    return {label.name: label.value for label in read_label_text(text).labels}


def test_there_are_nineteen_modalities_and_seven_body_parts_and_other_is_the_last():
    assert (len(set(MODALITIES)), len(set(BODY_PARTS))) == (19, 7)
    assert MODALITIES[-1] == BODY_PARTS[-1] == "other"
    assert all(name == name.lower() for name in (*MODALITIES, *BODY_PARTS))


def test_every_spelling_of_the_authors_is_read_and_covers_every_class():
    assert {written: modality_of(written) for written in AUTHORS_MODALITIES} == AUTHORS_MODALITIES
    assert {written: body_part_of(written) for written in AUTHORS_BODY_PARTS} == AUTHORS_BODY_PARTS
    assert set(AUTHORS_MODALITIES.values()) == set(MODALITIES)
    assert set(AUTHORS_BODY_PARTS.values()) == set(BODY_PARTS)


def test_the_dummy_value_and_what_is_no_class_are_none():
    for text in ("Modality", "", " ", "liver", "CT, MR", "x" * 100_000, "I cannot tell", "\x00", "not CT"):
        assert modality_of(text) is None, text[:40]
    for text in ("Body part", "", "liver", "Head & neck, Thorax", "y" * 100_000):
        assert body_part_of(text) is None, text[:40]


def test_no_spelling_stands_for_two_classes():
    from semihv_hf.curation import vocabulary

    for names, further, found in (
        (MODALITIES, vocabulary._MODALITY_SPELLINGS, modality_spellings()),
        (BODY_PARTS, vocabulary._BODY_PART_SPELLINGS, body_part_spellings()),
    ):
        assert set(further) <= set(names)
        assert len(found) == len(names) + sum(map(len, further.values()))


SPELLINGS = [(modality_of, modality_spellings()), (body_part_of, body_part_spellings())]
WRITTEN = [(spelling, name, read) for read, known in SPELLINGS for spelling, name in known.items()]


@given(st.sampled_from(WRITTEN), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_case_blanks_and_signs_make_no_difference_to_a_spelling(written, random):
    spelling, name, read = written
    letters = (random.choice((letter, letter.upper())) for letter in spelling)
    junk = (random.choice(("", "", " ", "\t", "-", "_", "/", " & ", ".", "('", "*")) for _ in iter(int, 1))
    assert read(next(junk) + "".join(letter + next(junk) for letter in letters)) == name


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_any_text_is_a_class_or_none(text):
    assert modality_of(text) in (*MODALITIES, None)
    assert body_part_of(text) in (*BODY_PARTS, None)
    topic = topic_of(text)
    assert topic == topic_of(topic), "a kept topic reads as itself"
    assert 1 <= len(topic.split(", ")) <= 3


def test_a_topic_is_three_keywords_in_lower_case_none_twice():
    assert topic_of(" Lung  Cancer; COPD,lung cancer, Effusion , fourth.") == "lung cancer, copd, effusion"
    assert topic_of("Other") == topic_of(" , ") == topic_of("") == "other"


@pytest.mark.parametrize("line", [
    "{n}. {name}: {value}", "**{n}. {name}:** {value}", "{n}) {name} : **{value}**", "- {name}: [{value}].",
    "{n}. __{name}__: {value}", "{n}.{name}：{value}",
])  # fmt: skip
@pytest.mark.parametrize("names", [("Topic/Disease", "Modality", "Body part"), ("topic", "MODALITY", "Body Part"),
                                   ("Disease", "Modality (one value)", "body_part")])  # fmt: skip
def test_the_three_lines_are_read_however_a_model_sets_them(line, names):
    values = ("Glioma, seizure, brain", "Demotology", "Thoroax")
    rows = [line.format(n=n, name=name, value=value) for n, (name, value) in enumerate(zip(names, values), start=1)]
    expected = {"topic": "glioma, seizure, brain", "modality": "dermatology", "body_part": "thorax"}
    for text in ("\n".join(rows), "\ufeffSure!\r\n\r\n" + "\r\n".join(rows) + "\r\n", "\n\n".join(reversed(rows))):
        read = read_label_text(text, source="a.txt", model="m")
        assert {label.name: label.value for label in read.labels} == expected and not read.problems
        assert {(label.decided_by, label.source, label.model, label.agreement) for label in read.labels} == {
            ("model", "a.txt", "m", None)
        }


def test_a_line_that_says_two_classes_or_none_is_a_problem_and_not_a_guess():
    read = read_label_text("1. Topic: a\n2. Modality: CT, MR\n3. Body part: liver")
    assert [label.name for label in read.labels] == ["topic"]
    assert read.problems == ["modality: 'CT, MR' is no class", "body_part: 'liver' is no class"]
    read = read_label_text("Modality: CT\nModality: MR\nTopic:\nBody part: Extremity, Upper")
    assert [label.value for label in read.labels] == ["upper extremity"]
    assert read.problems == ["topic: the value is empty", "modality: it says both 'CT' and 'MR'"]
    assert labels_of("Modality: CT (axial slice)\nModality: ct") == {"modality": "ct"}
    assert labels_of("Topic: I'm sorry, I cannot help with that") == {}


def test_the_dummy_of_pmc_oa_says_nothing_at_all():
    read = read_label_text("1. Topic/Disease: other\n2. Modality: Modality\n3. Body part: Other")
    assert read.labels == [] and read.problems == ["it is the dummy label of the images of PMC-OA"]


def test_refusals_empty_files_and_files_that_are_something_else_are_named(tmp_path):
    assert read_label_text("I'm sorry, but I can't help.").problems[0].startswith("it is a refusal")
    assert read_label_text("lorem ipsum").problems[0].startswith("it is no label text")
    assert read_label_text(" \n").problems == ["it is empty"]
    (tmp_path / "latin.txt").write_bytes(b"Modality: \xe9")
    (tmp_path / "large.txt").write_bytes(b"-" * 70_000)
    assert "UnicodeDecodeError" in read_label_file(tmp_path / "latin.txt").problems[0]
    assert "longer than" in read_label_file(tmp_path / "large.txt").problems[0]
    assert "FileNotFoundError" in read_label_file(tmp_path / "none.txt").problems[0]


@given(st.text(alphabet=st.sampled_from("Modality: CT\nbodpr123.*_()é#"), max_size=300))
@settings(max_examples=60)
def test_any_text_gives_classes_or_problems_and_never_an_error(text):
    read = read_label_text(text)
    assert read.labels or read.problems
    assert all(label.value in (*MODALITIES, *BODY_PARTS) for label in read.labels if label.name != "topic")


def case_of(source_id, images=1):
    return Case("1", "pmc_instruct", source_id, "g", "train", "", [b"x"] * images)


def test_a_folder_is_read_in_the_order_of_its_names_and_found_by_the_name_of_an_image(tmp_path):
    for place, part in (("b/PMC1_F1.txt", "CT"), ("a.jpg.txt", "MR"), ("PMC2/fig.txt", "EM"), ("c/notes.md", "DSA")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(f"Modality: {part}")
    folder = LabelFolder(tmp_path, model="gpt-4o-mini")
    read = {place: [label.value for label in text.labels] for place, text in folder}
    assert list(read.items()) == [("a.jpg.txt", ["mr"]), ("PMC2/fig.txt", ["em"]), ("b/PMC1_F1.txt", ["ct"])]
    found = folder.of_case(case_of("b/PMC1_F1.jpg"))
    assert (found.labels[0].value, found.labels[0].source) == ("ct", "label file b/PMC1_F1.txt")
    assert found.labels[0].model == "gpt-4o-mini"
    assert folder.of_case(case_of("a.jpg")).labels[0].value == "mr"
    assert folder.of_case(case_of("images/a.jpg")).labels[0].value == "mr"
    assert folder.of_case(case_of("other.jpg")) is folder.of_case(case_of("b/PMC1_F1.jpg", images=2)) is None
    assert folder.of_case(case_of("x\0y")) is None and folder.of_case(case_of("../..")) is None
    with pytest.raises(SemiHVError, match="no folder of label files"):
        LabelFolder(tmp_path / "nowhere")


def test_no_file_outside_the_folder_is_read(tmp_path):
    (tmp_path / "secret.txt").write_text("Modality: CT")
    (tmp_path / "labels").mkdir()
    folder = LabelFolder(tmp_path / "labels")
    assert folder.of_case(case_of("../secret.jpg")) is None
    assert folder.of_case(case_of(f"{tmp_path}/secret.jpg")) is None
