"""The judge against real HTTP servers: one that really marks, and llmock for faults."""

import asyncio
import json

import pytest
from rubric_server import RubricServer
from test_score import rows_of

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.judge import DEFAULT_MODEL, OPENAI_URL, judge_cases, judge_settings
from semihv_hf.evaluation.score import score
from semihv_hf.files import write_jsonl

KEY = "sk-secret-1234567890"


@pytest.fixture
def cases(dataset):
    """Two cases answered with their own reference, one with nonsense, one with another case's reference."""
    references = [row["reference"] for row in rows_of(dataset, lambda n, q: "", config="jama_style")]
    said = [references[0], references[1], "I do not know.", references[1]]
    return rows_of(dataset, lambda n, q: said[n], config="jama_style")


def judged(cases, dataset, tmp_path, base_url, **options):
    settings = {"base_url": base_url, "model": "rubric-1", "max_retries": 0, **options}
    return judge_cases(cases, dataset, settings, cache_dir=tmp_path / "judge_cache", progress=False)


def kept_replies(tmp_path):
    """How many replies stand in the cache's log, whose first line names its format."""
    return len((tmp_path / "judge_cache" / "responses.jsonl").read_text(encoding="utf-8").splitlines()) - 1


def test_own_references_score_five_and_nonsense_zero(cases, dataset, tmp_path):
    with RubricServer() as server:
        result = judged(cases, dataset, tmp_path, server.base_url)
    assert result["status"] == "scored"
    assert [case["score"] for case in result["cases"][:3]] == [5.0, 5.0, 0.0]
    # Another case's answer shares the sentence about the background and not its finding.
    assert 0 < result["cases"][3]["score"] < 5
    assert (result["n_total"], result["n_scored"], result["n_failed"]) == (4, 4, 0)
    assert result["mean"] == pytest.approx(sum(case["score"] for case in result["cases"]) / 4)
    assert result["bounds"] == [result["mean"], result["mean"]]
    assert result["models_returned"] == {"rubric-server-1": 24}


def test_it_asks_six_strict_questions_a_case(cases, dataset, tmp_path):
    with RubricServer() as server:
        judged(cases[:1], dataset, tmp_path, server.base_url)
    assert len(server.requests) == 6
    for body in server.requests:
        assert body["response_format"]["type"] == "json_schema" and body["response_format"]["json_schema"]["strict"]
        assert body["response_format"]["json_schema"]["schema"]["additionalProperties"] is False
        assert body["temperature"] == 0


def test_a_second_run_asks_nothing_and_says_the_same(cases, dataset, tmp_path):
    with RubricServer() as server:
        first = judged(cases, dataset, tmp_path, server.base_url)
        asked = len(server.requests)
        second = judged(cases, dataset, tmp_path, server.base_url)
        assert len(server.requests) == asked == 4 * 6
    assert second == first


@pytest.mark.parametrize(
    "fault,kind,repeats",
    [
        ({"finish_reason": "length"}, "truncated", 1),
        ({"message": {"role": "assistant", "content": "Score: 5"}}, "schema", 2),
        ({"message": {"role": "assistant", "content": '{"items": []}'}}, "schema", 2),
        ({"message": {"role": "assistant", "content": None, "refusal": "I cannot."}}, "refusal", 1),
        (500, "server_error", 1),
        (429, "rate_limit", 1),
    ],
)
def test_a_failed_call_is_no_score_and_is_asked_again(cases, dataset, tmp_path, fault, kind, repeats):
    first_call, broken = {}, {"on": True}

    def once(number, body):
        """Spoils the second list that is asked for, also where it is asked for again with the reason of a refusal."""
        messages = body["messages"][:2]
        if number == 2:
            first_call["messages"] = messages
        return fault if broken["on"] and messages == first_call.get("messages") else None

    with RubricServer(fault=once) as server:
        result = judged(cases[:2], dataset, tmp_path, server.base_url, max_concurrency=1)
        asked, broken["on"] = len(server.requests), False
        again = judged(cases[:2], dataset, tmp_path, server.base_url)
        # Only what failed is asked again, the lost list and then its marking, and the end is that of a clean run.
        assert (asked, len(server.requests) - asked) == (10 + repeats, 2)
        assert again == judged(cases[:2], dataset, tmp_path / "clean", server.base_url)
    case, other = result["cases"]
    assert case["score"] is None and case["failure"] == kind and f": {kind}: " in case["reason"]
    assert other["score"] == 5.0 and result["failures"] == {kind: 1}
    assert (result["n_total"], result["n_scored"], result["n_failed"]) == (2, 1, 1)
    assert result["mean"] == 5.0 and result["bounds"] == [2.5, 5.0]


