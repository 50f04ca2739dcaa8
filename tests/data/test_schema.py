"""Row types: what a valid row is, and that a wrong one is refused by the name of its field."""

import copy

import pytest

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.columns import (
    CASE_COLUMNS,
    QUESTION_COLUMNS,
    RECORD_COLUMNS,
    case_schema,
    question_schema,
    record_schema,
    yaml_features,
)
from semihv_hf.data.features import case_features, question_features, record_features
from semihv_hf.data.messages import message
from semihv_hf.data.schema import (
    Case,
    Evidence,
    Fact,
    Label,
    Provenance,
    QuestionTurn,
    Record,
    Region,
    Text,
    case_id,
    content_id,
)
from semihv_hf.errors import SemiHVError

FACT = Fact("modality", "CT", "DICOM (0008,0060) Modality")


def case() -> dict:
    return Case(
        "1", "pydicom", "a.dcm", "p1", "train", "MIT", [b"png"], [FACT], [Text("report", "Normal.", "human")],
        [Region(0, "lesion", [1.0, 2.0, 3.0, 4.0], "the table's box")], [Label("modality", "ct", "rule", FACT.source)],
    ).row()  # fmt: skip


def record() -> dict:
    messages = [message("user", "Is this a CT scan?", 1), message("assistant", "yes")]
    question = QuestionTurn(0, "modality_yes_no", "closed", ["yes", "no"], "modality", FACT.source)
    return Record(
        "1", "2", "pydicom", "a.dcm", "MIT", [b"png"], messages, ["rule", "rule"], "vqa", "CT", [FACT],
        [question], [Provenance("messages[1]", "", "rules 1")],
        [Evidence("guidelines", "g/1", "open_medicine", "MIT", "Pneumonia", 0.7, "Give oxygen.", 10, 22)],
    ).row()  # fmt: skip


def change(row: dict, path: str, value) -> dict:
    """A copy of a row in which the field at `path` has another value; `...` removes it."""
    row = copy.deepcopy(row)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inside = row
    for part in parents:
        inside = inside[part]
    if value is ...:
        del inside[last]
    else:
        inside[last] = value
    return row


def test_valid_rows_pass():
    validate_case(case())
    validate_record(record())


def test_a_case_may_be_text_alone_but_not_nothing():
    text = {**case(), "images": [], "regions": []}
    validate_case(text)
    with pytest.raises(SemiHVError, match="images is empty"):
        validate_case({**text, "texts": []})


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("id", ..., "id is missing"),
        ("licence", " ", "licence is ' '"),
        ("split", "dev", "split is 'dev', not one of train, validation, test"),
        ("images.0.bytes", b"", r"images\[0\] has no bytes"),
        ("facts.0.source", "", r"facts\[0\].source"),
        ("texts.0.annotation", "robot", r"texts\[0\].annotation is 'robot'"),
        ("texts.0.image", 1, r"texts\[0\].image is 1"),
        ("regions.0.image", 1, r"regions\[0\].image is 1"),
        ("regions.0.box", [3.0, 2.0, 3.0, 4.0], r"regions\[0\].box is"),
        ("regions.0.label", "", r"regions\[0\].label"),
        ("texts", None, "texts is missing"),
        ("labels.0.name", "colour", r"labels\[0\].name is 'colour'"),
        ("labels.0.value", "", r"labels\[0\].value"),
        ("labels.0.decided_by", "human", r"labels\[0\].decided_by is 'human'"),
        ("labels.0.agreement", 1.5, r"labels\[0\].agreement is 1.5"),
    ],
)
def test_wrong_case_is_refused_by_name(path, value, named):
    with pytest.raises(SemiHVError, match=named):
        validate_case(change(case(), path, value))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("case_id", ..., "case_id is missing"),
        ("task", "chat", "task is 'chat'"),
        ("messages", [], "messages is empty"),
        ("messages.1.role", "user", r"messages\[1\].role is not 'assistant'"),
        ("messages.0.content", None, r"messages\[0\].content is missing"),
        ("messages.0.content", [], r"messages\[0\].content is empty"),
        ("messages.0.content.0.type", "text", r"messages\[0\].content\[0\].text is missing"),
        ("messages.0.content.1.type", "image", r"messages\[0\].content\[1\].text must be null"),
        ("images", [], "messages show 1 images, but the row has 0"),
        ("annotation", ["rule"], "annotation is"),
        ("annotation.1", "robot", "annotation is"),
        ("questions.0.turn", 1, r"questions\[0\].turn is 1"),
        ("questions.0.options", [], r"questions\[0\].options needs at least two"),
        ("questions.0.options", ["yes", "yes"], r"questions\[0\].options needs at least two"),
        ("questions.0.answer_type", "open", r"questions\[0\].options must be empty"),
        ("questions.0.answer_type", "maybe", r"questions\[0\].answer_type"),
        ("questions.0.fact_source", "", r"questions\[0\].fact_source"),
        ("provenance.0.field", "", r"provenance\[0\].field"),
        ("evidence.0.licence", "", r"evidence\[0\].licence"),
        ("evidence.0.text", None, r"evidence\[0\].text is missing"),
        ("evidence.0.end", 10, r"evidence\[0\].end is 10"),
    ],
)
def test_wrong_record_is_refused_by_name(path, value, named):
    with pytest.raises(SemiHVError, match=named):
        validate_record(change(record(), path, value))


def test_identity_depends_on_every_part():
    one = case_id("pydicom", "a.dcm", [b"1", b"2"])
    assert len(one) == 32 and one == case_id("pydicom", "a.dcm", [b"1", b"2"])
    others = {
        case_id("pydicom", "b.dcm", [b"1", b"2"]),
        case_id("x", "a.dcm", [b"1", b"2"]),
        case_id("pydicom", "a.dcm", [b"12"]),
    }
    assert len(others) == 3 and one not in others
    assert content_id("ab", "c") != content_id("a", "bc"), "where one part ends must matter"


@pytest.mark.parametrize(
    ("columns", "features", "schema"),
    [
        (CASE_COLUMNS, case_features, case_schema),
        (RECORD_COLUMNS, record_features, record_schema),
        (QUESTION_COLUMNS, question_features, question_schema),
    ],
)
def test_the_schemas_are_those_of_datasets_byte_for_byte(columns, features, schema):
    import datasets

    assert schema().serialize().equals(features().arrow_schema.serialize())
    stated = datasets.DatasetInfo(features=features())._to_yaml_dict()["features"]
    assert yaml_features(columns) == stated and len(stated) == len(columns)


def test_features_are_the_fields_of_the_rows():
    assert list(case_features()) == list(case())
    assert list(record_features()) == list(record())
    assert case_features().arrow_schema.field("images").type.value_type.names == ["bytes", "path"]
