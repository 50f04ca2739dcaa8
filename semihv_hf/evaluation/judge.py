"""The JAMA-style judge: six calls a case to a chat-completions server, and every failure kept as what it is."""

import asyncio
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.journal import Journal
from semihv_hf.files import canonical_json

logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
# A dated snapshot: an alias that moves would make two runs incomparable.
DEFAULT_MODEL = "gpt-4o-2024-11-20"
SKIPPED = (
    "No judge server was configured: neither the environment variable OPENAI_API_KEY nor a judge base URL was given. "
    "The explanations were therefore not judged; the option letters were scored by rule."
)


@dataclass(frozen=True)
class JudgeSettings:
    """Where and how to judge.

    Args:
        base_url (`str`): the server, up to and including `/v1`.
        model (`str`): the model to ask.
        max_concurrency (`int`, *optional*, defaults to 8): calls at the same time.
        max_retries (`int`, *optional*, defaults to 4): how often the client repeats a call after a rate limit, a
            server error or a lost connection.
        timeout (`float`, *optional*, defaults to 120): seconds for one call.
    """

    base_url: str
    model: str
    max_concurrency: int = 8
    max_retries: int = 4
    timeout: float = 120.0

    @property
    def shown_url(self) -> str:
        """The server without anything that could be a secret."""
        parts = urlsplit(self.base_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


class CallFailure(Exception):
    """A call that gave no verdict; the message is the reason that goes into the result."""


def judge_settings(judge: Mapping | None = None) -> JudgeSettings | None:
    """Finds the judge's server, before anything long or paid for begins.

    Args:
        judge (`Mapping`, *optional*): fields of [`JudgeSettings`]; what is missing or `None` comes from the
            environment (`OPENAI_BASE_URL`, and `OPENAI_API_KEY` as the sign that a server may be used).

    Returns:
        `JudgeSettings | None`: the settings, or `None` when no server is configured.

    Raises:
        SemiHVError: a setting is unknown, a server is given without a model, or the client is not installed.
    """
    given = {name: value for name, value in dict(judge or {}).items() if value is not None}
    known = {entry.name for entry in fields(JudgeSettings)}
    if unknown := sorted(set(given) - known):
        raise SemiHVError(f"Unknown judge setting {unknown[0]!r}.", f"Known are: {', '.join(sorted(known))}.")
    if "base_url" not in given and not os.environ.get("OPENAI_API_KEY"):
        return None
    from importlib.util import find_spec

    if find_spec("openai") is None:
        raise SemiHVError("The judge needs the package openai.", "Install it with `pip install 'semihv-hf[judge]'`.")
    given.setdefault("base_url", os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    if urlsplit(given["base_url"]).scheme not in ("http", "https"):
        raise SemiHVError(f"The judge's base URL {given['base_url']!r} is not an http address.", "Give it in full.")
    if "model" not in given:
        if given["base_url"] != OPENAI_URL:
            raise SemiHVError("A judge server was given without a model.", "Name one with --judge-model.")
        given["model"] = DEFAULT_MODEL
    return JudgeSettings(**given)


def judge_cases(
    rows: list[dict],
    data: str | Path,
    judge: Mapping | None,
    *,
    cache_path: str | Path,
    client: Any = None,
    progress: bool = True,
) -> dict:
    """Judges the explanations given for the cases.

    Args:
        rows (`list[dict]`): prediction rows on the cases.
        data (`str` or `Path`): the dataset folder; a case's licence decides whether its text may leave.
        judge (`Mapping`, *optional*): see [`judge_settings`].
        cache_path (`str` or `Path`): the log of verdicts; what stands there is not asked again.
        client (`openai.AsyncOpenAI`, *optional*): a client to use instead of one made from the settings.
        progress (`bool`, *optional*, defaults to `True`): show a progress bar.

    Returns:
        `dict`: `status` (`"scored"`, `"failed"` or `"skipped"`, the last two with a `reason`), and unless skipped
        `n_total`, `n_scored`, `n_failed`, the means over the scored cases, bounds for the mean over all of them, and
        one entry a case.
    """
    settings = judge_settings(judge)
    if settings is None:
        return {"status": "skipped", "reason": SKIPPED}
    withheld = _withheld(rows, data, settings)
    key = os.environ.get("OPENAI_API_KEY")
    client = client or _client(settings, key)
    caller = Caller(client, settings, Path(cache_path), secret=key)
    try:
        cases = _run(_judge_all(caller, rows, withheld, settings.max_concurrency, progress))
    finally:
        caller.journal.close()
    # Not part of the result: a resumed run must end with the numbers of an undisturbed one.
    logger.info("The judge made %d calls; %d replies came from %s.", caller.calls, caller.hits, cache_path)
    return _summary(cases, caller, settings)


def _client(settings: JudgeSettings, key: str | None):
    from openai import AsyncOpenAI

    # Servers on one's own machine want no key, but the client insists on one.
    return AsyncOpenAI(
        base_url=settings.base_url,
        api_key=key or "none",
        max_retries=settings.max_retries,
        timeout=settings.timeout,
    )


def _withheld(rows: list[dict], data: str | Path, settings: JudgeSettings) -> dict[str, str]:
    """Asks the licence gate about every case; returns the reason for each that must not leave the process."""
    from semihv_hf.data.licences import may_send
    from semihv_hf.evaluation.benchmarks import load_questions

    known = {question.id: question for question in load_questions(data, "jama_style", "test")}
    reasons = {}
    for row in rows:
        question = known.get(row["id"])
        if question is None:
            reasons[row["id"]] = "withheld: the case is not in the dataset, so its licence is unknown"
            continue
        try:
            decision = may_send(question.source, settings.base_url)
        except SemiHVError as error:  # a source that nobody registered has allowed nothing
            reasons[row["id"]] = f"withheld: {error.what}"
            continue
        if not decision.allowed:
            reasons[row["id"]] = f"withheld: {decision.reason}"
    return reasons


def _run(coroutine):
    """Runs a coroutine to its end, also where an event loop is already running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Caller:
    """One structured call after another, each answered from the log where it can be.

    Args:
        client (`openai.AsyncOpenAI`): the client; it repeats failed calls by itself.
        settings (`JudgeSettings`): where and what to ask.
        cache_path (`Path`): the log of verdicts. Failures never enter it.
        secret (`str`, *optional*): a text that must not appear in any reason.
    """

    def __init__(self, client: Any, settings: JudgeSettings, cache_path: Path, secret: str | None = None):
        self.client = client
        self.settings = settings
        self.secret = secret
        self.journal = Journal(cache_path, {"judge_cache": 1})
        rows, _ = self.journal.load()
        self.cache = {row["key"]: row for row in rows}
        self.gate = asyncio.Semaphore(settings.max_concurrency)
        self.plain_json = False
        self.calls = 0
        self.hits = 0
        self.models: Counter = Counter()

    async def ask(self, messages: list[dict], schema: type, check=None):
        """Asks once and validates the reply.

        Args:
            messages (`list[dict]`): chat messages.
            schema (`type`): the pydantic model of the reply.
            check (`Callable`, *optional*): raises `ValueError` if the reply does not fit the question.

        Returns:
            `pydantic.BaseModel`: the reply.

        Raises:
            CallFailure: there is no valid reply; says why.
        """
        from semihv_hf.evaluation.rubric import PROMPT_VERSION

        request = {
            "base_url": self.settings.shown_url,
            "model": self.settings.model,
            "messages": messages,
            "schema": schema.model_json_schema(),
            "temperature": 0,
            "prompt_version": PROMPT_VERSION,
        }
        key = hashlib.sha256(canonical_json(request).encode()).hexdigest()
        if key in self.cache:
            self.hits += 1
            self.models[self.cache[key]["model"]] += 1
            return schema.model_validate(self.cache[key]["reply"])
        async with self.gate:
            completion = await self._complete(messages, schema)
        reply = _validated(completion, schema, check)
        row = {"key": key, "model": completion.model, "reply": reply.model_dump()}
        self.journal.append([row])
        self.cache[key] = row
        self.models[completion.model] += 1
        return reply

    async def _complete(self, messages: list[dict], schema: type):
        import httpx
        import openai

        try:
            if not self.plain_json:
                try:
                    return await self._create(messages, _strict_format(schema))
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "response_format" not in str(error) and "json_schema" not in str(error):
                        raise
                    # This server knows no schemas; from here on it gets the schema in words.
                    self.plain_json = True
                    logger.warning("The judge's server refuses JSON schemas; asking for a plain JSON object instead.")
            return await self._create(_with_schema(messages, schema), {"type": "json_object"})
        except (openai.OpenAIError, httpx.HTTPError, ValueError) as error:
            raise CallFailure(self._without_secret(f"{type(error).__name__}: {error}")) from error

    async def _create(self, messages: list[dict], response_format: dict):
        self.calls += 1
        return await self.client.chat.completions.create(
            model=self.settings.model, messages=messages, response_format=response_format, temperature=0, seed=0
        )

    def _without_secret(self, text: str) -> str:
        if self.secret:
            text = text.replace(self.secret, "***")
        return re.sub(r"sk-[\w*-]+", "***", text).splitlines()[0][:300]


def _strict_format(schema: type) -> dict:
    return {
        "type": "json_schema",
        "json_schema": {"name": schema.__name__, "strict": True, "schema": schema.model_json_schema()},
    }


def _with_schema(messages: list[dict], schema: type) -> list[dict]:
    system, *rest = messages
    description = canonical_json(schema.model_json_schema())
    demand = f"\n\nReply with one JSON object of this schema and nothing else:\n{description}"
    return [{**system, "content": system["content"] + demand}, *rest]


def _validated(completion: Any, schema: type, check):
    """Reads a reply strictly: cut off, refused, empty or not of the schema means that there is no verdict."""
    choices = getattr(completion, "choices", None)
    if not choices:
        raise CallFailure("the reply holds no choice")
    choice = choices[0]
    if getattr(choice.message, "refusal", None):
        raise CallFailure("the judge refused")
    if choice.finish_reason != "stop":
        raise CallFailure(f"the reply was cut off (finish_reason {choice.finish_reason})")
    try:
        reply = schema.model_validate_json(choice.message.content or "")
        if check is not None:
            check(reply)
    except ValueError as error:
        raise CallFailure(f"the reply does not fit the schema ({str(error).splitlines()[0][:200]})") from error
    return reply


async def _judge_all(caller: Caller, rows: list[dict], withheld: dict, width: int, progress: bool) -> list[dict]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("judging the cases", total=len(rows))

        async def one(row: dict) -> dict:
            case = await _judge_case(caller, row, withheld.get(row["id"]))
            bar.advance(task)
            return case

        return list(await asyncio.gather(*(one(row) for row in rows)))


async def _judge_case(caller: Caller, row: dict, withheld: str | None) -> dict:
    """Judges one case in six calls; a failed call costs its part and the case's score, and nothing else."""
    from semihv_hf.evaluation.rubric import PARTS

    case = {"id": row["id"], "score": None, **dict.fromkeys(PARTS), "decided_by": None, "reason": None}
    if withheld is not None:
        return {**case, "reason": withheld}
    if row["prediction"] is None:
        return {**case, "reason": f"the model gave no answer ({row['error']})"}
    if not row["prediction"].strip():
        return {**case, "score": 0.0, **dict.fromkeys(PARTS, 0.0), "decided_by": "rule", "reason": "an empty answer"}
    results = await asyncio.gather(*(_judge_part(caller, part, row) for part in PARTS), return_exceptions=True)
    reasons = []
    for part, result in zip(PARTS, results, strict=True):
        if isinstance(result, CallFailure):
            reasons.append(f"{part}: {result}")
        elif isinstance(result, BaseException):
            raise result
        else:
            case[part] = result
    if reasons:
        return {**case, "reason": "; ".join(reasons)}
    return {**case, "score": sum(results) / len(results), "decided_by": "judge"}


async def _judge_part(caller: Caller, part: str, row: dict) -> float:
    from semihv_hf.evaluation.rubric import (
        MOST_ITEMS,
        Items,
        Verdicts,
        extraction_messages,
        marking_messages,
        part_score,
    )

    def has_items(reply: Items) -> None:
        if not 1 <= len(reply.items) <= MOST_ITEMS:
            raise ValueError(f"{len(reply.items)} items instead of 1 to {MOST_ITEMS}")

    extracted = await caller.ask(extraction_messages(part, row["question"], row["reference"]), Items, has_items)
    items = extracted.items
    marked = await caller.ask(
        marking_messages(part, items, row["prediction"]), Verdicts, lambda reply: part_score(items, reply)
    )
    return part_score(items, marked)


def _summary(cases: list[dict], caller: Caller, settings: JudgeSettings) -> dict:
    from semihv_hf.evaluation.rubric import PARTS, PROMPT_VERSION, TOP_SCORE

    scored = [case for case in cases if case["score"] is not None]
    n_failed = len(cases) - len(scored)
    total = sum(case["score"] for case in scored)
    result = {
        "status": "scored" if scored else "failed",
        "model_requested": settings.model,
        "models_returned": dict(sorted(caller.models.items())),
        "base_url": settings.shown_url,
        "prompt_version": PROMPT_VERSION,
        "n_total": len(cases),
        "n_scored": len(scored),
        "n_failed": n_failed,
        "scale": [0, TOP_SCORE],
        "mean": total / len(scored) if scored else None,
        "bounds": [total / len(cases), (total + TOP_SCORE * n_failed) / len(cases)] if cases else None,
        "means": {part: sum(case[part] for case in scored) / len(scored) if scored else None for part in PARTS},
        "cases": cases,
    }
    if not scored:
        reasons = Counter(case["reason"] for case in cases)
        result["reason"] = f"None of the {len(cases)} cases was judged; most often: {reasons.most_common(1)[0][0]}"
    return result