def test_after_failures_the_re_run_makes_exactly_the_missing_calls(cases, dataset, tmp_path):
    broken = {"on": True}

    def every_third(number, body):
        return 500 if broken["on"] and number % 3 == 0 else None

    with RubricServer(fault=every_third) as server:
        first = judged(cases, dataset, tmp_path, server.base_url, max_concurrency=1)
        assert first["n_failed"] > 0
        broken["on"], asked, kept = False, len(server.requests), kept_replies(tmp_path)
        second = judged(cases, dataset, tmp_path, server.base_url)
        assert len(server.requests) - asked == 4 * 6 - kept
        clean = judged(cases, dataset, tmp_path / "clean", server.base_url)
    assert second == clean


def test_a_cache_with_a_torn_end_is_used(cases, dataset, tmp_path):
    with RubricServer() as server:
        first = judged(cases, dataset, tmp_path, server.base_url)
        path = tmp_path / "judge_cache" / "responses.jsonl"
        path.write_bytes(path.read_bytes()[:-20])
        asked = len(server.requests)
        assert judged(cases, dataset, tmp_path, server.base_url) == first
        assert len(server.requests) == asked + 1


def test_a_server_without_schemas_is_asked_for_plain_json(cases, dataset, tmp_path):
    with RubricServer(schemas=False) as server:
        result = judged(cases, dataset, tmp_path, server.base_url, max_concurrency=1)
    assert [case["score"] for case in result["cases"][:3]] == [5.0, 5.0, 0.0]
    kinds = [body["response_format"]["type"] for body in server.requests]
    assert kinds.count("json_schema") == 1 and kinds.count("json_object") == 24
    assert '"items"' in server.requests[1]["messages"][0]["content"]


def test_answers_that_do_not_exist_are_not_sent(cases, dataset, tmp_path):
    rows = [{**cases[0], "prediction": None, "error": "RuntimeError: x"}, {**cases[1], "prediction": " "}]
    with RubricServer() as server:
        result = judged(rows, dataset, tmp_path, server.base_url)
    assert server.requests == []
    assert result["cases"][0]["score"] is None and "RuntimeError" in result["cases"][0]["reason"]
    assert result["cases"][1]["score"] == 0.0 and result["cases"][1]["decided_by"] == "rule"
    assert (result["n_scored"], result["n_failed"]) == (1, 1)


