"""Signed statements: what they open, what they do not, and that an incomplete one is refused by name."""

import json
from datetime import date, datetime

import pytest
import yaml

from semihv_hf.data import licences
from semihv_hf.data.attestations import read_attestation
from semihv_hf.errors import SemiHVError

TODAY = date(2026, 11, 22)
SERVER = "https://llm.hospital.example/v1"
CONTENT = {
    "statements": [
        {
            "source": "mimic_cxr",
            "gates": ["send", "publish"],
            "base_url": SERVER + "/",
            "statement": "The endpoint keeps no data, trains on none, and no person reviews what is sent.",
        }
    ],
    "signed_by": "A. Researcher",
    "organisation": "Example University Hospital",
    "date": "2026-11-20",
}


@pytest.fixture
def write(tmp_path):
    def _write(content, name="statement.yaml"):
        path = tmp_path / name
        path.write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))
        return path

    return _write


@pytest.mark.parametrize("name", ["statement.yaml", "statement.json"])
def test_a_statement_opens_the_gate_it_names_for_the_server_it_names(write, name):
    attestation = read_attestation(write(CONTENT, name), today=TODAY)
    assert not licences.may_send("mimic_cxr", SERVER).allowed
    decision = licences.may_send("mimic_cxr", SERVER, attestation=attestation)
    assert decision.allowed and decision.attested and "A. Researcher" in decision.reason
    assert not licences.may_send("mimic_cxr", "https://api.example.org/v1", attestation=attestation).allowed
    assert not licences.may_send("padchest", SERVER, attestation=attestation).allowed
    assert not licences.may_write("radiopaedia", attestation=attestation).allowed


def test_no_statement_opens_what_is_forbidden_outright(write):
    attestation = read_attestation(write(CONTENT), today=TODAY)
    assert ("mimic_cxr", "redistribute", None) in attestation.grants
    assert not licences.may_publish("mimic_cxr", attestation=attestation).allowed


def test_an_agreement_lets_a_refused_source_be_built(write):
    entry = {**CONTENT["statements"][0], "source": "radiopaedia", "gates": ["write"]}
    attestation = read_attestation(write({**CONTENT, "statements": [entry]}), today=TODAY)
    assert not licences.may_write("radiopaedia").allowed
    assert licences.may_write("radiopaedia", attestation=attestation).attested


def test_the_manifest_keeps_the_words_that_were_signed(write):
    path = write(CONTENT)
    kept = read_attestation(path, today=TODAY).manifest()
    assert kept["text"] == path.read_text() and len(kept["sha256"]) == 64
    assert kept["grants"][0] == {"source": "mimic_cxr", "gate": "send", "base_url": SERVER}
    json.dumps(kept)


def change(**fields):
    return {**CONTENT, **fields}


def change_statement(**fields):
    return {**CONTENT, "statements": [{**CONTENT["statements"][0], **fields}]}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (change(signed_by=""), "no `signed_by`"),
        (change(organisation=None), "no `organisation`"),
        (change(date="soon"), "no `date`"),
        (change(date="2026-11-23"), "in the future"),
        (change(date=datetime(2026, 11, 20, 10)), "no `date`"),
        (change(statements=[]), "no list `statements`"),
        (change(statements=["all"]), "no mapping"),
        (change_statement(source="nowhere"), "'nowhere' has no entry"),
        (change_statement(gates=["everything"]), "known are send, write, publish"),
        (change_statement(gates=[["publish"]]), "known are send, write, publish"),
        (change_statement(base_url=None), "no `base_url`"),
        (change_statement(statement="It is fine."), "says too little about mimic_cxr"),
        ("just words", "no mapping of fields"),
    ],
)
def test_an_incomplete_statement_is_refused_by_name(write, content, named):
    with pytest.raises(SemiHVError, match=named):
        read_attestation(write(content), today=TODAY)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(SemiHVError, match="none.yaml cannot be read"):
        read_attestation(tmp_path / "none.yaml")
    (tmp_path / "torn.yaml").write_text("statements: [")
    with pytest.raises(SemiHVError, match="torn.yaml cannot be read: .*Error[^\\n]*$"):
        read_attestation(tmp_path / "torn.yaml")
