"""The command line: quick help, every failure one clear line, exit codes."""

import errno
import re
import resource

import pytest

from semihv_hf import cli

VERBS = (
    *("quickstart", "build", "benchmark", "sources", "deidentify", "predict", "score", "report", "serve", "convert"),
    *("index", "curate", "review", "judge-audit", "publish", "verify", "doctor"),
)


def test_help_is_quick_and_lists_the_verbs(semihv):
    seconds = []
    for _ in range(3):
        started = children_seconds()
        done = semihv("--help")
        seconds.append(children_seconds() - started)
        assert done.returncode == 0
        assert all(verb in done.stdout for verb in VERBS)
    assert min(seconds) <= 1.5


def children_seconds() -> float:
    """Processor time of finished child processes: unlike the clock, it does not depend on what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_an_example_and_imports_nothing_heavy(verb, run_python):
    code = f"""
import sys
from semihv_hf.cli import main
try:
    main(["{verb}", "--help"])
finally:
    print([name for name in ("torch", "transformers", "datasets") if name in sys.modules], file=sys.stderr)
"""
    done = run_python(code)
    assert f"Example:  semihv {verb}" in done.stdout
    assert done.stderr.strip() == "[]"


def test_examples_in_the_help_parse(monkeypatch):
    """Each example is given to the real parser; only the function behind the verb is replaced."""
    import shlex

    import typer

    command = typer.main.get_command(cli.app)
    parsed = []
    for verb in VERBS:
        for example in re.findall(r"\[cyan\](.*?)\[/cyan\]", command.commands[verb].epilog):
            words = shlex.split(example)
            assert words[:2] == ["semihv", verb]
            context = command.commands[verb].make_context(verb, words[2:])
            parsed.append((verb, sorted(context.params)))
    assert len(parsed) >= len(VERBS) and {verb for verb, _ in parsed} == set(VERBS)


def test_unknown_verb_is_named_with_exit_code_2(semihv):
    done = semihv("tran")
    assert done.returncode == 2
    assert "tran" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_option_is_named_with_exit_code_2(semihv):
    done = semihv("build", "open_packages")
    assert done.returncode == 2
    assert "--out" in done.stderr


def test_a_failure_is_one_line_that_says_what_and_what_to_do(semihv, tmp_path):
    done = semihv("build", "no_such_release", "--out", tmp_path / "data")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "no_such_release" in lines[0] and "open_packages" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("deidentify", "empty", "out", "--secret-file", "secret"), "error: empty holds no DICOM file."),
        (("deidentify", "empty", "out", "--secret-file", "gone"), "error: There is no file gone."),
        (("build", "padchest", "--data-dir", "empty", "--out", "out", "--option", "a=["), "holds no YAML value"),
        (("report", "empty"), "error: empty is no run folder"),
        (("predict", "--model", "m", "--data", "gone", "--out", "a.jsonl"), "error: There is no dataset folder gone"),
    ],
)
def test_folders_and_values_that_are_not_what_they_should_be(semihv, tmp_path, arguments, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    (tmp_path / "secret").write_text("0123456789abcdef")
    done = semihv(*arguments, cwd=tmp_path)
    assert done.returncode != 0 and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("place", [0, 2])
def test_verbose_shows_the_traceback_wherever_it_stands(place, semihv, tmp_path):
    arguments = ["build", "no_such_release", "--out", tmp_path / "data"]
    arguments.insert(place, "--verbose")
    done = semihv(*arguments)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "SemiHVError" in done.stderr


def fail_with(monkeypatch, error):
    def write_report(*arguments, **options):
        raise error

    from semihv_hf.evaluation import report

    monkeypatch.setattr(report, "write_report", write_report)


@pytest.mark.parametrize(
    "error, expected",
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x.parquet"), "error: no space is left on the disk"),
        (ValueError("two\nlines"), "error: unexpected ValueError: two lines"),
    ],
)
def test_other_failures_are_one_line_too(error, expected, monkeypatch, capsys):
    fail_with(monkeypatch, error)
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", "runs/x"])
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(expected)


def test_interruption_says_how_to_go_on(run_python):
    code = """
import os, signal
# A process started in the background begins with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from semihv_hf import cli
from semihv_hf.evaluation import report
report.write_report = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGINT)
cli.main(["report", "runs/x"])
"""
    done = run_python(code, check=False)
    assert done.returncode == 130
    assert "run the same command again" in done.stderr.lower()
    assert "Traceback" not in done.stderr
