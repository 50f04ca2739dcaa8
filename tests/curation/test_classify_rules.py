"""Classes that are certain without a model: from DICOM tags, from releases, and never by a guess."""

import pydicom
import pytest

from semihv_hf.curation.classify_rules import body_region_of, labels_by_rule
from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES
from semihv_hf.data.imaging.dicom_facts import MODALITIES as DICOM_MODALITIES
from semihv_hf.data.imaging.dicom_facts import dicom_facts
from semihv_hf.data.licences import registry
from semihv_hf.data.schema import Case, Fact, Text
from semihv_hf.data.sources.modality_words import domain_facts, stated_facts
from semihv_hf.data.sources.open_packages.registry import entries


def case_of(source, facts=(), texts=(), images=1):
    return Case("1", source, "1", "g", "train", "", [b"x"] * images, list(facts), list(texts))


def values_of(case):
    return {label.name: label.value for label in labels_by_rule(case)}


def dicom(modality, part=""):
    data = pydicom.Dataset()
    data.Modality, data.BodyPartExamined = modality, part
    return dicom_facts(data)


@pytest.mark.parametrize(("tag", "part", "modality", "region"), [
    ("CT", "CHEST", "ct", "thorax"), ("DX", "CSPINE", "x-ray", "head & neck"), ("MG", "BREAST", "x-ray", "thorax"),
    ("MR", "KNEE", "mr", "lower extremity"), ("US", "LIVER", "ultrasound", "abdomen"),
    ("PT", "WHOLEBODY", "pet/spect", "other"), ("SM", "", "pathology", None), ("OPT", "EYE", "oct", "head & neck"),
    ("OP", "RETINA", "optical image", "head & neck"), ("ES", "COLON", "colonoscopy", "abdomen"),
    ("ES", "STOMACH", "optical image", "abdomen"), ("XC", "SKIN", "dermatology", None),
    # What could be several classes is left to the model.
    ("NM", "BONE", None, None), ("XA", "CORONARY", None, "thorax"), ("ES", "", None, None), ("XC", "HAND", None,
    "upper extremity"), ("GM", "", None, None), ("SR", "", None, None),
])  # fmt: skip
@pytest.mark.parametrize("source", ["pydicom", "a_source_that_nobody_knows"])
def test_dicom_tags_of_any_source_decide_where_they_mean_one_class(source, tag, part, modality, region):
    known = {name: value for name, value in (("modality", modality), ("body_part", region)) if value}
    assert values_of(case_of(source, dicom(tag, part))) == known
    for label in labels_by_rule(case_of(source, dicom(tag, part))):
        assert label.decided_by == "rule" and "DICOM (" in label.source and label.agreement is None


def test_every_modality_of_dicom_is_decided_or_left_open_on_purpose():
    left = {tag for tag in DICOM_MODALITIES if "modality" not in values_of(case_of("mine", dicom(tag)))}
    assert left == {"ES", "GM", "NM", "RF", "XA", "XC"}


@pytest.mark.parametrize(("words", "region"), [
    ("HEAD", "head & neck"), ("C-SPINE", "head & neck"), ("head and neck", "head & neck"), ("HEADNECK", "head & neck"),
    ("Upper Extremity", "upper extremity"), ("limbs", "extremity"), ("arm and leg", "extremity"),
    ("left KNEE", "lower extremity"), ("pelvis", "abdomen"), ("cell nuclei", "other"), ("esophagus", "thorax"),
    # Words of two regions, or of none.
    ("femoral neck", None), ("head of pancreas", None), ("CHEST^ABDOMEN", None), ("bladder neck", None),
    ("SKIN", None), ("LSPINE", None), ("armadillo", None), ("", None), ("blood vessels", None),
    ("gastrointestinal tract", None),
])  # fmt: skip
def test_an_organ_is_put_into_its_region_unless_it_names_two(words, region):
    assert body_region_of(words) == body_region_of(words.lower()) == region


@pytest.mark.parametrize(("source", "known"), [
    ("mimic_cxr", {"modality": "x-ray", "body_part": "thorax"}),
    ("padchest", {"modality": "x-ray", "body_part": "thorax"}),
    ("deeplesion", {"modality": "ct"}),
    ("lld_mmri", {"modality": "mr", "body_part": "abdomen"}),
    ("mama_mia", {"topic": "breast cancer", "modality": "mr", "body_part": "thorax"}),
])  # fmt: skip
def test_what_a_release_holds_is_known_without_any_fact(source, known):
    assert source in registry()
    assert values_of(case_of(source)) == known
    assert all(label.source.startswith(f"{source}, a release of") for label in labels_by_rule(case_of(source)))


