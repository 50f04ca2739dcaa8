"""The folder metrics/agreement as something to publish: it loads alone, its examples run, its Space works."""

import doctest
import sys

import evaluate
import pytest


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "agreement"))


def test_at_least_two_examples_run_in_the_docstring(root, metric, monkeypatch):
    monkeypatch.chdir(root)
    found = doctest.testmod(sys.modules[type(metric).__module__])
    assert found.attempted >= 4 and found.failed == 0


def test_it_loads_offline_in_a_fresh_interpreter_without_the_package(root, run_python, tmp_path):
    code = (
        "import sys, evaluate; sys.modules['semihv_hf'] = None; m = evaluate.load(sys.argv[1]); "
        "print(m.compute(predictions=[1, 2], references=[1, 2], samples=0)['judge']['kappa']['value'])"
    )
    done = run_python(
        code, root / "metrics" / "agreement", cwd=tmp_path, HF_HUB_OFFLINE="1", HF_MODULES_CACHE=str(tmp_path / "m")
    )
    assert done.stdout.split() == ["1.0"]


def test_the_card_has_front_matter_and_the_folder_is_whole(root):
    from huggingface_hub import RepoCard

    folder = root / "metrics" / "agreement"
    assert {"README.md", "agreement.py", "app.py", "requirements.txt"} <= {path.name for path in folder.iterdir()}
    card = RepoCard.load(folder / "README.md")
    assert card.data.sdk == "gradio" and "metric" in card.data.tags
    named = (folder / "agreement.py").read_text(encoding="utf-8")
    siblings = [path.stem for path in folder.glob("*.py") if path.stem not in ("agreement", "app")]
    assert len(siblings) >= 4
    # evaluate copies only what the main file names: its scanner does not follow imports.
    assert all(f"from .{name} import " in named for name in siblings)
    assert "**kwargs" not in named


def test_the_space_compares_its_examples(root):
    pytest.importorskip("gradio", reason="the package gradio is not installed: the Space of agreement was not built")
    import importlib.util

    spec = importlib.util.spec_from_file_location("agreement_app", root / "metrics" / "agreement" / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    assert app.build() is not None
    lines, result = app.compare(app.EXAMPLES, "ordinal")
    assert result["counts"]["n_failed"] == 1
    # Four of five with the one person, two of four with the other.
    assert lines[0][0] == "agreement" and lines[0][1].startswith("0.65 (")
