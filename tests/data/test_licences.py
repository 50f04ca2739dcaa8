"""The three gates: what they let through, what they refuse, and that they say why."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semihv_hf.data import licences
from semihv_hf.data.sources import ADAPTERS
from semihv_hf.data.sources.open_packages.registry import packages
from semihv_hf.errors import SemiHVError


def test_every_package_of_the_adapter_is_registered_and_may_be_written():
    for package in packages():
        entry = licences.source_licence(package.name)
        assert entry.link.startswith("https://") and entry.licence
        assert licences.TAG_NOTE in entry.note, "the caveat about tags stands in every entry"
        assert licences.may_write(package.name).allowed


def test_unclear_rights_are_for_local_use_only():
    assert not licences.may_publish("pydicom-data").allowed
    assert not licences.may_send("pydicom-data", "https://api.example.org/v1").allowed
    assert licences.may_send("pydicom-data", "http://127.0.0.1:8000/v1").allowed
    assert "do not pass on" in licences.may_publish("pydicom-data").reason
    assert licences.may_publish("scikit-image").allowed


def test_unknown_source_is_refused_by_every_gate():
    for decision in (licences.may_write("x"), licences.may_publish("x"), licences.may_send("x", "https://a.org")):
        assert not decision.allowed and "no entry in the licence registry" in decision.reason
    with pytest.raises(SemiHVError, match="'x' has no entry"):
        licences.source_licence("x")


def test_a_refusal_can_be_raised():
    with pytest.raises(SemiHVError, match="may not be published.*Leave this source out"):
        licences.may_publish("pydicom-data").check()
    licences.may_write("pydicom-data").check()


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("localhost:8000", True),
        ("http://[::1]:1/v1", True),
        ("https://127.0.0.1.example.org/v1", False),
        ("https://localhost.example.org", False),
        ("http://127.0.0.1@example.org/v1", False),
        ("http://10.0.0.1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_local(url, local):
    assert licences.is_local_url(url) is local


def test_every_adapter_and_benchmark_is_registered():
    benchmarks = {"vqa_rad", "slake", "path_vqa", "pmc_vqa", "omnimedvqa", "mmmu_medical", "jama"}
    for name in {*ADAPTERS, *benchmarks}:
        entry = licences.source_licence(name)
        assert entry.link.startswith("https://") and entry.licence and entry.attribution and entry.note, name
    assert len(ADAPTERS) == 15


@pytest.mark.parametrize("source", ["mimic_cxr", "radiopaedia", "jama"])
def test_what_is_forbidden_is_refused_with_the_link_to_the_rule(source):
    entry = licences.source_licence(source)
    for decision in (licences.may_publish(source), licences.may_send(source, "https://api.example.org/v1")):
        assert not decision.allowed and entry.link in decision.reason
    assert licences.may_send(source, "http://127.0.0.1:8000/v1").allowed


def test_an_open_question_counts_as_no():
    unknown = [name for name, entry in licences.registry().items() if entry.redistribute == "unknown"]
    assert len(unknown) >= 8
    assert not any(licences.may_publish(name).allowed for name in unknown)


def test_conditions_are_told_with_the_permission():
    decision = licences.may_publish("mama_mia")
    assert decision.allowed and "attribution, non-commercial, share-alike" in decision.reason


def test_the_date_rule_counts_an_unknown_date_as_too_early():
    eurorad = licences.source_licence("eurorad")
    assert not eurorad.allows_date(None) and not eurorad.allows_date(date(2015, 7, 5))
    assert eurorad.allows_date(date(2015, 7, 6))
    assert licences.source_licence("pmc_vqa").allows_date(None)


def test_a_mixture_is_as_strict_as_its_strictest_source():
    assert licences.mixture(["pmc_vqa"]).licence == "CC-BY-SA-4.0"
    mixed = licences.mixture(["pmc_vqa", "mimic_cxr", "eurorad"])
    assert mixed.licence.startswith("PhysioNet") and mixed.redistribute == "never" and mixed.send == "no"
    assert licences.mixture(["eurorad", "llava_med"]).licence == "CC-BY-NC-4.0"
    assert licences.mixture(["quilt", "deeplesion"]).licence.count(" AND ") == 1
    with pytest.raises(SemiHVError, match="no sources"):
        licences.mixture([])


@given(st.lists(st.sampled_from(sorted(licences.registry())), min_size=1, max_size=6))
def test_a_mixture_does_not_depend_on_order_and_allows_nothing_that_a_source_forbids(sources):
    mixed = licences.mixture(sources)
    assert mixed == licences.mixture(reversed(sources))
    for term in ("use", "send", "redistribute", "share_derived"):
        ranks = [licences.TERMS.index(getattr(licences.source_licence(name), term)) for name in sources]
        assert licences.TERMS.index(getattr(mixed, term)) == max(ranks)


def test_two_share_alike_licences_cannot_both_bind_the_whole():
    assert "under different licences" in licences.mixture(["pmc_vqa", "mama_mia"]).conflicts[0]
    assert licences.mixture(["medthinkvqa", "mama_mia"]).conflicts == ()
