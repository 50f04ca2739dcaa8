"""The shipped judge, loaded as a user loads it, against a real server that really compares texts."""

import doctest
import json
import re
import sys
from functools import cache

import evaluate
import pytest
from judged_cases import DISCUSSIONS, NAMES, QUESTIONS, RubricServer

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.audit import judge_audit
from semihv_hf.files import write_jsonl

PARTS = ("key_points", "reasoning", "evidence")
OTHERS = [*DISCUSSIONS[1:], DISCUSSIONS[0]]


@pytest.fixture(scope="module")
def load(root):
    return cache(lambda configuration: evaluate.load(str(root / "metrics" / "gpt4_judge"), configuration))


@pytest.fixture(scope="module")
def jama(load):
    return load("jama")


def judged(metric, server, predictions, references=DISCUSSIONS, questions=QUESTIONS, **options):
    count = len(predictions)
    return metric.compute(
        predictions=predictions,
        references=references[:count],
        questions=questions[:count],
        **{"base_url": server.base_url, "model": "rubric-1", "max_retries": 0, **options},
    )


def test_a_judge_gives_its_own_gold_answers_five_and_those_of_other_cases_nothing(jama, tmp_path):
    with RubricServer() as server:
        own = judged(jama, server, DISCUSSIONS, case_ids=NAMES, cache_dir=str(tmp_path))
        other = judged(jama, server, OTHERS, case_ids=NAMES, cache_dir=str(tmp_path))
    assert own["mean"] >= 4.9 and other["mean"] <= 0.5
    assert all(own["means"][part] >= 4.9 and other["means"][part] <= 0.5 for part in PARTS)
    assert (own["n_total"], own["n_scored"], own["n_failed"], own["decided_by"]["judge"]) == (6, 6, 0, 6)
    # The lists are drawn once a case: the second run asks only for the markings.
    assert (own["this_run"]["answered"], other["this_run"]["answered"], other["this_run"]["cached"]) == (36, 18, 18)


def test_the_rows_are_what_an_audit_reads_with_every_repeat(jama, tmp_path):
    with RubricServer() as server:
        result = judged(
            jama, server, [*DISCUSSIONS[:3], OTHERS[3]], ids=list("abcd"), models=["m"] * 4, repeats=3,
        )  # fmt: skip
    rows = result["rows"]
    assert [(row["id"], row["model"]) for row in rows] == [(name, "m") for name in "abcd"]
    assert all(len(row["repeat_scores"]) == 3 for row in rows)
    assert [row["score"] for row in rows] == [pytest.approx(sum(row["repeat_scores"]) / 3) for row in rows]
    assert [row["length"] for row in rows] == [len(text.split()) for text in [*DISCUSSIONS[:3], OTHERS[3]]]
    write_jsonl(tmp_path / "verdicts.jsonl", rows)
    people = [{"id": row["id"], "rater": "r", "score": row["score"]} for row in rows]
    write_jsonl(tmp_path / "people.jsonl", people)
    report = judge_audit([tmp_path / "verdicts.jsonl"], tmp_path / "people.jsonl", tmp_path / "audit", samples=100)
    assert report["probes"]["repeats"]["n"] == 4
    with pytest.raises(SemiHVError, match="`ids` has 1 entries for 2 predictions"):
        jama.compute(
            predictions=["a", "b"], references=["a", "b"], questions=["q", "q"], ids=["a"],
            base_url="http://127.0.0.1:9/v1", model="rubric-1",
        )  # fmt: skip


def test_half_an_explanation_scores_what_its_hits_say(jama):
    half = " ".join(re.split(r"(?<=\.) ", DISCUSSIONS[0])[:3])
    with RubricServer() as server:
        row = judged(jama, server, [half])["rows"][0]
    assert row["hits"]["key_points"] == [[True, True, True, False, False, False]]
    assert row["key_points"] == 2.5 and 0 < row["score"] < 5
    for part in PARTS:
        assert row[part] == 5 * sum(row["hits"][part][0]) / len(row["hits"][part][0])
    assert row["score"] == pytest.approx(sum(row[part] for part in PARTS) / 3)


