"""How well a model classifies, measured where rules are certain."""

import json
from dataclasses import replace

import pytest
from class_server import ClassServer, case_of, client_of, picture, values_of

from semihv_hf.curation.classify import ClassifyOptions, asked_names, classify
from semihv_hf.curation.classify_agreement import agreement_table, agreement_with_rules
from semihv_hf.data.schema import LABELS, Label


def test_the_model_is_compared_with_the_rules_in_the_share_that_is_checked():
    chests = [case_of(picture("x-ray" if n % 4 else "ct", "thorax"), source="padchest", number=n) for n in range(40)]
    options = ClassifyOptions(names=("modality", "body_part"), check_share=0.5)
    checked = [case for case in chests if asked_names(case, options)]
    assert 8 <= len(checked) <= 32
    assert all(asked_names(case, ClassifyOptions(check_share=1.0)) == LABELS for case in chests)
    with ClassServer() as server, client_of(server) as client:
        for case, one in zip(chests, classify(chests, client, options), strict=True):
            assert one.failures == [] and values_of(one.labels[:1]) == {"modality": "x-ray"}
            case.labels = one.labels
            assert case.label("modality").decided_by == "rule", "the certain label comes first"
    found = agreement_with_rules(chests)
    wrong = sum(int(case.source_id) % 4 == 0 for case in checked)
    assert wrong > 0
    seen = found["modality"]
    assert (seen.compared, seen.agreed, seen.rule_only) == (len(checked), len(checked) - wrong, 40 - len(checked))
    assert seen.confusion["x-ray", "ct"] == wrong and found["body_part"].share == 1.0
    assert seen.by_class() == {"x-ray": (len(checked) - wrong, len(checked))}
    table = agreement_table(found)
    assert f"in {len(checked) - wrong} of {len(checked)} cases" in table
    assert f"| x-ray | {len(checked) - wrong} | {wrong} |" in table
    assert json.loads(json.dumps(seen.content()))["confusion"][-1] == {"rule": "x-ray", "model": "ct", "cases": wrong}


def test_nothing_compared_is_no_share_and_denominators_add_up():
    cases = [case_of(b"x"), case_of(b"x", source="mama_mia"), case_of(b"x", number=3)]
    cases[2].labels = [Label("modality", "ct", "model", "p")]
    seen = agreement_with_rules(iter(cases))["modality"]
    assert (seen.compared, seen.rule_only, seen.model_only, seen.neither) == (0, 1, 1, 1)
    assert seen.share is None and seen.interval is None and "nothing to compare" in agreement_table({"modality": seen})


def test_the_interval_of_the_share_is_wilsons():
    """Its ends are the shares of which what was counted is 1.96 standard errors away."""
    case = case_of(b"x", source="mama_mia")
    for agreed, total in ((0, 3), (3, 3), (7, 20), (59, 60)):
        said = ["mr" if n < agreed else "ct" for n in range(total)]
        labelled = [replace(case, labels=[Label("modality", value, "model", "p")]) for value in said]
        low, high = agreement_with_rules(labelled)["modality"].interval
        assert 0 <= low <= agreed / total <= high <= 1 and low < high
        for end in (low, high):
            if 0 < end < 1:
                assert abs(agreed / total - end) == pytest.approx(1.959964 * (end * (1 - end) / total) ** 0.5)
