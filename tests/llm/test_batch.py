"""The batch API: everything that is asked ends in the cache or as a named failure, and nothing is asked twice."""

import json

import pytest
from batch_double import MODEL, PRICES, PROCESSES, BatchDouble, complete, questions, run_job, runner_for, settings_for
from pydantic import BaseModel

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.batch import BatchRunner
from semihv_hf.llm.budget import Budget
from semihv_hf.llm.cache import ResponseCache, content_key
from semihv_hf.llm.client import ChatClient
from semihv_hf.llm.types import ServerSettings


class Verdict(BaseModel):
    verdict: str
    score: int


@pytest.fixture
def cache(tmp_path):
    with ResponseCache(tmp_path / "cache") as opened:
        yield opened


def everything_under(folder) -> str:
    return "\n".join(
        path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file() and path.suffix != ".sqlite"
    )


def test_a_job_fills_the_cache_that_the_client_then_reads_without_a_call(tmp_path, cache):
    asked = questions(10, Verdict)
    with BatchDouble() as double:
        report = runner_for(double.base_url, tmp_path / "job", cache).run(asked)
        assert (report.total, report.answered, report.failed, report.batches) == (10, 10, {}, 3)
        calls = len(double.log)
        results = ChatClient(settings_for(double), cache=cache, cache_only=True).run(asked, progress=False)
        assert len(double.log) == calls
    for request, result in zip(asked, results):
        body = {"model": MODEL, "messages": request.messages, "response_format": {}}
        assert result.parsed == Verdict.model_validate_json(complete(body)["choices"][0]["message"]["content"])
        assert result.cached and result.model == f"{MODEL}-2026"
    assert set(double.work.values()) == {1} and len(double.work) == 10


def test_equal_requests_are_submitted_once_and_a_second_job_submits_nothing(tmp_path, cache):
    asked = [*questions(3), *questions(3)]
    with BatchDouble() as double:
        assert runner_for(double.base_url, tmp_path / "job", cache).run(asked).total == 3
        before = len(double.log)
        report = runner_for(double.base_url, tmp_path / "job", cache).run(asked)
        assert len(double.log) == before and report.answered == 3 and report.batches == 0
        runner_for(double.base_url, tmp_path / "job", cache).run(lambda: questions(5))
    assert set(double.work.values()) == {1} and len(double.work) == 5


def test_files_stay_within_both_limits_and_a_request_that_never_fits_is_named(tmp_path, cache):
    asked = questions(9)
    asked[4].messages[0]["content"] = "long " * 1000
    with BatchDouble() as double:
        runner = runner_for(
            double.base_url, tmp_path / "job", cache, most_requests=3, most_bytes=900, delete_files=False
        )
        report = runner.run(asked)
        inputs = [file for file in double.files.values() if file["purpose"] == "batch"]
    assert all(file["bytes"] <= 900 and len(file["content"].splitlines()) <= 3 for file in inputs)
    assert sum(len(file["content"].splitlines()) for file in inputs) == 8 and len(inputs) >= 3
    assert report.failed == {"bad_request": 1}
    (failure,) = cache.failures()
    assert failure["id"] == "row 4" and "900 bytes" in failure["failure"]["detail"]


@pytest.mark.parametrize("fate", [("expired", 2), ("cancelled", 1), ("failed", 0)])
def test_what_a_batch_left_undone_is_submitted_again_and_nothing_else(tmp_path, cache, fate):
    with BatchDouble(fate=lambda number, lines: fate if number == 1 else "completed") as double:
        report = runner_for(double.base_url, tmp_path / "job", cache).run(questions(8))
    assert (report.answered, report.failed) == (8, {})
    assert len(double.work) == 8 and set(double.work.values()) == {1}
    assert report.batches == 3  # the first two, and one for what was missing


def test_what_stays_undone_after_all_rounds_is_a_failure_and_the_next_job_asks_for_just_that(tmp_path, cache):
    with BatchDouble(fate=lambda number, lines: ("expired", 1)) as double:
        report = runner_for(double.base_url, tmp_path / "job", cache, max_rounds=2).run(questions(4))
        assert (report.answered, report.failed, report.batches) == (2, {"timeout": 2}, 2)
        double.fate = lambda number, lines: "completed"
        report = runner_for(double.base_url, tmp_path / "job", cache, max_rounds=2).run(questions(4))
    assert (report.answered, report.failed, report.batches) == (4, {}, 1)
    assert set(double.work.values()) == {1} and len(double.work) == 4


