"""Prices, estimates and the limit: dollars that are known, and a stop that concurrent calls do not run past."""

import asyncio
import base64
import io
import json
import logging
import random
from datetime import date

import pytest
from PIL import Image

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.budget import Budget
from semihv_hf.llm.cache import ResponseCache, content_key
from semihv_hf.llm.images import image_part
from semihv_hf.llm.prices import Price, Prices
from semihv_hf.llm.tokens import TileRule, TokenRule, image_rule
from semihv_hf.llm.types import ChatRequest, ServerSettings, Usage

OPENAI = "https://api.openai.com/v1"
LOCAL = ServerSettings("http://127.0.0.1:9/v1", "m", max_tokens=100)
TABLE = {"m": {"input": 1.0, "cached_input": 0.5, "output": 10.0}}


def question(text: str = "x" * 400, name: str = "row", **more) -> ChatRequest:
    return ChatRequest(name, [{"role": "user", "content": text}], **more)


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (width, height), 7).save(out, "PNG")
    return out.getvalue()


def test_the_dated_list_prices_a_call_with_its_cached_tokens_and_halves_it_in_a_batch():
    pytest.importorskip("genai_prices", reason="the price list genai-prices is not installed")
    settings = ServerSettings(OPENAI, "gpt-4o-2024-11-20")
    prices = Prices(on=date(2026, 11, 1))
    usage = Usage(1_000_000, 400_000, 100_000, 50_000)
    # $2.50 for a million sent, $1.25 of what the server still has, $10 back (openai.com/api/pricing)
    assert prices.cost(settings, usage) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10)
    assert prices.cost(settings, Usage(1_000_000, 0, 100_000), batch=True) == pytest.approx((2.5 + 1.0) / 2)
    source = prices.source(settings)
    assert "genai-prices" in source and "openai/gpt-4o" in source and "2026-11-01" in source


def test_a_proxy_is_priced_by_the_models_name_and_says_so_but_a_server_of_ones_own_is_not(caplog):
    pytest.importorskip("genai_prices", reason="the price list genai-prices is not installed")
    proxy = ServerSettings("https://llm.hospital.example/v1", "gpt-4o-2024-11-20")
    assert Prices().cost(proxy, Usage(1_000_000)) == pytest.approx(2.5)
    assert "matched by the model's name" in Prices().source(proxy)
    own = ServerSettings("http://localhost:8000/v1", "gpt-4o-2024-11-20")
    prices = Prices()
    with caplog.at_level(logging.WARNING):
        assert prices.cost(own, Usage(1_000_000)) is None and prices.source(own) is None
    assert "No price is known" not in caplog.text, "a server on this machine bills nobody"


def test_a_model_without_a_price_is_told_once(caplog):
    prices, unknown = Prices(), ServerSettings("https://llm.hospital.example/v1", "ward-model")
    with caplog.at_level(logging.WARNING):
        assert prices.source(unknown) is None and prices.source(unknown) is None
    assert caplog.text.count("No price is known") == 1


def test_an_unknown_model_costs_none_and_with_a_limit_is_an_error_before_the_first_call():
    settings = ServerSettings("https://llm.example.org/v1", "nobody-knows-me")
    assert Budget().price(settings, Usage(5, 0, 5)).cost_usd is None
    Budget().check(settings)
    with pytest.raises(SemiHVError, match="nobody-knows-me.*max_cost_usd 3"):
        Budget(3).check(settings)
    with pytest.raises(SemiHVError, match="nobody-knows-me"):
        Budget(3).reserve(settings, question())
    Budget(3, {"*": {"input": 1, "output": 2}}).check(settings)


