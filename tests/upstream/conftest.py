"""Runs the transformers library's own common tests, on request: `pytest tests/upstream --upstream`.

Every test runs, unless a table in skips.py names it with its reason. A test that skips itself without being named
there fails: so none drops out unnoticed. At the end each skipped test is listed under its reason.
"""

import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENTRY = pytest.StashKey[tuple[str, str]]()
# The library's tests use these marks; the project's own are declared in pyproject.toml.
MARKS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "is_training_test",
    "torch_compile_test",
)


def pytest_addoption(parser):
    parser.addoption("--upstream", action="store_true", help="run the transformers library's own common tests")


def pytest_ignore_collect(collection_path, config):
    """Without the option nothing here is imported, fetched or run."""
    if not config.getoption("--upstream", default=False):
        return True
    return None


def pytest_configure(config):
    if config.getoption("--upstream", default=False):
        # Read by transformers.testing_utils at import; a slow test here is one that needs no more than a minute.
        os.environ.update(RUN_SLOW="1", RUN_TRAINING_TESTS="1")
        sys.path.insert(0, str(HERE.parent / "models"))  # tiny_cambrian
        for mark in MARKS:
            config.addinivalue_line("markers", f"{mark}: a mark of the transformers library's tests")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--upstream", default=False):
        return
    from skips import KNOWN_FAILURES, NEEDS, NOT_APPLICABLE, find

    for item in items:
        if item.path.parent != HERE or item.cls is None:
            continue
        for table, kind in ((NOT_APPLICABLE, "skip"), (NEEDS, "needs"), (KNOWN_FAILURES, "xfail")):
            reason = find(table, item.cls.__name__, item.originalname or item.name)
            if reason is None:
                continue
            item.stash[ENTRY] = (kind, reason)
            if kind == "skip":
                item.add_marker(pytest.mark.skip(reason=reason))
            elif kind == "xfail":
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if item.path.parent == HERE and report.skipped and not hasattr(report, "wasxfail"):
        kind, reason = item.stash.get(ENTRY, (None, None))
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if kind is None:
            report.outcome = "failed"
            report.longrepr = f"{item.name} skipped itself and is in no table of skips.py. It said: {said}"
        report.upstream = reason
    return report


def pytest_terminal_summary(terminalreporter):
    skipped = defaultdict(set)
    for report in terminalreporter.stats.get("skipped", []):
        if getattr(report, "upstream", None):
            skipped[report.upstream].add(report.nodeid.split("::", 1)[1])
    if not skipped:
        return
    terminalreporter.section("upstream tests that did not run, by reason")
    for reason, names in sorted(skipped.items()):
        terminalreporter.line(f"{len(names):3d}  {reason}")
        for name in sorted(names):
            terminalreporter.line(f"     {name}")
    total = sum(len(names) for names in skipped.values())
    counts = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "xfailed")}
    terminalreporter.line(
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['xfailed']} known failures, "
        f"{total} skipped for {len(skipped)} reasons"
    )