def test_the_authors_shape_is_one_number_a_list_and_half_a_point_an_item(jama):
    with RubricServer() as server:
        result = judged(jama, server, DISCUSSIONS[:1], protocol="authors")
        schemas = [body["response_format"]["json_schema"]["schema"] for body in server.requests]
    # Six sentences earn half a point each: a perfect answer to a short discussion stays below 5 in this shape.
    assert result["rows"][0]["key_points"] == 3.0 and result["protocol"] == "authors"
    grades = [schema["properties"]["score"]["enum"] for schema in schemas if "score" in schema["properties"]]
    assert grades == [[step / 2 for step in range(11)]] * 3


def test_every_call_asks_for_a_closed_strict_shape_with_one_verdict_an_item(jama):
    with RubricServer() as server:
        judged(jama, server, DISCUSSIONS[:1])
    assert len(server.requests) == 6
    for body in server.requests:
        wanted = body["response_format"]["json_schema"]
        assert wanted["strict"] and wanted["schema"]["additionalProperties"] is False
        assert (body["temperature"], body["seed"], body["model"]) == (0, 0, "rubric-1")
    marked = [wanted for wanted in (body["response_format"]["json_schema"]["schema"] for body in server.requests)
              if "item_1" in wanted["properties"]]  # fmt: skip
    assert len(marked) == 3
    assert all(field["enum"] == ["hit", "miss"] for schema in marked for field in schema["properties"].values())


def test_rows_of_one_case_share_its_lists(jama):
    with RubricServer() as server:
        result = judged(jama, server, ["One.", "Two."], [DISCUSSIONS[0]] * 2, [QUESTIONS[0]] * 2, case_ids=["a", "a"])
    assert len(server.requests) == 3 + 6
    assert result["n_scored"] == 2 and result["ci95"] is None  # one case: nothing to draw from


def test_repeats_are_asked_one_by_one_and_averaged(jama, tmp_path):
    with RubricServer() as server:
        result = judged(jama, server, DISCUSSIONS[:1], repeats=3, cache_dir=str(tmp_path))
        again = judged(jama, server, DISCUSSIONS[:1], repeats=3, cache_dir=str(tmp_path))
    assert len(server.requests) == 3 + 9
    assert [len(verdicts) for verdicts in result["rows"][0]["hits"].values()] == [3, 3, 3]
    assert again["this_run"] == {**again["this_run"], "answered": 0, "cached": 12}
    assert again["usage"] == result["usage"] and again["rows"] == result["rows"]


