"""A curation against a server with faults on 30 % of its calls: nothing is lost, nothing is paid for twice."""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
from case_files import write_cases
from chat_server import ChatServer
from curated_folders import answered, asked, digests, rows
from fault_server import FINAL, PASSING

from semihv_hf.curation.pipeline.config import CurateConfig
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.llm.types import FAILURE_KINDS

RATE = 0.3
A_CASE = 3  # calls of a healthy run: labels, captions, questions
SHORT = 0.4  # seconds until the client gives up a server that hangs
PRICES = {"m": {"input": 2.0, "output": 8.0}}


def recipe(server, cases, out, **settings) -> CurateConfig:
    given = {"base_url": server.base_url, "model": "m", "timeout": SHORT, "max_concurrency": 8, "max_retries": 1}
    return CurateConfig(
        cases=str(cases), out=str(out), server={**given, **settings}, prices=PRICES, block_rows=4, classify={},
        generate={},
    )  # fmt: skip


def faults(seed: int):
    """Deals faults of all kinds in turn, to three calls of ten. What came as junk once comes as junk again, so that no
    answer is one that was asked for in other words than a healthy server is."""
    kinds = itertools.cycle(random.Random(seed).sample(PASSING + FINAL, len(PASSING + FINAL)))
    dealt: dict[tuple[str, int], str | None] = {}

    def drawn(text: str, before: int) -> str | None:
        if (text, before) not in dealt:
            goes_wrong = random.Random(f"{seed} {text} {before}").random() < RATE
            dealt[text, before] = next(kinds) if goes_wrong else None
        return dealt[text, before]

    def plan(text: str, before: int) -> str | None:
        return "junk" if any(drawn(text, one) == "junk" for one in range(before)) else drawn(text, before)

    return plan


def check_sums(config: CurateConfig, report: dict, count: int) -> Counter:
    """Every request that was due has its answer or a failure, and every case is there; gives the kinds of failures."""
    cases, failures = rows(config.out, "data/cases/*.parquet"), rows(config.out, "failures.parquet")
    records, rejected = rows(config.out, "data/[ai]*/*.parquet"), rows(config.out, "rejected.parquet")
    assert len({case["id"] for case in cases}) == len(cases) == count
    unlabelled = {row["case_id"] for row in failures if row["stage"] == "classify"}
    # A case without its labels waits with its two texts.
    assert report["answers"] + len(failures) + (A_CASE - 1) * len(unlabelled) == A_CASE * count
    assert sum(number for *_, number in report["failures"]) == len(failures)
    ends = Counter((row["case_id"], row["task"]) for row in failures if row["stage"] == "generate")
    written = {(row["case_id"], {"caption": "caption_reformat", "vqa": "qa"}[row["task"]]) for row in records}
    ends.update(written | {(row["case_id"], row["task"]) for row in rejected})
    for case in cases:
        validate_case(case)
        waits = case["id"] in unlabelled
        assert [ends[case["id"], task] for task in ("caption_reformat", "qa")] == [0 if waits else 1] * 2
    for record in records:
        validate_record(record)
    for row in failures:
        assert row["kind"] in FAILURE_KINDS and row["kind"] not in ("internal", "cache_miss", "budget"), row
        assert row["detail"] and row["attempts"] >= 1
    return Counter(row["kind"] for row in failures)


def run_mend_and_compare(tmp_path: Path, count: int, seed: int) -> tuple[Counter, Counter]:
    """A run with faults, one without, and a clean one elsewhere; gives what went wrong, and how it was named."""
    cases = write_cases(tmp_path / "cases", count)
    with ChatServer(plan=faults(seed)) as server:
        config = recipe(server, cases, tmp_path / "faulty" / "out")
        report = curate(config, progress=False)
        kinds = check_sums(config, report, count)
        assert kinds.total() and report["run"]["calls"] >= server.calls  # a busy machine loses one to the time limit

        before, first = answered(config), server.calls
        server.plan = None
        mended = curate(recipe(server, cases, config.out, timeout=30.0), progress=False)
        sent = [asked(body) for body in server.bodies[first:]]
        assert not mended["failures"] and mended["answers"] == A_CASE * count
        assert len(sent) == len(set(sent)) == mended["run"]["calls"] == A_CASE * count - len(before)
        assert not set(sent) & before and set(sent) | before == answered(config)
        assert check_sums(config, mended, count).total() == 0

        clean = recipe(server, cases, tmp_path / "clean" / "out", timeout=30.0)
        curate(clean, progress=False)
        assert server.calls == first + len(sent) + A_CASE * count
        assert digests(config.out) == digests(clean.out)
        calls = server.calls
        assert curate(clean, progress=False)["run"]["calls"] == 0 and server.calls == calls
    return server.injected, kinds


def test_a_second_run_asks_for_the_failures_alone_and_then_the_folder_is_that_of_a_healthy_server(tmp_path):
    injected, kinds = run_mend_and_compare(tmp_path, 6, seed=0)
    assert injected.total() >= 5 and len(kinds) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_kinds_of_faults_end_as_records_or_named_failures_and_can_be_mended(tmp_path, seed):
    injected, kinds = run_mend_and_compare(tmp_path, 60, seed=seed)
    assert set(injected) == {*PASSING, *FINAL}, "not every kind of fault was met"
    assert {"refusal", "truncated", "content_filter", "empty", "schema"} <= set(kinds)
