"""Every command in the README is run by a test: here, where its run is (`quickstart/test_quickstart.py`), or where
`COVERED_ELSEWHERE` says."""

import re
import sys

import pytest
from readme_commands import CHEAP, COVERED_ELSEWHERE, RUN, commands, installed_by_make, make, run


def test_every_command_is_covered_and_nothing_else_is_listed(root):
    in_readme = commands(root)
    assert len(in_readme) == len(set(in_readme)) >= 10
    assert set(in_readme) == set(RUN) | set(COVERED_ELSEWHERE)
    for test in COVERED_ELSEWHERE.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (root / file).read_text()


def test_the_readme_opens_with_what_this_is_the_two_commands_and_a_picture(root):
    text = (root / "README.md").read_text()
    opening = text[: text.index("\n## ")]
    assert commands(root)[:2] == ["make quickstart", "make test"]
    assert opening.index("vision-language model") < opening.index("make quickstart") < opening.index("![")


def test_every_verb_of_the_command_line_is_in_the_table(root):
    import typer

    from semihv_hf import cli

    verbs = set(typer.main.get_command(cli.app).commands)
    rows = re.findall(r"^\| `([\w-]+)` \|", (root / "README.md").read_text(), flags=re.M)
    assert rows == ["semihv", *rows[1:]] and set(rows[1:]) == verbs


@pytest.mark.parametrize("command", CHEAP)
def test_cheap_commands_run(command, tmp_path):
    assert run(command, tmp_path)


def test_make_lint(root):
    if not installed_by_make(root):
        pytest.skip("this environment was not made by make; `make lint` would install into it")
    done = make(root, "lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_targets_run_what_these_tests_run_in(root):
    """`make test` cannot run inside itself: what it would run is the command that runs this test."""
    if not installed_by_make(root):
        pytest.skip("this environment was not made by make")
    for target, arguments in (
        ("test", '-q -n 2 --dist loadfile -m "not slow"'),
        ("test-slow", "-q -m slow tests/quickstart"),
        ("test-slow", "-q -n 2 --dist loadfile -m slow --ignore=tests/quickstart"),
        ("test-contract", "-q -rfExX tests/upstream --upstream"),
    ):
        planned = make(root, "-n", target).stdout
        assert f"{sys.prefix}/bin/python -m pytest {arguments}" in planned
        assert "pip install" not in planned