def spoiled(line: dict):
    """Each row meets another fault; the others are answered."""
    number = int(line["body"]["messages"][0]["content"].split()[1].rstrip(":"))
    body = complete(line["body"])
    choice = body["choices"][0]
    if number == 0:
        return {"status_code": 400, "body": {"error": {"message": "image is broken", "code": "bad"}}}, None
    if number == 1:
        choice["finish_reason"] = "length"
    if number == 2:
        choice["message"].update(content=None, refusal="I cannot help with that")
    if number == 3:
        choice["message"]["content"] = '{"verdict": "no score"}'
    if number == 4:
        choice["message"]["content"] = ""
    if number == 5:
        return {"status_code": 401, "body": {"error": {"message": "key sk-secret-of-the-test is wrong"}}}, None
    return {"status_code": 200, "body": body}, None


def test_a_reply_that_is_none_is_a_named_failure_never_in_the_cache_and_not_asked_again_in_this_job(tmp_path, cache):
    asked = questions(8, Verdict)
    with BatchDouble(answer=spoiled) as double:
        report = runner_for(double.base_url, tmp_path / "job", cache).run(asked)
        settings = settings_for(double)
    expected = ["bad_request", "truncated", "refusal", "schema", "empty", "auth"]
    assert report.failed == dict.fromkeys(sorted(expected), 1)
    assert [row["failure"]["kind"] for row in sorted(cache.failures(), key=lambda row: row["id"])] == expected
    assert [content_key(settings, request) in cache for request in asked] == [False] * 6 + [True] * 2
    assert set(double.work.values()) == {1}
    assert "sk-secret" not in everything_under(tmp_path)


def test_a_fault_that_may_pass_is_asked_again(tmp_path, cache):
    seen = set()

    def busy_at_first(line):
        if line["custom_id"] in seen:
            return None
        seen.add(line["custom_id"])
        return {"status_code": 429 if len(seen) % 2 else 500, "body": {"error": {"message": "busy"}}}, None

    with BatchDouble(answer=busy_at_first) as double:
        report = runner_for(double.base_url, tmp_path / "job", cache).run(questions(4))
    assert (report.answered, report.failed, report.batches) == (4, {}, 2)


def test_a_forbidden_source_is_never_written_or_uploaded_for_a_server_elsewhere(tmp_path, cache):
    with BatchDouble() as double:
        local = runner_for(double.base_url, tmp_path / "local", cache).run(questions(2, sources=("mimic_cxr",)))
        assert local.answered == 2  # the double is on this machine
    sent = []
    import httpx
    from openai import OpenAI

    transport = httpx.MockTransport(lambda request: sent.append(request) or httpx.Response(500))
    client = OpenAI(
        base_url="https://llm.example.org/v1",
        api_key="x",
        max_retries=0,
        http_client=httpx.Client(transport=transport),
    )
    runner = BatchRunner(
        ServerSettings("https://llm.example.org/v1", MODEL), cache, tmp_path / "far", client=client, poll=(0.0, 0.0)
    )
    asked = questions(2, sources=("mimic_cxr",))
    report = runner.run(asked)
    assert report.failed == {"licence": 2} and sent == []
    assert "axial" not in everything_under(tmp_path / "far")
    with pytest.raises(SemiHVError, match="run again"):
        runner.run(questions(1))  # the same server is asked as soon as nothing forbids it
    assert len(sent) == 1


def test_dollars_are_counted_at_the_batch_price_and_a_limit_stops_before_the_upload(tmp_path, cache):
    with BatchDouble() as double:
        budget = Budget(1000.0, PRICES)
        report = runner_for(double.base_url, tmp_path / "job", cache, budget=budget).run(questions(6))
        sent = sum(complete({"model": MODEL, "messages": q.messages})["usage"]["prompt_tokens"] for q in questions(6))
        assert report.usage["input_tokens"] == sent and report.usage["output_tokens"] == 42
        assert report.usage["cost_usd"] == pytest.approx((sent * 10 + 42 * 100) / 1e6 / 2)
        assert budget.summary()["cost_usd"] == pytest.approx(report.usage["cost_usd"])
        one = budget.estimate(questions(1), settings_for(double), batch=True).cost_usd
        small = Budget(2.5 * one, PRICES)
        report = runner_for(double.base_url, tmp_path / "small", cache, budget=small).run(questions(12)[6:])
        assert (report.answered, report.failed) == (2, {"budget": 4})
        calls = len(double.log)
        with pytest.raises(SemiHVError, match="No price is known"):
            runner_for(double.base_url, tmp_path / "none", cache, budget=Budget(1.0)).run(questions(20))
        assert len(double.log) == calls


def test_texts_and_files_are_removed_here_and_there_once_they_are_collected(tmp_path, cache):
    with BatchDouble() as double:
        runner_for(double.base_url, tmp_path / "job", cache).run(questions(6))
        assert double.files == {}
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["batches.json"]
    state = json.loads((tmp_path / "job" / "batches.json").read_text())
    assert [part["step"] for part in state["history"]] == ["cleaned"] * 2 and state["parts"] == []


