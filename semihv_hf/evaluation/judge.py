"""The explanations given for the JAMA-style cases, judged by the metric `gpt4_judge`; failures stay what they are."""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_jsonl

if TYPE_CHECKING:
    from semihv_hf.llm.types import ServerSettings

logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
# A dated snapshot: an alias that moves would make two runs incomparable.
DEFAULT_MODEL = "gpt-4o-2024-11-20"
SKIPPED = (
    "No judge server was configured: neither the environment variable OPENAI_API_KEY nor a judge base URL was given. "
    "The explanations were therefore not judged; the option letters were scored by rule."
)
_SERVER = ("base_url", "model", "max_concurrency", "max_retries", "timeout", "api_key_env")
_SPENDING = ("max_cost_usd", "attestation")
# A name that the licence registry does not know, and for which it therefore allows nothing.
_UNKNOWN_SOURCE = "a case that is not in the dataset"
# Of each decision, what a reader of the scores needs; the case is named by its id instead of its row.
_LEFT_OUT = ("row", "model", "case_id", "hits", "length", "repeat_scores")


def judge_settings(judge: Mapping | None = None) -> "ServerSettings | None":
    """Finds the judge's server, before anything long or paid for begins.

    Args:
        judge (`Mapping`, *optional*): `base_url`, `model`, `max_concurrency`, `max_retries`, `timeout`, `api_key_env`,
            `max_cost_usd` and `attestation`; what is missing or `None` comes from the environment
            (`OPENAI_BASE_URL`, and `OPENAI_API_KEY` as the sign that a server may be used) or is left as it is.

    Returns:
        `ServerSettings | None`: the server, or `None` when none is configured.

    Raises:
        SemiHVError: a setting is unknown, a server is given without a model, or the client is not installed.
    """
    given = {name: value for name, value in dict(judge or {}).items() if value is not None}
    known = (*_SERVER, *_SPENDING)
    if unknown := sorted(set(given) - set(known)):
        raise SemiHVError(f"Unknown judge setting {unknown[0]!r}.", f"Known are: {', '.join(sorted(known))}.")
    if "base_url" not in given and not os.environ.get("OPENAI_API_KEY"):
        return None
    from importlib.util import find_spec

    if find_spec("openai") is None:
        raise SemiHVError("The judge needs the package openai.", "Install it with `pip install 'semihv-hf[judge]'`.")
    from semihv_hf.llm.types import ServerSettings

    given.setdefault("base_url", os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    if "model" not in given:
        if given["base_url"] != OPENAI_URL:
            raise SemiHVError("A judge server was given without a model.", "Name one with --judge-model.")
        given["model"] = DEFAULT_MODEL
    return ServerSettings(**{name: value for name, value in given.items() if name in _SERVER})


def judge_cases(
    rows: list[dict],
    data: str | Path,
    judge: Mapping | None,
    *,
    cache_dir: str | Path,
    verdicts: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict:
    """Judges the explanations given for the cases.

    Replies are kept in `cache_dir`, failures are not: run again, the judge is asked for exactly what is missing, and
    the result is that of an undisturbed run.

    Args:
        rows (`list[dict]`): prediction rows on the cases.
        data (`str` or `Path`): the dataset folder; a case's licence decides whether its text may leave.
        judge (`Mapping`, *optional*): see [`judge_settings`].
        cache_dir (`str` or `Path`): the folder of replies; what stands there is not asked again.
        verdicts (`str` or `Path`, *optional*): a JSONL file to write the judge's rows to, for `semihv judge-audit`.
        seed (`int`, *optional*, defaults to 0): the seed of the bootstrap.
        progress (`bool`, *optional*, defaults to `True`): show a progress bar.

    Returns:
        `dict`: `status` (`"scored"`, `"failed"` or `"skipped"`, the last two with a `reason`), and unless skipped
        what the metric `gpt4_judge` says (`n_total`, `n_scored`, `n_failed`, the means over the scored cases, bounds
        for the mean over all of them …) and as `cases` one entry a case.

    Raises:
        SemiHVError: a setting of the server is wrong, so that no case could be judged.
    """
    settings = judge_settings(judge)
    if settings is None:
        return {"status": "skipped", "reason": SKIPPED}
    if not rows:
        return {"status": "skipped", "reason": "There are no cases to judge."}
    from semihv_hf.evaluation.score import load_metric

    result = load_metric("gpt4_judge", "jama").compute(
        predictions=[row["prediction"] for row in rows],
        references=[row["reference"] for row in rows],
        questions=[row["question"] for row in rows],
        case_ids=[row["case_id"] for row in rows],
        ids=[row["id"] for row in rows],
        models=[row["model"] for row in rows],
        sources=_sources(rows, data),
        **{name: getattr(settings, name) for name in _SERVER},
        **{name: (judge or {}).get(name) for name in _SPENDING},
        cache_dir=str(cache_dir),
        # Failed cases are shown as such, between bounds; a report with few verdicts is better than none.
        max_failure_rate=1.0,
        seed=seed,
        progress=progress,
    )
    # Not part of the scores: a resumed run must end with the numbers of an undisturbed one.
    spent = result.pop("this_run")
    logger.info("The judge made %d new replies; %d came from %s.", spent["answered"], spent["cached"], cache_dir)
    if verdicts is not None:
        write_jsonl(verdicts, result["rows"])
    return _named(result, rows)


def _sources(rows: list[dict], data: str | Path) -> list[str]:
    """The licence registry's name of each case's source."""
    from semihv_hf.evaluation.benchmarks import load_questions

    known = {question.id: question.source for question in load_questions(data, "jama_style", "test")}
    return [known.get(row["id"], _UNKNOWN_SOURCE) for row in rows]


def _named(result: dict, rows: list[dict]) -> dict:
    """Puts the cases' ids and errors into the metric's result."""
    cases = []
    for row, decision in zip(rows, result.pop("rows"), strict=True):
        case = {name: value for name, value in decision.items() if name not in _LEFT_OUT}
        if row["prediction"] is None:
            case["reason"] = f"the model gave no answer ({row['error']})"
        cases.append(case)
    named = {"status": "scored" if result["n_scored"] else "failed", **result, "cases": cases}
    if not result["n_scored"]:
        reasons = Counter(case["reason"] for case in cases)
        named["reason"] = f"None of the {len(cases)} cases was judged; most often: {reasons.most_common(1)[0][0]}"
    return named