def test_an_own_table_goes_before_the_list_and_comes_from_a_mapping_or_a_file(tmp_path):
    settings = ServerSettings(OPENAI, "gpt-4o-2024-11-20")
    table = {"gpt-4o-2024-11-20": {"input": 100, "output": 0, "batch_factor": 0.25}}
    (tmp_path / "prices.json").write_text(json.dumps(table))
    (tmp_path / "prices.yaml").write_text("gpt-4o-2024-11-20: {input: 100, output: 0, batch_factor: 0.25}\n")
    for given in (table, tmp_path / "prices.json", str(tmp_path / "prices.yaml")):
        prices = Prices(given)
        assert prices.cost(settings, Usage(10_000)) == pytest.approx(1.0)
        assert prices.cost(settings, Usage(10_000), batch=True) == pytest.approx(0.25)
    assert Prices(tmp_path / "prices.yaml").source(settings) == "prices.yaml"
    assert Prices({"m": Price(1.0, 2.0)}).cost(LOCAL, Usage(0, 0, 1_000_000)) == 2.0


@pytest.mark.parametrize(
    "table",
    [{"m": 3}, {"m": {"input": 1}}, {"m": {"input": 1, "output": -1}}, {"m": {"input": 1, "output": True}},
     {"m": {"input": 1, "output": 2, "reply": 3}}, {"m": {"input": float("nan"), "output": 2}}, ["m"]],
)  # fmt: skip
def test_a_table_that_is_none_is_an_error_that_names_what_is_wrong(table):
    with pytest.raises(SemiHVError, match="price"):
        Prices(table)


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan"), "5", True])
def test_a_limit_that_makes_no_sense_is_refused(limit):
    with pytest.raises(SemiHVError, match="max_cost_usd"):
        Budget(limit)


@pytest.mark.parametrize(
    ("size", "detail", "tokens"),
    # The first three are the worked examples of OpenAI's guide; the others follow from its rule.
    [((1024, 1024), "high", 765), ((2048, 4096), "high", 1105), ((4096, 8192), "low", 85),
     ((512, 512), "high", 255), ((513, 512), "high", 425), ((1, 1), "high", 255), ((768, 2048), "auto", 1445)],
)  # fmt: skip
def test_image_tokens_follow_the_published_tile_rule(size, detail, tokens):
    assert TileRule()(*size, detail) == tokens


def test_an_image_counts_by_its_size_and_one_that_is_not_at_hand_as_a_large_one():
    rule = TokenRule()

    def tokens(part) -> int:
        message = {"role": "user", "content": [{"type": "text", "text": "y" * 40}, part]}
        return rule.estimate(LOCAL, ChatRequest("r", [message]))[0]

    assert tokens(image_part(png(512, 512))) == 4 + 10 + 255
    assert tokens(image_part(png(900, 900), detail="low")) == 4 + 10 + 85
    assert tokens({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}) == 4 + 10 + 765
    broken = "data:image/png;base64," + base64.b64encode(b"nothing").decode()
    assert tokens({"type": "image_url", "image_url": {"url": broken}}) == 4 + 10 + 765
    assert image_rule("gpt-4o-mini-2024-07-18")(512, 512, "high") == 2833 + 5667


def test_text_counts_four_characters_a_token_and_wide_scripts_one():
    rule = TokenRule()
    assert rule.estimate(LOCAL, question("abcd" * 25)) == (4 + 25, 100)
    assert rule.estimate(LOCAL, question("肺炎ですか")) == (4 + 5, 100)
    assert rule.estimate(LOCAL, question("é" * 8)) == (4 + 2, 100)
    assert TokenRule(output_tokens=7).estimate(ServerSettings(LOCAL.base_url, "m"), question("")) == (4, 7)


def test_an_estimate_counts_what_is_cached_asked_twice_and_withheld_apart(tmp_path):
    settings = ServerSettings("https://llm.example.org/v1", "m", max_tokens=100)
    rows = [question(f"{n}" * 400, f"row {n}") for n in range(4)] + [question("0" * 400, "again")]
    rows.append(question("z" * 400, "secret", sources=("mimic_cxr",)))
    with ResponseCache(tmp_path) as cache:
        cache.put(content_key(settings, rows[1]), {}, {"text": "known"})
        report = Budget(prices=TABLE).estimate(rows, settings, cache=cache).report()
    assert report["estimate"] is True
    assert (report["requests"], report["cached"], report["withheld"], report["calls"]) == (6, 2, 1, 3)
    assert (report["input_tokens"], report["output_tokens"]) == (3 * 104, 300)
    assert report["cost_usd"] == pytest.approx((312 * 1.0 + 300 * 10.0) / 1e6)
    half = Budget(prices=TABLE).estimate(rows[:1], settings, batch=True)
    assert half.cost_usd == pytest.approx((104 + 1000) / 2e6)


