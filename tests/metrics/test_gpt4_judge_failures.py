"""What the judge's failures do to the numbers: nothing but what the bounds and the counts say."""

import json
import re
import warnings
from functools import cache

import evaluate
import pytest
from judged_cases import DISCUSSIONS, NAMES, QUESTIONS, RubricServer

from semihv_hf.errors import SemiHVError

HALVES = [" ".join(re.split(r"(?<=\.) ", discussion)[: 2 + n % 4]) for n, discussion in enumerate(DISCUSSIONS)]


@pytest.fixture(scope="module")
def load(root):
    return cache(lambda configuration: evaluate.load(str(root / "metrics" / "gpt4_judge"), configuration))


@pytest.fixture(scope="module")
def jama(load):
    return load("jama")


def judged(metric, server, predictions=HALVES, references=DISCUSSIONS, questions=QUESTIONS, **options):
    count = len(predictions)
    given = {"base_url": server.base_url, "model": "rubric-1", "max_retries": 0, "max_failure_rate": 1.0}
    return metric.compute(
        predictions=predictions, references=references[:count], questions=questions[:count], **{**given, **options}
    )


def lasting(result):
    """A result without what belongs to one run."""
    return {name: value for name, value in result.items() if name != "this_run"}


@pytest.mark.parametrize("every", [2, 3, 5, 7])
def test_every_kth_call_fails_and_the_rows_say_so(jama, tmp_path, every):
    broken = {"on": True}

    def fault(number, body):
        return 500 if broken["on"] and number % every == 0 else None

    with RubricServer(fault=fault) as server:
        first = judged(jama, server, case_ids=NAMES, max_concurrency=1, cache_dir=str(tmp_path / "one"))
        asked, broken["on"] = len(server.requests), False
        second = judged(jama, server, case_ids=NAMES, cache_dir=str(tmp_path / "one"))
        missing = len(server.requests) - asked
        clean = judged(jama, server, case_ids=NAMES, cache_dir=str(tmp_path / "two"))
        assert len(server.requests) - asked - missing == 36
    # Exactly what is missing is asked again: the failed calls, and the markings that had no list.
    assert missing == 36 - first["this_run"]["answered"] and first["this_run"]["failed"] == asked // every
    assert lasting(second) == lasting(clean)
    scores = {row["case_id"]: row["score"] for row in clean["rows"]}
    scored = [row["score"] for row in first["rows"] if row["score"] is not None]
    assert 0 < first["n_failed"] == 6 - len(scored) and first["failures"] == {"server_error": first["n_failed"]}
    for row in first["rows"]:
        assert row["score"] in (None, scores[row["case_id"]])
        if row["score"] is None:
            assert row["decided_by"] is None and re.match(
                r"(list of )?(key_points|reasoning|evidence): ", row["reason"]
            )
    low, high = first["bounds"]
    assert (low, high) == (pytest.approx(sum(scored) / 6), pytest.approx((sum(scored) + 5 * first["n_failed"]) / 6))
    assert low <= clean["mean"] <= high and clean["bounds"] == [clean["mean"]] * 2
    assert first["mean"] == (pytest.approx(sum(scored) / len(scored)) if scored else None)


def test_more_failures_than_allowed_are_an_error_that_counts_them_and_nothing_is_lost(jama, tmp_path):
    broken = {"on": True}
    with RubricServer(fault=lambda number, body: 500 if broken["on"] and number == 30 else None) as server:
        options = {"max_concurrency": 1, "cache_dir": str(tmp_path)}
        with pytest.raises(SemiHVError, match=r"1 of 6 rows have no verdict \(server_error 1\).*max_failure_rate=0.1"):
            judged(jama, server, max_failure_rate=0.1, **options)
        asked, broken["on"] = len(server.requests), False
        assert judged(jama, server, max_failure_rate=0.0, **options)["n_failed"] == 0
        assert (asked, len(server.requests)) == (36, 37)


def test_answers_that_do_not_exist_are_no_failures_of_the_judge_and_are_not_sent(jama):
    with RubricServer() as server:
        result = judged(jama, server, [None, " ", None], max_failure_rate=0.0)
    assert server.requests == []
    assert [row["score"] for row in result["rows"]] == [None, 0.0, None]
    assert result["failures"] == {"no_prediction": 2} and result["n_empty"] == 1
    assert result["mean"] == 0.0 and result["bounds"] == [0.0, pytest.approx(10 / 3)]