def test_quilt_is_pathology_unless_its_table_says_that_an_image_is_no_histology():
    held = [Fact("modality", "histology", "the release holds histopathology")]
    assert values_of(case_of("quilt", held)) == {"modality": "pathology"}
    assert values_of(case_of("quilt", [Fact("not_histology", "yes", "column not_histology")])) == {}


def test_the_lesions_of_a_slice_tell_its_region_only_together():
    def lesions(*types):
        return values_of(case_of("deeplesion", [Fact("label", one, f"region {n}") for n, one in enumerate(types)]))

    assert lesions("lung", "mediastinum")["body_part"] == "thorax"
    assert lesions("kidney", "liver", "pelvis", "abdomen")["body_part"] == "abdomen"
    for types in (("lung", "liver"), ("bone",), ("lung", "soft tissue"), ()):
        assert "body_part" not in lesions(*types)


def test_the_open_packages_are_classified_by_their_own_statements():
    found = {}
    for entry in entries():
        facts = [Fact(*fact) for fact in entry.facts]
        found.setdefault(entry.kind, set()).update(values_of(case_of(entry.package, facts)).items())
    expected = {
        "T1 template": {("modality", "mr"), ("body_part", "head & neck")},
        "chest CT": {("modality", "ct"), ("body_part", "thorax")},
        "fundus": {("modality", "optical image"), ("body_part", "head & neck")},
        "immunohistochemistry": {("modality", "pathology"), ("body_part", "abdomen")},
        "H&E": {("modality", "pathology")},
        "fluorescence": {("modality", "optical image"), ("body_part", "other")},
        "electron tomogram": {("modality", "em")},
        "skin photograph": {("modality", "dermatology")},
        "chest film": {("modality", "x-ray"), ("body_part", "thorax")},
        "limb film": {("modality", "x-ray"), ("body_part", "extremity")},
        "bone scan": set(),
    }
    assert {kind: found[kind] for kind in expected} == expected
    assert len(found) >= 15, "every kind of entry was looked at"


@pytest.mark.parametrize("source", ["pubmedvision", "llava_med", "biomed_vital", "pmc_instruct", "jama"])
def test_a_label_from_a_model_or_from_a_caption_is_no_statement_about_the_image(source):
    row = {"modality": "Computed Tomography", "body_part": "Chest"}
    facts = stated_facts(row, "a.json") + domain_facts({"chest_xray": True, "mri": False}, "a.json")
    assert len(facts) >= 5
    assert values_of(case_of(source, facts)) == {}
    assert values_of(case_of("eurorad", stated_facts(row, "a.json"))) == {"modality": "ct", "body_part": "thorax"}


def test_a_table_that_speaks_of_a_case_tells_nothing_about_each_of_several_images():
    facts = [Fact("modality", "MRI", "table"), Fact("body_part", "brain", "table")]
    assert values_of(case_of("radiopaedia", facts)) == {"modality": "mr", "body_part": "head & neck"}
    assert values_of(case_of("radiopaedia", facts, images=2)) == {}


def test_facts_that_disagree_decide_nothing():
    facts = [Fact("modality", "MRI", "a"), Fact("modality", "CT", "b"), Fact("body_part", "brain", "a")]
    assert values_of(case_of("eurorad", facts)) == {"body_part": "head & neck"}


def test_the_topic_is_what_people_diagnosed_or_found():
    def topic(source, facts=(), texts=()):
        return values_of(case_of(source, facts, texts)).get("topic")

    assert topic("eurorad", texts=[Text("diagnosis", "Acute Appendicitis, perforated.", "human")]) == (
        "acute appendicitis, perforated"
    )
    assert topic("eurorad", texts=[Text("diagnosis", "Acute appendicitis", "machine")]) is None
    assert topic("jama", texts=[Text("diagnosis", "a, b, c, d", "human")]) is None
    assert topic("jama", texts=[Text("diagnosis", "very long " * 20, "human")]) is None
    assert topic("lld_mmri", [Fact("label", "hepatic cyst", "labels.txt column label")]) == "hepatic cyst"
    found = [Fact("finding", name, "column Labels (MethodLabel Physician)") for name in ("nodule", "scoliosis")]
    assert topic("padchest", found) == "nodule, scoliosis"
    assert topic("padchest", [Fact("finding", "nodule", "column Labels (MethodLabel RNN_model)")]) is None
    many = [Fact("finding", f"finding {n}", "column Labels (MethodLabel Physician)") for n in range(4)]
    assert topic("padchest", many) is None


def test_labels_are_classes_of_the_vocabulary_in_one_order():
    labels = labels_by_rule(case_of("mama_mia"))
    assert [label.name for label in labels] == ["topic", "modality", "body_part"]
    assert labels[1].value in MODALITIES and labels[2].value in BODY_PARTS
