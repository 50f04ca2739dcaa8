"""The three gates: what they let through, what they refuse, and that they say why."""

import pytest

from semihv_hf.data import licences
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