def test_the_result_says_who_judged_with_which_words_at_what_price(jama, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234567890")
    with RubricServer() as server:
        address = server.base_url.replace("//", "//user:password@")
        prices = {"rubric-1": {"input": 2.0, "output": 10.0}}
        result = judged(jama, server, DISCUSSIONS[:1], base_url=address, prices=prices)
    assert (result["model_requested"], result["models_returned"]) == ("rubric-1", {"rubric-server-1": 6})
    assert result["base_url"] == server.base_url and result["system_fingerprints"] == {"fp_words": 6}
    assert result["prompt_version"] and re.fullmatch("[0-9a-f]{64}", result["prompt_sha256"])
    usage = result["usage"]
    assert usage["cost_usd"] == pytest.approx((2 * usage["input_tokens"] + 10 * usage["output_tokens"]) / 1e6)
    assert usage["input_tokens"] > 500
    text = json.dumps(result)
    assert "sk-secret" not in text and "password" not in text


@pytest.mark.parametrize("likes_first", [0, 2])
def test_relative_asks_in_both_orders_and_shows_what_the_first_place_gains(load, likes_first):
    caption = "axial image of a round cyst in the upper left kidney pole"
    answers = ["a round cyst in the left kidney", "an axial image"]
    with RubricServer(likes_first=likes_first) as server:
        result = judged(
            load("relative"), server, answers[:1], answers[1:], ["What is seen?"], contexts=[caption], groups=["CT"]
        )
        swapped = judged(load("relative"), server, answers[1:], answers[:1], ["What is seen?"], contexts=[caption])
        published = judged(
            load("relative"), server, answers[:1], answers[1:], ["?"], contexts=[caption], protocol="llava-med"
        )
    assert len(server.requests) == 5
    row, other = result["rows"][0], swapped["rows"][0]
    # Exchanging the two answers exchanges the grades and nothing else.
    assert (row["prediction_grade"], row["reference_grade"]) == (other["reference_grade"], other["prediction_grade"])
    assert row["score"] > 100 > other["score"] > 0
    assert result["ratio_of_means"] == 100 * row["prediction_grade"] / row["reference_grade"]
    assert (result["gain_of_the_first_place"] > 0) == bool(likes_first)
    assert published["mean"] == row["ratios"]["reference_first"]
    assert result["by_group"]["CT"]["mean"] == result["mean"] == row["score"]


def test_pairwise_needs_a_preference_that_survives_the_exchange_of_places(load):
    gold = "a round cyst in the upper left kidney pole with thin walls"
    good, poor, equal = "a round cyst in the left kidney", "a cyst", "a round cyst in the left pole"
    pairs = [(good, poor), (poor, good), (good, equal)]
    options = {"contexts": [gold] * 3, "case_ids": ["a", "b", "c"]}
    predictions, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with RubricServer() as server:
        fair = judged(load("pairwise"), server, predictions, references, ["What is seen?"] * 3, **options)
        assert len(server.requests) == 4  # the second pair is the first one with its places exchanged
    with RubricServer(likes_first=20) as server:
        biased = judged(load("pairwise"), server, predictions, references, ["What is seen?"] * 3, **options)
    assert [row["outcome"] for row in fair["rows"]] == ["win", "loss", "tie"]
    assert (fair["n_wins"], fair["n_losses"], fair["n_ties"], fair["n_followed_the_place"]) == (1, 1, 1, 0)
    assert (biased["n_ties"], biased["mean"], biased["n_followed_the_place"]) == (3, 0.5, 3)


def test_hit_asks_only_where_no_rule_decides(load):
    cases = [
        ("Pneumothorax.", "pneumothorax", 1.0, "equal"),
        ("X ray", "X-ray", 1.0, "equal"),
        ("> 5 mm", "< 5 mm", 0.0, None),
        ("-5", "5", 0.0, None),
        ("no", "yes", 0.0, "opposite"),
        (" ?! ", "CT", 0.0, "empty"),
        ("a large left pneumothorax", "left pneumothorax", 1.0, None),
        ("pneumonia", "pneumothorax", 0.0, None),
    ]
    with RubricServer() as server:
        result = judged(
            load("hit"), server, [case[0] for case in cases], [case[1] for case in cases], ["What is it?"] * len(cases)
        )
    decided = [(row["score"], row["rule"]) for row in result["rows"]]
    # The server of the tests sees words only, so it cannot tell the two comparisons and the two numbers apart.
    wanted = [(1.0 if index in (2, 3) else case[2], case[3]) for index, case in enumerate(cases)]
    assert decided == wanted and len(server.requests) == 4
    assert result["rule_share"] == 0.5 and result["n_empty"] == 1
    assert result["decided_by"] == {"judge": 4, "rule": 4, "rules": {"empty": 1, "equal": 2, "opposite": 1}}


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"references": ["a", "b"]}, "`references` has 2 entries for 1 predictions"),
        ({"predictions": [7]}, "Row 0: the prediction 7 is not text"),
        ({"references": [None]}, "Row 0: the reference None is not text"),
        ({"references": ["  "]}, "Row 0: the reference is empty"),
        ({"predictions": [], "references": [], "questions": []}, "`predictions` is empty"),
        ({"questions": None}, "`questions` is missing"),
        ({"questions": [""]}, "Row 0: the question is empty"),
        ({"questions": "one"}, "`questions` is one text"),
        ({"questions": ["a", "b"]}, "`questions` has 2 entries"),
        ({"case_ids": []}, "`case_ids` has 0 entries"),
        ({"groups": []}, "`groups` has 0 entries"),
        ({"sources": [[]]}, "Row 0: `sources` holds"),
        ({"contexts": [3]}, "Row 0: the context 3 is not text"),
        ({"protocol": "best"}, "no protocol 'best'.*'items', 'authors'"),
        ({"repeats": 0}, "repeats is 0"),
        ({"max_failure_rate": 5}, "max_failure_rate is 5"),
        ({"model": None}, "`model` is missing"),
        ({"base_url": "127.0.0.1:1"}, "127.0.0.1:1' is not an http address"),
        ({"base_url": "https://judge.example/v1"}, "OPENAI_API_KEY"),
        ({"max_cost_usd": -1}, "max_cost_usd is -1"),
        ({"max_cost_usd": 1.0}, "No price is known for model 'rubric-1'"),
        ({"cache_only": True}, "without a cache"),
        ({"extra": {"api_key": "x"}}, "'api_key'"),
        ({"attestation": "no_such_file.yaml"}, "no_such_file.yaml cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:No `sources` were named")
