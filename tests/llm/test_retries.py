"""Which calls are repeated and when, and what a message may show."""

import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semihv_hf.llm.redaction import redact
from semihv_hf.llm.retries import Backoff, retry_after_seconds
from semihv_hf.llm.types import ServerSettings, shown_url

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(NOW + 20, usegmt=True)}, 20.0),
        ({"retry-after": formatdate(NOW - 20, usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_milliseconds_or_a_date(headers, seconds):
    assert retry_after_seconds(headers, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_whatever_it_says_breaks_anything(value):
    seconds = retry_after_seconds({"retry-after": value, "retry-after-ms": value}, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


def test_backoff_is_full_jitter_under_a_doubling_bound_and_follows_its_seed():
    backoff = Backoff(base=0.5, cap=8.0)
    for repetition, bound in enumerate([0.5, 1, 2, 4, 8, 8, 8]):
        drawn = [backoff.seconds(repetition, random.Random(seed)) for seed in range(400)]
        assert 0 <= min(drawn) < 0.05 * bound and 0.95 * bound < max(drawn) <= bound
    assert backoff.seconds(3, random.Random(1)) == backoff.seconds(3, random.Random(1))
    assert backoff.seconds(10_000, random.Random(1)) <= 8.0


SECRET = "Zq8" + "x7Rt" * 6


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'Bearer {SECRET}', 'x': 1}}",
        f"Illegal header value b'Bearer {SECRET}'",
        f"Incorrect API key provided: {SECRET}.",
        f"api_key={SECRET}&x=1",
        f"https://name:{SECRET}@host/v1 refused",
        f"GET https://host/v1?key={SECRET}",
        f"the key sk-{SECRET} is wrong",
        f"the token hf_{SECRET} is wrong",
        f"password: {SECRET}",
    ],
)
def test_a_key_is_taken_out_even_if_it_is_not_known(text):
    assert SECRET not in redact(text)
    assert "***" in redact(text)


def test_a_known_key_is_taken_out_wherever_it_stands_and_the_rest_stays():
    assert redact(f"a {SECRET}-b\nc", [SECRET, None, ""]) == "a ***-b c"
    assert redact("the model gpt-4o-2024-11-20 does not exist") == "the model gpt-4o-2024-11-20 does not exist"
    assert len(redact("x" * 5000)) == 300


def test_an_address_is_shown_without_anything_that_could_be_a_secret():
    settings = ServerSettings(f"https://me:{SECRET}@[::1]:8443/v1/?key={SECRET}#{SECRET}", "m")
    assert settings.shown_url == "https://[::1]:8443/v1"
    assert SECRET not in shown_url(f"me:{SECRET}@host?x={SECRET}")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"base_url": "localhost:8000"}, "base URL"),
        ({"base_url": "ftp://host/v1"}, "base URL"),
        ({"base_url": None}, "base URL"),
        ({"base_url": "http://host:port/v1"}, "base URL"),
        ({"model": " "}, "without a model"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": True}, "max_concurrency"),
        ({"max_retries": -1}, "max_retries"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"extra": {"api_key": "x"}}, "api_key"),
    ],
)
def test_a_setting_without_sense_is_named(fields, named):
    from semihv_hf.errors import SemiHVError

    with pytest.raises(SemiHVError, match=named):
        ServerSettings(**{"base_url": "http://127.0.0.1/v1", "model": "m", **fields})
