"""The verb `semihv index`: what it says, and that its folder answers."""

import pytest
import typer
from retrieval_models import drawn, make_case, write_bert, write_cases
from typer.testing import CliRunner

pytest.importorskip("faiss", reason="faiss-cpu is not installed (extra `curate`)")

from semihv_hf.cli import retrieval  # noqa: E402
from semihv_hf.curation.retrieval import Query, Retriever  # noqa: E402
from semihv_hf.errors import SemiHVError  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return f"{write_bert(tmp_path_factory.mktemp('encoder') / 'bert')}+thumbnail"


@pytest.fixture(scope="module")
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    retrieval.add_to(app)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["index", *map(str, arguments)], env={"COLUMNS": "200"})


def test_cases_become_an_index_without_what_a_benchmark_holds(tmp_path, run, encoder):
    cases = [make_case(n, f"findings of number {n}") for n in range(4)]
    folder = write_cases(tmp_path / "cases", cases)
    benchmark = write_cases(tmp_path / "benchmark", cases[:1], split="test")
    options = ("--out", tmp_path / "index", "--guidelines", "none", "--cases", folder, "--encoder", encoder)
    done = run(*options, "--benchmark", benchmark)
    assert done.exit_code == 0, done.output
    assert "cases: 3 documents in 3 entries, 3 new, 0 known, 1 excluded" in done.output
    again = run(*options, "--benchmark", benchmark)
    assert "0 new, 3 known, 1 excluded" in again.output
    [[found]] = Retriever(tmp_path / "index", fusion="image").search([Query("q", "", drawn(2, side=64))])
    assert found.id == cases[2].id


def test_nothing_to_index_is_said(tmp_path, run):
    done = run("--out", tmp_path / "index", "--guidelines", "none")
    assert isinstance(done.exception, SemiHVError) and "Nothing to index" in str(done.exception)


def test_help_shows_examples(run):
    done = run("--help")
    assert done.exit_code == 0 and "semihv index --out index --cases data/eurorad" in done.output