def test_what_is_reserved_counts_until_it_is_settled():
    budget = Budget(0.0025, TABLE)  # one call is estimated at 0.001104
    first, second = budget.reserve(LOCAL, question()), budget.reserve(LOCAL, question())
    assert first.cost_usd == second.cost_usd == pytest.approx(0.001104)
    assert budget.reserve(LOCAL, question()) is None and not budget.exhausted
    budget.settle(first, budget.price(LOCAL, Usage(104, 0, 10)))
    assert budget.reserve(LOCAL, question()) is not None
    budget.settle(second, None)
    assert budget.spent_usd == pytest.approx(0.000204)


def test_a_call_that_may_have_been_billed_counts_with_what_was_sent():
    budget = Budget(1.0, TABLE)
    budget.settle(budget.reserve(LOCAL, question()), None, maybe_billed=True)
    assert budget.summary()["maybe_billed_usd"] == budget.spent_usd == pytest.approx(0.000104)


@pytest.mark.parametrize("seed", range(5))
def test_concurrent_calls_never_pass_the_limit_by_more_than_they_cost_above_their_estimates(seed):
    rng = random.Random(seed)
    limit, width = 0.05, 16
    budget = Budget(limit, TABLE)
    over = []

    async def call(gate) -> bool:
        async with gate:
            reservation = budget.reserve(LOCAL, question())
            if reservation is None:
                return False
            await asyncio.sleep(rng.uniform(0, 0.001))
            usage = budget.price(LOCAL, Usage(int(104 * rng.uniform(0.5, 2.0)), 0, int(100 * rng.uniform(0, 1.5))))
            over.append(max(0.0, usage.cost_usd - reservation.cost_usd))
            budget.settle(reservation, usage)
            return True

    async def all_calls() -> list[bool]:
        gate = asyncio.Semaphore(width)
        return await asyncio.gather(*(call(gate) for _ in range(400)))

    made = asyncio.run(all_calls())
    assert any(made) and not all(made)
    assert budget.spent_usd <= limit + sum(sorted(over)[-width:])
    assert budget.spent_usd > 0.8 * limit
    assert budget.summary()["stopped_by_budget"] == made.count(False)


def test_with_true_estimates_the_limit_is_never_passed_at_all():
    budget = Budget(0.01, TABLE)
    made = 0
    while (reservation := budget.reserve(LOCAL, question())) is not None:
        budget.settle(reservation, budget.price(LOCAL, Usage(104, 0, 100)))
        made += 1
    assert made == 9 and budget.spent_usd <= 0.01


def test_the_summary_has_tokens_dollars_and_where_the_prices_come_from():
    budget = Budget(2.0, TABLE)
    budget.check(LOCAL)
    budget.charge(budget.price(LOCAL, Usage(1000, 400, 200, 50)))
    budget.charge(Usage(500, 0, 100, 0, 0.25), cached=True)
    summary = budget.summary()
    assert summary["cost_usd"] == pytest.approx((600 * 1.0 + 400 * 0.5 + 200 * 10) / 1e6)
    assert (summary["input_tokens"], summary["cached_tokens"]) == (1000, 400)
    assert (summary["output_tokens"], summary["reasoning_tokens"]) == (200, 50)
    assert (summary["calls"], summary["from_cache"], summary["saved_usd"]) == (1, 1, 0.25)
    assert summary["prices"] == {"m": "the price table"} and json.dumps(summary)
    budget.charge(Usage(7))
    summary = budget.summary()
    assert summary["cost_usd"] is None and summary["calls_without_price"] == 1 and summary["input_tokens"] == 1007
