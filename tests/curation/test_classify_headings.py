"""Classes in lines, for models too small for JSON."""

import pytest
from class_server import ClassServer, cases_of, client_of, values_of

from semihv_hf.curation.classify import ClassifyOptions, classify
from semihv_hf.curation.classify_schema import read_lines
from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES
from semihv_hf.data.schema import LABELS
from semihv_hf.errors import SemiHVError


def lines(reply: dict, before: int) -> str:
    return "\n".join(
        f"**{name.replace('_', ' ').title()}:** {', '.join(value) if isinstance(value, list) else value}"
        for name, value in reply.items()
    )


def test_lines_are_asked_for_and_read_as_the_labels_that_json_would_have_brought():
    cases = cases_of(7)
    with ClassServer(lines) as server, client_of(server) as client:
        done = classify(cases, client, ClassifyOptions(output="headings"))
        assert len(server.bodies) == 7 and not any("response_format" in body for body in server.bodies)
    for number, one in enumerate(done):
        wanted = {"topic": f"subject{number}", "modality": MODALITIES[number], "body_part": BODY_PARTS[number]}
        assert not one.failures and values_of(one.labels) == wanted
    asked = server.bodies[0]["messages"][1]["content"][0]["text"]
    assert asked.endswith("topic: keywords with commas between\nmodality: one class\nbody_part: one class")


def test_of_a_single_label_the_class_alone_is_enough():
    with ClassServer(lambda reply, before: "MRI") as server, client_of(server) as client:
        [one] = classify(cases_of(1), client, ClassifyOptions(names=("modality",), output="headings"))
    assert values_of(one.labels) == {"modality": "mr"} and not one.failures


def test_a_reply_that_names_no_class_is_a_failure_and_no_label():
    with ClassServer(lambda reply, before: "axial") as server, client_of(server) as client:
        [one] = classify(cases_of(1), client, ClassifyOptions(names=("modality",), output="headings"))
    [failure] = one.failures
    assert one.labels == [] and failure.kind == "schema" and "\n" not in failure.detail


def test_a_reply_that_is_json_after_all_is_read():
    reply = read_lines('{"modality": "CT", "body_part": "thorax"}', ("modality", "body_part"))
    assert (reply.modality, reply.body_part) == ("ct", "thorax")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Modality: CT", "no line topic"),
        ("Topic: mass\nModality: CT\nModality: MRI\nBody part: thorax", "two values of modality"),
        ("Topic: mass\nModality: a drawing of a dragon\nBody part: thorax", "modality"),
        ("CT of the thorax", "no line topic"),
    ],
)
def test_lines_that_lack_or_contradict_a_label_are_named(text, told):
    with pytest.raises(ValueError, match=told):
        read_lines(text, LABELS)


def test_an_unknown_output_is_named():
    with pytest.raises(SemiHVError, match="output 'lines' is unknown.*schema, headings"):
        ClassifyOptions(output="lines")
