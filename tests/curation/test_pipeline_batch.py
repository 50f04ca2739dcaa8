"""The same curation through a server's batch API, and under a limit of spending."""

import json
from functools import partial

import pytest
from batch_double import BatchDouble
from case_files import write_cases
from chat_server import answer
from curated_folders import digests, rows
from fault_server import completion

from semihv_hf.curation.pipeline.config import CurateConfig
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.llm import batch as batch_module

CASES = 6
PRICES = {"m": {"input": 2.0, "output": 8.0}}


class Double(BatchDouble):
    """Answers by batch, and directly, with the same words."""

    def __init__(self, refuses=lambda body: False):
        super().__init__(answer=lambda line: ({"status_code": 200, "body": self.reply(line["body"])}, None), page=10)
        self.refuses = refuses
        self.direct = 0

    def reply(self, body: dict) -> dict:
        if self.refuses(body):
            return completion(body, "", "refusal")
        made = completion(body, json.dumps(body["messages"]))
        made["choices"][0]["message"]["content"] = json.dumps(answer(body))
        return made

    def serve(self, method, path, headers, body):
        if path.endswith("/models"):
            return 404, b"{}"
        if path.endswith("/chat/completions"):
            self.direct += 1
            return 200, json.dumps(self.reply(json.loads(body))).encode()
        return super().serve(method, path, headers, body)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    # A real server takes hours: the runner looks every 5 seconds at first, this double moves on when it is looked at.
    monkeypatch.setattr(batch_module, "BatchRunner", partial(batch_module.BatchRunner, poll=(0.0, 0.0)))
    cases = write_cases(tmp_path / "cases", CASES)

    def make(server, out: str, **options) -> CurateConfig:
        settings = {"base_url": server.base_url, "model": "m", "timeout": 30.0}
        given = {"classify": {}, "generate": {}, "block_rows": 4, **options}
        return CurateConfig(cases=str(cases), out=str(tmp_path / out), server=settings, **given)

    return make


def test_a_run_by_batch_writes_the_bytes_of_a_direct_one_and_asks_nothing_twice(recipe):
    with Double() as server:
        direct, batched = recipe(server, "direct"), recipe(server, "batched")
        curate(direct, progress=False)
        assert server.direct == 3 * CASES and not server.work
        report = curate(batched, batch=True, progress=False)
        assert server.direct == 3 * CASES and report["run"]["calls"] == 0
        assert len(server.work) == 3 * CASES and set(server.work.values()) == {1}
        assert len(rows(batched.out, "data/[ai]*/*.parquet")) >= 2 * CASES
        assert digests(batched.out) == digests(direct.out)
        curate(batched, batch=True, overwrite=True, progress=False)
        assert set(server.work.values()) == {1} and server.direct == 3 * CASES


def test_what_a_batch_does_not_answer_is_a_named_failure_that_a_later_run_completes(recipe):
    with Double(refuses=lambda body: "haemorrhage" in json.dumps(body)) as server:
        config = recipe(server, "out")
        report = curate(config, batch=True, progress=False)
        failures = rows(config.out, "failures.parquet")
        assert failures and {row["kind"] for row in failures} == {"refusal"} and server.direct == 0
        waiting = {row["case_id"] for row in failures if row["stage"] == "classify"}
        assert report["answers"] + len(failures) + 2 * len(waiting) == 3 * CASES
        server.refuses = lambda body: False
        assert not curate(config, progress=False)["failures"]
        assert server.direct == 3 * CASES - report["answers"]


def test_the_limit_of_spending_stops_batches_and_direct_calls_and_a_higher_one_goes_on(recipe):
    with Double() as server:
        free, config = recipe(server, "free", prices=PRICES), recipe(server, "out", prices=PRICES)
        limit = 0.3 * curate(free, dry_run=True, progress=False)["cost_usd"]
        curate(free, progress=False)
        calls = server.direct
        report = curate(config, max_cost_usd=limit, progress=False)
        assert {kind for _, kind, _ in report["failures"]} == {"budget"}
        assert 0 < report["run"]["spending"]["cost_usd"] <= limit
        assert 0 < report["answers"] == server.direct - calls < 3 * CASES
        stopped = curate(config, max_cost_usd=1e-9, progress=False)
        assert server.direct == calls + report["answers"] and stopped["answers"] == report["answers"]
        assert not curate(config, max_cost_usd=100 * limit, progress=False)["failures"]
        assert server.direct == calls + 3 * CASES
        assert digests(config.out) == digests(free.out)