def test_what_a_source_forbids_never_leaves_for_another_machine(cases, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    result = judged(cases, dataset, tmp_path, "https://judge.invalid/v1")
    # The drawn images come from a source that is not in the registry, so nothing is known to be allowed.
    assert result["status"] == "failed" and result["failures"] == {"licence": 4}
    assert all("no entry in the licence registry" in case["reason"] for case in result["cases"])
    assert "None of the 4 cases was judged" in result["reason"] and kept_replies(tmp_path) <= 0


def test_it_works_inside_a_running_event_loop(cases, dataset, tmp_path):
    async def notebook(base_url):
        return judged(cases[:1], dataset, tmp_path, base_url)

    with RubricServer() as server:
        assert asyncio.run(notebook(server.base_url))["mean"] == 5.0


def test_score_runs_the_judge_and_no_key_is_written(cases, dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    folder = tmp_path / "predictions"
    write_jsonl(folder / "image.jsonl", rows_of(dataset, lambda n, q: q.reference))
    write_jsonl(folder / "jama.jsonl", cases)

    def leak(number, body):
        """A server that tells the key that it was given."""
        return (
            {"message": {"role": "assistant", "content": None, "refusal": f"not for {KEY}"}} if number == 2 else None
        )

    with RubricServer(fault=leak) as server:
        result = score(folder, dataset, tmp_path / "scores.json", judge={"base_url": server.base_url, "model": "m"})
    judge = result["jama"]["judge"]
    assert judge["status"] == "scored" and judge["failures"] == {"refusal": 1} and "this_run" not in judge
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["jama"]["judge"] == judge
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert folder / "judge_cache" / "responses.jsonl" in written
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in caplog.text


def test_a_server_that_refuses_the_key_is_an_error_and_not_a_column_of_failures(cases, dataset, tmp_path):
    with RubricServer(fault=lambda number, body: 401) as server:
        with pytest.raises(SemiHVError, match="refuses the key"):
            judged(cases, dataset, tmp_path, server.base_url)


def test_settings(monkeypatch):
    assert judge_settings(None) is None
    assert judge_settings({"base_url": None, "model": None}) is None
    local = judge_settings({"base_url": "http://127.0.0.1:1/v1", "model": "m"})
    assert (local.base_url, local.model) == ("http://127.0.0.1:1/v1", "m")
    with pytest.raises(SemiHVError, match="without a model.*--judge-model"):
        judge_settings({"base_url": "http://127.0.0.1:1/v1"})
    with pytest.raises(SemiHVError, match="'modle'"):
        judge_settings({"modle": "m"})
    with pytest.raises(SemiHVError, match="not an http address"):
        judge_settings({"base_url": "127.0.0.1:1", "model": "m"})
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    hosted = judge_settings()
    assert (hosted.base_url, hosted.model) == (OPENAI_URL, DEFAULT_MODEL)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:pass@127.0.0.1:9/v1")
    assert judge_settings({"model": "m"}).shown_url == "http://127.0.0.1:9/v1"


LISTED = json.dumps({"items": ["one", "two"]})
MARKED = json.dumps({"item_1": "hit", "item_2": "miss"})


def test_llmock_rate_limits_and_server_errors_are_waited_out(cases, dataset, tmp_path, llmock):
    llmock.rate_limit(times=1, retry_after=0.2).fail(500, times=1)
    llmock.reply(LISTED, times=3).reply(MARKED, times=3)
    result = judged(cases[:1], dataset, tmp_path, llmock.base_url(), max_concurrency=1, max_retries=2)
    assert result["mean"] == 2.5 and result["n_failed"] == 0
    assert len(llmock.requests) == 8
    llmock.assert_resilient()


def test_llmock_junk_is_a_named_failure(cases, dataset, tmp_path, llmock):
    # Each of the three lists is asked for once more, with what was wrong with the first reply.
    llmock.reply('{"items": ["one", "tw', times=3).reply("Certainly! Here is the list: 1. one", times=3)
    result = judged(cases[:1], dataset, tmp_path, llmock.base_url(), max_concurrency=1)
    case = result["cases"][0]
    assert result["status"] == "failed" and case["score"] is None and case["failure"] == "schema"
    assert case["reason"].count("does not fit the schema") == 3 and len(llmock.requests) == 6
    assert "None of the 1 cases was judged" in result["reason"]


def test_llmock_down_for_good_ends_with_a_reason(cases, dataset, tmp_path, llmock):
    llmock.outage()
    result = judged(cases[:2], dataset, tmp_path, llmock.base_url(), max_retries=1)
    assert result["status"] == "failed" and result["failures"] == {"server_error": 2}
    assert "server_error" in result["reason"] and kept_replies(tmp_path) <= 0
