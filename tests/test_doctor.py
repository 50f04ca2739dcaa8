"""`semihv doctor`: what is installed is compared with what is required and what was tested."""

from importlib import metadata

import pytest
from packaging.requirements import Requirement

from semihv_hf import doctor


def test_the_tested_versions_are_read_from_the_constraints():
    tested = doctor.tested_versions()
    assert len(tested) >= 30
    assert tested["transformers"].split(".")[0] == "5"
    assert "gradio" in tested and "faiss-cpu" in tested


@pytest.mark.parametrize(
    "group, requirement, tested, state",
    [
        ("base", "no-such-package-of-ours", {}, "broken"),
        ("curate", "no-such-package-of-ours", {}, "missing"),
        ("base", "numpy<1", {}, "broken"),
        ("train", "numpy<1", {}, "other"),
        ("base", "numpy", {"numpy": "0.1"}, "other"),
        ("base", "numpy", {"numpy": metadata.version("numpy")}, "ok"),
        ("base", "numpy", {}, "ok"),
    ],
)
def test_one_package(group, requirement, tested, state):
    finding = doctor._check_package(group, Requirement(requirement), tested)
    assert finding.state == state
    if state in ("broken", "missing") and "no-such" in requirement:
        assert finding.remark == f"pip install 'semihv-hf{'' if group == 'base' else f'[{group}]'}'"


def test_the_base_installation_of_these_tests_is_whole():
    findings = doctor.diagnose()
    assert [finding for finding in findings if finding.state == "broken"] == []
    base = {finding.name for finding in findings if finding.group == "base"}
    assert {"torch", "transformers", "datasets", "pydicom"} <= base
    assert not {"faiss-cpu", "openai", "deepspeed", "peft", "trl"} & base
    assert {"memory", "cores", "GPU", "chromium"} <= {finding.name for finding in findings}


def test_a_broken_base_is_exit_code_1(monkeypatch, capsys):
    from semihv_hf import cli

    broken = doctor.Finding("base", "torch", "broken", "not installed", "pip install 'semihv-hf'")
    missing = doctor.Finding("review", "gradio", "missing", "not installed", "pip install 'semihv-hf[review]'")
    monkeypatch.setattr(doctor, "diagnose", lambda: [broken, missing])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    assert "broken: torch not installed. pip install 'semihv-hf'" in shown
    assert shown.count("pip install 'semihv-hf[review]'") == 2