def test_bad_input_is_an_error_that_names_it_before_anything_is_asked(jama, arguments, message):
    with RubricServer() as server:
        given = {"predictions": ["a lung"], "references": ["a lung"], "questions": ["What?"], **arguments}
        with pytest.raises(SemiHVError, match=message):
            jama.compute(**{"base_url": server.base_url, "model": "rubric-1", **given})
        assert server.requests == []
        # The module can be used again after an error.
        assert judged(jama, server, DISCUSSIONS[:1])["mean"] == 5.0


def test_an_unknown_configuration_is_named_and_none_means_jama(load):
    with pytest.raises(SemiHVError, match="no configuration 'jury'.*pairwise"):
        load("jury")
    assert load(None).config_name == "jama"


def test_aliases_and_unnamed_sources_are_warned_of(jama):
    given = {"predictions": ["a"], "references": ["b"], "questions": ["c"], "dry_run": True}
    local = {**given, "base_url": "http://127.0.0.1:9/v1"}
    for alias in ("gpt-4o", "chatgpt-4o-latest", "o3", "my-model-latest", "openai/gpt-4o"):
        with pytest.warns(UserWarning, match="is an alias"):
            assert len(jama.compute(**local, model=alias)["warnings"]) == 1
    for pinned in ("gpt-4o-2024-11-20", "gpt-4-0314", "claude-3-opus-20240229", "gemini-1.5-pro-002", "qwen2.5-72b"):
        assert jama.compute(**local, model=pinned)["warnings"] == []
    with pytest.warns(UserWarning, match="licence gate could not be asked"):
        jama.compute(**given, model="m", base_url="https://judge.example/v1")


def test_a_dry_run_counts_calls_prices_them_and_asks_nobody(jama, tmp_path):
    given = {"references": DISCUSSIONS[:3], "questions": QUESTIONS[:3], "case_ids": NAMES[:3], "dry_run": True}
    prices = {"rubric-1": {"input": 2.0, "output": 10.0}}
    with RubricServer() as server:
        given |= {"base_url": server.base_url, "model": "rubric-1", "prices": prices, "cache_dir": str(tmp_path / "c")}
        plan = jama.compute(predictions=["One.", "", None], **given)
        assert plan["n_calls"] == 6 and plan["estimate"]["cost_usd"] > 0 and plan["n_total"] == 3
        assert server.requests == [] and not (tmp_path / "c").exists()
        judged(jama, server, ["One."], cache_dir=str(tmp_path / "c"), prices=prices)
        # What is in the cache costs nothing; the markings depend on lists that a plan does not know.
        assert jama.compute(predictions=["One.", "", None], **given)["n_calls"] == 3


def test_at_least_two_examples_run_in_the_docstring(root, jama, monkeypatch):
    monkeypatch.chdir(root)
    found = doctest.testmod(sys.modules[type(jama).__module__])
    assert found.attempted >= 6 and found.failed == 0


def test_it_loads_offline_in_a_fresh_interpreter_from_elsewhere(root, run_python, tmp_path):
    code = (
        "import sys, evaluate; m = evaluate.load(sys.argv[1], 'hit'); "
        "print(m.compute(predictions=['CT'], references=['ct'], questions=['?'], model='m', "
        "base_url='http://127.0.0.1:9/v1')['mean'])"
    )
    folder = root / "metrics" / "gpt4_judge"
    done = run_python(code, folder, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_MODULES_CACHE=str(tmp_path / "m"))
    assert done.stdout.split() == ["1.0"]


def test_the_card_has_front_matter_and_the_folder_is_what_evaluate_can_load(root):
    from huggingface_hub import RepoCard

    folder = root / "metrics" / "gpt4_judge"
    card = RepoCard.load(folder / "README.md")
    assert card.data.sdk == "gradio" and "metric" in card.data.tags
    assert "semihv-hf[judge]" in (folder / "requirements.txt").read_text().split()
    modules = sorted(folder.glob("*.py"))
    assert len(modules) >= 10
    main = (folder / "gpt4_judge.py").read_text()
    for path in modules:
        lines = path.read_text().splitlines()
        assert all("," not in line for line in lines if line.startswith("import ")), path
        # evaluate copies what the main file imports, and does not follow the imports of its siblings.
        if path.name not in ("app.py", "gpt4_judge.py"):
            assert f"from .{path.stem} import" in main, path
    assert "**kwargs" not in main.split("def _compute")[1].split("def ")[0]