def test_what_a_source_forbids_does_not_leave_for_another_machine(jama, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234567890")
    far = {"base_url": "https://judge.invalid/v1", "model": "m", "max_failure_rate": 1.0}
    rows = {"predictions": HALVES[:2], "references": DISCUSSIONS[:2], "questions": QUESTIONS[:2]}
    result = jama.compute(**rows, **far, sources=["mimic_cxr", ["eurorad", "a source of my own"]])
    assert result["failures"] == {"licence": 2} and result["this_run"]["answered"] == 0
    assert "mimic_cxr" in result["rows"][0]["reason"] and "no entry" in result["rows"][1]["reason"]
    with RubricServer() as server:
        near = judged(jama, server, HALVES[:2], sources=["mimic_cxr", "eurorad"])
    assert near["n_failed"] == 0


def test_an_exhausted_budget_stops_the_calls_and_names_the_rows(jama):
    prices = {"rubric-1": {"input": 100.0, "output": 100.0}}
    with RubricServer() as server:
        whole = judged(jama, server, prices=prices)["usage"]["cost_usd"]
        asked = len(server.requests)
        cut = judged(jama, server, prices=prices, max_cost_usd=whole / 2, max_concurrency=1)
        assert 0 < len(server.requests) - asked < asked
    assert cut["failures"] == {"budget": cut["n_failed"]} and 0 < cut["this_run"]["cost_usd"] <= whole / 2


def test_a_cache_alone_gives_the_same_numbers_and_a_hole_in_it_is_an_error(jama, tmp_path):
    with RubricServer() as server:
        first = judged(jama, server, cache_dir=str(tmp_path))
        asked = len(server.requests)
        replayed = judged(jama, server, cache_dir=str(tmp_path), cache_only=True)
        with pytest.raises(SemiHVError, match="no reply"):
            judged(jama, server, ["Another answer."], cache_dir=str(tmp_path), cache_only=True)
        assert len(server.requests) == asked
    assert lasting(replayed) == lasting(first) and replayed["this_run"]["cached"] == asked


def test_a_wrong_setting_of_the_server_stops_before_anything_is_paid_for(jama):
    with pytest.raises(SemiHVError, match="no server at http://127.0.0.1:9/v1"):
        jama.compute(
            predictions=["a"], references=["b"], questions=["c"], base_url="http://127.0.0.1:9/v1", model="m",
            max_retries=0,
        )  # fmt: skip
    with RubricServer(fault=lambda number, body: 401) as server:
        with pytest.raises(SemiHVError, match="refuses the key.*OPENAI_API_KEY"):
            judged(jama, server)


# What a server sends for the words in the card's table.
SENT = {
    "refusal": {"message": {"role": "assistant", "content": None, "refusal": "I cannot."}},
    "nothing": {"message": {"role": "assistant", "content": ""}},
    "cut off": {"message": {"role": "assistant", "content": '{"verdict": "equi'}, "finish_reason": "length"},
}
# The peers' arithmetic, restated from the description of their code.
PEERS = {
    "a 1 anywhere": lambda reply: float("1" in reply),
    "first integer": lambda reply: float(re.search(r"\d+", reply)[0]),
    "no reply is wrong": lambda reply: 0.0,
    "two numbers": lambda reply: (lambda pair: 100 * pair[1] / pair[0])([float(n) for n in re.findall(r"\d+", reply)]),
    "one order": lambda reply: {"first": 0.0, "second": 1.0, "tie": 0.5}[json.loads(reply)["winner"]],
}


def card_rows(root):
    text = (root / "metrics" / "gpt4_judge" / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    rows = [row for row in rows if len(row) == 6 and row[0].isdigit()]
    assert [row[0] for row in rows] == [str(n) for n in range(1, len(rows) + 1)] and len(rows) >= 15
    return rows


def test_the_table_in_the_card_is_what_happens(root, load):
    for number, configuration, sent, rule, peer, ours in card_rows(root):
        sent = sent.strip("`")
        status = re.fullmatch(r"HTTP (\d+)", sent)
        reply = int(status[1]) if status else SENT.get(sent, {"message": {"role": "assistant", "content": sent}})
        name, _, protocol = configuration.partition(", ")

        def fault(_, body, reply=reply):
            return None if body["response_format"]["json_schema"]["name"] == "Items" else reply

        with RubricServer(fault=fault) as server, warnings.catch_warnings():
            warnings.simplefilter("error")
            row = judged(
                load(name), server, ["a collapsed lung"], ["pneumothorax"], ["What?"], protocol=protocol or None
            )["rows"][0]
            assert server.requests
        got = f"failed: {row['failure']}" if row["score"] is None else f"{row['score']:.2f}".rstrip("0").rstrip(".")
        assert got == ours, f"case {number}"
        assert PEERS[rule](sent) == float(peer), f"case {number}"