def test_a_run_that_does_not_wait_says_what_is_pending_and_a_later_one_goes_on(tmp_path, cache):
    pending = []
    with BatchDouble() as double:
        for _ in range(6):
            report = runner_for(double.base_url, tmp_path / "job", cache).run(questions(6), wait=False)
            pending.append((report.pending, report.answered))
    assert pending[0] == (6, 0) and pending[-1] == (0, 6)
    assert set(double.work.values()) == {1}


def test_a_folder_of_another_model_and_requests_that_can_be_read_once_only_are_refused(tmp_path, cache):
    with BatchDouble() as double:
        runner_for(double.base_url, tmp_path / "job", cache).run(questions(1))
        with pytest.raises(SemiHVError, match="another server or model"):
            BatchRunner(ServerSettings(double.base_url, "other"), cache, tmp_path / "job")
        with pytest.raises(SemiHVError, match="several times"):
            runner_for(double.base_url, tmp_path / "job", cache).run(iter(questions(2)))


def clean_run(tmp_path, count: int):
    """An undisturbed job: its replies and the requests that it made."""
    with BatchDouble() as double, ResponseCache(tmp_path / "clean-cache") as cache:
        budget = Budget(5.0, PRICES)
        report = runner_for(double.base_url, tmp_path / "clean", cache, budget=budget).run(questions(count))
        settings = settings_for(double)
        texts = [cache.get(content_key(settings, request))["text"] for request in questions(count)]
    return texts, len(double.log), report, budget.summary()


def check_equal(double, tmp_path, clean, count: int) -> None:
    """After a resumed run everything is as after an undisturbed one, and nothing was worked on twice."""
    texts, _, report, spent = clean
    with ResponseCache(tmp_path / "cache") as cache:
        budget = Budget(5.0, PRICES)
        again = runner_for(double.base_url, tmp_path / "job", cache, budget=budget).run(questions(count))
        settings = settings_for(double)
        assert [cache.get(content_key(settings, request))["text"] for request in questions(count)] == texts
    assert again.failed == {} and again.answered == count
    if again.batches:  # the interrupted job was finished; otherwise it was done before it was stopped
        assert again.usage == report.usage
        assert budget.summary()["cost_usd"] == pytest.approx(spent["cost_usd"])
        assert budget.summary()["calls"] == spent["calls"]
    assert set(double.work.values()) == {1} and len(double.work) == count
    assert len(double.batches) == report.batches and set(double.uploads.values()) == {1}
    assert double.files == {}
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["batches.json"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_request_a_job_goes_on_without_submitting_anything_twice(tmp_path, moment):
    clean = clean_run(tmp_path, 6)
    assert clean[1] >= 12
    for number in range(1, clean[1] + 1):
        killed_at(tmp_path / f"{number}", clean, number, moment)


@pytest.mark.parametrize(("number", "moment"), [(1, "after"), (2, "after"), (4, "after"), (3, "before")])
def test_killed_around_uploads_and_creations_a_job_goes_on_without_submitting_anything_twice(tmp_path, number, moment):
    killed_at(tmp_path / "killed", clean_run(tmp_path, 6), number, moment)


def killed_at(folder, clean, number: int, moment: str) -> None:
    folder.mkdir()
    with BatchDouble() as double:
        arguments = (double.base_url, folder / "job", folder / "cache", 6)
        process = PROCESSES.Process(target=run_job, args=arguments)
        double.kill = (number, moment)
        process.start()
        double.victim = process.pid
        process.join()
        assert process.exitcode == -9, number
        double.kill = None
        check_equal(double, folder, clean, 6)


@pytest.mark.slow
def test_a_connection_cut_at_any_request_is_no_reason_to_submit_twice(tmp_path):
    clean = clean_run(tmp_path, 6)
    for number in range(1, clean[1] + 1):
        cut_at(tmp_path / f"{number}", clean, number)


def test_an_upload_or_a_creation_whose_answer_was_lost_is_found_on_the_server(tmp_path):
    clean = clean_run(tmp_path, 6)
    for number in range(1, 5):
        cut_at(tmp_path / f"{number}", clean, number)


def cut_at(folder, clean, number: int) -> None:
    for moment in ("before", "after"):
        here = folder / moment
        with BatchDouble() as double, ResponseCache(here / "cache") as cache:
            double.drop = (number, moment)
            runner_for(double.base_url, here / "job", cache).run(questions(6))
            double.drop = None
            assert "POST /v1/files" in double.log[:number]
            check_equal(double, here, clean, 6)


def test_a_second_run_in_a_folder_where_one_is_at_work_is_refused(tmp_path, cache):
    with BatchDouble() as double:
        first = runner_for(double.base_url, tmp_path / "job", cache)
        with first._state.only_one(), pytest.raises(SemiHVError, match="Another run is at work"):
            runner_for(double.base_url, tmp_path / "job", cache).run(questions(2))
        assert double.log == []
        assert first.run(questions(2)).answered == 2
